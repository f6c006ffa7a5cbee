/* Requests on a group of runners: opens, runs, and what every rank must agree on. */
#ifndef RMK_TESTS_SUPPORT_TEXT_RUNS_H
#define RMK_TESTS_SUPPORT_TEXT_RUNS_H

#include "tests/support/text_group.h"

enum { RUNS_READS_MAX = 128, RUNS_ROWS_MAX = 16 };

struct text_run {
    const struct rmk_row *rows;
    uint32_t row_count;
    /* by rank */
    struct rmk_read reads[TEXT_GROUP_MAX][RUNS_READS_MAX];
    bool poisoned[TEXT_GROUP_MAX][RUNS_ROWS_MAX];
};

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
