/* worker/text/sample.c: shards of a vocabulary put together. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "worker/text/sample.h"

/* The result of a shard with these clean logits, no noise. */
static struct rmk_head_result shard_of(const double *logits, int32_t count, int32_t first_id)
{
    struct rmk_head_result result = {.best = -INFINITY, .token = -1, .max = -INFINITY};

    for (int32_t i = 0; i < count; i++) {
        if (logits[i] > result.best) {
            result.best = logits[i];
            result.token = first_id + i;
            result.logit = logits[i];
        }
        result.max = fmax(result.max, logits[i]);
    }
    for (int32_t i = 0; i < count; i++) {
        result.sum += exp(logits[i] - result.max);
    }
    return result;
}

static const double logits[6] = {0.5, -1.0, 3.0, 2.5, 3.0, -700.0};

static double probability(double logit)
{
    double sum = 0;

    for (int i = 0; i < 6; i++) {
        sum += exp(logits[i]);
    }
    return exp(logit) / sum;
}

static void any_cut_gives_the_same_token_and_probability(void **state)
{
    struct rmk_read read;

    (void)state;
    for (int32_t cut = 0; cut <= 6; cut++) {
        struct rmk_head_result results[2] = {shard_of(logits, cut, 0),
                                             shard_of(logits + cut, 6 - cut, cut)};
        assert_true(rmk_sample_combine(results, 2, 1, &read));
        assert_int_equal(read.token, 2); /* 4 is as good, but higher */
        assert_true(fabs(read.confidence - probability(3.0)) < 1e-15);
    }
}

static void results_may_lie_a_stride_apart(void **state)
{
    struct rmk_head_result results[4] = {{0}};
    struct rmk_read read;

    (void)state;
    results[1] = shard_of(logits, 3, 0);
    results[3] = shard_of(logits + 3, 3, 3);
    assert_true(rmk_sample_combine(results + 1, 2, 2, &read));
    assert_int_equal(read.token, 2);
}

static void noise_picks_the_token_but_not_its_confidence(void **state)
{
    struct rmk_head_result results[2] = {shard_of(logits, 3, 0), shard_of(logits + 3, 3, 3)};
    struct rmk_read read;

    (void)state;
    results[1].best = 9.0; /* noise lifted id 3 */
    results[1].token = 3;
    results[1].logit = 2.5;
    assert_true(rmk_sample_combine(results, 2, 1, &read));
    assert_int_equal(read.token, 3);
    assert_true(fabs(read.confidence - probability(2.5)) < 1e-15);
}

static void large_logits_do_not_overflow(void **state)
{
    const double large[2] = {3e38, 3e38 - 1e30};
    struct rmk_head_result results[2] = {shard_of(large + 1, 1, 0), shard_of(large, 1, 1)};
    struct rmk_read read;

    (void)state;
    assert_true(rmk_sample_combine(results, 2, 1, &read));
    assert_int_equal(read.token, 1);
    assert_true(read.confidence == 1.0);
}

static void a_shard_with_nothing_left_is_passed_over(void **state)
{
    struct rmk_head_result results[2] = {
        {.best = -INFINITY, .token = -1, .max = -INFINITY, .sum = 0}, shard_of(logits, 6, 10)};
    struct rmk_read read;

    (void)state;
    assert_true(rmk_sample_combine(results, 2, 1, &read));
    assert_int_equal(read.token, 12);
    assert_true(fabs(read.confidence - probability(3.0)) < 1e-15);
}

static void poison_on_any_rank_poisons_the_position(void **state)
{
    struct rmk_head_result results[2] = {shard_of(logits, 3, 0), shard_of(logits + 3, 3, 3)};
    struct rmk_read read = {.token = 77};

    (void)state;
    results[1].nonfinite = true;
    assert_false(rmk_sample_combine(results, 2, 1, &read));
    results[1].nonfinite = false;
    results[0].nonfinite = true;
    assert_false(rmk_sample_combine(results, 2, 1, &read));
    results[0] = (struct rmk_head_result){.token = -1};
    results[1] = (struct rmk_head_result){.token = -1};
    assert_false(rmk_sample_combine(results, 2, 1, &read));
    assert_int_equal(read.token, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_cut_gives_the_same_token_and_probability),
        cmocka_unit_test(results_may_lie_a_stride_apart),
        cmocka_unit_test(noise_picks_the_token_but_not_its_confidence),
        cmocka_unit_test(large_logits_do_not_overflow),
        cmocka_unit_test(a_shard_with_nothing_left_is_passed_over),
        cmocka_unit_test(poison_on_any_rank_poisons_the_position),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
