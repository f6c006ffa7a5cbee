/* CUDA's threads and the few runtime calls we use, on the CPU, for tests without a GPU.
 *
 * A block's threads are fibers of the launching thread, one launch at a time in the process. They
 * run in order until a barrier: a warp continues when all its lanes have come to a warp barrier,
 * the block when all its threads have come to __syncthreads. A barrier that some lanes never reach
 * ends the process with a sentence, as it would hang a GPU. Blocks run one after another, which any
 * correct kernel must survive. Dynamic shared memory is filled with NaN before every block. Warp
 * shuffles, ldmatrix and mma.sync follow the register layouts of the PTX manual, so that index
 * mistakes around them show here.
 *
 * A copy out of pinned memory is done as late as may be: when a launch, an event or a wait of its
 * stream needs it. Calls that allocate or wait are counted, for a test to read
 * (kernels/cuda/counts.h).
 *
 * What this cannot show: data races between threads that no barrier orders (they run in order
 * here), alignment faults, and anything of speed.
 */
#ifndef RMK_KERNELS_CUDA_EMULATE_H
#define RMK_KERNELS_CUDA_EMULATE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cuda/counts.h"

#define __global__ static
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __shared__ static
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

struct dim3 {
    unsigned x;
    unsigned y;
    unsigned z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};

/* Of the running thread. */
struct rmk_emulate_place {
    dim3 thread;
    dim3 block;
    dim3 block_size;
    dim3 grid_size;
};
extern rmk_emulate_place rmk_emulate_here;
#define threadIdx rmk_emulate_here.thread
#define blockIdx  rmk_emulate_here.block
#define blockDim  rmk_emulate_here.block_size
#define gridDim   rmk_emulate_here.grid_size

using rmk_emulate_body = void (*)(void *context);
void rmk_emulate_run(dim3 grid, dim3 block, size_t shared_bytes, rmk_emulate_body body,
                     void *context);

template <typename Body>
void rmk_emulate_launch(dim3 grid, dim3 block, size_t shared_bytes, Body body)
{
    rmk_emulate_run(
        grid, block, shared_bytes, [](void *context) { (*(Body *)context)(); }, &body);
}

unsigned char *rmk_emulate_shared(void);

/* -- barriers and exchanges
 * -------------------------------------------------------------------------- */

void __syncthreads(void);
void __syncwarp(void);

/* Every lane of the warp gives `bytes` (at most 64) and can then read every lane's, until its next
 * exchange but one. */
const unsigned char *rmk_emulate_exchange(const void *mine, size_t bytes);
enum { RMK_EMULATE_SLOT_BYTES = 64 };

static inline unsigned rmk_emulate_lane(void)
{
    return threadIdx.x % 32;
}

template <typename T> T __shfl_xor_sync(unsigned mask, T value, int lane_mask)
{
    T result;

    (void)mask;
    const unsigned char *slots = rmk_emulate_exchange(&value, sizeof(value));
    memcpy(&result, slots + (rmk_emulate_lane() ^ (unsigned)lane_mask) * RMK_EMULATE_SLOT_BYTES,
           sizeof(result));
    return result;
}

/* -- the runtime
 * ------------------------------------------------------------------------------------- */

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorMemoryAllocation = 2,
    cudaErrorNotReady = 600,
    cudaErrorLaunchFailure = 719,
};
enum cudaMemcpyKind {
    cudaMemcpyHostToDevice = 1,
    cudaMemcpyDeviceToHost = 2,
};
enum {
    cudaStreamNonBlocking = 1,
    cudaEventDisableTiming = 2,
    cudaHostAllocDefault = 0,
    cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
};
typedef struct rmk_emulate_stream *cudaStream_t;
typedef struct rmk_emulate_event *cudaEvent_t;
struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem;
    size_t sharedMemPerBlockOptin;
    int major;
    int minor;
    int multiProcessorCount;
};

cudaError_t cudaMalloc(void **out, size_t bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *memory);
cudaError_t cudaMemcpyAsync(void *target, const void *source, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *target, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes);
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device);
static inline cudaError_t cudaSetDevice(int)
{
    return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);

/* What a launch waits for: the stream's copies before it. */
void rmk_emulate_flush(cudaStream_t stream);
cudaError_t cudaGetLastError(void);
static inline const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaErrorMemoryAllocation ? "out of memory"
           : error == cudaErrorLaunchFailure  ? "unspecified launch failure"
                                              : "an error";
}
template <typename Kernel> cudaError_t cudaFuncSetAttribute(Kernel, int, int)
{
    return cudaSuccess;
}

#endif
