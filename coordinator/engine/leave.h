/* Which plans a group may go on with by itself (ahead.h), and how far: only when nobody would wait
 * for it longer than for a short round, and everybody who rides may. Somebody whose client does not
 * read waits for that client, not for the group; so one slow client does not slow the others down.
 * Nor is anything run past a rider's deadline, where it would be for nothing. How long it takes is
 * what the riders' last forwards took here: what a group announces (fleet.h) is a few timings at
 * its start, of fewer rows than a prompt has.
 */
#ifndef RMK_COORDINATOR_ENGINE_LEAVE_H
#define RMK_COORDINATOR_ENGINE_LEAVE_H

#include <stdint.h>

#include "coordinator/engine/fleet.h"
#include "coordinator/engine/request.h"

/* Forwards that the plan of these riders may have, at most `most`; 1: no leave. `paused_count` of
 * the group's residents are ready but for their clients. */
uint32_t rmk_leave_forwards(const struct rmk_group *group, struct rmk_request *const *riders,
                            uint32_t rider_count, uint32_t paused_count, uint32_t most,
                            uint64_t now_us);

#endif
