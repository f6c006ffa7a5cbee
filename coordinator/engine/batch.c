#include "coordinator/engine/batch.h"

#include "common/least.h"
#include "coordinator/engine/policy.h"

/* What a worker says of its costs is bounded, so that sums of products stay in range. */
#define COST_ROW_NS_MAX  ((uint64_t)1 << 32)
#define COST_RIDE_NS_MAX ((uint64_t)1 << 40)
#define EXPECTED_US_MAX  ((uint64_t)3600 * 1000000)

/* In nanoseconds, or in positions where the group has measured nothing. */
static uint64_t cost_of(const struct rmk_group *group, const struct rmk_ride *ride)
{
    bool window = ride->pass.kind == RMK_PLAN_WINDOW && group->cost_window_row_ns > 0;
    uint64_t row_ns = window ? group->cost_window_row_ns : group->cost_full_row_ns;

    return rmk_least(COST_RIDE_NS_MAX,
                     ride->positions * rmk_least(COST_ROW_NS_MAX, row_ns == 0 ? 1 : row_ns));
}

/* How much may be put beside the leader of a round. */
static uint64_t bound_of(const struct rmk_group *group, uint64_t leader_cost)
{
    if (group->cost_full_row_ns == 0) {
        return UINT64_MAX; /* not measured: positions and reads are all there is */
    }
    return rmk_most(rmk_most(RMK_POLICY_ROUND_NS, group->cost_round_ns), leader_cost);
}

/* ---- who is first ------------------------------------------------------------------------------
 */

static bool goes_before(const struct rmk_group *group, const struct rmk_request *a,
                        const struct rmk_request *b)
{
    const struct rmk_share *a_share = &group->shares[a->tenant];
    const struct rmk_share *b_share = &group->shares[b->tenant];

    if (a->tenant == b->tenant) {
        return rmk_policy_rides_before(a, b);
    }
    if (a_share->tag != b_share->tag) {
        return a_share->tag < b_share->tag;
    }
    return a_share->rode != b_share->rode ? a_share->rode < b_share->rode : a->tenant < b->tenant;
}

/* Residents that could ride, less those that were taken; and those that were taken and left out. */
struct field {
    struct rmk_request *ready[RMK_GROUP_SLOTS_MAX];
    uint32_t ready_count;
    struct rmk_request *left[RMK_GROUP_SLOTS_MAX];
    uint32_t left_count;
};

/* Who has been away has not saved up for it. */
static void gather(struct rmk_group *group, struct rmk_request *requests, struct field *field)
{
    field->ready_count = 0;
    field->left_count = 0;
    for (uint32_t slot = 0; slot < group->slot_count; slot++) {
        struct rmk_request_id holder = group->slots[slot].holder;
        struct rmk_request *request = &requests[holder.index];
        if (holder.generation != 0 && request->stage == RMK_STAGE_READY && !request->slow) {
            struct rmk_share *share = &group->shares[request->tenant];
            share->tag = rmk_most(share->tag, group->tag_floor);
            field->ready[field->ready_count++] = request;
        }
    }
    group->tag_most = rmk_most(group->tag_most, group->tag_floor);
}

static struct rmk_request *take_first(const struct rmk_group *group, struct field *field)
{
    uint32_t best = 0;

    for (uint32_t i = 1; i < field->ready_count; i++) {
        if (goes_before(group, field->ready[i], field->ready[best])) {
            best = i;
        }
    }
    struct rmk_request *request = field->ready[best];
    field->ready[best] = field->ready[--field->ready_count];
    return request;
}

/* Has its tenant had `lead` more than another one of whom somebody is left out? */
static bool is_ahead(const struct rmk_group *group, const struct field *field,
                     const struct rmk_request *request, uint64_t lead)
{
    const uint64_t tag = group->shares[request->tenant].tag;

    for (uint32_t i = 0; i < field->left_count; i++) {
        const struct rmk_request *other = field->left[i];
        const uint64_t other_tag = group->shares[other->tenant].tag;
        if (other->tenant != request->tenant && tag > other_tag && tag - other_tag > lead) {
            return true;
        }
    }
    return false;
}

/* ---- what it costs -----------------------------------------------------------------------------
 */

/* At its share it would be late, alone it would not: at the pace so far, and by what this row
 * costs.
 */
static bool is_pressed(const struct rmk_group *group, const struct rmk_request *request,
                       uint64_t cost, uint64_t now_us)
{
    const uint32_t committed = request->usage.committed;

    if (request->deadline_us <= now_us || committed == 0 || group->cost_full_row_ns == 0) {
        return false; /* none, too late, or nothing to reckon with */
    }
    uint64_t forwards = rmk_canvas_masks(&request->canvas) * request->canvas.forward / committed;
    uint64_t alone_us = rmk_least(forwards, RMK_STEPS_MAX) * cost / 1000;
    uint64_t shared_us = alone_us * group->shares[request->tenant].held * group->share_count;
    return alone_us <= request->deadline_us - now_us && shared_us > request->deadline_us - now_us;
}

/* Batch requests have a fraction of an online one's share. */
static uint64_t weight_of(bool batch)
{
    return batch ? RMK_POLICY_ONLINE_STREAK + 1 : 1;
}

/* After a row that costs so much, a request waits until its tenant has had as much work for each of
 * its requests. */
static uint64_t wait_of(const struct rmk_group *group, const struct rmk_request *request,
                        uint64_t cost, uint64_t now_us)
{
    uint64_t wait =
        cost * group->shares[request->tenant].held * weight_of(request->lane == RMK_LANE_BATCH);

    return is_pressed(group, request, cost, now_us) ? wait / RMK_POLICY_PRESSED : wait;
}

/* The other tenants wait until each has had as much. */
static void charge(struct rmk_group *group, struct rmk_request *request, uint64_t cost,
                   uint64_t now_us)
{
    struct rmk_share *share = &group->shares[request->tenant];

    request->due_work = share->work + wait_of(group, request, cost, now_us);
    share->last = cost * weight_of(share->held == share->held_batch);
    share->tag += share->last;
    share->rode = group->sequence + 1;
    group->tag_most = rmk_most(group->tag_most, share->tag);
}

/* Where the last may stand that this one has left behind. */
static uint64_t floor_below(const struct rmk_group *group, const struct rmk_request *left,
                            uint64_t lead)
{
    const struct rmk_share *share = &group->shares[left->tenant];

    return share->tag - rmk_least(share->tag, rmk_most(lead, share->last));
}

/* After a plan: nobody counts as having had much less than one who was left out, or else a tenant
 * that has all it wants would save up for the day when it wants more. When nobody was left out,
 * nobody has missed anything, and all are even. */
static void settle(struct rmk_group *group, const struct field *field, uint64_t lead)
{
    uint64_t tag = group->tag_most;

    for (uint32_t i = 0; i < field->left_count; i++) {
        tag = rmk_least(tag, floor_below(group, field->left[i], lead));
    }
    for (uint32_t i = 0; i < field->ready_count; i++) {
        tag = rmk_least(tag, floor_below(group, field->ready[i], lead));
    }
    group->tag_floor = rmk_most(group->tag_floor, tag);
}

uint32_t rmk_batch_pick(struct rmk_group *group, struct rmk_request *requests, uint32_t rows_max,
                        uint64_t now_us, struct rmk_request **out_riders)
{
    uint64_t costs[RMK_GROUP_SLOTS_MAX];
    struct field field;
    uint32_t rider_count = 0;
    uint32_t positions = 0;
    uint32_t reads = 0;
    uint64_t bound = UINT64_MAX;
    uint64_t lead = 0;
    uint64_t spent = 0;

    gather(group, requests, &field);
    while (rider_count < rows_max && field.ready_count > 0) {
        struct rmk_request *request = take_first(group, &field);
        const struct rmk_ride ride = rmk_request_ride(request);
        uint64_t cost = cost_of(group, &ride);
        bool cheap = ride.pass.kind == RMK_PLAN_WINDOW || spent <= bound - rmk_least(bound, cost);
        bool fits = ride.positions <= group->step_rows_max - positions &&
                    (group->reads_max == 0 || ride.read_count <= group->reads_max - reads);
        /* One that does not fit waits: nobody is passed over for ever, because whoever leads the
         * order always fits. A smaller one behind it may take the room left. */
        if (rider_count > 0 && !(cheap && fits && !is_ahead(group, &field, request, lead))) {
            field.left[field.left_count++] = request;
            continue;
        }
        if (rider_count == 0) {
            bound = bound_of(group, cost);
            lead = bound == UINT64_MAX ? cost : bound;
        }
        positions += ride.positions;
        reads += ride.read_count;
        spent += cost;
        charge(group, request, cost, now_us);
        costs[rider_count] = cost;
        out_riders[rider_count++] = request;
    }
    for (uint32_t i = 0; i < rider_count; i++) {
        group->shares[out_riders[i]->tenant].work += costs[i];
    }
    if (rider_count > 0) {
        settle(group, &field, lead);
    }
    return rider_count;
}

uint64_t rmk_batch_expect_us(const struct rmk_group *group, struct rmk_request *const *riders,
                             uint32_t rider_count)
{
    uint64_t cost = rmk_least(COST_RIDE_NS_MAX, group->cost_round_ns);

    if (group->cost_full_row_ns == 0) {
        return 0;
    }
    for (uint32_t i = 0; i < rider_count; i++) {
        const struct rmk_ride ride = rmk_request_ride(riders[i]);
        cost += cost_of(group, &ride);
    }
    return rmk_least(EXPECTED_US_MAX, cost / 1000);
}
