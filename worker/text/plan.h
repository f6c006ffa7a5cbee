/* A StepPlan as a rank runs it: checked, turned into runner calls, executed in step with the other
 * ranks.
 *
 * Before anything collective the ranks exchange a verdict {hash of the plan's bytes, ready or not}:
 * different plans end the epoch; a rank that is not ready (rank 0 without the features) makes every
 * rank skip the plan together, so that no rank waits in a collective that another never enters.
 */
#ifndef RMK_WORKER_TEXT_PLAN_H
#define RMK_WORKER_TEXT_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "remask/cluster/v1/cluster.pb-c.h"
#include "worker/text/runner.h"

struct rmk_plan_job;

/* What a group can take; a plan outside it is refused. */
struct rmk_plan_limits {
    uint32_t slot_count;
    uint32_t rows_max;
    uint32_t step_rows_max;
    uint32_t reads_max;
    uint32_t vocab;
    uint32_t kv_rows_max;      /* 0: no request may keep keys and values */
    uint32_t feature_rows_max; /* 0: nor attention and MLP outputs */
};

/* Take over `plan`, an unpacked message's (freed with the job, through `owner`). */
enum rmk_err rmk_plan_create(Remask__Cluster__V1__CoordinatorMessage *owner, uint64_t hash,
                             const struct rmk_plan_limits *limits, struct rmk_plan_job **out_job,
                             struct rmk_why *why);
void rmk_plan_destroy(struct rmk_plan_job *job);

/* Rank 0: the features that the plan's opens want. `take` hands out malloc'ed rows, or NULL: not
 * here, and then the plan will be refused with RMK_EUNAVAILABLE and that request as the culprit. */
typedef float *(*rmk_plan_take)(void *context, uint64_t request, uint32_t item, uint32_t rows);
void rmk_plan_take_features(struct rmk_plan_job *job, rmk_plan_take take, void *context);

/* Run it on the lane. Returns RMK_OK also when the plan was refused by all ranks together (then
 * result's error is set); an error means that the epoch is over. */
enum rmk_err rmk_plan_run(struct rmk_plan_job *job, struct rmk_runner *runner,
                          struct rmk_comm *comm, struct rmk_why *why);

/* The answer, for rmk_pack; borrowed from the job. Valid after rmk_plan_run returned RMK_OK. */
const Remask__Cluster__V1__StepResult *rmk_plan_result(const struct rmk_plan_job *job);

uint64_t rmk_plan_epoch(const struct rmk_plan_job *job);

#endif
