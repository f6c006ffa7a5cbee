#include <string.h>

#include "coordinator/engine/policy.h"
#include "tests/sim/sim.h"

static struct sim_ask *find_tag(struct sim *sim, uint64_t tag)
{
    for (uint32_t i = 0; i < sim->ask_count; i++) {
        if (sim->asks[i].tag == tag) {
            return &sim->asks[i];
        }
    }
    sim_fail(sim, SIM_WRONG, "an action for tag %llu, which nobody has", (unsigned long long)tag);
}

/* Also of requests that have ended; NULL for ids that never were. */
struct sim_ask *sim_ask_of(struct sim *sim, struct rmk_request_id id)
{
    for (uint32_t i = 0; i < sim->ask_count; i++) {
        struct sim_ask *ask = &sim->asks[i];
        if (ask->accepted && ask->id.index == id.index && ask->id.generation == id.generation) {
            return ask;
        }
    }
    return NULL;
}

void sim_client_submit(struct sim *sim, struct sim_ask *ask)
{
    struct rmk_stop stops[SIM_STOPS_MAX];
    struct rmk_submit submit = {
        .tag = ask->tag,
        .deadline_us = ask->deadline_us,
        .lane = ask->lane,
        .tenant = ask->tenant,
        .prompt_rows = ask->prompt_rows,
        .prompt_masks = ask->prompt_masks,
        .prompt_mask_count = ask->prompt_mask_count,
        .items = ask->items,
        .item_count = ask->item_count,
        .mask_id = SIM_MASK,
        .gen_length = ask->gen_length,
        .block_length = ask->block_length,
        .steps = ask->steps,
        .temperature = ask->temperature,
        .cfg_scale = ask->cfg_scale,
        .remasking = ask->remasking,
        .seed = ask->seed,
        .golden_noise = ask->golden_noise,
        .rule = ask->rule,
        .cache = ask->cache,
        .best_at_deadline = ask->best_at_deadline,
        .stepwise = ask->stepwise,
        .stops = stops,
        .stop_count = ask->stop_count,
        .suffix = ask->suffix,
        .suffix_count = ask->suffix_count,
    };

    for (uint32_t i = 0; i < ask->stop_count; i++) {
        stops[i] = (struct rmk_stop){.ids = ask->stop_ids[i], .count = ask->stop_counts[i]};
    }
    ask->submitted = true;
    ask->submits++;
    ask->faults_before = sim->faults;
    sim_deliver(sim, &(struct rmk_event){.kind = RMK_EVENT_SUBMIT, .submit = &submit});
}

static void submit_again(struct sim *sim, struct sim_event *event)
{
    sim_client_submit(sim, &sim->asks[event->index]);
}

void sim_client_tell(struct sim *sim, struct sim_ask *ask, enum rmk_event_kind kind)
{
    if (!ask->accepted) {
        return;
    }
    ask->cancelled |= kind == RMK_EVENT_CANCEL;
    /* One that comes when the text in which it was found is no more is no stop. */
    ask->text_stopped |= kind == RMK_EVENT_TEXT_STOP && ask->has_text;
    ask->slow = kind == RMK_EVENT_CLIENT_SLOW || (ask->slow && kind != RMK_EVENT_CLIENT_READY);
    sim_deliver(sim, &(struct rmk_event){.kind = kind, .request = ask->id});
}

static void text_stop(struct sim *sim, struct sim_event *event)
{
    sim_client_tell(sim, &sim->asks[event->index], RMK_EVENT_TEXT_STOP);
}

/* ---- what it gets
 * ------------------------------------------------------------------------------------------------
 */

static _Noreturn void wrong(struct sim *sim, const struct sim_ask *ask, const char *what)
{
    sim_fail(sim, SIM_WRONG, "request %u.%u (tag %llu): %s", ask->id.index, ask->id.generation,
             (unsigned long long)ask->tag, what);
}

static void on_accepted(struct sim *sim, const struct rmk_action *action)
{
    struct sim_ask *ask = find_tag(sim, action->tag);

    if (ask->accepted || ask->ended || sim->draining) {
        wrong(sim, ask, "accepted twice, after its end, or while draining");
    }
    ask->accepted = true;
    ask->id = action->request;
}

static void on_emit(struct sim *sim, const struct rmk_action *action)
{
    struct sim_ask *ask = find_tag(sim, action->tag);
    uint32_t settled = action->emit.settled_count;
    bool restarted = action->emit.commit_count == 0;

    if (!ask->accepted || ask->ended || action->emit.gen_length != ask->gen_length) {
        wrong(sim, ask, "text before its beginning or after its end");
    }
    ask->leading = 0;
    if (restarted) {
        ask->settled = 0;
        ask->has_text = false;
    }
    if (settled < ask->settled ||
        memcmp(action->emit.canvas, ask->settled_ids, ask->settled * sizeof(int32_t)) != 0) {
        wrong(sim, ask, "settled text was taken back");
    }
    for (uint32_t i = 0; i < settled; i++) {
        if (action->emit.canvas[i] == SIM_MASK) {
            wrong(sim, ask, "a mask is settled");
        }
    }
    for (uint32_t i = 0; i < action->emit.commit_count; i++) {
        const struct rmk_commit *commit = &action->emit.commits[i];
        if (commit->position >= ask->gen_length ||
            action->emit.canvas[commit->position] != commit->token) {
            wrong(sim, ask, "a commit is not on the canvas");
        }
        ask->has_text |= commit->token != SIM_MASK;
    }
    for (ask->leading = 0;
         ask->leading < ask->gen_length && action->emit.canvas[ask->leading] != SIM_MASK;
         ask->leading++) {
    }
    ask->settled = settled;
    memcpy(ask->settled_ids, action->emit.canvas, settled * sizeof(int32_t));
    if (ask->text_stop_at != 0 && settled >= ask->text_stop_at) {
        ask->text_stop_at = 0;
        sim_at(sim, sim->now_us + sim_link_delay(sim), text_stop)->index =
            (uint32_t)(ask - sim->asks);
    }
}

static void count_answer(struct sim *sim, const struct sim_ask *ask,
                         const struct rmk_action *action)
{
    const struct rmk_usage *usage = &action->finish.usage;
    const struct {
        bool holds;
        enum sim_stat what;
    } table[] = {
        {ask->submits > 1, SIM_ANSWERED_RETRIED},
        {usage->recoveries > 0, SIM_ANSWERED_RECOVERED},
        {usage->replays > 0, SIM_ANSWERED_REPLAYED},
        {usage->restarted, SIM_ANSWERED_RESTARTED},
        {(ask->groups & (ask->groups - 1)) != 0, SIM_ANSWERED_MOVED},
        {ask->cfg_scale > 0, SIM_ANSWERED_GUIDED},
        {ask->item_count > 0, SIM_ANSWERED_PICTURES},
        {ask->remasking == RMK_REMASK_RANDOM, SIM_ANSWERED_RANDOM},
        {action->finish.reason == RMK_FINISH_STOP, SIM_ANSWERED_STOP},
        {ask->lane == RMK_LANE_BATCH, SIM_ANSWERED_BATCH},
        {ask->tenant == 0, SIM_ANSWERED_TENANT_0},
        {ask->tenant == 1, SIM_ANSWERED_TENANT_1},
        {ask->tenant == 2, SIM_ANSWERED_TENANT_2},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (table[i].holds) {
            sim_count(sim, table[i].what);
        }
    }
    sim->stats.answered[ask->rule.rule][ask->cache.cache]++;
}

/* The whole answer, or with a text-level stop a settled part of it; then the suffix. */
static void judge_success(struct sim *sim, struct sim_ask *ask, const struct rmk_action *action)
{
    struct sim_truth truth;
    uint32_t count = action->finish.id_count - ask->suffix_count;

    sim_oracle(&sim->model, ask, ask->numerics_class, &truth);
    bool whole = !truth.poisoned && count == truth.count &&
                 action->finish.usage.forwards == truth.forwards &&
                 action->finish.usage.refreshes == truth.refreshes &&
                 (action->finish.reason == RMK_FINISH_STOP) == truth.found;
    bool part = ask->text_stopped && action->finish.reason == RMK_FINISH_STOP &&
                count == ask->settled && (truth.poisoned || count <= truth.count);
    if (action->finish.id_count < ask->suffix_count || (!whole && !part)) {
        sim_report(sim);
        (void)fprintf(stderr, "got %u ids after %u forwards, the oracle %u after %u%s%s\n", count,
                      action->finish.usage.forwards, truth.count, truth.forwards,
                      truth.found ? ", stop" : "", truth.poisoned ? ", poisoned" : "");
        wrong(sim, ask, "the answer is not the oracle's");
    }
    const int32_t *expected = truth.poisoned ? ask->settled_ids : truth.ids;
    if (memcmp(action->finish.ids, expected, count * sizeof(int32_t)) != 0 ||
        memcmp(action->finish.ids + count, ask->suffix, ask->suffix_count * sizeof(int32_t)) != 0) {
        wrong(sim, ask, "the ids are not the oracle's");
    }
    if (memcmp(action->finish.ids, ask->settled_ids, ask->settled * sizeof(int32_t)) != 0 ||
        ask->settled > count) {
        wrong(sim, ask, "the answer takes settled text back");
    }
    if (whole) {
        count_answer(sim, ask, action);
    }
    sim_count(sim, whole ? SIM_END_ANSWERED : SIM_END_TEXT_STOP);
}

/* What it gets at its deadline: what is settled, or all that is decided. Which stop cuts it short
 * is not known here. */
static void judge_deadline(struct sim *sim, struct sim_ask *ask, const struct rmk_action *action)
{
    bool answered = action->finish.err == RMK_OK;
    uint32_t suffix_count = answered ? ask->suffix_count : 0;
    uint32_t count = action->finish.id_count - suffix_count;
    uint32_t most = answered ? ask->leading : ask->settled;

    if (action->finish.id_count < suffix_count || count < ask->settled || count > most ||
        memcmp(action->finish.ids, ask->settled_ids, ask->settled * sizeof(int32_t)) != 0 ||
        memcmp(action->finish.ids + count, ask->suffix, suffix_count * sizeof(int32_t)) != 0) {
        wrong(sim, ask, "the deadline's answer is not what was decided");
    }
    if (answered != (ask->best_at_deadline && action->finish.usage.committed > 0)) {
        wrong(sim, ask, "a deadline's answer without ids, or ids without being asked for");
    }
    sim_count(sim, answered ? SIM_END_BEST : SIM_END_DEADLINE);
}

/* No group that the coordinator has ever heard of could take it. */
static bool is_too_long(const struct sim *sim, const struct sim_ask *ask)
{
    uint32_t rows = sim_ask_rows(ask);

    for (uint32_t i = 0; i < sim->group_count; i++) {
        const struct sim_group *group = &sim->groups[i];
        if (group->told && rows <= group->rows_max &&
            rows * (ask->cfg_scale > 0 ? 2 : 1) <= group->step_rows_max &&
            sim_ask_kv_rows(ask) <= group->kv_rows_max &&
            (ask->cache.cache != RMK_CACHE_FEATURE ||
             sim_ask_kv_rows(ask) <= group->feature_rows_max) &&
            (group->reads_max == 0 ||
             ask->gen_length + ask->prompt_mask_count <= group->reads_max)) {
            return false;
        }
    }
    return true;
}

static bool has_bad_picture(const struct sim *sim, const struct sim_ask *ask)
{
    bool bad = false;

    for (uint32_t i = 0; i < ask->item_count; i++) {
        bad |= sim_is_bad_picture(sim, ask->items[i].key);
    }
    return bad;
}

/* A failure needs a reason that the simulator knows of. */
static void judge_failure(struct sim *sim, struct sim_ask *ask, const struct rmk_action *action)
{
    struct sim_truth truth;
    enum sim_stat end = SIM_END_LOSSES;
    bool excused = false;

    switch (action->finish.err) {
    case RMK_EINTERNAL:
        sim_oracle(&sim->model, ask, ask->numerics_class, &truth);
        excused = truth.poisoned;
        end = SIM_END_POISONED;
        break;
    case RMK_EINVAL:
        excused = ask->condemned || is_too_long(sim, ask);
        end = ask->condemned ? SIM_END_CONDEMNED : SIM_END_TOO_LONG;
        break;
    case RMK_ECORRUPT:
        excused = has_bad_picture(sim, ask);
        end = SIM_END_PICTURE;
        break;
    case RMK_EUNAVAILABLE:
        /* A worker may have died before, with nobody told. */
        excused = sim->faults + sim->group_count + sim->vision_count - ask->faults_before >
                  sim->limits.retries_max;
        break;
    default:
        break;
    }
    if (!excused || action->finish.why == NULL || action->finish.why[0] == '\0') {
        (void)fprintf(stderr, "err=%s why=%s\n", rmk_err_name(action->finish.err),
                      action->finish.why);
        wrong(sim, ask, "failed without a reason");
    }
    sim_count(sim, end);
}

/* Turned away for load or while draining: come back a few times, as the hint says. */
static void on_refused(struct sim *sim, struct sim_ask *ask, const struct rmk_action *action)
{
    const struct rmk_engine_counts counts = sim->before; /* a pause may end in the same step */
    uint64_t retry_us = action->finish.retry_after_us;
    const uint32_t waiting = counts.queued + counts.encoding;
    /* Or so full that one tenant is kept from having it all. */
    bool full =
        counts.open == sim->limits.requests_max || waiting >= sim->limits.queued_max ||
        (ask->tenant != 0 && waiting / RMK_POLICY_TENANT_SHARE >= sim->limits.queued_max - waiting);
    bool excused = (action->finish.err == RMK_ELIMIT && full && retry_us > 0) ||
                   (action->finish.err == RMK_EUNAVAILABLE && sim->draining) ||
                   (action->finish.err == RMK_EINVAL && is_too_long(sim, ask));
    if (ask->accepted || !excused || action->finish.why == NULL) {
        wrong(sim, ask, "refused without a reason");
    }
    if (action->finish.err == RMK_ELIMIT && ask->submits < 3) {
        sim_at(sim, sim->now_us + retry_us / 10, submit_again)->index = (uint32_t)(ask - sim->asks);
        return;
    }
    ask->ended = true;
    sim->ended_count++;
    sim_count(sim, action->finish.err == RMK_ELIMIT         ? SIM_END_FULL
                   : action->finish.err == RMK_EUNAVAILABLE ? SIM_END_DRAINING
                                                            : SIM_END_TOO_LONG);
}

static void on_finish(struct sim *sim, const struct rmk_action *action)
{
    struct sim_ask *ask = find_tag(sim, action->tag);

    if (ask->ended) {
        wrong(sim, ask, "ended twice");
    }
    if (action->finish.reason == RMK_FINISH_REFUSED) {
        on_refused(sim, ask, action);
        return;
    }
    if (!ask->accepted || action->request.generation != ask->id.generation) {
        wrong(sim, ask, "ended before it was accepted");
    }
    ask->ended = true;
    sim->ended_count++;
    switch (action->finish.reason) {
    case RMK_FINISH_LENGTH:
    case RMK_FINISH_STOP:
        judge_success(sim, ask, action);
        break;
    case RMK_FINISH_CANCELLED:
        if (!ask->cancelled) {
            wrong(sim, ask, "cancelled by nobody");
        }
        sim_count(sim, SIM_END_CANCELLED);
        break;
    case RMK_FINISH_DEADLINE:
        if (ask->deadline_us == 0 || ask->deadline_us > sim->now_us) {
            wrong(sim, ask, "ended before its deadline");
        }
        judge_deadline(sim, ask, action);
        break;
    default:
        judge_failure(sim, ask, action);
        break;
    }
    if (sim->record != NULL) {
        (void)fprintf(sim->record, "ids tag=%llu", (unsigned long long)ask->tag);
        for (uint32_t i = 0; i < action->finish.id_count; i++) {
            (void)fprintf(sim->record, " %d", action->finish.ids[i]);
        }
        (void)fprintf(sim->record, "\n");
    }
}

void sim_client_act(struct sim *sim, const struct rmk_action *action)
{
    if (action->kind == RMK_ACTION_ACCEPTED) {
        on_accepted(sim, action);
    } else if (action->kind == RMK_ACTION_EMIT) {
        on_emit(sim, action);
    } else {
        on_finish(sim, action);
    }
}

void sim_client_check(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->ask_count; i++) {
        const struct sim_ask *ask = &sim->asks[i];
        if (!ask->accepted || ask->ended) {
            continue;
        }
        if (ask->cancelled || ask->text_stopped) {
            wrong(sim, ask, "goes on though it was cancelled");
        }
        if (ask->deadline_us != 0 && ask->deadline_us <= sim->now_us) {
            wrong(sim, ask, "goes on after its deadline");
        }
    }
}
