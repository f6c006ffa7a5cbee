/* Sums over the threads of a block, always in the same order: a butterfly in every warp, then the
 * warps' results by every thread from the first up. All threads get the result. */
#ifndef RMK_KERNELS_CUDA_REDUCE_H
#define RMK_KERNELS_CUDA_REDUCE_H

#include "kernels/cuda/cuda.h"

template <typename T> static __device__ __forceinline__ T rmk_block_sum(T value)
{
    __shared__ T warps[RMK_CUDA_BLOCK / 32];
    T total = 0;

    for (int mask = 16; mask > 0; mask /= 2) {
        value += __shfl_xor_sync(0xffffffffU, value, mask);
    }
    __syncthreads(); /* the last call's results have been read */
    if (threadIdx.x % 32 == 0) {
        warps[threadIdx.x / 32] = value;
    }
    __syncthreads();
    for (uint32_t warp = 0; warp < RMK_CUDA_BLOCK / 32; warp++) {
        total += warps[warp];
    }
    return total;
}

#endif
