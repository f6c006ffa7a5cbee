/* The coordinator's mind: one door. Events come in (time included), actions go out.
 *
 *     void rmk_engine_step(engine, event, actions)
 *
 * No clock, socket, thread, allocation or randomness of its own: memory is given at init, time and
 * replies are events, noise is counter-based from the request's seed. The same events in the same
 * order give the same actions. Wrong requests are answers (FINISH with a reason); broken invariants
 * are asserts. tests/sim drives this very door.
 *
 * Request:   SUBMIT → (ENCODE → FEATURES_READY)* → assigned to a group → (PREFETCH →
 * FEATURES_RESIDENT)* → rounds of RUN_STEP/STEP_DONE, EMIT after each commit → FINISH, RELEASE
 * Group:     GROUP_UP(epoch) → one plan under way at a time → GROUP_DOWN: its requests go on
 * elsewhere, or here under the next epoch, from their last canvas
 */
#ifndef RMK_COORDINATOR_ENGINE_ENGINE_H
#define RMK_COORDINATOR_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/limits.h"
#include "coordinator/engine/cache.h"
#include "coordinator/engine/denoise.h"

struct rmk_canvas;
struct rmk_engine;

/* Names one request for its life; a late answer for a finished one finds nobody at home. 0/0: none.
 */
struct rmk_request_id {
    uint32_t index;
    uint32_t generation; /* never 0 for a live request */
};

struct rmk_engine_limits {
    uint32_t requests_max; /* open requests, queued ones included */
    uint32_t
        queued_max; /* of these, not yet on a group; more: refused with ELIMIT and a retry hint */
    uint32_t groups_max;
    uint32_t visions_max;
    uint32_t rows_per_plan_max; /* requests of one round; 1 for now, the interface carries many */
    uint32_t retries_max;       /* losses of a worker that one request survives */
    uint32_t ahead_max;       /* forwards that a group may run of one plan by itself; 0 or 1: one */
    uint64_t plan_timeout_us; /* a plan not answered by then, and a few times what it should take
                                 by the group's costs: DISSOLVE the group */
    uint64_t
        encode_timeout_us; /* an ENCODE or PREFETCH not answered by then: asked again elsewhere */
};

/* Bytes needed for these limits; the caller allocates (64-byte aligned) and keeps the block until
 * deinit. */
size_t rmk_engine_bytes(const struct rmk_engine_limits *limits);
struct rmk_engine *rmk_engine_init(void *memory, const struct rmk_engine_limits *limits);

/* ---- what a request is
 * ------------------------------------------------------------------------------------------- */

enum rmk_lane {
    RMK_LANE_ONLINE = 0,
    RMK_LANE_BATCH,
};

struct rmk_item {    /* a picture or a video */
    uint8_t key[32]; /* content digest: bytes, mode, preprocessing; equal keys are encoded once */
    uint32_t rows;   /* prompt rows */
    uint32_t tile_count; /* cost for the vision pool */
};

struct rmk_submit {
    uint64_t tag;         /* the caller's own name for it; comes back in ACCEPTED and FINISH */
    uint64_t deadline_us; /* absolute, same clock as events; 0: none */
    enum rmk_lane lane;
    uint32_t tenant;      /* below RMK_TENANTS; fairness is among tenants */
    uint32_t prompt_rows; /* P, picture rows included */
    const uint32_t
        *prompt_masks; /* prompt rows holding the mask token, ascending (quirk 4: they compete) */
    uint32_t prompt_mask_count;
    const struct rmk_item *items;
    uint32_t item_count;
    int32_t mask_id;
    uint32_t gen_length; /* G; divisible by block_length */
    uint32_t block_length;
    uint32_t steps; /* divisible by G / block_length */
    double temperature;
    float cfg_scale;
    enum rmk_remasking remasking;
    uint64_t seed;
    bool golden_noise;            /* the reference stream instead of Philox */
    const struct rmk_stop *stops; /* stop strings as ids, official scan */
    uint32_t stop_count;
    const int32_t *suffix;
    uint32_t suffix_count;
    struct rmk_rule_options rule;   /* zero: the official quota */
    struct rmk_cache_options cache; /* zero: none, exact */
    bool best_at_deadline; /* at the deadline answer with the canvas as it is (reason DEADLINE, ids
                              given) */
    bool stepwise; /* whoever asks looks at each forward before the next: nothing is run ahead */
};

/* ---- events
 * ---------------------------------------------------------------------------------------------------------
 */

enum rmk_event_kind {
    RMK_EVENT_TICK = 0,
    RMK_EVENT_SUBMIT,
    RMK_EVENT_CANCEL,
    RMK_EVENT_TEXT_STOP, /* the stream found a text-level stop in the settled prefix: finish as STOP
                          */
    RMK_EVENT_FEATURES_READY,    /* a vision worker holds the item */
    RMK_EVENT_FEATURES_RESIDENT, /* rank 0 of a group holds it */
    RMK_EVENT_FEATURES_FAILED,   /* encode or pull failed */
    RMK_EVENT_STEP_DONE,
    RMK_EVENT_STEP_FAILED, /* the group refused or could not run the plan, but lives */
    RMK_EVENT_GROUP_UP,
    RMK_EVENT_GROUP_DOWN,
    RMK_EVENT_VISION_UP,
    RMK_EVENT_VISION_DOWN,
    RMK_EVENT_CLIENT_SLOW, /* its stream is full: finish rounds, but start none */
    RMK_EVENT_CLIENT_READY,
    RMK_EVENT_DRAIN, /* accept nothing new; finish what is open */
};

struct rmk_event_features {
    struct rmk_request_id request;
    uint32_t item;
    uint32_t vision; /* READY, FAILED of an encode: who answers */
    uint64_t vision_epoch;
    uint32_t group; /* RESIDENT, FAILED of a prefetch; UINT32_MAX for an encode's failure */
    uint64_t epoch;
    enum rmk_err err; /* FAILED: of an encode INVALID, CORRUPT, UNSUPPORTED, LIMIT are the picture's
                         fault and final; UNAVAILABLE, INTERNAL …, and whatever ends a prefetch
                         (NOT_FOUND: evicted), are retried */
    const char *why;  /* FAILED: sentence, copied */
};

/* A forward that the group has run ahead. */
struct rmk_row_forward {
    const struct rmk_plan_update *commits; /* what the group committed before it, in its order */
    uint32_t commit_count;
    const struct rmk_guess *guesses; /* in the order of what it read */
    uint32_t guess_count;
};

struct rmk_row_result {
    struct rmk_request_id request;
    bool poisoned; /* a logit was not finite: this request fails, others go on */
    const struct rmk_guess
        *guesses; /* in the order of the row's reads; confidence as the worker saw it */
    uint32_t guess_count;
    const struct rmk_row_forward *ahead; /* the forwards after the one asked for, if it had leave */
    uint32_t ahead_count;
    bool poisoned_ahead; /* as `poisoned`, of the forward after all these */
};

struct rmk_event_step {
    uint32_t group;
    uint64_t epoch;
    uint64_t sequence; /* of the plan answered; another one: ignored */
    const struct rmk_row_result *rows;
    uint32_t row_count;
    uint64_t compute_us;           /* as the worker measured it */
    enum rmk_err err;              /* STEP_FAILED */
    struct rmk_request_id culprit; /* STEP_FAILED: the request to blame; one that did not ride:
                                      unknown, all rows retry */
    const char *why;
};

struct rmk_event_group {
    uint32_t group;          /* index < groups_max */
    uint64_t epoch;          /* grows for ever per group */
    uint32_t slot_count;     /* UP */
    uint32_t rows_max;       /* UP: longest sequence it can hold */
    uint32_t step_rows_max;  /* UP: full positions in one plan, CFG double */
    uint64_t numerics_class; /* UP: requests move only within one class, otherwise they restart */
    uint32_t kv_rows_max;    /* UP: key/value rows it can hold over all slots; CFG counts a request
                                twice; 0: no caches */
    uint32_t feature_rows_max; /* UP: of these, rows of FEATURE requests; CFG twice; 0: no feature
                                  caches */
    uint32_t reads_max;        /* UP: positions read in one plan */
    uint64_t cost_full_row_ns; /* UP: fitted at start: one position of a FULL row, of a WINDOW row,
                                  and a round's fixed */
    uint64_t cost_window_row_ns; /* cost; 0: not measured */
    uint64_t cost_round_ns;
    uint32_t ahead_max; /* UP: forwards of one plan that it can run by itself; 0: one */
};

struct rmk_event_vision {
    uint32_t vision;       /* index < visions_max */
    uint64_t epoch;        /* of this worker's attachment */
    uint32_t parallel_max; /* encodes under way at once */
};

struct rmk_event {
    enum rmk_event_kind kind;
    uint64_t now_us;
    union {
        const struct rmk_submit *submit;
        struct rmk_request_id request; /* CANCEL, TEXT_STOP, CLIENT_SLOW, CLIENT_READY */
        struct rmk_event_features features;
        struct rmk_event_step step;
        struct rmk_event_group group;
        struct rmk_event_vision vision;
    };
};

/* ---- actions
 * ---------------------------------------------------------------------------------------------------------
 */

enum rmk_action_kind {
    RMK_ACTION_ACCEPTED = 0,
    RMK_ACTION_ENCODE,
    RMK_ACTION_PREFETCH,
    RMK_ACTION_RUN_STEP,
    RMK_ACTION_EMIT,
    RMK_ACTION_FINISH,
    RMK_ACTION_RELEASE, /* group, epoch: forget the request's slot or staged features (with the next
                           plan at the latest) */
    RMK_ACTION_DISSOLVE,  /* the group does not answer: end this epoch; GROUP_DOWN follows as an
                             event */
    RMK_ACTION_SET_TIMER, /* one timer; the last one set counts; a TICK is due then */
};

enum rmk_finish {
    RMK_FINISH_LENGTH = 0, /* every position generated */
    RMK_FINISH_STOP,       /* a stop string, `<|eot_id|>` among them */
    RMK_FINISH_CANCELLED,
    RMK_FINISH_DEADLINE,
    RMK_FINISH_REFUSED, /* never accepted: err and why say it */
    RMK_FINISH_FAILED,
};

struct rmk_usage {
    uint32_t forwards;   /* model evaluations that counted (CFG's two passes are one) */
    uint32_t refreshes;  /* of these, FULL ones */
    uint32_t replays;    /* forwards run again without the head, to rebuild a cache after a loss */
    uint32_t committed;  /* tokens committed */
    uint32_t recoveries; /* losses of a worker survived */
    bool restarted;      /* moved to another numerics class: began anew */
    uint64_t queue_us;   /* submit → first round */
    uint64_t encode_us;  /* submit → all features ready; 0 without pictures */
    uint64_t first_commit_us; /* submit → first commit */
    uint64_t compute_us;      /* sum over rounds */
    uint64_t total_us;
};

/* One row of a plan. Pointers are the engine's, good until the next step call. */
struct rmk_plan_row {
    struct rmk_request_id request;
    uint32_t slot;
    enum rmk_plan_kind kind;
    bool keep; /* FULL: write keys and values of every position into the slot's extent */
    uint32_t window_begin; /* WINDOW: absolute */
    uint32_t window_end;
    bool refresh_prompt; /* FEATURE */
    bool refresh_gen;
    double transfer_ratio;
    bool kv;   /* open: the request needs an extent of L rows (CFG: two) */
    bool open; /* first row on this group and epoch: send prompt and features before it; the
                  updates then carry the whole canvas so far */
    const struct rmk_plan_update *updates; /* commits since the last row on this group and epoch */
    uint32_t update_count;
    const uint32_t *reads; /* absolute positions to guess, ascending */
    uint32_t read_count;
    uint64_t forward; /* f, from 0 */
    double temperature;
    float cfg_scale;
    uint64_t seed;
    bool golden_noise;
    uint32_t ahead; /* > 1: leave to go on by itself, to so many forwards in all, from … */
    const struct rmk_canvas *canvas; /* … here (ahead.h) */
};

struct rmk_plan {
    uint32_t group;
    uint64_t epoch;
    uint64_t sequence;      /* per epoch, from 1 */
    const uint32_t *closes; /* slots to close before the rows */
    uint32_t close_count;
    const struct rmk_plan_row *rows;
    uint32_t row_count;
};

struct rmk_commit {
    uint32_t position; /* relative to the prompt's end */
    int32_t token;
    double confidence;
};

struct rmk_action {
    enum rmk_action_kind kind;
    struct rmk_request_id request; /* all but RUN_STEP, DISSOLVE, SET_TIMER */
    uint64_t tag;                  /* ACCEPTED, EMIT, FINISH */
    union {
        struct {
            uint32_t item;
            uint32_t vision;
            uint64_t vision_epoch;
            uint32_t group; /* PREFETCH, RELEASE, DISSOLVE */
            uint64_t epoch;
        } place;
        struct rmk_plan plan;
        struct {
            const struct rmk_commit *commits; /* this round's, in order of confidence */
            uint32_t commit_count;
            uint32_t settled_count; /* leading positions that are final: no mask before, inside the
                                       stop */
            const int32_t *canvas;  /* [gen_length], mask_id where open */
            uint32_t gen_length;
            uint32_t block;
            uint32_t step;
        } emit;
        struct {
            enum rmk_finish reason;
            enum rmk_err err; /* REFUSED, FAILED */
            const char *why;
            uint64_t retry_after_us; /* REFUSED for load: a hint; 0: none */
            const int32_t *ids; /* the answer: generated ids cut at the stop, then the suffix */
            uint32_t id_count;
            struct rmk_usage usage;
        } finish;
        uint64_t timer_us;
    };
};

/* Actions of one step, in the order they must be performed. Owned by the engine; good until the
 * next step. */
struct rmk_actions {
    const struct rmk_action *items;
    uint32_t count;
};

void rmk_engine_step(struct rmk_engine *engine, const struct rmk_event *event,
                     struct rmk_actions *out_actions);

/* ---- looking in (metrics, status, simulator)
 * ---------------------------------------------------------------------------- */

struct rmk_engine_counts {
    uint32_t open;
    uint32_t queued;
    uint32_t encoding;
    uint32_t running;
    uint32_t groups_up;
    uint32_t visions_up;
    uint64_t accepted;
    uint64_t refused;
    uint64_t finished[6]; /* by enum rmk_finish */
    uint64_t rounds;
    uint64_t rows;
    uint64_t commits;
    uint64_t recoveries;
};

void rmk_engine_count(const struct rmk_engine *engine, struct rmk_engine_counts *out_counts);

/* Checks every invariant between data structures; asserts on the first broken one. Slow: simulator
 * and tests. */
void rmk_engine_check(const struct rmk_engine *engine);

/* The trace: one line a decision, written into the ring given here (NULL: off). The same line is
 * the debug log in production and the expected text in tests/sim/scripts. */
typedef void (*rmk_trace_fn)(void *context, const char *line);
void rmk_engine_trace(struct rmk_engine *engine, rmk_trace_fn trace, void *context);

#endif
