/* One request: what was asked, its canvas, and where it stands.
 *
 *   SUBMIT ──► WAITING ──► ENCODING ──► SEEKING ──► FETCHING ──► READY ◄──► RIDING ──► FINISH
 *                 │ no pictures            ▲  ▲          │          │          │
 *                 └────────────────────────┘  └──────────┴──────────┴──────────┘ group lost,
 * features lost, failure (back to ENCODING instead when a picture's features are nowhere any more)
 *
 * A request is in the queue (admit.h) up to SEEKING, and holds a slot of one group (ledger.h) from
 * FETCHING on.
 */
#ifndef RMK_COORDINATOR_ENGINE_REQUEST_H
#define RMK_COORDINATOR_ENGINE_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/limits.h"
#include "coordinator/engine/canvas.h"
#include "coordinator/engine/engine.h"

enum rmk_stage {
    RMK_STAGE_FREE = 0,
    RMK_STAGE_WAITING,  /* accepted; its turn has not come */
    RMK_STAGE_ENCODING, /* has its turn; some features are ready nowhere */
    RMK_STAGE_SEEKING,  /* has its turn and its features; seeks a slot */
    RMK_STAGE_FETCHING, /* has a slot; the group's rank 0 pulls its features */
    RMK_STAGE_READY,    /* may ride */
    RMK_STAGE_RIDING,   /* in the plan under way */
    RMK_STAGE_COUNT,
};

enum rmk_item_state {
    RMK_ITEM_NEEDED = 0, /* features are nowhere that we know of */
    RMK_ITEM_ASKED,      /* an encode of the same key is under way at `vision` */
    RMK_ITEM_HELD,       /* `vision` holds it */
};

#define RMK_NOWHERE UINT32_MAX

struct rmk_request_item {
    struct rmk_item item;
    enum rmk_item_state state;
    uint32_t vision;
    uint64_t vision_epoch;
    uint32_t avoid; /* vision worker that failed last; asked again only if there is no other */
    bool resident;  /* FETCHING: rank 0 of the group has it */
};

struct rmk_request {
    struct rmk_request_id id;
    uint64_t tag;
    enum rmk_stage stage;

    uint64_t deadline_us; /* 0: none */
    enum rmk_lane lane;
    uint32_t tenant;
    uint32_t total_rows;   /* P + G + S */
    uint32_t step_rows;    /* positions of one forward: total_rows, CFG double */
    uint32_t kv_rows;      /* key/value rows it holds on a group; 0: none */
    uint32_t feature_rows; /* of these, with attention and MLP outputs */
    uint32_t reads_most;   /* positions that one forward may read */
    uint64_t cost;         /* positions of all its forwards, about: what its tenant is charged */
    bool best_at_deadline;
    bool stepwise;
    double temperature;
    float cfg_scale;
    struct rmk_request_item items[RMK_ITEMS_MAX];
    uint32_t item_count;
    struct rmk_canvas canvas;

    uint64_t turn;  /* order in which turns were given, from 1; 0: none yet */
    uint32_t entry; /* place in the queue; RMK_NOWHERE when not queued */
    uint32_t group; /* RMK_NOWHERE: none */
    uint32_t slot;
    uint64_t epoch;
    bool opened;         /* a row with `open` went to this group and epoch */
    bool primed;         /* the slot's cache is what the next forward builds on */
    uint64_t replayed;   /* not primed: forward to run again next, from the canvas's base on */
    uint32_t log_seen;   /* commits that this group and epoch has been told */
    uint64_t forward_us; /* what one of its last forwards there took; 0: it had none */
    uint64_t due_work;   /* it leads its tenant when that has had so much work (batch.h) */
    uint64_t rode;       /* plan sequence of its last ride there, or of its arrival */
    bool classed;        /* numerics_class is that of the forwards so far */
    uint64_t numerics_class;
    bool slow;       /* its client is */
    uint32_t losses; /* that it took part in */
    uint64_t not_before_us;
    uint64_t fetch_deadline_us; /* FETCHING */

    uint64_t submitted_us;
    uint64_t first_round_us;
    bool first_committed;
    struct rmk_usage usage;
    int32_t answer[RMK_GEN_LENGTH_MAX + RMK_SUFFIX_MAX]; /* of its FINISH */
    struct rmk_why why;                                  /* of its last loss, or of its end */
};

/* What a request's next row on its group is: its next forward, or an earlier one once more, without
 * reads, to rebuild what that group keeps. */
struct rmk_ride {
    bool replay;
    uint64_t forward;
    struct rmk_cache_pass pass;
    uint32_t log_count; /* commits that this forward has seen */
    uint32_t positions; /* computed; CFG double */
    uint32_t read_count;
};

/* `submit` has been checked. Leaves id and queue fields alone. */
void rmk_request_init(struct rmk_request *request, const struct rmk_submit *submit,
                      uint64_t now_us);

struct rmk_ride rmk_request_ride(const struct rmk_request *request);
/* The ride was answered. */
void rmk_request_rode(struct rmk_request *request, const struct rmk_ride *ride);

/* All items held. */
bool rmk_request_is_encoded(const struct rmk_request *request);

/* When it next wants attention; RMK_TIMER_NEVER: only when something happens to it. */
uint64_t rmk_request_due(const struct rmk_request *request, uint64_t now_us);

const char *rmk_request_stage_name(enum rmk_stage stage);

#endif
