#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/convert.h"
#include "kernels/cpu/cpu.h"
#include "kernels/host.h"

struct pack_job {
    struct rmk_cpu *cpu;
    struct rmk_linear *linear;
    const struct rmk_linear_source *source;
    char *rows; /* [worker_count][columns, k] */
    size_t rows_bytes;
    _Atomic int err;
};

/* Exact where the weight's type holds the source's values; fp32 or fp16 to bf16 rounds to nearest
 * even. */
static void convert_row(const struct rmk_cpu *cpu, const struct rmk_linear_source *source,
                        size_t row, enum rmk_dtype dtype, void *target)
{
    size_t bytes = rmk_convert_bytes(source->dtype);
    const char *from = (const char *)source->weight_host + row * source->ld * bytes;
    bool aligned = (uintptr_t)from % bytes == 0;

    if (source->dtype == dtype) {
        memcpy(target, from, source->k * bytes);
    } else if (dtype == RMK_F32 && source->dtype == RMK_BF16 && aligned) {
        cpu->loops->from_bf16((const void *)from, target, source->k);
    } else if (dtype == RMK_BF16 && source->dtype == RMK_F32 && aligned) {
        cpu->loops->to_bf16((const void *)from, target, source->k);
    } else {
        for (size_t i = 0; i < source->k; i++) {
            float value = rmk_convert_get(from, source->dtype, i);
            if (dtype == RMK_F32) {
                ((float *)target)[i] = value;
            } else {
                ((uint16_t *)target)[i] = rmk_convert_to_bf16(value);
            }
        }
    }
}

/* What a bf16 device computes with: the weight rounded to bf16, even where products run in fp32. */
static void round_row(const struct rmk_cpu *cpu, float *row, uint16_t *scratch, size_t count)
{
    cpu->loops->to_bf16(row, scratch, count);
    cpu->loops->from_bf16(scratch, row, count);
}

static void pack_chunk(void *context, uint32_t chunk, uint32_t worker)
{
    struct pack_job *job = context;
    const struct rmk_linear *linear = job->linear;
    size_t row_bytes = linear->k * rmk_convert_bytes(linear->dtype);
    size_t first = (size_t)chunk * rmk_gemm_columns(linear->gemm);
    char *rows = job->rows + worker * job->rows_bytes;
    bool rounds = job->cpu->device.info.act == RMK_BF16 && linear->dtype == RMK_F32;

    for (size_t i = 0; i < rmk_gemm_chunk_columns(linear->gemm, chunk); i++) {
        void *row = rows + i * row_bytes;
        convert_row(job->cpu, job->source, first + i, linear->dtype, row);
        if (rounds) {
            round_row(job->cpu, row, job->cpu->workers[worker].x_tile, linear->k);
        }
    }
    enum rmk_err err = rmk_gemm_pack(linear->gemm, worker, chunk, rows);
    if (err != RMK_OK) {
        atomic_store(&job->err, (int)err);
    }
}

enum rmk_err rmk_cpu_linear_create(struct rmk_device *device,
                                   const struct rmk_linear_source *source, struct rmk_linear **out,
                                   struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;
    struct rmk_cpu *cpu = rmk_cpu_of(device);
    struct pack_job job = {.cpu = cpu, .source = source};
    struct rmk_linear *linear = NULL;
    void *rows = NULL;

    rmk_assert(source->n > 0);
    rmk_assert(source->k > 0);
    rmk_assert(source->ld >= source->k);
    linear = calloc(1, sizeof(*linear));
    if (linear == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for a linear layer");
        goto out;
    }
    linear->n = source->n;
    linear->k = source->k;
    linear->dtype = cpu->isa.gemm_bf16 ? device->info.act : RMK_F32;
    RMK_TRY(rmk_cpu_reserve_tiles(cpu, source->k, why));
    RMK_TRY(rmk_gemm_create(cpu->engine, source->n, source->k, linear->dtype, &linear->gemm, why));
    if (source->bias_host != NULL) {
        void *bias;
        RMK_TRY(rmk_host_alloc(device, source->n * sizeof(float), &bias, why));
        linear->bias = bias;
        memcpy(linear->bias, source->bias_host, source->n * sizeof(float));
    }
    job.linear = linear;
    job.rows_bytes =
        (size_t)rmk_gemm_columns(linear->gemm) * source->k * rmk_convert_bytes(linear->dtype);
    RMK_TRY(rmk_host_alloc(device, job.rows_bytes * cpu->worker_count, &rows, why));
    job.rows = rows;
    rmk_pool_run(cpu->pool, pack_chunk, &job, rmk_gemm_chunk_count(linear->gemm));
    err = (enum rmk_err)atomic_load(&job.err);
    if (err != RMK_OK) {
        err = rmk_fail(why, err, "oneDNN cannot pack a %u x %u linear layer", source->n, source->k);
        goto out;
    }
    *out = linear;
    linear = NULL;
out:
    rmk_host_free(device, rows);
    rmk_cpu_linear_destroy(device, linear);
    return err;
}

void rmk_cpu_linear_destroy(struct rmk_device *device, struct rmk_linear *linear)
{
    if (linear == NULL) {
        return;
    }
    rmk_gemm_destroy(linear->gemm);
    rmk_host_free(device, linear->bias);
    free(linear);
}

enum rmk_err rmk_cpu_linear_tile(const struct rmk_cpu *cpu, const struct rmk_linear *linear,
                                 const void *x, uint32_t m, uint32_t row, uint32_t chunk,
                                 uint32_t worker, float *y)
{
    size_t rows = m - row < RMK_GEMM_ROWS ? m - row : RMK_GEMM_ROWS;
    size_t first = (size_t)row * linear->k;
    size_t count = rows * linear->k;
    size_t all = (size_t)RMK_GEMM_ROWS * linear->k;
    void *tile = cpu->workers[worker].x_tile;

    rmk_assert(linear->k <= cpu->x_tile_k);
    if (cpu->device.info.act != linear->dtype) {
        cpu->loops->from_bf16((const uint16_t *)x + first, tile, count);
        memset((float *)tile + count, 0, (all - count) * sizeof(float));
        return rmk_gemm_run(linear->gemm, worker, chunk, tile, y);
    }
    size_t bytes = rmk_convert_bytes(linear->dtype);
    const char *source = (const char *)x + first * bytes;
    if (rows == RMK_GEMM_ROWS) {
        return rmk_gemm_run(linear->gemm, worker, chunk, source, y);
    }
    memcpy(tile, source, count * bytes);
    memset((char *)tile + count * bytes, 0, (all - count) * bytes);
    return rmk_gemm_run(linear->gemm, worker, chunk, tile, y);
}

struct linear_job {
    struct rmk_cpu *cpu;
    const struct rmk_linear *linear;
    const void *x;
    void *y;
    enum rmk_dtype y_dtype;
    uint32_t m;
    uint32_t group_count; /* the rows are cut into so many groups of whole tiles */
    uint32_t group_rows;
    _Atomic int err;
};

static void store_tile(const struct linear_job *job, const float *tile, uint32_t row, size_t first,
                       size_t columns)
{
    const struct rmk_loops *loops = job->cpu->loops;
    const float *bias = job->linear->bias != NULL ? job->linear->bias + first : NULL;

    for (size_t i = 0; i < RMK_GEMM_ROWS && row + i < job->m; i++) {
        size_t place = (row + i) * job->linear->n + first;
        if (job->y_dtype == RMK_F32) {
            loops->bias_f32(tile + i * columns, bias, (float *)job->y + place, columns);
        } else {
            loops->bias_bf16(tile + i * columns, bias, (uint16_t *)job->y + place, columns);
        }
    }
}

static void run_group(void *context, uint32_t task, uint32_t worker)
{
    struct linear_job *job = context;
    uint32_t chunk = task / job->group_count;
    uint32_t begin = task % job->group_count * job->group_rows;
    uint32_t end = job->m - begin < job->group_rows ? job->m : begin + job->group_rows;
    size_t first = (size_t)chunk * rmk_gemm_columns(job->linear->gemm);
    size_t columns = rmk_gemm_chunk_columns(job->linear->gemm, chunk);
    float *tile = job->cpu->workers[worker].y_tile;

    for (uint32_t row = begin; row < end; row += RMK_GEMM_ROWS) {
        enum rmk_err err =
            rmk_cpu_linear_tile(job->cpu, job->linear, job->x, job->m, row, chunk, worker, tile);
        if (err != RMK_OK) {
            atomic_store(&job->err, (int)err);
            return;
        }
        store_tile(job, tile, row, first, columns);
    }
}

enum rmk_err rmk_cpu_linear(struct rmk_device *device, const struct rmk_linear *linear,
                            const void *x, uint32_t m, void *y, enum rmk_dtype y_dtype)
{
    struct rmk_cpu *cpu = rmk_cpu_of(device);
    struct linear_job job = {
        .cpu = cpu, .linear = linear, .x = x, .y = y, .y_dtype = y_dtype, .m = m};

    rmk_assert(y_dtype == RMK_F32 || y_dtype == device->info.act);
    if (m == 0) {
        return RMK_OK;
    }
    /* Some tasks for each thread; beyond that a chunk stays with one thread, so that its weights
     * are read once. */
    uint32_t chunks = rmk_gemm_chunk_count(linear->gemm);
    uint32_t tiles = (m + RMK_GEMM_ROWS - 1) / RMK_GEMM_ROWS;
    uint32_t groups = (4 * cpu->worker_count + chunks - 1) / chunks;
    groups = groups < tiles ? groups : tiles;
    uint32_t group_tiles = (tiles + groups - 1) / groups;
    job.group_rows = group_tiles * RMK_GEMM_ROWS;
    job.group_count = (tiles + group_tiles - 1) / group_tiles;
    double work = (double)tiles * RMK_GEMM_ROWS * linear->n * linear->k / 16.0;
    rmk_cpu_run(cpu, run_group, &job, chunks * job.group_count, work);
    return (enum rmk_err)atomic_load(&job.err);
}
