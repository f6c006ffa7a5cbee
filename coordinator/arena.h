/* Memory that is given piece by piece and taken back all at once; chunks are kept, so that a steady
 * state allocates nothing. Zero it first.
 */
#ifndef RMK_COORDINATOR_ARENA_H
#define RMK_COORDINATOR_ARENA_H

#include <stddef.h>

struct rmk_arena_chunk;

struct rmk_arena {
    struct rmk_arena_chunk *chunks;
};

/* 16-byte aligned, not zeroed. Running out of memory here ends the process: it is about kilobytes.
 */
void *rmk_arena_take(struct rmk_arena *arena, size_t size);
void rmk_arena_reset(struct rmk_arena *arena);
void rmk_arena_deinit(struct rmk_arena *arena);

#endif
