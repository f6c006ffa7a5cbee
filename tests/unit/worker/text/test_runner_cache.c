/* worker/text: what is kept between forwards. Whole refreshes and windows, against the forward that
 * keeps nothing, against tests/support/slow_llada.h, and bit by bit against themselves in company.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/slow_request.h"
#include "tests/support/text_runs.h"
#include "worker/text/runner_state.h"

enum { SLOTS = 10, ROWS_MAX = 48, KV_ROWS_MAX = 480, PROMPT = 9, GEN = 12, TOTAL = PROMPT + GEN };

static void create_with(struct text_group *group, const struct text_backend *backend, uint32_t size,
                        uint32_t kv_rows_max)
{
    text_runs_create(group, backend, size,
                     &(struct rmk_runner_options){
                         .slot_count = SLOTS, .rows_max = ROWS_MAX, .kv_rows_max = kv_rows_max});
}

static void create(struct text_group *group, const struct text_backend *backend, uint32_t size)
{
    create_with(group, backend, size, KV_ROWS_MAX);
}

/* -- requests
 * -------------------------------------------------------------------------------------- */

static void opens(struct text_group *group, uint32_t slot, uint32_t prompt, uint32_t gen, bool cfg)
{
    struct text_request request;

    if (text_group_call(group, text_open_on, text_request_of(&request, slot, prompt, gen, cfg)) !=
        RMK_OK) {
        fail_msg("%s", text_group_why(group));
    }
}

static const uint32_t reads[4] = {12, 13, 15, 17};
static const struct rmk_update updates[3] = {
    {.position = 10, .id = 33}, {.position = 14, .id = 4}, {.position = 16, .id = 21}};

static struct rmk_row full_row(uint32_t slot, bool keep)
{
    return (struct rmk_row){.slot = slot, .keep = keep, .reads = reads, .read_count = 4};
}

static struct rmk_row window_row(uint32_t slot, uint32_t begin, uint32_t end)
{
    return (struct rmk_row){.slot = slot,
                            .kind = RMK_ROW_WINDOW,
                            .window_begin = begin,
                            .window_end = end,
                            .reads = reads,
                            .read_count = 4};
}

/* -- tests
 * ----------------------------------------------------------------------------------------- */

static void a_refresh_gives_the_bits_of_a_forward_that_keeps_nothing(void **state)
{
    (void)state;
    for (unsigned b = 0; b < TEXT_BACKEND_COUNT; b++) {
        for (uint32_t size = 1; size <= 2; size++) {
            struct text_group group;
            struct text_run plain;
            struct text_run kept;
            struct text_run window;

            create(&group, &text_backends[b], size);
            opens(&group, 0, 5, 8, false); /* so that slot 1's extent does not begin at 0 */
            opens(&group, 1, PROMPT, GEN, true);
            struct rmk_row row = full_row(1, false);
            row.cfg_scale = 0.5f;
            row.updates = updates;
            row.update_count = 3;
            text_runs(&group, &plain, &row, 1);
            row.keep = true;
            text_runs(&group, &kept, &row, 1);
            assert_memory_equal(kept.reads[0], plain.reads[0], sizeof(plain.reads[0]));
            /* Nothing has changed since: the answer's rows against the prompt's kept ones too. */
            row = window_row(1, PROMPT, TOTAL);
            row.cfg_scale = 0.5f;
            text_runs(&group, &window, &row, 1);
            assert_memory_equal(window.reads[0], plain.reads[0], sizeof(plain.reads[0]));
            text_group_destroy(&group);
        }
    }
}

/* -- against the slow one
 * -------------------------------------------------------------------------- */

enum { STEPS = 5 };

/* What the script must come to, and what an exact forward gives at each step. */
static void slow_script(const struct rmk_row script[STEPS], struct rmk_read wanted[STEPS][4])
{
    struct slow_request slow;
    struct slow_request fresh;

    slow_begin(&slow, &text_spec.text, 3, PROMPT, TOTAL);
    slow_begin(&fresh, &text_spec.text, 3, PROMPT, TOTAL);
    for (unsigned i = 0; i < STEPS; i++) {
        struct rmk_row exact = script[i];
        struct rmk_read exact_reads[4];
        exact.kind = RMK_ROW_FULL;
        slow_run(&slow, &script[i], wanted[i]);
        slow_run(&fresh, &exact, exact_reads);
        /* What is stale matters: a forward that keeps nothing is far away. */
        bool stale = script[i].kind == RMK_ROW_WINDOW;
        assert_true((slow_difference(exact_reads, wanted[i], 4) > 1e-5) == stale);
    }
    slow_end(&slow);
    slow_end(&fresh);
}

static void windows_equal_a_slow_forward_over_what_was_kept(void **state)
{
    (void)state;
    for (unsigned guided = 0; guided < 2; guided++) {
        /* A refresh; the frozen prompt's window; the prefix's; a block's, with an update outside
         * it whose keys stay stale; a refresh again. */
        struct rmk_row script[STEPS] = {full_row(3, true), window_row(3, PROMPT, TOTAL),
                                        window_row(3, 11, TOTAL), window_row(3, 12, 18),
                                        full_row(3, true)};
        struct rmk_read wanted[STEPS][4];
        const struct rmk_update outside = {.position = 19, .id = 8};
        for (unsigned i = 0; i < STEPS; i++) {
            script[i].cfg_scale = guided == 1 ? 1.5f : 0;
            if (i >= 1 && i <= 3) {
                script[i].updates = i == 3 ? &outside : &updates[i - 1];
                script[i].update_count = 1;
            }
        }
        slow_script(script, wanted);
        for (unsigned b = 0; b < 2; b++) {
            for (uint32_t size = 1; size <= 3; size++) {
                struct text_group group;
                struct text_run run;
                create(&group, &text_backends[b], size);
                opens(&group, 3, PROMPT, GEN, guided == 1);
                for (unsigned i = 0; i < STEPS; i++) {
                    text_runs(&group, &run, &script[i], 1);
                    for (unsigned j = 0; j < 4; j++) {
                        assert_int_equal(run.reads[0][j].token, wanted[i][j].token);
                    }
                    /* fp32 against double; seen up to 2e-7 */
                    double difference = slow_difference(run.reads[0], wanted[i], 4);
                    if (!(difference < 1e-6)) {
                        fail_msg("%s, %u ranks, step %u: a confidence differs by %g",
                                 text_backends[b].name, size, i, difference);
                    }
                }
                text_group_destroy(&group);
            }
        }
    }
}

/* -- company
 * --------------------------------------------------------------------------------------- */

/* Three steps of the requests whose bit is set in `who`; the guesses of slot 4. */
static void run_company(const struct text_backend *backend, uint32_t size, uint32_t who,
                        bool guided, struct rmk_read out[3][4])
{
    struct text_group group;

    create(&group, backend, size);
    for (uint32_t slot = 0; slot < 9; slot++) {
        if (who >> slot & 1) {
            opens(&group, slot, PROMPT + (slot == 4 ? 0 : slot % 3),
                  GEN + (slot == 4 ? 0 : slot % 2), slot == 4 ? guided : slot % 4 == 1);
        }
    }
    for (unsigned step = 0; step < 3; step++) {
        struct rmk_row rows[9];
        struct text_run run;
        uint32_t count = 0;
        uint32_t before = 0;
        for (uint32_t slot = 0; slot < 9; slot++) {
            if (!(who >> slot & 1)) {
                continue;
            }
            /* Everyone keeps at first; then some go on whole, some in windows of any size. */
            rows[count] = full_row(slot, step == 0);
            if (step > 0 && slot % 2 == 0) {
                rows[count] =
                    window_row(slot, step == 1 ? PROMPT : 12 - slot, step == 1 ? TOTAL : 18);
            }
            rows[count].cfg_scale = slot == 4 ? (guided ? 2.0f : 0) : slot % 4 == 1 ? 0.5f : 0;
            if (slot == 4 && step > 0) {
                rows[count].window_begin = step == 1 ? 10 : 12;
                rows[count].updates = &updates[step];
                rows[count].update_count = 1;
            }
            before += slot < 4 ? 4 : 0;
            count++;
        }
        text_runs(&group, &run, rows, count);
        memcpy(out[step], run.reads[0] + before, 4 * sizeof(struct rmk_read));
    }
    text_group_destroy(&group);
}

static void alone_and_among_eight_mixed_neighbours_a_request_has_the_same_bits(void **state)
{
    (void)state;
    for (unsigned b = 0; b < TEXT_BACKEND_COUNT; b++) {
        for (uint32_t size = 1; size <= 2; size++) {
            for (unsigned guided = 0; guided < 2; guided++) {
                struct rmk_read alone[3][4];
                struct rmk_read together[3][4];
                run_company(&text_backends[b], size, 1 << 4, guided == 1, alone);
                run_company(&text_backends[b], size, 0x1ff, guided == 1, together);
                assert_memory_equal(alone, together, sizeof(alone));
                assert_memory_not_equal(alone[1], alone[2], sizeof(alone[1]));
            }
        }
    }
}

static void a_poisoned_window_is_marked_and_the_others_are_good(void **state)
{
    struct text_poison checkpoint;

    (void)state;
    text_poison_make(&checkpoint);
    for (unsigned b = 0; b < TEXT_BACKEND_COUNT; b++) {
        struct text_group group;
        struct text_run good;
        struct text_run mixed;
        const struct rmk_update poison = {.position = 16, .id = TEXT_POISON};
        const struct rmk_update cure = {.position = 16, .id = text_spec.text.mask_id};
        struct rmk_row rows[3] = {full_row(0, true), full_row(1, true), full_row(2, true)};

        create(&group, &text_backends[b], 2);
        for (uint32_t slot = 0; slot < 3; slot++) {
            opens(&group, slot, PROMPT, GEN, false);
        }
        text_runs(&group, &good, rows, 3);
        for (uint32_t slot = 0; slot < 3; slot++) {
            rows[slot] = window_row(slot, 12, 18);
        }
        text_poisons_the_middle(&group, rows, &poison, 4, &good, &mixed);
        /* The poison is in the extent until a refresh, and nowhere after it. */
        rows[1].updates = &cure;
        rows[1].window_end = 16;
        rows[1].read_count = 3;
        text_runs(&group, &mixed, rows, 3);
        assert_true(mixed.poisoned[0][1]);
        rows[1] = full_row(1, true);
        text_runs(&group, &mixed, rows, 3);
        rows[1] = window_row(1, 12, 18);
        text_runs(&group, &mixed, rows, 3);
        assert_memory_equal(mixed.reads[0], good.reads[0], sizeof(good.reads[0]));
        text_group_destroy(&group);
    }
    text_poison_remove(&checkpoint);
}

/* -- room
 * ------------------------------------------------------------------------------------------ */

static void closed_requests_make_room_and_scattered_room_is_put_together(void **state)
{
    (void)state;
    for (unsigned b = 0; b < TEXT_BACKEND_COUNT; b++) {
        struct text_group group;
        struct text_request request;
        struct text_run before;
        struct text_run after;
        uint32_t slot;
        struct rmk_row refresh = full_row(1, true);
        struct rmk_row window = window_row(1, PROMPT, TOTAL);

        create_with(&group, &text_backends[b], 2, 260);
        /* Of 260 rows: 96, 42, 96, and 26 are left. */
        opens(&group, 0, 40, 8, true);
        opens(&group, 1, PROMPT, GEN, true);
        opens(&group, 2, 40, 8, true);
        text_refuses(&group, text_open_on, text_request_of(&request, 3, 20, 7, false), RMK_ELIMIT,
                     "no room to keep keys and values of 27 rows: 234 of 260 are taken");
        /* The second extent does not fit, so the first is given back; without extents there is
         * room always. */
        text_refuses(&group, text_open_on, text_request_of(&request, 3, 10, 10, true), RMK_ELIMIT,
                     "254 of 260 are taken");
        text_request_of(&request, 3, 20, 7, false)->kv = false;
        assert_int_equal(text_group_call(&group, text_open_on, &request.open), RMK_OK);
        text_refuses_row(&group, full_row(3, true), RMK_EINVAL, "slot 3 was not opened to keep");
        opens(&group, 4, 20, 6, false);

        refresh.cfg_scale = 1;
        window.cfg_scale = 1;
        text_runs(&group, &before, &refresh, 1);
        text_runs(&group, &before, &window, 1);
        slot = 0;
        assert_int_equal(text_group_call(&group, text_close_on, &slot), RMK_OK);
        slot = 2;
        assert_int_equal(text_group_call(&group, text_close_on, &slot), RMK_OK);
        /* Free are 96 rows below slot 1 and 96 above. Four times 40 leave 16 in each, and who
         * wants 32 gets them: five extents slide down by less than their length. */
        for (slot = 5; slot < 9; slot++) {
            opens(&group, slot, 32, 8, false);
        }
        assert_int_equal(group.ranks[0].runner->slots[1].kept[0].kv.begin, 96);
        opens(&group, 9, 20, 12, false);
        assert_int_equal(group.ranks[0].runner->slots[1].kept[0].kv.begin, 80);
        text_runs(&group, &after, &window, 1);
        assert_memory_equal(after.reads[0], before.reads[0], sizeof(before.reads[0]));
        /* Opened anew, the slot knows nothing of before. */
        slot = 1;
        assert_int_equal(text_group_call(&group, text_close_on, &slot), RMK_OK);
        opens(&group, 1, PROMPT, GEN, true);
        text_refuses_row(&group, window, RMK_EINVAL, "slot 1: nothing is kept yet");
        text_runs(&group, &after, &refresh, 1);
        text_runs(&group, &after, &window, 1);
        assert_memory_equal(after.reads[0], before.reads[0], sizeof(before.reads[0]));
        /* A new group has all its room. */
        for (uint32_t rank = 0; rank < 2; rank++) {
            rmk_runner_set_comm(group.ranks[rank].runner, group.ranks[rank].comm);
        }
        for (slot = 0; slot < 5; slot++) {
            opens(&group, slot, 40, 8, false);
        }
        text_group_destroy(&group);
    }
}

static void rows_that_need_what_is_not_kept_are_refused(void **state)
{
    struct text_group group;
    struct text_run run;

    (void)state;
    create(&group, &text_backends[1], 2);
    opens(&group, 0, PROMPT, GEN, false);
    text_refuses_row(&group, window_row(0, 12, 18), RMK_EINVAL, "slot 0: nothing is kept yet");
    struct rmk_row row = full_row(0, false);
    text_runs(&group, &run, &row, 1);
    text_refuses_row(&group, window_row(0, 12, 18), RMK_EINVAL, "slot 0: nothing is kept yet");
    row.keep = true;
    text_runs(&group, &run, &row, 1);
    row.cfg_scale = 1;
    text_refuses_row(&group, row, RMK_EINVAL, "for its guidance pass");
    row = window_row(0, 12, 18);
    row.cfg_scale = 1;
    text_refuses_row(&group, row, RMK_EINVAL, "for its guidance pass");
    text_refuses_row(&group, window_row(0, 13, 18), RMK_EINVAL,
                     "read of position 12, but the window is [13, 18)");
    text_refuses_row(&group, window_row(0, 12, 17), RMK_EINVAL, "read of position 17");
    text_refuses_row(&group, window_row(0, 12, 12), RMK_EINVAL, "window [12, 12) of 21 rows");
    text_refuses_row(&group, window_row(0, 12, TOTAL + 1), RMK_EINVAL, "window [12, 22)");
    row = full_row(0, false);
    row.kind = (enum rmk_row_kind)7;
    text_refuses_row(&group, row, RMK_EINVAL, "unknown kind 7");
    row = window_row(0, 12, 18);
    text_runs(&group, &run, &row, 1);
    text_group_destroy(&group);
}

static void measuring_leaves_no_trace_and_says_something_of_each(void **state)
{
    (void)state;
    for (unsigned kv = 0; kv < 2; kv++) {
        struct text_group group;
        struct text_run measured;
        struct text_run plain;
        struct rmk_runner_cost cost;
        struct rmk_row row = full_row(0, false);

        create_with(&group, &text_backends[1], 1, kv == 1 ? ROWS_MAX : 0);
        assert_int_equal(rmk_runner_measure(group.ranks[0].runner, &cost, NULL), RMK_OK);
        assert_true(cost.full_row_ns > 0);
        assert_true(cost.round_ns > 0);
        assert_true((cost.window_row_ns > 0) == (kv == 1));
        if (kv == 1) {
            opens(&group, 1, ROWS_MAX - 1, 1, false); /* all room is free again */
        }
        struct text_request request;
        text_request_of(&request, 0, PROMPT, GEN, false)->kv = false;
        assert_int_equal(text_group_call(&group, text_open_on, &request.open), RMK_OK);
        text_runs(&group, &measured, &row, 1);
        text_group_destroy(&group);
        create(&group, &text_backends[1], 1);
        opens(&group, 0, PROMPT, GEN, false);
        text_runs(&group, &plain, &row, 1);
        assert_memory_equal(measured.reads[0], plain.reads[0], sizeof(plain.reads[0]));
        text_group_destroy(&group);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_refresh_gives_the_bits_of_a_forward_that_keeps_nothing,
                               text_runs_spec),
        cmocka_unit_test_setup(windows_equal_a_slow_forward_over_what_was_kept, text_runs_spec),
        cmocka_unit_test_setup(alone_and_among_eight_mixed_neighbours_a_request_has_the_same_bits,
                               text_runs_spec),
        cmocka_unit_test_setup(a_poisoned_window_is_marked_and_the_others_are_good, text_runs_spec),
        cmocka_unit_test_setup(closed_requests_make_room_and_scattered_room_is_put_together,
                               text_runs_spec),
        cmocka_unit_test_setup(rows_that_need_what_is_not_kept_are_refused, text_runs_spec),
        cmocka_unit_test_setup(measuring_leaves_no_trace_and_says_something_of_each,
                               text_runs_spec),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
