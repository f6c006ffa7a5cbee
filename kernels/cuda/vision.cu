#include "kernels/cuda/number.h"

#include <string.h>

/* -- patches
 * ----------------------------------------------------------------------------------------- */

/* Lines of patches of one tile: pixels [lines * patch, tile, 3] to y [lines * side, 3*patch*patch].
 * The product with 1/255 is in double, as the official processor's. */
template <typename T>
__global__ void __launch_bounds__(RMK_CUDA_BLOCK)
    patches_kernel(const uint8_t *pixels, uint32_t tile, uint32_t patch, uint32_t side, T *y,
                   size_t count)
{
    size_t i = (size_t)blockIdx.x * RMK_CUDA_BLOCK + threadIdx.x;

    if (i < count) {
        const uint32_t area = patch * patch;
        const size_t row = i / (3 * area);
        const uint32_t at = (uint32_t)(i % (3 * area));
        const uint32_t channel = at / area;
        const size_t py = row / side * patch + at % area / patch;
        const size_t px = row % side * patch + at % patch;
        const uint8_t pixel = pixels[(py * tile + px) * 3 + channel];
        const float value = (float)((double)pixel * (1 / 255.0));
        y[i] = rmk_narrow<T>((value - 0.5F) / 0.5F);
    }
}

template <typename T>
static enum rmk_err launch_patches(struct rmk_cuda *cuda, const void *pixels, uint32_t tile,
                                   uint32_t patch, uint32_t side, void *y, size_t first,
                                   size_t count)
{
    RMK_CUDA(cuda, RMK_LAUNCH(cuda, patches_kernel<T>, dim3(rmk_cuda_blocks(count, RMK_CUDA_BLOCK)),
                              dim3(RMK_CUDA_BLOCK), 0, (const uint8_t *)pixels, tile, patch, side,
                              (T *)y + first, count));
    return RMK_OK;
}

enum rmk_err rmk_cuda_patches(struct rmk_device *device, const uint8_t *tiles_host, uint32_t n,
                              uint32_t tile, uint32_t patch, void *y)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);

    rmk_assert(patch > 0);
    const uint32_t side = tile / patch;
    const size_t line_bytes = (size_t)patch * tile * 3; /* of one line of patches */
    rmk_assert(line_bytes <= RMK_STAGING_PART_BYTES);
    RMK_PASS(rmk_cuda_enter(cuda));
    if (side == 0) {
        return RMK_OK;
    }
    const uint32_t fit = (uint32_t)(RMK_STAGING_PART_BYTES / line_bytes);
    for (uint32_t t = 0; t < n; t++) {
        for (uint32_t line = 0; line < side; line += fit) {
            const uint32_t lines = side - line < fit ? side - line : fit;
            const size_t from = (size_t)t * tile * tile * 3 + line * line_bytes;
            const size_t row_width = (size_t)3 * patch * patch;
            const size_t first = ((size_t)t * side + line) * side * row_width;
            const void *pixels = NULL;
            RMK_PASS(rmk_staging_list(cuda, tiles_host + from, lines * line_bytes, &pixels));
            RMK_PASS(RMK_FOR_DTYPE(device->info.act, launch_patches)(
                cuda, pixels, tile, patch, side, y, first, (size_t)lines * side * row_width));
        }
    }
    return RMK_OK;
}

/* -- maps
 * -------------------------------------------------------------------------------------------- */

struct tap {
    uint32_t low;
    uint32_t high;
    float fraction;
};

/* As rmk_host_bilinear_tap, which the test holds it to. */
static __device__ __forceinline__ struct tap tap_of(uint32_t from, uint32_t to, uint32_t index)
{
    float scale = (float)from / (float)to;
    float source = fmaf((float)index + 0.5F, scale, -0.5F);
    struct tap tap;

    source = source < 0.0F ? 0.0F : source;
    tap.low = (uint32_t)source;
    tap.low = tap.low > from - 1 ? from - 1 : tap.low;
    tap.high = tap.low + 1 < from ? tap.low + 1 : tap.low;
    tap.fraction = source - (float)tap.low;
    return tap;
}

/* A block has one point of the target. */
__global__ void __launch_bounds__(RMK_CUDA_BLOCK)
    bilinear_kernel(const float *x, uint32_t h, uint32_t w, size_t x_ld, float *y, uint32_t oh,
                    uint32_t ow, size_t y_ld, uint32_t c)
{
    const uint32_t row = blockIdx.x / ow;
    const uint32_t column = blockIdx.x % ow;
    const struct tap ty = tap_of(h, oh, row);
    const struct tap tx = tap_of(w, ow, column);
    const float *top = x + ty.low * x_ld;
    const float *bottom = x + ty.high * x_ld;
    float *target = y + row * y_ld + (size_t)column * c;

    for (uint32_t i = threadIdx.x; i < c; i += RMK_CUDA_BLOCK) {
        const size_t left = (size_t)tx.low * c + i;
        const size_t right = (size_t)tx.high * c + i;
        const float above = (1.0F - tx.fraction) * top[left] + tx.fraction * top[right];
        const float below = (1.0F - tx.fraction) * bottom[left] + tx.fraction * bottom[right];
        target[i] = (1.0F - ty.fraction) * above + ty.fraction * below;
    }
}

enum rmk_err rmk_cuda_bilinear(struct rmk_device *device, const float *x, uint32_t h, uint32_t w,
                               uint64_t x_ld, float *y, uint32_t oh, uint32_t ow, uint64_t y_ld,
                               uint32_t c)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);

    if (oh == 0 || ow == 0 || c == 0) {
        return RMK_OK;
    }
    rmk_assert(h > 0);
    rmk_assert(w > 0);
    RMK_PASS(rmk_cuda_enter(cuda));
    RMK_CUDA(cuda, RMK_LAUNCH(cuda, bilinear_kernel, dim3(oh * ow), dim3(RMK_CUDA_BLOCK), 0, x, h,
                              w, (size_t)x_ld, y, oh, ow, (size_t)y_ld, c));
    return RMK_OK;
}

__global__ void __launch_bounds__(RMK_CUDA_BLOCK)
    pool_kernel(const float *x, uint32_t w, float *y, uint32_t c, bool maximum)
{
    const uint32_t row = blockIdx.x / (w / 2);
    const uint32_t column = blockIdx.x % (w / 2);
    const float *top = x + ((size_t)row * 2 * w + column * 2) * c;
    const float *bottom = top + (size_t)w * c;
    float *target = y + (size_t)blockIdx.x * c;

    for (uint32_t i = threadIdx.x; i < c; i += RMK_CUDA_BLOCK) {
        const float a = top[i];
        const float b = top[c + i];
        const float d = bottom[i];
        const float e = bottom[c + i];
        target[i] = maximum ? fmaxf(fmaxf(a, b), fmaxf(d, e)) : (((a + b) + d) + e) * 0.25F;
    }
}

enum rmk_err rmk_cuda_pool2x2(struct rmk_device *device, const float *x, uint32_t h, uint32_t w,
                              float *y, uint32_t c, bool maximum)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);

    if (h < 2 || w < 2 || c == 0) {
        return RMK_OK;
    }
    RMK_PASS(rmk_cuda_enter(cuda));
    RMK_CUDA(cuda, RMK_LAUNCH(cuda, pool_kernel, dim3((h / 2) * (w / 2)), dim3(RMK_CUDA_BLOCK), 0,
                              x, w, y, c, maximum));
    return RMK_OK;
}
