#include "worker/vision/resample.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "worker/vision/resample_kernel.h"

static double bicubic(double t)
{
    const double a = -0.5;

    t = fabs(t);
    if (t < 1.0) {
        return ((a + 2.0) * t - (a + 3.0)) * t * t + 1;
    }
    if (t < 2.0) {
        return (((t - 5) * t + 8) * t - 4) * a;
    }
    return 0.0;
}

static void axis_deinit(struct rmk_resample_axis *axis)
{
    free(axis->first);
    free(axis->tap_count);
    free(axis->weights);
    free(axis->words);
}

/* One output's taps. The order of operations is Pillow's: another rounding is another picture.
 * `taps` is scratch. */
static void weigh(struct rmk_resample_axis *axis, uint32_t source, uint32_t target,
                  uint32_t position, uint32_t index, double *taps)
{
    double scale = (double)source / target;
    double stretch = scale < 1.0 ? 1.0 : scale;
    double support = 2.0 * stretch;
    double center = (position + 0.5) * scale;
    double shrink = 1.0 / stretch;
    double sum = 0.0;
    int64_t first = (int64_t)(center - support + 0.5);
    int64_t end = (int64_t)(center + support + 0.5);
    int32_t *weights = axis->weights + (size_t)index * axis->tap_stride;

    first = first < 0 ? 0 : first;
    end = end > source ? source : end;
    for (int64_t i = 0; i < end - first; i++) {
        taps[i] = bicubic(((double)(i + first) - center + 0.5) * shrink);
        sum += taps[i];
    }
    for (int64_t i = 0; i < end - first; i++) {
        double weight = sum != 0.0 ? taps[i] / sum : taps[i];
        double fixed = weight * (1 << RMK_RESAMPLE_BITS);
        weights[i] = (int32_t)(fixed < 0 ? fixed - 0.5 : fixed + 0.5);
    }
    axis->first[index] = (uint32_t)first;
    axis->tap_count[index] = (uint32_t)(end - first);
}

/* Outputs begin..begin+count-1 of an axis that goes from `source` to `target` pixels. */
static enum rmk_err axis_init(struct rmk_resample_axis *axis,
                              const struct rmk_resample_kernel *kernel, uint32_t source,
                              uint32_t target, uint32_t begin, uint32_t count, struct rmk_why *why)
{
    double scale = (double)source / target;
    uint32_t taps_max = 2 * (uint32_t)ceil(2.0 * (scale < 1.0 ? 1.0 : scale)) + 1;
    uint32_t group_count = (taps_max + RMK_RESAMPLE_GROUP - 1) / RMK_RESAMPLE_GROUP;
    double *taps = malloc(taps_max * sizeof(*taps));
    enum rmk_err err = RMK_OK;

    axis->count = count;
    axis->tap_stride = group_count * RMK_RESAMPLE_GROUP;
    axis->word_stride = group_count * kernel->group_words;
    axis->first = calloc(count, sizeof(*axis->first));
    axis->tap_count = calloc(count, sizeof(*axis->tap_count));
    axis->weights = calloc((size_t)count * axis->tap_stride, sizeof(*axis->weights));
    axis->words = calloc((size_t)count * axis->word_stride + 1, sizeof(*axis->words));
    if (taps == NULL || axis->first == NULL || axis->tap_count == NULL || axis->weights == NULL ||
        axis->words == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory to resize an image");
        goto out;
    }
    for (uint32_t i = 0; i < count; i++) {
        weigh(axis, source, target, begin + i, i, taps);
        for (uint32_t g = 0; g < group_count && kernel->pack != NULL; g++) {
            kernel->pack(axis->weights + (size_t)i * axis->tap_stride + g * RMK_RESAMPLE_GROUP,
                         axis->words + (size_t)i * axis->word_stride + g * kernel->group_words);
        }
    }
out:
    free(taps);
    return err;
}

/* The work of one call. Rows of the middle picture live in a ring: row y at y % ring_rows. */
struct job {
    const struct rmk_resample_kernel *kernel;
    const struct rmk_canvas *canvas;
    struct rmk_resample_axis across;
    struct rmk_resample_axis down;
    uint32_t touched_begin; /* outputs across that see the picture and not only the border */
    uint32_t touched_end;
    uint8_t *border;     /* one canvas row of fill, into which the picture's rows are laid */
    uint8_t *border_out; /* what becomes of a row of nothing but fill */
    uint8_t *ring;
    size_t ring_stride;
    uint32_t ring_rows;
    const uint8_t **rows; /* [down.tap_stride]: what one output row reads */
};

static void job_deinit(struct job *job)
{
    axis_deinit(&job->across);
    axis_deinit(&job->down);
    free(job->border);
    free(job->border_out);
    free(job->ring);
    free(job->rows);
}

static void find_touched(struct job *job)
{
    const struct rmk_canvas *canvas = job->canvas;
    const struct rmk_resample_axis *axis = &job->across;
    uint32_t end = canvas->x + canvas->picture->size.width;

    while (job->touched_begin < axis->count &&
           axis->first[job->touched_begin] + axis->tap_count[job->touched_begin] <= canvas->x) {
        job->touched_begin++;
    }
    job->touched_end = job->touched_begin;
    while (job->touched_end < axis->count && axis->first[job->touched_end] < end) {
        job->touched_end++;
    }
}

static enum rmk_err job_init(struct job *job, struct rmk_size target, struct rmk_window window,
                             struct rmk_why *why)
{
    const struct rmk_canvas *canvas = job->canvas;
    size_t canvas_bytes = (size_t)canvas->size.width * 3;
    enum rmk_err err;

    RMK_TRY(axis_init(&job->across, job->kernel, canvas->size.width, target.width, window.x,
                      window.size.width, why));
    RMK_TRY(axis_init(&job->down, job->kernel, canvas->size.height, target.height, window.y,
                      window.size.height, why));
    find_touched(job);
    job->ring_rows = job->down.tap_stride;
    job->ring_stride = (size_t)window.size.width * 3 + RMK_PICTURE_SLACK;
    job->ring = calloc(job->ring_rows, job->ring_stride);
    job->rows = calloc(job->down.tap_stride, sizeof(*job->rows));
    job->border = calloc(1, canvas_bytes + RMK_PICTURE_SLACK);
    job->border_out = calloc(1, job->ring_stride);
    if (job->ring == NULL || job->rows == NULL || job->border == NULL || job->border_out == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory to resize an image");
        goto out;
    }
    memset(job->border, canvas->fill, canvas_bytes);
    job->kernel->across(&job->across, job->border, 0, job->across.count, job->border_out);
out:
    return err;
}

static const uint8_t *middle_row(const struct job *job, uint32_t y)
{
    const struct rmk_canvas *canvas = job->canvas;

    if (y < canvas->y || y - canvas->y >= canvas->picture->size.height) {
        return job->border_out;
    }
    return job->ring + (y % job->ring_rows) * job->ring_stride;
}

/* The pass across, for one row of the canvas. */
static void make_middle_row(struct job *job, uint32_t y)
{
    const struct rmk_canvas *canvas = job->canvas;
    const struct rmk_picture *picture = canvas->picture;

    if (y < canvas->y || y - canvas->y >= picture->size.height) {
        return;
    }
    const uint8_t *row = rmk_picture_row(picture, y - canvas->y);
    uint8_t *out = job->ring + (y % job->ring_rows) * job->ring_stride;
    if (picture->size.width < canvas->size.width) {
        memcpy(out, job->border_out, (size_t)job->across.count * 3);
        memcpy(job->border + (size_t)canvas->x * 3, row, rmk_picture_stride(picture));
        row = job->border;
    }
    job->kernel->across(&job->across, row, job->touched_begin, job->touched_end, out);
}

enum rmk_err rmk_resample_with(const struct rmk_resample_kernel *kernel,
                               const struct rmk_canvas *canvas, struct rmk_size target,
                               struct rmk_window window, uint8_t *out, size_t out_stride,
                               struct rmk_why *why)
{
    struct job job = {.kernel = kernel, .canvas = canvas};
    size_t row_bytes = (size_t)window.size.width * 3;
    uint32_t made = 0; /* rows of the canvas below this are done or never needed */
    enum rmk_err err;

    rmk_assert(canvas->x + canvas->picture->size.width <= canvas->size.width);
    rmk_assert(canvas->y + canvas->picture->size.height <= canvas->size.height);
    rmk_assert(window.x + window.size.width <= target.width);
    rmk_assert(window.y + window.size.height <= target.height);
    RMK_TRY(job_init(&job, target, window, why));
    for (uint32_t i = 0; i < window.size.height; i++) {
        uint32_t first = job.down.first[i];
        uint32_t tap_count = job.down.tap_count[i];

        for (made = made < first ? first : made; made < first + tap_count; made++) {
            make_middle_row(&job, made);
        }
        for (uint32_t t = 0; t < job.down.tap_stride; t++) {
            /* Padded taps weigh nothing and may read any row. */
            job.rows[t] = middle_row(&job, first + (t < tap_count ? t : 0));
        }
        kernel->down(&job.down, i, job.rows, row_bytes, out + i * out_stride);
    }
out:
    job_deinit(&job);
    return err;
}

enum rmk_err rmk_resample(const struct rmk_canvas *canvas, struct rmk_size target,
                          struct rmk_window window, uint8_t *out, size_t out_stride,
                          struct rmk_why *why)
{
    const struct rmk_resample_kernel *kernel = rmk_resample_kernel_avx512();

    if (kernel == NULL) {
        kernel = rmk_resample_kernel_avx2();
    }
    if (kernel == NULL) {
        kernel = rmk_resample_kernel_scalar();
    }
    return rmk_resample_with(kernel, canvas, target, window, out, out_stride, why);
}
