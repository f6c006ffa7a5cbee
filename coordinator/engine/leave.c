#include "coordinator/engine/leave.h"

#include "common/least.h"
#include "coordinator/engine/policy.h"

/* What is run ahead of a request that ends in the middle of it would be lost. Too late already: it
 * ends with this plan, however that goes. */
static uint64_t until_deadline(const struct rmk_request *request, uint64_t now_us)
{
    return request->deadline_us > now_us ? request->deadline_us - now_us : UINT64_MAX;
}

uint32_t rmk_leave_forwards(const struct rmk_group *group, struct rmk_request *const *riders,
                            uint32_t rider_count, uint32_t paused_count, uint32_t most,
                            uint64_t now_us)
{
    uint32_t forwards = (uint32_t)rmk_least(rmk_least(most, group->ahead_max), RMK_AHEAD_MAX);
    uint64_t slowest_us = 0;
    uint64_t left_us = UINT64_MAX;
    uint64_t reads = 0;

    if (group->held != rider_count + paused_count) {
        return 1; /* who holds a slot and could ride, or waits for his features, waits for this */
    }
    for (uint32_t i = 0; i < rider_count; i++) {
        const struct rmk_request *request = riders[i];
        if (request->stepwise || request->forward_us == 0 || rmk_request_ride(request).replay) {
            return 1;
        }
        reads += request->reads_most;
        slowest_us = rmk_most(slowest_us, request->forward_us);
        left_us = rmk_least(left_us, until_deadline(request, now_us));
    }
    if (group->reads_max > 0 && reads > group->reads_max) {
        return 1; /* a later forward may read more than the first */
    }
    slowest_us = rmk_least(slowest_us, RMK_POLICY_AHEAD_US);
    /* The first forward would be run anyway. */
    while (forwards > 1 &&
           (slowest_us * (forwards - 1) >= RMK_POLICY_AHEAD_US || slowest_us * forwards > left_us ||
            forwards * reads > RMK_AHEAD_READS_MAX)) {
        forwards--;
    }
    return forwards > 1 ? forwards : 1;
}
