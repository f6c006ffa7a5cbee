#include "coordinator/engine/batch.h"

#include "coordinator/engine/policy.h"

/* What a worker says of its costs is bounded, so that sums of products stay in range. */
#define COST_ROW_NS_MAX  ((uint64_t)1 << 32)
#define COST_RIDE_NS_MAX ((uint64_t)1 << 40)

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* In nanoseconds, or in positions where the group has measured nothing. */
static uint64_t cost_of(const struct rmk_group *group, const struct rmk_ride *ride)
{
    bool window = ride->pass.kind == RMK_PLAN_WINDOW && group->cost_window_row_ns > 0;
    uint64_t row_ns = window ? group->cost_window_row_ns : group->cost_full_row_ns;

    return least(COST_RIDE_NS_MAX,
                 ride->positions * least(COST_ROW_NS_MAX, row_ns == 0 ? 1 : row_ns));
}

/* How much may be put beside the leader of a round. */
static uint64_t bound_of(const struct rmk_group *group, uint64_t leader_cost)
{
    if (group->cost_full_row_ns == 0) {
        return UINT64_MAX; /* not measured: positions and reads are all there is */
    }
    return most(most(RMK_POLICY_ROUND_NS, group->cost_round_ns), leader_cost);
}

/* Removes and returns the one that rides first. */
static struct rmk_request *take_first(struct rmk_request **ready, uint32_t *count)
{
    uint32_t best = 0;

    for (uint32_t i = 1; i < *count; i++) {
        if (rmk_policy_rides_before(ready[i], ready[best])) {
            best = i;
        }
    }
    struct rmk_request *request = ready[best];
    ready[best] = ready[--*count];
    return request;
}

/* Its next turn comes when the group has done as much for every resident as it does for this one
 * now; sooner if nobody else wants to ride. */
static void charge(struct rmk_group *group, struct rmk_request *request, uint64_t cost)
{
    uint64_t weight = request->lane == RMK_LANE_BATCH ? RMK_POLICY_ONLINE_STREAK + 1 : 1;

    request->due_work = group->work + cost * group->held * weight;
}

uint32_t rmk_batch_pick(struct rmk_group *group, struct rmk_request *requests, uint32_t rows_max,
                        struct rmk_request **out_riders)
{
    struct rmk_request *ready[RMK_GROUP_SLOTS_MAX];
    uint32_t ready_count = 0;
    uint32_t rider_count = 0;
    uint32_t positions = 0;
    uint32_t reads = 0;
    uint64_t bound = UINT64_MAX;
    uint64_t spent = 0;

    for (uint32_t slot = 0; slot < group->slot_count; slot++) {
        struct rmk_request_id holder = group->slots[slot].holder;
        struct rmk_request *request = &requests[holder.index];
        if (holder.generation != 0 && request->stage == RMK_STAGE_READY && !request->slow) {
            ready[ready_count++] = request;
        }
    }
    while (rider_count < rows_max && ready_count > 0) {
        struct rmk_request *request = take_first(ready, &ready_count);
        const struct rmk_ride ride = rmk_request_ride(request);
        uint64_t cost = cost_of(group, &ride);
        bool cheap = ride.pass.kind == RMK_PLAN_WINDOW || spent <= bound - least(bound, cost);
        bool fits = ride.positions <= group->step_rows_max - positions &&
                    (group->reads_max == 0 || ride.read_count <= group->reads_max - reads);
        /* One that does not fit waits: nobody is passed over for ever, because whoever leads the
         * order always fits. A smaller one behind it may take the room left. */
        if (rider_count > 0 && !(cheap && fits)) {
            continue;
        }
        if (rider_count == 0) {
            bound = bound_of(group, cost);
        }
        positions += ride.positions;
        reads += ride.read_count;
        spent += cost;
        charge(group, request, cost);
        out_riders[rider_count++] = request;
    }
    group->work += spent;
    return rider_count;
}
