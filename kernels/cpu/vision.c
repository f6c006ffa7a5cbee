#include "kernels/convert.h"
#include "kernels/cpu/cpu.h"
#include "kernels/host.h"

struct patches_job {
    struct rmk_cpu *cpu;
    const uint8_t *tiles;
    size_t tile;
    size_t patch;
    size_t side;
    void *y;
    float values[256];
    uint16_t values_bf16[256];
};

/* One row of patches of one tile. */
static void patches_task(void *context, uint32_t task, uint32_t worker)
{
    const struct patches_job *job = context;
    bool bf16 = job->cpu->device.info.act == RMK_BF16;
    size_t patch = job->patch;
    size_t image = task / job->side;
    size_t row = task % job->side;
    size_t place = (size_t)task * job->side * 3 * patch * patch;

    (void)worker;
    for (size_t column = 0; column < job->side; column++) {
        for (size_t channel = 0; channel < 3; channel++) {
            for (size_t y = 0; y < patch; y++) {
                const uint8_t *line =
                    job->tiles +
                    ((image * job->tile + row * patch + y) * job->tile + column * patch) * 3 +
                    channel;
                for (size_t x = 0; x < patch; x++, place++) {
                    if (bf16) {
                        ((uint16_t *)job->y)[place] = job->values_bf16[line[x * 3]];
                    } else {
                        ((float *)job->y)[place] = job->values[line[x * 3]];
                    }
                }
            }
        }
    }
}

enum rmk_err rmk_cpu_patches(struct rmk_device *device, const uint8_t *tiles_host, uint32_t n,
                             uint32_t tile, uint32_t patch, void *y)
{
    rmk_assert(patch > 0);
    struct patches_job job = {
        .cpu = rmk_cpu_of(device),
        .tiles = tiles_host,
        .tile = tile,
        .patch = patch,
        .side = tile / patch,
        .y = y,
    };

    for (int i = 0; i < 256; i++) {
        job.values[i] = ((float)(i * (1 / 255.0)) - 0.5F) / 0.5F;
        job.values_bf16[i] = rmk_convert_to_bf16(job.values[i]);
    }
    uint32_t tasks = n * (uint32_t)job.side;
    rmk_cpu_run(job.cpu, patches_task, &job, tasks, 3.0 * n * tile * tile);
    return RMK_OK;
}

struct bilinear_job {
    const struct rmk_loops *loops;
    const float *x;
    float *y;
    uint32_t h;
    uint32_t w;
    uint32_t oh;
    uint32_t ow;
    uint64_t x_ld;
    uint64_t y_ld;
    uint32_t c;
};

static void bilinear_task(void *context, uint32_t row, uint32_t worker)
{
    const struct bilinear_job *job = context;
    struct rmk_bilinear_tap ty = rmk_host_bilinear_tap(job->h, job->oh, row);
    const float *top = job->x + ty.low * job->x_ld;
    const float *bottom = job->x + ty.high * job->x_ld;

    (void)worker;
    for (uint32_t column = 0; column < job->ow; column++) {
        struct rmk_bilinear_tap tx = rmk_host_bilinear_tap(job->w, job->ow, column);
        size_t left = (size_t)tx.low * job->c;
        size_t right = (size_t)tx.high * job->c;
        const float *const corners[4] = {top + left, top + right, bottom + left, bottom + right};
        float *target = job->y + row * job->y_ld + (size_t)column * job->c;
        job->loops->blend(corners, tx.fraction, ty.fraction, target, job->c);
    }
}

enum rmk_err rmk_cpu_bilinear(struct rmk_device *device, const float *x, uint32_t h, uint32_t w,
                              uint64_t x_ld, float *y, uint32_t oh, uint32_t ow, uint64_t y_ld,
                              uint32_t c)
{
    struct bilinear_job job = {
        .loops = rmk_cpu_of(device)->loops,
        .x = x,
        .y = y,
        .h = h,
        .w = w,
        .oh = oh,
        .ow = ow,
        .x_ld = x_ld,
        .y_ld = y_ld,
        .c = c,
    };

    rmk_assert(oh == 0 || h > 0);
    rmk_assert(ow == 0 || w > 0);
    rmk_cpu_run(rmk_cpu_of(device), bilinear_task, &job, oh, (double)oh * ow * c);
    return RMK_OK;
}

enum rmk_err rmk_cpu_pool2x2(struct rmk_device *device, const float *x, uint32_t h, uint32_t w,
                             float *y, uint32_t c, bool maximum)
{
    float *target = y;

    (void)device; /* too small an op to share out */
    for (size_t row = 0; row < h / 2; row++) {
        for (size_t column = 0; column < w / 2; column++) {
            const float *top = x + (row * 2 * w + column * 2) * c;
            const float *bottom = top + (size_t)w * c;
            for (size_t i = 0; i < c; i++) {
                float a = top[i];
                float b = top[c + i];
                float d = bottom[i];
                float e = bottom[c + i];
                if (maximum) {
                    float upper = a > b ? a : b;
                    float lower = d > e ? d : e;
                    *target++ = upper > lower ? upper : lower;
                } else {
                    *target++ = (a + b + (d + e)) * 0.25F;
                }
            }
        }
    }
    return RMK_OK;
}
