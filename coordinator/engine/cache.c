#include "coordinator/engine/cache.h"

#include "common/err.h"

struct rmk_cache_pass rmk_cache_full(const struct rmk_cache_options *options, uint32_t total_rows)
{
    bool keep = options->cache != RMK_CACHE_NONE;

    rmk_assert(options->cache != RMK_CACHE_FEATURE);
    return (struct rmk_cache_pass){
        .kind = RMK_PLAN_FULL, .base = keep, .keep = keep, .end = total_rows};
}

static struct rmk_cache_pass feature(const struct rmk_cache_options *options,
                                     const struct rmk_cache_place *place)
{
    struct rmk_cache_pass pass = {
        .kind = RMK_PLAN_FEATURE,
        .end = place->total_rows,
        .refresh_prompt = place->forward % options->prompt_interval == 0,
        .refresh_gen = place->forward % options->gen_interval == 0,
    };

    pass.base = pass.refresh_prompt && pass.refresh_gen;
    return pass;
}

struct rmk_cache_pass rmk_cache_next(const struct rmk_cache_options *options,
                                     const struct rmk_cache_place *place)
{
    uint32_t begins[] = {
        [RMK_CACHE_PROMPT] = place->prompt_rows,
        [RMK_CACHE_PREFIX] = place->block_begin,
        [RMK_CACHE_DUAL] = place->block_begin,
    };

    if (options->cache == RMK_CACHE_FEATURE) {
        return feature(options, place);
    }
    bool due = options->refresh_interval > 0 && place->based &&
               place->forward - place->base >= options->refresh_interval;
    bool starts = options->cache != RMK_CACHE_PROMPT && place->block_starts;
    if (options->cache == RMK_CACHE_NONE || !place->based || due || starts) {
        return rmk_cache_full(options, place->total_rows);
    }
    return (struct rmk_cache_pass){
        .kind = RMK_PLAN_WINDOW,
        .begin = begins[options->cache],
        .end = options->cache == RMK_CACHE_DUAL ? place->block_end : place->total_rows,
    };
}
