/* Who may come in, and in which order those inside go on: one queue of all requests without a slot.
 *
 * A request waits for its turn. Turns go to the online lane first (the batch lane gets one in
 * eight, so that it cannot starve); within a lane to the tenant that has been charged least; within
 * a tenant to the earliest deadline, then in order of arrival. Whoever has a turn, returning ones
 * included, goes before those who have none, in order of turns.
 */
#ifndef RMK_COORDINATOR_ENGINE_ADMIT_H
#define RMK_COORDINATOR_ENGINE_ADMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/limits.h"
#include "coordinator/engine/engine.h"
#include "coordinator/engine/request.h"

enum { RMK_LANES = RMK_LANE_BATCH + 1 };

/* What ordering looks at, mirrored from the request so that a scan stays in the cache. */
struct rmk_entry {
    uint32_t request;
    uint32_t tenant;
    uint32_t total_rows;
    uint32_t step_rows;
    uint32_t kv_rows;
    uint64_t cost;
    uint64_t deadline_us;
    uint64_t order; /* of arrival */
    uint64_t turn;
    uint64_t not_before_us;
    enum rmk_lane lane;
    bool wants_encode;
    bool wants_place;
    bool skipped; /* no place for it in this pass */
};

struct rmk_queue {
    struct rmk_entry *entries; /* [requests_max], in no order */
    uint32_t count;
    uint32_t turned; /* of these, with a turn */
    uint64_t turns;
    uint64_t arrivals;
    uint32_t online_streak; /* turns given to the online lane while the batch lane waited */
    uint64_t charged[RMK_LANES][RMK_TENANTS];
    uint64_t charged_last[RMK_LANES]; /* account of the last turn before it was charged: where
                                         newcomers begin */
    uint32_t waiting[RMK_LANES][RMK_TENANTS]; /* entries without a turn */
    uint32_t queued[RMK_TENANTS];             /* entries */
};

enum rmk_want {
    RMK_WANT_ENCODE = 0,
    RMK_WANT_PLACE,
};

/* Room there is for the one to be picked. */
struct rmk_room {
    uint64_t now_us;
    uint32_t total_rows; /* longest that fits */
    uint32_t step_rows;
    bool kv;    /* some may take key/value rows */
    bool turns; /* may a request without a turn be picked */
};

/* Is what a front handed over something the engine can run? The sentence names the field. */
enum rmk_err rmk_admit_check(const struct rmk_submit *submit, struct rmk_why *why);

/* When to try again, if `queued` requests wait for `slots` slots and one takes `service_us` (0: not
 * known). */
uint64_t rmk_admit_retry_us(uint64_t service_us, uint32_t queued, uint32_t slots);

void rmk_queue_init(struct rmk_queue *queue);
/* Does the tenant wait with so many that what is left of the queue is for others (policy.h)? */
bool rmk_queue_is_hogged(const struct rmk_queue *queue, uint32_t tenant, uint32_t queued_max);
void rmk_queue_push(struct rmk_queue *queue, struct rmk_request *request);
/* Takes `requests` because the last entry moves into the hole. */
void rmk_queue_remove(struct rmk_queue *queue, struct rmk_request *requests,
                      struct rmk_request *request);
/* The request's stage, items, pause or client changed. */
void rmk_queue_refresh(struct rmk_queue *queue, const struct rmk_request *request);

/* The entry whose time it is, or NULL. */
struct rmk_entry *rmk_queue_pick(struct rmk_queue *queue, enum rmk_want want,
                                 const struct rmk_room *room);

/* Give a turn to the request of a picked entry, if it has none, and charge its tenant. */
void rmk_queue_turn(struct rmk_queue *queue, struct rmk_request *request);

#endif
