#include "coordinator/engine/ahead.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/coordinator/engine/door.h"

enum {
    MASK = 7,
    VOCABULARY = 8,
    FORWARDS = 4, /* of one run */
    GEN = 9,
};

static struct rmk_canvas canvas;
static struct rmk_canvas theirs;

static uint64_t state_of_chance;

static uint32_t below(uint32_t bound)
{
    state_of_chance = state_of_chance * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state_of_chance >> 33) % bound;
}

/* Every rule with every cache, both remaskings, stops, and mask tokens in the prompt. */
static void draw_submit(uint64_t seed, struct rmk_submit *submit)
{
    static const int32_t stop_ids[] = {1, 2, 3};
    static const struct rmk_stop stops[] = {{stop_ids, 2}, {stop_ids + 2, 1}};
    static const uint32_t prompt_masks[] = {2, 5};

    state_of_chance = seed;
    uint32_t blocks = 1 + below(3);
    uint32_t block_length = 1 + below(9);
    *submit = (struct rmk_submit){
        .prompt_rows = 9,
        .prompt_masks = prompt_masks,
        .prompt_mask_count = below(3),
        .mask_id = MASK,
        .gen_length = blocks * block_length,
        .block_length = block_length,
        .steps = blocks * (1 + below(block_length + 2)),
        .remasking = below(3) == 0 ? RMK_REMASK_RANDOM : RMK_REMASK_LOW_CONFIDENCE,
        .seed = seed,
        .golden_noise = below(2) == 0,
        .stops = stops,
        .stop_count = below(3),
        .suffix = stop_ids,
        .suffix_count = below(3),
        .rule = {.rule = (enum rmk_rule)(seed % RMK_RULE_COUNT),
                 .tau = below(11) / 10.0,
                 .factor = below(9) / 4.0,
                 .factor_compat = below(2) == 0,
                 .tau_low = below(11) / 10.0,
                 .kappa = below(11) / 10.0,
                 .reach = below(5)},
        .cache = {.cache = (enum rmk_cache)(seed / RMK_RULE_COUNT % (RMK_CACHE_FEATURE + 1)),
                  .refresh_interval = below(6),
                  .prompt_interval = 1 + below(5),
                  .gen_interval = 1 + below(3),
                  .transfer_ratio = 0.25},
    };
}

static void guess(struct rmk_guess *guesses)
{
    for (uint32_t i = 0; i < canvas.read_count; i++) {
        guesses[i] = (struct rmk_guess){
            .position = (int32_t)canvas.reads[i] - (int32_t)canvas.prompt_rows,
            .token = (int32_t)below(VOCABULARY),
            .confidence = below(10) == 0 ? __builtin_nan("") : below(8) / 8.0,
        };
    }
}

static void check_same(void)
{
    assert_int_equal(theirs.read_count, canvas.read_count);
    assert_memory_equal(theirs.reads, canvas.reads, canvas.read_count * sizeof(canvas.reads[0]));
    assert_memory_equal(theirs.ids, canvas.ids, canvas.gen_length * sizeof(canvas.ids[0]));
    assert_int_equal(theirs.forward, canvas.forward);
    assert_int_equal(theirs.block, canvas.block);
    assert_int_equal(theirs.step, canvas.step);
    assert_int_equal(theirs.pass.kind, canvas.pass.kind);
    assert_int_equal(theirs.pass.begin, canvas.pass.begin);
    assert_int_equal(theirs.pass.end, canvas.pass.end);
    assert_int_equal(theirs.pass.keep, canvas.pass.keep);
    assert_int_equal(theirs.pass.refresh_prompt, canvas.pass.refresh_prompt);
    assert_int_equal(theirs.pass.refresh_gen, canvas.pass.refresh_gen);
    assert_int_equal(rmk_ahead_may(&theirs), rmk_ahead_may(&canvas));
}

/* What both committed in this forward, in the same order. */
static void check_log(uint32_t ours_begin, uint32_t theirs_begin)
{
    assert_int_equal(theirs.log_count - theirs_begin, canvas.log_count - ours_begin);
    for (uint32_t i = ours_begin; i < canvas.log_count; i++) {
        assert_int_equal(theirs.log[theirs_begin + i - ours_begin].position,
                         canvas.log[i].position);
        assert_int_equal(theirs.log[theirs_begin + i - ours_begin].id, canvas.log[i].id);
    }
}

static void a_canvas_begun_elsewhere_goes_on_as_this_one(void **state)
{
    struct rmk_guess guesses[RMK_READS_MAX];
    struct rmk_guess copies[RMK_READS_MAX];
    uint32_t forwards = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 3000; seed++) {
        struct rmk_submit submit;
        struct rmk_ahead ahead;
        draw_submit(seed, &submit);
        rmk_canvas_init(&canvas, &submit);
        bool more = rmk_canvas_next(&canvas);
        while (more) {
            rmk_ahead_describe(&canvas, &ahead);
            assert_int_equal(rmk_ahead_begin(&theirs, &ahead, NULL), RMK_OK);
            check_same();
            for (uint32_t i = 0; more && i < FORWARDS; i++, forwards++) {
                uint32_t ours_begin = canvas.log_count;
                uint32_t theirs_begin = theirs.log_count;
                uint32_t count = canvas.read_count;
                guess(guesses);
                memcpy(copies, guesses, count * sizeof(guesses[0]));
                uint32_t picked = rmk_canvas_commit(&canvas, guesses, count);
                assert_int_equal(rmk_canvas_commit(&theirs, copies, count), picked);
                check_log(ours_begin, theirs_begin);
                more = rmk_canvas_next(&canvas);
                assert_int_equal(rmk_canvas_next(&theirs), more);
                if (more) {
                    check_same();
                }
            }
        }
    }
    assert_true(forwards > 10000);
}

static void what_may_be_run_ahead_is_never_a_base(void **state)
{
    struct rmk_guess guesses[RMK_READS_MAX];

    (void)state;
    for (uint64_t seed = 0; seed < 1000; seed++) {
        struct rmk_submit submit;
        draw_submit(seed, &submit);
        rmk_canvas_init(&canvas, &submit);
        for (bool more = rmk_canvas_next(&canvas); more;) {
            guess(guesses);
            (void)rmk_canvas_commit(&canvas, guesses, canvas.read_count);
            more = rmk_canvas_next(&canvas);
            if (more && rmk_ahead_may(&canvas)) {
                assert_false(canvas.pass.keep);
                assert_false(canvas.pass.refresh_prompt && canvas.pass.refresh_gen);
            }
        }
    }
}

static struct rmk_ahead good(void)
{
    static int32_t ids[RMK_GEN_LENGTH_MAX];
    static const struct rmk_stop stops[1];

    for (uint32_t i = 0; i < RMK_GEN_LENGTH_MAX; i++) {
        ids[i] = MASK;
    }
    return (struct rmk_ahead){
        .prompt_rows = 9,
        .total_rows = 17,
        .gen_length = 8,
        .block_length = 4,
        .steps_per_block = 4,
        .mask_id = MASK,
        .stops = stops,
        .block_masks = 4,
        .stop_position = 8,
        .ids = ids,
        .prompt_masks = {2, 5},
        .prompt_mask_count = 2,
    };
}

#define REFUSES(change)                                                                            \
    do {                                                                                           \
        struct rmk_ahead changed = good();                                                         \
        struct rmk_why why = {0};                                                                  \
        changed.change;                                                                            \
        assert_int_not_equal(rmk_ahead_begin(&theirs, &changed, &why), RMK_OK);                    \
        assert_true(why.text[0] != '\0');                                                          \
    } while (0)

static void a_canvas_that_cannot_be_is_refused(void **state)
{
    struct rmk_ahead ahead = good();

    (void)state;
    assert_int_equal(rmk_ahead_begin(&theirs, &ahead, NULL), RMK_OK);
    REFUSES(gen_length = 0);
    REFUSES(gen_length = 9);
    REFUSES(gen_length = RMK_GEN_LENGTH_MAX + 4);
    REFUSES(block_length = 0);
    REFUSES(steps_per_block = 0);
    REFUSES(prompt_rows = UINT32_MAX);
    REFUSES(prompt_rows = 10);
    REFUSES(rule.rule = (enum rmk_rule)RMK_RULE_COUNT);
    REFUSES(cache.cache = RMK_CACHE_FEATURE + 1);
    REFUSES(cache.cache = RMK_CACHE_FEATURE); /* with intervals of 0 */
    REFUSES(remasking = RMK_REMASK_RANDOM + 1);
    REFUSES(stop_count = RMK_STOP_COUNT_MAX + 1);
    REFUSES(block = 2);
    REFUSES(step = 4); /* the block has no steps left */
    REFUSES(step = UINT32_MAX);
    REFUSES(block_masks = 5);
    REFUSES(stop_position = 9);
    REFUSES(forward = UINT64_MAX);
    REFUSES(based = true);
    REFUSES(prompt_masks[0] = 5);
    REFUSES(prompt_masks[1] = 9);
    REFUSES(prompt_mask_count = RMK_PROMPT_MASKS_MAX + 1);
    REFUSES(mask_id = 0); /* everything is committed */
}

/* ---- at the engine's door
 * ------------------------------------------------------------------------------------------ */

static const struct rmk_engine_limits limits = {
    .requests_max = 4,
    .queued_max = 4,
    .groups_max = 1,
    .visions_max = 1,
    .rows_per_plan_max = 4,
    .retries_max = 2,
    .ahead_max = FORWARDS,
    .plan_timeout_us = 1000000,
    .encode_timeout_us = 1000000,
};

static struct door door;

static int begin(void **state)
{
    (void)state;
    door_open(&door, &limits);
    door_step(&door, (struct rmk_event){.kind = RMK_EVENT_GROUP_UP,
                                        .group = {.epoch = 1,
                                                  .slot_count = 4,
                                                  .rows_max = 100,
                                                  .step_rows_max = 200,
                                                  .ahead_max = RMK_AHEAD_MAX}});
    return 0;
}

static int end(void **state)
{
    (void)state;
    door_close(&door);
    return 0;
}

/* Nine positions, one a forward, the first one first. */
static const struct rmk_submit nine = {.tag = 5,
                                       .prompt_rows = 10,
                                       .mask_id = MASK,
                                       .gen_length = GEN,
                                       .block_length = GEN,
                                       .steps = GEN};

/* The trace of a group that reads what is open: position p becomes token p % 5. */
struct trace {
    struct rmk_guess guesses[FORWARDS + 1][GEN];
    struct rmk_plan_update commits[FORWARDS]; /* one before each */
    struct rmk_row_forward ahead[FORWARDS];
    struct rmk_row_result row;
};

static void make_trace(struct trace *trace, uint32_t begin_at, uint32_t forwards)
{
    *trace = (struct trace){0};
    for (uint32_t f = 0; f < forwards; f++) {
        uint32_t first = begin_at + f;
        for (uint32_t p = first; p < GEN; p++) {
            trace->guesses[f][p - first] = (struct rmk_guess){
                .position = (int32_t)p, .token = (int32_t)(p % 5), .confidence = 1.0 - p / 16.0};
        }
        if (f > 0) {
            trace->commits[f - 1] = (struct rmk_plan_update){10 + first - 1, (first - 1) % 5};
            trace->ahead[f - 1] = (struct rmk_row_forward){
                .commits = &trace->commits[f - 1],
                .commit_count = 1,
                .guesses = trace->guesses[f],
                .guess_count = GEN - first,
            };
        }
    }
    trace->row = (struct rmk_row_result){
        .guesses = trace->guesses[0],
        .guess_count = GEN - begin_at,
        .ahead = trace->ahead,
        .ahead_count = forwards - 1,
    };
}

static void answer(uint64_t sequence, struct rmk_request_id id, struct trace *trace)
{
    trace->row.request = id;
    door_step(&door, (struct rmk_event){.kind = RMK_EVENT_STEP_DONE,
                                        .step = {.epoch = 1,
                                                 .sequence = sequence,
                                                 .rows = &trace->row,
                                                 .row_count = 1,
                                                 .compute_us = 7}});
}

/* A request after its first forward: how long that took says that more may be run ahead. */
static struct rmk_request_id start(const struct rmk_submit *submit, uint64_t *out_sequence)
{
    struct trace trace;

    door_submit(&door, submit);
    struct rmk_request_id id = door_find(&door, RMK_ACTION_ACCEPTED)->request;
    const struct rmk_plan *plan = &door_find(&door, RMK_ACTION_RUN_STEP)->plan;
    assert_int_equal(plan->rows[0].ahead, 1);
    make_trace(&trace, 0, 1);
    answer(plan->sequence, id, &trace);
    plan = &door_find(&door, RMK_ACTION_RUN_STEP)->plan;
    assert_int_equal(plan->rows[0].ahead, FORWARDS);
    *out_sequence = plan->sequence;
    return id;
}

static void a_trace_is_followed_as_if_each_forward_had_been_asked_for(void **state)
{
    struct trace trace;
    uint64_t sequence;

    (void)state;
    struct rmk_request_id id = start(&nine, &sequence);
    make_trace(&trace, 1, FORWARDS);
    answer(sequence, id, &trace);
    const struct rmk_action *emit = door_find(&door, RMK_ACTION_EMIT);
    assert_int_equal(emit->emit.commit_count, FORWARDS);
    assert_int_equal(emit->emit.step, FORWARDS);
    assert_int_equal(emit->emit.settled_count, 1 + FORWARDS);
    /* What the group has committed itself it is not told again. */
    const struct rmk_plan *plan = &door_find(&door, RMK_ACTION_RUN_STEP)->plan;
    assert_int_equal(plan->rows[0].forward, 1 + FORWARDS);
    assert_int_equal(plan->rows[0].update_count, 1);
    assert_int_equal(plan->rows[0].updates[0].position, 10 + FORWARDS);
    assert_int_equal(plan->rows[0].read_count, GEN - 1 - FORWARDS);
    make_trace(&trace, 1 + FORWARDS, FORWARDS);
    answer(plan->sequence, id, &trace);
    const struct rmk_action *finish = door_find(&door, RMK_ACTION_FINISH);
    assert_int_equal(finish->finish.reason, RMK_FINISH_LENGTH);
    assert_int_equal(finish->finish.usage.forwards, GEN);
    assert_int_equal(finish->finish.usage.committed, GEN);
    for (uint32_t i = 0; i < GEN; i++) {
        assert_int_equal(finish->finish.ids[i], i % 5);
    }
}

static void a_shorter_trace_is_gone_on_from(void **state)
{
    struct trace trace;
    uint64_t sequence;

    (void)state;
    struct rmk_request_id id = start(&nine, &sequence);
    make_trace(&trace, 1, 2);
    answer(sequence, id, &trace);
    const struct rmk_plan *plan = &door_find(&door, RMK_ACTION_RUN_STEP)->plan;
    assert_int_equal(plan->rows[0].forward, 3);
    assert_int_equal(plan->rows[0].update_count, 1);
}

/* What came before it counts; the slot's canvas is not trusted any more. */
static void what_does_not_fit_in_a_trace_is_asked_again(void **state)
{
    struct trace trace;
    uint64_t sequence;

    (void)state;
    for (int kind = 0; kind < 7; kind++) {
        const uint32_t fit = kind < 6 ? 2 : FORWARDS;
        struct rmk_request_id id = start(&nine, &sequence);
        make_trace(&trace, 1, FORWARDS);
        switch (kind) {
        case 0:
            trace.guesses[2][1].position++;
            break;
        case 1:
            trace.guesses[2][0].token = -1;
            break;
        case 2:
            trace.ahead[1].guess_count--;
            break;
        case 3: /* it read the right positions, but on another canvas */
            trace.commits[1].id++;
            break;
        case 4:
            trace.commits[1].position++;
            break;
        case 5:
            trace.ahead[1].commit_count = 0;
            break;
        default: /* one more than it had leave for */
            make_trace(&trace, 1, FORWARDS + 1);
            break;
        }
        answer(sequence, id, &trace);
        const struct rmk_action *emit = door_find(&door, RMK_ACTION_EMIT);
        assert_int_equal(emit->emit.commit_count, fit);
        assert_non_null(door_find(&door, RMK_ACTION_RELEASE));
        assert_null(door_find(&door, RMK_ACTION_FINISH));
        door.now_us += 60000; /* its pause after a loss */
        door_step(&door, (struct rmk_event){.kind = RMK_EVENT_TICK});
        const struct rmk_plan *plan = &door_find(&door, RMK_ACTION_RUN_STEP)->plan;
        assert_true(plan->rows[0].open);
        assert_int_equal(plan->rows[0].ahead, 1);
        assert_int_equal(plan->rows[0].forward, 1 + fit);
        assert_int_equal(plan->rows[0].update_count, 1 + fit);
        make_trace(&trace, 1 + fit, 1);
        answer(plan->sequence, id, &trace);
        plan = &door_find(&door, RMK_ACTION_RUN_STEP)->plan;
        assert_int_equal(plan->rows[0].ahead, 1); /* nor ever after */
        sequence = plan->sequence;
        door_step(&door, (struct rmk_event){.kind = RMK_EVENT_CANCEL, .request = id});
        answer(sequence, id, &trace); /* nobody's any more */
    }
}

static void a_forward_poisoned_on_the_way_fails_the_request_after_the_others(void **state)
{
    struct trace trace;
    uint64_t sequence;

    (void)state;
    struct rmk_request_id id = start(&nine, &sequence);
    make_trace(&trace, 1, 3);
    trace.row.poisoned_ahead = true;
    answer(sequence, id, &trace);
    assert_int_equal(door_find(&door, RMK_ACTION_EMIT)->emit.commit_count, 3);
    const struct rmk_action *finish = door_find(&door, RMK_ACTION_FINISH);
    assert_int_equal(finish->finish.reason, RMK_FINISH_FAILED);
    assert_int_equal(finish->finish.err, RMK_EINTERNAL);
    assert_int_equal(finish->finish.usage.forwards, 4);
}

static void a_mask_token_that_is_committed_first_is_told_once(void **state)
{
    struct trace trace;
    struct rmk_submit submit = nine;
    uint64_t sequence;

    (void)state;
    submit.steps = 2 * GEN; /* the mask token uses up a slot */
    struct rmk_request_id id = start(&submit, &sequence);
    make_trace(&trace, 1, 2);
    trace.guesses[0][0].token = MASK;
    memcpy(trace.guesses[1], trace.guesses[0], sizeof(trace.guesses[0]));
    trace.guesses[1][0].token = 3;
    trace.ahead[0].guess_count = GEN - 1;
    trace.ahead[0].commit_count = 0; /* it stays a mask */
    answer(sequence, id, &trace);
    const struct rmk_action *emit = door_find(&door, RMK_ACTION_EMIT);
    assert_int_equal(emit->emit.commit_count, 1);
    assert_int_equal(emit->emit.commits[0].token, 3);
}

static void who_looks_at_each_step_is_not_run_ahead(void **state)
{
    struct trace trace;
    struct rmk_submit submit = nine;

    (void)state;
    submit.stepwise = true;
    door_submit(&door, &submit);
    struct rmk_request_id id = door_find(&door, RMK_ACTION_ACCEPTED)->request;
    for (uint32_t i = 0; i < 3; i++) {
        const struct rmk_plan *plan = &door_find(&door, RMK_ACTION_RUN_STEP)->plan;
        assert_int_equal(plan->rows[0].ahead, 1);
        make_trace(&trace, i, 1);
        answer(plan->sequence, id, &trace);
    }
}

static void nothing_is_run_ahead_while_somebody_waits(void **state)
{
    const struct rmk_item item = {.rows = 2, .tile_count = 1};
    struct rmk_submit submit = nine;
    struct trace trace;
    uint64_t sequence;

    (void)state;
    struct rmk_request_id id = start(&nine, &sequence);
    submit.items = &item;
    submit.item_count = 1;
    door_submit(&door, &submit); /* waits for its picture */
    make_trace(&trace, 1, FORWARDS);
    answer(sequence, id, &trace);
    assert_int_equal(door_find(&door, RMK_ACTION_RUN_STEP)->plan.rows[0].ahead, 1);
}

static void a_client_that_does_not_read_does_not_hold_the_others_up(void **state)
{
    struct trace trace;
    uint64_t sequence;

    (void)state;
    struct rmk_request_id paused = start(&nine, &sequence);
    door_step(&door, (struct rmk_event){.kind = RMK_EVENT_CLIENT_SLOW, .request = paused});
    make_trace(&trace, 1, 1);
    answer(sequence, paused, &trace);
    (void)start(&nine, &sequence); /* has leave although the first still has its slot */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_canvas_begun_elsewhere_goes_on_as_this_one),
        cmocka_unit_test(what_may_be_run_ahead_is_never_a_base),
        cmocka_unit_test(a_canvas_that_cannot_be_is_refused),
        cmocka_unit_test_setup_teardown(a_trace_is_followed_as_if_each_forward_had_been_asked_for,
                                        begin, end),
        cmocka_unit_test_setup_teardown(a_shorter_trace_is_gone_on_from, begin, end),
        cmocka_unit_test_setup_teardown(what_does_not_fit_in_a_trace_is_asked_again, begin, end),
        cmocka_unit_test_setup_teardown(
            a_forward_poisoned_on_the_way_fails_the_request_after_the_others, begin, end),
        cmocka_unit_test_setup_teardown(a_mask_token_that_is_committed_first_is_told_once, begin,
                                        end),
        cmocka_unit_test_setup_teardown(who_looks_at_each_step_is_not_run_ahead, begin, end),
        cmocka_unit_test_setup_teardown(nothing_is_run_ahead_while_somebody_waits, begin, end),
        cmocka_unit_test_setup_teardown(a_client_that_does_not_read_does_not_hold_the_others_up,
                                        begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
