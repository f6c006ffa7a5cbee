/* When a request's cache is renewed and what a forward computes: a function of the request alone.
 * Load may delay a forward; it never changes what the forward is. */
#ifndef RMK_COORDINATOR_ENGINE_CACHE_H
#define RMK_COORDINATOR_ENGINE_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "coordinator/engine/engine.h"

/* Where a request stands before a forward. Rows are absolute. */
struct rmk_cache_place {
    uint32_t prompt_rows;
    uint32_t total_rows;
    uint32_t block_begin;
    uint32_t block_end;
    bool block_starts; /* this is the block's first forward */
    bool based;        /* there was a base */
    uint64_t base;     /* number of the last one */
    uint64_t forward;
};

/* One forward. A base needs nothing that an earlier forward has left behind, and whatever comes
 * after it needs nothing older. */
struct rmk_cache_pass {
    enum rmk_plan_kind kind;
    bool base;
    bool keep;
    uint32_t begin; /* rows computed; all but WINDOW: [0, L) */
    uint32_t end;
    bool refresh_prompt; /* FEATURE */
    bool refresh_gen;
};

struct rmk_cache_pass rmk_cache_next(const struct rmk_cache_options *options,
                                     const struct rmk_cache_place *place);
/* A full forward that a WINDOW policy has not asked for. */
struct rmk_cache_pass rmk_cache_full(const struct rmk_cache_options *options, uint32_t total_rows);

#endif
