/* The workers as the engine knows them: text groups and vision workers, each with an epoch that
 * only grows.
 *
 * A message of an epoch that is not the present one is about a world that has ended. Whether that
 * is so is asked here, nowhere else.
 */
#ifndef RMK_COORDINATOR_ENGINE_FLEET_H
#define RMK_COORDINATOR_ENGINE_FLEET_H

#include <stdbool.h>
#include <stdint.h>

#include "common/limits.h"
#include "coordinator/engine/engine.h"
#include "coordinator/engine/request.h"

enum {
    RMK_VISION_JOBS_MAX =
        16,           /* encodes under way at one worker; it may announce more, and gets these */
    RMK_HINTS = 1024, /* remembered places of features */
};

struct rmk_slot {
    struct rmk_request_id holder; /* generation 0: free */
    bool dirty; /* the worker may hold a former request there: close it before the next open */
};

/* What a tenant has had of a group in this epoch (batch.h). */
struct rmk_share {
    uint64_t tag;  /* work charged to it, and what it has let pass: the least leads */
    uint64_t last; /* of what was charged: for its last row */
    uint64_t work; /* cost of its rows: the clock of its requests among themselves */
    uint64_t rode; /* plan sequence of its last ride */
    uint32_t held; /* its residents, batch ones among them */
    uint32_t held_batch;
};

struct rmk_group {
    bool up;
    bool known;   /* has been up; its capacities still say what it can take when it comes back */
    bool touched; /* something changed: look whether a plan can go */
    uint64_t epoch;
    uint32_t slot_count;
    uint32_t rows_max;
    uint32_t step_rows_max;
    uint64_t numerics_class;
    uint32_t kv_rows_max;
    uint32_t feature_rows_max;
    uint32_t reads_max; /* 0: as many as its rows ask for */
    uint64_t cost_full_row_ns;
    uint64_t cost_window_row_ns;
    uint64_t cost_round_ns;
    uint32_t ahead_max; /* forwards of one plan that it can run by itself */
    uint32_t held;      /* slots with a holder */
    uint32_t kv_held;   /* key/value rows of the holders */
    uint32_t feature_held;
    bool kv_reserved; /* in this pass: somebody whose turn is earlier waits for its rows */

    struct rmk_share shares[RMK_TENANTS];
    uint32_t share_count; /* tenants with residents */
    uint64_t tag_floor;   /* no tenant counts as having had less */
    uint64_t tag_most;    /* of all tenants */
    uint64_t sequence;    /* of the last plan of this epoch */
    bool in_flight;       /* that plan is not answered */
    uint64_t given_us;    /* for its answer */
    uint64_t deadline_us; /* of its answer */
    uint32_t row_count;
    struct rmk_plan_row *rows; /* [rows_per_plan_max] of the last plan */
    uint32_t closes[RMK_GROUP_SLOTS_MAX];
    struct rmk_slot slots[RMK_GROUP_SLOTS_MAX];
};

/* An encode under way. It outlives the request that asked, because others may share it. */
struct rmk_job {
    bool busy;
    struct rmk_request_id request;
    uint32_t item;
    struct rmk_item what;
    uint64_t deadline_us;
};

struct rmk_vision {
    bool up;
    bool suspect; /* let an encode time out, and has not answered since */
    uint64_t epoch;
    uint32_t parallel_max;
    uint32_t job_count;
    uint64_t tiles; /* of its jobs */
    struct rmk_job jobs[RMK_VISION_JOBS_MAX];
};

/* Who had an item last. Only a preference: the worker may have dropped it. */
struct rmk_hint {
    uint8_t key[32];
    uint32_t vision;
    uint64_t epoch;
};

struct rmk_fleet {
    struct rmk_group *groups;
    uint32_t group_max;
    struct rmk_vision *visions;
    uint32_t vision_max;
    struct rmk_hint *hints; /* [RMK_HINTS], by the key's first bytes */
    uint32_t groups_up;
    uint32_t visions_up;
    uint32_t slots_up;    /* of the groups that are up */
    uint32_t encodes_max; /* of the vision workers that are up, together */
    uint32_t encodes;     /* under way */
};

void rmk_fleet_init(struct rmk_fleet *fleet);

/* The epoch begins. False: it is not newer than what was there. The group must be down. */
bool rmk_fleet_group_up(struct rmk_fleet *fleet, const struct rmk_event_group *event);
void rmk_fleet_group_down(struct rmk_fleet *fleet, uint32_t group);

bool rmk_fleet_vision_up(struct rmk_fleet *fleet, const struct rmk_event_vision *event);
void rmk_fleet_vision_down(struct rmk_fleet *fleet, uint32_t vision);

/* Is this worker's attachment the present one? */
bool rmk_fleet_is_vision(const struct rmk_fleet *fleet, uint32_t vision, uint64_t epoch);
bool rmk_fleet_is_group(const struct rmk_fleet *fleet, uint32_t group, uint64_t epoch);

bool rmk_fleet_can_hold(const struct rmk_group *group, const struct rmk_request *request);
/* False: no group that was ever up can hold it. True while none is known. */
bool rmk_fleet_could_hold(const struct rmk_fleet *fleet, const struct rmk_request *request);
/* Why none can: the sentence. */
enum rmk_err rmk_fleet_explain(const struct rmk_fleet *fleet, const struct rmk_request *request,
                               struct rmk_why *why);
/* Is this the class that a request must stay in? True for one that has not begun. */
bool rmk_fleet_may_go_on(const struct rmk_group *group, const struct rmk_request *request);

/* Are its key/value and feature rows free, if those given besides were? */
bool rmk_fleet_has_rows(const struct rmk_group *group, const struct rmk_request *request,
                        uint32_t kv_rows, uint32_t feature_rows);
/* Nobody but those whose turn is earlier may take key/value rows where the request waits for some.
 */
void rmk_fleet_reserve(struct rmk_fleet *fleet, const struct rmk_request *request);

/* The least occupied group with a free slot and room that holds the request, or RMK_NOWHERE. A
 * request that has begun stays within its numerics class while a group of it is up. */
uint32_t rmk_fleet_choose_group(const struct rmk_fleet *fleet, const struct rmk_request *request);

/* For an encode: a worker with room; not the one to avoid, nor a suspect, unless there is no other;
 * best the one that had the item; else the one with the fewest tiles under way. RMK_NOWHERE: all
 * are full. */
uint32_t rmk_fleet_choose_vision(const struct rmk_fleet *fleet,
                                 const struct rmk_request_item *item);

/* The worker at which an encode of this key is under way, or RMK_NOWHERE. */
uint32_t rmk_fleet_find_encode(const struct rmk_fleet *fleet, const uint8_t key[32]);

struct rmk_job *rmk_fleet_begin_job(struct rmk_fleet *fleet, uint32_t vision,
                                    const struct rmk_item *item);
/* The job this request's item was asked by, or NULL. */
struct rmk_job *rmk_fleet_find_job(struct rmk_fleet *fleet, uint32_t vision,
                                   struct rmk_request_id request, uint32_t item);
void rmk_fleet_end_job(struct rmk_fleet *fleet, uint32_t vision, struct rmk_job *job);
uint64_t rmk_fleet_job_due(const struct rmk_vision *vision);

void rmk_fleet_remember(struct rmk_fleet *fleet, const uint8_t key[32], uint32_t vision);

bool rmk_fleet_same_key(const uint8_t a[32], const uint8_t b[32]);
bool rmk_fleet_same_request(struct rmk_request_id a, struct rmk_request_id b);

#endif
