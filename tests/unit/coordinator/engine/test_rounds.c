#include "coordinator/engine/engine.h"

#include "tests/unit/coordinator/engine/small_door.h"

/* ---- how long a plan may take ------------------------------------------------------------------
 */

/* A slow machine is no dead one: what the group has measured of itself counts. */
static void a_plan_that_has_to_take_long_is_given_long(void **state)
{
    const uint64_t expected_us = 5 * 4000000; /* rows of 4 s each */

    (void)state;
    door_step(&door, (struct rmk_event){.kind = RMK_EVENT_GROUP_UP,
                                        .group = {.epoch = 1,
                                                  .slot_count = 1,
                                                  .rows_max = 100,
                                                  .step_rows_max = 100,
                                                  .cost_full_row_ns = 4000000000,
                                                  .ahead_max = 1}});
    (void)submit(1);
    const struct rmk_action *timer = door_find(&door, RMK_ACTION_SET_TIMER);
    assert_int_equal(timer->timer_us, door.now_us + limits.plan_timeout_us + 4 * expected_us);
}

/* A worker says what it likes, and is waited for at most for four hours. */
static void a_plan_is_not_given_for_ever(void **state)
{
    const uint64_t hour_us = (uint64_t)3600 * 1000000;

    (void)state;
    door_step(&door, (struct rmk_event){.kind = RMK_EVENT_GROUP_UP,
                                        .group = {.epoch = 1,
                                                  .slot_count = 1,
                                                  .rows_max = 100,
                                                  .step_rows_max = 100,
                                                  .cost_full_row_ns = UINT64_MAX,
                                                  .cost_round_ns = UINT64_MAX}});
    (void)submit(1);
    const struct rmk_action *timer = door_find(&door, RMK_ACTION_SET_TIMER);
    assert_true(timer->timer_us <= door.now_us + limits.plan_timeout_us + 4 * hour_us);
}

/* Who is told must not have to look for what to do. */
static void giving_up_on_a_slow_group_names_the_flag(void **state)
{
    (void)state;
    door_group_up(&door, 0, 1, 1, 100);
    (void)submit(1);
    for (uint64_t epoch = 1; epoch <= limits.retries_max + 1; epoch++) {
        assert_null(door_find(&door, RMK_ACTION_FINISH));
        door.now_us += limits.plan_timeout_us;
        door_step(&door, (struct rmk_event){.kind = RMK_EVENT_TICK});
        assert_non_null(door_find(&door, RMK_ACTION_DISSOLVE));
        if (epoch <= limits.retries_max) {
            door_group_up(&door, 0, epoch + 1, 1, 100);
        }
    }
    const struct rmk_action *finish = door_find(&door, RMK_ACTION_FINISH);
    assert_non_null(finish);
    assert_string_equal(finish->finish.why,
                        "gave up after 2 losses of a worker; the last: the text group did not "
                        "answer a plan within 1000 ms; --plan-timeout-ms gives it more");
}

/* ---- answers that are none ---------------------------------------------------------------------
 */

static void fail_plan(uint64_t sequence, struct rmk_request_id culprit)
{
    door_step(&door, (struct rmk_event){.kind = RMK_EVENT_STEP_FAILED,
                                        .step = {.epoch = 1,
                                                 .sequence = sequence,
                                                 .err = RMK_EINTERNAL,
                                                 .culprit = culprit,
                                                 .why = "out of order"}});
}

/* A worker that blames somebody who did not ride has blamed nobody, and everybody is charged: or
 * else the plan would be asked for again and again. */
static void who_did_not_ride_is_not_to_blame(void **state)
{
    const struct rmk_request_id somebody = {.index = 3, .generation = 9};

    (void)state;
    door_group_up(&door, 0, 1, 1, 100);
    (void)submit(1);
    for (uint64_t loss = 1; loss <= limits.retries_max + 1; loss++) {
        assert_non_null(door_find(&door, RMK_ACTION_RUN_STEP));
        fail_plan(loss, somebody);
        if (loss <= limits.retries_max) {
            assert_null(door_find(&door, RMK_ACTION_RUN_STEP));
            door.now_us += 60000; /* its pause is over */
            door_step(&door, (struct rmk_event){.kind = RMK_EVENT_TICK});
        }
    }
    assert_non_null(strstr(door_find(&door, RMK_ACTION_FINISH)->finish.why, "out of order"));
}

/* The text in which the stop was found is no more. */
static void a_stop_in_the_text_of_before_a_restart_ends_nothing(void **state)
{
    struct rmk_submit asked = ask(1);

    (void)state;
    door_group_up(&door, 0, 1, 1, 100);
    asked.stepwise = true;
    door_submit(&door, &asked);
    struct rmk_request_id id = door_find(&door, RMK_ACTION_ACCEPTED)->request;
    answer(0, 1, 1, &door_find(&door, RMK_ACTION_RUN_STEP)->plan.rows[0]);
    door_step(&door, (struct rmk_event){.kind = RMK_EVENT_GROUP_DOWN, .group = {.epoch = 1}});
    door_step(&door, (struct rmk_event){.kind = RMK_EVENT_GROUP_UP,
                                        .group = {.group = 1,
                                                  .epoch = 2,
                                                  .slot_count = 1,
                                                  .rows_max = 100,
                                                  .step_rows_max = 100,
                                                  .numerics_class = 2}});
    struct rmk_plan_row row = door_find(&door, RMK_ACTION_RUN_STEP)->plan.rows[0];
    assert_int_equal(row.forward, 0); /* it has begun anew */
    door_step(&door, (struct rmk_event){.kind = RMK_EVENT_TEXT_STOP, .request = id});
    assert_null(door_find(&door, RMK_ACTION_FINISH));
    answer(1, 2, 1, &row);
    door_step(&door, (struct rmk_event){.kind = RMK_EVENT_TEXT_STOP, .request = id});
    const struct rmk_action *finish = door_find(&door, RMK_ACTION_FINISH);
    assert_int_equal(finish->finish.reason, RMK_FINISH_STOP);
    assert_int_equal(finish->finish.id_count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_plan_that_has_to_take_long_is_given_long, begin, end),
        cmocka_unit_test_setup_teardown(a_plan_is_not_given_for_ever, begin, end),
        cmocka_unit_test_setup_teardown(giving_up_on_a_slow_group_names_the_flag, begin, end),
        cmocka_unit_test_setup_teardown(who_did_not_ride_is_not_to_blame, begin, end),
        cmocka_unit_test_setup_teardown(a_stop_in_the_text_of_before_a_restart_ends_nothing, begin,
                                        end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
