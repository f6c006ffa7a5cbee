#include "cli/cli.h"

#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/bind.h"
#include "common/config.h"

static int run_version(int argc, char **argv)
{
    const bool json = argc == 2 && strcmp(argv[1], "--json") == 0;

    if (argc > 1 && !json) {
        (void)fprintf(stderr,
                      "remask version: there is no argument %.100s; --json is the only one\n",
                      argv[1]);
        return RMK_EXIT_USAGE;
    }
    if (json) {
        (void)printf("{\"version\":\"%s\"}\n", RMK_VERSION);
    } else {
        (void)printf("remask %s\n", RMK_VERSION);
    }
    return RMK_EXIT_OK;
}

static const struct rmk_command commands[] = {
    {"caption", "describe pictures, or answer a question about them", rmk_caption_run},
    {"compare", "the same request exact and in another profile, side by side", rmk_compare_run},
    {"bench", "measure a cluster under load", rmk_bench_run},
    {"up", "start a cluster on this machine", rmk_up_run},
    {"down", "stop a cluster that `remask up` started", rmk_down_run},
    {"status", "what a cluster is doing", rmk_status_run},
    {"check", "whether a checkpoint folder is complete and fits together", rmk_check_run},
    {"version", "print the version", run_version},
};

enum {
    COMMAND_COUNT = sizeof(commands) / sizeof(commands[0]),
    NAME_SIZE_MAX = 32,
};

const struct rmk_command *rmk_cli_find(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Characters to insert, drop, replace, or swap with their neighbour. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t rows[NAME_SIZE_MAX + 1][NAME_SIZE_MAX + 1];
    const size_t a_size = strlen(a);
    const size_t b_size = strlen(b);

    if (a_size > NAME_SIZE_MAX || b_size > NAME_SIZE_MAX) {
        return NAME_SIZE_MAX;
    }
    for (size_t i = 0; i <= a_size; i++) {
        for (size_t j = 0; j <= b_size; j++) {
            if (i == 0 || j == 0) {
                rows[i][j] = i + j;
                continue;
            }
            rows[i][j] = least(rows[i - 1][j - 1] + (a[i - 1] != b[j - 1]),
                               1 + least(rows[i - 1][j], rows[i][j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                rows[i][j] = least(rows[i][j], rows[i - 2][j - 2] + 1);
            }
        }
    }
    return rows[a_size][b_size];
}

const struct rmk_command *rmk_cli_nearest(const char *name)
{
    const struct rmk_command *nearest = NULL;
    size_t nearest_distance = 3; /* farther than that it is another word */

    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        size_t distance = edit_distance(name, commands[i].name);
        if (distance < nearest_distance && distance < strlen(commands[i].name)) {
            nearest = &commands[i];
            nearest_distance = distance;
        }
    }
    return nearest;
}

int rmk_cli_exit_of(enum rmk_err err)
{
    switch (err) {
    case RMK_OK:
        return RMK_EXIT_OK;
    case RMK_ECORRUPT:
        return RMK_EXIT_DATA;
    case RMK_EUNAVAILABLE:
        return RMK_EXIT_UNAVAILABLE;
    case RMK_EINTERNAL:
        return RMK_EXIT_INTERNAL;
    case RMK_EDEADLINE:
        return RMK_EXIT_TEMPORARY;
    default:
        return RMK_EXIT_FAILURE;
    }
}

int rmk_cli_exit_of_open(enum rmk_err err)
{
    return err == RMK_EINVAL ? RMK_EXIT_USAGE : rmk_cli_exit_of(err);
}

void rmk_cli_complain(const char *format, ...)
{
    char text[4096 + sizeof(((struct rmk_why *)0)->text)];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    for (char *at = text; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f) {
            *at = '?';
        }
    }
    (void)fprintf(stderr, "%s\n", text);
}

int rmk_cli_unwritten(const char *program)
{
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};

    if (poll(&out, 1, 0) == 1 && (out.revents & POLLERR) != 0) {
        return 128 + SIGPIPE;
    }
    (void)fprintf(stderr, "%s: standard output cannot be written\n", program);
    return RMK_EXIT_FAILURE;
}

static int run_command(const struct rmk_command *command, int argc, char **argv)
{
    char program[64];
    int status = command->run(argc, argv);

    if ((fflush(stdout) != 0 || ferror(stdout) != 0) && status == RMK_EXIT_OK) {
        (void)snprintf(program, sizeof(program), "remask %s", command->name);
        status = rmk_cli_unwritten(program);
    }
    return status;
}

static void print_usage(FILE *out)
{
    (void)fprintf(out, "usage: remask COMMAND [FLAGS]; remask COMMAND --help lists the flags\n\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        (void)fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
    }
}

int rmk_cli_run(int argc, char **argv)
{
    if (argc < 2) {
        print_usage(stderr);
        return RMK_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_usage(stdout);
        return RMK_EXIT_OK;
    }
    if (strcmp(argv[1], RMK_BIND_COMMAND) == 0) {
        return rmk_bind_run(argc - 1, argv + 1);
    }
    const struct rmk_command *command =
        rmk_cli_find(strcmp(argv[1], "--version") == 0 ? "version" : argv[1]);
    if (command != NULL) {
        return run_command(command, argc - 1, argv + 1);
    }
    const struct rmk_command *nearest = rmk_cli_nearest(argv[1]);
    if (nearest != NULL) {
        (void)fprintf(stderr, "remask: there is no command %.100s; did you mean %s?\n", argv[1],
                      nearest->name);
    } else {
        (void)fprintf(stderr, "remask: there is no command %.100s; remask --help lists them\n",
                      argv[1]);
    }
    return RMK_EXIT_USAGE;
}
