#include "coordinator/engine/engine.h"

#include <string.h>

#include "coordinator/engine/policy.h"
#include "coordinator/engine/state.h"

/* ---- memory
 * ------------------------------------------------------------------------------------------------------
 */

/* The next `bytes` of the block. With no block (base NULL) only counts. */
static void *carve(uint8_t *base, size_t *used, size_t bytes)
{
    size_t begin = (*used + 63) & ~(size_t)63;

    *used = begin + bytes;
    return base == NULL ? NULL : base + begin;
}

/* Most actions of one step. What one event does to a request is at most: end a staging, restart,
 * end, release. Passes that could do more look at the room left (rmk_engine_has_room). */
static uint32_t count_actions(const struct rmk_engine_limits *limits)
{
    return 4 * limits->requests_max + 2 * limits->groups_max + 256;
}

/* One description of the block's parts, for counting and for laying out. */
static size_t lay_out(const struct rmk_engine_limits *limits, uint8_t *base,
                      struct rmk_engine *engine)
{
    uint32_t requests = limits->requests_max;
    uint32_t rows = limits->rows_per_plan_max;
    uint32_t timers = requests + limits->groups_max + limits->visions_max;
    size_t used = 0;

    (void)carve(base, &used, sizeof(*engine));
    engine->requests = carve(base, &used, requests * sizeof(*engine->requests));
    engine->handles = carve(base, &used, requests * sizeof(*engine->handles));
    engine->free_indexes = carve(base, &used, requests * sizeof(*engine->free_indexes));
    engine->queue.entries = carve(base, &used, requests * sizeof(*engine->queue.entries));
    engine->timers.due = carve(base, &used, timers * sizeof(*engine->timers.due));
    engine->timers.heap = carve(base, &used, timers * sizeof(*engine->timers.heap));
    engine->timers.place = carve(base, &used, timers * sizeof(*engine->timers.place));
    engine->touched = carve(base, &used, limits->groups_max * sizeof(*engine->touched));
    engine->actions = carve(base, &used, count_actions(limits) * sizeof(*engine->actions));
    engine->guesses = carve(base, &used, RMK_READS_MAX * sizeof(*engine->guesses));
    engine->commits =
        carve(base, &used, (size_t)rows * RMK_GEN_LENGTH_MAX * sizeof(*engine->commits));
    engine->fleet.hints = carve(base, &used, RMK_HINTS * sizeof(*engine->fleet.hints));
    engine->fleet.visions =
        carve(base, &used, limits->visions_max * sizeof(*engine->fleet.visions));
    engine->fleet.groups = carve(base, &used, limits->groups_max * sizeof(*engine->fleet.groups));
    for (uint32_t i = 0; i < limits->groups_max; i++) {
        struct rmk_plan_row *plan_rows = carve(base, &used, rows * sizeof(*plan_rows));
        if (base != NULL) {
            engine->fleet.groups[i].rows = plan_rows;
        }
    }
    return used;
}

/* The limits come from the program's own checked configuration: anything else is our fault. */
static void check_limits(const struct rmk_engine_limits *limits)
{
    rmk_assert(limits->requests_max >= 1);
    rmk_assert(limits->requests_max <= RMK_REQUESTS_MAX);
    rmk_assert(limits->groups_max >= 1);
    rmk_assert(limits->groups_max <= RMK_GROUPS_MAX);
    rmk_assert(limits->visions_max <= RMK_VISION_MAX);
    rmk_assert(limits->rows_per_plan_max >= 1);
    rmk_assert(limits->rows_per_plan_max <= RMK_GROUP_SLOTS_MAX);
    rmk_assert(limits->retries_max <= RMK_RETRIES_MAX);
    rmk_assert(limits->ahead_max <= RMK_AHEAD_MAX);
    rmk_assert(limits->plan_timeout_us > 0);
    rmk_assert(limits->encode_timeout_us > 0);
}

size_t rmk_engine_bytes(const struct rmk_engine_limits *limits)
{
    struct rmk_engine counted;

    check_limits(limits);
    return lay_out(limits, NULL, &counted);
}

struct rmk_engine *rmk_engine_init(void *memory, const struct rmk_engine_limits *limits)
{
    struct rmk_engine *engine = memory;

    check_limits(limits);
    rmk_assert(((uintptr_t)memory & 63) == 0);
    memset(engine, 0, sizeof(*engine));
    engine->limits = *limits;
    (void)lay_out(limits, memory, engine);
    engine->action_max = count_actions(limits);
    engine->timer_set_us = RMK_TIMER_NEVER;
    engine->fleet.group_max = limits->groups_max;
    engine->fleet.vision_max = limits->visions_max;
    rmk_fleet_init(&engine->fleet);
    rmk_queue_init(&engine->queue);
    rmk_timer_init(&engine->timers,
                   limits->requests_max + limits->groups_max + limits->visions_max);
    for (uint32_t i = 0; i < limits->requests_max; i++) {
        engine->handles[i] = (struct rmk_handle){0};
        engine->free_indexes[engine->free_count++] = limits->requests_max - 1 - i;
    }
    return engine;
}

struct rmk_action *rmk_engine_act(struct rmk_engine *engine, enum rmk_action_kind kind)
{
    rmk_assert(engine->action_count < engine->action_max);
    struct rmk_action *action = &engine->actions[engine->action_count++];
    memset(action, 0, sizeof(*action));
    action->kind = kind;
    return action;
}

bool rmk_engine_has_room(struct rmk_engine *engine, uint32_t actions)
{
    /* A plan for every group and the timer come after the passes, always. */
    bool has_room =
        engine->action_count + actions + engine->limits.groups_max + 1 <= engine->action_max;

    engine->again |= !has_room;
    return has_room;
}

struct rmk_request *rmk_engine_find(struct rmk_engine *engine, struct rmk_request_id id)
{
    if (id.generation == 0 || id.index >= engine->limits.requests_max ||
        !engine->handles[id.index].live || engine->handles[id.index].generation != id.generation) {
        return NULL;
    }
    return &engine->requests[id.index];
}

void rmk_engine_touch(struct rmk_engine *engine, uint32_t group)
{
    if (!engine->fleet.groups[group].touched) {
        engine->fleet.groups[group].touched = true;
        engine->touched[engine->touched_count++] = group;
    }
}

/* ---- events
 * ------------------------------------------------------------------------------------------------------
 */

/* May `submit` come in? Otherwise the sentence is in engine->refusal. */
static enum rmk_err judge(struct rmk_engine *engine, const struct rmk_submit *submit,
                          uint64_t *out_retry_us)
{
    struct rmk_why *why = &engine->refusal;
    enum rmk_err err = rmk_admit_check(submit, why);

    if (err != RMK_OK) {
        return err;
    }
    if (engine->draining) {
        *out_retry_us = RMK_POLICY_RETRY_US;
        return rmk_fail(why, RMK_EUNAVAILABLE,
                        "the server is draining and accepts no new requests");
    }
    *out_retry_us =
        rmk_admit_retry_us(engine->service_us, engine->queue.count, engine->fleet.slots_up);
    if (engine->queue.count >= engine->limits.queued_max || engine->free_count == 0) {
        return rmk_fail(why, RMK_ELIMIT,
                        "%u requests are open and %u of them wait; no more are accepted now",
                        engine->limits.requests_max - engine->free_count, engine->queue.count);
    }
    if (rmk_queue_is_hogged(&engine->queue, submit->tenant, engine->limits.queued_max)) {
        return rmk_fail(why, RMK_ELIMIT,
                        "%u requests wait, most of them this tenant's; what is left is for others",
                        engine->queue.count);
    }
    return RMK_OK;
}

static void on_submit(struct rmk_engine *engine, const struct rmk_submit *submit)
{
    uint64_t retry_us = 0;
    enum rmk_err err = judge(engine, submit, &retry_us);

    if (err != RMK_OK) {
        rmk_life_refuse(engine, submit->tag, err, retry_us);
        return;
    }
    uint32_t index = engine->free_indexes[engine->free_count - 1];
    struct rmk_request *request = &engine->requests[index];
    rmk_request_init(request, submit, engine->now_us);
    if (!rmk_fleet_could_hold(&engine->fleet, request)) {
        err = rmk_fleet_explain(&engine->fleet, request, &engine->refusal);
        rmk_life_refuse(engine, submit->tag, err, 0);
        return;
    }
    engine->free_count--;
    struct rmk_handle *handle = &engine->handles[index];
    handle->live = true;
    handle->generation += handle->generation == UINT32_MAX ? 2 : 1; /* never 0 */
    request->id = (struct rmk_request_id){.index = index, .generation = handle->generation};
    bool more = rmk_canvas_next(&request->canvas);
    rmk_assert(more);
    request->stage = RMK_STAGE_WAITING;
    engine->stages[RMK_STAGE_WAITING]++;
    engine->totals.accepted++;

    struct rmk_action *action = rmk_engine_act(engine, RMK_ACTION_ACCEPTED);
    action->request = request->id;
    action->tag = request->tag;
    RMK_TRACE(engine, "accept " RMK_REQ " tag=%llu lane=%s tenant=%u rows=%u items=%u gen=%u",
              RMK_REQ_OF(request->id), (unsigned long long)request->tag,
              request->lane == RMK_LANE_ONLINE ? "online" : "batch", request->tenant,
              request->total_rows, request->item_count, request->canvas.gen_length);
    rmk_queue_push(&engine->queue, request);
    rmk_life_settle_in_queue(engine, request);
}

static void on_client(struct rmk_engine *engine, struct rmk_request_id id, bool slow)
{
    struct rmk_request *request = rmk_engine_find(engine, id);

    if (request == NULL || request->slow == slow) {
        return;
    }
    RMK_TRACE(engine, "client-%s " RMK_REQ, slow ? "slow" : "ready", RMK_REQ_OF(id));
    rmk_life_set_slow(engine, request, slow);
    if (request->entry != RMK_NOWHERE) {
        rmk_life_settle_in_queue(engine, request);
    } else {
        rmk_engine_touch(engine, request->group);
        engine->place_wanted |= slow;
    }
}

static void on_end(struct rmk_engine *engine, struct rmk_request_id id, enum rmk_finish reason,
                   enum rmk_err err)
{
    struct rmk_request *request = rmk_engine_find(engine, id);

    /* A stop in the text of a request that has begun anew since is a stop in no text. */
    if (request == NULL || (reason == RMK_FINISH_STOP && request->usage.committed == 0)) {
        RMK_TRACE(engine, "late end " RMK_REQ, RMK_REQ_OF(id));
        return;
    }
    rmk_life_finish(engine, request, reason, err);
}

static void dispatch(struct rmk_engine *engine, const struct rmk_event *event)
{
    switch (event->kind) {
    case RMK_EVENT_TICK:
        break;
    case RMK_EVENT_SUBMIT:
        on_submit(engine, event->submit);
        break;
    case RMK_EVENT_CANCEL:
        on_end(engine, event->request, RMK_FINISH_CANCELLED, RMK_ECANCELLED);
        break;
    case RMK_EVENT_TEXT_STOP:
        on_end(engine, event->request, RMK_FINISH_STOP, RMK_OK);
        break;
    case RMK_EVENT_FEATURES_READY:
        rmk_features_ready(engine, &event->features);
        break;
    case RMK_EVENT_FEATURES_RESIDENT:
        rmk_features_resident(engine, &event->features);
        break;
    case RMK_EVENT_FEATURES_FAILED:
        rmk_features_failed(engine, &event->features);
        break;
    case RMK_EVENT_STEP_DONE:
        rmk_rounds_step_done(engine, &event->step);
        break;
    case RMK_EVENT_STEP_FAILED:
        rmk_rounds_step_failed(engine, &event->step);
        break;
    case RMK_EVENT_GROUP_UP:
        rmk_rounds_group_up(engine, &event->group);
        break;
    case RMK_EVENT_GROUP_DOWN:
        rmk_rounds_group_down(engine, &event->group);
        break;
    case RMK_EVENT_VISION_UP:
        rmk_features_vision_up(engine, &event->vision);
        break;
    case RMK_EVENT_VISION_DOWN:
        rmk_features_vision_down(engine, &event->vision);
        break;
    case RMK_EVENT_CLIENT_SLOW:
        on_client(engine, event->request, true);
        break;
    case RMK_EVENT_CLIENT_READY:
        on_client(engine, event->request, false);
        break;
    case RMK_EVENT_DRAIN:
        RMK_TRACE(engine, "drain open=%u", engine->limits.requests_max - engine->free_count);
        engine->draining = true;
        break;
    }
}

static void on_request_due(struct rmk_engine *engine, struct rmk_request *request)
{
    if (request->deadline_us != 0 && request->deadline_us <= engine->now_us) {
        bool answers = request->best_at_deadline && request->usage.committed > 0;
        rmk_life_finish(engine, request, RMK_FINISH_DEADLINE, answers ? RMK_OK : RMK_EDEADLINE);
    } else if (request->stage == RMK_STAGE_FETCHING &&
               request->fetch_deadline_us <= engine->now_us) {
        rmk_features_fetch_due(engine, request);
    } else {
        engine->place_wanted = true; /* its pause is over */
        engine->encode_wanted = true;
        rmk_life_arm(engine, request);
    }
}

/* After the event, so that an answer that has arrived beats its own timeout. */
static void run_timers(struct rmk_engine *engine)
{
    uint32_t id = 0;

    while (rmk_timer_first(&engine->timers, &id) <= engine->now_us) {
        if (id < engine->limits.requests_max) {
            on_request_due(engine, &engine->requests[id]);
            continue;
        }
        id -= engine->limits.requests_max;
        if (id < engine->limits.groups_max) {
            rmk_rounds_group_due(engine, id);
        } else {
            rmk_features_vision_due(engine, id - engine->limits.groups_max);
        }
    }
}

/* An earlier tick than needed is harmless, so a later due time alone is no reason to set the timer
 * anew. */
static void set_timer(struct rmk_engine *engine)
{
    uint32_t id = 0;
    uint64_t due_us = engine->again ? engine->now_us : rmk_timer_first(&engine->timers, &id);

    if (due_us == RMK_TIMER_NEVER ||
        (due_us >= engine->timer_set_us && engine->timer_set_us > engine->now_us)) {
        return;
    }
    engine->timer_set_us = due_us;
    rmk_engine_act(engine, RMK_ACTION_SET_TIMER)->timer_us = due_us;
}

void rmk_engine_step(struct rmk_engine *engine, const struct rmk_event *event,
                     struct rmk_actions *out_actions)
{
    engine->action_count = 0;
    engine->commit_count = 0;
    engine->again = false;
    if (event->now_us > engine->now_us) {
        engine->now_us = event->now_us; /* a clock that steps back must not move deadlines */
    }
    dispatch(engine, event);
    run_timers(engine);
    rmk_rounds_pass(engine);
    set_timer(engine);
    out_actions->items = engine->actions;
    out_actions->count = engine->action_count;
}

/* ---- looking in
 * --------------------------------------------------------------------------------------------------
 */

void rmk_engine_count(const struct rmk_engine *engine, struct rmk_engine_counts *out_counts)
{
    const uint32_t *stages = engine->stages;

    *out_counts = engine->totals;
    out_counts->open = engine->limits.requests_max - engine->free_count;
    out_counts->queued = stages[RMK_STAGE_WAITING] + stages[RMK_STAGE_SEEKING];
    out_counts->encoding = stages[RMK_STAGE_ENCODING];
    out_counts->running =
        stages[RMK_STAGE_FETCHING] + stages[RMK_STAGE_READY] + stages[RMK_STAGE_RIDING];
    out_counts->groups_up = engine->fleet.groups_up;
    out_counts->visions_up = engine->fleet.visions_up;
}

void rmk_engine_trace(struct rmk_engine *engine, rmk_trace_fn trace, void *context)
{
    engine->trace = (struct rmk_trace){.write = trace, .context = context};
}
