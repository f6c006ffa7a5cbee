/* worker/text/runner.c on a small model of dummy weights: numbers of ranks, neighbours, updates,
 * guidance, poison. The official program's numbers are in test_runner_golden.c. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/dummy_model.h"
#include "tests/support/text_group.h"

enum { SLOTS = 10, ROWS_MAX = 64, READS_MAX = 64, VOCAB = 51, WIDTH = 40 };

static struct rmk_spec spec;

static const struct backend {
    const char *name;
    enum rmk_dtype act;
} backends[] = {{"ref", RMK_F32}, {"cpu", RMK_F32}, {"cpu", RMK_BF16}};
enum { BACKEND_COUNT = sizeof(backends) / sizeof(backends[0]) };

static void create(struct text_group *group, const struct backend *backend, uint32_t size)
{
    *group = (struct text_group){
        .device = {.backend = backend->name, .act = backend->act, .threads = 1},
        .runner = {.spec = &spec,
                   .slot_count = SLOTS,
                   .rows_max = ROWS_MAX,
                   .step_rows_max = SLOTS * ROWS_MAX,
                   .reads_max = READS_MAX,
                   .load_dummy = true,
                   .dummy_seed = DUMMY_SEED},
    };
    if (text_group_create(group, size) != RMK_OK) {
        fail_msg("%s, %u ranks: %s", backend->name, size, text_group_why(group));
    }
}

static int make_spec(void **state)
{
    (void)state;
    spec = dummy_spec();
    return 0;
}

/* -- calls on every rank
 * --------------------------------------------------------------------------- */

static enum rmk_err open_on(struct text_rank *rank, void *argument)
{
    return rmk_runner_open(rank->runner, argument, &rank->why);
}

struct run {
    const struct rmk_row *rows;
    uint32_t row_count;
    /* by rank: every rank must fill the same bytes */
    struct rmk_read reads[TEXT_GROUP_MAX][READS_MAX];
    bool poisoned[TEXT_GROUP_MAX][SLOTS];
};

static enum rmk_err run_on(struct text_rank *rank, void *argument)
{
    struct run *run = argument;

    return rmk_runner_run(rank->runner, run->rows, run->row_count, run->reads[rank->rank],
                          run->poisoned[rank->rank], &rank->why);
}

struct logits {
    uint32_t slot;
    const uint32_t *positions;
    uint32_t count;
    float values[TEXT_GROUP_MAX][8 * VOCAB];
};

static enum rmk_err logits_on(struct text_rank *rank, void *argument)
{
    struct logits *logits = argument;

    return rmk_runner_logits(rank->runner, logits->slot, logits->positions, logits->count,
                             logits->values[rank->rank], &rank->why);
}

static void runs(struct text_group *group, struct run *run, const struct rmk_row *rows,
                 uint32_t row_count)
{
    *run = (struct run){.rows = rows, .row_count = row_count};
    if (text_group_call(group, run_on, run) != RMK_OK) {
        fail_msg("%s", text_group_why(group));
    }
    for (uint32_t rank = 1; rank < group->size; rank++) {
        assert_memory_equal(run->reads[rank], run->reads[0], sizeof(run->reads[0]));
        assert_memory_equal(run->poisoned[rank], run->poisoned[0], sizeof(run->poisoned[0]));
    }
}

/* -- requests
 * -------------------------------------------------------------------------------------- */

/* A request of `prompt` ids made from `salt`, `gen` masks, and a suffix of one id. */
static void opens(struct text_group *group, uint32_t slot, uint32_t prompt, uint32_t gen,
                  uint32_t salt)
{
    int32_t ids[ROWS_MAX];
    const int32_t suffix[1] = {7};

    for (uint32_t i = 0; i < prompt; i++) {
        ids[i] = (int32_t)((i * 17 + salt * 5 + 3) % 49);
    }
    struct rmk_layout layout[2] = {{.ids = ids, .rows = prompt / 2},
                                   {.ids = ids + prompt / 2, .rows = prompt - prompt / 2}};
    struct rmk_open open = {.slot = slot,
                            .prompt_rows = prompt,
                            .layout = layout,
                            .layout_count = 2,
                            .gen_length = gen,
                            .suffix = suffix,
                            .suffix_count = 1};
    if (text_group_call(group, open_on, &open) != RMK_OK) {
        fail_msg("%s", text_group_why(group));
    }
}

static const uint32_t reads_of_9[4] = {9, 10, 12, 13};

/* A row that reads four positions of a request with a prompt of 9. */
static struct rmk_row row_of(uint32_t slot)
{
    return (struct rmk_row){
        .slot = slot, .reads = reads_of_9, .read_count = 4, .forward = 3, .seed = 11};
}

/* -- tests
 * ----------------------------------------------------------------------------------------- */

static void any_number_of_ranks_gives_the_same_guesses(void **state)
{
    (void)state;
    for (unsigned b = 0; b < BACKEND_COUNT; b++) {
        struct run whole;
        struct run cut;
        struct logits whole_logits = {.slot = 1, .positions = reads_of_9, .count = 4};
        struct logits cut_logits = whole_logits;
        struct rmk_row rows[3] = {row_of(1), row_of(2), row_of(4)};
        rows[1].cfg_scale = 1.5f;
        rows[2].noise = RMK_NOISE_PHILOX;
        rows[2].temperature = 0.7;
        for (uint32_t size = 1; size <= 5; size += size == 3 ? 2 : 1) {
            struct text_group group;
            create(&group, &backends[b], size);
            for (uint32_t slot = 1; slot <= 4; slot++) {
                opens(&group, slot, 9, 6, slot);
            }
            runs(&group, size == 1 ? &whole : &cut, rows, 3);
            struct logits *logits = size == 1 ? &whole_logits : &cut_logits;
            assert_int_equal(text_group_call(&group, logits_on, logits), RMK_OK);
            text_group_destroy(&group);
            if (size == 1) {
                continue;
            }
            /* Sums over columns run in another order: seen up to 6e-8 of logits around 0.1. bf16:
             * nothing seen, but where a sum crosses a rounding boundary of the last norm, one
             * flip moves a logit by up to 8e-5. A wrong slice moves logits by their own size. */
            const double tolerance = backends[b].act == RMK_BF16 ? 2e-3 : 2e-6;
            for (uint32_t i = 0; i < 4 * VOCAB; i++) {
                double difference =
                    fabs((double)whole_logits.values[0][i] - (double)cut_logits.values[0][i]);
                if (!(difference <= tolerance)) {
                    fail_msg("%s, %u ranks, logit %u: %g, not %g", backends[b].name, size, i,
                             (double)cut_logits.values[0][i], (double)whole_logits.values[0][i]);
                }
            }
            for (uint32_t i = 0; i < 12 && backends[b].act == RMK_F32; i++) {
                assert_int_equal(cut.reads[0][i].token, whole.reads[0][i].token);
                assert_true(fabs(cut.reads[0][i].confidence - whole.reads[0][i].confidence) < 1e-7);
            }
        }
    }
}

static void a_request_alone_and_among_eight_others_gives_the_same_bits(void **state)
{
    (void)state;
    for (unsigned b = 0; b < BACKEND_COUNT; b++) {
        for (uint32_t size = 1; size <= 2; size++) {
            struct text_group group;
            struct run alone[3];
            struct run together;
            struct rmk_row rows[9];
            const uint32_t one_read[1] = {2};

            create(&group, &backends[b], size);
            /* Odd lengths, so that the rows of a request begin anywhere in a tile. */
            for (uint32_t slot = 0; slot < 9; slot++) {
                opens(&group, slot, slot % 3 == 1 ? 9 : 3 + 5 * slot, 6, slot);
            }
            for (uint32_t i = 0; i < 9; i++) {
                rows[i] = (struct rmk_row){.slot = i, .reads = one_read, .read_count = 1};
            }
            rows[1] = row_of(1);
            rows[4] = row_of(4);
            rows[4].cfg_scale = 0.5f;
            rows[7] = row_of(7);
            rows[7].noise = RMK_NOISE_PHILOX;
            rows[7].temperature = 1.0;
            rows[8].cfg_scale = 2.0f;
            for (uint32_t i = 0; i < 3; i++) {
                runs(&group, &alone[i], &rows[1 + 3 * i], 1);
            }
            runs(&group, &together, rows, 9);
            for (uint32_t i = 0; i < 3; i++) {
                /* reads before slot 1, 4, 7: one for each plain row, four for each of ours */
                const struct rmk_read *mine = together.reads[0] + (1 + 3 * i) + 3 * i;
                for (uint32_t j = 0; j < 4; j++) {
                    assert_int_equal(mine[j].token, alone[i].reads[0][j].token);
                    assert_memory_equal(&mine[j].confidence, &alone[i].reads[0][j].confidence,
                                        sizeof(double));
                }
            }
            text_group_destroy(&group);
        }
    }
}

static void an_update_is_as_if_the_request_had_been_opened_with_it(void **state)
{
    (void)state;
    for (unsigned b = 0; b < 2; b++) {
        struct text_group group;
        struct run fresh;
        struct run updated;
        float rows[2][16][WIDTH];

        create(&group, &backends[b], 2);
        opens(&group, 0, 9, 6, 1);
        opens(&group, 1, 9, 6, 2);
        /* Turn request 1 into request 0, in more updates than go at once, the last of a position
         * counting. */
        enum { COUNT = 300 + 9 };
        struct rmk_update *updates = calloc(COUNT, sizeof(*updates));
        assert_non_null(updates);
        for (uint32_t i = 0; i < 300; i++) {
            updates[i] = (struct rmk_update){.position = i % 9, .id = (int32_t)(i % VOCAB)};
        }
        for (uint32_t i = 0; i < 9; i++) {
            updates[300 + i] =
                (struct rmk_update){.position = i, .id = (int32_t)((i * 17 + 5 + 3) % 49)};
        }
        struct rmk_row row = row_of(0);
        runs(&group, &fresh, &row, 1);
        row = row_of(1);
        row.updates = updates;
        row.update_count = COUNT;
        runs(&group, &updated, &row, 1);
        assert_memory_equal(fresh.reads[0], updated.reads[0], 4 * sizeof(struct rmk_read));
        for (uint32_t slot = 0; slot < 2; slot++) {
            assert_int_equal(
                rmk_runner_embeddings(group.ranks[1].runner, slot, 0, 16, &rows[slot][0][0], NULL),
                RMK_OK);
        }
        assert_memory_equal(rows[0], rows[1], sizeof(rows[0]));
        free(updates);
        text_group_destroy(&group);
    }
}

/* The official mixing, written out: un + (scale + 1) (cond - un) in fp32, over columns that are not
 * suppressed. */
static void guidance_mixes_a_forward_without_the_prompt(void **state)
{
    struct text_group group;
    struct run guided;
    struct logits cond = {.slot = 0, .positions = reads_of_9, .count = 4};
    struct logits uncond = {.slot = 1, .positions = reads_of_9, .count = 4};
    int32_t masks[9];
    const int32_t suffix[1] = {7};

    (void)state;
    create(&group, &backends[0], 2);
    opens(&group, 0, 9, 6, 1);
    for (uint32_t i = 0; i < 9; i++) {
        masks[i] = spec.text.mask_id;
    }
    struct rmk_layout layout = {.ids = masks, .rows = 9};
    struct rmk_open open = {.slot = 1,
                            .prompt_rows = 9,
                            .layout = &layout,
                            .layout_count = 1,
                            .gen_length = 6,
                            .suffix = suffix,
                            .suffix_count = 1};
    assert_int_equal(text_group_call(&group, open_on, &open), RMK_OK);
    assert_int_equal(text_group_call(&group, logits_on, &cond), RMK_OK);
    assert_int_equal(text_group_call(&group, logits_on, &uncond), RMK_OK);
    struct rmk_row row = row_of(0);
    row.cfg_scale = 1.5f;
    runs(&group, &guided, &row, 1);
    for (uint32_t i = 0; i < 4; i++) {
        int32_t best = -1;
        double sum = 0;
        float mixed[VOCAB];
        for (int32_t id = 0; id < VOCAB; id++) {
            float un = uncond.values[0][i * VOCAB + (uint32_t)id];
            float c = cond.values[0][i * VOCAB + (uint32_t)id];
            mixed[id] = un + (1.5f + 1.0f) * (c - un);
            if (id == 0 || id == 1 || id == 26) {
                continue;
            }
            best = best < 0 || mixed[id] > mixed[best] ? id : best;
            sum += exp((double)mixed[id]);
        }
        assert_int_equal(guided.reads[0][i].token, best);
        assert_true(fabs(guided.reads[0][i].confidence - exp((double)mixed[best]) / sum) < 1e-9);
    }
    text_group_destroy(&group);
}

static void raw_logits_hold_every_column_and_agree_with_the_reads(void **state)
{
    struct text_group group;
    struct run run;
    struct logits logits = {.slot = 0, .positions = reads_of_9, .count = 4};

    (void)state;
    create(&group, &backends[1], 3);
    opens(&group, 0, 9, 6, 1);
    struct rmk_row row = row_of(0);
    runs(&group, &run, &row, 1);
    assert_int_equal(text_group_call(&group, logits_on, &logits), RMK_OK);
    for (uint32_t rank = 1; rank < 3; rank++) {
        assert_memory_equal(logits.values[rank], logits.values[0], sizeof(logits.values[0]));
    }
    for (uint32_t i = 0; i < 4; i++) {
        int32_t best = 2;
        double sum = 0;
        for (int32_t id = 2; id < VOCAB; id++) {
            if (id != 26) {
                best = logits.values[0][i * VOCAB + (uint32_t)id] >
                               logits.values[0][i * VOCAB + (uint32_t)best]
                           ? id
                           : best;
                sum += exp((double)logits.values[0][i * VOCAB + (uint32_t)id]);
            }
        }
        assert_int_equal(run.reads[0][i].token, best);
        double confidence = exp((double)logits.values[0][i * VOCAB + (uint32_t)best]) / sum;
        assert_true(fabs(run.reads[0][i].confidence - confidence) < 1e-6);
    }
    text_group_destroy(&group);
}

struct picture {
    struct rmk_open open;
    struct rmk_layout layout[3];
    float *features;
};

/* Only rank 0 has the features. */
static enum rmk_err open_picture_on(struct text_rank *rank, void *argument)
{
    struct picture *picture = argument;
    struct rmk_layout layout[3];
    struct rmk_open open = picture->open;

    memcpy(layout, picture->layout, sizeof(layout));
    layout[1].features = rank->rank == 0 ? picture->features : NULL;
    open.layout = layout;
    return rmk_runner_open(rank->runner, &open, &rank->why);
}

static void features_of_rank_0_reach_every_rank_and_bad_ones_leave_the_slot_free(void **state)
{
    enum { PICTURE = 30 };
    const int32_t ids[4] = {3, 4, 5, 6};
    float features[PICTURE * WIDTH];
    struct picture picture = {
        .open = {.slot = 2, .prompt_rows = 4 + PICTURE, .layout_count = 3, .gen_length = 2},
        .layout = {{.ids = ids, .rows = 3}, {.rows = PICTURE}, {.ids = ids + 3, .rows = 1}},
        .features = features,
    };

    (void)state;
    for (uint32_t i = 0; i < PICTURE * WIDTH; i++) {
        features[i] = (float)i * 0.001f - 0.4f;
    }
    for (uint32_t size = 1; size <= 2; size++) {
        struct text_group group;
        float rows[PICTURE + 2][WIDTH];
        create(&group, &backends[1], size);
        features[29 * WIDTH + 7] = NAN;
        assert_int_equal(text_group_call(&group, open_picture_on, &picture), RMK_EINTERNAL);
        for (uint32_t rank = 0; rank < size; rank++) {
            assert_int_equal(group.ranks[rank].err, RMK_EINTERNAL);
            assert_string_equal(group.ranks[rank].why.text,
                                "row 29 of a picture's features is not finite");
        }
        features[29 * WIDTH + 7] = 0.5f;
        assert_int_equal(text_group_call(&group, open_picture_on, &picture), RMK_OK);
        for (uint32_t rank = 0; rank < size; rank++) {
            assert_int_equal(rmk_runner_embeddings(group.ranks[rank].runner, 2, 2, PICTURE + 2,
                                                   &rows[0][0], NULL),
                             RMK_OK);
            assert_memory_equal(rows[1], features, sizeof(features));
            float value = rmk_dummy_f32(rmk_dummy_seed(DUMMY_SEED, "model.embed_tokens.weight"),
                                        6 * WIDTH + 1);
            assert_memory_equal(&rows[PICTURE + 1][1], &value, sizeof(value));
        }
        text_group_destroy(&group);
    }
}

static void a_poisoned_row_is_marked_and_the_others_are_good(void **state)
{
    char dir[] = "/tmp/remask-runner-XXXXXX";
    char path[64];

    (void)state;
    assert_non_null(mkdtemp(dir));
    /* Token 40 embeds to NaN: whoever uses it is lost. */
    assert_int_equal(dummy_checkpoint(dir, &spec.text, 0, "model.embed_tokens.weight", 40), 0);
    (void)snprintf(spec.dir, sizeof(spec.dir), "%s", dir);
    for (unsigned b = 0; b < BACKEND_COUNT; b++) {
        for (uint32_t size = 1; size <= 2; size++) {
            struct text_group group = {
                .device = {.backend = backends[b].name, .act = backends[b].act, .threads = 1},
                .runner = {.spec = &spec,
                           .slot_count = SLOTS,
                           .rows_max = ROWS_MAX,
                           .step_rows_max = SLOTS * ROWS_MAX,
                           .reads_max = READS_MAX},
            };
            struct run good;
            struct run mixed;
            const struct rmk_update poison = {.position = 4, .id = 40};
            struct rmk_row rows[3] = {row_of(0), row_of(1), row_of(2)};
            assert_int_equal(text_group_create(&group, size), RMK_OK);
            for (uint32_t slot = 0; slot < 3; slot++) {
                opens(&group, slot, 9, 6, 3 * slot); /* no 40 among these ids */
            }
            runs(&group, &good, rows, 3);
            assert_false(good.poisoned[0][0] || good.poisoned[0][1] || good.poisoned[0][2]);
            rows[1].updates = &poison;
            rows[1].update_count = 1;
            runs(&group, &mixed, rows, 3);
            assert_false(mixed.poisoned[0][0]);
            assert_true(mixed.poisoned[0][1]);
            assert_false(mixed.poisoned[0][2]);
            assert_memory_equal(mixed.reads[0], good.reads[0], 4 * sizeof(struct rmk_read));
            assert_memory_equal(mixed.reads[0] + 8, good.reads[0] + 8, 4 * sizeof(struct rmk_read));
            text_group_destroy(&group);
        }
    }
    (void)snprintf(path, sizeof(path), "%s/model.safetensors", dir);
    (void)unlink(path);
    (void)rmdir(dir);
}

static void refuses_row(struct text_group *group, struct rmk_row row, enum rmk_err wanted,
                        const char *sentence)
{
    struct run run = {.rows = &row, .row_count = 1};

    enum rmk_err err = text_group_call(group, run_on, &run);
    if (err != wanted || strstr(text_group_why(group), sentence) == NULL) {
        fail_msg("wanted %s with '%s', got %s with '%s'", rmk_err_name(wanted), sentence,
                 rmk_err_name(err), text_group_why(group));
    }
}

static void rows_that_make_no_sense_are_refused_and_change_nothing(void **state)
{
    struct text_group group;
    struct run before;
    struct run after;
    const uint32_t twice[2] = {9, 9};
    const uint32_t beyond[1] = {16};
    uint32_t many[READS_MAX / 4];
    const struct rmk_update bad_id = {.position = 1, .id = VOCAB};
    const struct rmk_update bad_position = {.position = 16, .id = 1};

    (void)state;
    create(&group, &backends[1], 2);
    opens(&group, 0, 9, 6, 1);
    struct rmk_row good = row_of(0);
    runs(&group, &before, &good, 1);

    struct rmk_row row = row_of(1);
    refuses_row(&group, row, RMK_EINVAL, "slot 1 is not open");
    row = row_of(SLOTS);
    refuses_row(&group, row, RMK_EINVAL, "slot 10 is not open");
    row = row_of(0);
    row.keep = true;
    refuses_row(&group, row, RMK_EINVAL, "slot 0 was not opened to keep");
    row = row_of(0);
    row.cfg_scale = NAN;
    refuses_row(&group, row, RMK_EINVAL, "not finite");
    row = row_of(0);
    row.temperature = INFINITY;
    refuses_row(&group, row, RMK_EINVAL, "not finite");
    row = row_of(0);
    row.reads = twice;
    row.read_count = 2;
    refuses_row(&group, row, RMK_EINVAL, "out of order");
    row.reads = beyond;
    row.read_count = 1;
    refuses_row(&group, row, RMK_EINVAL, "position 16");
    row = row_of(0);
    row.updates = &bad_id;
    row.update_count = 1;
    refuses_row(&group, row, RMK_EINVAL, "token 51 lies outside the vocabulary of 51");
    row.updates = &bad_position;
    refuses_row(&group, row, RMK_EINVAL, "update of position 16");

    struct rmk_row rows[2] = {good, good};
    struct run run = {.rows = rows, .row_count = 2};
    assert_int_equal(text_group_call(&group, run_on, &run), RMK_EINVAL);

    /* More reads than fit: five rows of sixteen. */
    for (uint32_t i = 0; i < READS_MAX / 4; i++) {
        many[i] = i;
    }
    struct rmk_row crowd[5];
    for (uint32_t i = 0; i < 5; i++) {
        if (i > 0) {
            opens(&group, i, 9, 6, i);
        }
        crowd[i] = (struct rmk_row){.slot = i, .reads = many, .read_count = READS_MAX / 4};
    }
    run = (struct run){.rows = crowd, .row_count = 5};
    assert_int_equal(text_group_call(&group, run_on, &run), RMK_ELIMIT);
    assert_string_equal(text_group_why(&group), "a step that reads 80 positions, at most 64 fit");

    /* More rows than fit: all slots full length with guidance. */
    for (uint32_t i = 5; i < SLOTS; i++) {
        opens(&group, i, ROWS_MAX - 7, 6, i);
    }
    struct rmk_row all[SLOTS];
    for (uint32_t i = 0; i < SLOTS; i++) {
        all[i] = (struct rmk_row){.slot = i, .cfg_scale = 1};
    }
    run = (struct run){.rows = all, .row_count = SLOTS};
    assert_int_equal(text_group_call(&group, run_on, &run), RMK_ELIMIT);

    runs(&group, &after, &good, 1);
    assert_memory_equal(before.reads[0], after.reads[0], 4 * sizeof(struct rmk_read));

    /* Nothing to run, and nothing to read, are fine. */
    runs(&group, &after, NULL, 0);
    row = row_of(0);
    row.read_count = 0;
    runs(&group, &after, &row, 1);
    text_group_destroy(&group);
}

static void refuses_open(struct text_group *group, struct rmk_open open, enum rmk_err wanted,
                         const char *sentence)
{
    enum rmk_err err = text_group_call(group, open_on, &open);

    if (err != wanted || strstr(text_group_why(group), sentence) == NULL) {
        fail_msg("wanted %s with '%s', got %s with '%s'", rmk_err_name(wanted), sentence,
                 rmk_err_name(err), text_group_why(group));
    }
}

static void opens_that_make_no_sense_are_refused(void **state)
{
    struct text_group group;
    const int32_t ids[3] = {1, 2, 3};
    const int32_t bad[3] = {1, -200, 3};
    struct rmk_layout layout = {.ids = ids, .rows = 3};
    struct rmk_layout bad_layout = {.ids = bad, .rows = 3};
    const struct rmk_open good = {
        .slot = 0, .prompt_rows = 3, .layout = &layout, .layout_count = 1, .gen_length = 4};
    struct rmk_open open = good;

    (void)state;
    create(&group, &backends[0], 1);
    open.slot = SLOTS;
    refuses_open(&group, open, RMK_EINVAL, "slot 10");
    open = good;
    open.prompt_rows = 4;
    refuses_open(&group, open, RMK_EINVAL, "the layout has 3 rows, the prompt 4");
    open = good;
    open.gen_length = ROWS_MAX;
    refuses_open(&group, open, RMK_ELIMIT, "67 rows, at most 64 fit");
    open = good;
    open.gen_length = UINT32_MAX;
    refuses_open(&group, open, RMK_ELIMIT, "at most 64 fit");
    open = good;
    open.layout = &bad_layout;
    refuses_open(&group, open, RMK_EINVAL, "token -200 lies outside");
    open = good;
    open.suffix = bad;
    open.suffix_count = 2;
    refuses_open(&group, open, RMK_EINVAL, "token -200 lies outside");
    refuses_open(&group, (struct rmk_open){.slot = 0}, RMK_EINVAL, "no rows");

    assert_int_equal(text_group_call(&group, open_on, (void *)&good), RMK_OK);
    refuses_open(&group, good, RMK_EINVAL, "slot 0 is in use");
    rmk_runner_close(group.ranks[0].runner, 0);
    rmk_runner_close(group.ranks[0].runner, 0);
    rmk_runner_close(group.ranks[0].runner, SLOTS);
    assert_int_equal(text_group_call(&group, open_on, (void *)&good), RMK_OK);
    text_group_destroy(&group);
}

static enum rmk_err run_but_not_rank_1(struct text_rank *rank, void *argument)
{
    if (rank->rank == 1) {
        rmk_runner_set_comm(rank->runner, NULL);
        rmk_comm_destroy(rank->comm);
        rank->comm = NULL;
        return RMK_OK;
    }
    return run_on(rank, argument);
}

static void a_lost_rank_ends_the_run_and_a_new_group_starts_empty(void **state)
{
    struct text_group group;
    struct rmk_row row = row_of(0);
    struct run run = {.rows = &row, .row_count = 1};

    (void)state;
    create(&group, &backends[1], 2);
    opens(&group, 0, 9, 6, 1);
    assert_int_equal(text_group_call(&group, run_but_not_rank_1, &run), RMK_EUNAVAILABLE);
    assert_non_null(strstr(text_group_why(&group), "rank 1"));
    /* Without a group nothing runs; the weights stay. */
    rmk_runner_set_comm(group.ranks[0].runner, NULL);
    assert_int_equal(rmk_runner_run(group.ranks[0].runner, &row, 1, run.reads[0], run.poisoned[0],
                                    &group.ranks[0].why),
                     RMK_EUNAVAILABLE);
    assert_string_equal(group.ranks[0].why.text, "rank 0 has no group");
    refuses_row(&group, row, RMK_EUNAVAILABLE, "has no group");
    text_group_destroy(&group);
}

static void a_new_communicator_knows_no_requests(void **state)
{
    struct text_group group;

    (void)state;
    create(&group, &backends[0], 1);
    opens(&group, 0, 9, 6, 1);
    rmk_runner_set_comm(group.ranks[0].runner, group.ranks[0].comm);
    refuses_row(&group, row_of(0), RMK_EINVAL, "slot 0 is not open");
    opens(&group, 0, 9, 6, 1);
    text_group_destroy(&group);
}

static void what_cannot_be_created_says_why(void **state)
{
    struct rmk_device_options device = {.backend = "ref", .act = RMK_F32};
    struct rmk_runner_options options = {.spec = &spec,
                                         .size = 6,
                                         .slot_count = 1,
                                         .rows_max = 8,
                                         .step_rows_max = 8,
                                         .reads_max = 1,
                                         .load_dummy = true};
    struct rmk_runner *runner = NULL;
    struct rmk_why why = {0};
    char line[256];

    (void)state;
    assert_int_equal(rmk_device_create(&device, &options.device, &why), RMK_OK);
    assert_int_equal(rmk_runner_create(&options, &runner, &why), RMK_EINVAL);
    assert_non_null(strstr(why.text, "6 ranks are more than the model's 5 key/value heads"));
    options.size = 1;
    options.step_rows_max = 7;
    assert_int_equal(rmk_runner_create(&options, &runner, &why), RMK_EINVAL);
    options.step_rows_max = 8;
    spec.text.mask_id = -1;
    assert_int_equal(rmk_runner_create(&options, &runner, &why), RMK_EINVAL);
    assert_string_equal(why.text, "the model is not bound to a tokenizer");
    spec.text.mask_id = 50;
    assert_null(runner);
    assert_int_equal(rmk_runner_create(&options, &runner, &why), RMK_OK);
    rmk_runner_describe(runner, line, sizeof(line));
    assert_non_null(strstr(line, "rank 0 of 1: weights "));
    rmk_runner_destroy(runner);
    rmk_runner_destroy(NULL);
    rmk_device_destroy(options.device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(any_number_of_ranks_gives_the_same_guesses, make_spec),
        cmocka_unit_test_setup(a_request_alone_and_among_eight_others_gives_the_same_bits,
                               make_spec),
        cmocka_unit_test_setup(an_update_is_as_if_the_request_had_been_opened_with_it, make_spec),
        cmocka_unit_test_setup(guidance_mixes_a_forward_without_the_prompt, make_spec),
        cmocka_unit_test_setup(raw_logits_hold_every_column_and_agree_with_the_reads, make_spec),
        cmocka_unit_test_setup(features_of_rank_0_reach_every_rank_and_bad_ones_leave_the_slot_free,
                               make_spec),
        cmocka_unit_test_setup(a_poisoned_row_is_marked_and_the_others_are_good, make_spec),
        cmocka_unit_test_setup(rows_that_make_no_sense_are_refused_and_change_nothing, make_spec),
        cmocka_unit_test_setup(opens_that_make_no_sense_are_refused, make_spec),
        cmocka_unit_test_setup(a_lost_rank_ends_the_run_and_a_new_group_starts_empty, make_spec),
        cmocka_unit_test_setup(a_new_communicator_knows_no_requests, make_spec),
        cmocka_unit_test_setup(what_cannot_be_created_says_why, make_spec),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
