#include "coordinator/engine/batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/engine/policy.h"

enum {
    SLOTS = 6,
    ROWS = 100, /* of a full forward */
    WINDOW = 10,
};

#define MS 1000000u

static struct rmk_request requests[SLOTS];
static struct rmk_group group;
static struct rmk_request *riders[SLOTS];

static int begin(void **state)
{
    (void)state;
    memset(&group, 0, sizeof(group));
    memset(requests, 0, sizeof(requests));
    group.slot_count = SLOTS;
    group.step_rows_max = 10 * ROWS;
    group.cost_full_row_ns = MS; /* 100 ms, 10 ms */
    group.cost_window_row_ns = MS;
    return 0;
}

static struct rmk_request *resident(bool window)
{
    uint32_t slot = group.held++;
    struct rmk_request *request = &requests[slot];
    const struct rmk_submit submit = {
        .prompt_rows = ROWS - WINDOW,
        .mask_id = 99,
        .gen_length = WINDOW,
        .block_length = WINDOW,
        .steps = WINDOW,
        .cache.cache = window ? RMK_CACHE_PROMPT : RMK_CACHE_NONE,
    };

    rmk_request_init(request, &submit, 0);
    request->id = (struct rmk_request_id){slot, 1};
    request->stage = RMK_STAGE_READY;
    request->slot = slot;
    request->due_work = group.work;
    if (window) { /* after its first forward */
        request->primed = true;
        request->canvas.based = true;
        request->canvas.forward = 1;
    }
    assert_true(rmk_canvas_next(&request->canvas));
    group.slots[slot].holder = request->id;
    return request;
}

static uint32_t pick(void)
{
    uint32_t count = rmk_batch_pick(&group, requests, SLOTS, riders);

    group.sequence++;
    for (uint32_t i = 0; i < count; i++) {
        riders[i]->rode = group.sequence;
    }
    return count;
}

static bool rides(const struct rmk_request *request, uint32_t count)
{
    bool found = false;

    for (uint32_t i = 0; i < count; i++) {
        found |= riders[i] == request;
    }
    return found;
}

static void without_measured_costs_all_that_fits_rides(void **state)
{
    (void)state;
    group.cost_full_row_ns = 0;
    group.cost_window_row_ns = 0;
    group.step_rows_max = 2 * ROWS + WINDOW;
    for (uint32_t i = 0; i < 3; i++) {
        (void)resident(false);
    }
    struct rmk_request *window = resident(true);
    uint32_t count = pick();
    assert_int_equal(count, 3);
    assert_true(rides(window, count)); /* passes the third, which does not fit */
    count = pick();
    assert_ptr_equal(riders[0], &requests[2]); /* which leads now */
}

static void reads_have_a_budget_of_their_own(void **state)
{
    (void)state;
    group.reads_max = 2 * WINDOW + 1;
    for (uint32_t i = 0; i < 3; i++) {
        (void)resident(true);
    }
    assert_int_equal(pick(), 2);
}

static void full_forwards_do_not_make_each_others_rounds_long(void **state)
{
    (void)state;
    group.cost_full_row_ns = 10 * MS; /* a second */
    group.cost_window_row_ns = 10 * MS;
    for (uint32_t i = 0; i < 2; i++) {
        (void)resident(false);
    }
    struct rmk_request *window = resident(true);
    uint32_t count = pick();
    assert_int_equal(count, 2);
    assert_true(rides(&requests[0], count));
    assert_true(rides(window, count));
}

static void short_full_forwards_share_a_round(void **state)
{
    (void)state;
    group.cost_full_row_ns = MS / 10; /* 10 ms */
    for (uint32_t i = 0; i < SLOTS; i++) {
        (void)resident(false);
    }
    assert_int_equal(pick(), SLOTS);
}

/* Three windows of 100 ms and a full forward of a second: in a long time, each of the four gets a
 * fourth. */
static void every_resident_gets_its_share_of_the_work(void **state)
{
    uint64_t spent[SLOTS] = {0};

    (void)state;
    group.cost_full_row_ns = 10 * MS;
    group.cost_window_row_ns = 10 * MS;
    (void)resident(false);
    for (uint32_t i = 0; i < 3; i++) {
        (void)resident(true);
    }
    for (int round = 0; round < 1000; round++) {
        uint32_t count = pick();
        for (uint32_t i = 0; i < count; i++) {
            spent[riders[i]->slot] += riders[i]->slot == 0 ? 10 : 1;
        }
    }
    uint64_t all = spent[0] + spent[1] + spent[2] + spent[3];
    for (uint32_t i = 0; i < 4; i++) {
        assert_in_range(spent[i] * 100 / all, 20, 32);
    }
}

/* Short requests come and go for ever; the long one still rides. */
static void newcomers_do_not_starve_whoever_waits(void **state)
{
    uint32_t rode = 0;

    (void)state;
    group.cost_full_row_ns = 100 * MS;
    struct rmk_request *full = resident(false);
    struct rmk_request *window = resident(true);
    for (int round = 0; round < 2000; round++) {
        uint32_t count = pick();
        rode += rides(full, count);
        window->due_work = group.work; /* a new one in the same slot */
    }
    assert_in_range(rode, 1, 1000);
}

static void the_batch_lane_gets_an_eighth(void **state)
{
    uint32_t rode[2] = {0};

    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        (void)resident(false);
    }
    requests[1].lane = RMK_LANE_BATCH;
    group.step_rows_max = ROWS; /* one at a time */
    for (int round = 0; round < 900; round++) {
        (void)pick();
        rode[riders[0]->slot]++;
    }
    assert_in_range(rode[1], 50, 130);
}

static void among_equals_the_earlier_deadline_rides_first(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        (void)resident(false);
    }
    requests[1].deadline_us = 2000;
    requests[2].deadline_us = 1000;
    group.step_rows_max = ROWS;
    (void)pick();
    assert_ptr_equal(riders[0], &requests[2]);
}

static void absurd_costs_stay_in_range(void **state)
{
    (void)state;
    group.cost_full_row_ns = UINT64_MAX;
    group.cost_window_row_ns = UINT64_MAX;
    group.cost_round_ns = UINT64_MAX;
    for (uint32_t i = 0; i < SLOTS; i++) {
        (void)resident(i % 2 == 0);
    }
    for (int round = 0; round < 100; round++) {
        uint64_t work = group.work;
        assert_true(pick() > 0);
        assert_true(group.work > work);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(without_measured_costs_all_that_fits_rides, begin),
        cmocka_unit_test_setup(reads_have_a_budget_of_their_own, begin),
        cmocka_unit_test_setup(full_forwards_do_not_make_each_others_rounds_long, begin),
        cmocka_unit_test_setup(short_full_forwards_share_a_round, begin),
        cmocka_unit_test_setup(every_resident_gets_its_share_of_the_work, begin),
        cmocka_unit_test_setup(newcomers_do_not_starve_whoever_waits, begin),
        cmocka_unit_test_setup(the_batch_lane_gets_an_eighth, begin),
        cmocka_unit_test_setup(among_equals_the_earlier_deadline_rides_first, begin),
        cmocka_unit_test_setup(absurd_costs_stay_in_range, begin),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
