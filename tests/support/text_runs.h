/* Requests on a group of runners: opens, runs, and what every rank must agree on. */
#ifndef RMK_TESTS_SUPPORT_TEXT_RUNS_H
#define RMK_TESTS_SUPPORT_TEXT_RUNS_H

#include <stdlib.h>
#include <unistd.h>

#include "tests/support/dummy_model.h"
#include "tests/support/text_group.h"

enum { RUNS_READS_MAX = 128, RUNS_ROWS_MAX = 16, RUNS_PROMPT_MAX = 64 };

/* What a test of all backends runs on. */
static const struct text_backend {
    const char *name;
    enum rmk_dtype act;
} text_backends[] = {{"ref", RMK_F32}, {"cpu", RMK_F32}, {"cpu", RMK_BF16}};
enum { TEXT_BACKEND_COUNT = sizeof(text_backends) / sizeof(text_backends[0]) };

/* The model of the tests; its `dir` may be pointed at a checkpoint meanwhile. */
static struct rmk_spec text_spec;

/* A group's setup. */
static inline int text_runs_spec(void **state)
{
    (void)state;
    text_spec = dummy_spec();
    return 0;
}

/* `sizes`: slots, rows and caches; the rest follows. */
static inline void text_runs_create(struct text_group *group, const struct text_backend *backend,
                                    uint32_t size, const struct rmk_runner_options *sizes)
{
    *group = (struct text_group){
        .device = {.backend = backend->name, .act = backend->act, .threads = 1},
        .runner = *sizes,
    };
    group->runner.spec = &text_spec;
    group->runner.step_rows_max = sizes->slot_count * sizes->rows_max;
    group->runner.reads_max = RUNS_READS_MAX;
    group->runner.load_dummy = strcmp(text_spec.dir, "dummy") == 0;
    group->runner.dummy_seed = DUMMY_SEED;
    if (text_group_create(group, size) != RMK_OK) {
        fail_msg("%s, %u ranks: %s", backend->name, size, text_group_why(group));
    }
}

struct text_run {
    const struct rmk_row *rows;
    uint32_t row_count;
    /* by rank */
    struct rmk_read reads[TEXT_GROUP_MAX][RUNS_READS_MAX];
    bool poisoned[TEXT_GROUP_MAX][RUNS_ROWS_MAX];
};

/* A prompt is made from `salt`; ids below 40, none suppressed by dummy_spec but 0, 1 and 26. */
static inline int32_t text_prompt_id(uint32_t salt, uint32_t i)
{
    return (int32_t)((i * 17 + salt * 5 + 3) % 40);
}

struct text_request {
    int32_t ids[RUNS_PROMPT_MAX];
    struct rmk_layout layout;
    struct rmk_open open;
};

/* Slot and salt are the same number. */
static inline struct rmk_open *text_request_of(struct text_request *request, uint32_t slot,
                                               uint32_t prompt, uint32_t gen, bool cfg)
{
    for (uint32_t i = 0; i < prompt; i++) {
        request->ids[i] = text_prompt_id(slot, i);
    }
    request->layout = (struct rmk_layout){.ids = request->ids, .rows = prompt};
    request->open = (struct rmk_open){.slot = slot,
                                      .prompt_rows = prompt,
                                      .layout = &request->layout,
                                      .layout_count = 1,
                                      .gen_length = gen,
                                      .kv = true,
                                      .cfg = cfg};
    return &request->open;
}

static inline enum rmk_err text_open_on(struct text_rank *rank, void *argument)
{
    return rmk_runner_open(rank->runner, argument, &rank->why);
}

static inline enum rmk_err text_run_on(struct text_rank *rank, void *argument)
{
    struct text_run *run = argument;

    return rmk_runner_run(rank->runner, run->rows, run->row_count, run->reads[rank->rank],
                          run->poisoned[rank->rank], &rank->why);
}

static inline enum rmk_err text_close_on(struct text_rank *rank, void *argument)
{
    rmk_runner_close(rank->runner, *(const uint32_t *)argument);
    return RMK_OK;
}

/* Every rank fills the same bytes, or the test fails. */
static inline void text_runs(struct text_group *group, struct text_run *run,
                             const struct rmk_row *rows, uint32_t row_count)
{
    memset(run, 0, sizeof(*run));
    run->rows = rows;
    run->row_count = row_count;
    if (text_group_call(group, text_run_on, run) != RMK_OK) {
        fail_msg("%s", text_group_why(group));
    }
    for (uint32_t rank = 1; rank < group->size; rank++) {
        assert_memory_equal(run->reads[rank], run->reads[0], sizeof(run->reads[0]));
        assert_memory_equal(run->poisoned[rank], run->poisoned[0], sizeof(run->poisoned[0]));
    }
}

/* A checkpoint of the tests' model in which id TEXT_POISON has an embedding that is not a number;
 * text_spec points at it until it is removed. */
enum { TEXT_POISON = 45 };

struct text_poison {
    char dir[64];
};

static inline void text_poison_make(struct text_poison *poison)
{
    (void)snprintf(poison->dir, sizeof(poison->dir), "/tmp/remask-poison-XXXXXX");
    assert_non_null(mkdtemp(poison->dir));
    assert_int_equal(
        dummy_checkpoint(poison->dir, &text_spec.text, 0, "model.embed_tokens.weight", TEXT_POISON),
        0);
    (void)snprintf(text_spec.dir, sizeof(text_spec.dir), "%s", poison->dir);
}

static inline void text_poison_remove(const struct text_poison *poison)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "%s/model.safetensors", poison->dir);
    (void)unlink(path);
    (void)rmdir(poison->dir);
}

/* Three rows run, then again with `poison` in the middle one, which alone is marked: the other two
 * (of `reads` reads each) are as before. The poison stays in rows[1]. */
static inline void text_poisons_the_middle(struct text_group *group, struct rmk_row rows[3],
                                           const struct rmk_update *poison, uint32_t reads,
                                           struct text_run *good, struct text_run *mixed)
{
    text_runs(group, good, rows, 3);
    rows[1].updates = poison;
    rows[1].update_count = 1;
    text_runs(group, mixed, rows, 3);
    assert_false(mixed->poisoned[0][0]);
    assert_true(mixed->poisoned[0][1]);
    assert_false(mixed->poisoned[0][2]);
    assert_memory_equal(mixed->reads[0], good->reads[0], reads * sizeof(struct rmk_read));
    assert_memory_equal(mixed->reads[0] + 2 * reads, good->reads[0] + 2 * reads,
                        reads * sizeof(struct rmk_read));
}

static inline void text_refuses(struct text_group *group,
                                enum rmk_err (*call)(struct text_rank *, void *), void *argument,
                                enum rmk_err wanted, const char *sentence)
{
    enum rmk_err err = text_group_call(group, call, argument);

    for (uint32_t rank = 0; rank < group->size; rank++) {
        if (group->ranks[rank].err != wanted ||
            strstr(group->ranks[rank].why.text, sentence) == NULL) {
            fail_msg("wanted %s with '%s', got %s with '%s'", rmk_err_name(wanted), sentence,
                     rmk_err_name(err), group->ranks[rank].why.text);
        }
    }
}

static inline void text_refuses_row(struct text_group *group, struct rmk_row row,
                                    enum rmk_err wanted, const char *sentence)
{
    struct text_run run = {.rows = &row, .row_count = 1};

    text_refuses(group, text_run_on, &run, wanted, sentence);
}

#endif
