#include "common/clock.h"

#include <time.h>

static uint64_t microseconds(clockid_t clock)
{
    struct timespec now;

    (void)clock_gettime(clock, &now); /* cannot fail for these two clocks */
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

uint64_t rmk_clock_us(void)
{
    return microseconds(CLOCK_MONOTONIC);
}

uint64_t rmk_clock_wall_us(void)
{
    return microseconds(CLOCK_REALTIME);
}
