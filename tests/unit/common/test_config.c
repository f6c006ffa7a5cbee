#include "common/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const char *const backends[] = {"ref", "cpu", "cuda", NULL};

struct options {
    const char *listen;
    struct rmk_config_texts stop;
    bool verify;
    uint64_t queue;
    double temperature;
    uint64_t cache;
    uint64_t timeout;
    int backend;
};

struct fixture {
    struct options options;
    struct rmk_config_flag flags[8];
    struct rmk_config config;
    struct rmk_why why;
};

static void prepare(struct fixture *f)
{
    struct rmk_config_flag flags[] = {
        {.name = "listen-grpc",
         .kind = RMK_CONFIG_TEXT,
         .target = &f->options.listen,
         .fallback = "127.0.0.1:8001",
         .argument = "HOST:PORT",
         .help = "where clients connect"},
        {.name = "stop", .kind = RMK_CONFIG_TEXTS, .target = &f->options.stop, .help = "stops"},
        {.name = "verify", .kind = RMK_CONFIG_SWITCH, .target = &f->options.verify, .help = "look"},
        {.name = "queue",
         .kind = RMK_CONFIG_UINT,
         .target = &f->options.queue,
         .fallback = "1024",
         .min = 1,
         .max = 4096,
         .argument = "N",
         .help = "requests that may wait"},
        {.name = "temperature",
         .kind = RMK_CONFIG_DOUBLE,
         .target = &f->options.temperature,
         .double_min = 0,
         .double_max = 2,
         .help = "noise"},
        {.name = "cache",
         .kind = RMK_CONFIG_BYTES,
         .target = &f->options.cache,
         .fallback = "2GiB",
         .help = "features"},
        {.name = "timeout",
         .kind = RMK_CONFIG_DURATION,
         .target = &f->options.timeout,
         .fallback = "10s",
         .help = "patience"},
        {.name = "backend",
         .kind = RMK_CONFIG_CHOICE,
         .target = &f->options.backend,
         .choices = backends,
         .fallback = "cpu",
         .help = "arithmetic"},
    };

    *f = (struct fixture){0};
    memcpy(f->flags, flags, sizeof(flags));
    f->config = (struct rmk_config){.program = "remask-test",
                                    .summary = "Tests.",
                                    .operands_name = "IMAGE",
                                    .operands_max = 2,
                                    .flags = f->flags,
                                    .flag_count = 8};
}

static enum rmk_err parse_with(struct fixture *f, char **environment, const char *const *arguments)
{
    char *argv[32] = {(char *)(uintptr_t) "remask-test"};
    int argc = 1;

    prepare(f);
    for (; arguments[argc - 1] != NULL; argc++) {
        argv[argc] = (char *)(uintptr_t)arguments[argc - 1];
    }
    return rmk_config_parse(&f->config, argc, argv, environment, &f->why);
}

#define parse(f, ...) parse_with((f), NULL, (const char *[]){__VA_ARGS__, NULL})
#define parse_env(f, variable, ...)                                                                \
    parse_with((f), (char *[]){(char *)(uintptr_t)(variable), NULL},                               \
               (const char *[]){__VA_ARGS__, NULL})

static void assert_refused(struct fixture *f, enum rmk_err err, const char *sentence)
{
    assert_int_equal(err, RMK_EINVAL);
    assert_string_equal(f->why.text, sentence);
    rmk_config_deinit(&f->config);
}

static void defaults_stand_when_nothing_is_given(void **state)
{
    struct fixture f;

    (void)state;
    assert_int_equal(parse_with(&f, NULL, (const char *[]){NULL}), RMK_OK);
    assert_string_equal(f.options.listen, "127.0.0.1:8001");
    assert_int_equal(f.options.queue, 1024);
    assert_true(f.options.temperature == 0);
    assert_int_equal(f.options.cache, 2147483648u);
    assert_int_equal(f.options.timeout, 10000000u);
    assert_int_equal(f.options.backend, 1);
    assert_false(f.options.verify);
    assert_int_equal(f.options.stop.count, 0);
    assert_int_equal(rmk_config_flag(&f.config, "queue")->origin, RMK_CONFIG_DEFAULT);
    assert_int_equal(rmk_config_flag(&f.config, "stop")->origin, RMK_CONFIG_UNSET);
    rmk_config_deinit(&f.config);
}

static void every_kind_is_read_in_both_spellings(void **state)
{
    struct fixture f;

    (void)state;
    assert_int_equal(parse(&f, "--listen-grpc=[::]:1", "a.png", "--queue", "7", "--stop", "--stop",
                           "--stop=", "--verify", "--temperature=1.5e-1", "--cache", "64KiB",
                           "--timeout=250ms", "--backend", "cuda", "--", "--b.png"),
                     RMK_OK);
    assert_string_equal(f.options.listen, "[::]:1");
    assert_int_equal(f.options.queue, 7);
    assert_int_equal(f.options.stop.count, 2);
    assert_string_equal(f.options.stop.items[0], "--stop"); /* a value may look like a flag */
    assert_string_equal(f.options.stop.items[1], "");
    assert_true(f.options.verify);
    assert_true(f.options.temperature == 0.15);
    assert_int_equal(f.options.cache, 65536);
    assert_int_equal(f.options.timeout, 250000);
    assert_int_equal(f.options.backend, 2);
    assert_int_equal(f.config.operand_count, 2);
    assert_string_equal(f.config.operands[0], "a.png");
    assert_string_equal(f.config.operands[1], "--b.png");
    assert_int_equal(rmk_config_flag(&f.config, "queue")->origin, RMK_CONFIG_FLAG);
    rmk_config_deinit(&f.config);
}

static void write_file(const char *text, char path[64])
{
    (void)snprintf(path, 64, "/tmp/rmk-test-config-XXXXXX");
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(close(fd), 0);
}

static void flag_beats_environment_beats_file_beats_default(void **state)
{
    struct fixture f;
    char path[64];

    (void)state;
    write_file(
        "# a comment\n\n queue = 5 \r\ncache=1MiB\ntimeout = 1m\nstop = one two\nstop = x=y\n",
        path);
    assert_int_equal(parse_env(&f, "REMASK_QUEUE=6", "--config", path, "--timeout", "3s"), RMK_OK);
    assert_int_equal(f.options.queue, 6);
    assert_int_equal(rmk_config_flag(&f.config, "queue")->origin, RMK_CONFIG_ENV);
    assert_int_equal(f.options.cache, 1 << 20);
    assert_int_equal(rmk_config_flag(&f.config, "cache")->origin, RMK_CONFIG_FILE);
    assert_int_equal(f.options.timeout, 3000000);
    assert_int_equal(f.options.stop.count, 2);
    assert_string_equal(f.options.stop.items[0], "one two");
    assert_string_equal(f.options.stop.items[1], "x=y");
    rmk_config_deinit(&f.config);

    assert_int_equal(parse(&f, "--stop", "flag", "--config", path), RMK_OK);
    assert_int_equal(f.options.stop.count, 1); /* replaced, not added to */
    rmk_config_deinit(&f.config);
    assert_int_equal(unlink(path), 0);
}

static void file_mistakes_name_the_file_and_the_line(void **state)
{
    static const struct {
        const char *text;
        const char *what;
    } cases[] = {
        {"queue = 1\nquue = 2\n", "line 2: there is no flag --quue; did you mean --queue?"},
        {"queue\n", "line 1: \"queue\" is no `name = value`"},
        {"\n\nqueue = 0", "line 3: queue: \"0\" is not within 1 to 4096"},
        {"queue = 1\nqueue = 2", "line 2: queue is given twice"},
    };
    struct fixture f;
    char path[64];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char sentence[256];
        write_file(cases[i].text, path);
        (void)snprintf(sentence, sizeof(sentence), "--config %s: %s", path, cases[i].what);
        assert_refused(&f, parse(&f, "--config", path), sentence);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(parse(&f, "--config=/nonexistent/x"), RMK_ENOTFOUND);
    assert_string_equal(f.why.text, "--config /nonexistent/x: there is no such file");
    rmk_config_deinit(&f.config);
}

static void mistakes_are_one_clear_sentence(void **state)
{
    struct fixture f;

    (void)state;
    assert_refused(&f, parse(&f, "--quue", "3"), "there is no flag --quue; did you mean --queue?");
    assert_refused(&f, parse(&f, "--hlep"), "there is no flag --hlep; did you mean --help?");
    assert_refused(&f, parse(&f, "--something-else=1"), "there is no flag --something-else");
    assert_refused(&f, parse(&f, "--queue"), "--queue needs a value: N");
    assert_refused(&f, parse(&f, "--queue", "4097"), "--queue: \"4097\" is not within 1 to 4096");
    assert_refused(&f, parse(&f, "--queue=-1"), "--queue: \"-1\" is no whole number");
    assert_refused(&f, parse(&f, "--queue= 1"), "--queue: \" 1\" is no whole number");
    assert_refused(&f, parse(&f, "--queue=99999999999999999999999"),
                   "--queue: \"99999999999999999999999\" is no whole number");
    assert_refused(&f, parse(&f, "--cache=1TB"),
                   "--cache: \"1TB\" is no size such as 512, 64KiB, 16MiB or 2GiB");
    assert_refused(&f, parse(&f, "--cache=18446744073709551615GiB"),
                   "--cache: \"18446744073709551615GiB\" is too large");
    assert_refused(&f, parse(&f, "--timeout=10"),
                   "--timeout: \"10\" is no duration such as 250ms, 10s, 5m or 1h");
    assert_refused(&f, parse(&f, "--temperature=nan"),
                   "--temperature: \"nan\" is no finite number");
    assert_refused(&f, parse(&f, "--temperature=1e999"),
                   "--temperature: \"1e999\" is no finite number");
    assert_refused(&f, parse(&f, "--temperature=2.5"),
                   "--temperature: \"2.5\" is not within 0 to 2");
    assert_refused(&f, parse(&f, "--backend=tpu"), "--backend: \"tpu\" is none of: ref, cpu, cuda");
    assert_refused(&f, parse(&f, "--verify=maybe"),
                   "--verify: \"maybe\" is neither true nor false");
    assert_refused(&f, parse(&f, "a", "b", "c"), "unexpected argument \"c\"");
    assert_refused(&f, parse_env(&f, "REMASK_QUEUE=x", "a"),
                   "REMASK_QUEUE: \"x\" is no whole number");
}

static void zero_duration_needs_no_unit(void **state)
{
    struct fixture f;

    (void)state;
    assert_int_equal(parse(&f, "--timeout=0"), RMK_OK);
    assert_int_equal(f.options.timeout, 0);
    rmk_config_deinit(&f.config);
}

static void switch_is_turned_off_by_no(void **state)
{
    struct fixture f;

    (void)state;
    assert_int_equal(parse_env(&f, "REMASK_VERIFY=yes", "x"), RMK_OK);
    assert_true(f.options.verify);
    rmk_config_deinit(&f.config);
    assert_int_equal(parse_env(&f, "REMASK_VERIFY=yes", "--no-verify"), RMK_OK);
    assert_false(f.options.verify);
    rmk_config_deinit(&f.config);
    assert_refused(&f, parse(&f, "--no-queue"), "there is no flag --no-queue");
}

static void required_flags_and_operands_are_asked_for(void **state)
{
    struct fixture f;
    char *argv[] = {(char *)(uintptr_t) "remask-test", NULL};

    (void)state;
    prepare(&f);
    f.flags[1].required = true;
    f.flags[1].argument = "TEXT";
    assert_refused(&f, rmk_config_parse(&f.config, 1, argv, NULL, &f.why),
                   "--stop TEXT must be given");
    prepare(&f);
    f.config.operands_min = 1;
    assert_refused(&f, rmk_config_parse(&f.config, 1, argv, NULL, &f.why), "IMAGE is missing");
}

/* What load says and returns, seen from outside: run in a child with its output in a pipe. */
static int load_status(char *output, size_t output_size, const char *argument)
{
    int ends[2];
    size_t got = 0;
    ssize_t size;
    int status;

    assert_int_equal(pipe(ends), 0);
    (void)fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct fixture f;
        char *argv[] = {(char *)(uintptr_t) "remask-test", (char *)(uintptr_t)argument, NULL};
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)dup2(ends[1], STDERR_FILENO);
        prepare(&f);
        status = rmk_config_load(&f.config, 2, argv);
        rmk_config_deinit(&f.config);
        (void)fflush(NULL);
        _exit(status < 0 ? 99 : status);
    }
    (void)close(ends[1]);
    while ((size = read(ends[0], output + got, output_size - 1 - got)) > 0) {
        got += (size_t)size;
    }
    output[got] = '\0';
    (void)close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void load_speaks_and_gives_the_exit_status(void **state)
{
    static char output[16384];
    struct fixture f;
    char path[64];

    (void)state;
    assert_int_equal(load_status(output, sizeof(output), "--help"), 0);
    assert_non_null(strstr(output, "usage: remask-test [FLAGS] IMAGE\n"));
    assert_non_null(
        strstr(output, "  --queue N                          requests that may wait (1024)\n"));
    assert_non_null(strstr(output, "arithmetic: ref, cpu, cuda (cpu)\n"));
    assert_int_equal(load_status(output, sizeof(output), "--version"), 0);
    assert_string_equal(output, "remask-test " RMK_VERSION "\n");
    assert_int_equal(load_status(output, sizeof(output), "--nope"), RMK_EXIT_USAGE);
    assert_string_equal(output, "remask-test: there is no flag --nope\n");
    assert_int_equal(load_status(output, sizeof(output), "x.png"), 99);

    assert_int_equal(load_status(output, sizeof(output), "--print-config"), 0);
    assert_non_null(strstr(output, "# default\nqueue = 1024\n"));
    assert_non_null(strstr(output, "# unset\n# stop =\n"));
    write_file(output, path); /* what was printed can be read back */
    assert_int_equal(parse(&f, "--config", path), RMK_OK);
    assert_int_equal(f.options.cache, 2147483648u);
    rmk_config_deinit(&f.config);
    assert_int_equal(unlink(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_stand_when_nothing_is_given),
        cmocka_unit_test(every_kind_is_read_in_both_spellings),
        cmocka_unit_test(flag_beats_environment_beats_file_beats_default),
        cmocka_unit_test(file_mistakes_name_the_file_and_the_line),
        cmocka_unit_test(mistakes_are_one_clear_sentence),
        cmocka_unit_test(zero_duration_needs_no_unit),
        cmocka_unit_test(switch_is_turned_off_by_no),
        cmocka_unit_test(required_flags_and_operands_are_asked_for),
        cmocka_unit_test(load_speaks_and_gives_the_exit_status),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
