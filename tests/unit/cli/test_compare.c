#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/compare.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void assert_text(struct rmk_bytes text, const char *expected)
{
    assert_int_equal(text.size, strlen(expected));
    assert_memory_equal(text.data, expected, text.size);
}

static void equal_answers_part_nowhere(void **state)
{
    const int32_t ids[] = {3, 1, 2};
    struct rmk_bytes text = rmk_bytes_text("a cat");
    struct rmk_parting parting = rmk_compare_find(ids, COUNT(ids), text, ids, COUNT(ids), text);

    (void)state;
    assert_true(parting.same);
    assert_int_equal(parting.agreeing, 3);
    assert_int_equal(parting.text_offset, 5);
    parting = rmk_compare_find(NULL, 0, (struct rmk_bytes){0}, NULL, 0, (struct rmk_bytes){0});
    assert_true(parting.same);
}

static void the_first_difference_counts_and_later_agreement_too(void **state)
{
    const int32_t a[] = {3, 1, 2, 9};
    const int32_t b[] = {3, 5, 2, 8, 7};
    struct rmk_parting parting = rmk_compare_find(a, COUNT(a), rmk_bytes_text("one red ball"), b,
                                                  COUNT(b), rmk_bytes_text("one ripe ball"));

    (void)state;
    assert_false(parting.same);
    assert_int_equal(parting.token, 1);
    assert_int_equal(parting.agreeing, 2);
    assert_int_equal(parting.longer, 5);
    assert_int_equal(parting.text_offset, 5);
}

static void an_answer_that_begins_the_other_parts_at_its_end(void **state)
{
    const int32_t a[] = {3, 1};
    const int32_t b[] = {3, 1, 4};
    struct rmk_parting parting =
        rmk_compare_find(a, 2, rmk_bytes_text("ab"), b, 3, rmk_bytes_text("abc"));

    (void)state;
    assert_false(parting.same);
    assert_int_equal(parting.token, 2);
    assert_int_equal(parting.text_offset, 2);
}

/* é is c3 a9, è is c3 a8: they differ in their second byte. */
static void texts_part_between_characters(void **state)
{
    const int32_t a[] = {1};
    const int32_t b[] = {2};
    struct rmk_parting parting =
        rmk_compare_find(a, 1, rmk_bytes_text("caf\xc3\xa9!"), b, 1, rmk_bytes_text("caf\xc3\xa8"));

    (void)state;
    assert_int_equal(parting.text_offset, 3);
}

static void an_excerpt_keeps_characters_whole_and_says_what_it_leaves_out(void **state)
{
    struct rmk_bytes text = rmk_bytes_text("\xc3\xa9\xc3\xa9|\xc3\xa9\xc3\xa9");
    struct rmk_excerpt excerpt = rmk_compare_excerpt(text, 4, 3, 4);

    (void)state;
    assert_text(excerpt.before, "\xc3\xa9");
    assert_text(excerpt.after, "|\xc3\xa9");
    assert_true(excerpt.begins_later);
    assert_true(excerpt.ends_earlier);
    excerpt = rmk_compare_excerpt(text, 4, 4, 5);
    assert_text(excerpt.before, "\xc3\xa9\xc3\xa9");
    assert_text(excerpt.after, "|\xc3\xa9\xc3\xa9");
    assert_false(excerpt.begins_later);
    assert_false(excerpt.ends_earlier);
    excerpt = rmk_compare_excerpt(text, text.size, 100, 100);
    assert_int_equal(excerpt.before.size, text.size);
    assert_int_equal(excerpt.after.size, 0);
}

static void an_excerpt_of_no_utf8_stays_inside_the_text(void **state)
{
    struct rmk_bytes text = rmk_bytes_text("\xa9\xa9\xa9\xa9\xa9\xa9");

    (void)state;
    for (size_t offset = 0; offset <= text.size; offset++) {
        struct rmk_excerpt excerpt = rmk_compare_excerpt(text, offset, 2, 2);

        assert_true(excerpt.before.data >= text.data);
        assert_ptr_equal(excerpt.before.data + excerpt.before.size, text.data + offset);
        assert_ptr_equal(excerpt.after.data, text.data + offset);
        assert_true(excerpt.after.size <= text.size - offset);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_answers_part_nowhere),
        cmocka_unit_test(the_first_difference_counts_and_later_agreement_too),
        cmocka_unit_test(an_answer_that_begins_the_other_parts_at_its_end),
        cmocka_unit_test(texts_part_between_characters),
        cmocka_unit_test(an_excerpt_keeps_characters_whole_and_says_what_it_leaves_out),
        cmocka_unit_test(an_excerpt_of_no_utf8_stays_inside_the_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
