#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness.h"
#include "kernels/convert.h"

static const uint32_t widths[] = {1, 5, 16, 17, 31, 64, 96, 1000, 1152};
enum { WIDTH_COUNT = sizeof(widths) / sizeof(widths[0]) };

static void rmsnorm_body(struct pair *pair)
{
    for (size_t i = 0; i < WIDTH_COUNT; i++) {
        for (uint32_t rows = 0; rows <= 40; rows += 20) {
            uint32_t d = widths[i];
            size_t count = (size_t)rows * d;
            struct array x = array_f32(pair, count, 3.0F);
            struct array delta = array_f32(pair, count, 1.0F);
            struct array w = array_f32(pair, d, 2.0F);
            struct array y = array_zero(pair, pair->act, count);
            bool with = rows == 40;
            CHECK(pair->ref->ops->rmsnorm(pair->ref, x.ref, with ? delta.ref : NULL, w.ref, 1e-5F,
                                          y.ref, rows, d));
            CHECK(pair->device->ops->rmsnorm(pair->device, x.device, with ? delta.device : NULL,
                                             w.device, 1e-5F, y.device, rows, d));
            expect_close(pair, "rmsnorm", &y, POINTWISE, 0);
            expect_close(pair, "the residual after rmsnorm", &x, EXACT, 0);
        }
    }
}

static void rmsnorm_equals_ref_and_adds_the_delta_exactly(void **state)
{
    (void)state;
    for_each_act(rmsnorm_body);
}

static void layernorm_body(struct pair *pair)
{
    for (size_t i = 0; i < WIDTH_COUNT; i++) {
        for (uint32_t rows = 0; rows <= 40; rows += 20) {
            uint32_t d = widths[i];
            size_t count = (size_t)rows * d;
            struct array x = array_f32(pair, count, 3.0F);
            struct array delta = array_f32(pair, count, 1.0F);
            struct array w = array_f32(pair, d, 2.0F);
            struct array b = array_f32(pair, d, 2.0F);
            struct array y = array_zero(pair, pair->act, count);
            bool with = rows == 40;
            CHECK(pair->ref->ops->layernorm(pair->ref, x.ref, with ? delta.ref : NULL, w.ref, b.ref,
                                            1e-6F, y.ref, rows, d));
            CHECK(pair->device->ops->layernorm(pair->device, x.device, with ? delta.device : NULL,
                                               w.device, b.device, 1e-6F, y.device, rows, d));
            expect_close(pair, "layernorm", &y, POINTWISE, 0);
            expect_close(pair, "the residual after layernorm", &x, EXACT, 0);
        }
    }
}

static void layernorm_equals_ref_and_adds_the_delta_exactly(void **state)
{
    (void)state;
    for_each_act(layernorm_body);
}

static void swiglu_body(struct pair *pair)
{
    for (size_t i = 0; i < WIDTH_COUNT; i++) {
        uint32_t f = widths[i];
        struct array x = array_act(pair, (size_t)21 * 2 * f, 12.0F);
        struct array y = array_zero(pair, pair->act, (size_t)21 * f);
        CHECK(pair->ref->ops->swiglu(pair->ref, x.ref, y.ref, 21, f));
        CHECK(pair->device->ops->swiglu(pair->device, x.device, y.device, 21, f));
        expect_close(pair, "swiglu", &y, POINTWISE, 0);
    }
}

static void swiglu_equals_ref(void **state)
{
    (void)state;
    for_each_act(swiglu_body);
}

static void gelu_body(struct pair *pair)
{
    for (int kind = RMK_GELU_TANH; kind <= RMK_GELU_ERF; kind++) {
        for (size_t i = 0; i < WIDTH_COUNT; i++) {
            struct array x = array_act(pair, (size_t)widths[i] * 19, i % 2 == 0 ? 8.0F : 0.5F);
            CHECK(pair->ref->ops->gelu(pair->ref, x.ref, x.count, (enum rmk_gelu)kind));
            CHECK(pair->device->ops->gelu(pair->device, x.device, x.count, (enum rmk_gelu)kind));
            expect_close(pair, kind == RMK_GELU_ERF ? "gelu erf" : "gelu tanh", &x, POINTWISE, 0);
        }
    }
}

static void gelu_equals_ref(void **state)
{
    (void)state;
    for_each_act(gelu_body);
}

/* Values a forward should not meet, which must neither trap nor turn into numbers that look sound.
 */
static void extremes_body(struct pair *pair)
{
    const float huge = pair->act == RMK_F16 ? 6e4F : 1e30F;
    const float values[] = {0.0F,    -0.0F, 1e-40F, -1e-40F, huge,   -huge,  100.0F,
                            -100.0F, 88.9F, -88.9F, NAN,     200.0F, -200.0F};
    enum { COUNT = sizeof(values) / sizeof(values[0]) };
    float gate_up[2 * COUNT];

    for (size_t i = 0; i < COUNT; i++) {
        gate_up[i] = values[i];
        gate_up[COUNT + i] = 1.0F;
    }
    struct array tanh = array_of(pair, pair->act, values, COUNT);
    struct array erf = array_of(pair, pair->act, values, COUNT);
    struct array gates = array_of(pair, pair->act, gate_up, 2 * COUNT);
    struct array silu = array_zero(pair, pair->act, COUNT);
    CHECK(pair->device->ops->gelu(pair->device, tanh.device, COUNT, RMK_GELU_TANH));
    CHECK(pair->device->ops->gelu(pair->device, erf.device, COUNT, RMK_GELU_ERF));
    CHECK(pair->device->ops->swiglu(pair->device, gates.device, silu.device, 1, COUNT));
    float *results[3] = {array_download(pair, &tanh), array_download(pair, &erf),
                         array_download(pair, &silu)};
    for (size_t r = 0; r < 3; r++) {
        for (size_t i = 0; i < COUNT; i++) {
            double x = (double)values[i];
            double wanted = isnan(x) ? x : x > 0.0 ? x : 0.0;
            double slack = fabs(x) * (fabs(x) < 1.0 ? 1.0 : 4e-3) + 1e-6;
            if (isnan(wanted)) {
                assert_true(isnan(results[r][i]));
            } else {
                assert_true(fabs((double)results[r][i] - wanted) <= slack);
            }
        }
        free(results[r]);
    }
}

static void activations_of_extreme_values_are_their_limits(void **state)
{
    (void)state;
    for_each_act(extremes_body);
}

static void adds_body(struct pair *pair)
{
    for (size_t i = 0; i < WIDTH_COUNT; i++) {
        uint32_t d = widths[i];
        struct array x = array_f32(pair, (size_t)37 * d, 3.0F);
        struct array y = array_f32(pair, (size_t)37 * d, 3.0F);
        struct array rows = array_f32(pair, (size_t)5 * d, 3.0F);
        CHECK(pair->ref->ops->add(pair->ref, x.ref, y.ref, x.count));
        CHECK(pair->device->ops->add(pair->device, x.device, y.device, x.count));
        expect_close(pair, "add", &x, EXACT, 0);
        CHECK(pair->ref->ops->add_cyclic(pair->ref, x.ref, rows.ref, 37, 5, d));
        CHECK(pair->device->ops->add_cyclic(pair->device, x.device, rows.device, 37, 5, d));
        expect_close(pair, "add_cyclic", &x, EXACT, 0);
    }
}

static void adds_are_exact(void **state)
{
    (void)state;
    for_each_act(adds_body);
}

static void cast_body(struct pair *pair)
{
    float values[3000] = {0.0F,   -0.0F,   NAN,       INFINITY,    -INFINITY,
                          1e-40F, 3.4e38F, 0x1p-133F, 1.00390625F, 1.01171875F};

    for (size_t i = 10; i < 3000; i++) {
        values[i] = random_float(pair, 1000.0F);
    }
    struct array x = array_of(pair, RMK_F32, values, 3000);
    struct array y = array_zero(pair, pair->act, 3000);
    CHECK(pair->device->ops->cast(pair->device, x.device, y.device, 3000));
    float *got = array_download(pair, &y);
    for (size_t i = 0; i < 3000; i++) {
        float wanted = rounded(pair->act, values[i]);
        if (isnan(wanted)) {
            assert_true(isnan(got[i]));
        } else {
            assert_memory_equal(&got[i], &wanted, sizeof(wanted));
        }
    }
    free(got);
}

static void cast_rounds_to_nearest_even_and_keeps_nan_inf_and_subnormals(void **state)
{
    (void)state;
    for_each_act(cast_body);
}

static void moves_body(struct pair *pair)
{
    enum { ROWS = 7, D = 19, COUNT = 6 };
    static const enum rmk_dtype dtypes[] = {RMK_F32, RMK_BF16, RMK_F16};
    const int32_t ids[COUNT] = {10, 16, 9, 17, 12, -1}; /* 9, 17 and -1 are other ranks' */
    const uint32_t from[COUNT] = {5, 0, 3, 3, 1, 2};
    const uint32_t to[COUNT] = {0, 2, 1, 5, 4, 3};

    for (size_t t = 0; t < 3; t++) {
        uint16_t narrow[ROWS * D];
        float wide[ROWS * D];
        for (size_t i = 0; i < ROWS * D; i++) {
            float value = random_float(pair, 2.0F);
            narrow[i] = narrowed(dtypes[t], value);
            wide[i] = rounded(dtypes[t], value);
        }
        struct array table = array_zero(pair, RMK_F32, ROWS * D);
        const void *raw = dtypes[t] == RMK_F32 ? (const void *)wide : narrow;
        CHECK(pair->device->ops->upload(pair->device, table.device, raw,
                                        ROWS * D * rmk_convert_bytes(dtypes[t])));
        struct array y = array_f32(pair, COUNT * D, 1.0F);
        CHECK(pair->device->ops->embed(pair->device, table.device, dtypes[t], 10, ROWS, D, ids,
                                       COUNT, y.device));
        for (size_t i = 0; i < COUNT; i++) {
            for (size_t c = 0; c < D; c++) {
                bool mine = ids[i] >= 10 && ids[i] < 10 + ROWS;
                y.ref[i * D + c] = mine ? wide[(size_t)(ids[i] - 10) * D + c] : 0.0F;
            }
        }
        expect_close(pair, "embed", &y, EXACT, 0);
        struct array moved = array_zero(pair, RMK_F32, COUNT * D);
        CHECK(
            pair->device->ops->copy_rows(pair->device, y.device, from, moved.device, to, COUNT, D));
        for (size_t i = 0; i < COUNT; i++) {
            memcpy(moved.ref + to[i] * D, y.ref + from[i] * D, D * sizeof(float));
        }
        expect_close(pair, "copy_rows", &moved, EXACT, 0);
        CHECK(pair->device->ops->copy_rows(pair->device, y.device, NULL, moved.device, NULL,
                                           COUNT - 1, D));
        memcpy(moved.ref, y.ref, (COUNT - 1) * D * sizeof(float));
        expect_close(pair, "copy_rows without lists", &moved, EXACT, 0);
    }
}

static void embed_and_copy_rows_move_rows_exactly(void **state)
{
    (void)state;
    for_each_act(moves_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rmsnorm_equals_ref_and_adds_the_delta_exactly),
        cmocka_unit_test(layernorm_equals_ref_and_adds_the_delta_exactly),
        cmocka_unit_test(swiglu_equals_ref),
        cmocka_unit_test(gelu_equals_ref),
        cmocka_unit_test(activations_of_extreme_values_are_their_limits),
        cmocka_unit_test(adds_are_exact),
        cmocka_unit_test(cast_rounds_to_nearest_even_and_keeps_nan_inf_and_subnormals),
        cmocka_unit_test(embed_and_copy_rows_move_rows_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
