/* A row's result is a function of that row: alone or among others, first or last, with one thread
 * or three, the same bits. Compared as bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness.h"
#include "kernels/convert.h"

static void expect_same(const float *all, const float *alone, size_t row, size_t width,
                        const char *what, uint32_t m)
{
    if (memcmp(all + row * width, alone, width * sizeof(float)) != 0) {
        fail_msg("%s: row %zu among %u others differs from the row alone", what, row, m - 1);
    }
}

static void linear_body(struct pair *pair)
{
    static const uint32_t shapes[][2] = {{64, 96}, {300, 588}, {2100, 130}, {96, 4304}, {17, 33}};
    static const uint32_t ms[] = {1, 2, 7, 16, 31, 32, 33, 64, 100};
    enum { M = 100 };

    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
        uint32_t n = shapes[s][0];
        uint32_t k = shapes[s][1];
        struct layer layer = layer_random(pair, RMK_BF16, n, k, k, true);
        struct array x = array_act(pair, (size_t)M * k, 1.0F);
        struct array y = array_zero(pair, RMK_F32, (size_t)M * n);
        size_t act_bytes = rmk_convert_bytes(pair->act);
        CHECK(
            pair->device->ops->linear(pair->device, layer.device, x.device, M, y.device, RMK_F32));
        float *all = array_download(pair, &y);
        for (size_t i = 0; i < sizeof(ms) / sizeof(ms[0]); i++) {
            size_t begin = M - ms[i]; /* the last rows: each at another place of its tile */
            CHECK(pair->device->ops->linear(pair->device, layer.device,
                                            (char *)x.device + begin * k * act_bytes, ms[i],
                                            y.device, RMK_F32));
            float *some = array_download(pair, &y);
            for (size_t row = 0; row < ms[i]; row++) {
                expect_same(all, some + row * n, begin + row, n, "linear", M);
            }
            free(some);
        }
        free(all);
        layer_destroy(pair, &layer);
    }
}

static void linear_gives_a_row_the_same_bits_in_any_batch_and_place(void **state)
{
    (void)state;
    for_each_act(linear_body);
}

static void attention_body(struct pair *pair)
{
    enum { HEADS = 4, KV_HEADS = 2, WIDTH = 24, SEGMENTS = 3, ROWS = 120 };
    static const uint32_t rows[SEGMENTS] = {1, 70, 49};
    static const uint32_t keys[SEGMENTS] = {300, 70, 131};
    size_t q_row = HEADS * WIDTH;
    size_t bytes = rmk_convert_bytes(pair->act);
    struct rmk_segment segments[SEGMENTS];
    uint32_t begin = 0;

    reserve(pair,
            &(struct rmk_reserve){
                .rows_max = ROWS, .kv_rows_max = 300, .heads_max = HEADS, .head_width_max = WIDTH});
    struct array q = array_act(pair, ROWS * q_row, 2.0F);
    struct array y = array_zero(pair, pair->act, ROWS * q_row);
    for (size_t s = 0; s < SEGMENTS; s++) {
        struct array k = array_act(pair, (size_t)keys[s] * KV_HEADS * WIDTH, 2.0F);
        struct array v = array_act(pair, (size_t)keys[s] * KV_HEADS * WIDTH, 2.0F);
        segments[s] = (struct rmk_segment){begin, rows[s], keys[s], k.device, v.device};
        begin += rows[s];
    }
    CHECK(pair->device->ops->attention(pair->device, q.device, segments, SEGMENTS, HEADS, KV_HEADS,
                                       WIDTH, 0.2F, y.device));
    float *all = array_download(pair, &y);
    for (size_t s = 0; s < SEGMENTS; s++) {
        for (uint32_t row = 0; row < rows[s]; row += 23) { /* a single query of the segment */
            struct rmk_segment one = segments[s];
            one.row_begin = 0;
            one.row_count = 1;
            size_t t = segments[s].row_begin + row;
            CHECK(pair->device->ops->attention(pair->device, (char *)q.device + t * q_row * bytes,
                                               &one, 1, HEADS, KV_HEADS, WIDTH, 0.2F, y.device));
            float *alone = array_download(pair, &y);
            expect_same(all, alone, t, q_row, "attention", ROWS);
            free(alone);
        }
    }
    free(all);
}

static void attention_gives_a_query_the_same_bits_alone_and_among_segments(void **state)
{
    (void)state;
    for_each_act(attention_body);
}

static void head_body(struct pair *pair)
{
    enum { M = 75, N = 700, K = 96 };
    struct layer layer = layer_random(pair, RMK_BF16, N, K, K, false);
    struct array x = array_act(pair, M * K, 1.0F);
    struct rmk_head_row rows[M] = {{0}};
    struct rmk_head_result all[M];

    reserve(pair,
            &(struct rmk_reserve){.rows_max = M, .inner_max = K, .head_rows_max = M, .vocab = N});
    for (uint32_t i = 0; i < M; i++) {
        rows[i] = (struct rmk_head_row){.noise = RMK_NOISE_PHILOX,
                                        .temperature = i % 2 == 0 ? 0.7 : 0.0,
                                        .seed = 9,
                                        .position = i};
    }
    CHECK(pair->device->ops->head(pair->device, layer.device, x.device, NULL, M, 0, N, NULL, 0,
                                  rows, all));
    for (uint32_t i = 0; i < M; i += 6) {
        struct rmk_head_result alone;
        const void *row = (char *)x.device + (size_t)i * K * rmk_convert_bytes(pair->act);
        CHECK(pair->device->ops->head(pair->device, layer.device, row, NULL, 1, 0, N, NULL, 0,
                                      &rows[i], &alone));
        assert_int_equal(alone.token, all[i].token);
        assert_true(alone.best == all[i].best);
        assert_true(alone.logit == all[i].logit);
        assert_true(alone.max == all[i].max);
        assert_true(alone.sum == all[i].sum);
    }
    layer_destroy(pair, &layer);
}

static void head_gives_a_row_the_same_result_alone_and_among_others(void **state)
{
    (void)state;
    for_each_act(head_body);
}

/* What a device of `threads` makes of fixed inputs, the head's sums last; to be freed. */
static float *forward(enum rmk_dtype act, uint32_t threads, size_t *out_count)
{
    enum { M = 90, N = 520, K = 128, WIDTH = 32, HEADS = 4 };
    struct pair pair;
    struct rmk_head_result results[M];
    struct rmk_head_row rows[M] = {{0}};

    pair_open(&pair, act, threads);
    reserve(&pair, &(struct rmk_reserve){.rows_max = M,
                                         .kv_rows_max = M,
                                         .heads_max = HEADS,
                                         .head_width_max = WIDTH,
                                         .inner_max = K,
                                         .outer_max = N,
                                         .head_rows_max = M,
                                         .vocab = N});
    struct layer first = layer_random(&pair, RMK_BF16, K, K, K, true);
    struct layer head = layer_random(&pair, RMK_BF16, N, K, K, false);
    struct array x = array_act(&pair, M * K, 1.0F);
    struct array k = array_act(&pair, M * K, 1.0F);
    struct array v = array_act(&pair, M * K, 1.0F);
    struct array q = array_zero(&pair, act, M * K);
    struct array y = array_zero(&pair, act, M * K);
    struct rmk_segment segment = {0, M, M, k.device, v.device};
    CHECK(pair.device->ops->linear(pair.device, first.device, x.device, M, q.device, act));
    CHECK(pair.device->ops->attention(pair.device, q.device, &segment, 1, HEADS, HEADS, WIDTH, 0.2F,
                                      y.device));
    CHECK(pair.device->ops->gelu(pair.device, y.device, M * K, RMK_GELU_ERF));
    CHECK(pair.device->ops->head(pair.device, head.device, y.device, NULL, M, 0, N, NULL, 0, rows,
                                 results));
    float *attended = array_download(&pair, &y);
    float *values = calloc(M * K + M, sizeof(*values));
    assert_non_null(values);
    memcpy(values, attended, M * K * sizeof(float));
    free(attended);
    for (size_t i = 0; i < M; i++) {
        values[M * K + i] = (float)results[i].sum;
    }
    *out_count = M * K + M;
    layer_destroy(&pair, &first);
    layer_destroy(&pair, &head);
    pair_close(&pair);
    return values;
}

static void one_thread_and_three_give_the_same_bits(void **state)
{
    static const enum rmk_dtype acts[] = {RMK_F32, RMK_BF16};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        size_t count;
        float *one = forward(acts[i], 1, &count);
        float *three = forward(acts[i], 3, &count);
        assert_memory_equal(one, three, count * sizeof(float));
        free(one);
        free(three);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_gives_a_row_the_same_bits_in_any_batch_and_place),
        cmocka_unit_test(attention_gives_a_query_the_same_bits_alone_and_among_segments),
        cmocka_unit_test(head_gives_a_row_the_same_result_alone_and_among_others),
        cmocka_unit_test(one_thread_and_three_give_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
