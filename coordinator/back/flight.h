/* The plan a group has under way, kept to check its answer against: what a rank sends is looked at
 * once, here, and deeper code trusts it.
 */
#ifndef RMK_COORDINATOR_BACK_FLIGHT_H
#define RMK_COORDINATOR_BACK_FLIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "coordinator/arena.h"
#include "coordinator/engine/engine.h"
#include "remask/cluster/v1/cluster.pb-c.h"

struct rmk_intake;

struct rmk_flight_row {
    struct rmk_request_id request;
    uint32_t prompt_rows;
    const uint32_t *reads;
    uint32_t read_count;
    uint32_t ahead; /* forwards it may come back with in all */
};

/* Zero it first. */
struct rmk_flight {
    bool under_way;
    uint64_t sequence;
    uint64_t hash;
    uint64_t sent_us;
    struct rmk_flight_row *rows;
    uint32_t row_count;
    struct rmk_arena
        arena; /* of the rows; reads are the engine's until its next step, the answer comes later */
};

void rmk_flight_begin(struct rmk_flight *flight, const struct rmk_plan *plan,
                      const struct rmk_intake *const *intakes, uint64_t hash, uint64_t now_us);
void rmk_flight_deinit(struct rmk_flight *flight);

/* Turn rank 0's answer into rows for the engine, from `scratch`. `vocab`: ids are below it.
 * RMK_EINVAL: it does not answer what was asked; the sentence says what differs. */
enum rmk_err rmk_flight_read(const struct rmk_flight *flight,
                             const Remask__Cluster__V1__StepResult *result, uint32_t vocab,
                             struct rmk_arena *scratch, struct rmk_row_result **out_rows,
                             struct rmk_why *why);

#endif
