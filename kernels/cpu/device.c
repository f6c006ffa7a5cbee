#include "kernels/cpu/cpu.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/backend.h"
#include "kernels/convert.h"
#include "kernels/host.h"

/* About ten microseconds of one core: less than this is not worth waking another for. */
#define WORK_ALONE 20000.0

void rmk_cpu_run(struct rmk_cpu *cpu, rmk_pool_task *function, void *context, uint32_t task_count,
                 double work)
{
    if (work >= WORK_ALONE) {
        rmk_pool_run(cpu->pool, function, context, task_count);
        return;
    }
    for (uint32_t task = 0; task < task_count; task++) {
        function(context, task, 0);
    }
}

enum rmk_err rmk_cpu_reserve_tiles(struct rmk_cpu *cpu, uint32_t k, struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;

    if (k <= cpu->x_tile_k) {
        return RMK_OK;
    }
    for (uint32_t i = 0; i < cpu->worker_count; i++) {
        struct rmk_cpu_worker *worker = &cpu->workers[i];
        void *tile;
        RMK_TRY(rmk_host_alloc(NULL, sizeof(float) * RMK_GEMM_ROWS * k, &tile, why));
        rmk_host_free(NULL, worker->x_tile);
        worker->x_tile = tile;
    }
    cpu->x_tile_k = k;
out:
    return err;
}

static void release_reserve(struct rmk_cpu *cpu)
{
    for (uint32_t i = 0; i < cpu->worker_count; i++) {
        struct rmk_cpu_worker *worker = &cpu->workers[i];
        rmk_host_free(NULL, worker->attend_k);
        rmk_host_free(NULL, worker->attend_v);
        rmk_host_free(NULL, worker->attend_scratch);
        worker->attend_k = NULL;
        worker->attend_v = NULL;
        worker->attend_scratch = NULL;
    }
    free(cpu->partials);
    cpu->partials = NULL;
    cpu->partial_count = 0;
    cpu->reserve = (struct rmk_reserve){0};
}

static enum rmk_err reserve(struct rmk_device *device, const struct rmk_reserve *wanted,
                            struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;
    struct rmk_cpu *cpu = rmk_cpu_of(device);
    size_t keys =
        ((size_t)wanted->kv_rows_max + RMK_ATTEND_KEYS - 1) / RMK_ATTEND_KEYS * RMK_ATTEND_KEYS;
    size_t width = ((size_t)wanted->head_width_max + 15) / 16 * 16;
    size_t chunks = (size_t)wanted->vocab / (RMK_GEMM_COLUMNS_MAX / 2) + 1;

    release_reserve(cpu);
    RMK_TRY(rmk_cpu_reserve_tiles(cpu, wanted->inner_max, why));
    for (uint32_t i = 0; i < cpu->worker_count; i++) {
        struct rmk_cpu_worker *worker = &cpu->workers[i];
        size_t scratch = rmk_attend_scratch_bytes(wanted->head_width_max);
        RMK_TRY(rmk_host_alloc(device, keys * width * sizeof(float), &worker->attend_k, why));
        RMK_TRY(rmk_host_alloc(device, keys * width * sizeof(float), &worker->attend_v, why));
        RMK_TRY(rmk_host_alloc(device, scratch, &worker->attend_scratch, why));
    }
    cpu->partial_count = chunks * wanted->head_rows_max;
    cpu->partials = calloc(cpu->partial_count + 1, sizeof(*cpu->partials));
    if (cpu->partials == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for %u head rows", wanted->head_rows_max);
        goto out;
    }
    cpu->reserve = *wanted;
out:
    if (err != RMK_OK) {
        release_reserve(cpu);
    }
    return err;
}

static const struct rmk_ops ops = {
    .alloc = rmk_host_alloc,
    .free = rmk_host_free,
    .upload = rmk_host_upload,
    .download = rmk_host_download,
    .reserve = reserve,
    .synchronize = rmk_host_synchronize,
    .linear_create = rmk_cpu_linear_create,
    .linear_destroy = rmk_cpu_linear_destroy,
    .linear = rmk_cpu_linear,
    .embed = rmk_host_embed,
    .copy_rows = rmk_host_copy_rows,
    .add = rmk_cpu_add,
    .add_cyclic = rmk_cpu_add_cyclic,
    .cast = rmk_cpu_cast,
    .rmsnorm = rmk_cpu_rmsnorm,
    .layernorm = rmk_cpu_layernorm,
    .rope_kv = rmk_cpu_rope_kv,
    .attention = rmk_cpu_attention,
    .swiglu = rmk_cpu_swiglu,
    .gelu = rmk_cpu_gelu,
    .patches = rmk_cpu_patches,
    .bilinear = rmk_cpu_bilinear,
    .pool2x2 = rmk_cpu_pool2x2,
    .head = rmk_cpu_head,
};

static void destroy(struct rmk_device *device)
{
    struct rmk_cpu *cpu = rmk_cpu_of(device);

    if (cpu->workers != NULL) {
        release_reserve(cpu);
        for (uint32_t i = 0; i < cpu->worker_count; i++) {
            rmk_host_free(device, cpu->workers[i].x_tile);
            rmk_host_free(device, cpu->workers[i].y_tile);
            rmk_host_free(device, cpu->workers[i].y_tile_uncond);
        }
        free(cpu->workers);
    }
    rmk_gemm_engine_destroy(cpu->engine);
    rmk_pool_destroy(cpu->pool);
    free(cpu);
}

static uint32_t core_count(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) != 0) {
        return 1;
    }
    return (uint32_t)CPU_COUNT(&set);
}

static enum rmk_err create_workers(struct rmk_cpu *cpu, struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;
    size_t bytes = sizeof(float) * RMK_GEMM_ROWS * RMK_GEMM_COLUMNS_MAX;

    cpu->workers = calloc(cpu->worker_count, sizeof(*cpu->workers));
    if (cpu->workers == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for %u workers", cpu->worker_count);
    }
    for (uint32_t i = 0; i < cpu->worker_count; i++) {
        void *tile;
        RMK_TRY(rmk_host_alloc(NULL, bytes, &tile, why));
        cpu->workers[i].y_tile = tile;
        RMK_TRY(rmk_host_alloc(NULL, bytes, &tile, why));
        cpu->workers[i].y_tile_uncond = tile;
    }
out:
    return err;
}

static enum rmk_err create(const struct rmk_device_options *options, struct rmk_device **out_device,
                           struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;
    struct rmk_cpu *cpu;

    if (options->act != RMK_F32 && options->act != RMK_BF16) {
        return rmk_fail(why, RMK_EINVAL, "backend cpu computes in f32 or bf16 only");
    }
    cpu = calloc(1, sizeof(*cpu));
    if (cpu == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for a device");
    }
    cpu->device.ops = &ops;
    cpu->device.info.backend = rmk_backend_cpu.name;
    cpu->device.info.act = options->act;
    cpu->worker_count = options->threads != 0 ? options->threads : core_count();
    RMK_TRY(rmk_isa_choose(&cpu->isa, why));
    cpu->loops = cpu->isa.loops;
    RMK_TRY(create_workers(cpu, why));
    RMK_TRY(rmk_pool_create(cpu->worker_count, &cpu->pool, why));
    RMK_TRY(
        rmk_gemm_engine_create(cpu->worker_count, cpu->isa.onednn, cpu->loops, &cpu->engine, why));
    (void)snprintf(cpu->device.info.description, sizeof(cpu->device.info.description),
                   "cpu %s, %s, %u thread%s", cpu->loops->name, rmk_gemm_engine_name(cpu->engine),
                   cpu->worker_count, cpu->worker_count == 1 ? "" : "s");
    rmk_host_memory(&cpu->device.info);
    *out_device = &cpu->device;
    cpu = NULL;
out:
    if (cpu != NULL) {
        destroy(&cpu->device);
    }
    return err;
}

const struct rmk_backend rmk_backend_cpu = {
    .name = "cpu",
    .create = create,
    .destroy = destroy,
};
