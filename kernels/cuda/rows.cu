/* Ops on rows and elements: norms, moves, activations. */
#include "kernels/cuda/number.h"
#include "kernels/cuda/reduce.h"

/* -- moves
 * ------------------------------------------------------------------------------------------- */

template <typename T>
__global__ void __launch_bounds__(RMK_CUDA_BLOCK)
    embed_kernel(const T *table, uint32_t row_begin, uint32_t row_count, uint32_t d,
                 const int32_t *ids, float *y)
{
    int64_t row = (int64_t)ids[blockIdx.x] - row_begin;
    bool mine = row >= 0 && row < row_count;
    float *target = y + (size_t)blockIdx.x * d;

    for (uint32_t i = threadIdx.x; i < d; i += RMK_CUDA_BLOCK) {
        target[i] = mine ? rmk_widen(table[(size_t)row * d + i]) : 0.0F;
    }
}

template <typename T>
static enum rmk_err launch_embed(struct rmk_cuda *cuda, const void *table, uint32_t row_begin,
                                 uint32_t row_count, uint32_t d, const void *ids, uint32_t count,
                                 float *y)
{
    RMK_CUDA(cuda, RMK_LAUNCH(cuda, embed_kernel<T>, dim3(count), dim3(RMK_CUDA_BLOCK), 0,
                              (const T *)table, row_begin, row_count, d, (const int32_t *)ids, y));
    return RMK_OK;
}

enum rmk_err rmk_cuda_embed(struct rmk_device *device, const void *table, enum rmk_dtype dtype,
                            uint32_t row_begin, uint32_t row_count, uint32_t d,
                            const int32_t *ids_host, uint32_t count, float *y)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);
    const void *ids = NULL;

    if (count == 0) {
        return RMK_OK;
    }
    RMK_PASS(rmk_cuda_enter(cuda));
    RMK_PASS(rmk_staging_list(cuda, ids_host, count * sizeof(*ids_host), &ids));
    return RMK_FOR_DTYPE(dtype, launch_embed)(cuda, table, row_begin, row_count, d, ids, count, y);
}

__global__ void __launch_bounds__(RMK_CUDA_BLOCK)
    copy_rows_kernel(const float *x, const uint32_t *x_rows, float *y, const uint32_t *y_rows,
                     uint32_t d)
{
    size_t from = x_rows != NULL ? x_rows[blockIdx.x] : blockIdx.x;
    size_t to = y_rows != NULL ? y_rows[blockIdx.x] : blockIdx.x;

    for (uint32_t i = threadIdx.x; i < d; i += RMK_CUDA_BLOCK) {
        y[to * d + i] = x[from * d + i];
    }
}

enum rmk_err rmk_cuda_copy_rows(struct rmk_device *device, const float *x,
                                const uint32_t *x_rows_host, float *y, const uint32_t *y_rows_host,
                                uint32_t count, uint32_t d)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);
    const void *x_rows = NULL;
    const void *y_rows = NULL;

    if (count == 0) {
        return RMK_OK;
    }
    RMK_PASS(rmk_cuda_enter(cuda));
    if (x_rows_host != NULL) {
        RMK_PASS(rmk_staging_list(cuda, x_rows_host, count * sizeof(*x_rows_host), &x_rows));
    }
    if (y_rows_host != NULL) {
        RMK_PASS(rmk_staging_list(cuda, y_rows_host, count * sizeof(*y_rows_host), &y_rows));
    }
    RMK_CUDA(cuda, RMK_LAUNCH(cuda, copy_rows_kernel, dim3(count), dim3(RMK_CUDA_BLOCK), 0, x,
                              (const uint32_t *)x_rows, y, (const uint32_t *)y_rows, d));
    return RMK_OK;
}

/* -- elements
 * ---------------------------------------------------------------------------------------- */

__global__ void __launch_bounds__(RMK_CUDA_BLOCK) add_kernel(float *x, const float *y, size_t count)
{
    size_t i = (size_t)blockIdx.x * RMK_CUDA_BLOCK + threadIdx.x;

    if (i < count) {
        x[i] += y[i];
    }
}

enum rmk_err rmk_cuda_add(struct rmk_device *device, float *x, const float *y, size_t count)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);

    if (count == 0) {
        return RMK_OK;
    }
    RMK_PASS(rmk_cuda_enter(cuda));
    RMK_CUDA(cuda, RMK_LAUNCH(cuda, add_kernel, dim3(rmk_cuda_blocks(count, RMK_CUDA_BLOCK)),
                              dim3(RMK_CUDA_BLOCK), 0, x, y, count));
    return RMK_OK;
}

__global__ void __launch_bounds__(RMK_CUDA_BLOCK)
    add_cyclic_kernel(float *x, const float *rows, uint32_t row_count, uint32_t d)
{
    float *target = x + (size_t)blockIdx.x * d;
    const float *source = rows + (size_t)(blockIdx.x % row_count) * d;

    for (uint32_t i = threadIdx.x; i < d; i += RMK_CUDA_BLOCK) {
        target[i] += source[i];
    }
}

enum rmk_err rmk_cuda_add_cyclic(struct rmk_device *device, float *x, const float *rows,
                                 uint32_t count, uint32_t row_count, uint32_t d)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);

    if (count == 0) {
        return RMK_OK;
    }
    rmk_assert(row_count > 0);
    RMK_PASS(rmk_cuda_enter(cuda));
    RMK_CUDA(cuda, RMK_LAUNCH(cuda, add_cyclic_kernel, dim3(count), dim3(RMK_CUDA_BLOCK), 0, x,
                              rows, row_count, d));
    return RMK_OK;
}

template <typename T>
__global__ void __launch_bounds__(RMK_CUDA_BLOCK) cast_kernel(const float *x, T *y, size_t count)
{
    size_t i = (size_t)blockIdx.x * RMK_CUDA_BLOCK + threadIdx.x;

    if (i < count) {
        y[i] = rmk_narrow<T>(x[i]);
    }
}

template <typename T>
static enum rmk_err launch_cast(struct rmk_cuda *cuda, const float *x, void *y, size_t count)
{
    RMK_CUDA(cuda, RMK_LAUNCH(cuda, cast_kernel<T>, dim3(rmk_cuda_blocks(count, RMK_CUDA_BLOCK)),
                              dim3(RMK_CUDA_BLOCK), 0, x, (T *)y, count));
    return RMK_OK;
}

enum rmk_err rmk_cuda_cast(struct rmk_device *device, const float *x, void *y, size_t count)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);

    if (count == 0) {
        return RMK_OK;
    }
    RMK_PASS(rmk_cuda_enter(cuda));
    return RMK_FOR_DTYPE(device->info.act, launch_cast)(cuda, x, y, count);
}

/* -- norms: one block a row
 * -------------------------------------------------------------------------- */

/* x += delta, and the sum of `term` over the row. A thread reads again only what it wrote. */
static __device__ __forceinline__ float take_row(float *x, const float *delta, uint32_t i)
{
    float value = x[i];

    if (delta != NULL) {
        value += delta[i];
        x[i] = value;
    }
    return value;
}

template <typename T>
__global__ void __launch_bounds__(RMK_CUDA_BLOCK)
    rmsnorm_kernel(float *x, const float *delta, const float *w, float eps, T *y, uint32_t d)
{
    const size_t begin = (size_t)blockIdx.x * d;
    float *row = x + begin;
    float squares = 0.0F;

    for (uint32_t i = threadIdx.x; i < d; i += RMK_CUDA_BLOCK) {
        float value = take_row(row, delta != NULL ? delta + begin : NULL, i);
        squares = fmaf(value, value, squares);
    }
    float scale = 1.0F / sqrtf(rmk_block_sum(squares) / (float)d + eps);
    for (uint32_t i = threadIdx.x; i < d; i += RMK_CUDA_BLOCK) {
        y[begin + i] = rmk_narrow<T>(w[i] * rmk_widen(rmk_narrow<T>(row[i] * scale)));
    }
}

template <typename T>
static enum rmk_err launch_rmsnorm(struct rmk_cuda *cuda, float *x, const float *delta,
                                   const float *w, float eps, void *y, uint32_t rows, uint32_t d)
{
    RMK_CUDA(cuda, RMK_LAUNCH(cuda, rmsnorm_kernel<T>, dim3(rows), dim3(RMK_CUDA_BLOCK), 0, x,
                              delta, w, eps, (T *)y, d));
    return RMK_OK;
}

enum rmk_err rmk_cuda_rmsnorm(struct rmk_device *device, float *x, const float *delta,
                              const float *w, float eps, void *y, uint32_t rows, uint32_t d)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);

    if (rows == 0) {
        return RMK_OK;
    }
    RMK_PASS(rmk_cuda_enter(cuda));
    return RMK_FOR_DTYPE(device->info.act, launch_rmsnorm)(cuda, x, delta, w, eps, y, rows, d);
}

template <typename T>
__global__ void __launch_bounds__(RMK_CUDA_BLOCK)
    layernorm_kernel(float *x, const float *delta, const float *w, const float *b, float eps, T *y,
                     uint32_t d)
{
    const size_t begin = (size_t)blockIdx.x * d;
    float *row = x + begin;
    float sum = 0.0F;
    float squares = 0.0F;

    for (uint32_t i = threadIdx.x; i < d; i += RMK_CUDA_BLOCK) {
        sum += take_row(row, delta != NULL ? delta + begin : NULL, i);
    }
    float mean = rmk_block_sum(sum) / (float)d;
    for (uint32_t i = threadIdx.x; i < d; i += RMK_CUDA_BLOCK) {
        float distance = row[i] - mean;
        squares = fmaf(distance, distance, squares);
    }
    float scale = 1.0F / sqrtf(rmk_block_sum(squares) / (float)d + eps);
    for (uint32_t i = threadIdx.x; i < d; i += RMK_CUDA_BLOCK) {
        y[begin + i] = rmk_narrow<T>(fmaf((row[i] - mean) * scale, w[i], b[i]));
    }
}

template <typename T>
static enum rmk_err launch_layernorm(struct rmk_cuda *cuda, float *x, const float *delta,
                                     const float *w, const float *b, float eps, void *y,
                                     uint32_t rows, uint32_t d)
{
    RMK_CUDA(cuda, RMK_LAUNCH(cuda, layernorm_kernel<T>, dim3(rows), dim3(RMK_CUDA_BLOCK), 0, x,
                              delta, w, b, eps, (T *)y, d));
    return RMK_OK;
}

enum rmk_err rmk_cuda_layernorm(struct rmk_device *device, float *x, const float *delta,
                                const float *w, const float *b, float eps, void *y, uint32_t rows,
                                uint32_t d)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);

    if (rows == 0) {
        return RMK_OK;
    }
    RMK_PASS(rmk_cuda_enter(cuda));
    return RMK_FOR_DTYPE(device->info.act, launch_layernorm)(cuda, x, delta, w, b, eps, y, rows, d);
}

/* -- activations
 * ------------------------------------------------------------------------------------- */

constexpr uint32_t SWIGLU_CHUNK = 4 * RMK_CUDA_BLOCK; /* columns of a row that a block has */

/* Blocks are told apart by one division each: a division of 64 bits for every element costs more
 * than the element. */
template <typename T>
__global__ void __launch_bounds__(RMK_CUDA_BLOCK)
    swiglu_kernel(const T *gate_up, T *y, uint32_t f, uint32_t chunks)
{
    const size_t row = blockIdx.x / chunks;
    const uint32_t begin = blockIdx.x % chunks * SWIGLU_CHUNK;
    const uint32_t end = f - begin < SWIGLU_CHUNK ? f : begin + SWIGLU_CHUNK;
    const T *gates = gate_up + row * 2 * f;
    const T *ups = gates + f;

    for (uint32_t i = begin + threadIdx.x; i < end; i += RMK_CUDA_BLOCK) {
        const float gate = rmk_widen(gates[i]);
        y[row * f + i] = rmk_narrow<T>(gate / (1.0F + expf(-gate)) * rmk_widen(ups[i]));
    }
}

template <typename T>
static enum rmk_err launch_swiglu(struct rmk_cuda *cuda, const void *gate_up, void *y,
                                  uint32_t rows, uint32_t f)
{
    const uint32_t chunks = rmk_cuda_blocks(f, SWIGLU_CHUNK);

    RMK_CUDA(cuda, RMK_LAUNCH(cuda, swiglu_kernel<T>, dim3(rows * chunks), dim3(RMK_CUDA_BLOCK), 0,
                              (const T *)gate_up, (T *)y, f, chunks));
    return RMK_OK;
}

enum rmk_err rmk_cuda_swiglu(struct rmk_device *device, const void *gate_up, void *y, uint32_t rows,
                             uint32_t f)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);

    if (rows == 0 || f == 0) {
        return RMK_OK;
    }
    RMK_PASS(rmk_cuda_enter(cuda));
    return RMK_FOR_DTYPE(device->info.act, launch_swiglu)(cuda, gate_up, y, rows, f);
}

static __device__ __forceinline__ float gelu_tanh(float x)
{
    const float root = 0.7978845608028654F; /* sqrt(2 / pi) */

    return 0.5F * x * (1.0F + tanhf(root * fmaf(0.044715F * x * x, x, x)));
}

static __device__ __forceinline__ float gelu_erf(float x)
{
    return 0.5F * x * erfcf(-x * 0.7071067811865476F);
}

template <typename T>
__global__ void __launch_bounds__(RMK_CUDA_BLOCK) gelu_kernel(T *x, size_t count, bool exact)
{
    size_t i = (size_t)blockIdx.x * RMK_CUDA_BLOCK + threadIdx.x;

    if (i < count) {
        float value = rmk_widen(x[i]);
        x[i] = rmk_narrow<T>(exact ? gelu_erf(value) : gelu_tanh(value));
    }
}

template <typename T>
static enum rmk_err launch_gelu(struct rmk_cuda *cuda, void *x, size_t count, bool exact)
{
    RMK_CUDA(cuda, RMK_LAUNCH(cuda, gelu_kernel<T>, dim3(rmk_cuda_blocks(count, RMK_CUDA_BLOCK)),
                              dim3(RMK_CUDA_BLOCK), 0, (T *)x, count, exact));
    return RMK_OK;
}

enum rmk_err rmk_cuda_gelu(struct rmk_device *device, void *x, size_t count, enum rmk_gelu kind)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);

    if (count == 0) {
        return RMK_OK;
    }
    RMK_PASS(rmk_cuda_enter(cuda));
    return RMK_FOR_DTYPE(device->info.act, launch_gelu)(cuda, x, count, kind == RMK_GELU_ERF);
}
