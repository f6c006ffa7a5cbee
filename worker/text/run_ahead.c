#include "worker/text/run_ahead.h"

#include <stdlib.h>
#include <string.h>

#include "coordinator/engine/ahead.h"

struct rmk_run_ahead {
    const struct rmk_row *asked;
    uint32_t row_count;
    uint32_t forwards;           /* in all */
    uint32_t done;               /* beyond the first */
    struct rmk_canvas *canvases; /* [row_count] */
    uint32_t *log_seen;          /* [row_count]: commits that the slot has been given */
    bool *poisoned;              /* [row_count] */
    struct rmk_row *rows;        /* [row_count] of the next forward */
    struct rmk_update *updates;  /* [row_count][RMK_READS_MAX] of the next forward */
    struct rmk_guess *guesses;   /* [RMK_READS_MAX] */
    /* The trace: forwards one after another, the rows of each one after another. */
    uint32_t *begins;     /* [forwards * row_count + 1]: of a row's part in a forward */
    uint32_t *log_begins; /* [forwards * row_count]: of what a row committed before a forward … */
    uint32_t *log_counts; /* … in its canvas's log */
    uint32_t *positions;
    struct rmk_read *reads;
    uint32_t reads_max;
};

/* A row's part in forward `n` (from 0) beyond the first. */
static uint32_t part_of(const struct rmk_run_ahead *ahead, uint32_t n, uint32_t row)
{
    return n * ahead->row_count + row;
}

static enum rmk_err allocate(struct rmk_run_ahead *ahead, struct rmk_why *why)
{
    const size_t rows = ahead->row_count;
    const struct {
        void **target;
        size_t count;
        size_t size;
    } arrays[] = {
        {(void **)&ahead->canvases, rows, sizeof(*ahead->canvases)},
        {(void **)&ahead->log_seen, rows, sizeof(*ahead->log_seen)},
        {(void **)&ahead->poisoned, rows, sizeof(*ahead->poisoned)},
        {(void **)&ahead->rows, rows, sizeof(*ahead->rows)},
        {(void **)&ahead->updates, rows * RMK_READS_MAX, sizeof(*ahead->updates)},
        {(void **)&ahead->guesses, RMK_READS_MAX, sizeof(*ahead->guesses)},
        {(void **)&ahead->begins, ahead->forwards * rows + 1, sizeof(*ahead->begins)},
        {(void **)&ahead->log_begins, ahead->forwards * rows, sizeof(*ahead->log_begins)},
        {(void **)&ahead->log_counts, ahead->forwards * rows, sizeof(*ahead->log_counts)},
        {(void **)&ahead->positions, ahead->reads_max, sizeof(*ahead->positions)},
        {(void **)&ahead->reads, ahead->reads_max, sizeof(*ahead->reads)},
    };

    for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++) {
        *arrays[i].target = calloc(arrays[i].count, arrays[i].size);
        if (*arrays[i].target == NULL) {
            return rmk_fail(why, RMK_ELIMIT, "no memory to run %zu rows ahead", rows);
        }
    }
    return RMK_OK;
}

static enum rmk_row_kind kind_of(enum rmk_plan_kind kind)
{
    static const enum rmk_row_kind kinds[] = {
        [RMK_PLAN_FULL] = RMK_ROW_FULL,
        [RMK_PLAN_WINDOW] = RMK_ROW_WINDOW,
        [RMK_PLAN_FEATURE] = RMK_ROW_FEATURE,
    };

    return kinds[kind];
}

/* The forward that the canvas asks for next, of the request that `asked` is a forward of. */
static struct rmk_row next_row(const struct rmk_canvas *canvas, const struct rmk_row *asked)
{
    const struct rmk_cache_pass *pass = &canvas->pass;
    struct rmk_row row = *asked;

    row.kind = kind_of(pass->kind);
    row.keep = pass->keep;
    row.window_begin = row.kind == RMK_ROW_WINDOW ? pass->begin : 0;
    row.window_end = row.kind == RMK_ROW_WINDOW ? pass->end : 0;
    row.refresh_prompt = pass->refresh_prompt;
    row.refresh_gen = pass->refresh_gen;
    row.updates = NULL;
    row.update_count = 0;
    row.reads = canvas->reads;
    row.read_count = canvas->read_count;
    row.forward = canvas->forward;
    return row;
}

/* Does the canvas ask for the very forward that the plan has for it? */
static bool is_for(const struct rmk_canvas *canvas, const struct rmk_row *asked)
{
    const struct rmk_row row = next_row(canvas, asked);

    return row.kind == asked->kind && row.keep == asked->keep &&
           row.window_begin == asked->window_begin && row.window_end == asked->window_end &&
           row.refresh_prompt == asked->refresh_prompt && row.refresh_gen == asked->refresh_gen &&
           row.forward == asked->forward && row.read_count == asked->read_count &&
           memcmp(row.reads, asked->reads, row.read_count * sizeof(*row.reads)) == 0;
}

enum rmk_err rmk_run_ahead_create(const struct rmk_row *rows, const struct rmk_ahead *aheads,
                                  uint32_t row_count, uint32_t forwards,
                                  struct rmk_run_ahead **out_ahead, struct rmk_why *why)
{
    struct rmk_run_ahead *ahead = NULL;
    uint64_t reads = 0;
    enum rmk_err err;

    if (row_count == 0 || row_count > RMK_GROUP_SLOTS_MAX || forwards < 2 ||
        forwards > RMK_AHEAD_MAX) {
        err = rmk_fail(why, RMK_EINVAL, "leave for %u forwards of %u rows, at most %d of %d",
                       forwards, row_count, RMK_AHEAD_MAX, RMK_GROUP_SLOTS_MAX);
        goto out;
    }
    for (uint32_t i = 0; i < row_count; i++) {
        reads += (uint64_t)aheads[i].gen_length + aheads[i].prompt_mask_count;
    }
    if (reads * forwards > RMK_AHEAD_READS_MAX) {
        err =
            rmk_fail(why, RMK_ELIMIT, "%u forwards may read %llu positions each, at most %d in all",
                     forwards, (unsigned long long)reads, RMK_AHEAD_READS_MAX);
        goto out;
    }
    ahead = calloc(1, sizeof(*ahead));
    if (ahead == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory to run ahead");
        goto out;
    }
    ahead->asked = rows;
    ahead->row_count = row_count;
    ahead->forwards = forwards;
    ahead->reads_max = (uint32_t)reads * forwards;
    RMK_TRY(allocate(ahead, why));
    for (uint32_t i = 0; i < row_count; i++) {
        RMK_TRY(rmk_ahead_begin(&ahead->canvases[i], &aheads[i], why));
        if (!is_for(&ahead->canvases[i], &rows[i])) {
            err = rmk_fail(why, RMK_EINVAL,
                           "slot %u: a canvas before forward %llu does not ask for this row",
                           rows[i].slot, (unsigned long long)ahead->canvases[i].forward);
            goto out;
        }
    }
    *out_ahead = ahead;
    ahead = NULL;
out:
    rmk_run_ahead_destroy(ahead);
    return err;
}

void rmk_run_ahead_destroy(struct rmk_run_ahead *ahead)
{
    if (ahead == NULL) {
        return;
    }
    free(ahead->canvases);
    free(ahead->log_seen);
    free(ahead->poisoned);
    free(ahead->rows);
    free(ahead->updates);
    free(ahead->guesses);
    free(ahead->begins);
    free(ahead->log_begins);
    free(ahead->log_counts);
    free(ahead->positions);
    free(ahead->reads);
    free(ahead);
}

/* Take a row's guesses. False: its next forward, if there is one, is for the coordinator to order.
 */
static bool commit(struct rmk_run_ahead *ahead, uint32_t row, const struct rmk_read *reads)
{
    struct rmk_canvas *canvas = &ahead->canvases[row];

    for (uint32_t i = 0; i < canvas->read_count; i++) {
        ahead->guesses[i] = (struct rmk_guess){
            .position = (int32_t)((int64_t)canvas->reads[i] - (int64_t)canvas->prompt_rows),
            .token = reads[i].token,
            .confidence = reads[i].confidence,
        };
    }
    (void)rmk_canvas_commit(canvas, ahead->guesses, canvas->read_count);
    return rmk_canvas_next(canvas) && rmk_ahead_may(canvas);
}

/* The next forward of every row, and its place in the trace. */
static void prepare(struct rmk_run_ahead *ahead)
{
    for (uint32_t i = 0; i < ahead->row_count; i++) {
        const struct rmk_canvas *canvas = &ahead->canvases[i];
        struct rmk_update *updates = ahead->updates + (size_t)i * RMK_READS_MAX;
        uint32_t begin = ahead->begins[part_of(ahead, ahead->done, i)];
        uint32_t count = 0;

        ahead->log_begins[part_of(ahead, ahead->done, i)] = ahead->log_seen[i];
        for (; ahead->log_seen[i] < canvas->log_count; ahead->log_seen[i]++) {
            const struct rmk_plan_update *commit = &canvas->log[ahead->log_seen[i]];
            updates[count++] = (struct rmk_update){.position = commit->position, .id = commit->id};
        }
        ahead->log_counts[part_of(ahead, ahead->done, i)] = count;
        ahead->rows[i] = next_row(canvas, &ahead->asked[i]);
        ahead->rows[i].updates = updates;
        ahead->rows[i].update_count = count;
        rmk_assert(canvas->read_count <= ahead->reads_max - begin);
        memcpy(ahead->positions + begin, canvas->reads,
               canvas->read_count * sizeof(*ahead->positions));
        ahead->begins[part_of(ahead, ahead->done, i) + 1] = begin + canvas->read_count;
    }
}

enum rmk_err rmk_run_ahead_run(struct rmk_run_ahead *ahead, struct rmk_runner *runner,
                               const struct rmk_read *reads, const bool *poisoned,
                               struct rmk_why *why)
{
    bool any_poisoned = false;
    enum rmk_err err = RMK_OK;

    for (uint32_t i = 0; i < ahead->row_count; i++) {
        any_poisoned |= poisoned[i];
    }
    while (!any_poisoned && ahead->done + 1 < ahead->forwards) {
        bool goes_on = true;
        for (uint32_t i = 0; i < ahead->row_count; i++) {
            uint32_t count = ahead->canvases[i].read_count;
            goes_on = commit(ahead, i, reads) && goes_on;
            reads += count;
        }
        if (!goes_on) {
            break;
        }
        prepare(ahead);
        struct rmk_read *begin = ahead->reads + ahead->begins[part_of(ahead, ahead->done, 0)];
        RMK_TRY(rmk_runner_run(runner, ahead->rows, ahead->row_count, begin, ahead->poisoned, why));
        for (uint32_t i = 0; i < ahead->row_count; i++) {
            any_poisoned |= ahead->poisoned[i];
        }
        reads = begin;
        ahead->done++;
    }
out:
    return err;
}

uint32_t rmk_run_ahead_count(const struct rmk_run_ahead *ahead, uint32_t row)
{
    return ahead->done - (ahead->poisoned[row] ? 1 : 0);
}

struct rmk_run_ahead_forward rmk_run_ahead_at(const struct rmk_run_ahead *ahead, uint32_t row,
                                              uint32_t forward)
{
    uint32_t part = part_of(ahead, forward, row);
    uint32_t begin = ahead->begins[part];

    return (struct rmk_run_ahead_forward){
        .commits = ahead->canvases[row].log + ahead->log_begins[part],
        .commit_count = ahead->log_counts[part],
        .positions = ahead->positions + begin,
        .reads = ahead->reads + begin,
        .count = ahead->begins[part + 1] - begin,
    };
}

bool rmk_run_ahead_poisoned(const struct rmk_run_ahead *ahead, uint32_t row)
{
    return ahead->poisoned[row];
}
