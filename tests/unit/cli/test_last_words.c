/* cli/last_words.c: the sentence at the end of a log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/last_words.h"

static char path[64];

static void write_log(const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int make_file(void **state)
{
    (void)state;
    (void)snprintf(path, sizeof(path), "/tmp/remask-last-words-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 || close(fd) != 0;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static void the_last_error_is_preferred_to_later_lines(void **state)
{
    char words[256];

    (void)state;
    write_log(
        "level=info msg=started\n"
        "level=error part=text msg=\"too early\" why=first\n"
        "level=error part=text msg=\"cannot load the model\" why=\"tensor \\\"a b\\\" is gone\"\n"
        "level=info msg=stopping\n");
    rmk_last_words(path, words, sizeof(words));
    assert_string_equal(words, "cannot load the model: tensor \"a b\" is gone");
}

static void without_an_error_the_last_line_speaks(void **state)
{
    char words[256];

    (void)state;
    write_log("level=info msg=started\nremask-worker: there is no flag --x\n\n");
    rmk_last_words(path, words, sizeof(words));
    assert_string_equal(words, "remask-worker: there is no flag --x");
    write_log("level=warn msg=\"rank died\" rank=1\n");
    rmk_last_words(path, words, sizeof(words));
    assert_string_equal(words, "rank died");
}

static void an_empty_log_or_none_is_said(void **state)
{
    char words[256];

    (void)state;
    write_log("");
    rmk_last_words(path, words, sizeof(words));
    assert_string_equal(words, "it left no message");
    rmk_last_words("/nonexistent/log", words, sizeof(words));
    assert_string_equal(words, "it left no message");
}

static void a_long_log_is_read_from_its_end(void **state)
{
    char words[64];
    FILE *file = fopen(path, "w");

    (void)state;
    assert_non_null(file);
    for (int i = 0; i < 20000; i++) {
        (void)fprintf(file, "level=info msg=\"line %d\"\n", i);
    }
    (void)fprintf(file, "level=error msg=over why=\"the end\"\n");
    assert_int_equal(fclose(file), 0);
    rmk_last_words(path, words, sizeof(words));
    assert_string_equal(words, "over: the end");
}

static void fields_inside_quoted_values_are_not_fields(void **state)
{
    char value[16];

    (void)state;
    assert_true(
        rmk_last_words_field("a=\"why=no level=error\" why=yes", "why", value, sizeof(value)));
    assert_string_equal(value, "yes");
    assert_false(rmk_last_words_field("a=\"x \\\" level=error\"", "level", value, sizeof(value)));
    assert_false(rmk_last_words_field("xwhy=no", "why", value, sizeof(value)));
    assert_true(rmk_last_words_field("why=0123456789abcdefghij", "why", value, sizeof(value)));
    assert_string_equal(value, "0123456789abcde"); /* cut, not overrun */
    assert_true(rmk_last_words_field("why=\"open", "why", value, sizeof(value)));
    assert_string_equal(value, "open");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_error_is_preferred_to_later_lines),
        cmocka_unit_test(without_an_error_the_last_line_speaks),
        cmocka_unit_test(an_empty_log_or_none_is_said),
        cmocka_unit_test(a_long_log_is_read_from_its_end),
        cmocka_unit_test(fields_inside_quoted_values_are_not_fields),
    };

    return cmocka_run_group_tests(tests, make_file, remove_file);
}
