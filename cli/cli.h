/* The program `remask`: its first word chooses a command, each command is one file.
 *
 * What was asked for goes to stdout, everything else to stderr; nothing is coloured.
 */
#ifndef RMK_CLI_CLI_H
#define RMK_CLI_CLI_H

#include <stddef.h>

#include "common/err.h"

/* As sysexits.h has them; 128 + n after signal n, SIGPIPE where the reader of stdout has left. */
enum {
    RMK_EXIT_OK = 0,
    RMK_EXIT_FAILURE = 1,
    RMK_EXIT_DATA = 65,        /* a file is not what it should be */
    RMK_EXIT_UNAVAILABLE = 69, /* nobody answers */
    RMK_EXIT_INTERNAL = 70,
    RMK_EXIT_TEMPORARY = 75, /* the same again later may work */
    RMK_EXIT_CONFIG = 78,
};

struct rmk_command {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv); /* argv[0] is the command's name; returns the exit status */
};

/* argv as main got it. */
int rmk_cli_run(int argc, char **argv);

/* NULL: there is none of that name. */
const struct rmk_command *rmk_cli_find(const char *name);
/* The command that `name` was probably meant to be, or NULL. */
const struct rmk_command *rmk_cli_nearest(const char *name);

int rmk_cli_exit_of(enum rmk_err err);
/* Of opening a client: what is wrong with an address is a mistake of usage. */
int rmk_cli_exit_of_open(enum rmk_err err);

/* A sentence and a line end to stderr. Control characters, as a path may have them, do not reach
 * the terminal. */
void rmk_cli_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The exit status of a program whose output could not be written. Says so, unless the reader of a
 * pipe has left: then it wants nothing more. */
int rmk_cli_unwritten(const char *program);

int rmk_caption_run(int argc, char **argv);
int rmk_compare_run(int argc, char **argv);
int rmk_bench_run(int argc, char **argv);
int rmk_up_run(int argc, char **argv);
int rmk_down_run(int argc, char **argv);
int rmk_status_run(int argc, char **argv);
int rmk_check_run(int argc, char **argv);

/* Of the flag --api-key. */
#define RMK_CLIENT_API_KEY_HELP                                                                    \
    "who you are to a server with --api-keys; better in REMASK_API_KEY, where others do not see "  \
    "it"

#endif
