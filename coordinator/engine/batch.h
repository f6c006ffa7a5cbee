/* Which residents of a group ride the next plan. What a row computes is the request's alone; this
 * only says when.
 *
 * Every resident gets the same share of the group's work, measured by what its rows cost: after a
 * ride of cost c, among n residents, it leads again once the group has done c * n more. Windows
 * ride along with whoever leads, since they add little to a round. Full forwards ride along only as
 * far as the round stays short, or as short as its leader makes it: they wait for each other, not
 * the windows for them.
 */
#ifndef RMK_COORDINATOR_ENGINE_BATCH_H
#define RMK_COORDINATOR_ENGINE_BATCH_H

#include <stdint.h>

#include "coordinator/engine/fleet.h"
#include "coordinator/engine/request.h"

/* At most `rows_max` riders (and no more positions and reads than one step of the group takes), in
 * riding order; charges them. */
uint32_t rmk_batch_pick(struct rmk_group *group, struct rmk_request *requests, uint32_t rows_max,
                        struct rmk_request **out_riders);

#endif
