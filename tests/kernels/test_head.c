#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness.h"

/* Tokens are compared exactly, so the logits must be the same numbers on both sides: inputs are
 * small whole numbers, whose sums are exact in any order. Ties are then common, which is what the
 * lowest-id rule is for. */
static struct array whole_numbers(struct pair *pair, size_t count)
{
    float *values = calloc(count + 1, sizeof(*values));

    assert_non_null(values);
    for (size_t i = 0; i < count; i++) {
        values[i] = (float)(int)(random_bits(pair) % 5) - 2.0F;
    }
    struct array array = array_of(pair, pair->act, values, count);
    free(values);
    return array;
}

static struct layer whole_layer(struct pair *pair, uint32_t n, uint32_t k, bool bias)
{
    float *weight = calloc((size_t)n * k, sizeof(*weight));
    float *added = calloc(n, sizeof(*added));
    struct rmk_why why = {0};
    struct layer layer = {0};

    assert_non_null(weight);
    assert_non_null(added);
    for (size_t i = 0; i < (size_t)n * k; i++) {
        weight[i] = (float)(int)(random_bits(pair) % 7) - 3.0F;
    }
    for (size_t i = 0; i < n; i++) {
        added[i] = (float)(int)(random_bits(pair) % 3);
    }
    struct rmk_linear_source source = {.weight_host = weight,
                                       .dtype = RMK_F32,
                                       .ld = k,
                                       .n = n,
                                       .k = k,
                                       .bias_host = bias ? added : NULL};
    CHECK(pair->ref->ops->linear_create(pair->ref, &source, &layer.ref, &why));
    CHECK(pair->device->ops->linear_create(pair->device, &source, &layer.device, &why));
    free(weight);
    free(added);
    return layer;
}

enum {
    M_MAX = 70,
    VOCAB_MAX = 3000,
    K = 24,
};

static void reserve_head(struct pair *pair)
{
    reserve(pair,
            &(struct rmk_reserve){
                .rows_max = M_MAX, .inner_max = K, .head_rows_max = M_MAX, .vocab = VOCAB_MAX});
}

struct call {
    struct layer layer;
    struct array x;
    struct array un;
    bool guided;
    uint32_t m;
    uint32_t vocab_begin;
    uint32_t vocab_all;
    const int32_t *suppressed;
    uint32_t suppressed_count;
    struct rmk_head_row rows[M_MAX];
    struct rmk_head_result ref[M_MAX];
    struct rmk_head_result device[M_MAX];
};

static void run(struct pair *pair, struct call *call)
{
    CHECK(pair->ref->ops->head(pair->ref, call->layer.ref, call->x.ref,
                               call->guided ? call->un.ref : NULL, call->m, call->vocab_begin,
                               call->vocab_all, call->suppressed, call->suppressed_count,
                               call->rows, call->ref));
    CHECK(pair->device->ops->head(pair->device, call->layer.device, call->x.device,
                                  call->guided ? call->un.device : NULL, call->m, call->vocab_begin,
                                  call->vocab_all, call->suppressed, call->suppressed_count,
                                  call->rows, call->device));
}

/* Everything exact but the noise, which goes through log, and the sum, whose terms are fp32
 * exponentials. */
static void compare(const struct call *call)
{
    for (uint32_t i = 0; i < call->m; i++) {
        const struct rmk_head_result *ref = &call->ref[i];
        const struct rmk_head_result *device = &call->device[i];
        assert_int_equal(device->nonfinite, ref->nonfinite);
        if (device->token != ref->token) {
            fail_msg("row %u: token %d, ref has %d", i, device->token, ref->token);
        }
        if (ref->token < 0) {
            continue;
        }
        assert_true(fabs(device->best - ref->best) <= 1e-12 * (1.0 + fabs(ref->best)));
        assert_true(device->logit == ref->logit);
        assert_true(device->max == ref->max);
        if (!(fabs(device->sum - ref->sum) <= 1e-6 * ref->sum)) {
            fail_msg("row %u: sum %.17g, ref has %.17g", i, device->sum, ref->sum);
        }
    }
}

static void clean_body(struct pair *pair)
{
    static const uint32_t vocabs[] = {1, 30, 128, 129, 500, 2049, VOCAB_MAX};
    static const int32_t suppressed[] = {1030, 1000, 1129, 1001, 1128, 5, 999999, -3, 1127};
    static const uint32_t ms[] = {0, 1, 31, 32, 33, M_MAX};

    reserve_head(pair);
    for (size_t v = 0; v < sizeof(vocabs) / sizeof(vocabs[0]); v++) {
        struct call call = {.vocab_begin = 1000, .vocab_all = 9000, .suppressed = suppressed};
        call.layer = whole_layer(pair, vocabs[v], K, v % 2 == 0);
        call.x = whole_numbers(pair, (size_t)M_MAX * K);
        call.un = whole_numbers(pair, (size_t)M_MAX * K);
        for (size_t i = 0; i < M_MAX; i++) {
            call.rows[i].cfg_scale = (float)(i % 4) * 0.5F;
        }
        for (int with = 0; with < 4; with++) {
            call.m = ms[(v + (size_t)with) % 6];
            call.guided = (with & 1) != 0;
            call.suppressed_count = (with & 2) != 0 ? 9 : 0;
            run(pair, &call);
            compare(&call);
        }
        layer_destroy(pair, &call.layer);
    }
}

static void head_finds_maximum_lowest_id_and_sum_without_suppressed_ids(void **state)
{
    (void)state;
    for_each_act(clean_body);
}

static void all_suppressed_body(struct pair *pair)
{
    static const int32_t suppressed[] = {7, 5, 6};
    struct call call = {.m = 2,
                        .vocab_begin = 5,
                        .vocab_all = 100,
                        .suppressed = suppressed,
                        .suppressed_count = 3};

    reserve_head(pair);
    call.layer = whole_layer(pair, 3, K, false);
    call.x = whole_numbers(pair, 2 * K);
    run(pair, &call);
    assert_int_equal(call.device[0].token, -1);
    assert_true(call.device[1].sum == 0.0);
    assert_false(call.device[0].nonfinite);
    layer_destroy(pair, &call.layer);
}

static void a_rank_with_every_column_suppressed_has_no_token(void **state)
{
    (void)state;
    for_each_act(all_suppressed_body);
}

static void noise_body(struct pair *pair)
{
    static const int32_t suppressed[] = {1002, 2500};
    static const double temperatures[] = {0.0, 0.2, 1.0, 1.5, -0.5};

    reserve_head(pair);
    struct call call = {.m = 40,
                        .vocab_begin = 1000,
                        .vocab_all = 5000,
                        .suppressed = suppressed,
                        .suppressed_count = 2};
    call.layer = whole_layer(pair, 2000, K, false);
    call.x = whole_numbers(pair, (size_t)M_MAX * K);
    for (uint32_t i = 0; i < call.m; i++) {
        call.rows[i] = (struct rmk_head_row){
            .noise = (enum rmk_noise)(i % 3),
            .temperature = temperatures[i % 5],
            .seed = 4242 + i / 10,
            .forward = i % 2 == 0 ? i : ((uint64_t)i << 33) + 1,
            .position = 17 * i,
            .total_rows = 700,
        };
    }
    run(pair, &call);
    compare(&call);
    uint32_t changed = 0; /* noise that changed nothing would compare equal too */
    for (uint32_t i = 0; i < call.m; i++) {
        changed += call.device[i].best != call.device[i].logit;
    }
    assert_true(changed > 10);
    layer_destroy(pair, &call.layer);
}

static void noise_picks_the_same_token_as_ref_for_both_streams(void **state)
{
    (void)state;
    for_each_act(noise_body);
}

/* Two ranks' shards together know what one rank knows of the whole. */
static void shards_body(struct pair *pair)
{
    enum { N = 700, CUT = 333 };
    struct rmk_why why = {0};
    float weight[N * K];
    struct rmk_linear *linears[3];
    struct rmk_head_result results[3][4];
    struct rmk_head_row rows[4] = {{0}};

    reserve_head(pair);
    for (size_t i = 0; i < N * K; i++) {
        weight[i] = (float)(int)(random_bits(pair) % 7) - 3.0F;
    }
    const uint32_t begins[3] = {0, 0, CUT};
    const uint32_t counts[3] = {N, CUT, N - CUT};
    struct array x = whole_numbers(pair, 4 * K);
    for (uint32_t i = 0; i < 4; i++) {
        rows[i] = (struct rmk_head_row){.noise = RMK_NOISE_PHILOX,
                                        .temperature = i < 2 ? 0.9 : 0.0,
                                        .seed = 3,
                                        .position = i,
                                        .total_rows = 4};
    }
    for (size_t part = 0; part < 3; part++) {
        struct rmk_linear_source source = {.weight_host = weight + (size_t)begins[part] * K,
                                           .dtype = RMK_F32,
                                           .ld = K,
                                           .n = counts[part],
                                           .k = K};
        CHECK(pair->device->ops->linear_create(pair->device, &source, &linears[part], &why));
        CHECK(pair->device->ops->head(pair->device, linears[part], x.device, NULL, 4, begins[part],
                                      N, NULL, 0, rows, results[part]));
    }
    for (size_t i = 0; i < 4; i++) {
        const struct rmk_head_result *whole = &results[0][i];
        const struct rmk_head_result *first = &results[1][i];
        const struct rmk_head_result *second = &results[2][i];
        const struct rmk_head_result *won = second->best > first->best ? second : first;
        assert_int_equal(won->token, whole->token);
        assert_true(won->best == whole->best);
        assert_true(fmax(first->max, second->max) == whole->max);
        double sum =
            first->sum * exp(first->max - whole->max) + second->sum * exp(second->max - whole->max);
        assert_true(fabs(sum - whole->sum) <= 1e-6 * whole->sum);
    }
    for (size_t part = 0; part < 3; part++) {
        pair->device->ops->linear_destroy(pair->device, linears[part]);
    }
}

static void shards_of_the_vocabulary_agree_with_the_whole(void **state)
{
    (void)state;
    for_each_act(shards_body);
}

static void nonfinite_body(struct pair *pair)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    float x[4 * K];

    reserve_head(pair);
    for (size_t b = 0; b < 3; b++) {
        struct call call = {.m = 4, .vocab_all = 300};
        for (size_t i = 0; i < (size_t)4 * K; i++) {
            x[i] = random_float(pair, 1.0F);
        }
        x[2 * K + 5] = bad[b];
        call.layer = layer_random(pair, RMK_F32, 300, K, K, false);
        call.x = array_of(pair, pair->act, x, 4 * K);
        CHECK(pair->device->ops->head(pair->device, call.layer.device, call.x.device, NULL, 4, 0,
                                      300, NULL, 0, call.rows, call.device));
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(call.device[i].nonfinite, i == 2);
        }
        layer_destroy(pair, &call.layer);
    }
}

static void a_nan_or_an_infinity_poisons_its_own_row_only(void **state)
{
    (void)state;
    for_each_act(nonfinite_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(head_finds_maximum_lowest_id_and_sum_without_suppressed_ids),
        cmocka_unit_test(a_rank_with_every_column_suppressed_has_no_token),
        cmocka_unit_test(noise_picks_the_same_token_as_ref_for_both_streams),
        cmocka_unit_test(shards_of_the_vocabulary_agree_with_the_whole),
        cmocka_unit_test(a_nan_or_an_infinity_poisons_its_own_row_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
