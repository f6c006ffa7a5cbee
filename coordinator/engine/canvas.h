/* The official decoding loop of one request (reference specification, section 9), turned inside
 * out: the loop stops where it needs the model, and goes on when the guesses are there.
 *
 *     while (rmk_canvas_next(canvas))          steps over finished blocks without a forward, as the
 * loop does reads → model → guesses rmk_canvas_commit(canvas, guesses) rmk_canvas_answer(canvas)
 *
 * Everything that matters for going on after a loss is in here; the model keeps nothing that cannot
 * be made again from `log`. In the library with denoise.c: a worker that runs ahead (ahead.h) goes
 * on with this very code.
 */
#ifndef RMK_COORDINATOR_ENGINE_CANVAS_H
#define RMK_COORDINATOR_ENGINE_CANVAS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/limits.h"
#include "coordinator/engine/cache.h"
#include "coordinator/engine/denoise.h"
#include "coordinator/engine/rules.h"

struct rmk_submit;

enum {
    RMK_READS_MAX = RMK_RULE_GUESSES_MAX,
};

struct rmk_canvas {
    /* As asked; does not change. */
    uint32_t prompt_rows;
    uint32_t total_rows;
    uint32_t gen_length;
    uint32_t block_length;
    uint32_t steps_per_block;
    uint32_t suffix_count;
    uint32_t stop_count;
    uint32_t prompt_mask_count;
    int32_t mask_id;
    enum rmk_remasking remasking;
    struct rmk_rule_options rule;
    struct rmk_cache_options cache;
    uint64_t seed;
    bool golden_noise;

    /* Where the loop stands. */
    bool block_entered;
    bool found;   /* a stop matched */
    bool stalled; /* the block's last forward added nothing to the canvas */
    uint32_t block;
    uint32_t step;          /* of the block */
    uint32_t block_masks;   /* masks the block began with: the schedule hangs on it */
    uint32_t stop_position; /* relative to the prompt's end; gen_length until found */
    uint32_t log_count;
    uint32_t read_count;
    uint64_t forward;     /* number of the next evaluation = evaluations that counted so far */
    uint64_t prompt_open; /* bit i: prompt mask i is still a mask */
    uint32_t refreshes;   /* of the evaluations: those that computed everything */
    bool based;           /* a base (cache.h) was among them; `base` is the last one's number */
    uint64_t base;
    struct rmk_cache_pass pass; /* what the forward that next() asked for computes */

    int32_t ids[RMK_GEN_LENGTH_MAX]; /* mask_id where open */
    struct rmk_plan_update
        log[RMK_READS_MAX]; /* what was committed, oldest first; a mask token committed as itself
                               changes no row and is not here */
    uint16_t log_forward[RMK_READS_MAX]; /* the forward that committed it */
    uint32_t reads[RMK_READS_MAX]; /* of the forward that next() asked for, absolute, ascending */

    uint32_t prompt_masks[RMK_PROMPT_MASKS_MAX];
    struct rmk_stop stops[RMK_STOP_COUNT_MAX]; /* ids point into stop_ids: a canvas is not copied */
    int32_t stop_ids[RMK_STOP_COUNT_MAX][RMK_STOP_IDS_MAX];
    int32_t suffix[RMK_SUFFIX_MAX];
};

/* `submit` has been checked (admit.h). */
void rmk_canvas_init(struct rmk_canvas *canvas, const struct rmk_submit *submit);

/* All masks again, forward 0. */
void rmk_canvas_restart(struct rmk_canvas *canvas);

/* Go to the next forward and list its reads; false: the loop has ended. Calling it again without a
 * commit changes nothing. */
bool rmk_canvas_next(struct rmk_canvas *canvas);

/* The pass of an earlier forward, and how much of the log it saw: for running it again, without
 * reads, to rebuild a cache. Only from the base on. */
struct rmk_cache_pass rmk_canvas_replay(const struct rmk_canvas *canvas, uint64_t forward,
                                        uint32_t *out_log_count);

/* One evaluation's answer: guesses [read_count] in the order of the reads. Orders them; returns how
 * many were committed, the first of the array. Also scans for stops and moves on to the next step.
 */
uint32_t rmk_canvas_commit(struct rmk_canvas *canvas, struct rmk_guess *guesses, uint32_t count);

/* Leading positions that no later step can change or cut off: no mask before them, inside the stop,
 * and not the beginning of a stop string that could still come true. Grows only. */
uint32_t rmk_canvas_settled(const struct rmk_canvas *canvas);

/* Leading positions that are decided, inside the stop: the settled ones, and a tail of which later
 * commits could still have made a stop string. */
uint32_t rmk_canvas_decided(const struct rmk_canvas *canvas);

/* The first `count` generated ids, then the suffix, into out [count + suffix_count]; returns the
 * sum. */
uint32_t rmk_canvas_answer(const struct rmk_canvas *canvas, uint32_t count, int32_t *out);

/* Masks left in the generated region. */
uint32_t rmk_canvas_masks(const struct rmk_canvas *canvas);

#endif
