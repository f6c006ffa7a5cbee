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
    NOW_US = 1000,
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

static struct rmk_request *resident_of(uint32_t tenant, bool window)
{
    uint32_t slot = group.held++;
    struct rmk_share *share = &group.shares[tenant];
    struct rmk_request *request = &requests[slot];
    const struct rmk_submit submit = {
        .prompt_rows = ROWS - WINDOW,
        .mask_id = 99,
        .gen_length = WINDOW,
        .block_length = WINDOW,
        .steps = WINDOW,
        .cache.cache = window ? RMK_CACHE_PROMPT : RMK_CACHE_NONE,
        .tenant = tenant,
    };

    rmk_request_init(request, &submit, 0);
    request->id = (struct rmk_request_id){slot, 1};
    request->stage = RMK_STAGE_READY;
    request->slot = slot;
    request->due_work = share->work;
    group.share_count += share->held++ == 0;
    if (window) { /* after its first forward */
        request->primed = true;
        request->canvas.based = true;
        request->canvas.forward = 1;
    }
    assert_true(rmk_canvas_next(&request->canvas));
    group.slots[slot].holder = request->id;
    return request;
}

static struct rmk_request *resident(bool window)
{
    return resident_of(0, window);
}

static uint32_t pick(void)
{
    uint32_t count = rmk_batch_pick(&group, requests, SLOTS, NOW_US, riders);

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
        window->due_work = group.shares[0].work; /* a new one in the same slot */
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

/* ---- tenants -----------------------------------------------------------------------------------
 */

static void a_tenant_gets_no_more_for_having_more_residents(void **state)
{
    uint32_t rode[2] = {0};

    (void)state;
    for (uint32_t i = 0; i < SLOTS; i++) {
        (void)resident_of(i == 0 ? 1 : 2, false);
    }
    group.step_rows_max = ROWS; /* one at a time */
    for (int round = 0; round < 1000; round++) {
        (void)pick();
        rode[riders[0]->tenant - 1]++;
    }
    assert_in_range(rode[0], 498, 502);
}

static void nor_for_sending_new_ones_all_the_time(void **state)
{
    uint32_t rode[2] = {0};

    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        (void)resident_of(i == 0 ? 1 : 2, false);
    }
    group.step_rows_max = ROWS;
    for (int round = 0; round < 1000; round++) {
        (void)pick();
        rode[riders[0]->tenant - 1]++;
        requests[1].due_work = 0;
        requests[2].due_work = 0;
    }
    assert_in_range(rode[0], 498, 502);
}

static void shares_are_of_work_and_not_of_rides(void **state)
{
    uint64_t spent[2] = {0};

    (void)state;
    (void)resident_of(1, false);
    for (uint32_t i = 0; i < 3; i++) {
        (void)resident_of(2, true);
    }
    group.step_rows_max = ROWS;
    for (int round = 0; round < 2000; round++) {
        uint32_t count = pick();
        for (uint32_t i = 0; i < count; i++) {
            spent[riders[i]->tenant - 1] += riders[i]->tenant == 1 ? ROWS : WINDOW;
        }
    }
    assert_in_range(spent[0] * 100 / (spent[0] + spent[1]), 48, 52);
}

/* Many windows are dear: they do not ride along for ever while somebody else's forward waits. */
static void nobody_rides_along_far_ahead_of_one_who_waits(void **state)
{
    uint64_t spent[2] = {0};

    (void)state;
    group.cost_window_row_ns = 10 * MS; /* as much as a full forward, together with nine others */
    (void)resident_of(1, false);
    (void)resident_of(1, false);
    for (uint32_t i = 0; i < 4; i++) {
        (void)resident_of(2, true);
    }
    for (int round = 0; round < 1000; round++) {
        uint32_t count = pick();
        for (uint32_t i = 0; i < count; i++) {
            spent[riders[i]->tenant - 1] += ROWS; /* a window costs as much here */
        }
    }
    assert_in_range(spent[0] * 100 / (spent[0] + spent[1]), 48, 52);
}

/* Alone it had all; when the other comes, it has lost nothing by that, and the other gained
 * nothing by staying away. */
static void what_nobody_else_wanted_is_forgiven_and_absence_saves_nothing(void **state)
{
    uint32_t rode[2] = {0};

    (void)state;
    group.cost_full_row_ns = MS / 4;
    (void)resident_of(1, false);
    (void)resident_of(1, false);
    group.step_rows_max = ROWS;
    for (int round = 0; round < 500; round++) {
        (void)pick();
    }
    (void)resident_of(2, false);
    for (int round = 0; round < 100; round++) {
        (void)pick();
        rode[riders[0]->tenant - 1]++;
    }
    assert_in_range(rode[0], 48, 52);
    requests[2].slow = true;
    group.step_rows_max = 2 * ROWS; /* both of tenant 1 ride each round, nobody is left out */
    for (int round = 0; round < 500; round++) {
        assert_int_equal(pick(), 2);
    }
    requests[2].slow = false;
    group.step_rows_max = ROWS;
    rode[0] = 0;
    for (int round = 0; round < 100; round++) {
        (void)pick();
        rode[0] += riders[0]->tenant == 1;
    }
    assert_in_range(rode[0], 48, 52);
}

static void a_tenant_with_batch_requests_only_gets_an_eighth(void **state)
{
    uint32_t rode[2] = {0};

    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        (void)resident_of(i == 0 ? 1 : 2, false);
    }
    for (uint32_t i = 1; i < 4; i++) {
        requests[i].lane = RMK_LANE_BATCH;
    }
    group.shares[2].held_batch = 3;
    group.step_rows_max = ROWS;
    for (int round = 0; round < 900; round++) {
        (void)pick();
        rode[riders[0]->tenant - 1]++;
    }
    assert_in_range(rode[1], 98, 102);
}

/* ---- run ahead ---------------------------------------------------------------------------------
 */

enum { CONTENDED = 60 };

/* Two tenants, cheap rows and dear ones, both lanes; all of them ride `plans` plans. Then a third
 * tenant comes, and one row at a time has room: who rides, in order. */
static void contend_after(uint32_t plans, uint32_t out_slots[CONTENDED])
{
    (void)begin(NULL);
    group.cost_full_row_ns = MS / 4;
    group.cost_window_row_ns = MS / 8;
    (void)resident_of(1, true);
    (void)resident_of(1, false);
    resident_of(1, true)->lane = RMK_LANE_BATCH;
    group.shares[1].held_batch = 1;
    (void)resident_of(2, false);
    for (uint32_t i = 0; i < plans; i++) {
        assert_int_equal(pick(), 4);
    }
    (void)resident_of(3, false);
    for (uint32_t i = 0; i < CONTENDED; i++) {
        assert_int_equal(rmk_batch_pick(&group, requests, 1, NOW_US, riders), 1);
        group.sequence++;
        riders[0]->rode = group.sequence;
        out_slots[i] = riders[0]->slot;
    }
}

/* So a plan that the group goes on with by itself, which is picked once, costs nobody else his
 * share, and those who rode it nothing among themselves. */
static void plans_that_everybody_rides_leave_all_as_one_such_plan_does(void **state)
{
    uint32_t once[CONTENDED];
    uint32_t often[CONTENDED];
    uint32_t rode[4] = {0};

    (void)state;
    contend_after(1, once);
    contend_after(8, often);
    assert_memory_equal(once, often, sizeof(once));
    for (uint32_t i = 0; i < CONTENDED; i++) {
        rode[requests[once[i]].tenant] += once[i] == 0 || once[i] == 2 ? WINDOW : 2 * ROWS;
    }
    assert_in_range(rode[2], rode[3] - 2 * ROWS, rode[3] + 2 * ROWS);
}

/* ---- deadlines ---------------------------------------------------------------------------------
 */

/* Rides out of 1000 of slot 0, which has half of its text after five forwards of 100 ms each. */
static uint32_t rides_with_deadline(uint64_t left_us, uint32_t tenants)
{
    uint32_t rode = 0;

    (void)begin(NULL);
    for (uint32_t i = 0; i < 4; i++) {
        (void)resident_of(i * tenants / 4, false);
    }
    requests[0].usage.committed = WINDOW / 2;
    requests[0].canvas.forward = WINDOW / 2;
    requests[0].deadline_us = left_us == 0 ? 0 : NOW_US + left_us;
    group.step_rows_max = ROWS;
    for (int round = 0; round < 1000; round++) {
        (void)pick();
        rode += riders[0]->slot == 0;
    }
    return rode;
}

/* Ten masks at the pace of one a forward: a second alone, four at a share of a fourth. */
static void a_request_that_would_be_late_at_its_share_gets_two(void **state)
{
    (void)state;
    assert_in_range(rides_with_deadline(0, 1), 248, 252);
    assert_in_range(rides_with_deadline(4100000, 1), 248, 252); /* in time anyway */
    assert_in_range(rides_with_deadline(3900000, 1), 395, 405); /* two shares of five */
    assert_in_range(rides_with_deadline(1000000, 1), 395, 405);
    assert_in_range(rides_with_deadline(900000, 1), 248, 252); /* late in any case */
}

static void and_takes_them_from_its_own_tenant(void **state)
{
    (void)state;
    assert_in_range(rides_with_deadline(0, 2), 248, 252);
    assert_in_range(rides_with_deadline(3900000, 2), 330, 336); /* two of three of a half */
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
        uint64_t work = group.shares[0].work;
        assert_true(pick() > 0);
        assert_true(group.shares[0].work > work);
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
        cmocka_unit_test_setup(a_tenant_gets_no_more_for_having_more_residents, begin),
        cmocka_unit_test_setup(nor_for_sending_new_ones_all_the_time, begin),
        cmocka_unit_test_setup(shares_are_of_work_and_not_of_rides, begin),
        cmocka_unit_test_setup(nobody_rides_along_far_ahead_of_one_who_waits, begin),
        cmocka_unit_test_setup(what_nobody_else_wanted_is_forgiven_and_absence_saves_nothing,
                               begin),
        cmocka_unit_test_setup(a_tenant_with_batch_requests_only_gets_an_eighth, begin),
        cmocka_unit_test(plans_that_everybody_rides_leave_all_as_one_such_plan_does),
        cmocka_unit_test(a_request_that_would_be_late_at_its_share_gets_two),
        cmocka_unit_test(and_takes_them_from_its_own_tenant),
        cmocka_unit_test_setup(absurd_costs_stay_in_range, begin),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
