#include "kernels/cpu/gemm.h"

#include <dnnl.h>
#include <omp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/host.h"

/* One tile product, compiled by oneDNN, and each worker's views on its arguments. Layers of one
 * shape share it.
 */
struct shape {
    struct shape *next;
    uint32_t k;
    uint32_t columns;
    enum rmk_dtype dtype;
    dnnl_primitive_t primitive;
    dnnl_memory_desc_t plain;  /* the chunk's rows as they come: [columns, k] */
    dnnl_memory_desc_t packed; /* as the primitive wants them */
    size_t packed_bytes;
    dnnl_memory_t *x; /* [worker_count] */
    dnnl_memory_t *y;
    dnnl_memory_t *scratch;
    void *scratch_memory;
};

struct rmk_gemm_engine {
    uint32_t worker_count;
    const struct rmk_loops *loops; /* of our own products; NULL: oneDNN, all below */
    dnnl_engine_t engine;
    dnnl_stream_t *streams; /* [worker_count] */
    struct shape *shapes;
    char name[32];
};

struct rmk_gemm {
    struct rmk_gemm_engine *engine;
    uint32_t k;
    uint32_t columns;
    uint32_t rest; /* columns of the last chunk */
    uint32_t chunk_count;
    char *memory;  /* the packed chunks */
    size_t stride; /* bytes from one chunk to the next */
    struct shape *shape;
    struct shape *last;    /* the last chunk's; the same one if it is full */
    dnnl_memory_t *chunks; /* [chunk_count]; NULL without oneDNN */
};

/* oneDNN was built on OpenMP; with one thread it opens no parallel region and stays on the caller.
 */
static int enter_single_thread(void)
{
    int before = omp_get_max_threads();

    omp_set_num_threads(1);
    return before;
}

static void leave_single_thread(int before)
{
    omp_set_num_threads(before);
}

static enum rmk_err check(dnnl_status_t status, const char *what, struct rmk_why *why)
{
    if (status == dnnl_success) {
        return RMK_OK;
    }
    enum rmk_err err = status == dnnl_out_of_memory ? RMK_ELIMIT : RMK_EINTERNAL;
    return rmk_fail(why, err, "oneDNN cannot %s: status %d", what, (int)status);
}

#define DNNL_TRY(expression, what) RMK_TRY(check((expression), (what), why))

static dnnl_data_type_t type_of(enum rmk_dtype dtype)
{
    return dtype == RMK_BF16 ? dnnl_bf16 : dnnl_f32;
}

static void destroy_views(dnnl_memory_t *views, uint32_t count)
{
    for (uint32_t i = 0; views != NULL && i < count; i++) {
        if (views[i] != NULL) {
            (void)dnnl_memory_destroy(views[i]);
        }
    }
    free(views);
}

static void shape_destroy(struct shape *shape, uint32_t worker_count)
{
    if (shape == NULL) {
        return;
    }
    destroy_views(shape->x, worker_count);
    destroy_views(shape->y, worker_count);
    destroy_views(shape->scratch, worker_count);
    rmk_host_free(NULL, shape->scratch_memory);
    if (shape->primitive != NULL) {
        (void)dnnl_primitive_destroy(shape->primitive);
    }
    free(shape);
}

static enum rmk_err create_views(struct rmk_gemm_engine *engine, const dnnl_memory_desc_t *desc,
                                 dnnl_memory_t **out_views, struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;

    *out_views = calloc(engine->worker_count, sizeof(**out_views));
    if (*out_views == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for a GEMM's views");
    }
    for (uint32_t i = 0; i < engine->worker_count; i++) {
        DNNL_TRY(dnnl_memory_create(&(*out_views)[i], desc, engine->engine, DNNL_MEMORY_NONE),
                 "make a view");
    }
out:
    return err;
}

static enum rmk_err compile(struct rmk_gemm_engine *engine, struct shape *shape,
                            struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t primitive_desc = NULL;
    dnnl_memory_desc_t x;
    dnnl_memory_desc_t w;
    dnnl_memory_desc_t y;
    dnnl_matmul_desc_t matmul;
    dnnl_data_type_t type = type_of(shape->dtype);
    dnnl_dims_t x_dims = {RMK_GEMM_ROWS, shape->k};
    dnnl_dims_t w_dims = {shape->k, shape->columns};
    dnnl_dims_t y_dims = {RMK_GEMM_ROWS, shape->columns};

    DNNL_TRY(dnnl_memory_desc_init_by_tag(&x, 2, x_dims, type, dnnl_ab), "describe x");
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&w, 2, w_dims, type, dnnl_format_tag_any), "describe w");
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&y, 2, y_dims, dnnl_f32, dnnl_ab), "describe y");
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&shape->plain, 2, w_dims, type, dnnl_ba), "describe W");
    DNNL_TRY(dnnl_primitive_attr_create(&attr), "make attributes");
    DNNL_TRY(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user),
             "set the scratchpad mode");
    DNNL_TRY(dnnl_matmul_desc_init(&matmul, &x, &w, NULL, &y), "describe a product");
    DNNL_TRY(dnnl_primitive_desc_create(&primitive_desc, &matmul, attr, engine->engine, NULL),
             "multiply this type on this processor");
    DNNL_TRY(dnnl_primitive_create(&shape->primitive, primitive_desc), "compile a product");

    shape->packed = *dnnl_primitive_desc_query_md(primitive_desc, dnnl_query_weights_md, 0);
    shape->packed_bytes = dnnl_memory_desc_get_size(&shape->packed);
    const dnnl_memory_desc_t *scratch =
        dnnl_primitive_desc_query_md(primitive_desc, dnnl_query_scratchpad_md, 0);
    size_t scratch_bytes = (dnnl_memory_desc_get_size(scratch) + 63) / 64 * 64;

    RMK_TRY(create_views(engine, &x, &shape->x, why));
    RMK_TRY(create_views(engine, &y, &shape->y, why));
    RMK_TRY(create_views(engine, scratch, &shape->scratch, why));
    RMK_TRY(
        rmk_host_alloc(NULL, scratch_bytes * engine->worker_count, &shape->scratch_memory, why));
    for (uint32_t i = 0; i < engine->worker_count && scratch_bytes > 0; i++) {
        DNNL_TRY(dnnl_memory_set_data_handle(shape->scratch[i],
                                             (char *)shape->scratch_memory + i * scratch_bytes),
                 "place a scratchpad");
    }
out:
    (void)dnnl_primitive_desc_destroy(primitive_desc);
    (void)dnnl_primitive_attr_destroy(attr);
    return err;
}

static enum rmk_err find_shape(struct rmk_gemm_engine *engine, uint32_t k, uint32_t columns,
                               enum rmk_dtype dtype, struct shape **out_shape, struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;
    struct shape *shape;

    for (shape = engine->shapes; shape != NULL; shape = shape->next) {
        if (shape->k == k && shape->columns == columns && shape->dtype == dtype) {
            *out_shape = shape;
            return RMK_OK;
        }
    }
    shape = calloc(1, sizeof(*shape));
    if (shape == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for a GEMM shape");
    }
    shape->k = k;
    shape->columns = columns;
    shape->dtype = dtype;
    RMK_TRY(compile(engine, shape, why));
    shape->next = engine->shapes;
    engine->shapes = shape;
    *out_shape = shape;
    shape = NULL;
out:
    shape_destroy(shape, engine->worker_count);
    return err;
}

enum rmk_err rmk_gemm_engine_create(uint32_t worker_count, bool onednn,
                                    const struct rmk_loops *loops,
                                    struct rmk_gemm_engine **out_engine, struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;
    struct rmk_gemm_engine *engine = calloc(1, sizeof(*engine));

    if (engine == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for a GEMM engine");
    }
    engine->worker_count = worker_count;
    if (!onednn) {
        engine->loops = loops;
        (void)snprintf(engine->name, sizeof(engine->name), "own products");
        *out_engine = engine;
        return RMK_OK;
    }
    engine->streams = calloc(worker_count, sizeof(*engine->streams));
    if (engine->streams == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for oneDNN");
        goto out;
    }
    DNNL_TRY(dnnl_engine_create(&engine->engine, dnnl_cpu, 0), "start");
    for (uint32_t i = 0; i < worker_count; i++) {
        DNNL_TRY(dnnl_stream_create(&engine->streams[i], engine->engine, dnnl_stream_default_flags),
                 "make a stream");
    }
    const dnnl_version_t *version = dnnl_version();
    (void)snprintf(engine->name, sizeof(engine->name), "oneDNN %d.%d.%d", version->major,
                   version->minor, version->patch);
    *out_engine = engine;
    engine = NULL;
out:
    rmk_gemm_engine_destroy(engine);
    return err;
}

void rmk_gemm_engine_destroy(struct rmk_gemm_engine *engine)
{
    if (engine == NULL) {
        return;
    }
    while (engine->shapes != NULL) {
        struct shape *shape = engine->shapes;
        engine->shapes = shape->next;
        shape_destroy(shape, engine->worker_count);
    }
    for (uint32_t i = 0; engine->streams != NULL && i < engine->worker_count; i++) {
        if (engine->streams[i] != NULL) {
            (void)dnnl_stream_destroy(engine->streams[i]);
        }
    }
    free(engine->streams);
    if (engine->engine != NULL) {
        (void)dnnl_engine_destroy(engine->engine);
    }
    free(engine);
}

const char *rmk_gemm_engine_name(const struct rmk_gemm_engine *engine)
{
    return engine->name;
}

/* Wide chunks make the products a little faster, narrow ones feed more threads: narrow for narrow
 * layers. */
static uint32_t columns_for(uint32_t n)
{
    uint32_t columns = n >= 2048 ? RMK_GEMM_COLUMNS_MAX : RMK_GEMM_COLUMNS_MAX / 2;

    return n < columns ? n : columns;
}

/* Where oneDNN finds the chunks. */
static enum rmk_err create_chunks(struct rmk_gemm *gemm, struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;

    gemm->chunks = calloc(gemm->chunk_count, sizeof(*gemm->chunks));
    if (gemm->chunks == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for %u chunks of a GEMM", gemm->chunk_count);
    }
    for (uint32_t i = 0; i < gemm->chunk_count; i++) {
        const struct shape *shape = i + 1 < gemm->chunk_count ? gemm->shape : gemm->last;
        DNNL_TRY(dnnl_memory_create(&gemm->chunks[i], &shape->packed, gemm->engine->engine,
                                    gemm->memory + i * gemm->stride),
                 "place a weight");
    }
out:
    return err;
}

static size_t panel_bytes(uint32_t columns, uint32_t k)
{
    size_t panels = ((size_t)columns + RMK_PRODUCT_PANEL - 1) / RMK_PRODUCT_PANEL;

    return panels * RMK_PRODUCT_PANEL * k * sizeof(float);
}

enum rmk_err rmk_gemm_create(struct rmk_gemm_engine *engine, uint32_t n, uint32_t k,
                             enum rmk_dtype dtype, struct rmk_gemm **out_gemm, struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;
    int threads = enter_single_thread();
    struct rmk_gemm *gemm = calloc(1, sizeof(*gemm));
    size_t last_bytes;
    void *memory;

    rmk_assert(n > 0);
    rmk_assert(k > 0);
    if (gemm == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for a GEMM");
        goto out;
    }
    gemm->engine = engine;
    gemm->k = k;
    gemm->columns = columns_for(n);
    gemm->chunk_count = (n + gemm->columns - 1) / gemm->columns;
    gemm->rest = n - (gemm->chunk_count - 1) * gemm->columns;
    if (engine->loops != NULL) {
        rmk_assert(dtype == RMK_F32);
        gemm->stride = panel_bytes(gemm->columns, k);
        last_bytes = panel_bytes(gemm->rest, k);
    } else {
        RMK_TRY(find_shape(engine, k, gemm->columns, dtype, &gemm->shape, why));
        RMK_TRY(find_shape(engine, k, gemm->rest, dtype, &gemm->last, why));
        gemm->stride = (gemm->shape->packed_bytes + 63) / 64 * 64;
        last_bytes = gemm->last->packed_bytes;
    }
    RMK_TRY(
        rmk_host_alloc(NULL, gemm->stride * (gemm->chunk_count - 1) + last_bytes, &memory, why));
    gemm->memory = memory;
    if (engine->loops == NULL) {
        RMK_TRY(create_chunks(gemm, why));
    }
    *out_gemm = gemm;
    gemm = NULL;
out:
    rmk_gemm_destroy(gemm);
    leave_single_thread(threads);
    return err;
}

void rmk_gemm_destroy(struct rmk_gemm *gemm)
{
    if (gemm == NULL) {
        return;
    }
    destroy_views(gemm->chunks, gemm->chunk_count);
    rmk_host_free(NULL, gemm->memory);
    free(gemm);
}

uint32_t rmk_gemm_chunk_count(const struct rmk_gemm *gemm)
{
    return gemm->chunk_count;
}

uint32_t rmk_gemm_chunk_columns(const struct rmk_gemm *gemm, uint32_t chunk)
{
    return chunk + 1 < gemm->chunk_count ? gemm->columns : gemm->rest;
}

uint32_t rmk_gemm_columns(const struct rmk_gemm *gemm)
{
    return gemm->columns;
}

static struct shape *shape_of(const struct rmk_gemm *gemm, uint32_t chunk)
{
    return chunk + 1 < gemm->chunk_count ? gemm->shape : gemm->last;
}

/* The memory is zeroed, which pads the last panel. */
static void pack_panels(struct rmk_gemm *gemm, uint32_t chunk, const float *rows)
{
    float *panels = (float *)(void *)(gemm->memory + chunk * gemm->stride);

    for (size_t column = 0; column < rmk_gemm_chunk_columns(gemm, chunk); column++) {
        float *target = panels + column / RMK_PRODUCT_PANEL * RMK_PRODUCT_PANEL * gemm->k +
                        column % RMK_PRODUCT_PANEL;
        for (size_t i = 0; i < gemm->k; i++) {
            target[i * RMK_PRODUCT_PANEL] = rows[column * gemm->k + i];
        }
    }
}

static enum rmk_err pack_onednn(struct rmk_gemm *gemm, uint32_t worker, uint32_t chunk,
                                const void *rows)
{
    enum rmk_err err = RMK_OK;
    struct rmk_why *why = NULL; /* the caller has a better sentence */
    dnnl_memory_t plain = NULL;
    dnnl_primitive_desc_t primitive_desc = NULL;
    dnnl_primitive_t primitive = NULL;
    struct shape *shape = shape_of(gemm, chunk);
    dnnl_engine_t engine = gemm->engine->engine;
    int threads = enter_single_thread();

    DNNL_TRY(dnnl_memory_create(&plain, &shape->plain, engine, (void *)(uintptr_t)rows), "view");
    DNNL_TRY(dnnl_reorder_primitive_desc_create(&primitive_desc, &shape->plain, engine,
                                                &shape->packed, engine, NULL),
             "pack");
    DNNL_TRY(dnnl_primitive_create(&primitive, primitive_desc), "pack");
    dnnl_exec_arg_t arguments[] = {
        {DNNL_ARG_FROM, plain},
        {DNNL_ARG_TO, gemm->chunks[chunk]},
    };
    DNNL_TRY(dnnl_primitive_execute(primitive, gemm->engine->streams[worker], 2, arguments),
             "pack");
out:
    (void)dnnl_primitive_destroy(primitive);
    (void)dnnl_primitive_desc_destroy(primitive_desc);
    (void)dnnl_memory_destroy(plain);
    leave_single_thread(threads);
    return err;
}

enum rmk_err rmk_gemm_pack(struct rmk_gemm *gemm, uint32_t worker, uint32_t chunk, const void *rows)
{
    if (gemm->engine->loops != NULL) {
        pack_panels(gemm, chunk, rows);
        return RMK_OK;
    }
    return pack_onednn(gemm, worker, chunk, rows);
}

enum rmk_err rmk_gemm_run(const struct rmk_gemm *gemm, uint32_t worker, uint32_t chunk,
                          const void *x, float *y)
{
    if (gemm->engine->loops != NULL) {
        const void *panels = gemm->memory + chunk * gemm->stride;
        gemm->engine->loops->product(x, panels, gemm->k, rmk_gemm_chunk_columns(gemm, chunk), y);
        return RMK_OK;
    }
    struct shape *shape = shape_of(gemm, chunk);
    int threads = enter_single_thread();

    (void)dnnl_memory_set_data_handle(shape->x[worker], (void *)(uintptr_t)x);
    (void)dnnl_memory_set_data_handle(shape->y[worker], y);
    dnnl_exec_arg_t arguments[] = {
        {DNNL_ARG_SRC, shape->x[worker]},
        {DNNL_ARG_WEIGHTS, gemm->chunks[chunk]},
        {DNNL_ARG_DST, shape->y[worker]},
        {DNNL_ARG_SCRATCHPAD, shape->scratch[worker]},
    };
    dnnl_status_t status =
        dnnl_primitive_execute(shape->primitive, gemm->engine->streams[worker], 4, arguments);
    leave_single_thread(threads);
    return status == dnnl_success ? RMK_OK : RMK_EINTERNAL;
}
