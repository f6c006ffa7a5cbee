#include "coordinator/engine/admit.h"

#include <stddef.h>

#include "coordinator/engine/policy.h"
#include "coordinator/engine/rules.h"

static bool is_finite(double value)
{
    return value - value == 0;
}

static enum rmk_err check_lengths(const struct rmk_submit *submit, struct rmk_why *why)
{
    if (submit->gen_length == 0 || submit->gen_length > RMK_GEN_LENGTH_MAX) {
        return rmk_fail(why, RMK_EINVAL, "gen_length is %u; it must be 1 to %d", submit->gen_length,
                        RMK_GEN_LENGTH_MAX);
    }
    if (submit->block_length == 0 || submit->gen_length % submit->block_length != 0) {
        return rmk_fail(why, RMK_EINVAL, "gen_length %u is not a multiple of block_length %u",
                        submit->gen_length, submit->block_length);
    }
    uint32_t block_count = submit->gen_length / submit->block_length;
    if (submit->steps == 0 || submit->steps % block_count != 0) {
        return rmk_fail(why, RMK_EINVAL, "steps %u is not a multiple of the %u blocks",
                        submit->steps, block_count);
    }
    if (submit->steps > RMK_STEPS_MAX) {
        return rmk_fail(why, RMK_EINVAL, "steps is %u; at most %d are possible", submit->steps,
                        RMK_STEPS_MAX);
    }
    if (submit->prompt_rows > RMK_PROMPT_ROWS_MAX) {
        return rmk_fail(why, RMK_EINVAL, "the prompt has %u rows; at most %d are possible",
                        submit->prompt_rows, RMK_PROMPT_ROWS_MAX);
    }
    if (submit->suffix_count > RMK_SUFFIX_MAX) {
        return rmk_fail(why, RMK_EINVAL, "the suffix has %u ids; at most %d are possible",
                        submit->suffix_count, RMK_SUFFIX_MAX);
    }
    return RMK_OK;
}

static enum rmk_err check_prompt(const struct rmk_submit *submit, struct rmk_why *why)
{
    uint32_t rows = 0;

    if (submit->prompt_mask_count > RMK_PROMPT_MASKS_MAX) {
        return rmk_fail(why, RMK_EINVAL, "the prompt has %u mask tokens; at most %d are possible",
                        submit->prompt_mask_count, RMK_PROMPT_MASKS_MAX);
    }
    for (uint32_t i = 0; i < submit->prompt_mask_count; i++) {
        bool ascending = i == 0 || submit->prompt_masks[i] > submit->prompt_masks[i - 1];
        if (!ascending || submit->prompt_masks[i] >= submit->prompt_rows) {
            return rmk_fail(why, RMK_EINVAL,
                            "prompt mask %u at row %u is out of order or outside the prompt", i,
                            submit->prompt_masks[i]);
        }
    }
    if (submit->item_count > RMK_ITEMS_MAX) {
        return rmk_fail(why, RMK_EINVAL, "the request has %u pictures; at most %d are possible",
                        submit->item_count, RMK_ITEMS_MAX);
    }
    for (uint32_t i = 0; i < submit->item_count; i++) {
        if (submit->items[i].rows > submit->prompt_rows - rows) {
            return rmk_fail(why, RMK_EINVAL,
                            "picture %u and those before it have more rows than the prompt", i);
        }
        rows += submit->items[i].rows;
    }
    return RMK_OK;
}

static enum rmk_err check_rule(const struct rmk_rule_options *rule, struct rmk_why *why)
{
    const struct {
        const char *name;
        double value;
    } numbers[] = {{"tau", rule->tau},
                   {"factor", rule->factor},
                   {"tau_low", rule->tau_low},
                   {"kappa", rule->kappa}};

    if ((unsigned)rule->rule >= RMK_RULE_COUNT) {
        return rmk_fail(why, RMK_EINVAL, "commit rule %d is unknown", (int)rule->rule);
    }
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (!is_finite(numbers[i].value)) {
            return rmk_fail(why, RMK_EINVAL, "%s of rule %s is not a finite number",
                            numbers[i].name, rmk_rules[rule->rule].name);
        }
    }
    return RMK_OK;
}

static enum rmk_err check_cache(const struct rmk_cache_options *cache, struct rmk_why *why)
{
    if ((unsigned)cache->cache > RMK_CACHE_FEATURE) {
        return rmk_fail(why, RMK_EINVAL, "cache policy %d is unknown", (int)cache->cache);
    }
    if (cache->cache != RMK_CACHE_FEATURE) {
        return RMK_OK;
    }
    if (cache->prompt_interval == 0 || cache->gen_interval == 0) {
        return rmk_fail(why, RMK_EINVAL, "%s of the feature cache is 0; it must be at least 1",
                        cache->prompt_interval == 0 ? "prompt_interval" : "gen_interval");
    }
    if (!(cache->transfer_ratio >= 0 && cache->transfer_ratio <= 1)) {
        return rmk_fail(why, RMK_EINVAL,
                        "transfer_ratio of the feature cache is not a number from 0 to 1");
    }
    return RMK_OK;
}

static enum rmk_err check_sampling(const struct rmk_submit *submit, struct rmk_why *why)
{
    if (!is_finite(submit->temperature) || !is_finite((double)submit->cfg_scale)) {
        return rmk_fail(why, RMK_EINVAL, "%s is not a finite number",
                        is_finite(submit->temperature) ? "cfg_scale" : "temperature");
    }
    if (submit->remasking != RMK_REMASK_LOW_CONFIDENCE && submit->remasking != RMK_REMASK_RANDOM) {
        return rmk_fail(why, RMK_EINVAL, "remasking %d is unknown", (int)submit->remasking);
    }
    if (submit->lane != RMK_LANE_ONLINE && submit->lane != RMK_LANE_BATCH) {
        return rmk_fail(why, RMK_EINVAL, "lane %d is unknown", (int)submit->lane);
    }
    if (submit->stop_count > RMK_STOP_COUNT_MAX) {
        return rmk_fail(why, RMK_EINVAL, "the request has %u stop strings; at most %d are possible",
                        submit->stop_count, RMK_STOP_COUNT_MAX);
    }
    for (uint32_t i = 0; i < submit->stop_count; i++) {
        if (submit->stops[i].count > RMK_STOP_IDS_MAX) {
            return rmk_fail(why, RMK_EINVAL, "stop string %u has %u ids; at most %d are possible",
                            i, submit->stops[i].count, RMK_STOP_IDS_MAX);
        }
    }
    return RMK_OK;
}

enum rmk_err rmk_admit_check(const struct rmk_submit *submit, struct rmk_why *why)
{
    enum rmk_err err;

    RMK_TRY(check_lengths(submit, why));
    RMK_TRY(check_prompt(submit, why));
    RMK_TRY(check_sampling(submit, why));
    RMK_TRY(check_rule(&submit->rule, why));
    RMK_TRY(check_cache(&submit->cache, why));
out:
    return err;
}

uint64_t rmk_admit_retry_us(uint64_t service_us, uint32_t queued, uint32_t slots)
{
    if (service_us == 0 || slots == 0) {
        return RMK_POLICY_RETRY_US;
    }
    /* A long-lived estimate times a full queue still fits: both are capped before they are
     * multiplied. */
    uint64_t each = service_us < RMK_POLICY_RETRY_US_MAX ? service_us : RMK_POLICY_RETRY_US_MAX;
    uint64_t wait = each * (queued + 1) / slots;
    if (wait < RMK_POLICY_RETRY_US_MIN) {
        return RMK_POLICY_RETRY_US_MIN;
    }
    return wait < RMK_POLICY_RETRY_US_MAX ? wait : RMK_POLICY_RETRY_US_MAX;
}

void rmk_queue_init(struct rmk_queue *queue)
{
    struct rmk_entry *entries = queue->entries;

    *queue = (struct rmk_queue){.entries = entries};
}

bool rmk_queue_is_hogged(const struct rmk_queue *queue, uint32_t tenant, uint32_t queued_max)
{
    rmk_assert(tenant < RMK_TENANTS);
    rmk_assert(queue->count < queued_max);
    return rmk_policy_is_hog(tenant, queue->queued[tenant], queued_max - queue->count - 1);
}

void rmk_queue_push(struct rmk_queue *queue, struct rmk_request *request)
{
    struct rmk_entry *entry = &queue->entries[queue->count];
    uint32_t tenant = request->tenant;

    rmk_assert(tenant < RMK_TENANTS);
    rmk_assert(request->entry == RMK_NOWHERE);
    request->entry = queue->count++;
    queue->queued[tenant]++;
    *entry = (struct rmk_entry){
        .request = request->id.index,
        .tenant = tenant,
        .total_rows = request->total_rows,
        .step_rows = request->step_rows,
        .kv_rows = request->kv_rows,
        .cost = request->cost,
        .deadline_us = request->deadline_us != 0 ? request->deadline_us : UINT64_MAX,
        .order = ++queue->arrivals,
        .turn = request->turn,
        .lane = request->lane,
    };
    if (entry->turn != 0) {
        queue->turned++;
    } else {
        /* Having been away earns no credit. */
        uint64_t *charged = &queue->charged[entry->lane][tenant];
        if (queue->waiting[entry->lane][tenant]++ == 0 &&
            *charged < queue->charged_last[entry->lane]) {
            *charged = queue->charged_last[entry->lane];
        }
    }
    rmk_queue_refresh(queue, request);
}

void rmk_queue_remove(struct rmk_queue *queue, struct rmk_request *requests,
                      struct rmk_request *request)
{
    struct rmk_entry *entry = &queue->entries[request->entry];
    struct rmk_entry *last = &queue->entries[queue->count - 1];

    rmk_assert(request->entry < queue->count);
    rmk_assert(entry->request == request->id.index);
    if (entry->turn != 0) {
        queue->turned--;
    } else {
        queue->waiting[entry->lane][entry->tenant]--;
    }
    queue->queued[entry->tenant]--;
    requests[last->request].entry = request->entry;
    *entry = *last;
    queue->count--;
    request->entry = RMK_NOWHERE;
}

void rmk_queue_refresh(struct rmk_queue *queue, const struct rmk_request *request)
{
    struct rmk_entry *entry = &queue->entries[request->entry];
    bool needed = false;

    for (uint32_t i = 0; i < request->item_count; i++) {
        needed |= request->items[i].state == RMK_ITEM_NEEDED;
    }
    entry->not_before_us = request->not_before_us;
    entry->wants_encode = !request->slow && needed;
    entry->wants_place = !request->slow && rmk_request_is_encoded(request);
}

/* Between two of the same lane without a turn. */
static bool is_due_before(const struct rmk_queue *queue, const struct rmk_entry *a,
                          const struct rmk_entry *b)
{
    uint64_t a_charged = queue->charged[a->lane][a->tenant];
    uint64_t b_charged = queue->charged[b->lane][b->tenant];

    if (a_charged != b_charged) {
        return a_charged < b_charged;
    }
    if (a->deadline_us != b->deadline_us) {
        return a->deadline_us < b->deadline_us;
    }
    return a->order < b->order;
}

struct rmk_entry *rmk_queue_pick(struct rmk_queue *queue, enum rmk_want want,
                                 const struct rmk_room *room)
{
    struct rmk_entry *turned = NULL;
    struct rmk_entry *waiting[RMK_LANES] = {NULL};

    for (uint32_t i = 0; i < queue->count; i++) {
        struct rmk_entry *entry = &queue->entries[i];
        bool wanted = want == RMK_WANT_ENCODE ? entry->wants_encode : entry->wants_place;
        if (!wanted || entry->skipped || entry->not_before_us > room->now_us) {
            continue;
        }
        if (entry->total_rows > room->total_rows || entry->step_rows > room->step_rows ||
            (entry->kv_rows > 0 && !room->kv)) {
            continue;
        }
        if (entry->turn != 0) {
            if (turned == NULL || entry->turn < turned->turn) {
                turned = entry;
            }
        } else if (room->turns) {
            struct rmk_entry **best = &waiting[entry->lane];
            if (*best == NULL || is_due_before(queue, entry, *best)) {
                *best = entry;
            }
        }
    }
    if (turned != NULL) {
        return turned;
    }
    if (waiting[RMK_LANE_ONLINE] == NULL) {
        return waiting[RMK_LANE_BATCH];
    }
    if (waiting[RMK_LANE_BATCH] == NULL || queue->online_streak < RMK_POLICY_ONLINE_STREAK) {
        return waiting[RMK_LANE_ONLINE];
    }
    return waiting[RMK_LANE_BATCH];
}

/* Does anyone of the batch lane wait for a turn? */
static bool batch_waits(const struct rmk_queue *queue)
{
    for (uint32_t tenant = 0; tenant < RMK_TENANTS; tenant++) {
        if (queue->waiting[RMK_LANE_BATCH][tenant] > 0) {
            return true;
        }
    }
    return false;
}

void rmk_queue_turn(struct rmk_queue *queue, struct rmk_request *request)
{
    struct rmk_entry *entry = &queue->entries[request->entry];

    if (entry->turn != 0) {
        return;
    }
    queue->waiting[entry->lane][entry->tenant]--;
    queue->turned++;
    queue->charged_last[entry->lane] = queue->charged[entry->lane][entry->tenant];
    queue->charged[entry->lane][entry->tenant] += entry->cost;
    if (entry->lane == RMK_LANE_BATCH || !batch_waits(queue)) {
        queue->online_streak = 0;
    } else {
        queue->online_streak++;
    }
    entry->turn = ++queue->turns;
    request->turn = entry->turn;
}
