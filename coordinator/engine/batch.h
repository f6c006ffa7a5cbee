/* Which residents of a group ride the next plan. What a row computes is the request's alone; this
 * only says when. */
#ifndef RMK_COORDINATOR_ENGINE_BATCH_H
#define RMK_COORDINATOR_ENGINE_BATCH_H

#include <stdint.h>

#include "coordinator/engine/fleet.h"
#include "coordinator/engine/request.h"

/* At most `rows_max` riders (and no more positions than one step of the group takes), in riding
 * order. */
uint32_t rmk_batch_pick(const struct rmk_group *group, struct rmk_request *requests,
                        uint32_t rows_max, struct rmk_request **out_riders);

#endif
