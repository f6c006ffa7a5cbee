/* A plan on the wire: the engine's rows, and what an opened row needs of its request, as one packed
 * message. The same bytes go to every rank, and their hash comes back with the result.
 */
#ifndef RMK_COORDINATOR_BACK_PLAN_H
#define RMK_COORDINATOR_BACK_PLAN_H

#include <stddef.h>
#include <stdint.h>

struct rmk_arena;
struct rmk_intake;
struct rmk_plan;

/* `intakes` [plan->row_count]. The result is malloc'ed. NULL: no memory. */
uint8_t *rmk_plan_pack(const struct rmk_plan *plan, const struct rmk_intake *const *intakes,
                       struct rmk_arena *scratch, size_t *out_size);

/* XXH64, seed 0, of the packed CoordinatorMessage. */
uint64_t rmk_plan_hash(const uint8_t *packed, size_t size);

#endif
