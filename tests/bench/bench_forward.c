/* One full forward of a random model through kernels.h and nothing else: what bench_forward.py
 * compares with PyTorch.
 *
 *     bench-forward --dtype f32|bf16 [--threads 2] [--runs 5] [--rows 1000]
 *                   [--head-rows 128] [--stages]
 *
 * Width 1024, 8 layers, 16 heads, ff 4096, vocabulary 126464. After one run that warms up, prints
 * one JSON line {"dtype", "seconds", "cpu_seconds"} a run; --stages adds where the last one's time
 * went.
 */
#include <getopt.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/prng.h"
#include "kernels/kernels.h"

enum {
    WIDTH = 1024,
    LAYERS = 8,
    HEADS = 16,
    HEAD_WIDTH = WIDTH / HEADS,
    FF = 4096,
    VOCAB = 126464,
};

enum stage {
    NORM = 0,
    QKV,
    ROPE,
    ATTENTION,
    OUT,
    GATE_UP,
    SWIGLU,
    DOWN,
    HEAD,
    STAGE_COUNT,
};

static const char *const stage_names[STAGE_COUNT] = {
    "norm", "qkv", "rope", "attention", "out", "gate_up", "swiglu", "down", "head"};

struct layer {
    struct rmk_linear *q;
    struct rmk_linear *k;
    struct rmk_linear *v;
    struct rmk_linear *out;
    struct rmk_linear *gate_up;
    struct rmk_linear *down;
};

struct bench {
    struct rmk_device *device;
    const struct rmk_ops *ops;
    struct layer layers[LAYERS];
    struct rmk_linear *head;
    uint32_t rows;
    uint32_t head_rows;
    float *ones;
    float *cos;
    float *sin;
    uint32_t *positions;
    struct rmk_head_row *head_samples;
    struct rmk_head_result *results;
    float *input;
    float *x;     /* residual */
    float *delta; /* what a layer adds to it */
    float *head_x;
    uint32_t *head_from;
    void *normed;
    void *q;
    void *k;
    void *v;
    void *k_cache;
    void *v_cache;
    void *attended;
    void *gate_up;
    void *hidden;
    double seconds[STAGE_COUNT];
    double cpu_seconds[STAGE_COUNT];
    double mark;
    double cpu_mark;
};

static double clock_seconds(clockid_t clock)
{
    struct timespec time;

    (void)clock_gettime(clock, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static double now(void)
{
    return clock_seconds(CLOCK_MONOTONIC);
}

/* Of all threads: what remains comparable on a machine that others use too. */
static double cpu_now(void)
{
    return clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
}

static void check(enum rmk_err err, const struct rmk_why *why)
{
    if (err != RMK_OK) {
        (void)fprintf(stderr, "bench-forward: %s: %s\n", rmk_err_name(err), why->text);
        exit(1);
    }
}

static void *take(struct bench *bench, size_t bytes)
{
    struct rmk_why why = {0};
    void *memory = NULL;

    check(bench->ops->alloc(bench->device, bytes, &memory, &why), &why);
    return memory;
}

static struct rmk_linear *make_linear(struct bench *bench, uint32_t n, uint32_t k, uint64_t seed)
{
    struct rmk_why why = {0};
    struct rmk_linear *linear = NULL;
    uint16_t *weight = malloc((size_t)n * k * sizeof(*weight));

    if (weight == NULL) {
        check(RMK_ELIMIT, &why);
    }
    for (size_t i = 0; i < (size_t)n * k; i++) {
        /* Uniform with the variance 1 / k, as bf16: the sign and size of a good random model. */
        float value =
            (float)(rmk_prng_unit24(rmk_prng_splitmix(seed, i)) - 0.5F) * sqrtf(12.0F / (float)k);
        uint32_t bits;
        memcpy(&bits, &value, sizeof(bits));
        weight[i] = (uint16_t)(bits >> 16);
    }
    struct rmk_linear_source source = {
        .weight_host = weight, .dtype = RMK_BF16, .ld = k, .n = n, .k = k};
    check(bench->ops->linear_create(bench->device, &source, &linear, &why), &why);
    free(weight);
    return linear;
}

static void make_model(struct bench *bench)
{
    uint64_t seed = 1;

    for (int i = 0; i < LAYERS; i++) {
        struct layer *layer = &bench->layers[i];
        layer->q = make_linear(bench, WIDTH, WIDTH, seed++);
        layer->k = make_linear(bench, WIDTH, WIDTH, seed++);
        layer->v = make_linear(bench, WIDTH, WIDTH, seed++);
        layer->out = make_linear(bench, WIDTH, WIDTH, seed++);
        layer->gate_up = make_linear(bench, 2 * FF, WIDTH, seed++);
        layer->down = make_linear(bench, WIDTH, FF, seed++);
    }
    bench->head = make_linear(bench, VOCAB, WIDTH, seed);
}

static void make_buffers(struct bench *bench)
{
    size_t rows = bench->rows;
    size_t act = bench->device->info.act == RMK_F32 ? sizeof(float) : sizeof(uint16_t);
    struct rmk_why why = {0};
    struct rmk_reserve reserve = {
        .rows_max = bench->rows,
        .kv_rows_max = bench->rows,
        .heads_max = HEADS,
        .head_width_max = HEAD_WIDTH,
        .inner_max = FF,
        .outer_max = 2 * FF,
        .head_rows_max = bench->head_rows,
        .vocab = VOCAB,
    };

    check(bench->ops->reserve(bench->device, &reserve, &why), &why);
    bench->ones = take(bench, WIDTH * sizeof(float));
    bench->cos = take(bench, rows * HEAD_WIDTH / 2 * sizeof(float));
    bench->sin = take(bench, rows * HEAD_WIDTH / 2 * sizeof(float));
    bench->positions = take(bench, rows * sizeof(uint32_t));
    bench->head_from = take(bench, bench->head_rows * sizeof(uint32_t));
    bench->head_samples = take(bench, bench->head_rows * sizeof(struct rmk_head_row));
    bench->results = take(bench, bench->head_rows * sizeof(struct rmk_head_result));
    bench->input = take(bench, rows * WIDTH * sizeof(float));
    bench->x = take(bench, rows * WIDTH * sizeof(float));
    bench->delta = take(bench, rows * WIDTH * sizeof(float));
    bench->head_x = take(bench, bench->head_rows * (size_t)WIDTH * sizeof(float));
    bench->normed = take(bench, rows * WIDTH * act);
    bench->q = take(bench, rows * WIDTH * act);
    bench->k = take(bench, rows * WIDTH * act);
    bench->v = take(bench, rows * WIDTH * act);
    bench->k_cache = take(bench, rows * WIDTH * act);
    bench->v_cache = take(bench, rows * WIDTH * act);
    bench->attended = take(bench, rows * WIDTH * act);
    bench->gate_up = take(bench, rows * 2 * FF * act);
    bench->hidden = take(bench, rows * FF * act);
    for (size_t i = 0; i < WIDTH; i++) {
        bench->ones[i] = 1.0F;
    }
    for (size_t i = 0; i < rows * WIDTH; i++) {
        bench->input[i] = rmk_prng_unit24(rmk_prng_splitmix(99, i)) * 4.0F - 2.0F;
    }
    for (uint32_t t = 0; t < bench->rows; t++) {
        bench->positions[t] = t;
        for (int i = 0; i < HEAD_WIDTH / 2; i++) {
            double angle = t * pow(500000.0, -2.0 * i / HEAD_WIDTH);
            bench->cos[t * HEAD_WIDTH / 2 + i] = (float)cos(angle);
            bench->sin[t * HEAD_WIDTH / 2 + i] = (float)sin(angle);
        }
    }
    for (uint32_t i = 0; i < bench->head_rows; i++) {
        bench->head_from[i] = bench->rows - bench->head_rows + i;
    }
}

static void done(struct bench *bench, enum stage stage)
{
    double time = now();
    double cpu_time = cpu_now();

    bench->seconds[stage] += time - bench->mark;
    bench->cpu_seconds[stage] += cpu_time - bench->cpu_mark;
    bench->mark = time;
    bench->cpu_mark = cpu_time;
}

static void multiply(struct bench *bench, const struct rmk_linear *linear, const void *x, void *y,
                     enum rmk_dtype dtype)
{
    struct rmk_why why = {0};

    check(bench->ops->linear(bench->device, linear, x, bench->rows, y, dtype), &why);
}

static void forward_layer(struct bench *bench, const struct layer *layer, const float *delta)
{
    const struct rmk_ops *ops = bench->ops;
    struct rmk_device *device = bench->device;
    enum rmk_dtype act = device->info.act;
    struct rmk_segment segment = {
        .row_count = bench->rows,
        .kv_count = bench->rows,
        .k = bench->k_cache,
        .v = bench->v_cache,
    };

    (void)ops->rmsnorm(device, bench->x, delta, bench->ones, 1e-5F, bench->normed, bench->rows,
                       WIDTH);
    done(bench, NORM);
    multiply(bench, layer->q, bench->normed, bench->q, act);
    multiply(bench, layer->k, bench->normed, bench->k, act);
    multiply(bench, layer->v, bench->normed, bench->v, act);
    done(bench, QKV);
    (void)ops->rope_kv(device, bench->q, bench->k, bench->v, bench->cos, bench->sin,
                       bench->positions, &segment, 1, HEADS, HEADS, HEAD_WIDTH);
    done(bench, ROPE);
    (void)ops->attention(device, bench->q, &segment, 1, HEADS, HEADS, HEAD_WIDTH,
                         1.0F / sqrtf(HEAD_WIDTH), bench->attended);
    done(bench, ATTENTION);
    multiply(bench, layer->out, bench->attended, bench->delta, RMK_F32);
    done(bench, OUT);
    (void)ops->rmsnorm(device, bench->x, bench->delta, bench->ones, 1e-5F, bench->normed,
                       bench->rows, WIDTH);
    done(bench, NORM);
    multiply(bench, layer->gate_up, bench->normed, bench->gate_up, act);
    done(bench, GATE_UP);
    (void)ops->swiglu(device, bench->gate_up, bench->hidden, bench->rows, FF);
    done(bench, SWIGLU);
    multiply(bench, layer->down, bench->hidden, bench->delta, RMK_F32);
    done(bench, DOWN);
}

static double forward(struct bench *bench)
{
    const struct rmk_ops *ops = bench->ops;
    struct rmk_device *device = bench->device;
    struct rmk_why why = {0};
    double start = now();

    memset(bench->seconds, 0, sizeof(bench->seconds));
    memset(bench->cpu_seconds, 0, sizeof(bench->cpu_seconds));
    bench->mark = start;
    bench->cpu_mark = cpu_now();
    (void)ops->copy_rows(device, bench->input, NULL, bench->x, NULL, bench->rows, WIDTH);
    for (int i = 0; i < LAYERS; i++) {
        forward_layer(bench, &bench->layers[i], i == 0 ? NULL : bench->delta);
    }
    (void)ops->add(device, bench->x, bench->delta, (size_t)bench->rows * WIDTH);
    (void)ops->copy_rows(device, bench->x, bench->head_from, bench->head_x, NULL, bench->head_rows,
                         WIDTH);
    (void)ops->rmsnorm(device, bench->head_x, NULL, bench->ones, 1e-5F, bench->normed,
                       bench->head_rows, WIDTH);
    done(bench, NORM);
    check(ops->head(device, bench->head, bench->normed, NULL, bench->head_rows, 0, VOCAB, NULL, 0,
                    bench->head_samples, bench->results),
          &why);
    done(bench, HEAD);
    for (uint32_t i = 0; i < bench->head_rows; i++) {
        if (bench->results[i].nonfinite || bench->results[i].token < 0) {
            (void)fprintf(stderr, "bench-forward: row %u has no finite logits\n", i);
            exit(1);
        }
    }
    return now() - start;
}

static void destroy(struct bench *bench)
{
    void *const memory[] = {
        bench->ones,         bench->cos,     bench->sin,      bench->positions, bench->head_from,
        bench->head_samples, bench->results, bench->input,    bench->x,         bench->delta,
        bench->head_x,       bench->normed,  bench->q,        bench->k,         bench->v,
        bench->k_cache,      bench->v_cache, bench->attended, bench->gate_up,   bench->hidden};
    const struct rmk_ops *ops = bench->ops;

    for (size_t i = 0; i < sizeof(memory) / sizeof(memory[0]); i++) {
        ops->free(bench->device, memory[i]);
    }
    for (int i = 0; i < LAYERS; i++) {
        struct layer *layer = &bench->layers[i];
        struct rmk_linear *linears[] = {layer->q,   layer->k,       layer->v,
                                        layer->out, layer->gate_up, layer->down};
        for (size_t l = 0; l < sizeof(linears) / sizeof(linears[0]); l++) {
            ops->linear_destroy(bench->device, linears[l]);
        }
    }
    ops->linear_destroy(bench->device, bench->head);
    rmk_device_destroy(bench->device);
}

static uint32_t number(const char *name, const char *text)
{
    char *end = NULL;
    unsigned long value = strtoul(text, &end, 10);

    if (end == text || *end != '\0' || value == 0 || value > 100000) {
        (void)fprintf(stderr, "bench-forward: --%s is '%s', not a number in 1..100000\n", name,
                      text);
        exit(2);
    }
    return (uint32_t)value;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"dtype", required_argument, NULL, 'd'},
        {"threads", required_argument, NULL, 't'},
        {"runs", required_argument, NULL, 'n'},
        {"rows", required_argument, NULL, 'r'},
        {"head-rows", required_argument, NULL, 'h'},
        {"stages", no_argument, NULL, 's'},
        {NULL, 0, NULL, 0},
    };
    struct bench bench = {.rows = 1000, .head_rows = 128};
    struct rmk_device_options device = {.backend = "cpu", .act = RMK_F32, .threads = 2};
    struct rmk_why why = {0};
    uint32_t runs = 5;
    bool stages = false;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'd' && strcmp(optarg, "f32") == 0) {
            device.act = RMK_F32;
        } else if (option == 'd' && strcmp(optarg, "bf16") == 0) {
            device.act = RMK_BF16;
        } else if (option == 't') {
            device.threads = number("threads", optarg);
        } else if (option == 'n') {
            runs = number("runs", optarg);
        } else if (option == 'r') {
            bench.rows = number("rows", optarg);
        } else if (option == 'h') {
            bench.head_rows = number("head-rows", optarg);
        } else if (option == 's') {
            stages = true;
        } else {
            (void)fprintf(
                stderr, "usage: bench-forward --dtype f32|bf16 [--threads N] [--runs N] [--rows N] "
                        "[--head-rows N] [--stages]\n");
            return 2;
        }
    }
    if (bench.head_rows > bench.rows) {
        (void)fprintf(stderr, "bench-forward: --head-rows is larger than --rows\n");
        return 2;
    }
    check(rmk_device_create(&device, &bench.device, &why), &why);
    bench.ops = bench.device->ops;
    make_model(&bench);
    make_buffers(&bench);
    (void)forward(&bench);
    for (uint32_t run = 0; run < runs; run++) {
        double cpu = cpu_now();
        double seconds = forward(&bench);
        printf("{\"dtype\": \"%s\", \"seconds\": %.4f, \"cpu_seconds\": %.4f}\n",
               device.act == RMK_F32 ? "f32" : "bf16", seconds, cpu_now() - cpu);
        (void)fflush(stdout);
    }
    for (int stage = 0; stage < STAGE_COUNT && stages; stage++) {
        (void)fprintf(stderr, "%-10s %.4f s, %.4f s of processor time\n", stage_names[stage],
                      bench.seconds[stage], bench.cpu_seconds[stage]);
    }
    destroy(&bench);
    return 0;
}
