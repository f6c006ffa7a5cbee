#include "coordinator/engine/engine.h"

#include <stdio.h>

#include "tests/unit/coordinator/engine/small_door.h"

static void a_request_runs_to_its_end(void **state)
{
    struct rmk_engine_counts counts;

    (void)state;
    door_group_up(&door, 0, 1, 1, 100);
    struct rmk_request_id id = submit(7);
    for (uint64_t round = 1; round <= 2; round++) {
        const struct rmk_action *run = door_find(&door, RMK_ACTION_RUN_STEP);
        assert_non_null(run);
        assert_int_equal(run->plan.sequence, round);
        assert_int_equal(run->plan.rows[0].open, round == 1);
        assert_int_equal(run->plan.rows[0].update_count, round - 1);
        door.now_us += 100;
        answer(0, 1, round, &run->plan.rows[0]);
    }
    const struct rmk_action *finish = door_find(&door, RMK_ACTION_FINISH);
    assert_non_null(finish);
    assert_int_equal(finish->tag, 7);
    assert_int_equal(finish->request.index, id.index);
    assert_int_equal(finish->finish.reason, RMK_FINISH_LENGTH);
    assert_int_equal(finish->finish.id_count, 2);
    assert_int_equal(finish->finish.ids[1], 5);
    assert_int_equal(finish->finish.usage.forwards, 2);
    assert_int_equal(finish->finish.usage.committed, 2);
    assert_int_equal(finish->finish.usage.compute_us, 20);
    assert_int_equal(finish->finish.usage.first_commit_us, 100);
    assert_int_equal(finish->finish.usage.total_us, 200);
    const struct rmk_action *release = door_find(&door, RMK_ACTION_RELEASE);
    assert_non_null(release);
    assert_true(release > finish);
    rmk_engine_count(door.engine, &counts);
    assert_int_equal(counts.open, 0);
    assert_int_equal(counts.rounds, 2);
    assert_int_equal(counts.commits, 2);
    assert_int_equal(counts.finished[RMK_FINISH_LENGTH], 1);
}

static void a_wrong_request_is_an_answer(void **state)
{
    struct rmk_submit asked = ask(9);

    (void)state;
    asked.block_length = 3;
    door_submit(&door, &asked);
    const struct rmk_action *finish = door_find(&door, RMK_ACTION_FINISH);
    assert_non_null(finish);
    assert_int_equal(finish->tag, 9);
    assert_int_equal(finish->finish.reason, RMK_FINISH_REFUSED);
    assert_int_equal(finish->finish.err, RMK_EINVAL);
    assert_non_null(strstr(finish->finish.why, "block_length"));
    assert_int_equal(finish->finish.retry_after_us, 0);
    assert_null(door_find(&door, RMK_ACTION_ACCEPTED));
}

static void a_full_queue_refuses_with_a_hint(void **state)
{
    struct rmk_submit asked = ask(3);

    (void)state;
    (void)submit(1);
    (void)submit(2);
    door_submit(&door, &asked);
    const struct rmk_action *finish = door_find(&door, RMK_ACTION_FINISH);
    assert_non_null(finish);
    assert_int_equal(finish->finish.err, RMK_ELIMIT);
    assert_true(finish->finish.retry_after_us > 0);
}

/* A tenant that floods the queue leaves room for the others; where nobody has a name, nobody does.
 */
static void no_tenant_has_the_whole_queue(void **state)
{
    static const struct rmk_engine_limits sixteen = {
        .requests_max = 32,
        .queued_max = 16,
        .groups_max = 1,
        .visions_max = 1,
        .rows_per_plan_max = 1,
        .plan_timeout_us = 1000000,
        .encode_timeout_us = 1000000,
    };
    struct door wide = {0};
    uint32_t accepted[3] = {0};

    (void)state;
    for (uint32_t named = 0; named < 2; named++) {
        door_open(&wide, &sixteen);
        for (uint64_t tag = 0; tag < 60; tag++) {
            struct rmk_submit asked = ask(tag);
            asked.tenant = named == 0 ? 0 : tag < 30 ? 1 : 2;
            door_submit(&wide, &asked);
            const struct rmk_action *finish = door_find(&wide, RMK_ACTION_FINISH);
            accepted[named == 0 ? 0 : asked.tenant] += finish == NULL;
            assert_true(finish == NULL || finish->finish.retry_after_us > 0);
        }
        door_close(&wide);
    }
    assert_int_equal(accepted[0], 16);
    assert_int_equal(accepted[1], 14);
    assert_int_equal(accepted[2], 2);
}

static void what_no_group_can_hold_is_refused_or_fails_when_that_is_known(void **state)
{
    struct rmk_submit asked = ask(1);

    (void)state;
    asked.prompt_rows = 200;
    door_submit(&door, &asked);
    assert_non_null(door_find(&door, RMK_ACTION_ACCEPTED));
    door_group_up(&door, 0, 1, 1, 100);
    const struct rmk_action *finish = door_find(&door, RMK_ACTION_FINISH);
    assert_non_null(finish);
    assert_int_equal(finish->finish.reason, RMK_FINISH_FAILED);
    assert_non_null(strstr(finish->finish.why, "202 rows"));
    door_submit(&door, &asked);
    finish = door_find(&door, RMK_ACTION_FINISH);
    assert_non_null(finish);
    assert_int_equal(finish->finish.reason, RMK_FINISH_REFUSED);
    assert_non_null(strstr(finish->finish.why, "largest group takes 100"));
}

static void a_cache_that_no_group_has_room_for_is_refused_or_fails(void **state)
{
    struct rmk_submit asked = ask(1);

    (void)state;
    asked.cache.cache = RMK_CACHE_DUAL;
    door_submit(&door, &asked);
    assert_non_null(door_find(&door, RMK_ACTION_ACCEPTED));
    door_group_up(&door, 0, 1, 1, 100);
    const struct rmk_action *finish = door_find(&door, RMK_ACTION_FINISH);
    assert_non_null(finish);
    assert_int_equal(finish->finish.reason, RMK_FINISH_FAILED);
    assert_string_equal(finish->finish.why,
                        "the request's cache needs 5 key/value rows; the largest group has 0");
    door_submit(&door, &asked);
    finish = door_find(&door, RMK_ACTION_FINISH);
    assert_non_null(finish);
    assert_int_equal(finish->finish.reason, RMK_FINISH_REFUSED);
}

/* Usage of a request with a frozen prompt that loses its group in the second of two forwards. */
static void a_lost_cache_is_rebuilt_by_a_row_without_reads(void **state)
{
    struct rmk_submit asked = ask(1);
    struct rmk_event up = {
        .kind = RMK_EVENT_GROUP_UP,
        .group = {.epoch = 1,
                  .slot_count = 1,
                  .rows_max = 100,
                  .step_rows_max = 100,
                  .numerics_class = 1,
                  .kv_rows_max = 5},
    };

    (void)state;
    asked.cache.cache = RMK_CACHE_PROMPT;
    door_step(&door, up);
    door_submit(&door, &asked);
    const struct rmk_action *run = door_find(&door, RMK_ACTION_RUN_STEP);
    assert_non_null(run);
    assert_int_equal(run->plan.rows[0].kind, RMK_PLAN_FULL);
    assert_true(run->plan.rows[0].keep);
    assert_true(run->plan.rows[0].kv);
    answer(0, 1, 1, &run->plan.rows[0]);
    run = door_find(&door, RMK_ACTION_RUN_STEP);
    assert_non_null(run);
    assert_int_equal(run->plan.rows[0].kind, RMK_PLAN_WINDOW);
    assert_int_equal(run->plan.rows[0].window_begin, 3);
    assert_int_equal(run->plan.rows[0].window_end, 5);
    assert_false(run->plan.rows[0].kv);
    up.group.epoch = 2;
    door_step(&door, up);
    run = door_find(&door, RMK_ACTION_RUN_STEP);
    assert_non_null(run);
    assert_int_equal(run->plan.rows[0].kind, RMK_PLAN_FULL);
    assert_true(run->plan.rows[0].keep);
    assert_true(run->plan.rows[0].kv);
    assert_int_equal(run->plan.rows[0].forward, 0);
    assert_int_equal(run->plan.rows[0].read_count, 0);
    assert_int_equal(run->plan.rows[0].update_count, 0);
    answer(0, 2, 1, &run->plan.rows[0]);
    assert_null(door_find(&door, RMK_ACTION_EMIT));
    run = door_find(&door, RMK_ACTION_RUN_STEP);
    assert_non_null(run);
    assert_int_equal(run->plan.rows[0].kind, RMK_PLAN_WINDOW);
    assert_int_equal(run->plan.rows[0].update_count, 1);
    answer(0, 2, 2, &run->plan.rows[0]);
    const struct rmk_action *finish = door_find(&door, RMK_ACTION_FINISH);
    assert_non_null(finish);
    assert_int_equal(finish->finish.usage.forwards, 2);
    assert_int_equal(finish->finish.usage.refreshes, 1);
    assert_int_equal(finish->finish.usage.replays, 1);
    assert_int_equal(finish->finish.usage.recoveries, 1);
}

static void the_best_at_the_deadline_is_what_is_decided_and_the_suffix(void **state)
{
    static const int32_t suffix[] = {8};
    struct rmk_submit asked = ask(1);

    (void)state;
    asked.deadline_us = door.now_us + 500;
    asked.best_at_deadline = true;
    asked.suffix = suffix;
    asked.suffix_count = 1;
    door_group_up(&door, 0, 1, 1, 100);
    door_submit(&door, &asked);
    answer(0, 1, 1, &door_find(&door, RMK_ACTION_RUN_STEP)->plan.rows[0]);
    door.now_us += 500;
    door_step(&door, (struct rmk_event){.kind = RMK_EVENT_TICK});
    const struct rmk_action *finish = door_find(&door, RMK_ACTION_FINISH);
    assert_non_null(finish);
    assert_int_equal(finish->finish.reason, RMK_FINISH_DEADLINE);
    assert_int_equal(finish->finish.err, RMK_OK);
    assert_int_equal(finish->finish.id_count, 2);
    assert_int_equal(finish->finish.ids[0], 5);
    assert_int_equal(finish->finish.ids[1], 8);
}

static void a_late_answer_finds_nobody_at_home(void **state)
{
    (void)state;
    door_group_up(&door, 0, 1, 1, 100);
    struct rmk_request_id id = submit(1);
    struct rmk_plan_row row = door_find(&door, RMK_ACTION_RUN_STEP)->plan.rows[0];
    uint32_t reads[2] = {row.reads[0], row.reads[1]};
    row.reads = reads;
    answer(0, 2, 1, &row); /* another epoch */
    assert_null(door_find(&door, RMK_ACTION_EMIT));
    answer(0, 1, 2, &row); /* another plan */
    assert_null(door_find(&door, RMK_ACTION_EMIT));
    answer(1, 1, 1, &row); /* a group that is not up */
    assert_null(door_find(&door, RMK_ACTION_EMIT));
    door_step(&door, (struct rmk_event){.kind = RMK_EVENT_CANCEL, .request = id});
    assert_int_equal(door_find(&door, RMK_ACTION_FINISH)->finish.reason, RMK_FINISH_CANCELLED);
    answer(0, 1, 1, &row); /* its request has ended */
    assert_null(door_find(&door, RMK_ACTION_EMIT));
    struct rmk_request_id next = submit(2);
    assert_int_equal(next.index, id.index);
    assert_int_not_equal(next.generation, id.generation);
    answer(0, 1, 1, &row); /* the same answer once more, while another request has the place */
    assert_null(door_find(&door, RMK_ACTION_EMIT));
    door_step(&door, (struct rmk_event){.kind = RMK_EVENT_CANCEL, .request = id});
    assert_null(door_find(&door, RMK_ACTION_FINISH));
}

static void a_poisoned_row_fails_its_request_only(void **state)
{
    (void)state;
    door_group_up(&door, 0, 1, 2, 100);
    (void)submit(1);
    const struct rmk_action *run = door_find(&door, RMK_ACTION_RUN_STEP);
    struct rmk_row_result result = {.request = run->plan.rows[0].request, .poisoned = true};
    (void)submit(2);
    door_step(&door,
              (struct rmk_event){
                  .kind = RMK_EVENT_STEP_DONE,
                  .step = {.group = 0, .epoch = 1, .sequence = 1, .rows = &result, .row_count = 1},
              });
    const struct rmk_action *finish = door_find(&door, RMK_ACTION_FINISH);
    assert_non_null(finish);
    assert_int_equal(finish->tag, 1);
    assert_int_equal(finish->finish.err, RMK_EINTERNAL);
    assert_non_null(door_find(&door, RMK_ACTION_RUN_STEP)); /* the other one goes on */
}

/* retries_max is 1: the second loss that it took part in is one too many. */
static void a_request_gives_up_after_too_many_losses_of_its_own(void **state)
{
    (void)state;
    (void)submit(1);
    for (uint64_t epoch = 1; epoch <= 2; epoch++) {
        door_group_up(&door, 0, epoch, 1, 100);
        assert_non_null(door_find(&door, RMK_ACTION_RUN_STEP));
        door_step(&door, (struct rmk_event){
                             .kind = RMK_EVENT_GROUP_DOWN,
                             .group = {.group = 0, .epoch = epoch},
                         });
    }
    const struct rmk_action *finish = door_find(&door, RMK_ACTION_FINISH);
    assert_non_null(finish);
    assert_int_equal(finish->finish.err, RMK_EUNAVAILABLE);
    assert_non_null(strstr(finish->finish.why, "gave up after 2 losses"));
}

/* retries_max is 1, and two pictures were being encoded: still one loss. */
static void a_lost_worker_is_one_loss_however_many_pictures_it_had(void **state)
{
    struct rmk_item items[2] = {{.key = {1}, .rows = 1}, {.key = {2}, .rows = 1}};
    struct rmk_submit asked = ask(1);
    uint32_t encodes = 0;

    (void)state;
    asked.items = items;
    asked.item_count = 2;
    struct rmk_event up = {
        .kind = RMK_EVENT_VISION_UP,
        .vision = {.vision = 0, .epoch = 1, .parallel_max = 2},
    };
    door_step(&door, up);
    door_submit(&door, &asked);
    door_step(&door, (struct rmk_event){.kind = RMK_EVENT_VISION_DOWN,
                                        .vision = {.vision = 0, .epoch = 1}});
    assert_null(door_find(&door, RMK_ACTION_FINISH));
    up.vision.epoch = 2;
    door_step(&door, up);
    for (uint32_t i = 0; i < door.actions.count; i++) {
        encodes += door.actions.items[i].kind == RMK_ACTION_ENCODE;
    }
    assert_int_equal(encodes, 2);
}

static uint32_t count_actions(enum rmk_action_kind kind)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < door.actions.count; i++) {
        count += door.actions.items[i].kind == kind;
    }
    return count;
}

/* Whatever the error is called: the picture was encoded, so it is good. It is encoded again, and
 * the request goes on. */
static void a_pull_that_fails_is_never_the_pictures_fault(void **state)
{
    static const enum rmk_err errs[] = {RMK_ECORRUPT, RMK_ELIMIT, RMK_EINVAL, RMK_EUNAVAILABLE};
    struct rmk_item item = {.key = {1}, .rows = 1};
    struct rmk_submit asked = ask(1);

    (void)state;
    asked.items = &item;
    asked.item_count = 1;
    for (unsigned i = 0; i < sizeof(errs) / sizeof(errs[0]); i++) {
        door_close(&door);
        door_open(&door, &limits);
        door_step(&door, (struct rmk_event){.kind = RMK_EVENT_VISION_UP,
                                            .vision = {.epoch = 1, .parallel_max = 1}});
        door_group_up(&door, 0, 1, 1, 100);
        door_submit(&door, &asked);
        const struct rmk_request_id id = door_find(&door, RMK_ACTION_ENCODE)->request;
        door_step(&door, (struct rmk_event){.kind = RMK_EVENT_FEATURES_READY,
                                            .features = {.request = id, .vision_epoch = 1}});
        assert_int_equal(count_actions(RMK_ACTION_PREFETCH), 1);
        door_step(&door,
                  (struct rmk_event){
                      .kind = RMK_EVENT_FEATURES_FAILED,
                      .features = {.request = id, .epoch = 1, .err = errs[i], .why = "checksum"}});
        assert_null(door_find(&door, RMK_ACTION_FINISH));
        door.now_us = door_find(&door, RMK_ACTION_SET_TIMER)->timer_us;
        door_step(&door, (struct rmk_event){.kind = RMK_EVENT_TICK});
        assert_int_equal(count_actions(RMK_ACTION_ENCODE), 1);
    }
}

/* Two who do not read hold what a third needs: both give up their slots, in one step. */
static void a_request_may_take_the_place_of_several_that_do_not_read(void **state)
{
    struct rmk_submit small = ask(1);
    struct rmk_submit large = ask(3);
    struct rmk_event up = {.kind = RMK_EVENT_GROUP_UP,
                           .group = {.epoch = 1,
                                     .slot_count = 4,
                                     .rows_max = 100,
                                     .step_rows_max = 100,
                                     .numerics_class = 1,
                                     .kv_rows_max = 12}};

    (void)state;
    door_step(&door, up);
    small.cache.cache = RMK_CACHE_PROMPT;
    for (small.tag = 1; small.tag <= 2; small.tag++) {
        door_submit(&door, &small);
        const struct rmk_request_id id = door_find(&door, RMK_ACTION_ACCEPTED)->request;
        const struct rmk_action *run = door_find(&door, RMK_ACTION_RUN_STEP);
        assert_non_null(run);
        const struct rmk_plan_row row = run->plan.rows[0];
        const uint64_t sequence = run->plan.sequence;
        door_step(&door, (struct rmk_event){.kind = RMK_EVENT_CLIENT_SLOW, .request = id});
        answer(0, 1, sequence, &row);
        assert_null(door_find(&door, RMK_ACTION_RUN_STEP));
    }
    large.cache.cache = RMK_CACHE_PROMPT;
    large.gen_length = 8;
    large.steps = 8;
    door_submit(&door, &large);
    const struct rmk_action *run = door_find(&door, RMK_ACTION_RUN_STEP);
    assert_non_null(run);
    assert_int_equal(run->plan.row_count, 1);
    assert_int_equal(run->plan.close_count, 2);
}

static void waiting_without_a_group_never_fails_by_itself(void **state)
{
    (void)state;
    (void)submit(1);
    for (int i = 0; i < 100; i++) {
        door.now_us += 1000000000;
        door_step(&door, (struct rmk_event){.kind = RMK_EVENT_TICK});
        assert_int_equal(door.actions.count, 0);
    }
    door_group_up(&door, 0, 1, 1, 100);
    assert_non_null(door_find(&door, RMK_ACTION_RUN_STEP));
}

static void an_unanswered_plan_dissolves_the_group_at_its_deadline(void **state)
{
    (void)state;
    door_group_up(&door, 0, 1, 1, 100);
    (void)submit(1);
    const struct rmk_action *timer = door_find(&door, RMK_ACTION_SET_TIMER);
    assert_non_null(timer);
    assert_int_equal(timer->timer_us, door.now_us + limits.plan_timeout_us);
    door.now_us = timer->timer_us - 1;
    door_step(&door, (struct rmk_event){.kind = RMK_EVENT_TICK});
    assert_null(door_find(&door, RMK_ACTION_DISSOLVE));
    door.now_us++;
    door_step(&door, (struct rmk_event){.kind = RMK_EVENT_TICK});
    const struct rmk_action *dissolve = door_find(&door, RMK_ACTION_DISSOLVE);
    assert_non_null(dissolve);
    assert_int_equal(dissolve->place.epoch, 1);
    door_group_up(&door, 0, 1, 1, 100); /* that epoch is over */
    assert_null(door_find(&door, RMK_ACTION_RUN_STEP));
    door_group_up(&door, 0, 2, 1, 100);
    assert_non_null(door_find(&door, RMK_ACTION_RUN_STEP));
}

static void an_answer_that_has_arrived_beats_its_own_timeout(void **state)
{
    (void)state;
    door_group_up(&door, 0, 1, 1, 100);
    (void)submit(1);
    struct rmk_plan_row row = door_find(&door, RMK_ACTION_RUN_STEP)->plan.rows[0];
    door.now_us += 2 * limits.plan_timeout_us;
    answer(0, 1, 1, &row);
    assert_null(door_find(&door, RMK_ACTION_DISSOLVE));
    assert_non_null(door_find(&door, RMK_ACTION_EMIT));
}

static void a_clock_that_steps_back_moves_no_deadline(void **state)
{
    struct rmk_submit asked = ask(1);

    (void)state;
    asked.deadline_us = door.now_us + 500;
    door_submit(&door, &asked);
    door.now_us -= 900;
    door_step(&door, (struct rmk_event){.kind = RMK_EVENT_TICK});
    assert_null(door_find(&door, RMK_ACTION_FINISH));
    door.now_us += 1400;
    door_step(&door, (struct rmk_event){.kind = RMK_EVENT_TICK});
    assert_int_equal(door_find(&door, RMK_ACTION_FINISH)->finish.reason, RMK_FINISH_DEADLINE);
}

static void trace_line(void *context, const char *line)
{
    (void)snprintf(context, 256, "%s", line);
}

static void every_decision_writes_one_line(void **state)
{
    char last[256] = "";

    (void)state;
    rmk_engine_trace(door.engine, trace_line, last);
    (void)submit(4);
    assert_string_equal(last,
                        "t=1000 accept req=0.1 tag=4 lane=online tenant=0 rows=5 items=0 gen=2");
    rmk_engine_trace(door.engine, NULL, NULL);
    (void)submit(5);
    assert_non_null(strstr(last, "tag=4"));
}

/* Memory is what a coordinator with the largest limits sets aside; a page is only used once a
 * request needs it. */
static void the_largest_limits_fit_into_the_memory_of_a_small_machine(void **state)
{
    static const struct rmk_engine_limits largest = {
        .requests_max = RMK_REQUESTS_MAX,
        .queued_max = RMK_REQUESTS_MAX,
        .groups_max = RMK_GROUPS_MAX,
        .visions_max = RMK_VISION_MAX,
        .rows_per_plan_max = RMK_GROUP_SLOTS_MAX,
        .retries_max = RMK_RETRIES_MAX,
        .plan_timeout_us = 1,
        .encode_timeout_us = 1,
    };

    (void)state;
    assert_true(rmk_engine_bytes(&largest) < (size_t)256 << 20);
}

/* Many requests end in one step: every one of them is told. */
static void a_step_has_room_for_all_that_one_event_can_cause(void **state)
{
    static const struct rmk_engine_limits many = {
        .requests_max = 600,
        .queued_max = 600,
        .groups_max = 1,
        .visions_max = 1,
        .rows_per_plan_max = 1,
        .plan_timeout_us = 1000000,
        .encode_timeout_us = 1000000,
    };
    struct door wide = {0};
    uint32_t finished = 0;

    (void)state;
    door_open(&wide, &many);
    for (uint64_t tag = 0; tag < 600; tag++) {
        struct rmk_submit asked = ask(tag);
        asked.deadline_us = 5000000;
        door_submit(&wide, &asked);
    }
    door_group_up(&wide, 0, 1, RMK_GROUP_SLOTS_MAX, 100);
    wide.now_us = 5000000;
    door_step(&wide, (struct rmk_event){.kind = RMK_EVENT_TICK});
    for (uint32_t i = 0; i < wide.actions.count; i++) {
        finished += wide.actions.items[i].kind == RMK_ACTION_FINISH;
    }
    assert_int_equal(finished, 600);
    door_close(&wide);
}

/* Sixty requests about the same sixteen pictures get their slots at once: 960 prefetches, more than
 * one step has room for. The rest goes on with ticks that are due at once. */
static void what_does_not_fit_into_a_step_goes_on_at_once(void **state)
{
    enum {
        ASKS = 60,
        VISIONS = 8,
    };
    static const struct rmk_engine_limits many = {
        .requests_max = ASKS,
        .queued_max = ASKS,
        .groups_max = 1,
        .visions_max = VISIONS,
        .rows_per_plan_max = 1,
        .plan_timeout_us = 1000000,
        .encode_timeout_us = 1000000,
    };
    struct rmk_item items[RMK_ITEMS_MAX] = {0};
    struct rmk_submit asked = ask(0);
    struct door wide = {0};
    struct rmk_action encodes[RMK_ITEMS_MAX];
    uint32_t encode_count = 0;
    uint32_t fetches = 0;
    uint32_t steps = 0;
    const struct rmk_action *timer;

    (void)state;
    door_open(&wide, &many);
    for (uint32_t i = 0; i < VISIONS; i++) {
        door_step(&wide, (struct rmk_event){
                             .kind = RMK_EVENT_VISION_UP,
                             .vision = {.vision = i, .epoch = 1, .parallel_max = 16},
                         });
    }
    for (uint32_t i = 0; i < RMK_ITEMS_MAX; i++) {
        items[i].key[0] = (uint8_t)(i + 1);
    }
    asked.items = items;
    asked.item_count = RMK_ITEMS_MAX;
    for (uint64_t tag = 0; tag < ASKS; tag++) {
        asked.tag = tag;
        door_submit(&wide, &asked);
        for (uint32_t i = 0; i < wide.actions.count; i++) {
            if (wide.actions.items[i].kind == RMK_ACTION_ENCODE) {
                assert_true(encode_count <
                            RMK_ITEMS_MAX); /* one for each picture, however many ask */
                encodes[encode_count++] = wide.actions.items[i];
            }
        }
    }
    assert_int_equal(encode_count, RMK_ITEMS_MAX);
    for (uint32_t i = 0; i < encode_count; i++) {
        door_step(&wide, (struct rmk_event){
                             .kind = RMK_EVENT_FEATURES_READY,
                             .features = {.request = encodes[i].request,
                                          .item = encodes[i].place.item,
                                          .vision = encodes[i].place.vision,
                                          .vision_epoch = 1},
                         });
    }
    door_group_up(&wide, 0, 1, ASKS, 100);
    do {
        for (uint32_t i = 0; i < wide.actions.count; i++) {
            fetches += wide.actions.items[i].kind == RMK_ACTION_PREFETCH;
        }
        steps++;
        timer = door_find(&wide, RMK_ACTION_SET_TIMER);
        if (timer == NULL || timer->timer_us > wide.now_us) {
            break;
        }
        door_step(&wide, (struct rmk_event){.kind = RMK_EVENT_TICK});
    } while (steps < 10);
    assert_int_equal(fetches, ASKS * RMK_ITEMS_MAX);
    assert_true(steps > 1);
    door_close(&wide);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_request_runs_to_its_end, begin, end),
        cmocka_unit_test_setup_teardown(a_wrong_request_is_an_answer, begin, end),
        cmocka_unit_test_setup_teardown(a_full_queue_refuses_with_a_hint, begin, end),
        cmocka_unit_test(no_tenant_has_the_whole_queue),
        cmocka_unit_test_setup_teardown(
            what_no_group_can_hold_is_refused_or_fails_when_that_is_known, begin, end),
        cmocka_unit_test_setup_teardown(a_cache_that_no_group_has_room_for_is_refused_or_fails,
                                        begin, end),
        cmocka_unit_test_setup_teardown(a_lost_cache_is_rebuilt_by_a_row_without_reads, begin, end),
        cmocka_unit_test_setup_teardown(the_best_at_the_deadline_is_what_is_decided_and_the_suffix,
                                        begin, end),
        cmocka_unit_test_setup_teardown(a_late_answer_finds_nobody_at_home, begin, end),
        cmocka_unit_test_setup_teardown(a_poisoned_row_fails_its_request_only, begin, end),
        cmocka_unit_test_setup_teardown(a_request_gives_up_after_too_many_losses_of_its_own, begin,
                                        end),
        cmocka_unit_test_setup_teardown(a_lost_worker_is_one_loss_however_many_pictures_it_had,
                                        begin, end),
        cmocka_unit_test_setup_teardown(a_pull_that_fails_is_never_the_pictures_fault, begin, end),
        cmocka_unit_test_setup_teardown(a_request_may_take_the_place_of_several_that_do_not_read,
                                        begin, end),
        cmocka_unit_test_setup_teardown(waiting_without_a_group_never_fails_by_itself, begin, end),
        cmocka_unit_test_setup_teardown(an_unanswered_plan_dissolves_the_group_at_its_deadline,
                                        begin, end),
        cmocka_unit_test_setup_teardown(an_answer_that_has_arrived_beats_its_own_timeout, begin,
                                        end),
        cmocka_unit_test_setup_teardown(a_clock_that_steps_back_moves_no_deadline, begin, end),
        cmocka_unit_test_setup_teardown(every_decision_writes_one_line, begin, end),
        cmocka_unit_test(the_largest_limits_fit_into_the_memory_of_a_small_machine),
        cmocka_unit_test(a_step_has_room_for_all_that_one_event_can_cause),
        cmocka_unit_test(what_does_not_fit_into_a_step_goes_on_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
