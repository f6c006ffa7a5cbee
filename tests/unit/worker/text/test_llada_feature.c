/* worker/text/llada_feature.c: rows of dLLM-Cache against tests/support/slow_llada.h, which follows
 * the reference specification, section 10, word by word. The official program's own runs are
 * replayed by remask-golden; grouped heads, and guidance with a transfer ratio, it cannot do. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/slow_request.h"

enum { SLOTS = 6, ROWS_MAX = 48, PROMPT = 9, GEN = 12, TOTAL = PROMPT + GEN };

static void create(struct text_group *group, const struct text_backend *backend, uint32_t size)
{
    text_runs_create(group, backend, size,
                     &(struct rmk_runner_options){.slot_count = SLOTS,
                                                  .rows_max = ROWS_MAX,
                                                  .kv_rows_max = 2 * SLOTS * ROWS_MAX,
                                                  .feature_rows_max = 4 * TOTAL});
}

static void opens(struct text_group *group, uint32_t slot, bool feature, bool cfg)
{
    struct text_request request;

    text_request_of(&request, slot, PROMPT, GEN, cfg)->feature = feature;
    if (text_group_call(group, text_open_on, &request.open) != RMK_OK) {
        fail_msg("%s", text_group_why(group));
    }
}

/* All of the answer: rows that are not recomputed keep their guess. */
static const uint32_t reads[GEN] = {9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20};
/* Four rows change at once, so that it matters which are chosen. */
static const struct rmk_update updates[2][4] = {{{.position = 10, .id = 33},
                                                 {.position = 14, .id = 4},
                                                 {.position = 19, .id = 21},
                                                 {.position = 16, .id = 8}},
                                                {{.position = 9, .id = 12},
                                                 {.position = 11, .id = 37},
                                                 {.position = 18, .id = 2},
                                                 {.position = 20, .id = 15}}};

static struct rmk_row feature_row(uint32_t slot, bool refresh_prompt, bool refresh_gen,
                                  double ratio)
{
    return (struct rmk_row){.slot = slot,
                            .kind = RMK_ROW_FEATURE,
                            .refresh_prompt = refresh_prompt,
                            .refresh_gen = refresh_gen,
                            .transfer_ratio = ratio,
                            .reads = reads,
                            .read_count = GEN};
}

/* -- against the slow one
 * -------------------------------------------------------------------------- */

enum { STEPS = 6 };

/* Both, neither, the answer, neither, the prompt, neither; commits before the second and fifth. */
static void make_script(struct rmk_row script[STEPS], double ratio, float cfg_scale)
{
    const bool refresh[STEPS][2] = {{true, true},   {false, false}, {false, true},
                                    {false, false}, {true, false},  {false, false}};

    for (unsigned i = 0; i < STEPS; i++) {
        script[i] = feature_row(2, refresh[i][0], refresh[i][1], ratio);
        script[i].cfg_scale = cfg_scale;
        if (i == 1 || i == 4) {
            script[i].updates = updates[i == 4];
            script[i].update_count = 4;
        }
    }
}

static void compare_script(const struct rmk_row script[STEPS], const char *what)
{
    struct slow_request slow;
    struct rmk_read wanted[STEPS][GEN];

    slow_begin(&slow, &text_spec.text, 2, PROMPT, TOTAL);
    for (unsigned i = 0; i < STEPS; i++) {
        slow_run(&slow, &script[i], wanted[i]);
    }
    slow_end(&slow);
    for (unsigned b = 0; b < 2; b++) {
        for (uint32_t size = 1; size <= 3; size++) {
            struct text_group group;
            struct text_run run;
            create(&group, &text_backends[b], size);
            opens(&group, 0, true, false); /* so that the extents do not begin at 0 */
            opens(&group, 2, true, script[0].cfg_scale > 0);
            for (unsigned i = 0; i < STEPS; i++) {
                text_runs(&group, &run, &script[i], 1);
                for (unsigned j = 0; j < GEN; j++) {
                    assert_int_equal(run.reads[0][j].token, wanted[i][j].token);
                }
                /* fp32 against double; one other row recomputed moves it by more than 1e-5 */
                double difference = slow_difference(run.reads[0], wanted[i], GEN);
                if (!(difference < 1e-6)) {
                    fail_msg("%s, %s, %u ranks, step %u: a confidence differs by %g", what,
                             text_backends[b].name, size, i, difference);
                }
            }
            text_group_destroy(&group);
        }
    }
}

static void refreshes_and_the_least_similar_rows_equal_a_slow_forward(void **state)
{
    const double ratios[5] = {0, 0.25, 0.42, 0.59, 1};

    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        struct rmk_row script[STEPS];
        make_script(script, ratios[i], 0);
        compare_script(script, "plain");
    }
}

static void guidance_chooses_the_rows_of_each_sequence_by_itself(void **state)
{
    struct rmk_row script[STEPS];

    (void)state;
    make_script(script, 0.3, 1.5f);
    compare_script(script, "guided");
}

static void grouped_heads_are_compared_over_all_key_value_heads(void **state)
{
    struct rmk_row script[STEPS];

    (void)state;
    text_spec.text.head_count = 6;
    text_spec.text.kv_head_count = 3;
    text_spec.text.width = 48;
    make_script(script, 0.3, 0.5f);
    compare_script(script, "grouped");
}

/* -- against itself
 * -------------------------------------------------------------------------------- */

static void refreshing_everything_gives_the_bits_of_the_plain_forward(void **state)
{
    const uint32_t all_reads[5] = {3, 12, 13, 15,
                                   17}; /* one in the prompt: a mask may stand there */

    (void)state;
    for (unsigned b = 0; b < TEXT_BACKEND_COUNT; b++) {
        for (uint32_t size = 1; size <= 2; size++) {
            struct text_group group;
            struct text_run plain;
            struct text_run feature;
            create(&group, &text_backends[b], size);
            opens(&group, 2, true, true);
            for (unsigned i = 0; i < 2; i++) {
                struct rmk_row row = feature_row(2, true, true, 0.25);
                row.updates = updates[i];
                row.update_count = 4;
                row.cfg_scale = i == 0 ? 0.5f : 0;
                row.reads = all_reads;
                row.read_count = 5;
                text_runs(&group, &feature, &row, 1);
                row.kind = RMK_ROW_FULL;
                text_runs(&group, &plain, &row, 1);
                assert_memory_equal(plain.reads[0], feature.reads[0], sizeof(plain.reads[0]));
            }
            /* Nothing changes, so nothing kept is stale, the prompt's rows included. */
            struct rmk_row row = feature_row(2, false, false, 0.5);
            row.reads = all_reads;
            row.read_count = 5;
            text_runs(&group, &feature, &row, 1);
            assert_memory_equal(plain.reads[0], feature.reads[0], sizeof(plain.reads[0]));
            text_group_destroy(&group);
        }
    }
}

static void among_equally_similar_rows_the_lowest_are_recomputed(void **state)
{
    /* One row changed, three are recomputed: the changed one, and the first two. */
    const uint32_t chosen[3] = {5, 0, 1};
    const uint32_t *const layers[2] = {chosen, chosen};
    const struct rmk_feature_choice choice = {.rows = layers, .count = 3};

    (void)state;
    text_spec.text.layer_count = 1; /* in a later layer all rows differ a little */
    for (unsigned b = 0; b < TEXT_BACKEND_COUNT; b++) {
        for (uint32_t size = 1; size <= 2; size++) {
            struct text_group group;
            struct text_run run[2];
            create(&group, &text_backends[b], size);
            for (uint32_t i = 0; i < 2; i++) {
                const uint32_t slot = 2;
                opens(&group, slot, true, false);
                struct rmk_row row = feature_row(slot, true, true, 0);
                text_runs(&group, &run[i], &row, 1);
                row = feature_row(slot, false, false, 0.25);
                row.replay = i == 0 ? &choice : NULL;
                row.updates = &updates[0][1];
                row.update_count = 1;
                text_runs(&group, &run[i], &row, 1);
                assert_int_equal(text_group_call(&group, text_close_on, (void *)&slot), RMK_OK);
            }
            assert_memory_equal(run[0].reads[0], run[1].reads[0], sizeof(run[0].reads[0]));
            text_group_destroy(&group);
        }
    }
}

static void alone_and_among_mixed_neighbours_a_feature_request_has_the_same_bits(void **state)
{
    (void)state;
    for (unsigned b = 0; b < TEXT_BACKEND_COUNT; b++) {
        for (uint32_t size = 1; size <= 2; size++) {
            struct rmk_row script[STEPS];
            struct text_run run;
            struct rmk_read alone[STEPS][GEN];
            struct text_group group;

            make_script(script, 0.3, 1.0f);
            create(&group, &text_backends[b], size);
            opens(&group, 2, true, true);
            for (unsigned i = 0; i < STEPS; i++) {
                text_runs(&group, &run, &script[i], 1);
                memcpy(alone[i], run.reads[0], sizeof(alone[i]));
            }
            text_group_destroy(&group);

            create(&group, &text_backends[b], size);
            opens(&group, 0, true, false);
            opens(&group, 1, false, false);
            opens(&group, 2, true, true);
            opens(&group, 3, false, true);
            for (unsigned i = 0; i < STEPS; i++) {
                struct rmk_row rows[4] = {feature_row(0, i % 2 == 0, i % 3 == 0, 0.5),
                                          feature_row(1, false, false, 0), script[i],
                                          feature_row(3, false, false, 0)};
                rows[1].kind = RMK_ROW_FULL;
                rows[3].kind = i == 0 ? RMK_ROW_FULL : RMK_ROW_WINDOW;
                rows[3].keep = true;
                rows[3].cfg_scale = 2;
                rows[3].window_begin = 12;
                rows[3].window_end = 18;
                rows[1].read_count = 3;
                rows[3].reads = reads + 3;
                rows[3].read_count = 6;
                text_runs(&group, &run, rows, 4);
                assert_memory_equal(run.reads[0] + GEN + 3, alone[i], sizeof(alone[i]));
            }
            text_group_destroy(&group);
        }
    }
}

/* -- what goes wrong
 * ------------------------------------------------------------------------------- */

static void a_poisoned_feature_row_is_marked_and_the_others_are_good(void **state)
{
    struct text_poison checkpoint;

    (void)state;
    text_poison_make(&checkpoint);
    for (unsigned b = 0; b < TEXT_BACKEND_COUNT; b++) {
        struct text_group group;
        struct text_run good;
        struct text_run mixed;
        const struct rmk_update poison = {.position = 16, .id = TEXT_POISON};
        struct rmk_row rows[3] = {feature_row(0, true, true, 0), feature_row(1, true, true, 0),
                                  feature_row(2, true, true, 0)};

        create(&group, &text_backends[b], 2);
        for (uint32_t slot = 0; slot < 3; slot++) {
            opens(&group, slot, true, false);
        }
        text_runs(&group, &good, rows, 3);
        for (uint32_t slot = 0; slot < 3; slot++) {
            rows[slot] = feature_row(slot, false, false, 0.5);
        }
        text_poisons_the_middle(&group, rows, &poison, GEN, &good, &mixed);
        text_group_destroy(&group);
    }
    text_poison_remove(&checkpoint);
}

static void feature_rows_that_cannot_be_run_are_refused(void **state)
{
    const uint32_t beyond[1] = {GEN};
    const uint32_t *const layers[2] = {beyond, beyond};
    const struct rmk_feature_choice choice = {.rows = layers, .count = 1};
    struct text_group group;
    struct text_request request;
    struct text_run run;

    (void)state;
    create(&group, &text_backends[1], 2);
    opens(&group, 0, true, false);
    opens(&group, 1, false, false);
    text_refuses_row(&group, feature_row(1, true, true, 0), RMK_EINVAL, "slot 1 was not opened");
    text_refuses_row(&group, feature_row(0, true, false, 0), RMK_EINVAL, "nothing is kept yet");
    text_refuses_row(&group, feature_row(0, false, true, 0), RMK_EINVAL, "nothing is kept yet");
    text_refuses_row(&group, feature_row(0, true, true, 1.5), RMK_EINVAL, "transfer ratio of 1.5");
    text_refuses_row(&group, feature_row(0, true, true, (double)NAN), RMK_EINVAL, "transfer ratio");
    struct rmk_row row = feature_row(0, true, true, 0);
    row.cfg_scale = 1;
    text_refuses_row(&group, row, RMK_EINVAL, "for its guidance pass");
    row.cfg_scale = 0;
    row.replay = &choice;
    text_refuses_row(&group, row, RMK_EINVAL, "recorded row 12 lies beyond the answer's 12");
    row.replay = NULL;
    /* Prompt, then answer: each is kept when it has been refreshed. */
    text_runs(&group, &run, &row, 1);
    row = feature_row(0, false, false, 0);
    text_runs(&group, &run, &row, 1);
    row.kind = RMK_ROW_FULL;
    row.keep = true;
    text_refuses_row(&group, row, RMK_EINVAL, "slot 0 was not opened to keep");
    /* Of 84 rows for features 21 are taken; 42 more fit, and then 42 do not. */
    opens(&group, 2, true, true);
    text_request_of(&request, 3, PROMPT, GEN, true)->feature = true;
    text_refuses(&group, text_open_on, &request.open, RMK_ELIMIT,
                 "no room to keep attention and MLP outputs of 21 rows: 84 of 84 are taken");
    opens(&group, 3, true, false);
    text_group_destroy(&group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(refreshes_and_the_least_similar_rows_equal_a_slow_forward,
                               text_runs_spec),
        cmocka_unit_test_setup(guidance_chooses_the_rows_of_each_sequence_by_itself,
                               text_runs_spec),
        cmocka_unit_test_setup(grouped_heads_are_compared_over_all_key_value_heads, text_runs_spec),
        cmocka_unit_test_setup(refreshing_everything_gives_the_bits_of_the_plain_forward,
                               text_runs_spec),
        cmocka_unit_test_setup(among_equally_similar_rows_the_lowest_are_recomputed,
                               text_runs_spec),
        cmocka_unit_test_setup(alone_and_among_mixed_neighbours_a_feature_request_has_the_same_bits,
                               text_runs_spec),
        cmocka_unit_test_setup(a_poisoned_feature_row_is_marked_and_the_others_are_good,
                               text_runs_spec),
        cmocka_unit_test_setup(feature_rows_that_cannot_be_run_are_refused, text_runs_spec),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
