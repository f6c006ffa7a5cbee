/* Counter-based random numbers: the n-th number is a function of the key and n alone, so a
 * request's noise is the same whatever rides in its batch, on whichever rank, in whatever order.
 *
 * Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) is ours. The
 * splitmix stream is the one the golden data was recorded with.
 */
#ifndef RMK_COMMON_PRNG_H
#define RMK_COMMON_PRNG_H

#include <stdint.h>

struct rmk_philox {
    uint32_t word[4];
};

/* The block of 128 random bits at `counter` under `key`; both little-endian in words. */
struct rmk_philox rmk_prng_philox(uint64_t key, const uint32_t counter[4]);

/* splitmix64's finaliser. */
static inline uint64_t rmk_prng_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
}

/* Number `index` (from 0) of the splitmix64 sequence that starts at `seed`. */
static inline uint64_t rmk_prng_splitmix(uint64_t seed, uint64_t index)
{
    return rmk_prng_mix(seed + (index + 1) * 0x9E3779B97F4A7C15U);
}

/* Uniform in [0, 1) from the high 53 bits, and from the high 24 bits. Zero is possible, one is not.
 */
static inline double rmk_prng_unit53(uint64_t bits)
{
    return (double)(bits >> 11) * 0x1p-53;
}

static inline float rmk_prng_unit24(uint64_t bits)
{
    return (float)(bits >> 40) * 0x1p-24F;
}

#endif
