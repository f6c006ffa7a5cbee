/* The rows of the roofline that are forwards, at the size of LLaDA-V 8B, through kernels.h alone.
 *
 *     bench-gpu [--backend cuda] [--plugin FILE] [--dtype bf16|f16|f32] [--runs 10] [--only ROW]
 *               [--by-rows] [--small]
 *
 *     full      R1   3039 rows of one request, 64 read               H200: 47.9 ms
 *     block1    R3   32 queries of one request over 3039 keys        3.46 ms
 *     block16   R4   the same of 16 requests                         13.1 ms
 *     cached    R5   attention of block16 alone: keys and values     4.8 TB/s
 *     official  R6   a caption: tower, then 64 full forwards         0.307 pictures/s
 *     blk64     R7   16 captions: tower and full forward each, then 20 block steps of 64 queries
 *                    (three tokens commit in one): 13.5 pictures/s without the tower
 *     tower     R9   5 tiles through 26 blocks of SigLIP and the projector   3.40 ms
 *
 * R2 and R8 are fp8, which no backend computes yet: they are printed as absent, with their limits.
 * First comes the machine: its makers' peaks when the table knows it, and what a large product and
 * a large addition reach here. Then one JSON line a row: {"row", "id", "dtype", "device",
 * "ms_median", "ms_min", "limit_ms", "share"}; `share` is limit / median, with "pictures_per_s"
 * where a row counts those. Layers take turns with LAYER_SETS sets of weights and caches, which no
 * GPU's cache holds, so that the traffic is that of all layers with a fraction of the memory.
 * --small divides every size, to see that it runs: its shares mean nothing, and are left out.
 * --by-rows: not batch invariant, each number of rows with an algorithm that suits it.
 * compare.py beside this does the same work in PyTorch.
 */
#include <getopt.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/least.h"
#include "common/prng.h"
#include "kernels/kernels.h"
#include "model/dummy.h"
#include "tests/bench/gpu/limits.h"

enum {
    LAYER_SETS = 2,
    REQUESTS_MAX = 16,
    RUNS_MAX = 1000,
    CAPTION_RUNS_MAX = 3, /* whole captions take seconds */
    SQUARE = 8192,        /* of the product that shows the machine's FLOP/s */
    SMALL_SQUARE = 128,
};

struct sizes {
    uint32_t layers;
    uint32_t width;
    uint32_t heads;
    uint32_t ff;
    uint32_t vocab;
    uint32_t keys;    /* S */
    uint32_t queries; /* of a block step */
    uint32_t reads;
    uint32_t block;       /* queries of a step of blk64 */
    uint32_t steps;       /* of an official caption: one a token */
    uint32_t block_steps; /* of blk64: 64 tokens in threes, the first of them by the full forward */
    uint32_t tower_layers;
    uint32_t tower_width;
    uint32_t tower_heads;
    uint32_t tower_ff;
    uint32_t tile_rows;
    uint32_t tiles;
};

static const struct sizes full_size = {.layers = 32,
                                       .width = 4096,
                                       .heads = 32,
                                       .ff = 12288,
                                       .vocab = 126464,
                                       .keys = 3039,
                                       .queries = 32,
                                       .reads = 64,
                                       .block = 64,
                                       .steps = 64,
                                       .block_steps = 20,
                                       .tower_layers = 26,
                                       .tower_width = 1152,
                                       .tower_heads = 16,
                                       .tower_ff = 4304,
                                       .tile_rows = 729,
                                       .tiles = 5};

static const struct sizes small_size = {.layers = 2,
                                        .width = 64,
                                        .heads = 2,
                                        .ff = 96,
                                        .vocab = 500,
                                        .keys = 70,
                                        .queries = 4,
                                        .reads = 8,
                                        .block = 8,
                                        .steps = 2,
                                        .block_steps = 2,
                                        .tower_layers = 2,
                                        .tower_width = 72,
                                        .tower_heads = 1,
                                        .tower_ff = 80,
                                        .tile_rows = 9,
                                        .tiles = 2};

struct layer {
    struct rmk_linear *q;
    struct rmk_linear *k;
    struct rmk_linear *v;
    struct rmk_linear *out;
    struct rmk_linear *up; /* gate above up; the tower's fc1 */
    struct rmk_linear *down;
    void *keys; /* act [requests, S, D] */
    void *values;
};

struct bench {
    struct rmk_device *device;
    const struct rmk_ops *ops;
    struct sizes size;
    struct layer text[LAYER_SETS];
    struct layer tower[LAYER_SETS];
    struct rmk_linear *projector[2];
    struct rmk_linear *head;
    struct rmk_linear *square;
    float *x;
    float *delta;
    float *ones;
    void *normed;
    void *q;
    void *k;
    void *v;
    void *attended;
    void *up;
    void *hidden;
    float *cos;
    float *sin;
    uint32_t *positions;
    struct rmk_head_row *samples;
    struct rmk_head_result *results;
    bool small;
    uint32_t runs;
    const char *only; /* NULL: every row */
    struct limits_peak peak;
};

/* -- making
 * ------------------------------------------------------------------------------------------ */

static void check(enum rmk_err err, const char *what, const struct rmk_why *why)
{
    if (err != RMK_OK) {
        (void)fprintf(stderr, "bench-gpu: %s: %s: %s\n", what, rmk_err_name(err),
                      why != NULL ? why->text : "the device failed");
        exit(1);
    }
}

/* An op, in functions that have `bench`. */
#define RUN(call) ran(bench, (call), #call)

static void ran(const struct bench *bench, enum rmk_err err, const char *what)
{
    struct rmk_why why = {.text = "the device failed"};

    if (err != RMK_OK) {
        rmk_device_explain(bench->device, &why);
        check(err, what, &why);
    }
}

static size_t act_bytes(const struct bench *bench)
{
    return bench->device->info.act == RMK_F32 ? 4 : 2;
}

static void *take(struct bench *bench, size_t bytes)
{
    struct rmk_why why = {0};
    void *memory = NULL;

    check(bench->ops->alloc(bench->device, bytes, &memory, &why), "alloc", &why);
    return memory;
}

/* Dummy values, made on the device where it can. */
static struct rmk_linear *make_linear(struct bench *bench, uint32_t n, uint32_t k, bool bias)
{
    static uint64_t seed;
    const size_t count = (size_t)n * k;
    const bool on_device = bench->ops->dummy != NULL;
    struct rmk_why why = {0};
    struct rmk_linear *linear = NULL;
    uint16_t *weight =
        on_device ? take(bench, count * sizeof(*weight)) : malloc(count * sizeof(*weight));
    float *added = calloc(n, sizeof(*added));

    if (weight == NULL || added == NULL) {
        check(RMK_ELIMIT, "no memory for a weight", NULL);
    }
    seed++;
    if (on_device) {
        RUN(bench->ops->dummy(bench->device, seed, 0, k, n, k, weight));
    }
    for (size_t i = 0; !on_device && i < count; i++) {
        weight[i] = rmk_dummy_bits(seed, i);
    }
    const struct rmk_linear_source source = {.weight_host = on_device ? NULL : weight,
                                             .weight_device = on_device ? weight : NULL,
                                             .dtype = RMK_BF16,
                                             .ld = k,
                                             .n = n,
                                             .k = k,
                                             .bias_host = bias ? added : NULL};
    check(bench->ops->linear_create(bench->device, &source, &linear, &why), "linear_create", &why);
    if (on_device) {
        RUN(bench->ops->synchronize(bench->device, NULL));
        bench->ops->free(bench->device, weight);
    } else {
        free(weight);
    }
    free(added);
    return linear;
}

static void make_layer(struct bench *bench, struct layer *layer, uint32_t width, uint32_t up,
                       uint32_t down, bool bias)
{
    layer->q = make_linear(bench, width, width, bias);
    layer->k = make_linear(bench, width, width, bias);
    layer->v = make_linear(bench, width, width, bias);
    layer->out = make_linear(bench, width, width, bias);
    layer->up = make_linear(bench, up, width, bias);
    layer->down = make_linear(bench, width, down, bias);
}

static uint32_t square_of(const struct bench *bench)
{
    return bench->small ? SMALL_SQUARE : SQUARE;
}

static void make(struct bench *bench)
{
    const struct sizes *size = &bench->size;
    const uint32_t tower_rows = size->tiles * size->tile_rows;
    const uint32_t rows = rmk_most(rmk_most(size->keys, REQUESTS_MAX * size->block),
                                   rmk_most(tower_rows, square_of(bench)));
    const uint32_t reads = REQUESTS_MAX * size->block;
    const uint32_t width = rmk_most(size->width, size->tower_width);
    const size_t act = act_bytes(bench);
    const struct rmk_reserve reserve = {
        .rows_max = rows,
        .kv_rows_max = rmk_most(size->keys, size->tile_rows),
        .heads_max = rmk_most(size->heads, size->tower_heads),
        .head_width_max = 128,
        .inner_max = rmk_most(rmk_most(size->ff, size->tower_ff), square_of(bench)),
        .outer_max = 2 * rmk_most(size->ff, size->tower_ff),
        .head_rows_max = reads,
        .vocab = size->vocab};
    struct rmk_why why = {0};

    check(bench->ops->reserve(bench->device, &reserve, &why), "reserve", &why);
    for (int i = 0; i < LAYER_SETS; i++) {
        const size_t cache = (size_t)REQUESTS_MAX * size->keys * size->width * act;
        make_layer(bench, &bench->text[i], size->width, 2 * size->ff, size->ff, false);
        make_layer(bench, &bench->tower[i], size->tower_width, size->tower_ff, size->tower_ff,
                   true);
        bench->text[i].keys = take(bench, cache);
        bench->text[i].values = take(bench, cache);
    }
    bench->projector[0] = make_linear(bench, size->width, size->tower_width, true);
    bench->projector[1] = make_linear(bench, size->width, size->width, true);
    bench->head = make_linear(bench, size->vocab, size->width, false);
    bench->square = make_linear(bench, square_of(bench), square_of(bench), false);
    bench->x = take(bench, (size_t)rows * width * sizeof(float));
    bench->delta = take(bench, (size_t)rows * width * sizeof(float));
    bench->ones = take(bench, width * sizeof(float));
    bench->normed = take(bench, rows * width * act);
    bench->q = take(bench, rows * width * act);
    bench->k = take(bench, rows * width * act);
    bench->v = take(bench, rows * width * act);
    bench->attended = take(bench, rows * width * act);
    bench->up = take(bench, (size_t)rows * reserve.outer_max * act);
    bench->hidden = take(bench, (size_t)rows * reserve.inner_max * act);
    const size_t table = (size_t)size->keys * (size->width / size->heads / 2) * sizeof(float);
    bench->cos = take(bench, table);
    bench->sin = take(bench, table);
    bench->positions = calloc(rows, sizeof(*bench->positions));
    bench->samples = calloc(reads, sizeof(*bench->samples));
    bench->results = calloc(reads, sizeof(*bench->results));
    float *values = malloc((size_t)rows * width * sizeof(*values));
    if (bench->positions == NULL || bench->samples == NULL || bench->results == NULL ||
        values == NULL) {
        check(RMK_ELIMIT, "no memory", NULL);
    }
    for (size_t i = 0; i < (size_t)rows * width; i++) {
        values[i] = (float)(rmk_prng_unit53(rmk_prng_splitmix(7, i)) - 0.5);
    }
    RUN(bench->ops->upload(bench->device, bench->x, values, (size_t)rows * width * sizeof(float)));
    /* What the large product reads: zeros would draw less power and look faster. */
    const size_t square = (size_t)square_of(bench) * square_of(bench);
    for (size_t done = 0; done < square; done += (size_t)rows * width) {
        RUN(bench->ops->cast(bench->device, bench->x, (uint8_t *)bench->up + done * act,
                             square - done < (size_t)rows * width ? square - done
                                                                  : (size_t)rows * width));
    }
    for (uint32_t i = 0; i < width; i++) {
        values[i] = 1.0F;
    }
    RUN(bench->ops->upload(bench->device, bench->ones, values, width * sizeof(float)));
    free(values);
}

/* -- rows of the table
 * ------------------------------------------------------------------------------- */

static struct rmk_segment segment_of(const struct bench *bench, const struct layer *layer,
                                     uint32_t request, uint32_t rows)
{
    const size_t place = (size_t)request * bench->size.keys * bench->size.width * act_bytes(bench);

    return (struct rmk_segment){.row_begin = request * rows,
                                .row_count = rows,
                                .kv_count = bench->size.keys,
                                .k = (uint8_t *)layer->keys + place,
                                .v = (uint8_t *)layer->values + place};
}

/* `requests` requests with `queries` rows each through all layers, then `reads` rows of the head.
 */
static void text_forward(struct bench *bench, uint32_t requests, uint32_t queries, uint32_t reads)
{
    const struct rmk_ops *ops = bench->ops;
    struct rmk_device *device = bench->device;
    const struct sizes *size = &bench->size;
    const enum rmk_dtype act = device->info.act;
    const uint32_t rows = requests * queries;
    const uint32_t head_width = size->width / size->heads;
    const float scale = 1.0F / sqrtf((float)head_width);
    struct rmk_segment segments[REQUESTS_MAX];

    for (uint32_t row = 0; row < rows; row++) {
        bench->positions[row] = size->keys - queries + row % queries;
    }
    for (uint32_t i = 0; i < size->layers; i++) {
        const struct layer *layer = &bench->text[i % LAYER_SETS];
        for (uint32_t r = 0; r < requests; r++) {
            segments[r] = segment_of(bench, layer, r, queries);
        }
        RUN(ops->rmsnorm(device, bench->x, i == 0 ? NULL : bench->delta, bench->ones, 1e-5F,
                         bench->normed, rows, size->width));
        RUN(ops->linear(device, layer->q, bench->normed, rows, bench->q, act));
        RUN(ops->linear(device, layer->k, bench->normed, rows, bench->k, act));
        RUN(ops->linear(device, layer->v, bench->normed, rows, bench->v, act));
        RUN(ops->rope_kv(device, bench->q, bench->k, bench->v, bench->cos, bench->sin,
                         bench->positions, segments, requests, size->heads, size->heads,
                         head_width));
        RUN(ops->attention(device, bench->q, segments, requests, size->heads, size->heads,
                           head_width, scale, bench->attended));
        RUN(ops->linear(device, layer->out, bench->attended, rows, bench->delta, RMK_F32));
        RUN(ops->rmsnorm(device, bench->x, bench->delta, bench->ones, 1e-5F, bench->normed, rows,
                         size->width));
        RUN(ops->linear(device, layer->up, bench->normed, rows, bench->up, act));
        RUN(ops->swiglu(device, bench->up, bench->hidden, rows, size->ff));
        RUN(ops->linear(device, layer->down, bench->hidden, rows, bench->delta, RMK_F32));
    }
    RUN(ops->head(device, bench->head, bench->normed, NULL, reads, 0, size->vocab, NULL, 0,
                  bench->samples, bench->results));
}

static void run_full(struct bench *bench)
{
    text_forward(bench, 1, bench->size.keys, bench->size.reads);
}

static void run_block1(struct bench *bench)
{
    text_forward(bench, 1, bench->size.queries, bench->size.queries);
}

static void run_block16(struct bench *bench)
{
    text_forward(bench, REQUESTS_MAX, bench->size.queries, REQUESTS_MAX * bench->size.queries);
}

static void run_cached(struct bench *bench)
{
    const struct sizes *size = &bench->size;
    struct rmk_segment segments[REQUESTS_MAX];

    for (uint32_t i = 0; i < size->layers; i++) {
        for (uint32_t r = 0; r < REQUESTS_MAX; r++) {
            segments[r] = segment_of(bench, &bench->text[i % LAYER_SETS], r, size->queries);
        }
        RUN(bench->ops->attention(bench->device, bench->q, segments, REQUESTS_MAX, size->heads,
                                  size->heads, size->width / size->heads, 0.1F, bench->attended));
    }
}

static void run_tower(struct bench *bench)
{
    const struct rmk_ops *ops = bench->ops;
    struct rmk_device *device = bench->device;
    const struct sizes *size = &bench->size;
    const enum rmk_dtype act = device->info.act;
    const uint32_t rows = size->tiles * size->tile_rows;
    const uint32_t width = size->tower_width;
    const uint32_t head_width = width / size->tower_heads;
    struct rmk_segment segments[REQUESTS_MAX];

    for (uint32_t t = 0; t < size->tiles; t++) {
        const size_t place = (size_t)t * size->tile_rows * width * act_bytes(bench);
        segments[t] = (struct rmk_segment){.row_begin = t * size->tile_rows,
                                           .row_count = size->tile_rows,
                                           .kv_count = size->tile_rows,
                                           .k = (uint8_t *)bench->k + place,
                                           .v = (uint8_t *)bench->v + place};
    }
    for (uint32_t i = 0; i < size->tower_layers; i++) {
        const struct layer *layer = &bench->tower[i % LAYER_SETS];
        RUN(ops->layernorm(device, bench->x, i == 0 ? NULL : bench->delta, bench->ones, bench->ones,
                           1e-6F, bench->normed, rows, width));
        RUN(ops->linear(device, layer->q, bench->normed, rows, bench->q, act));
        RUN(ops->linear(device, layer->k, bench->normed, rows, bench->k, act));
        RUN(ops->linear(device, layer->v, bench->normed, rows, bench->v, act));
        RUN(ops->attention(device, bench->q, segments, size->tiles, size->tower_heads,
                           size->tower_heads, head_width, 1.0F / sqrtf((float)head_width),
                           bench->attended));
        RUN(ops->linear(device, layer->out, bench->attended, rows, bench->delta, RMK_F32));
        RUN(ops->layernorm(device, bench->x, bench->delta, bench->ones, bench->ones, 1e-6F,
                           bench->normed, rows, width));
        RUN(ops->linear(device, layer->up, bench->normed, rows, bench->hidden, act));
        RUN(ops->gelu(device, bench->hidden, (size_t)rows * size->tower_ff, RMK_GELU_TANH));
        RUN(ops->linear(device, layer->down, bench->hidden, rows, bench->delta, RMK_F32));
    }
    RUN(ops->cast(device, bench->x, bench->normed, (size_t)rows * width));
    RUN(ops->linear(device, bench->projector[0], bench->normed, rows, bench->q, act));
    RUN(ops->gelu(device, bench->q, (size_t)rows * size->width, RMK_GELU_ERF));
    RUN(ops->linear(device, bench->projector[1], bench->q, rows, bench->delta, RMK_F32));
}

static void run_official(struct bench *bench)
{
    run_tower(bench);
    for (uint32_t step = 0; step < bench->size.steps; step++) {
        run_full(bench);
    }
}

static void run_blk64(struct bench *bench)
{
    for (int request = 0; request < REQUESTS_MAX; request++) {
        run_tower(bench);
        run_full(bench);
    }
    for (uint32_t step = 0; step < bench->size.block_steps; step++) {
        text_forward(bench, REQUESTS_MAX, bench->size.block, REQUESTS_MAX * bench->size.block);
    }
}

static void run_product(struct bench *bench)
{
    RUN(bench->ops->linear(bench->device, bench->square, bench->up, square_of(bench), bench->hidden,
                           bench->device->info.act));
}

/* Three passes over keys or values as fp32: the largest arrays there are. */
static size_t sum_count(const struct bench *bench)
{
    return (size_t)REQUESTS_MAX * bench->size.keys * bench->size.width * act_bytes(bench) /
           sizeof(float);
}

static void run_sum(struct bench *bench)
{
    RUN(bench->ops->add(bench->device, bench->text[0].keys, bench->text[0].values,
                        sum_count(bench)));
}

/* -- timing
 * ------------------------------------------------------------------------------------------ */

static double now_ms(void)
{
    struct timespec time;

    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return 1e3 * (double)time.tv_sec + 1e-6 * (double)time.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Median and least of the runs. */
static void time_runs(struct bench *bench, uint32_t runs, void (*run)(struct bench *),
                      double *out_median, double *out_least)
{
    static double times[RUNS_MAX];
    struct rmk_why why = {0};

    for (uint32_t i = 0; i <= runs; i++) { /* the first warms up */
        const double begin = now_ms();
        run(bench);
        check(bench->ops->synchronize(bench->device, &why), "synchronize", &why);
        times[i > 0 ? i - 1 : 0] = now_ms() - begin;
    }
    qsort(times, runs, sizeof(times[0]), ascending);
    *out_median = times[runs / 2];
    *out_least = times[0];
}

static const char *dtype_of(const struct bench *bench)
{
    const enum rmk_dtype act = bench->device->info.act;

    return act == RMK_F32 ? "f32" : act == RMK_F16 ? "f16" : "bf16";
}

/* What the data sheet says, and what a product and a sum reach. The limits are the data sheet's
 * where there is one. */
static void measure_machine(struct bench *bench)
{
    const double side = square_of(bench);
    double product_ms = 0;
    double sum_ms = 0;
    double least = 0;

    time_runs(bench, bench->runs, run_product, &product_ms, &least);
    time_runs(bench, bench->runs, run_sum, &sum_ms, &least);
    const struct limits_peak measured = {
        .flops = 2 * side * side * side / product_ms * 1e3,
        .bytes = 3.0 * (double)sum_count(bench) * sizeof(float) / sum_ms * 1e3,
    };
    bench->peak = limits_peak_of(bench->device->info.description);
    (void)printf("{\"row\": \"machine\", \"dtype\": \"%s\", \"device\": \"%s\", "
                 "\"peak_tflops\": %.0f, \"peak_tbytes_per_s\": %.2f, \"measured_tflops\": %.3f, "
                 "\"measured_tbytes_per_s\": %.4f, \"limits_from\": \"%s\", \"slow_products\": "
                 "%u}\n",
                 dtype_of(bench), bench->device->info.description, bench->peak.flops * 1e-12,
                 bench->peak.bytes * 1e-12, measured.flops * 1e-12, measured.bytes * 1e-12,
                 bench->peak.flops > 0 ? "data sheet" : "measured",
                 bench->device->info.slow_products);
    (void)fflush(stdout);
    if (bench->peak.flops <= 0) {
        bench->peak = measured;
    }
}

struct row {
    const char *name;
    const char *id;
    void (*run)(struct bench *bench); /* NULL: absent */
    double limit_ms;
    double pictures; /* that a run captions; 0: it counts none */
};

static void measure(struct bench *bench, const struct row *row)
{
    double median = 0;
    double least = 0;

    if (bench->only != NULL && strcmp(bench->only, row->name) != 0) {
        return;
    }
    (void)printf("{\"row\": \"%s\", \"id\": \"%s\", \"dtype\": \"%s\", \"device\": \"%s\"",
                 row->name, row->id, dtype_of(bench), bench->device->info.description);
    if (row->run == NULL) {
        (void)printf(", \"absent\": \"fp8 products\"");
    } else {
        const bool slow = row->pictures > 0 && bench->runs > CAPTION_RUNS_MAX;
        time_runs(bench, slow ? CAPTION_RUNS_MAX : bench->runs, row->run, &median, &least);
        (void)printf(", \"ms_median\": %.3f, \"ms_min\": %.3f", median, least);
        if (row->pictures > 0) {
            (void)printf(", \"pictures_per_s\": %.4f", row->pictures / median * 1e3);
        }
    }
    /* The limits are those of the full size in 16 bits. */
    if (!bench->small && bench->device->info.act != RMK_F32) {
        (void)printf(", \"limit_ms\": %.3f", row->limit_ms);
        if (row->pictures > 0) {
            (void)printf(", \"limit_pictures_per_s\": %.4f", row->pictures / row->limit_ms * 1e3);
        }
        if (row->run != NULL) {
            (void)printf(", \"share\": %.3f", row->limit_ms / median);
        }
    }
    (void)printf(", \"slow_products\": %u}\n", bench->device->info.slow_products);
    (void)fflush(stdout);
}

static void measure_rows(struct bench *bench)
{
    const struct sizes *size = &bench->size;
    const struct limits_text text = {
        .layers = size->layers, .width = size->width, .ff = size->ff, .vocab = size->vocab};
    const struct limits_tower tower = {.layers = size->tower_layers,
                                       .width = size->tower_width,
                                       .ff = size->tower_ff,
                                       .rows = size->tile_rows,
                                       .projected = size->width};
    const struct limits_peak *peak = &bench->peak;
    const double full = 1e3 * limits_forward(peak, &text, 1, size->keys, size->keys, size->reads);
    const double block16 = 1e3 * limits_forward(peak, &text, REQUESTS_MAX, size->queries,
                                                size->keys, REQUESTS_MAX * size->queries);
    const double step = 1e3 * limits_forward(peak, &text, REQUESTS_MAX, size->block, size->keys,
                                             REQUESTS_MAX * size->block);
    const double eyes = 1e3 * limits_tower(peak, &tower, size->tiles);
    const double captions = REQUESTS_MAX * (eyes + full) + size->block_steps * step;
    const struct row rows[] = {
        {"full", "R1", run_full, full, 0},
        {"full_fp8", "R2", NULL, full / 2, 0},
        {"block1", "R3", run_block1,
         1e3 * limits_forward(peak, &text, 1, size->queries, size->keys, size->queries), 0},
        {"block16", "R4", run_block16, block16, 0},
        {"cached", "R5", run_cached, 1e3 * limits_cached(peak, &text, REQUESTS_MAX, size->keys), 0},
        {"tower", "R9", run_tower, eyes, 0},
        {"official", "R6", run_official, eyes + size->steps * full, 1},
        {"blk64", "R7", run_blk64, captions, REQUESTS_MAX},
        {"blk64_fp8", "R8", NULL, captions / 2, REQUESTS_MAX},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        measure(bench, &rows[i]);
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"backend", required_argument, NULL, 'b'}, {"plugin", required_argument, NULL, 'p'},
        {"dtype", required_argument, NULL, 'd'},   {"runs", required_argument, NULL, 'n'},
        {"small", no_argument, NULL, 's'},         {"by-rows", no_argument, NULL, 'r'},
        {"only", required_argument, NULL, 'o'},    {NULL, 0, NULL, 0},
    };
    struct bench bench = {.size = full_size, .runs = 10};
    struct rmk_device_options device = {.backend = "cuda", .act = RMK_BF16};
    struct rmk_why why = {0};
    bool good = true;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'b') {
            device.backend = optarg;
        } else if (option == 'p') {
            device.plugin = optarg;
        } else if (option == 'd') {
            device.act = strcmp(optarg, "f32") == 0   ? RMK_F32
                         : strcmp(optarg, "f16") == 0 ? RMK_F16
                                                      : RMK_BF16;
            good = good && (device.act != RMK_BF16 || strcmp(optarg, "bf16") == 0);
        } else if (option == 'n') {
            bench.runs = (uint32_t)strtoul(optarg, NULL, 10);
        } else if (option == 'o') {
            bench.only = optarg;
        } else if (option == 'r') {
            device.by_rows = true;
        } else if (option == 's') {
            bench.small = true;
            bench.size = small_size;
        } else {
            good = false;
        }
    }
    if (!good || bench.runs == 0 || bench.runs > RUNS_MAX) {
        (void)fprintf(stderr,
                      "usage: bench-gpu [--backend cuda|cpu|ref] [--plugin FILE] "
                      "[--dtype bf16|f16|f32] [--runs N] [--only ROW] [--by-rows] [--small]\n");
        return 2;
    }
    check(rmk_device_create(&device, &bench.device, &why), "device", &why);
    bench.ops = bench.device->ops;
    make(&bench);
    measure_machine(&bench);
    measure_rows(&bench);
    /* The device's memory goes with the process. */
    return 0;
}
