#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/cuda/row_class.h"

static void batch_invariant_every_number_of_rows_has_the_same_class(void **state)
{
    (void)state;
    for (uint32_t rows = 1; rows < 5000; rows++) {
        assert_int_equal(rmk_row_class(rows, false), RMK_ROW_CLASS_WHOLE);
    }
    assert_int_equal(rmk_row_class(UINT32_MAX, false), RMK_ROW_CLASS_WHOLE);
    assert_int_equal(rmk_row_class_rows(RMK_ROW_CLASS_WHOLE), 1024);
}

static void by_rows_a_class_ends_with_the_rows_it_is_chosen_for(void **state)
{
    static const uint32_t expected[][2] = {
        {1, 0},   {32, 0},  {64, 0},   {65, 1},   {128, 1},        {256, 1},
        {257, 2}, {512, 2}, {1024, 2}, {1025, 2}, {64u * 3040, 2}, {UINT32_MAX, 2},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        assert_int_equal(rmk_row_class(expected[i][0], true), expected[i][1]);
    }
}

/* A plan is prepared with the rows of its class and must be found again by them. */
static void the_rows_of_a_class_are_in_it(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < RMK_ROW_CLASSES; i++) {
        assert_int_equal(rmk_row_class(rmk_row_class_rows(i), true), i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch_invariant_every_number_of_rows_has_the_same_class),
        cmocka_unit_test(by_rows_a_class_ends_with_the_rows_it_is_chosen_for),
        cmocka_unit_test(the_rows_of_a_class_are_in_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
