/* worker/text/rope.c against recorded tables of the official program, and scaling against hand
 * arithmetic. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/safetensors.h"
#include "tests/support/golden_file.h"
#include "worker/text/rope.h"

static struct rmk_text_spec spec_of(double theta, uint32_t head_width)
{
    return (struct rmk_text_spec){
        .head_width = head_width, .rope_theta = theta, .rope_factor = 1, .max_positions = 2048};
}

/* Units in the last place between two values of about one size. */
static uint32_t ulps(float a, float b)
{
    int32_t x;
    int32_t y;

    memcpy(&x, &a, sizeof(x));
    memcpy(&y, &b, sizeof(y));
    return (uint32_t)abs(x - y);
}

/* Row `row` of a recorded table, copied: the file does not align its tensors. */
static const float *table(const struct rmk_checkpoint *golden, const struct rmk_text_spec *spec,
                          const char *what, uint64_t row)
{
    static float values[64];
    char name[64];

    (void)snprintf(name, sizeof(name), "rope_%.0f_%u_%s", spec->rope_theta, spec->head_width, what);
    const struct rmk_tensor *tensor = rmk_checkpoint_find(golden, name);
    assert_non_null(tensor);
    rmk_tensor_to_f32(tensor, row * (spec->head_width / 2), spec->head_width / 2, values);
    return values;
}

static void check_tables(const char *path)
{
    static const struct {
        double theta;
        uint32_t head_width;
    } cases[] = {{10000, 64}, {500000, 128}, {500000, 16}};
    struct rmk_checkpoint *golden = NULL;
    struct rmk_why why = {0};

    if (rmk_checkpoint_open_file(path, &golden, &why) != RMK_OK) {
        fail_msg("%s", why.text);
    }
    const struct rmk_tensor *positions = rmk_checkpoint_find(golden, "rope_positions");
    assert_non_null(positions);
    for (unsigned c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct rmk_text_spec spec = spec_of(cases[c].theta, cases[c].head_width);
        uint32_t half = spec.head_width / 2;
        float frequencies[64];
        float cosines[64];
        float sines[64];
        rmk_rope_frequencies(&spec, 1, frequencies);
        /* To the last bit: one unit here is 9e-4 at position 16383. */
        assert_memory_equal(frequencies, table(golden, &spec, "inv_freq", 0), half * sizeof(float));
        for (uint64_t row = 0; row < positions->shape[0]; row++) {
            int64_t position;
            memcpy(&position, (const uint8_t *)positions->data + row * sizeof(position),
                   sizeof(position));
            rmk_rope_tables(&spec, 1, (uint32_t)position, 1, cosines, sines);
            /* One unit: the recording's cosine is not correctly rounded everywhere. */
            const float *wanted = table(golden, &spec, "cos", row);
            for (uint32_t i = 0; i < half; i++) {
                assert_true(ulps(cosines[i], wanted[i]) <= 1);
            }
            wanted = table(golden, &spec, "sin", row);
            for (uint32_t i = 0; i < half; i++) {
                assert_true(ulps(sines[i], wanted[i]) <= 1);
            }
        }
    }
    rmk_checkpoint_close(golden);
}

static void tables_are_the_recorded_ones(void **state)
{
    char path[512];

    (void)state;
    check_tables("tests/data/golden/tables/ops.safetensors");
    if (golden_path(path, sizeof(path), "golden/tables/ops.safetensors")) {
        check_tables(path);
    }
}

static void many_rows_equal_one_row_at_a_time(void **state)
{
    struct rmk_text_spec spec = spec_of(10000, 8);
    float cosines[5 * 4];
    float sines[5 * 4];
    float one_cos[4];
    float one_sin[4];

    (void)state;
    rmk_rope_tables(&spec, 1, 3, 5, cosines, sines);
    for (uint32_t row = 0; row < 5; row++) {
        rmk_rope_tables(&spec, 1, 3 + row, 1, one_cos, one_sin);
        assert_memory_equal(cosines + (size_t)row * 4, one_cos, sizeof(one_cos));
        assert_memory_equal(sines + (size_t)row * 4, one_sin, sizeof(one_sin));
    }
}

static void linear_scaling_divides_positions(void **state)
{
    struct rmk_text_spec spec = spec_of(10000, 8);
    struct rmk_text_spec scaled = spec;
    float a[2][4];
    float b[2][4];

    (void)state;
    scaled.rope_scaling = RMK_ROPE_LINEAR;
    scaled.rope_factor = 4;
    rmk_rope_tables(&spec, 100000, 7, 1, a[0], a[1]);
    rmk_rope_tables(&scaled, 100000, 28, 1, b[0], b[1]);
    assert_memory_equal(a, b, sizeof(a));
    assert_false(rmk_rope_is_stretched(&scaled, 100000));
}

static void dynamic_scaling_stretches_long_sequences_only(void **state)
{
    struct rmk_text_spec spec = spec_of(10000, 8);
    float plain[4];
    float scaled[4];

    (void)state;
    rmk_rope_frequencies(&spec, 1, plain);
    spec.rope_scaling = RMK_ROPE_DYNAMIC;
    spec.rope_factor = 2;
    spec.max_positions = 100;
    assert_false(rmk_rope_is_stretched(&spec, 100));
    rmk_rope_frequencies(&spec, 100, scaled);
    assert_memory_equal(plain, scaled, sizeof(plain));

    assert_true(rmk_rope_is_stretched(&spec, 150));
    rmk_rope_frequencies(&spec, 150, scaled);
    double base = 10000 * pow(2.0 * 150 / 100 - 1, 8.0 / 6.0);
    for (uint32_t i = 0; i < 4; i++) {
        float power = (float)pow(base, 2.0 * i / 8);
        assert_true(scaled[i] == 1.0f / power);
        assert_true(i == 0 || scaled[i] < plain[i]);
    }
    /* No memory of the longer sequence. */
    rmk_rope_frequencies(&spec, 100, scaled);
    assert_memory_equal(plain, scaled, sizeof(plain));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_are_the_recorded_ones),
        cmocka_unit_test(many_rows_equal_one_row_at_a_time),
        cmocka_unit_test(linear_scaling_divides_positions),
        cmocka_unit_test(dynamic_scaling_stretches_long_sequences_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
