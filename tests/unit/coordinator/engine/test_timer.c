#include "coordinator/engine/timer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum {
    IDS = 40,
};

static uint64_t due[IDS];
static uint32_t heap[IDS];
static uint32_t place[IDS];
static struct rmk_timers timers = {.due = due, .heap = heap, .place = place};

static int begin(void **state)
{
    (void)state;
    rmk_timer_init(&timers, IDS);
    return 0;
}

static void nothing_set_is_never_due(void **state)
{
    uint32_t id = 7;

    (void)state;
    assert_true(rmk_timer_first(&timers, &id) == RMK_TIMER_NEVER);
}

static void earliest_comes_first_and_lower_id_among_equals(void **state)
{
    uint32_t id = 0;

    (void)state;
    rmk_timer_set(&timers, 5, 300);
    rmk_timer_set(&timers, 9, 100);
    rmk_timer_set(&timers, 3, 100);
    assert_int_equal(rmk_timer_first(&timers, &id), 100);
    assert_int_equal(id, 3);
    rmk_timer_set(&timers, 3, 400);
    assert_int_equal(rmk_timer_first(&timers, &id), 100);
    assert_int_equal(id, 9);
    rmk_timer_set(&timers, 9, RMK_TIMER_NEVER);
    assert_int_equal(rmk_timer_first(&timers, &id), 300);
    assert_int_equal(id, 5);
}

static void any_sequence_of_settings_keeps_the_order(void **state)
{
    uint64_t random = 11;

    (void)state;
    for (int round = 0; round < 5000; round++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint32_t id = (uint32_t)(random >> 33) % IDS;
        uint64_t time = (random >> 20) % 4 == 0 ? RMK_TIMER_NEVER : (random >> 40) % 50;
        rmk_timer_set(&timers, id, time);
        rmk_timer_check(&timers);
        uint64_t earliest = RMK_TIMER_NEVER;
        for (uint32_t i = 0; i < IDS; i++) {
            earliest = due[i] < earliest ? due[i] : earliest;
        }
        assert_true(rmk_timer_first(&timers, &id) == earliest);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(nothing_set_is_never_due, begin),
        cmocka_unit_test_setup(earliest_comes_first_and_lower_id_among_equals, begin),
        cmocka_unit_test_setup(any_sequence_of_settings_keeps_the_order, begin),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
