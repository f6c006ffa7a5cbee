/* Run-ahead: a group goes on with a request by itself for a few forwards, and the coordinator
 * follows what it did with its own canvas. Both commit with the same code from the same bytes, so
 * that it cannot show in an answer; what is saved is the round trip.
 *
 *     coordinator                                           every rank of the group
 *     rmk_ahead_describe(canvas) ─── a row with leave ────► rmk_ahead_begin(canvas of its own)
 *                                                           forward, commit, while rmk_ahead_may:
 *     commit, commit, … each compared ◄── all guesses ───── forward, commit …
 *
 * A run never crosses a base (cache.h): a forward that computes everything anew costs more than
 * those before it, and whoever waits should not wait for that. In the library with denoise.c.
 */
#ifndef RMK_COORDINATOR_ENGINE_AHEAD_H
#define RMK_COORDINATOR_ENGINE_AHEAD_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/limits.h"
#include "coordinator/engine/canvas.h"

/* Where a canvas stands before a forward, and whatever its later forwards hang on. What is
 * committed by then is in `ids`; pointers are borrowed. */
struct rmk_ahead {
    uint32_t prompt_rows;
    uint32_t total_rows;
    uint32_t gen_length;
    uint32_t block_length;
    uint32_t steps_per_block;
    int32_t mask_id;
    enum rmk_remasking remasking;
    struct rmk_rule_options rule;
    struct rmk_cache_options cache;
    uint64_t seed;
    bool golden_noise;
    const struct rmk_stop *stops;
    uint32_t stop_count;

    uint64_t forward;
    bool based;
    uint64_t base;
    uint32_t block;
    uint32_t step;
    uint32_t block_masks;
    bool found;
    uint32_t stop_position;
    const int32_t *ids;                          /* [gen_length] */
    uint32_t prompt_masks[RMK_PROMPT_MASKS_MAX]; /* those still open */
    uint32_t prompt_mask_count;
};

/* The canvas's next forward has been asked for (rmk_canvas_next). */
void rmk_ahead_describe(const struct rmk_canvas *canvas, struct rmk_ahead *out_ahead);

/* The same canvas once more, but for what it was told before: its log begins here, and it has no
 * suffix. RMK_EINVAL: no canvas can stand like that. */
enum rmk_err rmk_ahead_begin(struct rmk_canvas *canvas, const struct rmk_ahead *ahead,
                             struct rmk_why *why);

/* The forward that rmk_canvas_next has asked for may be run ahead. */
bool rmk_ahead_may(const struct rmk_canvas *canvas);

#endif
