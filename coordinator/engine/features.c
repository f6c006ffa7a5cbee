#include "coordinator/engine/policy.h"
#include "coordinator/engine/state.h"

static uint32_t timer_of_vision(const struct rmk_engine *engine, uint32_t vision)
{
    return engine->limits.requests_max + engine->limits.groups_max + vision;
}

static void arm_vision(struct rmk_engine *engine, uint32_t index)
{
    rmk_timer_set(&engine->timers, timer_of_vision(engine, index),
                  rmk_fleet_job_due(&engine->fleet.visions[index]));
}

static void end_job(struct rmk_engine *engine, uint32_t vision, struct rmk_job *job)
{
    rmk_fleet_end_job(&engine->fleet, vision, job);
    arm_vision(engine, vision);
    engine->encode_wanted = true;
}

static void trace_late(const struct rmk_engine *engine, const char *what,
                       const struct rmk_event_features *event)
{
    RMK_TRACE(engine, "late %s " RMK_REQ " item=%u", what, RMK_REQ_OF(event->request), event->item);
}

/* ---- encodes
 * -----------------------------------------------------------------------------------------------------
 */

static void ask(struct rmk_engine *engine, struct rmk_request *request, uint32_t index,
                uint32_t vision)
{
    struct rmk_request_item *item = &request->items[index];
    struct rmk_job *job = rmk_fleet_begin_job(&engine->fleet, vision, &item->item);
    struct rmk_action *action = rmk_engine_act(engine, RMK_ACTION_ENCODE);

    job->request = request->id;
    job->item = index;
    job->deadline_us = engine->now_us + engine->limits.encode_timeout_us;
    arm_vision(engine, vision);
    action->request = request->id;
    action->place.item = index;
    action->place.vision = vision;
    action->place.vision_epoch = engine->fleet.visions[vision].epoch;
    RMK_TRACE(engine, "encode " RMK_REQ " item=%u tiles=%u vision=%u epoch=%llu",
              RMK_REQ_OF(request->id), index, item->item.tile_count, vision,
              (unsigned long long)action->place.vision_epoch);
}

/* Ask for what can be asked for now. An encode of the same key that is under way is shared. */
static void ask_for_items(struct rmk_engine *engine, struct rmk_request *request)
{
    for (uint32_t i = 0; i < request->item_count; i++) {
        struct rmk_request_item *item = &request->items[i];
        if (item->state != RMK_ITEM_NEEDED) {
            continue;
        }
        uint32_t vision = rmk_fleet_find_encode(&engine->fleet, item->item.key);
        if (vision != RMK_NOWHERE) {
            RMK_TRACE(engine, "share " RMK_REQ " item=%u vision=%u", RMK_REQ_OF(request->id), i,
                      vision);
        } else {
            vision = rmk_fleet_choose_vision(&engine->fleet, item);
            if (vision == RMK_NOWHERE) {
                return;
            }
            ask(engine, request, i, vision);
        }
        item->state = RMK_ITEM_ASKED;
        item->vision = vision;
        item->vision_epoch = engine->fleet.visions[vision].epoch;
    }
}

void rmk_features_pass(struct rmk_engine *engine)
{
    struct rmk_fleet *fleet = &engine->fleet;

    if (!engine->encode_wanted) {
        return;
    }
    engine->encode_wanted = false;
    while (fleet->encodes < fleet->encodes_max) {
        struct rmk_room room = {
            .now_us = engine->now_us,
            .total_rows = UINT32_MAX,
            .step_rows = UINT32_MAX,
            .kv = true,
            /* Features made long before they are used would be dropped again by their worker. */
            .turns = engine->queue.turned < fleet->slots_up + fleet->encodes_max,
        };
        struct rmk_entry *entry = rmk_queue_pick(&engine->queue, RMK_WANT_ENCODE, &room);
        if (entry == NULL) {
            break;
        }
        if (!rmk_engine_has_room(engine, RMK_ITEMS_MAX)) {
            engine->encode_wanted = true;
            break;
        }
        struct rmk_request *request = &engine->requests[entry->request];
        bool place_wanted = engine->place_wanted;
        rmk_queue_turn(&engine->queue, request);
        ask_for_items(engine, request);
        rmk_life_settle_in_queue(engine, request);
        /* Settling asks for both passes; this one has just been here and has made nobody ready. */
        engine->encode_wanted = false;
        engine->place_wanted = place_wanted;
    }
}

/* Every picture of this key that queued requests wait for is at `vision`. */
static void hold(struct rmk_engine *engine, const uint8_t key[32], uint32_t vision)
{
    uint64_t epoch = engine->fleet.visions[vision].epoch;

    rmk_fleet_remember(&engine->fleet, key, vision);
    for (uint32_t i = 0; i < engine->queue.count; i++) {
        struct rmk_request *request = &engine->requests[engine->queue.entries[i].request];
        bool changed = false;
        if (request->stage != RMK_STAGE_ENCODING) {
            continue;
        }
        for (uint32_t j = 0; j < request->item_count; j++) {
            struct rmk_request_item *item = &request->items[j];
            if (item->state != RMK_ITEM_HELD && rmk_fleet_same_key(item->item.key, key)) {
                item->state = RMK_ITEM_HELD;
                item->vision = vision;
                item->vision_epoch = epoch;
                changed = true;
                RMK_TRACE(engine, "held " RMK_REQ " item=%u vision=%u", RMK_REQ_OF(request->id), j,
                          vision);
            }
        }
        if (changed) {
            rmk_life_settle_in_queue(engine, request);
        }
    }
}

void rmk_features_ready(struct rmk_engine *engine, const struct rmk_event_features *event)
{
    struct rmk_item what;

    if (!rmk_fleet_is_vision(&engine->fleet, event->vision, event->vision_epoch)) {
        trace_late(engine, "ready", event);
        return;
    }
    engine->fleet.visions[event->vision].suspect = false;
    struct rmk_job *job =
        rmk_fleet_find_job(&engine->fleet, event->vision, event->request, event->item);
    struct rmk_request *request = rmk_engine_find(engine, event->request);
    if (job != NULL) {
        what = job->what;
        end_job(engine, event->vision, job);
    } else if (request != NULL && event->item < request->item_count) {
        /* After its timeout, or told twice; the features are there all the same. */
        what = request->items[event->item].item;
    } else {
        trace_late(engine, "ready", event);
        return;
    }
    hold(engine, what.key, event->vision);
}

/* Why an encode came to nothing, and whose loss it is. */
struct loss {
    enum rmk_err err;
    const char *why;
    enum {
        CHARGE_ASKER = 0,
        CHARGE_EVERYONE, /* who waited for it */
        CHARGE_NOBODY,   /* the same event has charged the asker before */
    } charge;
    struct rmk_request_id asker;
    bool back_off;
};

/* The encode of `key` at `vision`, or with NULL all that were under way there, is over without
 * features. One event is one loss, however many pictures of a request it concerns. From the back,
 * because those that fail leave the queue. */
static void lose_encode(struct rmk_engine *engine, const uint8_t *key, uint32_t vision,
                        const struct loss *loss)
{
    for (uint32_t i = engine->queue.count; i > 0; i--) {
        struct rmk_request *request = &engine->requests[engine->queue.entries[i - 1].request];
        bool affected = false;
        for (uint32_t j = 0; request->stage == RMK_STAGE_ENCODING && j < request->item_count; j++) {
            struct rmk_request_item *item = &request->items[j];
            if (item->state == RMK_ITEM_ASKED && item->vision == vision &&
                (key == NULL || rmk_fleet_same_key(item->item.key, key))) {
                item->state = RMK_ITEM_NEEDED;
                item->avoid = vision;
                affected = true;
            }
        }
        if (!affected) {
            continue;
        }
        if (rmk_policy_is_final(loss->err)) {
            rmk_life_fail(engine, request, loss->err, loss->why);
            continue;
        }
        bool charged =
            loss->charge == CHARGE_EVERYONE ||
            (loss->charge == CHARGE_ASKER && rmk_fleet_same_request(loss->asker, request->id));
        if (charged && !rmk_life_charge(engine, request, loss->why)) {
            continue;
        }
        rmk_life_settle_in_queue(engine, request);
        if (charged && loss->back_off) {
            rmk_life_back_off(engine, request);
        }
    }
}

/* ---- prefetches
 * --------------------------------------------------------------------------------------------------
 */

/* The request this event is about, if it is fetching just this item on just this group and epoch.
 */
static struct rmk_request *find_fetching(struct rmk_engine *engine,
                                         const struct rmk_event_features *event)
{
    struct rmk_request *request = rmk_engine_find(engine, event->request);

    if (request == NULL || request->stage != RMK_STAGE_FETCHING || request->group != event->group ||
        request->epoch != event->epoch || event->item >= request->item_count ||
        request->items[event->item].resident) {
        return NULL;
    }
    return request;
}

void rmk_features_resident(struct rmk_engine *engine, const struct rmk_event_features *event)
{
    struct rmk_request *request = find_fetching(engine, event);
    bool all = true;

    if (request == NULL) {
        trace_late(engine, "resident", event);
        return;
    }
    request->items[event->item].resident = true;
    for (uint32_t i = 0; i < request->item_count; i++) {
        all &= request->items[i].resident;
    }
    RMK_TRACE(engine, "resident " RMK_REQ " item=%u group=%u%s", RMK_REQ_OF(request->id),
              event->item, event->group, all ? " all" : "");
    if (all) {
        rmk_life_set_stage(engine, request, RMK_STAGE_READY);
        rmk_life_arm(engine, request);
        rmk_engine_touch(engine, request->group);
        engine->place_wanted |= request->slow; /* a paused resident may make room */
    }
}

static void fetch_failed(struct rmk_engine *engine, const struct rmk_event_features *event)
{
    struct rmk_request *request = find_fetching(engine, event);

    if (request == NULL) {
        trace_late(engine, "failed fetch", event);
        return;
    }
    /* The picture was good enough to be encoded: whatever the error is called, it is the workers'.
     */
    struct rmk_request_item *item = &request->items[event->item];
    item->state = RMK_ITEM_NEEDED;
    if (event->err != RMK_ENOTFOUND) {
        item->avoid = item->vision; /* one that merely dropped it can encode it again */
    }
    if (rmk_life_charge(engine, request, event->why)) {
        rmk_life_requeue(engine, request, true);
        rmk_life_back_off(engine, request);
    }
}

void rmk_features_fetch_due(struct rmk_engine *engine, struct rmk_request *request)
{
    for (uint32_t i = 0; i < request->item_count; i++) {
        struct rmk_request_item *item = &request->items[i];
        if (!item->resident) {
            item->state = RMK_ITEM_NEEDED;
            item->avoid = item->vision;
        }
    }
    if (rmk_life_charge(engine, request,
                        "features were not pulled in time; --encode-timeout-ms gives it more")) {
        rmk_life_requeue(engine, request, true);
        rmk_life_back_off(engine, request);
    }
}

void rmk_features_failed(struct rmk_engine *engine, const struct rmk_event_features *event)
{
    if (event->group != UINT32_MAX) {
        fetch_failed(engine, event);
        return;
    }
    struct rmk_job *job = NULL;
    if (rmk_fleet_is_vision(&engine->fleet, event->vision, event->vision_epoch)) {
        engine->fleet.visions[event->vision].suspect = false;
        job = rmk_fleet_find_job(&engine->fleet, event->vision, event->request, event->item);
    }
    if (job == NULL) {
        trace_late(engine, "failed encode", event);
        return;
    }
    struct rmk_job ended = *job;
    struct loss loss = {
        .err = event->err,
        .why = event->why,
        .asker = ended.request,
        .back_off = true,
    };
    RMK_TRACE(engine, "encode-failed " RMK_REQ " item=%u vision=%u err=%s",
              RMK_REQ_OF(event->request), event->item, event->vision, rmk_err_name(event->err));
    end_job(engine, event->vision, job);
    lose_encode(engine, ended.what.key, event->vision, &loss);
}

/* ---- vision workers
 * ---------------------------------------------------------------------------------------------- */

void rmk_features_forget_lost(struct rmk_engine *engine, struct rmk_request *request)
{
    for (uint32_t i = 0; i < request->item_count; i++) {
        struct rmk_request_item *item = &request->items[i];
        if (item->state == RMK_ITEM_HELD &&
            !rmk_fleet_is_vision(&engine->fleet, item->vision, item->vision_epoch)) {
            item->state = RMK_ITEM_NEEDED;
        }
    }
}

/* Pulls from a worker that is gone will not come. Those that are complete go on. */
static void lose_fetches(struct rmk_engine *engine)
{
    for (uint32_t i = 0; i < engine->fleet.group_max; i++) {
        struct rmk_group *group = &engine->fleet.groups[i];
        for (uint32_t slot = 0; group->up && slot < group->slot_count; slot++) {
            struct rmk_request *request = rmk_engine_find(engine, group->slots[slot].holder);
            bool lost = false;
            if (request == NULL || request->stage != RMK_STAGE_FETCHING) {
                continue;
            }
            for (uint32_t j = 0; j < request->item_count; j++) {
                struct rmk_request_item *item = &request->items[j];
                lost |= !item->resident &&
                        !rmk_fleet_is_vision(&engine->fleet, item->vision, item->vision_epoch);
            }
            if (lost) {
                request->usage.recoveries++;
                engine->totals.recoveries++;
                rmk_life_requeue(engine, request, true);
            }
        }
    }
}

static void lose_vision(struct rmk_engine *engine, uint32_t index)
{
    struct rmk_vision *vision = &engine->fleet.visions[index];
    struct loss loss = {
        .err = RMK_EUNAVAILABLE,
        .why = "the vision worker was lost while it encoded",
        .charge = CHARGE_EVERYONE,
    };

    for (uint32_t i = 0; i < RMK_VISION_JOBS_MAX; i++) {
        if (vision->jobs[i].busy) {
            end_job(engine, index, &vision->jobs[i]);
        }
    }
    rmk_fleet_vision_down(&engine->fleet, index);
    lose_encode(engine, NULL, index, &loss);
    for (uint32_t i = 0; i < engine->queue.count; i++) {
        struct rmk_request *request = &engine->requests[engine->queue.entries[i].request];
        if (request->item_count > 0) {
            rmk_features_forget_lost(engine, request);
            rmk_life_settle_in_queue(engine, request);
        }
    }
    lose_fetches(engine);
}

void rmk_features_vision_up(struct rmk_engine *engine, const struct rmk_event_vision *event)
{
    rmk_assert(event->vision < engine->limits.visions_max);
    struct rmk_vision *vision = &engine->fleet.visions[event->vision];
    if (vision->up && event->epoch > vision->epoch) {
        lose_vision(engine, event->vision); /* its end was not told, or is still to come */
    }
    if (vision->up || !rmk_fleet_vision_up(&engine->fleet, event)) {
        RMK_TRACE(engine, "late vision-up vision=%u epoch=%llu", event->vision,
                  (unsigned long long)event->epoch);
        return;
    }
    RMK_TRACE(engine, "vision-up vision=%u epoch=%llu parallel=%u", event->vision,
              (unsigned long long)event->epoch, vision->parallel_max);
    engine->encode_wanted = true;
}

void rmk_features_vision_down(struct rmk_engine *engine, const struct rmk_event_vision *event)
{
    rmk_assert(event->vision < engine->limits.visions_max);
    bool present = rmk_fleet_is_vision(&engine->fleet, event->vision, event->epoch);
    RMK_TRACE(engine, "%svision-down vision=%u epoch=%llu", present ? "" : "late ", event->vision,
              (unsigned long long)event->epoch);
    if (present) {
        lose_vision(engine, event->vision);
    }
}

void rmk_features_vision_due(struct rmk_engine *engine, uint32_t index)
{
    struct rmk_vision *vision = &engine->fleet.visions[index];
    struct rmk_request_id askers[RMK_VISION_JOBS_MAX];
    uint32_t asker_count = 0;

    for (uint32_t i = 0; i < RMK_VISION_JOBS_MAX; i++) {
        struct rmk_job ended = vision->jobs[i];
        if (!ended.busy || ended.deadline_us > engine->now_us) {
            continue;
        }
        struct loss loss = {
            .err = RMK_EUNAVAILABLE,
            .why = "the vision worker did not encode in time; --encode-timeout-ms gives it more",
            .asker = ended.request,
        };
        for (uint32_t j = 0; j < asker_count; j++) {
            if (rmk_fleet_same_request(askers[j], ended.request)) {
                loss.charge = CHARGE_NOBODY;
            }
        }
        askers[asker_count++] = ended.request;
        RMK_TRACE(engine, "encode-timeout " RMK_REQ " item=%u vision=%u", RMK_REQ_OF(ended.request),
                  ended.item, index);
        vision->suspect = true;
        end_job(engine, index, &vision->jobs[i]);
        lose_encode(engine, ended.what.key, index, &loss);
    }
}
