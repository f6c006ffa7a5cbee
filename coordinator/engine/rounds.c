#include "coordinator/engine/ahead.h"
#include "coordinator/engine/batch.h"
#include "coordinator/engine/leave.h"
#include "coordinator/engine/ledger.h"
#include "coordinator/engine/policy.h"
#include "coordinator/engine/state.h"

static uint32_t timer_of_group(const struct rmk_engine *engine, uint32_t group)
{
    return engine->limits.requests_max + group;
}

static void arm_group(struct rmk_engine *engine, uint32_t index)
{
    const struct rmk_group *group = &engine->fleet.groups[index];

    rmk_timer_set(&engine->timers, timer_of_group(engine, index),
                  group->in_flight ? group->deadline_us : RMK_TIMER_NEVER);
}

/* ---- placing
 * -----------------------------------------------------------------------------------------------------
 */

/* The longest request that could be given a slot now. False: none could. */
static bool measure_room(const struct rmk_engine *engine, struct rmk_room *room)
{
    bool any = false;

    for (uint32_t i = 0; i < engine->fleet.group_max; i++) {
        const struct rmk_group *group = &engine->fleet.groups[i];
        if (!group->up || (group->held == group->slot_count && engine->paused == 0)) {
            continue;
        }
        any = true;
        room->kv |= group->kv_rows_max > 0 && !group->kv_reserved;
        room->total_rows = group->rows_max > room->total_rows ? group->rows_max : room->total_rows;
        room->step_rows =
            group->step_rows_max > room->step_rows ? group->step_rows_max : room->step_rows;
    }
    return any;
}

/* Does its holder not ride only because its client does not read? */
static bool is_paused_in(const struct rmk_engine *engine, const struct rmk_group *group,
                         uint32_t slot)
{
    struct rmk_request_id holder = group->slots[slot].holder;
    const struct rmk_request *resident = &engine->requests[holder.index];

    return holder.generation != 0 && resident->stage == RMK_STAGE_READY && resident->slow;
}

static uint32_t count_paused(const struct rmk_engine *engine, const struct rmk_group *group)
{
    uint32_t count = 0;

    for (uint32_t slot = 0; engine->paused > 0 && slot < group->slot_count; slot++) {
        count += is_paused_in(engine, group, slot);
    }
    return count;
}

/* A resident of `group` whose client does not read, or NULL. */
static struct rmk_request *find_paused(struct rmk_engine *engine, const struct rmk_group *group)
{
    for (uint32_t slot = 0; slot < group->slot_count; slot++) {
        if (is_paused_in(engine, group, slot)) {
            return &engine->requests[group->slots[slot].holder.index];
        }
    }
    return NULL;
}

/* Could `request` be here if those whose clients do not read were not? */
static bool paused_make_room(const struct rmk_engine *engine, const struct rmk_group *group,
                             const struct rmk_request *request)
{
    uint32_t paused = 0;
    uint32_t kv_rows = 0;
    uint32_t feature_rows = 0;

    for (uint32_t slot = 0; slot < group->slot_count; slot++) {
        const struct rmk_request *resident = &engine->requests[group->slots[slot].holder.index];
        if (is_paused_in(engine, group, slot)) {
            paused++;
            kv_rows += resident->kv_rows;
            feature_rows += resident->feature_rows;
        }
    }
    return paused > 0 &&
           (request->kv_rows == 0 ||
            (!group->kv_reserved && rmk_fleet_has_rows(group, request, kv_rows, feature_rows)));
}

/* Take the slots of those who would not use them, so that slow readers cannot fill a group. */
static uint32_t make_room(struct rmk_engine *engine, const struct rmk_request *request)
{
    for (uint32_t i = 0; engine->paused > 0 && i < engine->fleet.group_max; i++) {
        struct rmk_group *group = &engine->fleet.groups[i];
        if (!group->up || !rmk_fleet_can_hold(group, request) ||
            !rmk_fleet_may_go_on(group, request) || !paused_make_room(engine, group, request)) {
            continue;
        }
        do {
            struct rmk_request *paused = find_paused(engine, group);
            RMK_TRACE(engine, "evict " RMK_REQ " group=%u", RMK_REQ_OF(paused->id), i);
            rmk_life_requeue(engine, paused, true);
        } while (!rmk_fleet_has_rows(group, request, 0, 0));
        return i;
    }
    return RMK_NOWHERE;
}

/* Another numerics class would not go on as this one began: start anew. */
static void restart(struct rmk_engine *engine, struct rmk_request *request)
{
    struct rmk_action *action = rmk_engine_act(engine, RMK_ACTION_EMIT);

    rmk_canvas_restart(&request->canvas);
    bool more = rmk_canvas_next(&request->canvas);
    rmk_assert(more);
    request->usage.restarted = true;
    request->usage.committed = 0;
    action->request = request->id;
    action->tag = request->tag;
    action->emit.canvas = request->canvas.ids;
    action->emit.gen_length = request->canvas.gen_length;
    RMK_TRACE(engine, "restart " RMK_REQ, RMK_REQ_OF(request->id));
}

static void place(struct rmk_engine *engine, struct rmk_request *request, uint32_t index)
{
    struct rmk_group *group = &engine->fleet.groups[index];

    rmk_queue_turn(&engine->queue, request);
    rmk_queue_remove(&engine->queue, engine->requests, request);
    engine->encode_wanted = true; /* room for another to begin */
    rmk_ledger_take(group, index, request);
    RMK_TRACE(engine, "place " RMK_REQ " group=%u epoch=%llu slot=%u turn=%llu",
              RMK_REQ_OF(request->id), index, (unsigned long long)group->epoch, request->slot,
              (unsigned long long)request->turn);
    if (request->classed && request->canvas.forward > 0 &&
        request->numerics_class != group->numerics_class) {
        restart(engine, request);
    }
    request->classed = true;
    request->numerics_class = group->numerics_class;
    if (request->item_count == 0) {
        rmk_life_set_stage(engine, request, RMK_STAGE_READY);
        rmk_engine_touch(engine, index);
    } else {
        rmk_life_set_stage(engine, request, RMK_STAGE_FETCHING);
        request->fetch_deadline_us = engine->now_us + engine->limits.encode_timeout_us;
    }
    for (uint32_t i = 0; i < request->item_count; i++) {
        struct rmk_request_item *item = &request->items[i];
        struct rmk_action *action = rmk_engine_act(engine, RMK_ACTION_PREFETCH);
        item->resident = false;
        action->request = request->id;
        action->place.item = i;
        action->place.vision = item->vision;
        action->place.vision_epoch = item->vision_epoch;
        action->place.group = index;
        action->place.epoch = group->epoch;
        RMK_TRACE(engine, "prefetch " RMK_REQ " item=%u vision=%u group=%u",
                  RMK_REQ_OF(request->id), i, item->vision, index);
    }
    rmk_life_arm(engine, request);
}

static void place_pass(struct rmk_engine *engine)
{
    bool skipped = false;

    if (!engine->place_wanted) {
        return;
    }
    engine->place_wanted = false;
    for (;;) {
        struct rmk_room room = {.now_us = engine->now_us, .turns = true};
        if (!measure_room(engine, &room)) {
            break;
        }
        struct rmk_entry *entry = rmk_queue_pick(&engine->queue, RMK_WANT_PLACE, &room);
        if (entry == NULL) {
            break;
        }
        if (!rmk_engine_has_room(engine, RMK_ITEMS_MAX + 2)) {
            engine->place_wanted = true;
            break;
        }
        struct rmk_request *request = &engine->requests[entry->request];
        uint32_t group = rmk_fleet_choose_group(&engine->fleet, request);
        if (group == RMK_NOWHERE) {
            group =
                make_room(engine, request); /* may move entries about: `entry` is stale after it */
        }
        if (group == RMK_NOWHERE) {
            engine->queue.entries[request->entry].skipped = true;
            rmk_fleet_reserve(&engine->fleet, request);
            skipped = true;
            continue;
        }
        place(engine, request, group);
    }
    for (uint32_t i = 0; skipped && i < engine->queue.count; i++) {
        engine->queue.entries[i].skipped = false;
    }
    for (uint32_t i = 0; skipped && i < engine->fleet.group_max; i++) {
        engine->fleet.groups[i].kv_reserved = false;
    }
}

/* ---- plans
 * -------------------------------------------------------------------------------------------------------
 */

static void trace_ride(struct rmk_engine *engine, const struct rmk_request *request,
                       const struct rmk_plan_row *row)
{
    static const char *const kinds[] = {
        [RMK_PLAN_FULL] = "", [RMK_PLAN_WINDOW] = " window", [RMK_PLAN_FEATURE] = " feature"};
    const struct rmk_canvas *canvas = &request->canvas;

    RMK_TRACE(engine,
              "ride " RMK_REQ " slot=%u%s%s%s%s forward=%llu block=%u step=%u reads=%u updates=%u",
              RMK_REQ_OF(row->request), row->slot, row->open ? " open" : "", kinds[row->kind],
              row->keep ? " keep" : "", row->read_count == 0 ? " replay" : "",
              (unsigned long long)row->forward, canvas->block, canvas->step, row->read_count,
              row->update_count);
}

static void run_plan(struct rmk_engine *engine, uint32_t index)
{
    struct rmk_group *group = &engine->fleet.groups[index];
    struct rmk_request *riders[RMK_GROUP_SLOTS_MAX];
    uint32_t rider_count = rmk_batch_pick(group, engine->requests, engine->limits.rows_per_plan_max,
                                          engine->now_us, riders);

    if (rider_count == 0) {
        return;
    }
    /* Somebody in the queue may be a moment away from a slot here. */
    uint32_t most = engine->queue.count == 0 ? engine->limits.ahead_max : 1;
    uint32_t ahead = rmk_leave_forwards(group, riders, rider_count, count_paused(engine, group),
                                        most, engine->now_us);
    struct rmk_action *action = rmk_engine_act(engine, RMK_ACTION_RUN_STEP);
    action->plan = rmk_ledger_plan(group, index, riders, rider_count, ahead);
    group->given_us = engine->limits.plan_timeout_us +
                      RMK_POLICY_PATIENCE * rmk_batch_expect_us(group, riders, rider_count);
    group->deadline_us = engine->now_us + group->given_us;
    arm_group(engine, index);
    engine->totals.rounds++;
    engine->totals.rows += rider_count;
    RMK_TRACE(engine, "plan group=%u epoch=%llu sequence=%llu rows=%u closes=%u", index,
              (unsigned long long)group->epoch, (unsigned long long)group->sequence, rider_count,
              action->plan.close_count);
    if (ahead > 1) {
        RMK_TRACE(engine, "leave group=%u forwards=%u", index, ahead);
    }
    for (uint32_t i = 0; i < rider_count; i++) {
        rmk_life_set_stage(engine, riders[i], RMK_STAGE_RIDING);
        if (riders[i]->first_round_us == 0) {
            riders[i]->first_round_us = engine->now_us;
            riders[i]->usage.queue_us = engine->now_us - riders[i]->submitted_us;
        }
        trace_ride(engine, riders[i], &group->rows[i]);
    }
}

void rmk_rounds_pass(struct rmk_engine *engine)
{
    place_pass(engine);
    rmk_features_pass(engine);
    for (uint32_t i = 0; i < engine->touched_count; i++) {
        struct rmk_group *group = &engine->fleet.groups[engine->touched[i]];
        group->touched = false;
        if (group->up && !group->in_flight) {
            run_plan(engine, engine->touched[i]);
        }
    }
    engine->touched_count = 0;
}

/* ---- answers
 * -----------------------------------------------------------------------------------------------------
 */

/* The group's plan that `event` answers, or NULL: an older plan, an older epoch, the same answer
 * once more. */
static struct rmk_group *take_answer(struct rmk_engine *engine, const struct rmk_event_step *event,
                                     const char *what)
{
    if (!rmk_fleet_is_group(&engine->fleet, event->group, event->epoch) ||
        !engine->fleet.groups[event->group].in_flight ||
        engine->fleet.groups[event->group].sequence != event->sequence) {
        RMK_TRACE(engine, "late %s group=%u epoch=%llu sequence=%llu", what, event->group,
                  (unsigned long long)event->epoch, (unsigned long long)event->sequence);
        return NULL;
    }
    struct rmk_group *group = &engine->fleet.groups[event->group];
    group->in_flight = false;
    arm_group(engine, event->group);
    rmk_engine_touch(engine, event->group);
    return group;
}

/* Results usually come in the order of the rows; `hint` is where to look first. */
static const struct rmk_row_result *find_result(const struct rmk_event_step *event,
                                                struct rmk_request_id request, uint32_t hint)
{
    if (hint < event->row_count && rmk_fleet_same_request(event->rows[hint].request, request)) {
        return &event->rows[hint];
    }
    for (uint32_t i = 0; i < event->row_count; i++) {
        if (rmk_fleet_same_request(event->rows[i].request, request)) {
            return &event->rows[i];
        }
    }
    return NULL;
}

/* Do the guesses answer just what the canvas asks? A worker is a peer: what it sends is looked at.
 */
static bool is_answer(const struct rmk_canvas *canvas, uint32_t read_count,
                      const struct rmk_guess *guesses, uint32_t guess_count)
{
    if (guess_count != read_count) {
        return false;
    }
    for (uint32_t i = 0; i < read_count; i++) {
        int64_t position = (int64_t)canvas->reads[i] - canvas->prompt_rows;
        if (guesses[i].position != position || guesses[i].token < 0) {
            return false;
        }
    }
    return true;
}

/* Did the group commit what we did, from `log_begin` on? */
static bool has_committed(const struct rmk_canvas *canvas, uint32_t log_begin,
                          const struct rmk_row_forward *forward)
{
    const struct rmk_plan_update *log = canvas->log + log_begin;

    if (forward->commit_count != canvas->log_count - log_begin) {
        return false;
    }
    for (uint32_t i = 0; i < forward->commit_count; i++) {
        if (forward->commits[i].position != log[i].position ||
            forward->commits[i].id != log[i].id) {
            return false;
        }
    }
    return true;
}

/* What one answer adds to a request's text. */
struct additions {
    struct rmk_commit *commits; /* of the step's */
    uint32_t count;
    bool masks; /* mask tokens are among them: their positions may be committed again */
    uint32_t block;
    uint32_t step; /* of the last forward */
};

/* Where the commit goes: a mask token's place, if that is what the position held so far. */
static struct rmk_commit *place_of(struct additions *additions, uint32_t position)
{
    for (uint32_t i = 0; additions->masks && i < additions->count; i++) {
        if (additions->commits[i].position == position) {
            return &additions->commits[i];
        }
    }
    return &additions->commits[additions->count++];
}

/* Commit a forward's guesses. Commits inside the prompt are nobody's text and are left out. */
static void commit(struct rmk_engine *engine, struct rmk_request *request,
                   const struct rmk_guess *guesses, uint32_t guess_count,
                   struct additions *additions)
{
    struct rmk_canvas *canvas = &request->canvas;

    additions->block = canvas->block;
    additions->step = canvas->step;
    for (uint32_t i = 0; i < guess_count; i++) {
        engine->guesses[i] = guesses[i];
    }
    uint32_t picked = rmk_canvas_commit(canvas, engine->guesses, guess_count);
    for (uint32_t i = 0; i < picked; i++) {
        const struct rmk_guess *guess = &engine->guesses[i];
        if (guess->position >= 0) {
            *place_of(additions, (uint32_t)guess->position) = (struct rmk_commit){
                .position = (uint32_t)guess->position,
                .token = guess->token,
                .confidence = guess->confidence,
            };
            request->usage.committed += guess->token != canvas->mask_id;
            additions->masks |= guess->token == canvas->mask_id;
            engine->totals.commits++;
        }
    }
    RMK_TRACE(engine, "commit " RMK_REQ " block=%u step=%u picked=%u settled=%u%s",
              RMK_REQ_OF(request->id), additions->block, additions->step, picked,
              rmk_canvas_settled(canvas), canvas->found ? " stop" : "");
}

static void emit(struct rmk_engine *engine, struct rmk_request *request,
                 const struct additions *additions)
{
    engine->commit_count += additions->count;
    if (additions->count == 0) {
        return;
    }
    if (!request->first_committed) {
        request->first_committed = true;
        request->usage.first_commit_us = engine->now_us - request->submitted_us;
    }
    struct rmk_action *action = rmk_engine_act(engine, RMK_ACTION_EMIT);
    action->request = request->id;
    action->tag = request->tag;
    action->emit.commits = additions->commits;
    action->emit.commit_count = additions->count;
    action->emit.settled_count = rmk_canvas_settled(&request->canvas);
    action->emit.canvas = request->canvas.ids;
    action->emit.gen_length = request->canvas.gen_length;
    action->emit.block = additions->block;
    action->emit.step = additions->step;
}

static void refuse_answer(struct rmk_engine *engine, struct rmk_request *request)
{
    if (rmk_life_charge(engine, request, "the group's answer does not fit what was asked")) {
        rmk_life_requeue(engine, request, true);
        rmk_life_back_off(engine, request);
    }
}

static void fail_poisoned(struct rmk_engine *engine, struct rmk_request *request)
{
    rmk_life_fail(engine, request, RMK_EINTERNAL, "the model gave a logit that is not finite");
}

/* The guesses of the forward asked for, and of those run ahead with `leave`, as if one after the
 * other had been asked for: commit, tell, end or go on. What does not fit ends it; what came before
 * that is as good as ever. */
static void take_guesses(struct rmk_engine *engine, struct rmk_request *request, uint32_t leave,
                         const struct rmk_row_result *result)
{
    struct rmk_canvas *canvas = &request->canvas;
    struct additions additions = {.commits = engine->commits + engine->commit_count};
    uint32_t log_begin = canvas->log_count;
    bool fits = true;

    commit(engine, request, result->guesses, result->guess_count, &additions);
    bool more = rmk_canvas_next(canvas);
    for (uint32_t i = 0; more && fits && i < result->ahead_count; i++) {
        const struct rmk_row_forward *forward = &result->ahead[i];
        fits = i + 1 < leave && rmk_ahead_may(canvas) &&
               has_committed(canvas, log_begin, forward) &&
               is_answer(canvas, canvas->read_count, forward->guesses, forward->guess_count);
        if (fits) {
            log_begin = canvas->log_count;
            request->log_seen = canvas->log_count; /* it has run this one on them */
            commit(engine, request, forward->guesses, forward->guess_count, &additions);
            more = rmk_canvas_next(canvas);
        }
    }
    emit(engine, request, &additions);
    if (!more) {
        rmk_life_finish(engine, request, canvas->found ? RMK_FINISH_STOP : RMK_FINISH_LENGTH,
                        RMK_OK);
    } else if (!fits) {
        request->stepwise = true; /* whatever it was: not once more */
        refuse_answer(engine, request);
    } else if (result->poisoned_ahead) {
        fail_poisoned(engine, request);
    } else {
        rmk_life_set_stage(engine, request, RMK_STAGE_READY);
        engine->place_wanted |= request->slow; /* a paused resident may make room */
    }
}

static void take_row(struct rmk_engine *engine, struct rmk_request *request, uint32_t leave,
                     const struct rmk_row_result *result, uint64_t compute_us)
{
    const struct rmk_ride ride = rmk_request_ride(request);

    if (result != NULL && result->poisoned) {
        fail_poisoned(engine, request);
        return;
    }
    if (result == NULL ||
        !is_answer(&request->canvas, ride.read_count, result->guesses, result->guess_count)) {
        refuse_answer(engine, request);
        return;
    }
    request->usage.compute_us += compute_us;
    request->forward_us = compute_us / (1 + result->ahead_count) + 1;
    rmk_request_rode(request, &ride);
    if (ride.replay) {
        rmk_life_set_stage(engine, request, RMK_STAGE_READY);
        engine->place_wanted |= request->slow;
    } else {
        take_guesses(engine, request, leave, result);
    }
}

void rmk_rounds_step_done(struct rmk_engine *engine, const struct rmk_event_step *event)
{
    struct rmk_group *group = take_answer(engine, event, "step-done");

    for (uint32_t i = 0; group != NULL && i < group->row_count; i++) {
        struct rmk_request *request = rmk_engine_find(engine, group->rows[i].request);
        if (request != NULL) { /* else it ended meanwhile */
            rmk_assert(request->stage == RMK_STAGE_RIDING);
            take_row(engine, request, group->rows[i].ahead, find_result(event, request->id, i),
                     event->compute_us);
        }
    }
}

/* Is somebody who rode the plan named? A worker may name anybody; then nobody is. */
static bool names_rider(const struct rmk_group *group, struct rmk_request_id culprit)
{
    bool found = false;

    for (uint32_t i = 0; i < group->row_count; i++) {
        found |= rmk_fleet_same_request(group->rows[i].request, culprit);
    }
    return found;
}

void rmk_rounds_step_failed(struct rmk_engine *engine, const struct rmk_event_step *event)
{
    struct rmk_group *group = take_answer(engine, event, "step-failed");

    if (group == NULL) {
        return;
    }
    RMK_TRACE(engine, "step-failed group=%u sequence=%llu err=%s culprit=%u.%u", event->group,
              (unsigned long long)event->sequence, rmk_err_name(event->err),
              RMK_REQ_OF(event->culprit));
    const bool named = names_rider(group, event->culprit);
    for (uint32_t i = 0; i < group->row_count; i++) {
        struct rmk_request *request = rmk_engine_find(engine, group->rows[i].request);
        if (request == NULL) {
            continue;
        }
        bool blamed = !named || rmk_fleet_same_request(event->culprit, request->id);
        if (blamed && named && rmk_policy_is_final(event->err)) {
            rmk_life_fail(engine, request, event->err, event->why);
        } else if (!blamed) {
            rmk_life_requeue(engine, request, true);
        } else if (rmk_life_charge(engine, request, event->why)) {
            rmk_life_requeue(engine, request, true);
            rmk_life_back_off(engine, request);
        }
    }
    rmk_ledger_doubt(group, engine->requests);
}

/* ---- groups
 * ------------------------------------------------------------------------------------------------------
 */

/* The epoch is over: its requests go on elsewhere, or here under the next one, from their last
 * canvas. */
static void lose_group(struct rmk_engine *engine, uint32_t index, const char *why)
{
    struct rmk_group *group = &engine->fleet.groups[index];

    rmk_fleet_group_down(&engine->fleet, index);
    arm_group(engine, index);
    for (uint32_t slot = 0; slot < group->slot_count; slot++) {
        struct rmk_request *request = rmk_engine_find(engine, group->slots[slot].holder);
        if (request == NULL) {
            continue;
        }
        if (request->stage == RMK_STAGE_RIDING) {
            if (!rmk_life_charge(engine, request, why)) {
                continue;
            }
        } else if (request->opened) {
            request->usage
                .recoveries++; /* its canvas is carried over, but the loss was not its doing */
            engine->totals.recoveries++;
        }
        rmk_life_requeue(engine, request, false);
    }
    rmk_assert(group->held == 0);
}

/* Those in the queue that no group can take any more would wait for ever. */
static void fail_oversized(struct rmk_engine *engine)
{
    for (uint32_t i = engine->queue.count; i > 0; i--) {
        struct rmk_request *request = &engine->requests[engine->queue.entries[i - 1].request];
        if (!rmk_fleet_could_hold(&engine->fleet, request)) {
            (void)rmk_fleet_explain(&engine->fleet, request, &request->why);
            rmk_life_finish(engine, request, RMK_FINISH_FAILED, RMK_EINVAL);
        }
    }
}

void rmk_rounds_group_up(struct rmk_engine *engine, const struct rmk_event_group *event)
{
    rmk_assert(event->group < engine->limits.groups_max);
    struct rmk_group *group = &engine->fleet.groups[event->group];
    if (group->up && event->epoch > group->epoch) {
        lose_group(engine, event->group, "the group formed anew");
    }
    if (group->up || !rmk_fleet_group_up(&engine->fleet, event)) {
        RMK_TRACE(engine, "late group-up group=%u epoch=%llu", event->group,
                  (unsigned long long)event->epoch);
        return;
    }
    RMK_TRACE(engine, "group-up group=%u epoch=%llu slots=%u rows=%u step_rows=%u class=%llx",
              event->group, (unsigned long long)event->epoch, group->slot_count, group->rows_max,
              group->step_rows_max, (unsigned long long)group->numerics_class);
    fail_oversized(engine);
    engine->place_wanted = true;
    engine->encode_wanted = true;
}

void rmk_rounds_group_down(struct rmk_engine *engine, const struct rmk_event_group *event)
{
    rmk_assert(event->group < engine->limits.groups_max);
    bool present = rmk_fleet_is_group(&engine->fleet, event->group, event->epoch);
    RMK_TRACE(engine, "%sgroup-down group=%u epoch=%llu", present ? "" : "late ", event->group,
              (unsigned long long)event->epoch);
    if (present) {
        lose_group(engine, event->group, "the text group was lost during a round");
    }
}

void rmk_rounds_group_due(struct rmk_engine *engine, uint32_t index)
{
    struct rmk_group *group = &engine->fleet.groups[index];
    struct rmk_action *action = rmk_engine_act(engine, RMK_ACTION_DISSOLVE);
    struct rmk_why why = {0};

    rmk_assert(group->in_flight);
    action->place.group = index;
    action->place.epoch = group->epoch;
    RMK_TRACE(engine, "dissolve group=%u epoch=%llu sequence=%llu", index,
              (unsigned long long)group->epoch, (unsigned long long)group->sequence);
    /* For us the epoch ends here; GROUP_DOWN will be late. */
    (void)rmk_fail(
        &why, RMK_EUNAVAILABLE,
        "the text group did not answer a plan within %llu ms; --plan-timeout-ms gives it "
        "more",
        (unsigned long long)(group->given_us / 1000));
    lose_group(engine, index, why.text);
}
