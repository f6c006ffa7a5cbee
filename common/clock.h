/* Time. Deadlines and durations use the monotonic clock; the wall clock is for people and logs
 * only. */
#ifndef RMK_COMMON_CLOCK_H
#define RMK_COMMON_CLOCK_H

#include <stdint.h>

/* Microseconds since an arbitrary point (CLOCK_MONOTONIC: the same scale as uv_hrtime() / 1000). */
uint64_t rmk_clock_us(void);

/* Microseconds since 1970 UTC. Jumps when somebody sets the clock. */
uint64_t rmk_clock_wall_us(void);

#endif
