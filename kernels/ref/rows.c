#include <math.h>
#include <string.h>

#include "kernels/ref/ref.h"

enum rmk_err rmk_ref_add(struct rmk_device *device, float *x, const float *y, size_t count)
{
    (void)device;
    for (size_t i = 0; i < count; i++) {
        x[i] += y[i];
    }
    return RMK_OK;
}

enum rmk_err rmk_ref_add_cyclic(struct rmk_device *device, float *x, const float *rows,
                                uint32_t count, uint32_t row_count, uint32_t d)
{
    rmk_assert(count == 0 || row_count > 0);
    for (size_t i = 0; i < count; i++) {
        (void)rmk_ref_add(device, x + i * d, rows + (i % row_count) * d, d);
    }
    return RMK_OK;
}

enum rmk_err rmk_ref_cast(struct rmk_device *device, const float *x, void *y, size_t count)
{
    (void)device;
    if (count > 0) {
        memcpy(y, x, count * sizeof(float));
    }
    return RMK_OK;
}

enum rmk_err rmk_ref_rmsnorm(struct rmk_device *device, float *x, const float *delta,
                             const float *w, float eps, void *y, uint32_t rows, uint32_t d)
{
    float *target = y;

    if (delta != NULL) {
        (void)rmk_ref_add(device, x, delta, (size_t)rows * d);
    }
    for (size_t row = 0; row < rows; row++) {
        const float *in = x + row * d;
        float *out = target + row * d;
        double scale = 1.0 / sqrt(rmk_ref_dot(in, in, d) / (double)d + (double)eps);
        for (size_t i = 0; i < d; i++) {
            out[i] = w[i] * (float)((double)in[i] * scale);
        }
    }
    return RMK_OK;
}

enum rmk_err rmk_ref_layernorm(struct rmk_device *device, float *x, const float *delta,
                               const float *w, const float *b, float eps, void *y, uint32_t rows,
                               uint32_t d)
{
    float *target = y;

    if (delta != NULL) {
        (void)rmk_ref_add(device, x, delta, (size_t)rows * d);
    }
    for (size_t row = 0; row < rows; row++) {
        const float *in = x + row * d;
        float *out = target + row * d;
        double mean = 0.0;
        double variance = 0.0;
        for (size_t i = 0; i < d; i++) {
            mean += (double)in[i];
        }
        mean /= (double)d;
        for (size_t i = 0; i < d; i++) {
            variance += ((double)in[i] - mean) * ((double)in[i] - mean);
        }
        double scale = 1.0 / sqrt(variance / (double)d + (double)eps);
        for (size_t i = 0; i < d; i++) {
            out[i] = (float)(((double)in[i] - mean) * scale * (double)w[i] + (double)b[i]);
        }
    }
    return RMK_OK;
}

enum rmk_err rmk_ref_swiglu(struct rmk_device *device, const void *gate_up, void *y, uint32_t rows,
                            uint32_t f)
{
    float *target = y;

    (void)device;
    for (size_t row = 0; row < rows; row++) {
        const float *gate = (const float *)gate_up + row * 2 * f;
        const float *up = gate + f;
        for (size_t i = 0; i < f; i++) {
            double g = (double)gate[i];
            target[row * f + i] = (float)(g / (1.0 + exp(-g)) * (double)up[i]);
        }
    }
    return RMK_OK;
}

enum rmk_err rmk_ref_gelu(struct rmk_device *device, void *x, size_t count, enum rmk_gelu kind)
{
    float *values = x;

    (void)device;
    for (size_t i = 0; i < count; i++) {
        double value = (double)values[i];
        if (kind == RMK_GELU_ERF) {
            values[i] = (float)(0.5 * value * erfc(-value * M_SQRT1_2));
        } else {
            double inner = sqrt(2.0 / M_PI) * (value + 0.044715 * value * value * value);
            values[i] = (float)(0.5 * value * (1.0 + tanh(inner)));
        }
    }
    return RMK_OK;
}
