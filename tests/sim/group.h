/* What the files of a simulated group share: group.c runs plans, ahead.c goes on with them. */
#ifndef RMK_TESTS_SIM_GROUP_H
#define RMK_TESTS_SIM_GROUP_H

#include "coordinator/engine/ahead.h"
#include "coordinator/engine/state.h" /* for looking in only */
#include "tests/sim/sim.h"

/* A plan with all it points to, and the canvas as the engine had it when it sent the plan. */
struct sim_plan {
    struct rmk_plan plan;
    struct rmk_plan_row rows[SIM_PLAN_ROWS_MAX];
    uint32_t closes[SIM_SLOTS_MAX];
    struct rmk_plan_update updates[SIM_PLAN_ROWS_MAX][SIM_ROWS_MAX];
    uint32_t reads[SIM_PLAN_ROWS_MAX][SIM_ROWS_MAX];
    int32_t canvas[SIM_PLAN_ROWS_MAX][SIM_GEN_MAX];
    struct rmk_ahead aheads[SIM_PLAN_ROWS_MAX]; /* of rows with leave; `canvas` has the ids */
    struct rmk_stop stops[SIM_PLAN_ROWS_MAX][SIM_STOPS_MAX];
};

/* group.c: a forward's guesses. False: it is poisoned, and they mean nothing. */
bool sim_group_guess(const struct sim *sim, const struct sim_group *group, struct sim_slot *slot,
                     const struct sim_pass *pass, const uint32_t *reads, uint32_t read_count,
                     uint64_t forward, struct rmk_guess *guesses);

/* group.c: somewhere on the way through the plan the group gives up (true); what it has done so far
 * stays done. */
bool sim_group_fail(struct sim *sim, struct sim_group *group, const struct sim_plan *plan,
                    uint32_t row);

/* ahead.c: the leave of a row that the coordinator sends, looked at and copied. Nobody may wait for
 * a plan that is run ahead. */
void sim_ahead_take_leave(struct sim *sim, uint32_t group, const struct rmk_plan_row *row,
                          const struct sim_ask *ask, struct sim_plan *copy, uint32_t index);

/* ahead.c: the forwards beyond the first. False: the group gave up on the way. */
bool sim_ahead_run(struct sim *sim, struct sim_group *group, const struct sim_plan *plan,
                   struct sim_message *message);

/* ahead.c: one forward of a row comes back as another. */
void sim_ahead_garble(struct sim *sim, struct sim_message *message);

#endif
