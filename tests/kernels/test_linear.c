#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness.h"

struct shape {
    uint32_t m;
    uint32_t n;
    uint32_t k;
};

/* Around the tile's edges, odd everything, one of each, and layers of the real models cut small. */
static const struct shape shapes[] = {
    {1, 1, 1},     {3, 5, 7},      {1, 64, 64},   {31, 33, 17},   {32, 128, 96},  {33, 129, 95},
    {65, 257, 40}, {7, 300, 1152}, {2, 2049, 31}, {100, 24, 588}, {5, 896, 4304}, {64, 512, 512},
};

static void run(struct pair *pair, const struct shape *shape, enum rmk_dtype y_dtype, bool bias)
{
    struct layer layer = layer_random(pair, RMK_BF16, shape->n, shape->k, shape->k, bias);
    struct array x = array_act(pair, (size_t)shape->m * shape->k, 1.0F);
    struct array y = array_zero(pair, y_dtype, (size_t)shape->m * shape->n);

    CHECK(pair->ref->ops->linear(pair->ref, layer.ref, x.ref, shape->m, y.ref, RMK_F32));
    CHECK(pair->device->ops->linear(pair->device, layer.device, x.device, shape->m, y.device,
                                    y_dtype));
    expect_close(pair, "linear", &y, PRODUCT, shape->k);
    layer_destroy(pair, &layer);
}

static void shapes_body(struct pair *pair)
{
    reserve(pair, &(struct rmk_reserve){.rows_max = 128, .inner_max = 4304, .outer_max = 2049});
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        run(pair, &shapes[i], RMK_F32, i % 2 == 0);
        run(pair, &shapes[i], pair->act, i % 2 == 1);
    }
}

static void linear_equals_ref_at_every_shape(void **state)
{
    (void)state;
    for_each_act(shapes_body);
}

static void sources_body(struct pair *pair)
{
    static const enum rmk_dtype sources[] = {RMK_F32, RMK_BF16, RMK_F16};

    for (size_t i = 0; i < 3; i++) {
        for (uint32_t slice = 0; slice < 2; slice++) { /* a column slice keeps the full width */
            struct layer layer =
                layer_random(pair, sources[i], 70, 45, slice == 1 ? 130 : 45, true);
            struct array x = array_act(pair, 9 * 45, 1.0F);
            struct array y = array_zero(pair, RMK_F32, 9 * 70);
            CHECK(pair->ref->ops->linear(pair->ref, layer.ref, x.ref, 9, y.ref, RMK_F32));
            CHECK(pair->device->ops->linear(pair->device, layer.device, x.device, 9, y.device,
                                            RMK_F32));
            expect_close(pair, "linear from each source type", &y, PRODUCT, 45);
            layer_destroy(pair, &layer);
        }
    }
}

static void linear_takes_every_source_type_and_column_slices(void **state)
{
    (void)state;
    for_each_act(sources_body);
}

static void no_rows_body(struct pair *pair)
{
    struct layer layer = layer_random(pair, RMK_BF16, 8, 8, 8, false);
    struct array x = array_act(pair, 8, 1.0F);
    struct array y = array_f32(pair, 8, 1.0F);

    CHECK(pair->device->ops->linear(pair->device, layer.device, x.device, 0, y.device, RMK_F32));
    expect_close(pair, "linear of no rows leaves y", &y, EXACT, 0);
    layer_destroy(pair, &layer);
}

static void linear_of_no_rows_writes_nothing(void **state)
{
    (void)state;
    for_each_act(no_rows_body);
}

/* Products of one-hot rows are the weights themselves: every column must be where it belongs, to
 * the bit. */
static void one_hot_body(struct pair *pair)
{
    enum { N = 300, K = 37 };
    struct layer layer = layer_random(pair, RMK_BF16, N, K, K, false);
    float hot[K * K] = {0};

    for (size_t i = 0; i < K; i++) {
        hot[i * K + i] = 1.0F;
    }
    struct array x = array_of(pair, pair->act, hot, K * K);
    struct array y = array_zero(pair, RMK_F32, K * N);
    CHECK(pair->ref->ops->linear(pair->ref, layer.ref, x.ref, K, y.ref, RMK_F32));
    CHECK(pair->device->ops->linear(pair->device, layer.device, x.device, K, y.device, RMK_F32));
    expect_close(pair, "linear of one-hot rows", &y, EXACT, 0);
    layer_destroy(pair, &layer);
}

static void linear_of_one_hot_rows_gives_back_the_weight(void **state)
{
    (void)state;
    for_each_act(one_hot_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_equals_ref_at_every_shape),
        cmocka_unit_test(linear_takes_every_source_type_and_column_slices),
        cmocka_unit_test(linear_of_no_rows_writes_nothing),
        cmocka_unit_test(linear_of_one_hot_rows_gives_back_the_weight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
