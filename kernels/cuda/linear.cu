#include "kernels/cuda/gemm.h"
#include "kernels/cuda/number.h"
#include "kernels/cuda/row_class.h"
#include "model/dummy.h"

#include <stdlib.h>
#include <string.h>

template <typename From, typename To>
__global__ void __launch_bounds__(RMK_CUDA_BLOCK)
    convert_kernel(const From *from, To *to, size_t count)
{
    size_t i = (size_t)blockIdx.x * RMK_CUDA_BLOCK + threadIdx.x;

    if (i < count) {
        to[i] = rmk_narrow<To>(rmk_widen(from[i]));
    }
}

template <typename From, typename To>
static enum rmk_err launch_convert(struct rmk_cuda *cuda, const void *from, void *to, size_t count)
{
    RMK_CUDA(cuda, RMK_LAUNCH(cuda, (convert_kernel<From, To>),
                              dim3(rmk_cuda_blocks(count, RMK_CUDA_BLOCK)), dim3(RMK_CUDA_BLOCK), 0,
                              (const From *)from, (To *)to, count));
    return RMK_OK;
}

template <typename From>
static enum rmk_err convert_from(struct rmk_cuda *cuda, enum rmk_dtype to_dtype, const void *from,
                                 void *to, size_t count)
{
    switch (to_dtype) {
    case RMK_F32:
        return launch_convert<From, float>(cuda, from, to, count);
    case RMK_F16:
        return launch_convert<From, rmk_f16>(cuda, from, to, count);
    default:
        return launch_convert<From, rmk_bf16>(cuda, from, to, count);
    }
}

enum rmk_err rmk_cuda_convert(struct rmk_cuda *cuda, enum rmk_dtype from_dtype, const void *from,
                              enum rmk_dtype to_dtype, void *to, size_t count)
{
    if (count == 0) {
        return RMK_OK;
    }
    switch (from_dtype) {
    case RMK_F32:
        return convert_from<float>(cuda, to_dtype, from, to, count);
    case RMK_F16:
        return convert_from<rmk_f16>(cuda, to_dtype, from, to, count);
    default:
        return convert_from<rmk_bf16>(cuda, to_dtype, from, to, count);
    }
}

/* Host array to compute type on the device, through the staging ring; rows of k out of rows of
 * ld. A row longer than a part goes in pieces. */
static enum rmk_err upload_rows(struct rmk_cuda *cuda, const void *source_host,
                                enum rmk_dtype dtype, size_t n, size_t k, size_t ld, void *target)
{
    const enum rmk_dtype act = cuda->device.info.act;
    const size_t element = rmk_cuda_bytes(dtype);
    const size_t piece_max = RMK_STAGING_PART_BYTES / element;
    const size_t rows_at_once = k < piece_max ? piece_max / (k > 0 ? k : 1) : 1;

    for (size_t row = 0; row < n && k > 0; row += rows_at_once) {
        size_t rows = n - row < rows_at_once ? n - row : rows_at_once;
        for (size_t column = 0; column < k; column += piece_max) {
            size_t width = k - column < piece_max ? k - column : piece_max;
            void *host = NULL;
            void *device = NULL;
            RMK_PASS(rmk_staging_take(cuda, rows * width * element, &host, &device));
            for (size_t i = 0; i < rows; i++) {
                memcpy((unsigned char *)host + i * width * element,
                       (const unsigned char *)source_host + ((row + i) * ld + column) * element,
                       width * element);
            }
            unsigned char *place =
                (unsigned char *)target + (row * k + column) * rmk_cuda_bytes(act);
            if (dtype == act) {
                RMK_PASS(rmk_staging_send(cuda, host, place, rows * width * element));
                continue;
            }
            RMK_PASS(rmk_staging_send(cuda, host, device, rows * width * element));
            RMK_PASS(rmk_cuda_convert(cuda, dtype, device, act, place, rows * width));
        }
    }
    return RMK_OK;
}

static enum rmk_err fill(struct rmk_cuda *cuda, const struct rmk_linear_source *source,
                         struct rmk_linear *linear)
{
    const size_t act = rmk_cuda_bytes(cuda->device.info.act);

    RMK_PASS(rmk_cuda_enter(cuda));
    RMK_CUDA(cuda, cudaMalloc(&linear->weight, (size_t)source->n * source->k * act + 1));
    if (source->weight_device != NULL) {
        rmk_assert(source->dtype == RMK_BF16 && source->ld == source->k);
        RMK_PASS(rmk_cuda_convert(cuda, RMK_BF16, source->weight_device, cuda->device.info.act,
                                  linear->weight, (size_t)source->n * source->k));
    } else if (source->weight_host != NULL) {
        RMK_PASS(upload_rows(cuda, source->weight_host, source->dtype, source->n, source->k,
                             source->ld, linear->weight));
    }
    if (source->bias_host == NULL) {
        return RMK_OK;
    }
    RMK_CUDA(cuda, cudaMalloc((void **)&linear->bias, (size_t)source->n * sizeof(float) + 1));
    RMK_CUDA(cuda, cudaMalloc(&linear->bias_act, (size_t)source->n * act + 1));
    RMK_PASS(cuda->device.ops->upload(&cuda->device, linear->bias, source->bias_host,
                                      (size_t)source->n * sizeof(float)));
    return upload_rows(cuda, source->bias_host, RMK_F32, 1, source->n, source->n, linear->bias_act);
}

__global__ void __launch_bounds__(RMK_CUDA_BLOCK)
    dummy_kernel(uint64_t seed, uint64_t first, uint64_t stride, uint32_t columns, uint16_t *y,
                 size_t count)
{
    size_t i = (size_t)blockIdx.x * RMK_CUDA_BLOCK + threadIdx.x;

    if (i < count) {
        y[i] = rmk_dummy_bits(seed, first + i / columns * stride + i % columns);
    }
}

enum rmk_err rmk_cuda_dummy(struct rmk_device *device, uint64_t seed, uint64_t first,
                            uint64_t stride, uint32_t rows, uint32_t columns, uint16_t *y)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);
    const size_t count = (size_t)rows * columns;

    if (count == 0) {
        return RMK_OK;
    }
    RMK_PASS(rmk_cuda_enter(cuda));
    RMK_CUDA(cuda, RMK_LAUNCH(cuda, dummy_kernel, dim3(rmk_cuda_blocks(count, RMK_CUDA_BLOCK)),
                              dim3(RMK_CUDA_BLOCK), 0, seed, first, stride, columns, y, count));
    return RMK_OK;
}

static struct rmk_product product_of(const struct rmk_linear *linear, uint32_t m,
                                     enum rmk_dtype y_dtype)
{
    return {
        .x = NULL,
        .weight = linear->weight,
        .bias = linear->bias,
        .bias_act = linear->bias_act,
        .y = NULL,
        .y_dtype = y_dtype,
        .m = m,
        .n = linear->n,
        .k = linear->k,
    };
}

/* A head is read in stretches of columns; every stretch but the last is equally wide. */
static struct rmk_product stretch_of(const struct rmk_cuda *cuda, const struct rmk_linear *linear,
                                     uint32_t begin, uint32_t count, uint32_t m)
{
    const size_t act = rmk_cuda_bytes(cuda->device.info.act);
    struct rmk_product product = product_of(linear, m, RMK_F32);

    product.weight = (const unsigned char *)linear->weight + (size_t)begin * linear->k * act;
    product.bias = linear->bias != NULL ? linear->bias + begin : NULL;
    product.bias_act = NULL;
    product.n = count;
    return product;
}

/* In every class of rows that will come. */
static void prepare_product(struct rmk_cuda *cuda, struct rmk_product product)
{
    for (uint32_t i = cuda->by_rows ? 0 : RMK_ROW_CLASS_WHOLE; i < RMK_ROW_CLASSES; i++) {
        product.m = rmk_row_class_rows(i);
        rmk_gemm_prepare(cuda, &product);
    }
}

static void prepare(struct rmk_cuda *cuda, const struct rmk_linear *linear)
{
    struct rmk_product product = product_of(linear, 0, RMK_F32);

    prepare_product(cuda, product);
    if (cuda->device.info.act != RMK_F32) {
        product.y_dtype = cuda->device.info.act;
        prepare_product(cuda, product);
    }
    if (linear->n > RMK_HEAD_COLUMNS) {
        uint32_t last = linear->n % RMK_HEAD_COLUMNS;
        prepare_product(cuda, stretch_of(cuda, linear, 0, RMK_HEAD_COLUMNS, 0));
        prepare_product(cuda, stretch_of(cuda, linear, 0, last > 0 ? last : RMK_HEAD_COLUMNS, 0));
    }
}

enum rmk_err rmk_cuda_linear_create(struct rmk_device *device,
                                    const struct rmk_linear_source *source, struct rmk_linear **out,
                                    struct rmk_why *why)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);
    struct rmk_linear *linear = (struct rmk_linear *)calloc(1, sizeof(*linear));

    rmk_assert(source->ld >= source->k);
    if (linear == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for a linear layer");
    }
    linear->n = source->n;
    linear->k = source->k;
    enum rmk_err err = fill(cuda, source, linear);
    if (err != RMK_OK) {
        rmk_cuda_linear_destroy(device, linear);
        return rmk_fail(why, err, "GPU %d: a %u x %u linear layer: %s", cuda->index, source->n,
                        source->k, rmk_cuda_sentence(cuda, err));
    }
    prepare(cuda, linear);
    *out = linear;
    return RMK_OK;
}

void *rmk_cuda_linear_weight(struct rmk_device *device, struct rmk_linear *linear)
{
    (void)device;
    return linear->weight;
}

void rmk_cuda_linear_destroy(struct rmk_device *device, struct rmk_linear *linear)
{
    if (linear == NULL) {
        return;
    }
    (void)rmk_cuda_enter(rmk_cuda_of(device));
    (void)cudaFree(linear->weight);
    (void)cudaFree(linear->bias);
    (void)cudaFree(linear->bias_act);
    free(linear);
}

static enum rmk_err multiply(struct rmk_cuda *cuda, const struct rmk_product *product)
{
    bool done = false;

    if (product->m == 0 || product->n == 0) {
        return RMK_OK;
    }
    RMK_PASS(rmk_gemm_run(cuda, product, &done));
    return done ? RMK_OK : rmk_cuda_tile(cuda, product);
}

enum rmk_err rmk_cuda_linear(struct rmk_device *device, const struct rmk_linear *linear,
                             const void *x, uint32_t m, void *y, enum rmk_dtype y_dtype)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);
    struct rmk_product product = product_of(linear, m, y_dtype);

    rmk_assert(y_dtype == RMK_F32 || y_dtype == device->info.act);
    RMK_PASS(rmk_cuda_enter(cuda));
    product.x = x;
    product.y = y;
    return multiply(cuda, &product);
}

enum rmk_err rmk_cuda_columns(struct rmk_cuda *cuda, const struct rmk_linear *linear,
                              uint32_t begin, uint32_t count, const void *x, uint32_t m, float *y)
{
    struct rmk_product product = stretch_of(cuda, linear, begin, count, m);

    product.x = x;
    product.y = y;
    return multiply(cuda, &product);
}
