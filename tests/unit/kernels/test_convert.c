#include "kernels/convert.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "common/prng.h"

static uint16_t to_f16_by_compiler(float value)
{
    _Float16 half = (_Float16)value;
    uint16_t bits;

    memcpy(&bits, &half, sizeof(bits));
    return bits;
}

static void every_half_survives_widening_and_rounding(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        float value = rmk_convert_f16((uint16_t)bits);
        if (isnan(value)) {
            assert_true(isnan(rmk_convert_f16(rmk_convert_to_f16(value))));
        } else {
            assert_int_equal(rmk_convert_to_f16(value), bits);
        }
    }
}

static void to_f16_rounds_as_the_compiler_does(void **state)
{
    static const float edges[] = {65504.0F,   65519.996F, 65520.0F,      1e30F,
                                  INFINITY,   0x1p-24F,   0x1p-25F,      0x1.8p-25F,
                                  0x1.8p-24F, 0x1p-14F,   0x1.ffcp-15F,  0x1.ffep-15F,
                                  0x1p-149F,  0.0F,       1.00048828125F};

    (void)state;
    for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
        assert_int_equal(rmk_convert_to_f16(edges[i]), to_f16_by_compiler(edges[i]));
        assert_int_equal(rmk_convert_to_f16(-edges[i]), to_f16_by_compiler(-edges[i]));
    }
    for (uint64_t i = 0; i < 200000; i++) { /* any bits at all but NaN's */
        float value = rmk_convert_bits((uint32_t)rmk_prng_splitmix(5, i));
        if (!isnan(value)) {
            assert_int_equal(rmk_convert_to_f16(value), to_f16_by_compiler(value));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_survives_widening_and_rounding),
        cmocka_unit_test(to_f16_rounds_as_the_compiler_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
