#include "common/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void every_scalar_value_is_written_and_read_back(void **state)
{
    (void)state;
    for (uint32_t codepoint = 0; codepoint <= 0x10ffff; codepoint++) {
        char text[RMK_UTF8_MAX];
        uint32_t back = 0;
        size_t length = 0;
        if (codepoint == 0xd800) {
            codepoint = 0xe000;
        }
        size_t size = rmk_utf8_encode(codepoint, text);
        if (rmk_utf8_next(rmk_bytes_of(text, size), &back, &length) != RMK_UTF8_VALID ||
            back != codepoint || length != size) {
            fail_msg("U+%04X is not read back", (unsigned)codepoint);
        }
        /* Cut short it is unfinished, at every length. */
        for (size_t cut = 1; cut < size; cut++) {
            if (rmk_utf8_next(rmk_bytes_of(text, cut), &back, &length) != RMK_UTF8_UNFINISHED ||
                length != cut) {
                fail_msg("U+%04X cut to %zu bytes is not unfinished", (unsigned)codepoint, cut);
            }
        }
    }
}

static void a_bad_sequence_ends_at_its_maximal_prefix(void **state)
{
    static const struct {
        const char *text;
        size_t length;
    } cases[] = {
        {"\x80", 1},             /* a continuation alone */
        {"\xc0\x80", 1},         /* overlong */
        {"\xc1\xbf", 1},         /* overlong */
        {"\xc2 ", 1},            /* begins well, then a space */
        {"\xe0\x9f\xbf", 1},     /* overlong: known at the second byte */
        {"\xe2\x82 ", 2},        /* two good bytes */
        {"\xed\xa0\x80", 1},     /* a surrogate */
        {"\xf0\x8f\xbf\xbf", 1}, /* overlong */
        {"\xf0\x9f\x98 ", 3},    /* three good bytes */
        {"\xf4\x90\x80\x80", 1}, /* past U+10FFFF */
        {"\xf5\x80\x80\x80", 1},
        {"\xff", 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t codepoint;
        size_t length = 0;
        assert_int_equal(rmk_utf8_next(rmk_bytes_text(cases[i].text), &codepoint, &length),
                         RMK_UTF8_INVALID);
        if (length != cases[i].length) {
            fail_msg("case %zu ends after %zu bytes, not %zu", i, length, cases[i].length);
        }
    }
}

static void the_first_bad_byte_of_a_text_is_found(void **state)
{
    size_t offset = 99;

    (void)state;
    assert_true(rmk_utf8_valid(rmk_bytes_text(""), &offset));
    assert_true(rmk_utf8_valid(rmk_bytes_text("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"), &offset));
    assert_int_equal(offset, 99);
    assert_false(rmk_utf8_valid(rmk_bytes_text("a\xc3\xa9\xe2\x82"), &offset));
    assert_int_equal(offset, 3);
    assert_false(rmk_utf8_valid(rmk_bytes_text("abc\xff"), NULL));
    /* A NUL is a character like any other. */
    assert_true(rmk_utf8_valid(rmk_bytes_of("a\0b", 3), NULL));
}

static void white_space_is_what_python_calls_so(void **state)
{
    static const uint32_t spaces[] = {
        0x09,   0x0a,   0x0b,   0x0c,   0x0d,   0x1c,   0x1d,   0x1e,   0x1f,   0x20,
        0x85,   0xa0,   0x1680, 0x2000, 0x2001, 0x2002, 0x2003, 0x2004, 0x2005, 0x2006,
        0x2007, 0x2008, 0x2009, 0x200a, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000};
    size_t next = 0;

    (void)state;
    for (uint32_t codepoint = 0; codepoint <= 0x10ffff; codepoint++) {
        bool wanted = next < sizeof(spaces) / sizeof(spaces[0]) && spaces[next] == codepoint;
        if (rmk_utf8_is_space(codepoint) != wanted) {
            fail_msg("U+%04X", (unsigned)codepoint);
        }
        next += wanted;
    }
    assert_int_equal(next, sizeof(spaces) / sizeof(spaces[0]));
}

static void assert_strips(const char *text, const char *wanted)
{
    struct rmk_bytes kept = rmk_utf8_strip(rmk_bytes_text(text));

    assert_true(rmk_bytes_equal(kept, rmk_bytes_text(wanted)));
}

static void strip_takes_white_space_off_both_ends_only(void **state)
{
    (void)state;
    assert_strips("", "");
    assert_strips(" \n\t", "");
    assert_strips("a", "a");
    assert_strips("\xe3\x80\x80\x1c a  b\xc2\x85 \xe2\x80\xa9", "a  b");
    assert_strips("\xe2\x80\x8b", "\xe2\x80\x8b"); /* zero width space is none */
    assert_strips("\xe1\xa0\x8ex\xe1\xa0\x8e", "\xe1\xa0\x8ex\xe1\xa0\x8e"); /* nor is U+180E */
    assert_strips(" \xc3\xa9 ", "\xc3\xa9");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_scalar_value_is_written_and_read_back),
        cmocka_unit_test(a_bad_sequence_ends_at_its_maximal_prefix),
        cmocka_unit_test(the_first_bad_byte_of_a_text_is_found),
        cmocka_unit_test(white_space_is_what_python_calls_so),
        cmocka_unit_test(strip_takes_white_space_off_both_ends_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
