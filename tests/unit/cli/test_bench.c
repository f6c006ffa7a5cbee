/* cli/bench_report.c and the arrivals of cli/bench_load.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/bench.h"

static void percentiles_are_by_nearest_rank(void **state)
{
    uint64_t values[100];
    struct rmk_bench_spread spread;

    (void)state;
    for (size_t i = 0; i < 100; i++) {
        values[i] = 100 - i; /* 100 … 1 */
    }
    spread = rmk_bench_spread(values, 100);
    assert_int_equal(spread.p50, 50);
    assert_int_equal(spread.p90, 90);
    assert_int_equal(spread.p99, 99);
    assert_int_equal(spread.most, 100);
    assert_true(spread.mean == 50.5);
    assert_int_equal(spread.count, 100);
}

static void few_values_have_percentiles_too(void **state)
{
    uint64_t two[] = {7, 3};
    uint64_t one[] = {5};
    struct rmk_bench_spread spread = rmk_bench_spread(two, 2);

    (void)state;
    assert_int_equal(spread.p50, 3);
    assert_int_equal(spread.p90, 7);
    assert_int_equal(spread.p99, 7);
    spread = rmk_bench_spread(one, 1);
    assert_int_equal(spread.p50, 5);
    assert_int_equal(spread.p99, 5);
    spread = rmk_bench_spread(NULL, 0);
    assert_int_equal(spread.most, 0);
    assert_int_equal(spread.count, 0);
}

/* Of 10,000 exponential gaps the mean is within 5 % (five standard errors), and 37 % exceed it. */
static void arrivals_are_a_poisson_process_of_the_rate(void **state)
{
    enum { COUNT = 10000 };
    const double rate = 20;
    uint64_t at_us = 0, longer = 0;

    (void)state;
    for (uint64_t i = 0; i < COUNT; i++) {
        const uint64_t next_us = rmk_bench_arrival_us(rate, 1, i, at_us);

        assert_true(next_us >= at_us);
        longer += next_us - at_us > 50000;
        at_us = next_us;
    }
    assert_in_range(at_us / COUNT, 47500, 52500);
    assert_in_range(longer, 3500, 3900);
}

static void arrivals_repeat_with_their_seed(void **state)
{
    (void)state;
    assert_int_equal(rmk_bench_arrival_us(3, 9, 5, 100), rmk_bench_arrival_us(3, 9, 5, 100));
    assert_int_not_equal(rmk_bench_arrival_us(3, 9, 5, 100), rmk_bench_arrival_us(3, 10, 5, 100));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_are_by_nearest_rank),
        cmocka_unit_test(few_values_have_percentiles_too),
        cmocka_unit_test(arrivals_are_a_poisson_process_of_the_rate),
        cmocka_unit_test(arrivals_repeat_with_their_seed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
