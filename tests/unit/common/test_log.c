#include "common/log.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Lines go into an unlinked file, read back as one text. */
static int file = -1;

static const char *written(void)
{
    static char text[64 * 1024];
    ssize_t size = pread(file, text, sizeof(text) - 1, 0);

    assert_true(size >= 0);
    text[size] = '\0';
    return text;
}

static unsigned lines(void)
{
    unsigned count = 0;

    for (const char *at = written(); *at != '\0'; at++) {
        count += *at == '\n';
    }
    return count;
}

static int set_up(void **state)
{
    char path[] = "/tmp/rmk-test-log-XXXXXX";

    (void)state;
    file = mkstemp(path);
    assert_true(file >= 0);
    (void)unlink(path);
    rmk_log_to(file);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rmk_log_to(-1);
    return close(file);
}

static void assert_written(const char *part)
{
    if (strstr(written(), part) == NULL) {
        print_error("wanted: %s\nwritten: %s\n", part, written());
        fail();
    }
}

static void logfmt_line_has_time_level_part_message_and_fields(void **state)
{
    unsigned year, month, day, hour, minute, second, micros;
    const char *line;

    (void)state;
    rmk_log_init(RMK_LOG_INFO, RMK_LOG_LOGFMT, "coordinator");
    rmk_log(RMK_LOG_WARN, "engine", "group lost", "group=%u epoch=%llu ratio=%.2f why=%s", 3u,
            18446744073709551615ull, 0.5, "rank 2 left");
    line = written();
    assert_int_equal(sscanf(line, "time=%4u-%2u-%2uT%2u:%2u:%2u.%6uZ ", &year, &month, &day, &hour,
                            &minute, &second, &micros),
                     7);
    assert_true(year >= 2024);
    assert_non_null(strchr(line, ' '));
    assert_string_equal(strchr(line, ' '),
                        " level=warn process=coordinator part=engine msg=\"group lost\" group=3 "
                        "epoch=18446744073709551615 ratio=0.50 why=\"rank 2 left\"\n");
}

static void level_decides_what_is_written(void **state)
{
    (void)state;
    rmk_log_init(RMK_LOG_WARN, RMK_LOG_LOGFMT, NULL);
    rmk_log(RMK_LOG_DEBUG, "t", "level debug", NULL);
    rmk_log(RMK_LOG_INFO, "t", "level info", NULL);
    rmk_log(RMK_LOG_WARN, "t", "level warn", NULL);
    rmk_log(RMK_LOG_ERROR, "t", "level error", NULL);
    assert_int_equal(lines(), 2);
    assert_false(rmk_log_enabled(RMK_LOG_INFO));
    assert_true(rmk_log_enabled(RMK_LOG_ERROR));
}

static void values_cannot_forge_a_line_or_a_field(void **state)
{
    (void)state;
    rmk_log_init(RMK_LOG_INFO, RMK_LOG_LOGFMT, NULL);
    rmk_log(RMK_LOG_INFO, "t", "hostile", "name=%s after=%d",
            "a\nlevel=error msg=\"gone\"\x1b[31m\r\t\x7f\xff\xe2\x80\xae\\", 1);
    assert_int_equal(lines(), 1);
    assert_written(
        "name=\"a\\nlevel=error "
        "msg=\\\"gone\\\"\\u001b[31m\\u000d\\u0009\\u007f\\ufffd\\u202e\\\\\" after=1\n");
}

static void values_that_need_no_quotes_have_none_and_empty_ones_do(void **state)
{
    const char *volatile nothing = NULL; /* the compiler must not know */

    (void)state;
    rmk_log_init(RMK_LOG_INFO, RMK_LOG_LOGFMT, NULL);
    rmk_log(RMK_LOG_INFO, "t", "plain", "a=%s b=%s c=%s d=%ux%u e=%.*s f=%s", "x/y:1", "", "k=v",
            4u, 5u, 3, "abcdef", nothing);
    assert_written(" a=x/y:1 b=\"\" c=\"k=v\" d=4x5 e=abc f=(null)\n");
}

static void json_line_types_its_values(void **state)
{
    (void)state;
    rmk_log_init(RMK_LOG_INFO, RMK_LOG_JSON, "worker");
    rmk_log(RMK_LOG_ERROR, "t", "say \"hi\"",
            "n=%d big=%zu x=%x size=%ux%u f=%g nan=%f text=%s bad=%s", -5, (size_t)7, 255u, 2u, 3u,
            1.5, NAN, "caf\xc3\xa9", "\xc3(");
    assert_int_equal(lines(), 1);
    assert_memory_equal(written(), "{\"time\":\"", 9);
    assert_written("\",\"level\":\"error\",\"process\":\"worker\",\"part\":\"t\",\"msg\":\"say "
                   "\\\"hi\\\"\",\"n\":-5,\"big\":7,\"x\":\"ff\",\"size\":\"2x3\",\"f\":1.5,"
                   "\"nan\":\"nan\",\"text\":\"caf\xc3\xa9\",\"bad\":\"\\ufffd(\"}\n");
}

static void text_format_is_for_people(void **state)
{
    (void)state;
    rmk_log_init(RMK_LOG_INFO, RMK_LOG_TEXT, "worker");
    rmk_log(RMK_LOG_INFO, "serve", "ready", "port=%u", 8001u);
    assert_written("Z info  serve: ready port=8001\n");
}

static void long_values_are_cut_and_the_line_stays_whole(void **state)
{
    static char big[10000];

    (void)state;
    memset(big, 'x', sizeof(big) - 1);
    for (int format = RMK_LOG_LOGFMT; format <= RMK_LOG_JSON; format++) {
        assert_int_equal(ftruncate(file, 0), 0);
        assert_int_equal(lseek(file, 0, SEEK_SET), 0);
        rmk_log_init(RMK_LOG_INFO, (enum rmk_log_format)format, NULL);
        rmk_log(RMK_LOG_INFO, "t", "long", "a=%s b=%s c=%s n=%d", big, big, big, 5);
        size_t size = strlen(written());
        assert_in_range(size, RMK_LOG_LINE_MAX - 600, RMK_LOG_LINE_MAX);
        assert_int_equal(lines(), 1);
        const char *end = format == RMK_LOG_JSON ? "\xe2\x80\xa6\"}\n" : "\xe2\x80\xa6\"\n";
        assert_string_equal(written() + size - strlen(end), end);
    }
}

static void repeats_are_dropped_and_counted(void **state)
{
    (void)state;
    rmk_log_init(RMK_LOG_DEBUG, RMK_LOG_LOGFMT, NULL);
    for (int i = 0; i < RMK_LOG_REPEAT_MAX + 30; i++) {
        rmk_log(RMK_LOG_WARN, "t", "flood", "i=%d", i);
    }
    assert_int_equal(lines(), RMK_LOG_REPEAT_MAX);
    rmk_log(RMK_LOG_WARN, "t", "another message", NULL);
    assert_int_equal(lines(), RMK_LOG_REPEAT_MAX + 1);
    for (int i = 0; i < RMK_LOG_REPEAT_MAX + 30; i++) {
        rmk_log(RMK_LOG_DEBUG, "t", "trace", NULL); /* the trace is never cut */
    }
    assert_int_equal(lines(), 2 * RMK_LOG_REPEAT_MAX + 31);
    (void)usleep(1100000);
    rmk_log(RMK_LOG_INFO, "t", "later", NULL);
    assert_written("part=t msg=\"repeated lines dropped\" repeated=flood dropped=30\n");
}

static void reader_that_stalls_does_not_stop_the_writer(void **state)
{
    int ends[2];
    char text[8192];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    rmk_log_init(RMK_LOG_DEBUG, RMK_LOG_LOGFMT, NULL);
    rmk_log_to(ends[1]);
    memset(text, 'y', 2000);
    text[2000] = '\0';
    for (int i = 0; i < 200; i++) { /* some 400 kB into a pipe of at most 64 */
        rmk_log(RMK_LOG_DEBUG, "t", "much", "text=%s", text);
    }
    size_t got = 0;
    while (got < 20000) {
        ssize_t size = read(ends[0], text, sizeof(text));
        assert_true(size > 0);
        got += (size_t)size;
    }
    rmk_log(RMK_LOG_DEBUG, "t", "again", NULL);
    (void)close(ends[1]);
    rmk_log_to(file);
    bool told = false;
    ssize_t size;
    size_t kept = 0;
    while ((size = read(ends[0], text + kept, sizeof(text) - 1 - kept)) > 0) {
        kept += (size_t)size;
        text[kept] = '\0';
        told = told || strstr(text, "lines lost") != NULL;
        if (kept > 4096) { /* keep an overlap, so that nothing hides on a boundary */
            memmove(text, text + kept - 512, 512);
            kept = 512;
        }
    }
    (void)close(ends[0]);
    assert_true(told);
}

#define log_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        log_test(logfmt_line_has_time_level_part_message_and_fields),
        log_test(level_decides_what_is_written),
        log_test(values_cannot_forge_a_line_or_a_field),
        log_test(values_that_need_no_quotes_have_none_and_empty_ones_do),
        log_test(json_line_types_its_values),
        log_test(text_format_is_for_people),
        log_test(long_values_are_cut_and_the_line_stays_whole),
        log_test(repeats_are_dropped_and_counted),
        log_test(reader_that_stalls_does_not_stop_the_writer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
