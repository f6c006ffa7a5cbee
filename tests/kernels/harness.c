#include "harness.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/prng.h"
#include "kernels/convert.h"

/* The one tolerance table; each bound is relative to max |ref| of the tensor.
 *
 * EXACT: 0. Moves and conversions; any bug shows.
 *
 * PRODUCT, fp32 results: 2e-6 sqrt(length). The rounding errors of a sum of `length` products add
 * up like a random walk. Seen: a thirtieth of it. A dropped or doubled term of a random sum shows
 * at 1 / sqrt(length), far above.
 *
 * PRODUCT, bf16 results: 1.6e-2. They are rounded to 8 bits (4e-3 of their own size); attention
 * rounds its weights too. Seen: a fifth of it. An fp32 result of bf16 numbers is held to the fp32
 * bound: both sides read equal numbers.
 *
 * PRODUCT and POINTWISE, fp16 results: 2e-3. Three bits more than bf16, so an eighth of its bounds.
 *
 * POINTWISE, fp32: 2e-6. A few roundings, and polynomials good to 2e-7. Seen: an eighth of it. A
 * wrong coefficient shows at 1e-4.
 *
 * POINTWISE, bf16: 1.6e-2. The rounding of the result and, in rmsnorm, of the value before the
 * product. Seen: 0.4 of it.
 */
static double bound_of(enum tolerance kind, enum rmk_dtype dtype, size_t length)
{
    if (kind == EXACT) {
        return 0.0;
    }
    if (dtype != RMK_F32) {
        return dtype == RMK_F16 ? 2e-3 : 1.6e-2;
    }
    return kind == PRODUCT ? 2e-6 * sqrt((double)length) : 2e-6;
}

static struct rmk_device *under_test; /* of the pair that is open */

void check(enum rmk_err err, const char *expression)
{
    const char *fault = under_test != NULL ? rmk_device_fault(under_test) : NULL;

    if (err != RMK_OK) {
        fail_msg("%s: %s%s%s", expression, rmk_err_name(err), fault != NULL ? ": " : "",
                 fault != NULL ? fault : "");
    }
}

static struct rmk_device *open_device(const char *backend, enum rmk_dtype act, uint32_t threads)
{
    struct rmk_device *device = NULL;
    struct rmk_why why = {0};
    struct rmk_device_options options = {
        .backend = backend, .act = act, .threads = threads, .plugin = getenv("RMK_TEST_PLUGIN")};

    if (rmk_device_create(&options, &device, &why) != RMK_OK) {
        fail_msg("no %s device: %s", backend, why.text);
    }
    return device;
}

static const char *backend_under_test(void)
{
    const char *backend = getenv("RMK_TEST_BACKEND");

    return backend != NULL ? backend : "cpu";
}

void pair_open(struct pair *pair, enum rmk_dtype act, uint32_t threads)
{
    *pair = (struct pair){.act = act, .seed = 1};
    pair->ref = open_device("ref", RMK_F32, 1);
    pair->device = open_device(backend_under_test(), act, threads != 0 ? threads : 2);
    under_test = pair->device;
}

void pair_close(struct pair *pair)
{
    for (size_t i = 0; i < pair->memory_count; i++) {
        pair->owner[i]->ops->free(pair->owner[i], pair->memory[i]);
    }
    under_test = NULL;
    rmk_device_destroy(pair->ref);
    rmk_device_destroy(pair->device);
}

void for_each_act(void (*body)(struct pair *pair))
{
    static const enum rmk_dtype acts[] = {RMK_F32, RMK_BF16, RMK_F16};
    const size_t count = strcmp(backend_under_test(), "cuda") == 0 ? 3 : 2;

    for (size_t i = 0; i < count; i++) {
        struct pair pair;
        pair_open(&pair, acts[i], 0);
        body(&pair);
        pair_close(&pair);
    }
}

uint64_t random_bits(struct pair *pair)
{
    return rmk_prng_splitmix(1, pair->seed++);
}

float random_float(struct pair *pair, float scale)
{
    return (float)(rmk_prng_unit53(random_bits(pair)) * 2.0 - 1.0) * scale;
}

static void *take(struct pair *pair, struct rmk_device *device, size_t bytes)
{
    struct rmk_why why = {0};
    void *memory = NULL;

    if (pair->memory_count == sizeof(pair->memory) / sizeof(pair->memory[0])) {
        fail_msg("the harness keeps too few arrays");
    }
    if (device->ops->alloc(device, bytes, &memory, &why) != RMK_OK) {
        fail_msg("alloc: %s", why.text);
    }
    pair->memory[pair->memory_count] = memory;
    pair->owner[pair->memory_count++] = device;
    return memory;
}

uint16_t narrowed(enum rmk_dtype dtype, float value)
{
    return dtype == RMK_F16 ? rmk_convert_to_f16(value) : rmk_convert_to_bf16(value);
}

float rounded(enum rmk_dtype dtype, float value)
{
    uint16_t bits = narrowed(dtype, value);

    return dtype == RMK_F32 ? value : rmk_convert_get(&bits, dtype, 0);
}

struct array array_of(struct pair *pair, enum rmk_dtype dtype, const float *values, size_t count)
{
    struct array array = {.dtype = dtype, .count = count};

    array.ref = take(pair, pair->ref, count * sizeof(float));
    array.device = take(pair, pair->device, count * rmk_convert_bytes(dtype));
    uint16_t *narrow = calloc(count + 1, sizeof(*narrow));
    assert_non_null(narrow);
    for (size_t i = 0; i < count; i++) {
        narrow[i] = narrowed(dtype, values[i]);
        array.ref[i] = rounded(dtype, values[i]);
    }
    CHECK(pair->device->ops->upload(pair->device, array.device,
                                    dtype != RMK_F32 ? (const void *)narrow : values,
                                    count * rmk_convert_bytes(dtype)));
    free(narrow);
    return array;
}

static struct array array_random(struct pair *pair, enum rmk_dtype dtype, size_t count, float scale)
{
    float *values = calloc(count + 1, sizeof(*values));

    assert_non_null(values);
    for (size_t i = 0; i < count; i++) {
        values[i] = random_float(pair, scale);
    }
    struct array array = array_of(pair, dtype, values, count);
    free(values);
    return array;
}

struct array array_act(struct pair *pair, size_t count, float scale)
{
    return array_random(pair, pair->act, count, scale);
}

struct array array_f32(struct pair *pair, size_t count, float scale)
{
    return array_random(pair, RMK_F32, count, scale);
}

struct array array_zero(struct pair *pair, enum rmk_dtype dtype, size_t count)
{
    return array_random(pair, dtype, count, 0.0F);
}

float *array_download(struct pair *pair, const struct array *array)
{
    float *values = calloc(array->count + 1, sizeof(*values));
    void *raw = calloc(array->count + 1, sizeof(float));

    assert_non_null(values);
    assert_non_null(raw);
    CHECK(pair->device->ops->download(pair->device, raw, array->device,
                                      array->count * rmk_convert_bytes(array->dtype)));
    for (size_t i = 0; i < array->count; i++) {
        values[i] = rmk_convert_get(raw, array->dtype, i);
    }
    free(raw);
    return values;
}

void expect_close(struct pair *pair, const char *what, const struct array *array,
                  enum tolerance kind, size_t length)
{
    float *got = array_download(pair, array);
    double largest = 0.0;
    double worst = 0.0;
    size_t place = 0;

    for (size_t i = 0; i < array->count; i++) {
        largest = fmax(largest, fabs((double)array->ref[i]));
        double error = fabs((double)got[i] - (double)array->ref[i]);
        if (!(error <= worst)) { /* a NaN is the worst */
            worst = error;
            place = i;
        }
    }
    double bound = bound_of(kind, array->dtype, length) * largest;
    float wanted = array->count > 0 ? array->ref[place] : 0.0F;
    float found = array->count > 0 ? got[place] : 0.0F;
    free(got);
    if (getenv("RMK_TEST_VERBOSE") != NULL) {
        print_message("%s %s: %.3g of the tolerance\n", what,
                      pair->act == RMK_F32    ? "f32"
                      : pair->act == RMK_BF16 ? "bf16"
                                              : "f16",
                      bound > 0.0 ? worst / bound : worst);
    }
    if (!(worst <= bound)) {
        fail_msg("%s, %s: element %zu of %zu is %.9g, ref has %.9g: %.3g times the tolerance %.3g",
                 what, pair->device->info.description, place, array->count, (double)found,
                 (double)wanted, bound > 0.0 ? worst / bound : INFINITY, bound);
    }
}

struct layer layer_random(struct pair *pair, enum rmk_dtype dtype, uint32_t n, uint32_t k,
                          uint64_t ld, bool bias)
{
    size_t count = (size_t)n * ld;
    float *wide = calloc(count, sizeof(*wide));
    uint16_t *narrow = calloc(count, sizeof(*narrow));
    float *added = calloc(n, sizeof(*added));
    struct rmk_why why = {0};
    struct layer layer = {0};

    assert_non_null(wide);
    assert_non_null(narrow);
    assert_non_null(added);
    for (size_t i = 0; i < count; i++) {
        float value = random_float(pair, 1.0F);
        narrow[i] = narrowed(dtype, value);
        wide[i] = rounded(dtype, value);
    }
    for (size_t i = 0; i < n; i++) {
        added[i] = random_float(pair, 4.0F);
    }
    /* Checkpoints align nothing: hand over a weight at an odd address. */
    size_t bytes = count * rmk_convert_bytes(dtype);
    char *odd = malloc(bytes + 1);
    assert_non_null(odd);
    memcpy(odd + 1, dtype == RMK_F32 ? (const void *)wide : narrow, bytes);
    struct rmk_linear_source source = {
        .weight_host = odd + 1,
        .dtype = dtype,
        .ld = ld,
        .n = n,
        .k = k,
        .bias_host = bias ? added : NULL,
    };
    CHECK(pair->device->ops->linear_create(pair->device, &source, &layer.device, &why));
    for (size_t i = 0; i < count; i++) {
        wide[i] = rounded(pair->act, wide[i]);
    }
    free(odd);
    source.weight_host = wide;
    source.dtype = RMK_F32;
    CHECK(pair->ref->ops->linear_create(pair->ref, &source, &layer.ref, &why));
    free(wide);
    free(narrow);
    free(added);
    return layer;
}

void layer_destroy(struct pair *pair, struct layer *layer)
{
    pair->ref->ops->linear_destroy(pair->ref, layer->ref);
    pair->device->ops->linear_destroy(pair->device, layer->device);
}

void reserve(struct pair *pair, const struct rmk_reserve *wanted)
{
    struct rmk_why why = {0};

    CHECK(pair->ref->ops->reserve(pair->ref, wanted, &why));
    CHECK(pair->device->ops->reserve(pair->device, wanted, &why));
}
