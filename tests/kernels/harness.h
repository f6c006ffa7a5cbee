/* Runs an op on the device under test and on ref, and compares. The device is that of
 * $RMK_TEST_BACKEND (default cpu; for cuda, $RMK_TEST_PLUGIN names the plugin), in every compute
 * type it has; everything goes through alloc,
 * upload and download, so the same tests serve any backend. */
#ifndef RMK_TESTS_KERNELS_HARNESS_H
#define RMK_TESTS_KERNELS_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

/* One test's two devices, and the memory it took from them. */
struct pair {
    struct rmk_device *ref;
    struct rmk_device *device;
    enum rmk_dtype act;
    uint64_t seed;
    void *memory[512];
    struct rmk_device *owner[512];
    size_t memory_count;
};

/* An array on both sides: fp32 on ref; on the device its compute type, or fp32. Both hold the same
 * numbers. */
struct array {
    float *ref;
    void *device;
    enum rmk_dtype dtype; /* on the device */
    size_t count;
};

/* `threads` 0: two. */
void pair_open(struct pair *pair, enum rmk_dtype act, uint32_t threads);
void pair_close(struct pair *pair);

/* Call `body` once for each compute type of the device. */
void for_each_act(void (*body)(struct pair *pair));

uint64_t random_bits(struct pair *pair);
/* In [-scale, scale). */
float random_float(struct pair *pair, float scale);

/* Random numbers in the compute type, or in fp32; zeros. */
struct array array_act(struct pair *pair, size_t count, float scale);
struct array array_f32(struct pair *pair, size_t count, float scale);
struct array array_of(struct pair *pair, enum rmk_dtype dtype, const float *values, size_t count);
struct array array_zero(struct pair *pair, enum rmk_dtype dtype, size_t count);

/* The device's side, widened to fp32. To be freed. */
float *array_download(struct pair *pair, const struct array *array);

/* Tolerances, relative to max |ref|; see harness.c. */
enum tolerance {
    EXACT = 0,
    PRODUCT,   /* an op with sums of `length` */
    POINTWISE, /* an op without */
};

void expect_close(struct pair *pair, const char *what, const struct array *array,
                  enum tolerance kind, size_t length);

/* A random layer on both sides; the weight has `dtype`, rounded for both where the device computes
 * in bf16. */
struct layer {
    struct rmk_linear *ref;
    struct rmk_linear *device;
};

struct layer layer_random(struct pair *pair, enum rmk_dtype dtype, uint32_t n, uint32_t k,
                          uint64_t ld, bool bias);
void layer_destroy(struct pair *pair, struct layer *layer);

/* Both sides reserve. */
void reserve(struct pair *pair, const struct rmk_reserve *wanted);

/* A number as `dtype` keeps it: its bits, for the 16-bit types, and widened again. */
uint16_t narrowed(enum rmk_dtype dtype, float value);
float rounded(enum rmk_dtype dtype, float value);

#define CHECK(expression) check((expression), #expression)
void check(enum rmk_err err, const char *expression);

#endif
