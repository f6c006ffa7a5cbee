/* kernels/noise.h and common/prng.c for a GPU's threads; the head's test holds them together. */
#ifndef RMK_KERNELS_CUDA_NOISE_H
#define RMK_KERNELS_CUDA_NOISE_H

#include "kernels/cuda/cuda.h"

/* The first two words of the Philox4x32-10 block, the first word lowest. */
static __device__ inline uint64_t rmk_cuda_philox(uint64_t key, uint32_t c0, uint32_t c1,
                                                  uint32_t c2, uint32_t c3)
{
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
    return (uint64_t)c1 << 32 | c0;
}

static __device__ inline uint64_t rmk_cuda_splitmix(uint64_t seed, uint64_t index)
{
    uint64_t z = seed + (index + 1) * 0x9E3779B97F4A7C15U;

    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
}

/* The row's value of vocabulary id `id`: with its noise, when it has any. */
static __device__ inline double rmk_cuda_noisy(const struct rmk_head_row &row, uint32_t vocab_all,
                                               uint32_t id, double logit)
{
    uint64_t bits;

    if (row.noise == RMK_NOISE_NONE || row.temperature == 0.0) {
        return logit;
    }
    if (row.noise == RMK_NOISE_PHILOX) {
        bits = rmk_cuda_philox(row.seed, id, row.position, (uint32_t)row.forward,
                               (uint32_t)(row.forward >> 32));
    } else {
        uint64_t index = (row.forward * row.total_rows + row.position) * vocab_all + id;
        bits = rmk_cuda_splitmix(row.seed, index);
    }
    const double u = (double)(bits >> 11) * 0x1p-53;
    return logit - row.temperature * log(-log(u));
}

#endif
