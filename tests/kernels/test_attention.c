#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness.h"
#include "kernels/convert.h"

struct shape {
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t head_width;
    uint32_t segment_count;
    uint32_t rows[4];
    uint32_t keys[4];
};

static const struct shape shapes[] = {
    {1, 1, 1, 1, {1}, {1}},
    {4, 4, 16, 1, {37}, {37}},
    {6, 2, 16, 3, {5, 0, 48}, {5, 9, 300}},
    {2, 1, 24, 2, {49, 1}, {129, 64}},
    {3, 3, 32, 1, {100}, {128}},
    {4, 2, 64, 4, {1, 2, 3, 130}, {1000, 1, 127, 130}},
    {2, 2, 72, 1, {81}, {81}},
    {2, 1, 80, 1, {20}, {65}},
    {2, 2, 128, 2, {50, 7}, {257, 63}},
    {2, 2, 17, 2, {11, 60}, {33, 5}},
    {5, 5, 7, 1, {3}, {2}},
};
enum { SHAPE_COUNT = sizeof(shapes) / sizeof(shapes[0]) };

static const struct rmk_reserve bounds = {
    .rows_max = 256, .kv_rows_max = 1024, .heads_max = 8, .head_width_max = 128};

static void attention_body(struct pair *pair)
{
    reserve(pair, &bounds);
    for (size_t i = 0; i < SHAPE_COUNT; i++) {
        const struct shape *shape = &shapes[i];
        uint32_t q_row = shape->heads * shape->head_width;
        uint32_t kv_row = shape->kv_heads * shape->head_width;
        struct rmk_segment ref[4];
        struct rmk_segment device[4];
        uint32_t rows = 0;
        for (uint32_t s = 0; s < shape->segment_count; s++) {
            struct array k = array_act(pair, (size_t)shape->keys[s] * kv_row, 2.0F);
            struct array v = array_act(pair, (size_t)shape->keys[s] * kv_row, 2.0F);
            ref[s] = (struct rmk_segment){rows, shape->rows[s], shape->keys[s], k.ref, v.ref};
            device[s] = ref[s];
            device[s].k = k.device;
            device[s].v = v.device;
            rows += shape->rows[s];
        }
        struct array q = array_act(pair, (size_t)rows * q_row, 2.0F);
        struct array y = array_zero(pair, pair->act, (size_t)rows * q_row);
        float scale = 1.0F / sqrtf((float)shape->head_width);
        CHECK(pair->ref->ops->attention(pair->ref, q.ref, ref, shape->segment_count, shape->heads,
                                        shape->kv_heads, shape->head_width, scale, y.ref));
        CHECK(pair->device->ops->attention(pair->device, q.device, device, shape->segment_count,
                                           shape->heads, shape->kv_heads, shape->head_width, scale,
                                           y.device));
        expect_close(pair, "attention", &y, PRODUCT, shape->head_width + shape->keys[0]);
    }
}

static void attention_equals_ref_for_ragged_segments_groups_and_odd_widths(void **state)
{
    (void)state;
    for_each_act(attention_body);
}

/* Scores of hundreds: the weights are one for the largest and nothing for the rest, without
 * overflow. */
static void large_scores_body(struct pair *pair)
{
    enum { WIDTH = 16, KEYS = 300 };
    float k[KEYS * WIDTH] = {0};
    float q[WIDTH];

    reserve(pair, &bounds);
    for (size_t i = 0; i < WIDTH; i++) {
        q[i] = 32.0F;
    }
    for (size_t key = 0; key < KEYS; key++) {
        for (size_t i = 0; i < WIDTH; i++) {
            k[key * WIDTH + i] = key == 200 ? 2.0F : key % 2 == 0 ? 1.0F : -4.0F;
        }
    }
    struct array keys = array_of(pair, pair->act, k, KEYS * WIDTH);
    struct array values = array_act(pair, KEYS * WIDTH, 1.0F);
    struct array queries = array_of(pair, pair->act, q, WIDTH);
    struct array y = array_zero(pair, pair->act, WIDTH);
    struct rmk_segment segment = {0, 1, KEYS, keys.device, values.device};
    CHECK(pair->device->ops->attention(pair->device, queries.device, &segment, 1, 1, 1, WIDTH, 1.0F,
                                       y.device));
    memcpy(y.ref, values.ref + 200 * WIDTH, WIDTH * sizeof(float));
    expect_close(pair, "attention to one key", &y, EXACT, 0);
}

static void attention_with_large_scores_picks_the_largest(void **state)
{
    (void)state;
    for_each_act(large_scores_body);
}

/* A NaN in one segment's keys poisons that segment's rows and no others. */
static void poison_body(struct pair *pair)
{
    enum { WIDTH = 16, ROWS = 3, KEYS = 70 };

    reserve(pair, &bounds);
    struct array q = array_act(pair, 2 * ROWS * WIDTH, 1.0F);
    struct array v = array_act(pair, KEYS * WIDTH, 1.0F);
    struct array y = array_zero(pair, pair->act, 2 * ROWS * WIDTH);
    float k[KEYS * WIDTH];
    for (size_t i = 0; i < KEYS * WIDTH; i++) {
        k[i] = random_float(pair, 1.0F);
    }
    struct array good = array_of(pair, pair->act, k, KEYS * WIDTH);
    k[5 * WIDTH + 3] = NAN;
    struct array bad = array_of(pair, pair->act, k, KEYS * WIDTH);
    struct rmk_segment segments[2] = {
        {0, ROWS, KEYS, bad.device, v.device},
        {ROWS, ROWS, KEYS, good.device, v.device},
    };
    CHECK(pair->device->ops->attention(pair->device, q.device, segments, 2, 1, 1, WIDTH, 0.25F,
                                       y.device));
    float *got = array_download(pair, &y);
    for (size_t i = 0; i < ROWS * WIDTH; i++) {
        assert_true(isnan(got[i]));
        assert_true(isfinite(got[ROWS * WIDTH + i]));
    }
    free(got);
}

static void attention_keeps_a_nan_inside_its_segment(void **state)
{
    (void)state;
    for_each_act(poison_body);
}

static void rope_body(struct pair *pair)
{
    static const uint32_t widths[] = {2, 16, 24, 64, 128};
    enum { SEGMENTS = 2, ROWS = 21, KEYS = 40 };
    static const uint32_t row_counts[SEGMENTS] = {17, 4};

    for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) {
        uint32_t width = widths[i];
        uint32_t heads = 6;
        uint32_t kv_heads = 2;
        uint32_t positions[ROWS];
        for (uint32_t t = 0; t < ROWS; t++) {
            positions[t] =
                t < 17 ? (t * 7) % KEYS : KEYS - 1 - t; /* scattered, distinct in a segment */
        }
        struct array q = array_act(pair, (size_t)ROWS * heads * width, 2.0F);
        struct array k = array_act(pair, (size_t)ROWS * kv_heads * width, 2.0F);
        struct array v = array_act(pair, (size_t)ROWS * kv_heads * width, 2.0F);
        struct array cos = array_f32(pair, (size_t)KEYS * width / 2, 1.0F);
        struct array sin = array_f32(pair, (size_t)KEYS * width / 2, 1.0F);
        struct array k_cache[SEGMENTS];
        struct array v_cache[SEGMENTS];
        struct rmk_segment ref[SEGMENTS];
        struct rmk_segment device[SEGMENTS];
        uint32_t begin = 0;
        for (size_t s = 0; s < SEGMENTS; s++) {
            k_cache[s] = array_act(pair, (size_t)KEYS * kv_heads * width, 1.0F);
            v_cache[s] = array_act(pair, (size_t)KEYS * kv_heads * width, 1.0F);
            ref[s] =
                (struct rmk_segment){begin, row_counts[s], KEYS, k_cache[s].ref, v_cache[s].ref};
            device[s] = ref[s];
            device[s].k = k_cache[s].device;
            device[s].v = v_cache[s].device;
            begin += row_counts[s];
        }
        CHECK(pair->ref->ops->rope_kv(pair->ref, q.ref, k.ref, v.ref, cos.ref, sin.ref, positions,
                                      ref, SEGMENTS, heads, kv_heads, width));
        CHECK(pair->device->ops->rope_kv(pair->device, q.device, k.device, v.device, cos.device,
                                         sin.device, positions, device, SEGMENTS, heads, kv_heads,
                                         width));
        expect_close(pair, "rotated queries", &q, POINTWISE, 0);
        expect_close(pair, "keys left as they were", &k, EXACT, 0);
        for (size_t s = 0; s < SEGMENTS; s++) {
            expect_close(pair, "rotated keys in their places", &k_cache[s], POINTWISE, 0);
            expect_close(pair, "values in their places", &v_cache[s], EXACT, 0);
        }
    }
}

static void rope_rotates_queries_and_puts_keys_and_values_where_they_belong(void **state)
{
    (void)state;
    for_each_act(rope_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_equals_ref_for_ragged_segments_groups_and_odd_widths),
        cmocka_unit_test(attention_with_large_scores_picks_the_largest),
        cmocka_unit_test(attention_keeps_a_nan_inside_its_segment),
        cmocka_unit_test(rope_rotates_queries_and_puts_keys_and_values_where_they_belong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
