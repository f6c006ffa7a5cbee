#include "coordinator/engine/policy.h"
#include "coordinator/engine/state.h"

static void check_queue(const struct rmk_engine *engine)
{
    const struct rmk_queue *queue = &engine->queue;
    uint32_t turned = 0;
    uint32_t queued = 0;
    uint32_t waiting = 0;
    uint32_t counted = 0;

    for (uint32_t i = 0; i < queue->count; i++) {
        const struct rmk_entry *entry = &queue->entries[i];
        const struct rmk_request *request = &engine->requests[entry->request];
        rmk_assert(engine->handles[entry->request].live);
        rmk_assert(request->entry == i);
        rmk_assert(request->group == RMK_NOWHERE);
        rmk_assert(entry->turn == request->turn);
        rmk_assert((entry->turn == 0) == (request->stage == RMK_STAGE_WAITING));
        rmk_assert(entry->not_before_us == request->not_before_us);
        rmk_assert(!entry->skipped);
        rmk_assert(!(entry->wants_encode && entry->wants_place));
        turned += entry->turn != 0;
        waiting += entry->turn == 0;
    }
    for (uint32_t lane = 0; lane < RMK_LANES; lane++) {
        for (uint32_t tenant = 0; tenant < RMK_TENANTS; tenant++) {
            counted += queue->waiting[lane][tenant];
        }
    }
    for (uint32_t tenant = 0; tenant < RMK_TENANTS; tenant++) {
        queued += queue->queued[tenant];
    }
    rmk_assert(queued == queue->count);
    rmk_assert(turned == queue->turned);
    rmk_assert(waiting == counted);
}

/* An asked item has its encode under way where it says; a held one is where it says. */
static void check_items(const struct rmk_engine *engine, const struct rmk_request *request)
{
    for (uint32_t i = 0; i < request->item_count; i++) {
        const struct rmk_request_item *item = &request->items[i];
        if (request->stage == RMK_STAGE_WAITING) {
            rmk_assert(item->state == RMK_ITEM_NEEDED);
        }
        if (item->state == RMK_ITEM_ASKED) {
            rmk_assert(request->stage == RMK_STAGE_ENCODING);
            rmk_assert(rmk_fleet_is_vision(&engine->fleet, item->vision, item->vision_epoch));
            const struct rmk_vision *vision = &engine->fleet.visions[item->vision];
            bool under_way = false;
            for (uint32_t j = 0; j < RMK_VISION_JOBS_MAX; j++) {
                under_way |= vision->jobs[j].busy &&
                             rmk_fleet_same_key(vision->jobs[j].what.key, item->item.key);
            }
            rmk_assert(under_way);
        }
        if (request->entry != RMK_NOWHERE && item->state == RMK_ITEM_HELD) {
            rmk_assert(rmk_fleet_is_vision(&engine->fleet, item->vision, item->vision_epoch));
        }
    }
}

static void check_canvas(const struct rmk_canvas *canvas)
{
    uint32_t masks = rmk_canvas_masks(canvas);
    uint32_t in_answer = 0;
    uint32_t closed_in_prompt = 0;

    for (uint32_t i = 0; i < canvas->log_count; i++) {
        uint32_t position = canvas->log[i].position;
        if (position >= canvas->prompt_rows) {
            in_answer++;
            rmk_assert(canvas->ids[position - canvas->prompt_rows] == canvas->log[i].id);
        }
    }
    for (uint32_t i = 0; i < canvas->prompt_mask_count; i++) {
        closed_in_prompt += (canvas->prompt_open >> i & 1) == 0;
    }
    rmk_assert(in_answer + masks == canvas->gen_length);
    rmk_assert(in_answer + closed_in_prompt == canvas->log_count);
    rmk_assert(canvas->stop_position <= canvas->gen_length);
    rmk_assert(rmk_canvas_settled(canvas) <= canvas->stop_position);
    rmk_assert(canvas->read_count > 0);
}

static void check_request(const struct rmk_engine *engine, const struct rmk_request *request)
{
    bool queued = request->stage <= RMK_STAGE_SEEKING;

    rmk_assert(request->stage != RMK_STAGE_FREE);
    rmk_assert(queued == (request->entry != RMK_NOWHERE));
    rmk_assert(queued == (request->group == RMK_NOWHERE));
    rmk_assert(request->losses <= engine->limits.retries_max);
    rmk_assert(engine->timers.due[request->id.index] == rmk_request_due(request, engine->now_us));
    if (!queued) {
        rmk_assert(rmk_fleet_is_group(&engine->fleet, request->group, request->epoch));
        const struct rmk_group *group = &engine->fleet.groups[request->group];
        rmk_assert(request->slot < group->slot_count);
        rmk_assert(rmk_fleet_same_request(group->slots[request->slot].holder, request->id));
        rmk_assert(rmk_fleet_can_hold(group, request));
        rmk_assert(request->opened || request->log_seen == 0);
        rmk_assert(request->log_seen <= request->canvas.log_count);
        rmk_assert(request->rode <= group->sequence);
        rmk_assert(!request->primed || request->opened);
        rmk_assert(!request->primed || request->canvas.based || request->kv_rows == 0);
        if (!request->primed && request->canvas.based) {
            rmk_assert(request->replayed >= request->canvas.base);
            rmk_assert(request->replayed < request->canvas.forward);
        }
        rmk_assert(request->numerics_class == group->numerics_class);
    }
    check_items(engine, request);
    check_canvas(&request->canvas);
}

/* Every resident of an idle group that could ride is an idle group too many. */
static void check_group(const struct rmk_engine *engine, uint32_t index)
{
    const struct rmk_group *group = &engine->fleet.groups[index];
    uint32_t held = 0;
    uint32_t shared = 0;
    uint32_t share_count = 0;
    uint32_t riding = 0;
    uint32_t riders_alive = 0;
    uint32_t kv_held = 0;
    uint32_t feature_held = 0;

    rmk_assert(!group->touched);
    rmk_assert(engine->timers.due[engine->limits.requests_max + index] ==
               (group->in_flight ? group->deadline_us : RMK_TIMER_NEVER));
    if (!group->up) {
        rmk_assert(group->held == 0);
        rmk_assert(group->kv_held == 0);
        rmk_assert(!group->in_flight);
        return;
    }
    for (uint32_t slot = 0; slot < group->slot_count; slot++) {
        struct rmk_request_id holder = group->slots[slot].holder;
        if (holder.generation == 0) {
            continue;
        }
        const struct rmk_request *request = &engine->requests[holder.index];
        held++;
        kv_held += request->kv_rows;
        feature_held += request->feature_rows;
        rmk_assert(engine->handles[holder.index].live);
        rmk_assert(rmk_fleet_same_request(request->id, holder));
        rmk_assert(request->group == index);
        rmk_assert(request->slot == slot);
        riding += request->stage == RMK_STAGE_RIDING;
        rmk_assert(group->in_flight || request->stage != RMK_STAGE_READY || request->slow);
    }
    for (uint32_t tenant = 0; tenant < RMK_TENANTS; tenant++) {
        const struct rmk_share *share = &group->shares[tenant];
        shared += share->held;
        share_count += share->held > 0;
        rmk_assert(share->held_batch <= share->held);
        rmk_assert(share->tag <= group->tag_most);
    }
    rmk_assert(held == group->held);
    rmk_assert(shared == held);
    rmk_assert(share_count == group->share_count);
    rmk_assert(group->tag_floor <= group->tag_most);
    rmk_assert(kv_held == group->kv_held);
    rmk_assert(kv_held <= group->kv_rows_max);
    rmk_assert(feature_held == group->feature_held);
    rmk_assert(feature_held <= group->feature_rows_max);
    rmk_assert(!group->kv_reserved);
    rmk_assert(riding == 0 || group->in_flight);
    for (uint32_t i = 0; group->in_flight && i < group->row_count; i++) {
        struct rmk_request_id id = group->rows[i].request;
        bool alive =
            engine->handles[id.index].live && engine->handles[id.index].generation == id.generation;
        riders_alive += alive;
        rmk_assert(!alive || engine->requests[id.index].stage == RMK_STAGE_RIDING);
    }
    rmk_assert(riding == riders_alive);
}

static void check_vision(const struct rmk_engine *engine, uint32_t index)
{
    const struct rmk_vision *vision = &engine->fleet.visions[index];
    uint32_t busy = 0;
    uint64_t tiles = 0;

    for (uint32_t i = 0; i < RMK_VISION_JOBS_MAX; i++) {
        busy += vision->jobs[i].busy;
        tiles += vision->jobs[i].busy ? vision->jobs[i].what.tile_count : 0;
    }
    rmk_assert(busy == vision->job_count);
    rmk_assert(tiles == vision->tiles);
    rmk_assert(vision->up || busy == 0);
    rmk_assert(busy <= vision->parallel_max);
    rmk_assert(
        engine->timers.due[engine->limits.requests_max + engine->limits.groups_max + index] ==
        rmk_fleet_job_due(vision));
}

static void check_fleet(const struct rmk_engine *engine)
{
    const struct rmk_fleet *fleet = &engine->fleet;
    uint32_t groups_up = 0;
    uint32_t slots_up = 0;
    uint32_t visions_up = 0;
    uint32_t encodes_max = 0;
    uint32_t encodes = 0;

    for (uint32_t i = 0; i < fleet->group_max; i++) {
        check_group(engine, i);
        groups_up += fleet->groups[i].up;
        slots_up += fleet->groups[i].up ? fleet->groups[i].slot_count : 0;
    }
    for (uint32_t i = 0; i < fleet->vision_max; i++) {
        check_vision(engine, i);
        visions_up += fleet->visions[i].up;
        encodes_max += fleet->visions[i].up ? fleet->visions[i].parallel_max : 0;
        encodes += fleet->visions[i].job_count;
    }
    rmk_assert(groups_up == fleet->groups_up);
    rmk_assert(slots_up == fleet->slots_up);
    rmk_assert(visions_up == fleet->visions_up);
    rmk_assert(encodes_max == fleet->encodes_max);
    rmk_assert(encodes == fleet->encodes);
}

void rmk_engine_check(const struct rmk_engine *engine)
{
    uint32_t stages[RMK_STAGE_COUNT] = {0};
    uint32_t live = 0;
    uint32_t paused = 0;

    for (uint32_t i = 0; i < engine->limits.requests_max; i++) {
        const struct rmk_request *request = &engine->requests[i];
        if (!engine->handles[i].live) {
            rmk_assert(engine->timers.due[i] == RMK_TIMER_NEVER);
            continue;
        }
        live++;
        stages[request->stage]++;
        paused += request->stage == RMK_STAGE_READY && request->slow;
        rmk_assert(request->id.index == i);
        rmk_assert(request->id.generation == engine->handles[i].generation);
        check_request(engine, request);
    }
    for (uint32_t stage = RMK_STAGE_WAITING; stage < RMK_STAGE_COUNT; stage++) {
        rmk_assert(stages[stage] == engine->stages[stage]);
    }
    rmk_assert(live + engine->free_count == engine->limits.requests_max);
    rmk_assert(paused == engine->paused);
    rmk_assert(engine->touched_count == 0);
    check_queue(engine);
    check_fleet(engine);
    rmk_timer_check(&engine->timers);
}
