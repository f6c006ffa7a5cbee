#include "coordinator/engine/policy.h"

#include "coordinator/engine/request.h"

/* Least recently ridden first: every resident gets its share of the rounds, whatever its
 * neighbours' length. A batch request counts as if it had ridden some rounds later than it did. */
bool rmk_policy_rides_before(const struct rmk_request *a, const struct rmk_request *b)
{
    uint64_t a_rode = a->rode + (a->lane == RMK_LANE_BATCH ? RMK_POLICY_ONLINE_STREAK : 0);
    uint64_t b_rode = b->rode + (b->lane == RMK_LANE_BATCH ? RMK_POLICY_ONLINE_STREAK : 0);

    return a_rode != b_rode ? a_rode < b_rode : a->slot < b->slot;
}

bool rmk_policy_is_final(enum rmk_err err)
{
    return err == RMK_EINVAL || err == RMK_ECORRUPT || err == RMK_EUNSUPPORTED || err == RMK_ELIMIT;
}

/* 50 ms, doubled per loss up to 3.2 s: quicker than a person notices at first, slower than a group
 * forms at last. */
uint64_t rmk_policy_backoff_us(uint32_t losses)
{
    uint32_t doublings = losses < 1 ? 0 : losses - 1;

    return (uint64_t)50000 << (doublings < 6 ? doublings : 6);
}
