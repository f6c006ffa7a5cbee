#include "coordinator/engine/batch.h"

#include "coordinator/engine/policy.h"

uint32_t rmk_batch_pick(const struct rmk_group *group, struct rmk_request *requests,
                        uint32_t rows_max, struct rmk_request **out_riders)
{
    struct rmk_request *ready[RMK_GROUP_SLOTS_MAX];
    uint32_t ready_count = 0;
    uint32_t rider_count = 0;
    uint32_t positions = 0;

    for (uint32_t slot = 0; slot < group->slot_count; slot++) {
        struct rmk_request_id holder = group->slots[slot].holder;
        struct rmk_request *request = &requests[holder.index];
        if (holder.generation != 0 && request->stage == RMK_STAGE_READY && !request->slow) {
            ready[ready_count++] = request;
        }
    }
    while (rider_count < rows_max && ready_count > 0) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < ready_count; i++) {
            if (rmk_policy_rides_before(ready[i], ready[best])) {
                best = i;
            }
        }
        struct rmk_request *request = ready[best];
        ready[best] = ready[--ready_count];
        /* One that does not fit waits, and is then the least recently ridden: nobody is passed over
         * for ever, because whoever leads the order always fits. A smaller one behind it may take
         * the room left. */
        const struct rmk_ride ride = rmk_request_ride(request);
        if (ride.positions <= group->step_rows_max - positions) {
            positions += ride.positions;
            out_riders[rider_count++] = request;
        }
    }
    return rider_count;
}
