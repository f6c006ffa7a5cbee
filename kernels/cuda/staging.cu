/* A ring of pinned memory with a twin on the GPU. It is cut in parts; a part is written again only
 * after the copies out of it are done, which an event tells. The device side needs no such care: a
 * new copy into it runs after the kernels that read the old one. */
#include "kernels/cuda/cuda.h"

#include <string.h>

constexpr uint32_t ALIGNMENT = 64;

enum rmk_err rmk_staging_init(struct rmk_cuda *cuda, struct rmk_why *why)
{
    const size_t bytes = (size_t)RMK_STAGING_PARTS * RMK_STAGING_PART_BYTES;
    cudaError_t error = cudaHostAlloc((void **)&cuda->staging_host, bytes, cudaHostAllocDefault);

    if (error == cudaSuccess) {
        error = cudaMalloc((void **)&cuda->staging_device, bytes);
    }
    for (uint32_t part = 0; part < RMK_STAGING_PARTS && error == cudaSuccess; part++) {
        error = cudaEventCreateWithFlags(&cuda->staging_free[part], cudaEventDisableTiming);
    }
    if (error != cudaSuccess) {
        return rmk_fail(why, RMK_ELIMIT, "backend cuda: no staging memory on GPU %d: %s",
                        cuda->index, cudaGetErrorString(error));
    }
    return RMK_OK;
}

void rmk_staging_deinit(struct rmk_cuda *cuda)
{
    for (uint32_t part = 0; part < RMK_STAGING_PARTS; part++) {
        if (cuda->staging_free[part] != NULL) {
            (void)cudaEventDestroy(cuda->staging_free[part]);
        }
    }
    if (cuda->staging_device != NULL) {
        (void)cudaFree(cuda->staging_device);
    }
    if (cuda->staging_host != NULL) {
        (void)cudaFreeHost(cuda->staging_host);
    }
}

enum rmk_err rmk_staging_take(struct rmk_cuda *cuda, size_t bytes, void **out_host,
                              void **out_device)
{
    rmk_assert(bytes <= RMK_STAGING_PART_BYTES);
    if (cuda->staging_used + bytes > RMK_STAGING_PART_BYTES) {
        RMK_CUDA(cuda, cudaEventRecord(cuda->staging_free[cuda->staging_part], cuda->stream));
        cuda->staging_part = (cuda->staging_part + 1) % RMK_STAGING_PARTS;
        cuda->staging_used = 0;
        /* An event that was never recorded counts as done. */
        RMK_CUDA(cuda, cudaEventSynchronize(cuda->staging_free[cuda->staging_part]));
    }
    size_t offset = (size_t)cuda->staging_part * RMK_STAGING_PART_BYTES + cuda->staging_used;
    *out_host = cuda->staging_host + offset;
    *out_device = cuda->staging_device + offset;
    cuda->staging_used += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return RMK_OK;
}

enum rmk_err rmk_staging_send(struct rmk_cuda *cuda, const void *host, void *target, size_t bytes)
{
    if (bytes > 0) {
        RMK_CUDA(cuda, cudaMemcpyAsync(target, host, bytes, cudaMemcpyHostToDevice, cuda->stream));
    }
    return RMK_OK;
}

enum rmk_err rmk_staging_list(struct rmk_cuda *cuda, const void *list_host, size_t bytes,
                              const void **out_device)
{
    void *host = NULL;
    void *device = NULL;

    RMK_PASS(rmk_staging_take(cuda, bytes, &host, &device));
    if (bytes > 0) {
        memcpy(host, list_host, bytes);
    }
    RMK_PASS(rmk_staging_send(cuda, host, device, bytes));
    *out_device = device;
    return RMK_OK;
}
