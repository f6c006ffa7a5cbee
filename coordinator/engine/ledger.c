#include "coordinator/engine/ledger.h"

void rmk_ledger_take(struct rmk_group *group, uint32_t index, struct rmk_request *request)
{
    struct rmk_share *share = &group->shares[request->tenant];
    uint32_t slot = 0;

    rmk_assert(request->group == RMK_NOWHERE);
    while (slot < group->slot_count && group->slots[slot].holder.generation != 0) {
        slot++;
    }
    rmk_assert(slot < group->slot_count);
    group->slots[slot].holder = request->id;
    group->held++;
    group->share_count += share->held++ == 0;
    share->held_batch += request->lane == RMK_LANE_BATCH;
    group->kv_held += request->kv_rows;
    group->feature_held += request->feature_rows;
    rmk_assert(group->kv_held <= group->kv_rows_max);
    rmk_assert(group->feature_held <= group->feature_rows_max);
    request->group = index;
    request->epoch = group->epoch;
    request->slot = slot;
    request->opened = false;
    request->primed = false;
    request->replayed = request->canvas.base;
    request->log_seen = 0;
    request->forward_us = 0;
    request->due_work = share->work;
    request->rode = group->sequence; /* it queues behind those who are there */
}

void rmk_ledger_leave(struct rmk_group *group, struct rmk_request *request)
{
    struct rmk_slot *slot = &group->slots[request->slot];
    struct rmk_share *share = &group->shares[request->tenant];

    rmk_assert(rmk_fleet_same_request(slot->holder, request->id));
    slot->holder = (struct rmk_request_id){0};
    slot->dirty |= request->opened;
    group->held--;
    group->share_count -= --share->held == 0;
    share->held_batch -= request->lane == RMK_LANE_BATCH;
    group->kv_held -= request->kv_rows;
    group->feature_held -= request->feature_rows;
    request->group = RMK_NOWHERE;
    request->slot = RMK_NOWHERE;
    request->opened = false;
    request->log_seen = 0;
}

struct rmk_plan rmk_ledger_plan(struct rmk_group *group, uint32_t index,
                                struct rmk_request *const *riders, uint32_t rider_count,
                                uint32_t ahead)
{
    uint32_t close_count = 0;

    rmk_assert(!group->in_flight);
    for (uint32_t slot = 0; slot < group->slot_count; slot++) {
        if (group->slots[slot].dirty) {
            group->slots[slot].dirty = false;
            group->closes[close_count++] = slot;
        }
    }
    group->sequence++;
    for (uint32_t i = 0; i < rider_count; i++) {
        struct rmk_request *request = riders[i];
        const struct rmk_canvas *canvas = &request->canvas;
        const struct rmk_ride ride = rmk_request_ride(request);
        group->rows[i] = (struct rmk_plan_row){
            .request = request->id,
            .slot = request->slot,
            .kind = ride.pass.kind,
            .keep = ride.pass.keep,
            .refresh_prompt = ride.pass.refresh_prompt,
            .refresh_gen = ride.pass.refresh_gen,
            .kv = !request->opened && request->kv_rows > 0,
            .open = !request->opened,
            .updates = canvas->log + request->log_seen,
            .update_count = ride.log_count - request->log_seen,
            .reads = canvas->reads,
            .read_count = ride.read_count,
            .forward = ride.forward,
            .temperature = request->temperature,
            .cfg_scale = request->cfg_scale,
            .seed = canvas->seed,
            .golden_noise = canvas->golden_noise,
            .ahead = ahead,
            .canvas = canvas,
        };
        if (ride.pass.kind == RMK_PLAN_WINDOW) {
            group->rows[i].window_begin = ride.pass.begin;
            group->rows[i].window_end = ride.pass.end;
        } else if (ride.pass.kind == RMK_PLAN_FEATURE) {
            group->rows[i].transfer_ratio = canvas->cache.transfer_ratio;
        }
        /* Told once it is sent: whatever keeps the group from hearing it also ends the slot. */
        request->opened = true;
        request->log_seen = ride.log_count;
        request->rode = group->sequence;
    }
    group->row_count = rider_count;
    group->in_flight = true;
    return (struct rmk_plan){
        .group = index,
        .epoch = group->epoch,
        .sequence = group->sequence,
        .closes = group->closes,
        .close_count = close_count,
        .rows = group->rows,
        .row_count = rider_count,
    };
}

void rmk_ledger_doubt(struct rmk_group *group, const struct rmk_request *requests)
{
    for (uint32_t slot = 0; slot < group->slot_count; slot++) {
        struct rmk_request_id holder = group->slots[slot].holder;
        if (holder.generation == 0 || !requests[holder.index].opened) {
            group->slots[slot].dirty = true; /* closing a free slot does nothing */
        }
    }
}
