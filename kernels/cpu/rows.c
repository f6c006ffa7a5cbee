#include "kernels/convert.h"
#include "kernels/cpu/cpu.h"

/* Elements of a task: a fraction of the second-level cache, and far more than a task costs to hand
 * out. */
#define TASK_ELEMENTS ((size_t)16384)

/* An op over rows, or over a flat array as one row of `d` after another. */
struct rows_job {
    struct rmk_cpu *cpu;
    float *x;
    const float *other; /* the op's second operand, or delta */
    const float *w;
    const float *b;
    float eps;
    void *act_x;
    const void *act_const;
    void *y;
    size_t count; /* rows, or elements */
    size_t d;
    size_t step; /* rows or elements of a task */
    size_t cycle;
    enum rmk_gelu kind;
};

static bool is_bf16(const struct rows_job *job)
{
    return job->cpu->device.info.act == RMK_BF16;
}

/* The task's rows or elements. */
static size_t begin_of(const struct rows_job *job, uint32_t task)
{
    return task * job->step;
}

static size_t end_of(const struct rows_job *job, uint32_t task)
{
    size_t end = (task + (size_t)1) * job->step;

    return end < job->count ? end : job->count;
}

static void run_rows(struct rows_job *job, rmk_pool_task *function, double weight)
{
    job->step = job->d < TASK_ELEMENTS ? TASK_ELEMENTS / (job->d > 0 ? job->d : 1) : 1;
    uint32_t tasks = (uint32_t)((job->count + job->step - 1) / job->step);
    rmk_cpu_run(job->cpu, function, job, tasks, (double)job->count * (double)job->d * weight);
}

static void run_flat(struct rows_job *job, rmk_pool_task *function, double weight)
{
    job->d = 1;
    run_rows(job, function, weight);
}

static void add_task(void *context, uint32_t task, uint32_t worker)
{
    const struct rows_job *job = context;
    size_t begin = begin_of(job, task);

    (void)worker;
    job->cpu->loops->add(job->x + begin, job->other + begin, end_of(job, task) - begin);
}

enum rmk_err rmk_cpu_add(struct rmk_device *device, float *x, const float *y, size_t count)
{
    struct rows_job job = {.cpu = rmk_cpu_of(device), .x = x, .other = y, .count = count};

    run_flat(&job, add_task, 0.25);
    return RMK_OK;
}

static void add_cyclic_task(void *context, uint32_t task, uint32_t worker)
{
    const struct rows_job *job = context;

    (void)worker;
    for (size_t row = begin_of(job, task); row < end_of(job, task); row++) {
        job->cpu->loops->add(job->x + row * job->d, job->other + row % job->cycle * job->d, job->d);
    }
}

enum rmk_err rmk_cpu_add_cyclic(struct rmk_device *device, float *x, const float *rows,
                                uint32_t count, uint32_t row_count, uint32_t d)
{
    struct rows_job job = {.cpu = rmk_cpu_of(device),
                           .x = x,
                           .other = rows,
                           .count = count,
                           .cycle = row_count,
                           .d = d};

    rmk_assert(count == 0 || row_count > 0);
    run_rows(&job, add_cyclic_task, 0.25);
    return RMK_OK;
}

static void cast_task(void *context, uint32_t task, uint32_t worker)
{
    const struct rows_job *job = context;
    size_t begin = begin_of(job, task);
    size_t count = end_of(job, task) - begin;

    (void)worker;
    if (is_bf16(job)) {
        job->cpu->loops->to_bf16(job->other + begin, (uint16_t *)job->y + begin, count);
    } else {
        job->cpu->loops->bias_f32(job->other + begin, NULL, (float *)job->y + begin, count);
    }
}

enum rmk_err rmk_cpu_cast(struct rmk_device *device, const float *x, void *y, size_t count)
{
    struct rows_job job = {.cpu = rmk_cpu_of(device), .other = x, .y = y, .count = count};

    run_flat(&job, cast_task, 0.25);
    return RMK_OK;
}

static void rmsnorm_task(void *context, uint32_t task, uint32_t worker)
{
    const struct rows_job *job = context;
    const struct rmk_loops *loops = job->cpu->loops;

    (void)worker;
    for (size_t row = begin_of(job, task); row < end_of(job, task); row++) {
        size_t first = row * job->d;
        const float *delta = job->other != NULL ? job->other + first : NULL;
        if (is_bf16(job)) {
            loops->rmsnorm_bf16(job->x + first, delta, job->w, job->eps, (uint16_t *)job->y + first,
                                job->d);
        } else {
            loops->rmsnorm_f32(job->x + first, delta, job->w, job->eps, (float *)job->y + first,
                               job->d);
        }
    }
}

enum rmk_err rmk_cpu_rmsnorm(struct rmk_device *device, float *x, const float *delta,
                             const float *w, float eps, void *y, uint32_t rows, uint32_t d)
{
    struct rows_job job = {.cpu = rmk_cpu_of(device),
                           .x = x,
                           .other = delta,
                           .w = w,
                           .eps = eps,
                           .y = y,
                           .count = rows,
                           .d = d};

    run_rows(&job, rmsnorm_task, 0.5);
    return RMK_OK;
}

static void layernorm_task(void *context, uint32_t task, uint32_t worker)
{
    const struct rows_job *job = context;
    const struct rmk_loops *loops = job->cpu->loops;

    (void)worker;
    for (size_t row = begin_of(job, task); row < end_of(job, task); row++) {
        size_t first = row * job->d;
        const float *delta = job->other != NULL ? job->other + first : NULL;
        if (is_bf16(job)) {
            loops->layernorm_bf16(job->x + first, delta, job->w, job->b, job->eps,
                                  (uint16_t *)job->y + first, job->d);
        } else {
            loops->layernorm_f32(job->x + first, delta, job->w, job->b, job->eps,
                                 (float *)job->y + first, job->d);
        }
    }
}

enum rmk_err rmk_cpu_layernorm(struct rmk_device *device, float *x, const float *delta,
                               const float *w, const float *b, float eps, void *y, uint32_t rows,
                               uint32_t d)
{
    struct rows_job job = {.cpu = rmk_cpu_of(device),
                           .x = x,
                           .other = delta,
                           .w = w,
                           .b = b,
                           .eps = eps,
                           .y = y,
                           .count = rows,
                           .d = d};

    run_rows(&job, layernorm_task, 0.5);
    return RMK_OK;
}

static void swiglu_task(void *context, uint32_t task, uint32_t worker)
{
    const struct rows_job *job = context;
    const struct rmk_loops *loops = job->cpu->loops;

    (void)worker;
    for (size_t row = begin_of(job, task); row < end_of(job, task); row++) {
        size_t first = row * 2 * job->d;
        if (is_bf16(job)) {
            const uint16_t *gate = (const uint16_t *)job->act_const + first;
            loops->swiglu_bf16(gate, gate + job->d, (uint16_t *)job->y + row * job->d, job->d);
        } else {
            const float *gate = (const float *)job->act_const + first;
            loops->swiglu_f32(gate, gate + job->d, (float *)job->y + row * job->d, job->d);
        }
    }
}

enum rmk_err rmk_cpu_swiglu(struct rmk_device *device, const void *gate_up, void *y, uint32_t rows,
                            uint32_t f)
{
    struct rows_job job = {
        .cpu = rmk_cpu_of(device), .act_const = gate_up, .y = y, .count = rows, .d = f};

    run_rows(&job, swiglu_task, 2.0);
    return RMK_OK;
}

static void gelu_task(void *context, uint32_t task, uint32_t worker)
{
    const struct rows_job *job = context;
    size_t begin = begin_of(job, task);
    size_t count = end_of(job, task) - begin;

    (void)worker;
    if (is_bf16(job)) {
        job->cpu->loops->gelu_bf16((uint16_t *)job->act_x + begin, count, job->kind);
    } else {
        job->cpu->loops->gelu_f32((float *)job->act_x + begin, count, job->kind);
    }
}

enum rmk_err rmk_cpu_gelu(struct rmk_device *device, void *x, size_t count, enum rmk_gelu kind)
{
    struct rows_job job = {.cpu = rmk_cpu_of(device), .act_x = x, .count = count, .kind = kind};

    run_flat(&job, gelu_task, 2.0);
    return RMK_OK;
}
