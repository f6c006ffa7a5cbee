#include "coordinator/engine/policy.h"

#include "coordinator/engine/request.h"

/* Whose share is due first; then whose deadline is; then who rode longer ago. */
bool rmk_policy_rides_before(const struct rmk_request *a, const struct rmk_request *b)
{
    uint64_t a_deadline_us = a->deadline_us != 0 ? a->deadline_us : UINT64_MAX;
    uint64_t b_deadline_us = b->deadline_us != 0 ? b->deadline_us : UINT64_MAX;

    if (a->due_work != b->due_work) {
        return a->due_work < b->due_work;
    }
    if (a_deadline_us != b_deadline_us) {
        return a_deadline_us < b_deadline_us;
    }
    return a->rode != b->rode ? a->rode < b->rode : a->slot < b->slot;
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
