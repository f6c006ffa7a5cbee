#include "coordinator/engine/canvas.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/engine/engine.h"

enum {
    MASK = 99,
    PROMPT = 10,
};

static struct rmk_canvas canvas;

static struct rmk_submit ask(uint32_t gen_length, uint32_t block_length, uint32_t steps)
{
    return (struct rmk_submit){
        .prompt_rows = PROMPT,
        .mask_id = MASK,
        .gen_length = gen_length,
        .block_length = block_length,
        .steps = steps,
    };
}

/* Give `tokens[i]` to canvas position i with falling confidence, except where `first` says which is
 * most confident. */
static uint32_t commit(const int32_t *tokens, int32_t first)
{
    struct rmk_guess guesses[RMK_READS_MAX];

    for (uint32_t i = 0; i < canvas.read_count; i++) {
        int32_t position = (int32_t)canvas.reads[i] - PROMPT;
        guesses[i].position = position;
        guesses[i].token = position < 0 ? 1 : tokens[position];
        guesses[i].confidence = position == first ? 1.0 : 0.5 - 0.001 * position;
    }
    return rmk_canvas_commit(&canvas, guesses, canvas.read_count);
}

static void one_block_ends_when_all_is_committed(void **state)
{
    static const int32_t tokens[] = {1, 2, 3, 4};
    struct rmk_submit submit = ask(4, 4, 2);

    (void)state;
    rmk_canvas_init(&canvas, &submit);
    assert_true(rmk_canvas_next(&canvas));
    assert_int_equal(canvas.read_count, 4);
    assert_int_equal(commit(tokens, 3), 2);
    assert_true(rmk_canvas_next(&canvas));
    assert_true(rmk_canvas_next(&canvas)); /* asking again changes nothing */
    assert_int_equal(canvas.read_count, 2);
    assert_int_equal(canvas.reads[0], PROMPT + 1);
    assert_int_equal(commit(tokens, -1), 2);
    assert_false(rmk_canvas_next(&canvas));
    assert_int_equal(canvas.forward, 2);
    assert_int_equal(canvas.log_count, 4);
    assert_int_equal(canvas.log[0].position, PROMPT + 3);
}

static void more_steps_than_masks_are_not_run(void **state)
{
    static const int32_t tokens[] = {1, 2};
    struct rmk_submit submit = ask(2, 2, 8);

    (void)state;
    rmk_canvas_init(&canvas, &submit);
    while (rmk_canvas_next(&canvas)) {
        (void)commit(tokens, -1);
    }
    assert_int_equal(canvas.forward, 2);
}

/* Once the first steps have used the quota, later ones commit nothing but run, as the official loop
 * does. */
static void a_predicted_mask_uses_its_slot_and_the_steps_run_on(void **state)
{
    static const int32_t tokens[] = {MASK, 2};
    struct rmk_submit submit = ask(2, 2, 4);

    (void)state;
    rmk_canvas_init(&canvas, &submit);
    while (rmk_canvas_next(&canvas)) {
        (void)commit(tokens, 0);
    }
    /* Quotas 1, 1, 0, 0: position 0 is committed to the mask twice, position 1 never. */
    assert_int_equal(canvas.forward, 4);
    assert_int_equal(canvas.ids[0], MASK);
    assert_int_equal(canvas.ids[1], MASK);
    assert_int_equal(canvas.log_count, 0);
}

/* Threshold: no schedule. The mask token is never worth a commit, and a forward that adds nothing
 * ends the block. */
static void a_rule_without_a_schedule_goes_on_until_nothing_is_added(void **state)
{
    static const int32_t stubborn[] = {MASK, 2, 3, 4};
    static const int32_t yielding[] = {7, 2, 3, 4};
    struct rmk_submit submit = ask(4, 2, 2);

    (void)state;
    submit.rule = (struct rmk_rule_options){.rule = RMK_RULE_THRESHOLD, .tau = 0.9};
    rmk_canvas_init(&canvas, &submit);
    assert_true(rmk_canvas_next(&canvas));
    assert_int_equal(commit(stubborn, 0), 1); /* position 1, though 0 is surer */
    assert_true(rmk_canvas_next(&canvas));
    assert_int_equal(canvas.block, 0);
    assert_int_equal(commit(stubborn, 0), 0);
    assert_true(rmk_canvas_next(&canvas));
    assert_int_equal(canvas.block, 1);
    assert_int_equal(canvas.read_count, 3); /* 0 is a leftover now */
    assert_int_equal(commit(yielding, 0), 1);
    assert_int_equal(canvas.ids[0], 7);
    for (int i = 0; i < 2; i++) {
        assert_true(rmk_canvas_next(&canvas));
        assert_int_equal(commit(yielding, -1), 1);
    }
    assert_false(rmk_canvas_next(&canvas));
    assert_int_equal(canvas.forward, 5);
}

static void a_window_reads_only_what_it_computes(void **state)
{
    static const uint32_t prompt_masks[] = {4};
    static const int32_t tokens[] = {1, 2, MASK, 4, 5, 6};
    struct rmk_submit submit = ask(6, 3, 6);

    (void)state;
    submit.prompt_masks = prompt_masks;
    submit.prompt_mask_count = 1;
    submit.cache.cache = RMK_CACHE_PREFIX;
    rmk_canvas_init(&canvas, &submit);
    assert_true(rmk_canvas_next(&canvas));
    assert_int_equal(canvas.pass.kind, RMK_PLAN_FULL);
    assert_int_equal(canvas.read_count, 4);
    (void)commit(tokens, 2); /* a mask, again */
    assert_true(rmk_canvas_next(&canvas));
    assert_int_equal(canvas.pass.kind, RMK_PLAN_WINDOW);
    assert_int_equal(canvas.read_count, 3);
    assert_int_equal(canvas.reads[0], PROMPT);
    (void)commit(tokens, 0);
    assert_true(rmk_canvas_next(&canvas));
    (void)commit(tokens, 1);
    assert_true(rmk_canvas_next(&canvas)); /* the second block: everything is computed and read */
    assert_int_equal(canvas.block, 1);
    assert_int_equal(canvas.pass.kind, RMK_PLAN_FULL);
    assert_int_equal(canvas.read_count, 5);
    (void)commit(tokens, 3);
    assert_true(rmk_canvas_next(&canvas));
    assert_int_equal(canvas.pass.kind, RMK_PLAN_WINDOW);
    assert_int_equal(canvas.pass.begin, PROMPT + 3);
    assert_int_equal(canvas.read_count, 2); /* neither the prompt's nor the leftover */
    assert_int_equal(canvas.refreshes, 2);
}

/* A stop inside the block's computed part, and the last open position before it left of the block.
 */
static void a_window_without_anything_to_read_becomes_a_full_forward(void **state)
{
    static const int32_t stop_ids[] = {5};
    static const struct rmk_stop stop = {stop_ids, 1};
    static const int32_t stubborn[] = {MASK, 2, 5, 6};
    static const int32_t yielding[] = {7, 2, 5, 6};
    struct rmk_submit submit = ask(4, 2, 8);

    (void)state;
    submit.stops = &stop;
    submit.stop_count = 1;
    submit.cache.cache = RMK_CACHE_DUAL;
    rmk_canvas_init(&canvas, &submit);
    for (int i = 0; i < 4; i++) {
        assert_true(rmk_canvas_next(&canvas));
        (void)commit(stubborn, i == 0 ? 1 : 0);
    }
    assert_true(rmk_canvas_next(&canvas));
    assert_int_equal(canvas.block, 1);
    (void)commit(stubborn, 2); /* the stop string: position 3 is out, 0 is still open */
    assert_true(rmk_canvas_next(&canvas));
    assert_int_equal(canvas.pass.kind, RMK_PLAN_FULL);
    assert_true(canvas.pass.keep);
    assert_int_equal(canvas.read_count, 1);
    assert_int_equal(canvas.reads[0], PROMPT);
    (void)commit(yielding, 0);
    assert_false(rmk_canvas_next(&canvas));
    assert_int_equal(canvas.stop_position, 2);
}

static void a_replay_sees_the_canvas_as_it_was(void **state)
{
    static const int32_t tokens[] = {1, 2, 3, 4};
    uint32_t log_count = 99;
    struct rmk_submit submit = ask(4, 4, 4);

    (void)state;
    submit.cache = (struct rmk_cache_options){.cache = RMK_CACHE_PROMPT, .refresh_interval = 2};
    rmk_canvas_init(&canvas, &submit);
    for (int i = 0; i < 3; i++) {
        assert_true(rmk_canvas_next(&canvas));
        assert_int_equal(canvas.pass.kind, i == 1 ? RMK_PLAN_WINDOW : RMK_PLAN_FULL);
        (void)commit(tokens, -1);
    }
    assert_true(rmk_canvas_next(&canvas));
    assert_int_equal(canvas.base, 2);
    struct rmk_cache_pass pass = rmk_canvas_replay(&canvas, 2, &log_count);
    assert_int_equal(pass.kind, RMK_PLAN_FULL);
    assert_true(pass.keep);
    assert_int_equal(log_count, 2);
}

static void leftovers_of_an_earlier_block_compete_in_the_next(void **state)
{
    static const int32_t stubborn[] = {MASK, 2, 3, 4};
    static const int32_t yielding[] = {7, 2, 3, 4};
    struct rmk_submit submit = ask(4, 2, 4);

    (void)state;
    rmk_canvas_init(&canvas, &submit);
    for (int i = 0; i < 2; i++) {
        assert_true(rmk_canvas_next(&canvas));
        (void)commit(stubborn, i);
    }
    assert_true(rmk_canvas_next(&canvas));
    assert_int_equal(canvas.block, 1);
    assert_int_equal(canvas.read_count, 3); /* 0 is left over; 2 and 3 are the block's */
    assert_int_equal(canvas.reads[0], PROMPT);
    (void)commit(yielding, 0);
    assert_int_equal(canvas.ids[0], 7);
    assert_true(rmk_canvas_next(&canvas));
    (void)commit(yielding, 2);
    assert_false(rmk_canvas_next(&canvas));
    /* The leftover took a slot of the second block, whose quota counts only its own masks. */
    assert_int_equal(canvas.ids[3], MASK);
    assert_int_equal(rmk_canvas_masks(&canvas), 1);
}

static void prompt_masks_compete_and_are_told_to_the_worker(void **state)
{
    static const uint32_t prompt_masks[] = {2, 7};
    static const int32_t tokens[] = {5, 6};
    struct rmk_submit submit = ask(2, 2, 2);

    (void)state;
    submit.prompt_masks = prompt_masks;
    submit.prompt_mask_count = 2;
    rmk_canvas_init(&canvas, &submit);
    assert_true(rmk_canvas_next(&canvas));
    assert_int_equal(canvas.read_count, 4);
    assert_int_equal(canvas.reads[0], 2);
    assert_int_equal(canvas.reads[1], 7);
    assert_int_equal(canvas.reads[2], PROMPT);
    assert_int_equal(commit(tokens, 7 - PROMPT), 1);
    assert_int_equal(canvas.log[0].position, 7);
    assert_int_equal(canvas.log[0].id, 1);
    assert_true(rmk_canvas_next(&canvas));
    assert_int_equal(canvas.read_count, 3);
    assert_int_equal(canvas.reads[0], 2);
    (void)commit(tokens, 0);
    assert_false(rmk_canvas_next(&canvas));
    assert_int_equal(rmk_canvas_masks(&canvas), 1);
}

static void a_stop_is_followed_by_filling_the_gap_before_it_only(void **state)
{
    static const int32_t tokens[] = {1, 2, 8, 4, 5, 6, 7, 3};
    static const int32_t stop_id = 8;
    struct rmk_stop stop = {&stop_id, 1};
    struct rmk_submit submit = ask(8, 4, 8);

    (void)state;
    submit.stops = &stop;
    submit.stop_count = 1;
    rmk_canvas_init(&canvas, &submit);
    assert_true(rmk_canvas_next(&canvas));
    (void)commit(tokens, 2);
    assert_true(canvas.found);
    assert_true(rmk_canvas_next(&canvas));
    assert_int_equal(canvas.read_count,
                     2); /* not position 3, which is in the block but right of the stop */
    (void)commit(tokens, 0);
    assert_true(rmk_canvas_next(&canvas));
    (void)commit(tokens, 1);
    assert_false(rmk_canvas_next(&canvas)); /* the second block is never entered */
    assert_int_equal(canvas.forward, 3);
    int32_t answer[8];
    assert_int_equal(rmk_canvas_answer(&canvas, canvas.stop_position, answer), 2);
    assert_int_equal(answer[1], 2);
}

/* A stop string that holds the mask token can match ahead of what is committed; here at the end of
 * the open block, which is still filled, and the next one never entered. */
static void a_stop_of_mask_tokens_matches_what_is_not_yet_committed(void **state)
{
    static const int32_t tokens[] = {1, 2, 3, 4, 5, 6};
    static const int32_t stop_ids[] = {MASK, MASK, MASK};
    struct rmk_stop stop = {stop_ids, 3};
    struct rmk_submit submit = ask(6, 2, 6);

    (void)state;
    submit.stops = &stop;
    submit.stop_count = 1;
    rmk_canvas_init(&canvas, &submit);
    assert_true(rmk_canvas_next(&canvas));
    assert_int_equal(canvas.read_count, 2);
    (void)commit(tokens, 1);
    assert_true(canvas.found);
    assert_int_equal(canvas.stop_position, 2);
    assert_true(rmk_canvas_next(&canvas));
    assert_int_equal(canvas.read_count, 1);
    (void)commit(tokens, 0);
    assert_false(rmk_canvas_next(&canvas));
    assert_int_equal(canvas.forward, 2);
}

static void settled_text_ends_before_the_first_mask(void **state)
{
    static const int32_t tokens[] = {1, 2, 3, 4};
    struct rmk_submit submit = ask(4, 4, 4);

    (void)state;
    rmk_canvas_init(&canvas, &submit);
    assert_true(rmk_canvas_next(&canvas));
    (void)commit(tokens, 1);
    assert_int_equal(rmk_canvas_settled(&canvas), 0);
    assert_true(rmk_canvas_next(&canvas));
    (void)commit(tokens, 0);
    assert_int_equal(rmk_canvas_settled(&canvas), 2);
}

static void settled_text_holds_back_what_may_become_a_stop(void **state)
{
    static const int32_t tokens[] = {1, 6, 7, 4};
    static const int32_t stop_ids[] = {6, 7, 8};
    struct rmk_stop stop = {stop_ids, 3};
    struct rmk_submit submit = ask(4, 4, 4);

    (void)state;
    submit.stops = &stop;
    submit.stop_count = 1;
    rmk_canvas_init(&canvas, &submit);
    for (int32_t i = 0; i < 3; i++) {
        assert_true(rmk_canvas_next(&canvas));
        (void)commit(tokens, i);
    }
    assert_int_equal(rmk_canvas_settled(&canvas), 1); /* 6 7 could still be followed by 8 */
    assert_true(rmk_canvas_next(&canvas));
    (void)commit(tokens, 3);
    assert_int_equal(rmk_canvas_settled(&canvas), 4); /* it was 4: no stop */
}

static void settled_text_does_not_wait_for_a_stop_that_would_not_fit(void **state)
{
    static const int32_t tokens[] = {1, 6};
    static const int32_t stop_ids[] = {6, 7};
    struct rmk_stop stop = {stop_ids, 2};
    struct rmk_submit submit = ask(2, 2, 2);

    (void)state;
    submit.stops = &stop;
    submit.stop_count = 1;
    rmk_canvas_init(&canvas, &submit);
    for (int32_t i = 0; i < 2; i++) {
        assert_true(rmk_canvas_next(&canvas));
        (void)commit(tokens, i);
    }
    assert_int_equal(rmk_canvas_settled(&canvas), 2);
}

static void random_remasking_replaces_confidence_but_never_makes_it_finite(void **state)
{
    struct rmk_guess guesses[2] = {{0, 5, NAN}, {1, 6, 0.5}};
    struct rmk_submit submit = ask(2, 2, 1);

    (void)state;
    submit.remasking = RMK_REMASK_RANDOM;
    submit.seed = 3;
    rmk_canvas_init(&canvas, &submit);
    assert_true(rmk_canvas_next(&canvas));
    assert_int_equal(rmk_canvas_commit(&canvas, guesses, 2), 1);
    assert_int_equal(guesses[0].position, 1);
    assert_true(guesses[0].confidence == rmk_denoise_random(3, 0, PROMPT + 2, PROMPT + 1, false));
    assert_int_equal(canvas.ids[0], MASK);
}

static void restart_is_as_at_the_beginning(void **state)
{
    static const int32_t tokens[] = {1, 2, 3, 4};
    static const uint32_t prompt_mask = 4;
    static struct rmk_canvas fresh;
    struct rmk_submit submit = ask(4, 2, 4);

    (void)state;
    submit.prompt_masks = &prompt_mask;
    submit.prompt_mask_count = 1;
    memset(&canvas, 0, sizeof(canvas));
    memset(&fresh, 0, sizeof(fresh));
    rmk_canvas_init(&canvas, &submit);
    rmk_canvas_init(&fresh, &submit);
    while (rmk_canvas_next(&canvas)) {
        (void)commit(tokens, -1);
    }
    rmk_canvas_restart(&canvas);
    assert_true(rmk_canvas_next(&canvas));
    assert_true(rmk_canvas_next(&fresh));
    assert_memory_equal(canvas.ids, fresh.ids, sizeof(fresh.ids));
    assert_int_equal(canvas.forward, 0);
    assert_int_equal(canvas.prompt_open, fresh.prompt_open);
    assert_int_equal(canvas.log_count, 0);
    assert_int_equal(canvas.read_count, fresh.read_count);
    assert_memory_equal(canvas.reads, fresh.reads, fresh.read_count * sizeof(fresh.reads[0]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_block_ends_when_all_is_committed),
        cmocka_unit_test(more_steps_than_masks_are_not_run),
        cmocka_unit_test(a_predicted_mask_uses_its_slot_and_the_steps_run_on),
        cmocka_unit_test(a_rule_without_a_schedule_goes_on_until_nothing_is_added),
        cmocka_unit_test(a_window_reads_only_what_it_computes),
        cmocka_unit_test(a_window_without_anything_to_read_becomes_a_full_forward),
        cmocka_unit_test(a_replay_sees_the_canvas_as_it_was),
        cmocka_unit_test(leftovers_of_an_earlier_block_compete_in_the_next),
        cmocka_unit_test(prompt_masks_compete_and_are_told_to_the_worker),
        cmocka_unit_test(a_stop_is_followed_by_filling_the_gap_before_it_only),
        cmocka_unit_test(a_stop_of_mask_tokens_matches_what_is_not_yet_committed),
        cmocka_unit_test(settled_text_ends_before_the_first_mask),
        cmocka_unit_test(settled_text_holds_back_what_may_become_a_stop),
        cmocka_unit_test(settled_text_does_not_wait_for_a_stop_that_would_not_fit),
        cmocka_unit_test(random_remasking_replaces_confidence_but_never_makes_it_finite),
        cmocka_unit_test(restart_is_as_at_the_beginning),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
