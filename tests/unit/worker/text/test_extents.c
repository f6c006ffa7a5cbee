/* worker/text/extents.c: first fit, and what may slide down. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/text/extents.h"

static void the_lowest_gap_that_is_long_enough_is_taken(void **state)
{
    struct rmk_extents extents;
    struct rmk_extent a = {0};
    struct rmk_extent b = {0};
    struct rmk_extent c = {0};
    struct rmk_extent d = {0};

    (void)state;
    assert_int_equal(rmk_extents_init(&extents, 100, 8, NULL), RMK_OK);
    assert_true(rmk_extents_take(&extents, 40, &a));
    assert_true(rmk_extents_take(&extents, 20, &b));
    assert_true(rmk_extents_take(&extents, 40, &c));
    assert_int_equal(b.begin, 40);
    assert_int_equal(c.begin, 60);
    assert_false(rmk_extents_take(&extents, 1, &d));
    rmk_extents_give_back(&extents, &a);
    rmk_extents_give_back(&extents, &a); /* empty now */
    assert_int_equal(extents.used, 60);
    assert_false(rmk_extents_take(&extents, 41, &d));
    assert_int_equal(d.count, 0);
    assert_true(rmk_extents_take(&extents, 10, &a));
    assert_true(rmk_extents_take(&extents, 30, &d));
    assert_int_equal(a.begin, 0);
    assert_int_equal(d.begin, 10);
    rmk_extents_deinit(&extents);
}

static void what_lies_above_free_rows_is_loose(void **state)
{
    struct rmk_extents extents;
    struct rmk_extent a = {0};
    struct rmk_extent b = {0};
    struct rmk_extent c = {0};
    uint32_t gap = 0;

    (void)state;
    assert_int_equal(rmk_extents_init(&extents, 64, 3, NULL), RMK_OK);
    assert_null(rmk_extents_loose(&extents, &gap));
    assert_true(rmk_extents_take(&extents, 5, &a));
    assert_true(rmk_extents_take(&extents, 6, &b));
    assert_true(rmk_extents_take(&extents, 7, &c));
    assert_null(rmk_extents_loose(&extents, &gap));
    rmk_extents_give_back(&extents, &b);
    assert_ptr_equal(rmk_extents_loose(&extents, &gap), &c);
    assert_int_equal(gap, 6);
    rmk_extents_give_back(&extents, &a);
    assert_ptr_equal(rmk_extents_loose(&extents, &gap), &c);
    assert_int_equal(gap, 11);
    rmk_extents_deinit(&extents);
}

static void no_more_extents_than_announced_are_taken(void **state)
{
    struct rmk_extents extents;
    struct rmk_extent a[3] = {{0}};

    (void)state;
    assert_int_equal(rmk_extents_init(&extents, UINT32_MAX, 2, NULL), RMK_OK);
    assert_true(rmk_extents_take(&extents, UINT32_MAX - 1, &a[0]));
    assert_false(rmk_extents_take(&extents, 2, &a[1]));
    assert_true(rmk_extents_take(&extents, 1, &a[1]));
    rmk_extents_give_back(&extents, &a[0]);
    assert_true(rmk_extents_take(&extents, 1, &a[0]));
    assert_false(rmk_extents_take(&extents, 1, &a[2]));
    rmk_extents_deinit(&extents);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_lowest_gap_that_is_long_enough_is_taken),
        cmocka_unit_test(what_lies_above_free_rows_is_loose),
        cmocka_unit_test(no_more_extents_than_announced_are_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
