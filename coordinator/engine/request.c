#include "coordinator/engine/request.h"

#include <string.h>

#include "coordinator/engine/timer.h"

/* Positions of all forwards, if every step is taken. */
static uint64_t estimate_cost(const struct rmk_submit *submit, const struct rmk_request *request)
{
    const struct rmk_cache_options *cache = &submit->cache;
    uint64_t window = cache->cache == RMK_CACHE_DUAL ? submit->block_length : submit->gen_length;
    uint64_t interval = cache->refresh_interval;
    uint64_t full = submit->steps;

    if (cache->cache == RMK_CACHE_FEATURE) {
        interval = cache->prompt_interval;
    }
    if (cache->cache != RMK_CACHE_NONE) {
        full = interval == 0 ? 1 : 1 + submit->steps / interval;
        if (cache->cache == RMK_CACHE_PREFIX || cache->cache == RMK_CACHE_DUAL) {
            full += submit->gen_length / submit->block_length;
        }
        full = full < submit->steps ? full : submit->steps;
    }
    return full * request->step_rows +
           (submit->steps - full) * window * (submit->cfg_scale > 0 ? 2 : 1);
}

void rmk_request_init(struct rmk_request *request, const struct rmk_submit *submit, uint64_t now_us)
{
    request->tag = submit->tag;
    request->deadline_us = submit->deadline_us;
    request->lane = submit->lane;
    request->tenant = submit->tenant;
    request->total_rows = submit->prompt_rows + submit->gen_length + submit->suffix_count;
    request->step_rows = request->total_rows * (submit->cfg_scale > 0 ? 2 : 1);
    request->kv_rows = submit->cache.cache == RMK_CACHE_NONE ? 0 : request->step_rows;
    request->feature_rows = submit->cache.cache == RMK_CACHE_FEATURE ? request->step_rows : 0;
    request->reads_most = submit->gen_length + submit->prompt_mask_count;
    request->cost = estimate_cost(submit, request);
    request->temperature = submit->temperature;
    request->cfg_scale = submit->cfg_scale;
    request->best_at_deadline = submit->best_at_deadline;
    request->stepwise = submit->stepwise;
    request->item_count = submit->item_count;
    for (uint32_t i = 0; i < submit->item_count; i++) {
        request->items[i] = (struct rmk_request_item){
            .item = submit->items[i],
            .state = RMK_ITEM_NEEDED,
            .vision = RMK_NOWHERE,
            .avoid = RMK_NOWHERE,
        };
    }
    rmk_canvas_init(&request->canvas, submit);

    request->turn = 0;
    request->entry = RMK_NOWHERE;
    request->group = RMK_NOWHERE;
    request->slot = RMK_NOWHERE;
    request->epoch = 0;
    request->opened = false;
    request->primed = false;
    request->replayed = 0;
    request->log_seen = 0;
    request->forward_us = 0;
    request->due_work = 0;
    request->rode = 0;
    request->classed = false;
    request->numerics_class = 0;
    request->slow = false;
    request->losses = 0;
    request->not_before_us = 0;
    request->fetch_deadline_us = 0;

    request->submitted_us = now_us;
    request->first_round_us = 0;
    request->first_committed = false;
    request->usage = (struct rmk_usage){0};
    request->why.text[0] = '\0';
}

struct rmk_ride rmk_request_ride(const struct rmk_request *request)
{
    const struct rmk_canvas *canvas = &request->canvas;
    struct rmk_ride ride = {
        .forward = canvas->forward,
        .pass = canvas->pass,
        .log_count = canvas->log_count,
        .read_count = canvas->read_count,
    };

    if (canvas->cache.cache != RMK_CACHE_NONE && !request->primed && !canvas->pass.base) {
        ride.replay = true;
        ride.forward = request->replayed;
        ride.pass = rmk_canvas_replay(canvas, ride.forward, &ride.log_count);
        ride.read_count = 0;
    }
    ride.positions = (ride.pass.end - ride.pass.begin) * (request->cfg_scale > 0 ? 2 : 1);
    return ride;
}

void rmk_request_rode(struct rmk_request *request, const struct rmk_ride *ride)
{
    const struct rmk_canvas *canvas = &request->canvas;

    if (!ride->replay) {
        request->primed = true;
        return;
    }
    request->replayed++;
    request->usage.replays++;
    /* A window computes all that an earlier one of the same base left behind, so after the base
     * nothing is missing; feature rows build on each other. */
    request->primed =
        canvas->cache.cache != RMK_CACHE_FEATURE || request->replayed == canvas->forward;
}

bool rmk_request_is_encoded(const struct rmk_request *request)
{
    for (uint32_t i = 0; i < request->item_count; i++) {
        if (request->items[i].state != RMK_ITEM_HELD) {
            return false;
        }
    }
    return true;
}

uint64_t rmk_request_due(const struct rmk_request *request, uint64_t now_us)
{
    uint64_t due = request->deadline_us != 0 ? request->deadline_us : RMK_TIMER_NEVER;

    if (request->stage == RMK_STAGE_FETCHING && request->fetch_deadline_us < due) {
        due = request->fetch_deadline_us;
    }
    if (request->entry != RMK_NOWHERE && request->not_before_us > now_us &&
        request->not_before_us < due) {
        due = request->not_before_us;
    }
    return due;
}

const char *rmk_request_stage_name(enum rmk_stage stage)
{
    static const char *const names[] = {
        [RMK_STAGE_FREE] = "free",         [RMK_STAGE_WAITING] = "waiting",
        [RMK_STAGE_ENCODING] = "encoding", [RMK_STAGE_SEEKING] = "seeking",
        [RMK_STAGE_FETCHING] = "fetching", [RMK_STAGE_READY] = "ready",
        [RMK_STAGE_RIDING] = "riding",
    };

    return names[stage];
}
