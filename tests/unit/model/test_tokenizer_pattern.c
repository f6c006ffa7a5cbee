#include "model/tokenizer_pattern.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct rmk_pattern *create(const char *regex)
{
    struct rmk_pattern *pattern = NULL;
    struct rmk_why why = {0};

    if (rmk_pattern_create(regex, &pattern, &why) != RMK_OK) {
        fail_msg("\"%s\": %s", regex, why.text);
    }
    return pattern;
}

/* All matches one after the other, written as "begin-end begin-end". */
static void find_all(const struct rmk_pattern *pattern, const char *text, char *out,
                     size_t capacity)
{
    struct rmk_matcher *matcher = NULL;
    struct rmk_bytes bytes = rmk_bytes_text(text);
    size_t from = 0;
    size_t used = 0;

    out[0] = '\0';
    assert_int_equal(rmk_matcher_create(bytes.size, &matcher, NULL), RMK_OK);
    while (from < bytes.size) {
        bool found = false;
        size_t begin = 0;
        size_t end = 0;
        assert_int_equal(
            rmk_matcher_find(matcher, pattern, bytes, from, &found, &begin, &end, NULL), RMK_OK);
        if (!found) {
            break;
        }
        assert_true(end > begin);
        used += (size_t)snprintf(out + used, capacity - used, "%s%zu-%zu", used > 0 ? " " : "",
                                 begin, end);
        from = end;
    }
    rmk_matcher_destroy(matcher);
}

static void what_oniguruma_spells_differently_means_the_same(void **state)
{
    static const struct {
        const char *regex;
        const char *text;
        const char *matches;
    } cases[] = {
        {"\\s+", "a\t\n\x0b\x0c\r \xc2\x85\xc2\xa0\xe3\x80\x80z", "1-14"},
        {"\\s", "a\xe1\xa0\x8ez", ""}, /* U+180E: PCRE2's own \s would match */
        {"\\S+", "a\xe1\xa0\x8ez b", "0-5 6-7"},
        {"[x\\s]+", "ax\xe3\x80\x80z", "1-5"},
        {"[^x\\s]+", "ax\xe1\xa0\x8e z", "0-1 2-5 6-7"},
        {"\\v", "a\nb\x0b", "3-4"}, /* one character, not a class */
        {"\\u00e9\\x41\\x{1F600}",
         "\xc3\xa9"
         "A\xf0\x9f\x98\x80",
         "0-7"},
        {"^b", "a\nb", "2-3"}, /* a line begins, as in Ruby */
        {"a$", "a\nb", "0-1"},
        {"\\p{^L}", "a1", "1-2"},
        {"\\P{L}", "a1", "1-2"},
        {"(?i:\xc3\xa9)", "\xc3\x89", "0-2"},
        {"[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+", "(ab1", "0-3"},
        {"\\p{N}{1,3}", "12345", "0-3 3-5"},
        {"(?<=a)b(?!c)", "bab bc", "2-3"},
        {"\\+\\.\\[\\-", "+.[-", "0-4"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char matches[128];
        struct rmk_pattern *pattern = create(cases[i].regex);
        find_all(pattern, cases[i].text, matches, sizeof(matches));
        if (strcmp(matches, cases[i].matches) != 0) {
            fail_msg("\"%s\" matches at \"%s\", not \"%s\"", cases[i].regex, matches,
                     cases[i].matches);
        }
        rmk_pattern_destroy(pattern);
    }
}

static void what_the_engines_may_read_differently_is_refused(void **state)
{
    static const char *const refused[] = {
        "\\h",     "\\w",         "\\b",     "\\R",
        "\\X",     "\\K",         "\\1",     "\\k<a>",
        "\\G",     "[\\S]",       "[a[b]]",  "[a&&b]",
        "[]a]",    "[[:alpha:]]", "[a",      "(?m:a)",
        "(?s)a",   "(?R)",        "(?<n>a)", "(?P<n>a)",
        "(?#c)",   "(*UTF)a",     "(?C1)",   "a{,3}",
        "a{1,2}+", "a{2}?",       "a{x}",    "\\p{Han}",
        "\\pL",    "\\p{L",       "\\x4",    "\\x{110000000}",
        "\\u12",   "\\",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        struct rmk_pattern *pattern = NULL;
        struct rmk_why why = {0};
        if (rmk_pattern_create(refused[i], &pattern, &why) != RMK_EUNSUPPORTED) {
            fail_msg("\"%s\" was not refused: %s", refused[i], why.text);
        }
        assert_non_null(strstr(why.text, "the pattern has syntax that is not supported at byte "));
        assert_null(pattern);
    }
}

static void what_is_no_regular_expression_is_refused(void **state)
{
    static const char *const refused[] = {"(a", "a)", "*a", "\\p{Qq}", "\\x{110000}", "[b-a]"};

    (void)state;
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        struct rmk_pattern *pattern = NULL;
        struct rmk_why why = {0};
        if (rmk_pattern_create(refused[i], &pattern, &why) != RMK_ECORRUPT) {
            fail_msg("\"%s\" was not refused: %s", refused[i], why.text);
        }
        assert_non_null(strstr(why.text, "the pattern is no regular expression: "));
    }
}

static void a_literal_is_matched_as_it_is(void **state)
{
    struct rmk_pattern *pattern = NULL;
    char matches[128];

    (void)state;
    assert_int_equal(rmk_pattern_create_literal("\\E.*(", &pattern, NULL), RMK_OK);
    find_all(pattern, "x\\E.*(y\\E.*(", matches, sizeof(matches));
    assert_string_equal(matches, "1-6 7-12");
    rmk_pattern_destroy(pattern);
}

static void a_huge_pattern_is_refused(void **state)
{
    struct rmk_pattern *pattern = NULL;
    struct rmk_why why = {0};
    char huge[100001];

    (void)state;
    memset(huge, 'a', sizeof(huge) - 1);
    huge[sizeof(huge) - 1] = '\0';
    assert_int_equal(rmk_pattern_create(huge, &pattern, &why), RMK_EUNSUPPORTED);
    assert_string_equal(why.text, "the pattern has 100000 bytes, at most 4096 are allowed");

    memset(huge, '(', RMK_PATTERN_BYTES_MAX);
    memset(huge + RMK_PATTERN_BYTES_MAX / 2, ')', RMK_PATTERN_BYTES_MAX / 2);
    huge[RMK_PATTERN_BYTES_MAX] = '\0';
    assert_int_equal(rmk_pattern_create(huge, &pattern, &why), RMK_ECORRUPT);
    assert_string_equal(why.text,
                        "the pattern is no regular expression: parentheses are too deeply nested");

    assert_int_equal(rmk_pattern_create("(?:(?:a{60000}){60000}){60000}", &pattern, &why),
                     RMK_ECORRUPT);
    assert_null(pattern);
}

/* Exponential in one place, quadratic in one match, cubic, and quadratic over all places to begin.
 * The text ends so that the engine cannot see beforehand that nothing will match. */
static void a_pattern_that_would_not_end_is_stopped(void **state)
{
    static const struct {
        const char *regex;
        char last;
    } cases[] = {{"(?:a|a)*b", 'b'},
                 {"(?:a+)+b", 'b'},
                 {"(?:a++b|a)*c", 'c'},
                 {"a++b", 'b'},
                 {"a*a*a*b", 'b'}};
    enum { SIZE = 1 << 16 };
    static char text[SIZE];
    bool found;
    size_t begin;
    size_t end;

    (void)state;
    memset(text, 'a', SIZE);
    text[SIZE - 2] = '.';
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rmk_pattern *pattern = create(cases[i].regex);
        struct rmk_matcher *matcher = NULL;
        struct rmk_why why = {0};
        text[SIZE - 1] = cases[i].last;
        assert_int_equal(rmk_matcher_create(SIZE, &matcher, NULL), RMK_OK);
        enum rmk_err err = rmk_matcher_find(matcher, pattern, rmk_bytes_of(text, SIZE), 0, &found,
                                            &begin, &end, &why);
        if (err != RMK_ELIMIT) {
            fail_msg("\"%s\" was not stopped: %s", cases[i].regex, rmk_err_name(err));
        }
        assert_memory_equal(why.text, "the pre-tokenizer's pattern ", 28);
        rmk_matcher_destroy(matcher);
        rmk_pattern_destroy(pattern);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_oniguruma_spells_differently_means_the_same),
        cmocka_unit_test(what_the_engines_may_read_differently_is_refused),
        cmocka_unit_test(what_is_no_regular_expression_is_refused),
        cmocka_unit_test(a_literal_is_matched_as_it_is),
        cmocka_unit_test(a_huge_pattern_is_refused),
        cmocka_unit_test(a_pattern_that_would_not_end_is_stopped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
