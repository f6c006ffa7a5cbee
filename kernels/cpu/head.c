#include <math.h>
#include <stdatomic.h>

#include "kernels/cpu/cpu.h"
#include "kernels/noise.h"

struct head_job {
    struct rmk_cpu *cpu;
    const struct rmk_linear *head;
    const void *x;
    const void *x_uncond;
    uint32_t m;
    uint32_t vocab_begin;
    uint32_t vocab_all;
    const int32_t *suppressed;
    uint32_t suppressed_count;
    const struct rmk_head_row *rows;
    _Atomic int err;
};

static const struct rmk_head_result nothing = {
    .best = -INFINITY,
    .token = -1,
    .max = -INFINITY,
};

/* Put what a later run of columns knows on top of what earlier ones know. Only a larger value wins,
 * so the lowest id stays among equals. */
static void combine(struct rmk_head_result *into, const struct rmk_head_result *later)
{
    into->nonfinite = into->nonfinite || later->nonfinite;
    if (later->token < 0) {
        return;
    }
    if (into->token < 0 || later->best > into->best) {
        into->best = later->best;
        into->token = later->token;
        into->logit = later->logit;
    }
    if (later->max > into->max) {
        into->sum = into->sum * exp(into->max - later->max) + later->sum;
        into->max = later->max;
    } else {
        into->sum += later->sum * exp(later->max - into->max);
    }
}

/* Replace `found`'s winner by that of the noisy values.
 *
 * The largest l - T ln(-ln u) is the smallest -ln u / w with w = e^(l/T). Since -ln u >= 1 - u, an
 * id with 1 - u above w times the smallest so far cannot win, and nearly all go without a
 * logarithm. w is an fp32 number good to 1e-5, hence the slack; whoever is left is compared
 * exactly. */
static void sample_noise(const struct head_job *job, const struct rmk_head_row *row,
                         const float *logits, uint32_t id, uint32_t count,
                         const struct rmk_head_run *run, struct rmk_head_result *found)
{
    enum { SLACK_PER_MILLE = 1001 };
    float weights[RMK_GEMM_COLUMNS_MAX];
    double uniforms[RMK_GEMM_COLUMNS_MAX];
    bool race = row->temperature > 0.0; /* else the order is another, and every id is compared */
    uint32_t best = run->first;

    rmk_assert(count <= RMK_GEMM_COLUMNS_MAX);
    job->cpu->loops->uniforms(row, job->vocab_all, id, count, uniforms);
    job->cpu->loops->exp_scaled(logits, run->max, (float)(1.0 / row->temperature), weights, count);
    double limit = -log(uniforms[best]) * SLACK_PER_MILLE / 1000.0;
    found->best = rmk_noise_apply((double)logits[best], row->temperature, uniforms[best]);
    for (uint32_t i = 0; i < count; i++) {
        if (race && 1.0 - uniforms[i] > (double)weights[i] * limit) {
            continue;
        }
        double value = rmk_noise_apply((double)logits[i], row->temperature, uniforms[i]);
        if (value > found->best || (value == found->best && i < best)) {
            found->best = value;
            best = i;
            limit = -log(uniforms[i]) / (double)weights[i] * SLACK_PER_MILLE / 1000.0;
        }
    }
    found->token = (int32_t)(id + best);
    found->logit = (double)logits[best];
}

/* Logits of ids [id, id + count), none of them suppressed. */
static void sample_run(const struct head_job *job, const struct rmk_head_row *row,
                       const float *logits, uint32_t id, uint32_t count,
                       struct rmk_head_result *result)
{
    struct rmk_head_run run;

    job->cpu->loops->head_run(logits, count, &run);
    if (run.nonfinite) {
        result->nonfinite = true;
        return;
    }
    struct rmk_head_result found = {
        .best = (double)run.max,
        .token = (int32_t)(id + run.first),
        .logit = (double)run.max,
        .max = (double)run.max,
        .sum = run.sum,
    };
    if (rmk_noise_wanted(row)) {
        sample_noise(job, row, logits, id, count, &run, &found);
    }
    combine(result, &found);
}

/* The first suppressed id in [id, end), or end. The list is short and need not be sorted. */
static uint32_t next_suppressed(const struct head_job *job, uint32_t id, uint32_t end)
{
    for (uint32_t i = 0; i < job->suppressed_count; i++) {
        int64_t suppressed = job->suppressed[i];
        if (suppressed >= id && suppressed < end) {
            end = (uint32_t)suppressed;
        }
    }
    return end;
}

static void sample_row(const struct head_job *job, const struct rmk_head_row *row,
                       const float *logits, uint32_t begin, uint32_t end,
                       struct rmk_head_result *result)
{
    *result = nothing;
    for (uint32_t id = begin; id < end;) {
        uint32_t stop = next_suppressed(job, id, end);
        if (stop > id) {
            sample_run(job, row, logits + (id - begin), id, stop - id, result);
        }
        id = stop + 1;
    }
}

static void chunk_task(void *context, uint32_t chunk, uint32_t worker_index)
{
    struct head_job *job = context;
    const struct rmk_loops *loops = job->cpu->loops;
    const struct rmk_linear *head = job->head;
    struct rmk_cpu_worker *worker = &job->cpu->workers[worker_index];
    uint32_t columns = rmk_gemm_chunk_columns(head->gemm, chunk);
    uint32_t first = chunk * rmk_gemm_columns(head->gemm);
    struct rmk_head_result *partials = job->cpu->partials + (size_t)chunk * job->m;

    for (uint32_t tile = 0; tile < job->m; tile += RMK_GEMM_ROWS) {
        enum rmk_err err = rmk_cpu_linear_tile(job->cpu, head, job->x, job->m, tile, chunk,
                                               worker_index, worker->y_tile);
        if (err == RMK_OK && job->x_uncond != NULL) {
            err = rmk_cpu_linear_tile(job->cpu, head, job->x_uncond, job->m, tile, chunk,
                                      worker_index, worker->y_tile_uncond);
        }
        if (err != RMK_OK) {
            atomic_store(&job->err, (int)err);
            return;
        }
        for (uint32_t i = 0; i < RMK_GEMM_ROWS && tile + i < job->m; i++) {
            const struct rmk_head_row *row = &job->rows[tile + i];
            float *logits = worker->y_tile + (size_t)i * columns;
            float *uncond = worker->y_tile_uncond + (size_t)i * columns;
            if (head->bias != NULL) {
                loops->add(logits, head->bias + first, columns);
            }
            if (head->bias != NULL && job->x_uncond != NULL) {
                loops->add(uncond, head->bias + first, columns);
            }
            if (job->x_uncond != NULL) {
                loops->guide(logits, uncond, row->cfg_scale + 1.0F, columns);
            }
            sample_row(job, row, logits, job->vocab_begin + first,
                       job->vocab_begin + first + columns, &partials[tile + i]);
        }
    }
}

enum rmk_err rmk_cpu_head(struct rmk_device *device, const struct rmk_linear *head, const void *x,
                          const void *x_uncond, uint32_t m, uint32_t vocab_begin,
                          uint32_t vocab_all, const int32_t *suppressed_host,
                          uint32_t suppressed_count, const struct rmk_head_row *rows_host,
                          struct rmk_head_result *results_host)
{
    struct rmk_cpu *cpu = rmk_cpu_of(device);
    uint32_t chunks = rmk_gemm_chunk_count(head->gemm);
    struct head_job job = {
        .cpu = cpu,
        .head = head,
        .x = x,
        .x_uncond = x_uncond,
        .m = m,
        .vocab_begin = vocab_begin,
        .vocab_all = vocab_all,
        .suppressed = suppressed_host,
        .suppressed_count = suppressed_count,
        .rows = rows_host,
    };

    rmk_assert((size_t)chunks * m <= cpu->partial_count);
    if (m == 0) {
        return RMK_OK;
    }
    rmk_cpu_run(cpu, chunk_task, &job, chunks, (double)m * head->n * head->k / 16.0);
    for (uint32_t row = 0; row < m; row++) {
        results_host[row] = nothing;
        for (uint32_t chunk = 0; chunk < chunks; chunk++) {
            combine(&results_host[row], &cpu->partials[(size_t)chunk * m + row]);
        }
    }
    return (enum rmk_err)atomic_load(&job.err);
}
