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
    NOW_US = 1000000,
};

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
    request->forward_us = 1000;
    riders[group.held++] = request;
    return request;
}

static uint32_t leave(uint32_t most)
{
    return rmk_leave_forwards(&group, riders, group.held, 0, most, NOW_US);
}

static void a_quick_request_alone_has_leave(void **state)
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
    struct rmk_request *request = rider(RMK_CACHE_NONE);
    request->forward_us = 10000;
    assert_int_equal(leave(8), 5);             /* 40 ms after the first */
    rider(RMK_CACHE_NONE)->forward_us = 20000; /* another's measure of the same rounds */
    assert_int_equal(leave(8), 3);
    request->forward_us = 50000;
    assert_int_equal(leave(8), 1);
    request->forward_us = UINT64_MAX; /* a worker says what it likes */
    assert_int_equal(leave(8), 1);
}

static void who_has_had_no_forward_here_is_not_run_ahead(void **state)
{
    (void)state;
    (void)rider(RMK_CACHE_NONE);
    rider(RMK_CACHE_NONE)->forward_us = 0;
    assert_int_equal(leave(8), 1);
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
    assert_int_equal(rmk_leave_forwards(&group, riders, 2, 0, 8, NOW_US), 1);
}

static void who_waits_for_his_client_does_not_wait_for_the_group(void **state)
{
    (void)state;
    (void)rider(RMK_CACHE_NONE);
    group.held++;
    assert_int_equal(rmk_leave_forwards(&group, riders, 1, 1, 8, NOW_US), 8);
    group.held++; /* and another one waits for his features */
    assert_int_equal(rmk_leave_forwards(&group, riders, 1, 1, 8, NOW_US), 1);
}

static void nothing_is_run_past_a_deadline(void **state)
{
    (void)state;
    struct rmk_request *request = rider(RMK_CACHE_NONE);
    request->deadline_us = NOW_US + 3500; /* a forward takes 1000 */
    assert_int_equal(leave(8), 3);
    rider(RMK_CACHE_NONE)->deadline_us = NOW_US + 2000; /* the nearest of all riders' */
    assert_int_equal(leave(8), 2);
    request->deadline_us = NOW_US + 1;
    assert_int_equal(leave(8), 1);
    request->deadline_us = NOW_US; /* it ends with this very plan */
    assert_int_equal(leave(8), 2);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_quick_request_alone_has_leave, begin),
        cmocka_unit_test_setup(what_is_run_ahead_stays_short, begin),
        cmocka_unit_test_setup(who_has_had_no_forward_here_is_not_run_ahead, begin),
        cmocka_unit_test_setup(nobody_has_leave_where_one_may_not, begin),
        cmocka_unit_test_setup(who_waits_for_his_client_does_not_wait_for_the_group, begin),
        cmocka_unit_test_setup(nothing_is_run_past_a_deadline, begin),
        cmocka_unit_test_setup(later_forwards_may_read_all_that_is_open, begin),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
