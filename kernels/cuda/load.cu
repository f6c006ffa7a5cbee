/* Weights from files: a ring of pinned parts that readers fill on other threads. One copy engine
 * keeps a bus busy, and nothing else runs meanwhile, so the copies go in the device's own stream:
 * what is enqueued afterwards finds its weights there, without an event. */
#include "kernels/cuda/cuda.h"

#include <stdlib.h>

static enum rmk_err make_ring(struct rmk_cuda *cuda)
{
    const size_t bytes = cuda->load_parts * cuda->load_part_bytes;

    RMK_PASS(rmk_cuda_enter(cuda));
    RMK_CUDA(cuda, cudaHostAlloc((void **)&cuda->load_host, bytes, cudaHostAllocDefault));
    RMK_CUDA(cuda, cudaMalloc((void **)&cuda->load_device, bytes));
    for (uint32_t part = 0; part < cuda->load_parts; part++) {
        RMK_CUDA(cuda, cudaEventCreateWithFlags(&cuda->load_free[part], cudaEventDisableTiming));
    }
    return RMK_OK;
}

enum rmk_err rmk_cuda_load_begin(struct rmk_device *device, uint32_t part_count, size_t part_bytes,
                                 struct rmk_why *why)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);

    rmk_assert(cuda->load_free == NULL);
    cuda->load_free = (cudaEvent_t *)calloc(part_count, sizeof(*cuda->load_free));
    if (cuda->load_free == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory to load weights with");
    }
    cuda->load_parts = part_count;
    cuda->load_part_bytes = part_bytes;
    enum rmk_err err = make_ring(cuda);
    if (err != RMK_OK) {
        rmk_cuda_load_end(device);
        return rmk_fail(why, err, "a ring of %u parts to load weights with: %s", part_count,
                        rmk_cuda_sentence(cuda, err));
    }
    return RMK_OK;
}

void rmk_cuda_load_end(struct rmk_device *device)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);

    if (cuda->load_free == NULL) {
        return;
    }
    (void)rmk_cuda_enter(cuda);
    (void)cudaStreamSynchronize(cuda->stream); /* copies may still read the ring */
    for (uint32_t part = 0; part < cuda->load_parts; part++) {
        if (cuda->load_free[part] != NULL) {
            (void)cudaEventDestroy(cuda->load_free[part]);
        }
    }
    (void)cudaFree(cuda->load_device);
    (void)cudaFreeHost(cuda->load_host);
    free(cuda->load_free);
    cuda->load_device = NULL;
    cuda->load_host = NULL;
    cuda->load_free = NULL;
    cuda->load_parts = 0;
}

enum rmk_err rmk_cuda_load_room(struct rmk_device *device, uint32_t part, void **out_host)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);

    rmk_assert(part < cuda->load_parts);
    RMK_PASS(rmk_cuda_enter(cuda));
    /* An event that was never recorded counts as done. */
    RMK_CUDA(cuda, cudaEventSynchronize(cuda->load_free[part]));
    *out_host = cuda->load_host + part * cuda->load_part_bytes;
    return RMK_OK;
}

enum rmk_err rmk_cuda_load_send(struct rmk_device *device, uint32_t part, size_t count,
                                enum rmk_dtype dtype, void *target, enum rmk_dtype target_dtype)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);
    const size_t offset = part * cuda->load_part_bytes;
    const size_t bytes = count * rmk_cuda_bytes(dtype);
    void *place = dtype == target_dtype ? target : cuda->load_device + offset;

    rmk_assert(part < cuda->load_parts);
    rmk_assert(bytes <= cuda->load_part_bytes);
    RMK_PASS(rmk_cuda_enter(cuda));
    if (bytes > 0) {
        RMK_CUDA(cuda, cudaMemcpyAsync(place, cuda->load_host + offset, bytes,
                                       cudaMemcpyHostToDevice, cuda->stream));
    }
    RMK_CUDA(cuda, cudaEventRecord(cuda->load_free[part], cuda->stream));
    return place == target ? RMK_OK
                           : rmk_cuda_convert(cuda, dtype, place, target_dtype, target, count);
}
