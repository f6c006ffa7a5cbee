#include "coordinator/engine/leave.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    SLOTS = 3,
    ROWS = 100, /* of a full forward */
    WINDOW = 10,
};

#define MS 1000000u

static struct rmk_request requests[SLOTS];
static struct rmk_request *riders[SLOTS];
static struct rmk_group group;

static int begin(void **state)
{
    (void)state;
    memset(&group, 0, sizeof(group));
    memset(requests, 0, sizeof(requests));
    group.slot_count = SLOTS;
    group.ahead_max = RMK_AHEAD_MAX;
    group.cost_full_row_ns = MS / ROWS; /* 1 ms a forward */
    return 0;
}

static struct rmk_request *rider(enum rmk_cache cache)
{
    struct rmk_request *request = &requests[group.held];
    const struct rmk_submit submit = {
        .prompt_rows = ROWS - WINDOW,
        .mask_id = 99,
        .gen_length = WINDOW,
        .block_length = WINDOW,
        .steps = WINDOW,
        .cache.cache = cache,
    };

    rmk_request_init(request, &submit, 0);
    assert_true(rmk_canvas_next(&request->canvas));
    riders[group.held++] = request;
    return request;
}

static uint32_t leave(uint32_t most)
{
    return rmk_leave_forwards(&group, riders, group.held, most);
}

static void a_cheap_request_alone_has_leave(void **state)
{
    (void)state;
    (void)rider(RMK_CACHE_NONE);
    assert_int_equal(leave(8), 8);
    assert_int_equal(leave(1), 1);
    assert_int_equal(leave(0), 1);
    assert_int_equal(leave(100), RMK_AHEAD_MAX);
    group.ahead_max = 5;
    assert_int_equal(leave(8), 5);
    group.ahead_max = 0; /* a worker that does not know of it */
    assert_int_equal(leave(8), 1);
}

static void what_is_run_ahead_stays_short(void **state)
{
    (void)state;
    (void)rider(RMK_CACHE_NONE);
    group.cost_full_row_ns = 10 * MS / ROWS;
    assert_int_equal(leave(8), 6); /* 50 ms after the first */
    (void)rider(RMK_CACHE_NONE);
    assert_int_equal(leave(8), 3);
    requests[1].cfg_scale = 1.5f;
    assert_int_equal(leave(8), 2);
    group.cost_round_ns = 21 * MS;
    assert_int_equal(leave(8), 1);
    group.cost_round_ns = UINT64_MAX; /* a worker says what it likes */
    group.cost_full_row_ns = UINT64_MAX;
    assert_int_equal(leave(8), 1);
}

static void windows_after_a_full_forward_cost_what_windows_cost(void **state)
{
    (void)state;
    group.cost_full_row_ns = 100 * MS / ROWS;
    (void)rider(RMK_CACHE_PROMPT); /* its next forward is the base */
    assert_int_equal(leave(8), 6);
    group.cost_window_row_ns = MS / WINDOW;
    assert_int_equal(leave(8), 8);
}

static void nobody_has_leave_where_one_may_not(void **state)
{
    (void)state;
    (void)rider(RMK_CACHE_NONE);
    struct rmk_request *other = rider(RMK_CACHE_PROMPT);
    assert_int_equal(leave(8), 8);
    other->stepwise = true;
    assert_int_equal(leave(8), 1);
    other->stepwise = false;
    other->canvas.based = true; /* its base is to be run again here */
    other->canvas.forward = 3;
    assert_true(rmk_canvas_next(&other->canvas));
    assert_int_equal(leave(8), 1);
    other->primed = true;
    assert_int_equal(leave(8), 8);
    group.held++; /* somebody has a slot and waits */
    assert_int_equal(rmk_leave_forwards(&group, riders, 2, 8), 1);
}

static void later_forwards_may_read_all_that_is_open(void **state)
{
    (void)state;
    (void)rider(RMK_CACHE_NONE);
    group.reads_max = WINDOW;
    assert_int_equal(leave(8), 8);
    group.reads_max = WINDOW - 1;
    assert_int_equal(leave(8), 1);
    group.reads_max = 0;
    requests[0].reads_most = RMK_AHEAD_READS_MAX / 3;
    assert_int_equal(leave(8), 3);
}

static void a_group_that_was_too_slow_to_measure_runs_nothing_ahead(void **state)
{
    (void)state;
    group.cost_full_row_ns = 0;
    (void)rider(RMK_CACHE_NONE);
    assert_int_equal(leave(8), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_cheap_request_alone_has_leave, begin),
        cmocka_unit_test_setup(what_is_run_ahead_stays_short, begin),
        cmocka_unit_test_setup(windows_after_a_full_forward_cost_what_windows_cost, begin),
        cmocka_unit_test_setup(nobody_has_leave_where_one_may_not, begin),
        cmocka_unit_test_setup(later_forwards_may_read_all_that_is_open, begin),
        cmocka_unit_test_setup(a_group_that_was_too_slow_to_measure_runs_nothing_ahead, begin),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
