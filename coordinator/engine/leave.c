#include "coordinator/engine/leave.h"

#include "coordinator/engine/ahead.h"
#include "coordinator/engine/policy.h"

/* What a worker says of its costs is bounded, so that sums of products stay in range. */
#define COST_NS_MAX ((uint64_t)1 << 32)

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t cost_of(const struct rmk_group *group, const struct rmk_request *request)
{
    enum rmk_cache cache = request->canvas.cache.cache;
    bool window = cache != RMK_CACHE_NONE && cache != RMK_CACHE_FEATURE;
    uint64_t row_ns = window && group->cost_window_row_ns > 0 ? group->cost_window_row_ns
                                                              : group->cost_full_row_ns;

    return (uint64_t)rmk_ahead_rows(&request->canvas) * (request->cfg_scale > 0 ? 2 : 1) *
           least(COST_NS_MAX, row_ns);
}

uint32_t rmk_leave_forwards(const struct rmk_group *group, struct rmk_request *const *riders,
                            uint32_t rider_count, uint32_t most)
{
    uint32_t forwards = (uint32_t)least(least(most, group->ahead_max), RMK_AHEAD_MAX);
    uint64_t cost_ns = least(COST_NS_MAX, group->cost_round_ns);
    uint64_t reads = 0;

    /* Not measured: too slow for it. And who holds a slot and does not ride waits for one. */
    if (group->cost_full_row_ns == 0 || group->held != rider_count) {
        return 1;
    }
    for (uint32_t i = 0; i < rider_count; i++) {
        if (riders[i]->stepwise || rmk_request_ride(riders[i]).replay) {
            return 1;
        }
        reads += riders[i]->reads_most;
        cost_ns += cost_of(group, riders[i]);
    }
    if (group->reads_max > 0 && reads > group->reads_max) {
        return 1; /* a later forward may read more than the first */
    }
    /* The first forward would be run anyway. */
    while (forwards > 1 && ((forwards - 1) * cost_ns > RMK_POLICY_AHEAD_NS ||
                            forwards * reads > RMK_AHEAD_READS_MAX)) {
        forwards--;
    }
    return forwards > 1 ? forwards : 1;
}
