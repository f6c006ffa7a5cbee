#include "kernels/cuda/gemm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -- faults
 * ------------------------------------------------------------------------------------------ */

enum rmk_err rmk_cuda_enter(struct rmk_cuda *cuda)
{
    RMK_CUDA(cuda, cudaSetDevice(cuda->index));
    return RMK_OK;
}

/* Of `RMK_LAUNCH(cuda, (a_kernel<T>), …` the kernel, of another call its own name. */
static const char *name_of(const char *call, int *out_length)
{
    static const char launch[] = "RMK_LAUNCH(cuda, ";
    const char *name = call;

    if (strncmp(call, launch, sizeof(launch) - 1) == 0) {
        name += sizeof(launch) - 1;
        name += name[0] == '(';
    }
    *out_length = (int)strcspn(name, "(<, ");
    return name;
}

enum rmk_err rmk_cuda_failed(struct rmk_cuda *cuda, cudaError_t error, const char *what)
{
    const enum rmk_err err = error == cudaErrorMemoryAllocation ? RMK_ELIMIT : RMK_EINTERNAL;
    struct rmk_why *why = err == RMK_ELIMIT ? &cuda->refused : &cuda->failed;
    int length = 0;

    if (err == RMK_ELIMIT) {
        (void)cudaGetLastError(); /* or the next launch would be blamed for it */
        why->text[0] = '\0';
    }
    if (why->text[0] == '\0') {
        const char *name = name_of(what, &length);
        (void)rmk_fail(why, err, "GPU %d: %s (%.*s)", cuda->index, cudaGetErrorString(error),
                       length, name);
    }
    return err;
}

/* -- memory and order
 * -------------------------------------------------------------------------------- */

static enum rmk_err take(struct rmk_cuda *cuda, size_t bytes, void **out)
{
    void *memory = NULL;

    RMK_PASS(rmk_cuda_enter(cuda));
    RMK_CUDA(cuda, cudaMalloc(&memory, bytes));
    cudaError_t error = cudaMemsetAsync(memory, 0, bytes, cuda->stream);
    if (error != cudaSuccess) {
        (void)cudaFree(memory);
        return rmk_cuda_failed(cuda, error, "cudaMemsetAsync");
    }
    *out = memory;
    return RMK_OK;
}

static enum rmk_err alloc_memory(struct rmk_device *device, size_t bytes, void **out,
                                 struct rmk_why *why)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);
    enum rmk_err err = take(cuda, bytes > 0 ? bytes : 1, out);

    if (err == RMK_ELIMIT) {
        size_t free_bytes = 0;
        size_t total_bytes = 0;
        (void)cudaMemGetInfo(&free_bytes, &total_bytes);
        return rmk_fail(why, err, "GPU %d has no memory for %zu bytes: %zu of %zu are free",
                        cuda->index, bytes, free_bytes, total_bytes);
    }
    return err == RMK_OK ? err : rmk_fail(why, err, "%s", cuda->failed.text);
}

static void free_memory(struct rmk_device *device, void *memory)
{
    if (memory != NULL) {
        (void)rmk_cuda_enter(rmk_cuda_of(device));
        (void)cudaFree(memory);
    }
}

static enum rmk_err upload(struct rmk_device *device, void *target, const void *source_host,
                           size_t bytes)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);

    RMK_PASS(rmk_cuda_enter(cuda));
    for (size_t done = 0; done < bytes; done += RMK_STAGING_PART_BYTES) {
        const size_t left = bytes - done;
        const size_t piece = left < RMK_STAGING_PART_BYTES ? left : RMK_STAGING_PART_BYTES;
        void *host = NULL;
        void *unused = NULL;
        RMK_PASS(rmk_staging_take(cuda, piece, &host, &unused));
        memcpy(host, (const unsigned char *)source_host + done, piece);
        RMK_PASS(rmk_staging_send(cuda, host, (unsigned char *)target + done, piece));
    }
    return RMK_OK;
}

static enum rmk_err download(struct rmk_device *device, void *target_host, const void *source,
                             size_t bytes)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);

    RMK_PASS(rmk_cuda_enter(cuda));
    if (bytes > 0) {
        RMK_CUDA(cuda,
                 cudaMemcpyAsync(target_host, source, bytes, cudaMemcpyDeviceToHost, cuda->stream));
    }
    RMK_CUDA(cuda, cudaStreamSynchronize(cuda->stream));
    return RMK_OK;
}

static enum rmk_err wait_for_stream(struct rmk_cuda *cuda)
{
    RMK_PASS(rmk_cuda_enter(cuda));
    RMK_CUDA(cuda, cudaStreamSynchronize(cuda->stream));
    return RMK_OK;
}

static enum rmk_err synchronize(struct rmk_device *device, struct rmk_why *why)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);
    enum rmk_err err = wait_for_stream(cuda);

    if (err == RMK_OK && cuda->failed.text[0] != '\0') {
        err = RMK_EINTERNAL; /* a launch that was refused, say, does not show in the stream */
    }
    return err == RMK_OK ? err : rmk_fail(why, err, "%s", rmk_cuda_sentence(cuda, err));
}

static enum rmk_err reserve(struct rmk_device *device, const struct rmk_reserve *wanted,
                            struct rmk_why *why)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);

    cuda->reserve = {};
    if (wanted->head_width_max > cuda->head_width_max) {
        return rmk_fail(why, RMK_EUNSUPPORTED,
                        "backend cuda: heads of %u columns, at most %u are supported on GPU %d",
                        wanted->head_width_max, cuda->head_width_max, cuda->index);
    }
    enum rmk_err err = rmk_cuda_enter(cuda);
    if (err == RMK_OK) {
        err = rmk_cuda_head_reserve(cuda, wanted);
    }
    if (err != RMK_OK) {
        rmk_cuda_head_release(cuda);
        return rmk_fail(why, err, "scratch of the head: %s", rmk_cuda_sentence(cuda, err));
    }
    cuda->reserve = *wanted;
    return RMK_OK;
}

/* -- life
 * -------------------------------------------------------------------------------------------- */

static const struct rmk_ops ops = {
    .alloc = alloc_memory,
    .free = free_memory,
    .upload = upload,
    .download = download,
    .reserve = reserve,
    .synchronize = synchronize,
    .linear_create = rmk_cuda_linear_create,
    .linear_destroy = rmk_cuda_linear_destroy,
    .linear = rmk_cuda_linear,
    .embed = rmk_cuda_embed,
    .copy_rows = rmk_cuda_copy_rows,
    .add = rmk_cuda_add,
    .add_cyclic = rmk_cuda_add_cyclic,
    .cast = rmk_cuda_cast,
    .rmsnorm = rmk_cuda_rmsnorm,
    .layernorm = rmk_cuda_layernorm,
    .rope_kv = rmk_cuda_rope_kv,
    .attention = rmk_cuda_attention,
    .swiglu = rmk_cuda_swiglu,
    .gelu = rmk_cuda_gelu,
    .patches = rmk_cuda_patches,
    .bilinear = rmk_cuda_bilinear,
    .pool2x2 = rmk_cuda_pool2x2,
    .head = rmk_cuda_head,
    .dummy = rmk_cuda_dummy,
    .load_begin = rmk_cuda_load_begin,
    .load_end = rmk_cuda_load_end,
    .load_room = rmk_cuda_load_room,
    .load_send = rmk_cuda_load_send,
    .linear_weight = rmk_cuda_linear_weight,
};

static void destroy(struct rmk_device *device)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);

    (void)wait_for_stream(cuda);
    rmk_cuda_head_release(cuda);
    rmk_gemm_destroy(cuda->gemm);
    rmk_staging_deinit(cuda);
    rmk_cuda_load_end(device);
    if (cuda->stream != NULL) {
        (void)cudaStreamDestroy(cuda->stream);
    }
    (void)cudaGetLastError(); /* what was refused here is not the next device's */
    free(cuda);
}

static enum rmk_err find_gpu(const struct rmk_device_options *options, cudaDeviceProp *properties,
                             struct rmk_why *why)
{
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);

    if (error != cudaSuccess || count == 0) {
        return rmk_fail(why, RMK_EUNAVAILABLE, "backend cuda: no NVIDIA driver or no GPU here (%s)",
                        error != cudaSuccess ? cudaGetErrorString(error) : "0 devices");
    }
    if (options->device_index >= (uint32_t)count) {
        return rmk_fail(why, RMK_EUNAVAILABLE, "backend cuda: there is no GPU %u, only %d",
                        options->device_index, count);
    }
    error = cudaGetDeviceProperties(properties, (int)options->device_index);
    if (error != cudaSuccess) {
        return rmk_fail(why, RMK_EUNAVAILABLE, "backend cuda: GPU %u: %s", options->device_index,
                        cudaGetErrorString(error));
    }
    if (properties->major < 8) {
        return rmk_fail(why, RMK_EUNAVAILABLE,
                        "backend cuda: GPU %u (%s) has compute capability %d.%d, 8.0 is the least",
                        options->device_index, properties->name, properties->major,
                        properties->minor);
    }
    return RMK_OK;
}

static enum rmk_err begin(struct rmk_cuda *cuda, const cudaDeviceProp *properties)
{
    size_t free_bytes = 0;
    size_t total_bytes = 0;

    RMK_PASS(rmk_cuda_enter(cuda));
    RMK_CUDA(cuda, cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking));
    RMK_CUDA(cuda, cudaMemGetInfo(&free_bytes, &total_bytes));
    cuda->device.info.memory_bytes = total_bytes;
    cuda->device.info.memory_free_bytes = free_bytes;
    cuda->device.info.stream = cuda->stream;
    return rmk_cuda_attention_prepare(cuda, properties->sharedMemPerBlockOptin);
}

static enum rmk_err create(const struct rmk_device_options *options, struct rmk_device **out_device,
                           struct rmk_why *why)
{
    cudaDeviceProp properties;

    if (options->act != RMK_F32 && options->act != RMK_F16 && options->act != RMK_BF16) {
        return rmk_fail(why, RMK_EINVAL, "backend cuda computes in f32, bf16 or f16");
    }
    RMK_PASS(find_gpu(options, &properties, why));
    struct rmk_cuda *cuda = (struct rmk_cuda *)calloc(1, sizeof(*cuda));
    if (cuda == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for a device");
    }
    cuda->index = (int)options->device_index;
    cuda->device.ops = &ops;
    cuda->device.info.backend = "cuda";
    cuda->device.info.act = options->act;
    cuda->device.info.fault = cuda->failed.text;
    cuda->by_rows = options->by_rows && options->act != RMK_F32;
    (void)snprintf(cuda->device.info.description, sizeof(cuda->device.info.description),
                   "cuda %.80s, sm_%d%d%s", properties.name, properties.major, properties.minor,
                   cuda->by_rows ? ", by rows" : "");
    enum rmk_err err = begin(cuda, &properties);
    if (err != RMK_OK) {
        (void)rmk_fail(why, err, "backend cuda: %s", rmk_cuda_sentence(cuda, err));
    }
    if (err == RMK_OK) {
        err = rmk_staging_init(cuda, why);
    }
    if (err == RMK_OK) {
        err = rmk_gemm_create(cuda, &cuda->gemm, why);
    }
    if (err != RMK_OK) {
        destroy(&cuda->device);
        return err;
    }
    *out_device = &cuda->device;
    return RMK_OK;
}

/* -- the door
 * ---------------------------------------------------------------------------------------- */

extern "C" __attribute__((visibility("default"))) const struct rmk_plugin rmk_cuda_plugin = {
    .abi = RMK_PLUGIN_ABI,
    .version = RMK_VERSION,
    .ops = &ops,
    .backend = {.name = "cuda", .create = create, .destroy = destroy},
};
