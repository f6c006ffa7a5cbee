#include <math.h>

#include "kernels/host.h"
#include "kernels/ref/ref.h"

enum rmk_err rmk_ref_patches(struct rmk_device *device, const uint8_t *tiles_host, uint32_t n,
                             uint32_t tile, uint32_t patch, void *y)
{
    float *target = y;

    (void)device;
    rmk_assert(patch > 0);
    uint32_t side = tile / patch;
    for (size_t t = 0; t < n; t++) {
        for (size_t row = 0; row < side; row++) {
            for (size_t column = 0; column < side; column++) {
                for (size_t channel = 0; channel < 3; channel++) {
                    for (size_t py = 0; py < patch; py++) {
                        const uint8_t *line =
                            tiles_host +
                            ((t * tile + row * patch + py) * tile + column * patch) * 3 + channel;
                        for (size_t px = 0; px < patch; px++) {
                            float value = (float)((double)line[px * 3] * (1 / 255.0));
                            *target++ = (value - 0.5F) / 0.5F;
                        }
                    }
                }
            }
        }
    }
    return RMK_OK;
}

enum rmk_err rmk_ref_bilinear(struct rmk_device *device, const float *x, uint32_t h, uint32_t w,
                              uint64_t x_ld, float *y, uint32_t oh, uint32_t ow, uint64_t y_ld,
                              uint32_t c)
{
    (void)device;
    rmk_assert(oh == 0 || h > 0);
    rmk_assert(ow == 0 || w > 0);
    for (uint32_t row = 0; row < oh; row++) {
        struct rmk_bilinear_tap ty = rmk_host_bilinear_tap(h, oh, row);
        for (uint32_t column = 0; column < ow; column++) {
            struct rmk_bilinear_tap tx = rmk_host_bilinear_tap(w, ow, column);
            const float *a = x + ty.low * x_ld + (size_t)tx.low * c;
            const float *b = x + ty.low * x_ld + (size_t)tx.high * c;
            const float *d = x + ty.high * x_ld + (size_t)tx.low * c;
            const float *e = x + ty.high * x_ld + (size_t)tx.high * c;
            float *target = y + row * y_ld + (size_t)column * c;
            double fx = (double)tx.fraction;
            double fy = (double)ty.fraction;
            for (uint32_t i = 0; i < c; i++) {
                double top = (1.0 - fx) * (double)a[i] + fx * (double)b[i];
                double bottom = (1.0 - fx) * (double)d[i] + fx * (double)e[i];
                target[i] = (float)((1.0 - fy) * top + fy * bottom);
            }
        }
    }
    return RMK_OK;
}

enum rmk_err rmk_ref_pool2x2(struct rmk_device *device, const float *x, uint32_t h, uint32_t w,
                             float *y, uint32_t c, bool maximum)
{
    float *target = y;

    (void)device;
    for (size_t row = 0; row < h / 2; row++) {
        for (size_t column = 0; column < w / 2; column++) {
            const float *top = x + (row * 2 * w + column * 2) * c;
            const float *bottom = top + (size_t)w * c;
            for (size_t i = 0; i < c; i++) {
                if (maximum) {
                    *target++ = fmaxf(fmaxf(top[i], top[c + i]), fmaxf(bottom[i], bottom[c + i]));
                } else {
                    double sum = (double)top[i] + (double)top[c + i] + (double)bottom[i] +
                                 (double)bottom[c + i];
                    *target++ = (float)(sum / 4.0);
                }
            }
        }
    }
    return RMK_OK;
}
