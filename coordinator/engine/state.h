/* The engine's whole state, and what the files of this folder do for each other. Nobody outside
 * includes this.
 *
 *   engine.c     the door: memory, dispatch, small events, the order of things within a step
 *   life.c       a request's end, its losses, its moves between queue and groups
 *   features.c   pictures: encodes, prefetches, vision workers
 *   rounds.c     groups: placing, plans, answers
 *   check.c      invariants between all of these
 */
#ifndef RMK_COORDINATOR_ENGINE_STATE_H
#define RMK_COORDINATOR_ENGINE_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "coordinator/engine/admit.h"
#include "coordinator/engine/engine.h"
#include "coordinator/engine/fleet.h"
#include "coordinator/engine/request.h"
#include "coordinator/engine/timer.h"
#include "coordinator/engine/trace.h"

struct rmk_handle {
    uint32_t generation;
    bool live;
};

struct rmk_engine {
    struct rmk_engine_limits limits;
    uint64_t now_us;
    bool draining;

    struct rmk_request *requests; /* [requests_max] */
    struct rmk_handle
        *handles;           /* apart from the requests, so that an idle engine touches few pages */
    uint32_t *free_indexes; /* the last one goes first */
    uint32_t free_count;
    uint32_t stages[RMK_STAGE_COUNT]; /* requests in each */
    uint32_t paused;                  /* residents that do not ride because their client is slow */

    struct rmk_queue queue;
    struct rmk_fleet fleet;
    struct rmk_timers timers; /* ids: requests, then groups, then vision workers */
    uint64_t timer_set_us;    /* what the last SET_TIMER said */
    struct rmk_trace trace;

    bool encode_wanted; /* something changed that may let an encode begin */
    bool place_wanted;  /* … a request get a slot */
    bool again;         /* the actions ran out: go on with a TICK at once */
    uint32_t touched_count;
    uint32_t *touched; /* [groups_max] groups to look at for a plan */

    struct rmk_action *actions; /* of this step */
    uint32_t action_count;
    uint32_t action_max;
    struct rmk_guess *guesses;  /* [RMK_READS_MAX] scratch */
    struct rmk_commit *commits; /* [rows_per_plan_max * RMK_GEN_LENGTH_MAX] of this step */
    uint32_t commit_count;
    struct rmk_why refusal; /* of this step */

    uint64_t service_us; /* running average: first round to end of a request that succeeded */
    struct rmk_engine_counts totals; /* only what is counted up */
};

/* ---- engine.c
 * ----------------------------------------------------------------------------------------------------
 */

/* A cleared action at the end of this step's list. */
struct rmk_action *rmk_engine_act(struct rmk_engine *engine, enum rmk_action_kind kind);
/* May so many more actions be added by a pass that can as well go on later? Notes that it has to if
 * not. */
bool rmk_engine_has_room(struct rmk_engine *engine, uint32_t actions);
/* NULL: nobody at home. */
struct rmk_request *rmk_engine_find(struct rmk_engine *engine, struct rmk_request_id id);
void rmk_engine_touch(struct rmk_engine *engine, uint32_t group);

/* ---- life.c
 * ------------------------------------------------------------------------------------------------------
 */

void rmk_life_set_stage(struct rmk_engine *engine, struct rmk_request *request,
                        enum rmk_stage stage);
void rmk_life_set_slow(struct rmk_engine *engine, struct rmk_request *request, bool slow);
/* Its own timer; call after anything that moves it. */
void rmk_life_arm(struct rmk_engine *engine, struct rmk_request *request);
/* What items and stage say about the queue entry: ENCODING or SEEKING once it has a turn. */
void rmk_life_settle_in_queue(struct rmk_engine *engine, struct rmk_request *request);

/* FINISH, and whatever it held is given back. `request->why` is the sentence for FAILED. */
void rmk_life_finish(struct rmk_engine *engine, struct rmk_request *request, enum rmk_finish reason,
                     enum rmk_err err);
void rmk_life_fail(struct rmk_engine *engine, struct rmk_request *request, enum rmk_err err,
                   const char *why);
/* FINISH as REFUSED for somebody who never became a request. */
void rmk_life_refuse(struct rmk_engine *engine, uint64_t tag, enum rmk_err err, uint64_t retry_us);

/* Back from a group into the queue with its turn, canvas and forward number. With `release` the
 * group lives: RELEASE. */
void rmk_life_requeue(struct rmk_engine *engine, struct rmk_request *request, bool release);
/* One more loss that it took part in. False: one too many, it has been finished. */
bool rmk_life_charge(struct rmk_engine *engine, struct rmk_request *request, const char *why);
/* Sit out after a charged failure before it is tried again. */
void rmk_life_back_off(struct rmk_engine *engine, struct rmk_request *request);

/* ---- features.c
 * --------------------------------------------------------------------------------------------------
 */

void rmk_features_ready(struct rmk_engine *engine, const struct rmk_event_features *event);
void rmk_features_resident(struct rmk_engine *engine, const struct rmk_event_features *event);
void rmk_features_failed(struct rmk_engine *engine, const struct rmk_event_features *event);
void rmk_features_vision_up(struct rmk_engine *engine, const struct rmk_event_vision *event);
void rmk_features_vision_down(struct rmk_engine *engine, const struct rmk_event_vision *event);
void rmk_features_vision_due(struct rmk_engine *engine, uint32_t vision);
void rmk_features_fetch_due(struct rmk_engine *engine, struct rmk_request *request);
/* Items held by a worker that is no more are needed again. */
void rmk_features_forget_lost(struct rmk_engine *engine, struct rmk_request *request);
/* Begin the encodes that can begin. */
void rmk_features_pass(struct rmk_engine *engine);

/* ---- rounds.c
 * ----------------------------------------------------------------------------------------------------
 */

void rmk_rounds_group_up(struct rmk_engine *engine, const struct rmk_event_group *event);
void rmk_rounds_group_down(struct rmk_engine *engine, const struct rmk_event_group *event);
void rmk_rounds_group_due(struct rmk_engine *engine, uint32_t group);
void rmk_rounds_step_done(struct rmk_engine *engine, const struct rmk_event_step *event);
void rmk_rounds_step_failed(struct rmk_engine *engine, const struct rmk_event_step *event);
/* Give slots to whoever's time it is, then plans to the groups that were touched. */
void rmk_rounds_pass(struct rmk_engine *engine);

#endif
