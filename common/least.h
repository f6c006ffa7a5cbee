/* The smaller and the larger of two sizes or times. */
#ifndef RMK_COMMON_LEAST_H
#define RMK_COMMON_LEAST_H

#include <stdint.h>

static inline uint64_t rmk_least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t rmk_most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

#endif
