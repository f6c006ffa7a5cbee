/* Who holds which slot of a group, and what the group has been told: slots, closes, opens, canvas
 * differences.
 *
 * A slot is closed by the `closes` of the next plan of its group, which come before the rows; so it
 * can be given away at once. If the group has nothing to run, the close waits for a plan: slots are
 * memory set aside anyway. RELEASE tells the body earlier, for staged features that would otherwise
 * lie around; closing twice is allowed.
 */
#ifndef RMK_COORDINATOR_ENGINE_LEDGER_H
#define RMK_COORDINATOR_ENGINE_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include "coordinator/engine/fleet.h"
#include "coordinator/engine/request.h"

/* The lowest free slot of `group`, which has one. */
void rmk_ledger_take(struct rmk_group *group, uint32_t index, struct rmk_request *request);
/* The request leaves; its slot is dirty if it was opened. */
void rmk_ledger_leave(struct rmk_group *group, struct rmk_request *request);

/* The next plan with these riders, and leave for so many forwards in all (leave.h): marks them as
 * told, the plan as under way. Pointers as in engine.h. */
struct rmk_plan rmk_ledger_plan(struct rmk_group *group, uint32_t index,
                                struct rmk_request *const *riders, uint32_t rider_count,
                                uint32_t ahead);

/* The plan did not run to its end: whether its closes happened is unknown, so they are due again.
 */
void rmk_ledger_doubt(struct rmk_group *group, const struct rmk_request *requests);

#endif
