#include <string.h>

#include "coordinator/engine/ledger.h"
#include "coordinator/engine/policy.h"
#include "coordinator/engine/state.h"

static bool is_paused(const struct rmk_request *request)
{
    return request->stage == RMK_STAGE_READY && request->slow;
}

void rmk_life_set_stage(struct rmk_engine *engine, struct rmk_request *request,
                        enum rmk_stage stage)
{
    engine->paused -= is_paused(request);
    engine->stages[request->stage]--;
    request->stage = stage;
    engine->stages[request->stage]++;
    engine->paused += is_paused(request);
}

void rmk_life_set_slow(struct rmk_engine *engine, struct rmk_request *request, bool slow)
{
    engine->paused -= is_paused(request);
    request->slow = slow;
    engine->paused += is_paused(request);
}

void rmk_life_arm(struct rmk_engine *engine, struct rmk_request *request)
{
    rmk_timer_set(&engine->timers, request->id.index, rmk_request_due(request, engine->now_us));
}

void rmk_life_settle_in_queue(struct rmk_engine *engine, struct rmk_request *request)
{
    if (request->turn != 0) {
        bool encoded = rmk_request_is_encoded(request);
        rmk_life_set_stage(engine, request, encoded ? RMK_STAGE_SEEKING : RMK_STAGE_ENCODING);
        if (encoded && request->item_count > 0 && request->usage.encode_us == 0) {
            request->usage.encode_us = engine->now_us - request->submitted_us;
        }
    }
    rmk_queue_refresh(&engine->queue, request);
    rmk_life_arm(engine, request);
    engine->encode_wanted = true;
    engine->place_wanted = true;
}

/* Out of its slot. True: of an epoch that still lives. */
static bool leave_group(struct rmk_engine *engine, struct rmk_request *request)
{
    uint32_t index = request->group;
    bool lives = rmk_fleet_is_group(&engine->fleet, index, request->epoch);

    rmk_ledger_leave(&engine->fleet.groups[index], request);
    engine->place_wanted = true;
    return lives;
}

static void act_release(struct rmk_engine *engine, struct rmk_request_id id, uint32_t group,
                        uint64_t epoch)
{
    struct rmk_action *action = rmk_engine_act(engine, RMK_ACTION_RELEASE);

    action->request = id;
    action->place.group = group;
    action->place.epoch = epoch;
}

static const char *const finish_names[] = {
    [RMK_FINISH_LENGTH] = "length",       [RMK_FINISH_STOP] = "stop",
    [RMK_FINISH_CANCELLED] = "cancelled", [RMK_FINISH_DEADLINE] = "deadline",
    [RMK_FINISH_REFUSED] = "refused",     [RMK_FINISH_FAILED] = "failed",
};

/* All up to the stop and the suffix when the loop has ended; what is decided and the suffix when
 * the best at the deadline was asked for and there is any; what is settled when it was cut short.
 */
static void fill_answer(struct rmk_request *request, struct rmk_action *action)
{
    struct rmk_canvas *canvas = &request->canvas;
    uint32_t count = 0;

    if (action->finish.err != RMK_OK) {
        action->finish.ids = canvas->ids;
        action->finish.id_count = rmk_canvas_settled(canvas);
        return;
    }
    if (action->finish.reason == RMK_FINISH_DEADLINE) {
        count = rmk_canvas_decided(canvas);
    } else {
        count = rmk_canvas_next(canvas) ? rmk_canvas_settled(canvas) : canvas->stop_position;
    }
    action->finish.ids = request->answer;
    action->finish.id_count = rmk_canvas_answer(canvas, count, request->answer);
}

static void note_service_time(struct rmk_engine *engine, const struct rmk_request *request)
{
    uint64_t took_us = engine->now_us - request->first_round_us;

    engine->service_us = engine->service_us == 0 ? took_us : (engine->service_us * 7 + took_us) / 8;
}

void rmk_life_finish(struct rmk_engine *engine, struct rmk_request *request, enum rmk_finish reason,
                     enum rmk_err err)
{
    struct rmk_request_id id = request->id;
    uint32_t group = request->group;
    uint64_t epoch = request->epoch;

    request->usage.forwards = (uint32_t)request->canvas.forward;
    request->usage.refreshes = request->canvas.refreshes;
    request->usage.total_us = engine->now_us - request->submitted_us;
    if (reason == RMK_FINISH_LENGTH || reason == RMK_FINISH_STOP) {
        note_service_time(engine, request);
    }
    struct rmk_action *action = rmk_engine_act(engine, RMK_ACTION_FINISH);
    action->request = id;
    action->tag = request->tag;
    action->finish.reason = reason;
    action->finish.err = err;
    action->finish.why = request->why.text;
    action->finish.usage = request->usage;
    fill_answer(request, action);
    RMK_TRACE(engine, "finish " RMK_REQ " reason=%s ids=%u forwards=%u recoveries=%u%s%s%s",
              RMK_REQ_OF(id), finish_names[reason], action->finish.id_count,
              request->usage.forwards, request->usage.recoveries,
              err == RMK_OK ? "" : " err=", err == RMK_OK ? "" : rmk_err_name(err),
              request->usage.restarted ? " restarted" : "");

    if (group != RMK_NOWHERE && leave_group(engine, request)) {
        act_release(engine, id, group, epoch);
    }
    if (request->entry != RMK_NOWHERE) {
        rmk_queue_remove(&engine->queue, engine->requests, request);
        engine->encode_wanted = true; /* there may be room for another to begin */
    }
    rmk_timer_set(&engine->timers, id.index, RMK_TIMER_NEVER);
    rmk_life_set_stage(engine, request, RMK_STAGE_FREE);
    engine->handles[id.index].live = false;
    engine->free_indexes[engine->free_count++] = id.index;
    engine->totals.finished[reason]++;
}

void rmk_life_fail(struct rmk_engine *engine, struct rmk_request *request, enum rmk_err err,
                   const char *why)
{
    (void)rmk_fail(&request->why, err, "%s", why != NULL ? why : "no reason was given");
    rmk_life_finish(engine, request, RMK_FINISH_FAILED, err);
}

void rmk_life_refuse(struct rmk_engine *engine, uint64_t tag, enum rmk_err err, uint64_t retry_us)
{
    struct rmk_action *action = rmk_engine_act(engine, RMK_ACTION_FINISH);

    action->tag = tag;
    action->finish.reason = RMK_FINISH_REFUSED;
    action->finish.err = err;
    action->finish.why = engine->refusal.text;
    action->finish.retry_after_us = retry_us;
    RMK_TRACE(engine, "refuse tag=%llu err=%s retry_us=%llu why=\"%s\"", (unsigned long long)tag,
              rmk_err_name(err), (unsigned long long)retry_us, engine->refusal.text);
    engine->totals.refused++;
    engine->totals.finished[RMK_FINISH_REFUSED]++;
}

void rmk_life_requeue(struct rmk_engine *engine, struct rmk_request *request, bool release)
{
    uint32_t group = request->group;
    uint64_t epoch = request->epoch;
    bool lives = leave_group(engine, request);

    rmk_assert(lives == release);
    if (release) {
        act_release(engine, request->id, group, epoch);
    }
    rmk_features_forget_lost(engine, request);
    rmk_queue_push(&engine->queue, request);
    rmk_life_settle_in_queue(engine, request);
    RMK_TRACE(engine, "requeue " RMK_REQ " stage=%s forward=%llu losses=%u",
              RMK_REQ_OF(request->id), rmk_request_stage_name(request->stage),
              (unsigned long long)request->canvas.forward, request->losses);
}

bool rmk_life_charge(struct rmk_engine *engine, struct rmk_request *request, const char *why)
{
    why = why != NULL ? why : "no reason was given";
    request->losses++;
    if (request->losses > engine->limits.retries_max) {
        (void)rmk_fail(&request->why, RMK_EUNAVAILABLE,
                       "gave up after %u losses of a worker; the last: %s", request->losses, why);
        rmk_life_finish(engine, request, RMK_FINISH_FAILED, RMK_EUNAVAILABLE);
        return false;
    }
    request->usage.recoveries++;
    engine->totals.recoveries++;
    RMK_TRACE(engine, "charge " RMK_REQ " losses=%u why=\"%s\"", RMK_REQ_OF(request->id),
              request->losses, why);
    return true;
}

void rmk_life_back_off(struct rmk_engine *engine, struct rmk_request *request)
{
    request->not_before_us = engine->now_us + rmk_policy_backoff_us(request->losses);
    rmk_queue_refresh(&engine->queue, request);
    rmk_life_arm(engine, request);
}
