#include "worker/vision/resample_kernel.h"

static void across(const struct rmk_resample_axis *axis, const uint8_t *row, uint32_t begin,
                   uint32_t end, uint8_t *out)
{
    for (size_t x = begin; x < end; x++) {
        const uint8_t *source = row + 3 * (size_t)axis->first[x];
        const int32_t *weights = axis->weights + x * axis->tap_stride;
        int32_t red = 0;
        int32_t green = 0;
        int32_t blue = 0;
        for (size_t t = 0; t < axis->tap_count[x]; t++) {
            red += source[3 * t] * weights[t];
            green += source[3 * t + 1] * weights[t];
            blue += source[3 * t + 2] * weights[t];
        }
        out[3 * x] = rmk_resample_clip(red);
        out[3 * x + 1] = rmk_resample_clip(green);
        out[3 * x + 2] = rmk_resample_clip(blue);
    }
}

static void down(const struct rmk_resample_axis *axis, uint32_t index, const uint8_t *const *rows,
                 size_t size, uint8_t *out)
{
    const int32_t *weights = axis->weights + (size_t)index * axis->tap_stride;

    for (size_t i = 0; i < size; i++) {
        int32_t sum = 0;
        for (size_t t = 0; t < axis->tap_count[index]; t++) {
            sum += rows[t][i] * weights[t];
        }
        out[i] = rmk_resample_clip(sum);
    }
}

const struct rmk_resample_kernel *rmk_resample_kernel_scalar(void)
{
    static const struct rmk_resample_kernel kernel = {
        .name = "scalar",
        .across = across,
        .down = down,
    };

    return &kernel;
}
