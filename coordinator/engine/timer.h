/* When each thing next wants attention: an indexed binary heap, one due time per id. */
#ifndef RMK_COORDINATOR_ENGINE_TIMER_H
#define RMK_COORDINATOR_ENGINE_TIMER_H

#include <stdint.h>

#define RMK_TIMER_NEVER UINT64_MAX

struct rmk_timers {
    uint64_t *due;   /* [id_count]; RMK_TIMER_NEVER: not in the heap */
    uint32_t *heap;  /* [id_count] ids, the earliest first; lower id first among equals */
    uint32_t *place; /* [id_count] where an id stands in `heap` */
    uint32_t id_count;
    uint32_t count;
};

void rmk_timer_init(struct rmk_timers *timers, uint32_t id_count);
void rmk_timer_set(struct rmk_timers *timers, uint32_t id, uint64_t due_us);

/* Due time of the earliest, RMK_TIMER_NEVER when there is none. */
uint64_t rmk_timer_first(const struct rmk_timers *timers, uint32_t *out_id);

void rmk_timer_check(const struct rmk_timers *timers);

#endif
