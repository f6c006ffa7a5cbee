#include "coordinator/engine/cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A request of 10 prompt rows, two blocks of 4, a suffix of 2; before its n-th forward of the
 * second block. */
static struct rmk_cache_place place(uint64_t forward, uint64_t base, bool block_starts)
{
    return (struct rmk_cache_place){
        .prompt_rows = 10,
        .total_rows = 20,
        .block_begin = 14,
        .block_end = 18,
        .block_starts = block_starts,
        .based = true,
        .base = base,
        .forward = forward,
    };
}

static struct rmk_cache_pass next(enum rmk_cache cache, uint32_t interval,
                                  struct rmk_cache_place where)
{
    const struct rmk_cache_options options = {.cache = cache, .refresh_interval = interval};

    return rmk_cache_next(&options, &where);
}

static void assert_window(struct rmk_cache_pass pass, uint32_t begin, uint32_t end)
{
    assert_int_equal(pass.kind, RMK_PLAN_WINDOW);
    assert_int_equal(pass.begin, begin);
    assert_int_equal(pass.end, end);
    assert_false(pass.base);
    assert_false(pass.keep);
}

static void assert_full(struct rmk_cache_pass pass, bool keep)
{
    assert_int_equal(pass.kind, RMK_PLAN_FULL);
    assert_int_equal(pass.begin, 0);
    assert_int_equal(pass.end, 20);
    assert_int_equal(pass.keep, keep);
    assert_int_equal(pass.base, keep);
}

static void without_a_cache_every_forward_computes_everything(void **state)
{
    (void)state;
    assert_full(next(RMK_CACHE_NONE, 0, place(5, 0, false)), false);
    assert_full(next(RMK_CACHE_NONE, 3, place(5, 0, true)), false);
}

static void each_window_is_what_its_policy_says(void **state)
{
    (void)state;
    assert_window(next(RMK_CACHE_PROMPT, 0, place(5, 0, false)), 10, 20);
    assert_window(next(RMK_CACHE_PREFIX, 0, place(5, 4, false)), 14, 20);
    assert_window(next(RMK_CACHE_DUAL, 0, place(5, 4, false)), 14, 18);
}

static void the_first_forward_fills_the_cache(void **state)
{
    (void)state;
    for (enum rmk_cache cache = RMK_CACHE_PROMPT; cache <= RMK_CACHE_DUAL; cache++) {
        struct rmk_cache_place where = place(0, 0, true);
        where.based = false;
        assert_full(next(cache, 0, where), true);
    }
}

static void blocks_begin_with_a_refresh_except_with_a_frozen_prompt(void **state)
{
    (void)state;
    assert_window(next(RMK_CACHE_PROMPT, 0, place(5, 0, true)), 10, 20);
    assert_full(next(RMK_CACHE_PREFIX, 0, place(5, 4, true)), true);
    assert_full(next(RMK_CACHE_DUAL, 0, place(5, 4, true)), true);
}

static void the_interval_counts_from_the_last_refresh(void **state)
{
    (void)state;
    assert_window(next(RMK_CACHE_PROMPT, 3, place(6, 4, false)), 10, 20);
    assert_full(next(RMK_CACHE_PROMPT, 3, place(7, 4, false)), true);
    assert_full(next(RMK_CACHE_DUAL, 1, place(5, 4, false)), true);
    assert_window(next(RMK_CACHE_DUAL, 0, place(5000, 4, false)), 14, 18);
}

/* Kp 4, Kg 2: forwards 0 to 4 of dLLM-Cache (its counter is ours plus one). */
static void the_feature_cache_counts_forwards_since_the_start(void **state)
{
    static const struct rmk_cache_options options = {
        .cache = RMK_CACHE_FEATURE, .prompt_interval = 4, .gen_interval = 2};
    static const bool prompt[] = {true, false, false, false, true};
    static const bool gen[] = {true, false, true, false, true};

    (void)state;
    for (uint64_t forward = 0; forward < 5; forward++) {
        struct rmk_cache_place where = place(forward, 0, forward == 3);
        struct rmk_cache_pass pass = rmk_cache_next(&options, &where);
        assert_int_equal(pass.kind, RMK_PLAN_FEATURE);
        assert_int_equal(pass.refresh_prompt, prompt[forward]);
        assert_int_equal(pass.refresh_gen, gen[forward]);
        assert_int_equal(pass.base, prompt[forward] && gen[forward]);
        assert_int_equal(pass.end, 20);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_cache_every_forward_computes_everything),
        cmocka_unit_test(each_window_is_what_its_policy_says),
        cmocka_unit_test(the_first_forward_fills_the_cache),
        cmocka_unit_test(blocks_begin_with_a_refresh_except_with_a_frozen_prompt),
        cmocka_unit_test(the_interval_counts_from_the_last_refresh),
        cmocka_unit_test(the_feature_cache_counts_forwards_since_the_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
