/* The bench's limits against the roofline's tables for an H200. */
#include "tests/bench/gpu/limits.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const struct limits_text llada = {.layers = 32, .width = 4096, .ff = 12288, .vocab = 126464};
static const struct limits_tower siglip = {
    .layers = 26, .width = 1152, .ff = 4304, .rows = 729, .projected = 4096};

static void is_ms(double seconds, double wanted)
{
    if (fabs(seconds * 1e3 - wanted) > 0.006 * wanted) { /* the tables have three figures */
        fail_msg("%.3f ms, the roofline says %.3f", seconds * 1e3, wanted);
    }
}

static void rows_of_the_roofline_come_out(void **state)
{
    const struct limits_peak h200 = limits_peak_of("cuda NVIDIA H200, sm_90");

    (void)state;
    is_ms(limits_forward(&h200, &llada, 1, 3039, 3039, 64), 47.9);
    is_ms(limits_forward(&h200, &llada, 1, 32, 3039, 32), 3.46);
    is_ms(limits_forward(&h200, &llada, 16, 32, 3039, 16 * 32), 13.1);
    is_ms(limits_forward(&h200, &llada, 16, 64, 3039, 16 * 64), 20.8);
    is_ms(limits_forward(&h200, &llada, 1, 1594, 1594, 64), 23.9);
    is_ms(limits_cached(&h200, &llada, 16, 3039), 16 * 0.332);
    is_ms(limits_tower(&h200, &siglip, 5), 3.40);
    is_ms(limits_tower(&h200, &siglip, 37), 25.2);
}

static void a_gpu_is_known_by_its_name(void **state)
{
    (void)state;
    assert_true(limits_peak_of("cuda NVIDIA H100 80GB HBM3, sm_90").bytes == 3.35e12);
    assert_true(limits_peak_of("cuda NVIDIA H100 PCIe, sm_90").flops == 756e12);
    assert_true(limits_peak_of("cuda NVIDIA GH200 480GB, sm_90").bytes == 4.0e12);
    assert_true(limits_peak_of("cuda NVIDIA A100-SXM4-80GB, sm_80").flops == 312e12);
    assert_true(limits_peak_of("cuda NVIDIA T4, sm_75").flops == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_the_roofline_come_out),
        cmocka_unit_test(a_gpu_is_known_by_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
