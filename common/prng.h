/* Counter-based random numbers: the n-th number is a function of the key and n alone, so a
 * request's noise is the same whatever rides in its batch, on whichever rank, in whatever order.
 *
 * Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) is ours. The
 * splitmix stream is the one the golden data was recorded with. Threads of a GPU call the same
 * code.
 */
#ifndef RMK_COMMON_PRNG_H
#define RMK_COMMON_PRNG_H

#include <stdint.h>

#ifdef __CUDACC__
#define RMK_INLINE static inline __host__ __device__
#else
#define RMK_INLINE static inline
#endif

struct rmk_philox {
    uint32_t word[4];
};

/* The block of 128 random bits at `counter` under `key`; both little-endian in words. */
RMK_INLINE struct rmk_philox rmk_prng_philox(uint64_t key, const uint32_t counter[4])
{
    struct rmk_philox block;
    uint32_t c0 = counter[0];
    uint32_t c1 = counter[1];
    uint32_t c2 = counter[2];
    uint32_t c3 = counter[3];
    uint32_t k0 = (uint32_t)key;
    uint32_t k1 = (uint32_t)(key >> 32);

    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)c0 * 0xD2511F53U;
        uint64_t b = (uint64_t)c2 * 0xCD9E8D57U;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9U;
        k1 += 0xBB67AE85U;
    }
    block.word[0] = c0;
    block.word[1] = c1;
    block.word[2] = c2;
    block.word[3] = c3;
    return block;
}

/* splitmix64's finaliser. */
RMK_INLINE uint64_t rmk_prng_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
}

/* Number `index` (from 0) of the splitmix64 sequence that starts at `seed`. */
RMK_INLINE uint64_t rmk_prng_splitmix(uint64_t seed, uint64_t index)
{
    return rmk_prng_mix(seed + (index + 1) * 0x9E3779B97F4A7C15U);
}

/* Uniform in [0, 1) from the high 53 bits, and from the high 24 bits. Zero is possible, one is not.
 */
RMK_INLINE double rmk_prng_unit53(uint64_t bits)
{
    return (double)(bits >> 11) * 0x1p-53;
}

RMK_INLINE float rmk_prng_unit24(uint64_t bits)
{
    return (float)(bits >> 40) * 0x1p-24F;
}

#endif
