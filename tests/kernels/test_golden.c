/* Ops against what PyTorch recorded: tests/data/golden/tables, and the full tables when the
 * reference is at hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness.h"
#include "kernels/convert.h"
#include "model/safetensors.h"
#include "tests/support/golden_file.h"

enum { NOISE_SEED = 4242 }; /* ops.json */

/* The op under test runs on one device at a time: ref as well must agree with the recording. */
struct golden {
    struct pair pair;
    struct rmk_checkpoint *tensors;
};

static void with_tables(void (*body)(struct golden *golden))
{
    static const char *const committed = "tests/data/golden/tables/ops.safetensors";
    static const enum rmk_dtype acts[] = {RMK_F32, RMK_BF16};
    char reference[512];
    const char *paths[2] = {committed, NULL};
    struct rmk_why why = {0};

    if (golden_path(reference, sizeof(reference), "golden/tables/ops.safetensors")) {
        paths[1] = reference;
    }
    for (size_t p = 0; p < 2 && paths[p] != NULL; p++) {
        for (size_t i = 0; i < 2; i++) {
            struct golden golden = {0};
            if (rmk_checkpoint_open_file(paths[p], &golden.tensors, &why) != RMK_OK) {
                fail_msg("%s", why.text);
            }
            pair_open(&golden.pair, acts[i], 0);
            body(&golden);
            pair_close(&golden.pair);
            rmk_checkpoint_close(golden.tensors);
        }
    }
}

static const struct rmk_tensor *find(const struct golden *golden, const char *name)
{
    const struct rmk_tensor *tensor = rmk_checkpoint_find(golden->tensors, name);

    if (tensor == NULL) {
        fail_msg("the golden tables have no %s", name);
    }
    return tensor;
}

static size_t count_of(const struct rmk_tensor *tensor)
{
    size_t count = 1;

    for (uint32_t i = 0; i < tensor->rank; i++) {
        count *= (size_t)tensor->shape[i];
    }
    return count;
}

/* To be freed. */
static float *floats(const struct rmk_tensor *tensor)
{
    float *values = calloc(count_of(tensor) + 1, sizeof(*values));

    assert_non_null(values);
    rmk_tensor_to_f32(tensor, 0, count_of(tensor), values);
    return values;
}

/* The same of a tensor of doubles, which may stand at any address. */
static double *doubles(const struct rmk_tensor *tensor)
{
    double *values = calloc(count_of(tensor) + 1, sizeof(*values));

    assert_non_null(values);
    memcpy(values, tensor->data, count_of(tensor) * sizeof(*values));
    return values;
}

/* Both sides hold `array`; the recording is `wanted`. The committed resizes round their source
 * coordinate twice, PyTorch's and ours once: 1.6e-6 apart on the steepest map. */
static void expect_recorded(struct golden *golden, const char *what, struct array *array,
                            const float *wanted, enum tolerance kind)
{
    double largest = 0.0;

    for (size_t i = 0; i < array->count; i++) {
        largest = fmax(largest, fabs((double)wanted[i]));
    }
    for (size_t i = 0; i < array->count; i++) { /* ref is fp32 whatever the device is */
        double error = fabs((double)array->ref[i] - (double)wanted[i]);
        if (golden->pair.act == RMK_F32 && !(error <= 2e-6 * largest)) {
            fail_msg("ref %s: element %zu is %.9g, recorded %.9g", what, i, (double)array->ref[i],
                     (double)wanted[i]);
        }
        array->ref[i] = wanted[i];
    }
    expect_close(&golden->pair, what, array, kind, 1);
}

static void activations_body(struct golden *golden)
{
    struct pair *pair = &golden->pair;
    const struct rmk_tensor *tensor = find(golden, "act_in");
    size_t count = count_of(tensor);
    float *in = floats(tensor);
    float *erf = floats(find(golden, "gelu_erf"));
    float *tanh = floats(find(golden, "gelu_tanh"));
    float *silu = floats(find(golden, "silu"));
    float *gate_up = calloc(2 * count, sizeof(*gate_up));

    assert_non_null(gate_up);
    for (size_t i = 0; i < count; i++) {
        gate_up[i] = in[i];
        gate_up[count + i] = 1.0F;
    }
    struct array x = array_of(pair, pair->act, in, count);
    CHECK(pair->ref->ops->gelu(pair->ref, x.ref, count, RMK_GELU_ERF));
    CHECK(pair->device->ops->gelu(pair->device, x.device, count, RMK_GELU_ERF));
    expect_recorded(golden, "gelu erf", &x, erf, POINTWISE);
    x = array_of(pair, pair->act, in, count);
    CHECK(pair->ref->ops->gelu(pair->ref, x.ref, count, RMK_GELU_TANH));
    CHECK(pair->device->ops->gelu(pair->device, x.device, count, RMK_GELU_TANH));
    expect_recorded(golden, "gelu tanh", &x, tanh, POINTWISE);
    x = array_of(pair, pair->act, gate_up, 2 * count);
    struct array y = array_zero(pair, pair->act, count);
    CHECK(pair->ref->ops->swiglu(pair->ref, x.ref, y.ref, 1, (uint32_t)count));
    CHECK(pair->device->ops->swiglu(pair->device, x.device, y.device, 1, (uint32_t)count));
    expect_recorded(golden, "silu", &y, silu, POINTWISE);
    free(in);
    free(erf);
    free(tanh);
    free(silu);
    free(gate_up);
}

static void activations_equal_the_recorded_ones(void **state)
{
    (void)state;
    with_tables(activations_body);
}

/* In bf16 the official module rounds its input, its normalised rows and its product: equal bit for
 * bit. */
static void rmsnorm_body(struct golden *golden)
{
    struct pair *pair = &golden->pair;
    bool bf16 = pair->act == RMK_BF16;
    const struct rmk_tensor *tensor = find(golden, "rms_in");
    uint32_t rows = (uint32_t)tensor->shape[0];
    uint32_t d = (uint32_t)tensor->shape[1];
    float *in = floats(tensor);
    float *weight = floats(find(golden, "rms_weight"));
    float *wanted = floats(find(golden, bf16 ? "rms_out_bf16" : "rms_out"));

    for (size_t i = 0; i < (size_t)rows * d && bf16; i++) {
        in[i] = rmk_convert_bf16(rmk_convert_to_bf16(in[i]));
    }
    for (size_t i = 0; i < d && bf16; i++) {
        weight[i] = rmk_convert_bf16(rmk_convert_to_bf16(weight[i]));
    }
    struct array x = array_of(pair, RMK_F32, in, (size_t)rows * d);
    struct array w = array_of(pair, RMK_F32, weight, d);
    struct array y = array_zero(pair, pair->act, (size_t)rows * d);
    CHECK(pair->ref->ops->rmsnorm(pair->ref, x.ref, NULL, w.ref, 1e-5F, y.ref, rows, d));
    CHECK(pair->device->ops->rmsnorm(pair->device, x.device, NULL, w.device, 1e-5F, y.device, rows,
                                     d));
    expect_recorded(golden, "rmsnorm", &y, wanted, bf16 ? EXACT : POINTWISE);
    free(in);
    free(weight);
    free(wanted);
}

static void rmsnorm_equals_the_recorded_module(void **state)
{
    (void)state;
    with_tables(rmsnorm_body);
}

/* [1, c, h, w] to [h, w, c]; to be freed. */
static float *channels_last(const float *x, size_t c, size_t h, size_t w)
{
    float *y = calloc(c * h * w + 1, sizeof(*y));

    assert_non_null(y);
    for (size_t i = 0; i < c; i++) {
        for (size_t p = 0; p < h * w; p++) {
            y[p * c + i] = x[i * h * w + p];
        }
    }
    return y;
}

static void bilinear_body(struct golden *golden)
{
    struct pair *pair = &golden->pair;
    uint32_t found = 0;

    for (int k = 0; k < 100; k++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "in%d", k);
        const struct rmk_tensor *in = rmk_checkpoint_find(golden->tensors, name);
        if (in == NULL) {
            break;
        }
        (void)snprintf(name, sizeof(name), "out%d_f32", k);
        const struct rmk_tensor *out = find(golden, name);
        uint32_t c = (uint32_t)in->shape[1];
        uint32_t h = (uint32_t)in->shape[2];
        uint32_t w = (uint32_t)in->shape[3];
        uint32_t oh = (uint32_t)out->shape[2];
        uint32_t ow = (uint32_t)out->shape[3];
        float *raw_in = floats(in);
        float *raw_out = floats(out);
        float *map = channels_last(raw_in, c, h, w);
        float *wanted = channels_last(raw_out, c, oh, ow);
        struct array x = array_of(pair, RMK_F32, map, (size_t)h * w * c);
        struct array y = array_zero(pair, RMK_F32, (size_t)oh * ow * c);
        uint64_t x_ld = (uint64_t)w * c;
        uint64_t y_ld = (uint64_t)ow * c;
        CHECK(pair->ref->ops->bilinear(pair->ref, x.ref, h, w, x_ld, y.ref, oh, ow, y_ld, c));
        CHECK(pair->device->ops->bilinear(pair->device, x.device, h, w, x_ld, y.device, oh, ow,
                                          y_ld, c));
        expect_recorded(golden, "bilinear", &y, wanted, POINTWISE);
        free(raw_in);
        free(raw_out);
        free(map);
        free(wanted);
        found++;
    }
    assert_true(found >= 4);
}

static void bilinear_equals_the_recorded_resizes(void **state)
{
    (void)state;
    with_tables(bilinear_body);
}

/* A head of one input whose logits are one recorded row. A recorded -inf is a suppressed id. */
static struct rmk_linear *logits_head(struct rmk_device *device, const float *logits, uint32_t v,
                                      int32_t *suppressed, uint32_t *out_suppressed_count)
{
    struct rmk_why why = {0};
    struct rmk_linear *linear = NULL;
    float *weight = calloc(v, sizeof(*weight));

    assert_non_null(weight);
    *out_suppressed_count = 0;
    for (uint32_t id = 0; id < v; id++) {
        if (isinf(logits[id])) {
            suppressed[(*out_suppressed_count)++] = (int32_t)id;
        } else {
            weight[id] = logits[id];
        }
    }
    struct rmk_linear_source source = {
        .weight_host = weight, .dtype = RMK_F32, .ld = 1, .n = v, .k = 1};
    CHECK(device->ops->linear_create(device, &source, &linear, &why));
    free(weight);
    return linear;
}

/* best = ln of the recorded exp(l) / (-ln u)^T, at its first maximum; probability = the recorded
 * softmax. `one` is the input 1. */
static void check_noise(struct golden *golden, struct rmk_device *device, const void *one,
                        double temperature)
{
    enum { V_MAX = 64 };
    const struct rmk_tensor *tensor = find(golden, "gumbel_logits");
    uint32_t rows = (uint32_t)tensor->shape[1];
    uint32_t v = (uint32_t)tensor->shape[2];
    float *logits = floats(tensor);
    char name[32];

    assert_true(v <= V_MAX);
    (void)snprintf(name, sizeof(name), "gumbel_out_%.1f", temperature);
    double *noisy = doubles(find(golden, name));
    double *softmax = doubles(find(golden, "softmax_f64"));
    for (uint32_t row = 0; row < rows; row++) {
        const struct rmk_head_row sample = {.noise = RMK_NOISE_SPLITMIX,
                                            .temperature = temperature,
                                            .seed = NOISE_SEED,
                                            .position = row,
                                            .total_rows = rows};
        struct rmk_head_result result;
        int32_t suppressed[V_MAX];
        uint32_t suppressed_count;
        size_t best = 0;
        struct rmk_linear *head =
            logits_head(device, logits + (size_t)row * v, v, suppressed, &suppressed_count);
        CHECK(device->ops->head(device, head, one, NULL, 1, 0, v, suppressed, suppressed_count,
                                &sample, &result));
        for (size_t id = 1; id < v; id++) {
            best = noisy[row * v + id] > noisy[row * v + best] ? id : best;
        }
        assert_int_equal(result.token, best);
        assert_true(fabs(result.best - log(noisy[row * v + best])) < 1e-9);
        double probability = exp(result.logit - result.max) / result.sum;
        assert_true(fabs(probability - softmax[row * v + best]) < 1e-6);
        device->ops->linear_destroy(device, head);
    }
    free(noisy);
    free(softmax);
    free(logits);
}

static void noise_body(struct golden *golden)
{
    static const double temperatures[] = {0.2, 0.7, 1.0, 1.5};
    static const float one = 1.0F;
    struct pair *pair = &golden->pair;

    if (pair->act != RMK_F32) {
        return; /* the recorded logits are not bf16 numbers */
    }
    struct array x = array_of(pair, RMK_F32, &one, 1);
    reserve(pair,
            &(struct rmk_reserve){.rows_max = 1, .inner_max = 1, .head_rows_max = 1, .vocab = 64});
    for (size_t i = 0; i < 4; i++) {
        check_noise(golden, pair->ref, x.ref, temperatures[i]);
        check_noise(golden, pair->device, x.device, temperatures[i]);
    }
}

static void noise_and_probabilities_equal_the_recorded_ones(void **state)
{
    (void)state;
    with_tables(noise_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(activations_equal_the_recorded_ones),
        cmocka_unit_test(rmsnorm_equals_the_recorded_module),
        cmocka_unit_test(bilinear_equals_the_recorded_resizes),
        cmocka_unit_test(noise_and_probabilities_equal_the_recorded_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
