/* Who holds which rows of a store: contiguous stretches, first fit from below. Pure; the rows
 * themselves are somewhere else (worker/text/cache).
 */
#ifndef RMK_WORKER_TEXT_EXTENTS_H
#define RMK_WORKER_TEXT_EXTENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

/* An empty one holds nothing. */
struct rmk_extent {
    uint32_t begin;
    uint32_t count;
};

struct rmk_extents {
    uint32_t row_count;
    uint32_t used; /* rows that are taken */
    uint32_t count_max;
    uint32_t count;
    struct rmk_extent **taken; /* ascending; they belong to who took them */
};

enum rmk_err rmk_extents_init(struct rmk_extents *extents, uint32_t row_count, uint32_t count_max,
                              struct rmk_why *why);
void rmk_extents_deinit(struct rmk_extents *extents);

/* The lowest gap of `count` rows; `extent` is borrowed until it is given back. False: no gap is
 * that long, or count_max are taken. */
bool rmk_extents_take(struct rmk_extents *extents, uint32_t count, struct rmk_extent *extent);

/* An empty extent is no extent: nothing happens. */
void rmk_extents_give_back(struct rmk_extents *extents, struct rmk_extent *extent);

/* The lowest extent with free rows right below it, and how far down it may slide; NULL: all rows
 * that are free lie above. */
struct rmk_extent *rmk_extents_loose(const struct rmk_extents *extents, uint32_t *out_gap);

#endif
