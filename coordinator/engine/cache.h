/* When a request's cache is renewed and what a forward computes: a function of the request alone.
 * Load may delay a forward; it never changes what the forward is. In the library with denoise.c. */
#ifndef RMK_COORDINATOR_ENGINE_CACHE_H
#define RMK_COORDINATOR_ENGINE_CACHE_H

#include <stdbool.h>
#include <stdint.h>

/* What is kept between the forwards of one request. All but NONE are approximations of the official
 * result. */
enum rmk_cache {
    RMK_CACHE_NONE = 0, /* every forward is FULL */
    RMK_CACHE_PROMPT,  /* frozen prompt: FULL every `refresh_interval` forwards, else the window [P,
                          L) */
    RMK_CACHE_PREFIX,  /* Fast-dLLM: FULL at the start of each block (and every `refresh_interval`),
                          else [block begin, L) */
    RMK_CACHE_DUAL,    /* Fast-dLLM: as PREFIX, else the block alone */
    RMK_CACHE_FEATURE, /* dLLM-Cache (reference specification, section 10) */
};

struct rmk_cache_options {
    enum rmk_cache cache;
    uint32_t refresh_interval; /* PROMPT, PREFIX, DUAL: forwards from one FULL to the next; 0: never
                                  but where the policy says */
    uint32_t prompt_interval;  /* FEATURE: Kp, Kg, rho */
    uint32_t gen_interval;
    double transfer_ratio;
};

struct rmk_plan_update {
    uint32_t position; /* absolute row: prompt rows count */
    int32_t id;
};

enum rmk_plan_kind {
    RMK_PLAN_FULL = 0,
    RMK_PLAN_WINDOW,  /* query positions [window_begin, window_end) against the slot's keys and
                         values, renewed in place */
    RMK_PLAN_FEATURE, /* dLLM-Cache: what is refreshed is in the row */
};

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
