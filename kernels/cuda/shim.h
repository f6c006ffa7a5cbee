/* The same kernel sources for two compilers.
 *
 *     nvcc    libremask_cuda.so            the real thing
 *     g++     libremask_cuda_emulated.so   every thread of a block a fiber; for tests, see
 * emulate.h
 *
 * A kernel is launched with RMK_LAUNCH and names its dynamic shared memory with RMK_DYNAMIC_SHARED;
 * the rest is ordinary CUDA. Nothing is contracted to a fused multiply-add behind our back
 * (--fmad=false, -ffp-contract=off): where one is wanted it says fmaf, so both compilers round
 * alike.
 */
#ifndef RMK_KERNELS_CUDA_SHIM_H
#define RMK_KERNELS_CUDA_SHIM_H

#ifdef RMK_CUDA_EMULATED
#include "kernels/cuda/emulate.h"

#define RMK_LAUNCH(cuda, kernel, grid, block, shared_bytes, ...)                                   \
    (rmk_emulate_flush((cuda)->stream),                                                            \
     rmk_emulate_launch((grid), (block), (shared_bytes), [&]() { (kernel)(__VA_ARGS__); }),        \
     cudaGetLastError())
#define RMK_DYNAMIC_SHARED(name) unsigned char *name = rmk_emulate_shared()
#define RMK_UNROLL

#else
#include <cuda_runtime.h>

/* clang-format off */
#define RMK_LAUNCH(cuda, kernel, grid, block, shared_bytes, ...)                                   \
    ((kernel)<<<(grid), (block), (shared_bytes), (cuda)->stream>>>(__VA_ARGS__), cudaGetLastError())
/* clang-format on */
#define RMK_DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#define RMK_UNROLL               _Pragma("unroll")

#endif
#endif
