/* Choices as data: each is a function in a table or a number with a reason, not a branch in the
 * middle of a step. */
#ifndef RMK_COORDINATOR_ENGINE_POLICY_H
#define RMK_COORDINATOR_ENGINE_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

struct rmk_request;

/* Which of two residents of one group and one tenant rides first. A total order. */
bool rmk_policy_rides_before(const struct rmk_request *a, const struct rmk_request *b);

/* The thing itself is at fault, and asking again would not make it better. */
bool rmk_policy_is_final(enum rmk_err err);

/* How long a request sits out after its n-th loss (from 1). */
uint64_t rmk_policy_backoff_us(uint32_t losses);

enum {
    /* A request that would miss its deadline at its share has so many shares of its tenant's. */
    RMK_POLICY_PRESSED = 2,
    /* Batch requests wait at most this many times longer than online ones, so they cannot starve.
     */
    RMK_POLICY_ONLINE_STREAK = 7,
};

/* What full forwards may cost together in one round when none of them costs more by itself: short
 * enough for those who wait, long enough to be worth a round trip. */
#define RMK_POLICY_ROUND_NS 100000000u

/* A plan may take so many times what it should, besides what every plan is given: costs are fitted
 * at the group's start on a few rows, without the head, and attention grows faster than they say. A
 * model that is slow for its machine is slow, and no reason to dissolve its group again and again.
 */
#define RMK_POLICY_PATIENCE 4u

/* Of what has an end (places in the queue, bytes of pictures, requests at the door) a tenant may
 * hold so many times what is still free: alone seven eighths, and there is always room for somebody
 * else. */
#define RMK_POLICY_TENANT_SHARE 7u

/* Does a tenant hold too much, where so much would be left for everybody? Never the one without a
 * name (0), in which nobody can be told apart. */
static inline bool rmk_policy_is_hog(uint32_t tenant, uint64_t held, uint64_t left)
{
    return tenant != 0 && held / RMK_POLICY_TENANT_SHARE > left;
}

/* How long a group may be busy with what it runs ahead (leave.h): about as long as nobody minds
 * that a cancel, a newcomer or the next piece of text waits. */
#define RMK_POLICY_AHEAD_US 50000u

/* When to come back, if nothing is known about how long a request takes; and the bounds of an
 * estimate. */
#define RMK_POLICY_RETRY_US     1000000u
#define RMK_POLICY_RETRY_US_MIN 100000u
#define RMK_POLICY_RETRY_US_MAX 60000000u

#endif
