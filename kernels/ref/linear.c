#include "kernels/ref/ref.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/convert.h"

double rmk_ref_dot(const float *a, const float *b, size_t count)
{
    double sums[8] = {0};
    size_t i = 0;

    for (; i + 8 <= count; i += 8) {
        for (size_t lane = 0; lane < 8; lane++) {
            sums[lane] += (double)a[i + lane] * (double)b[i + lane];
        }
    }
    for (size_t lane = 0; i < count; i++, lane++) {
        sums[lane] += (double)a[i] * (double)b[i];
    }
    return ((sums[0] + sums[4]) + (sums[1] + sums[5])) +
           ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

enum rmk_err rmk_ref_linear_create(struct rmk_device *device,
                                   const struct rmk_linear_source *source, struct rmk_linear **out,
                                   struct rmk_why *why)
{
    (void)device;
    rmk_assert(source->ld >= source->k);

    struct rmk_linear *linear = calloc(1, sizeof(*linear));
    if (linear == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for a linear layer");
    }
    linear->n = source->n;
    linear->k = source->k;
    linear->weight = calloc((size_t)source->n * source->k + 1, sizeof(float));
    if (source->bias_host != NULL) {
        linear->bias = calloc((size_t)source->n + 1, sizeof(float));
    }
    if (linear->weight == NULL || (source->bias_host != NULL && linear->bias == NULL)) {
        rmk_ref_linear_destroy(device, linear);
        return rmk_fail(why, RMK_ELIMIT, "no memory for a %u x %u linear layer", source->n,
                        source->k);
    }
    for (size_t row = 0; row < source->n; row++) {
        for (size_t column = 0; column < source->k; column++) {
            linear->weight[row * source->k + column] =
                rmk_convert_get(source->weight_host, source->dtype, row * source->ld + column);
        }
    }
    if (linear->bias != NULL) {
        memcpy(linear->bias, source->bias_host, (size_t)source->n * sizeof(float));
    }
    *out = linear;
    return RMK_OK;
}

void rmk_ref_linear_destroy(struct rmk_device *device, struct rmk_linear *linear)
{
    (void)device;
    if (linear == NULL) {
        return;
    }
    free(linear->weight);
    free(linear->bias);
    free(linear);
}

enum rmk_err rmk_ref_linear(struct rmk_device *device, const struct rmk_linear *linear,
                            const void *x, uint32_t m, void *y, enum rmk_dtype y_dtype)
{
    const float *source = x;
    float *target = y;

    (void)device;
    rmk_assert(y_dtype == RMK_F32);
    for (size_t row = 0; row < m; row++) {
        for (size_t column = 0; column < linear->n; column++) {
            double sum = rmk_ref_dot(source + row * linear->k, linear->weight + column * linear->k,
                                     linear->k);
            sum += linear->bias != NULL ? (double)linear->bias[column] : 0.0;
            target[row * linear->n + column] = (float)sum;
        }
    }
    return RMK_OK;
}
