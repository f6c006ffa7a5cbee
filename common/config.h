/* One table of flags per program. A value comes from the command line, else from REMASK_<NAME>,
 * else from the file named by --config (lines `name = value`, `#` comments), else from the table's
 * default; --print-config shows which.
 *
 *     struct rmk_config_flag flags[] = {
 *         {.name = "queue",
 *          .kind = RMK_CONFIG_UINT,
 *          .target = &options.queue,
 *          .fallback = "1024",
 *          .min = 1,
 *          .max = RMK_REQUESTS_MAX,
 *          .argument = "N",
 *          .help = "requests that may wait"},
 *     };
 *     struct rmk_config config = {
 *         .program = "remask-coordinator", .summary = "…", .flags = flags, .flag_count = 1};
 *     int status = rmk_config_load(&config, argc, argv);
 *     if (status >= 0) {
 *         rmk_config_deinit(&config);
 *         return status;
 *     }
 *
 * `--help`, `--version`, `--config FILE` and `--print-config` are in every program. Switches are
 * `--name`, `--no-name` and `--name=true|false`. A flag that does not exist is answered with the
 * nearest that does, exit 64.
 */
#ifndef RMK_COMMON_CONFIG_H
#define RMK_COMMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

#define RMK_EXIT_USAGE 64 /* EX_USAGE of sysexits.h */

enum rmk_config_kind {
    RMK_CONFIG_TEXT,     /* target: const char *; NULL when it has no value */
    RMK_CONFIG_TEXTS,    /* target: struct rmk_config_texts; the flag may be repeated */
    RMK_CONFIG_SWITCH,   /* target: bool */
    RMK_CONFIG_UINT,     /* target: uint64_t, min to max */
    RMK_CONFIG_DOUBLE,   /* target: double, finite, double_min to double_max when these differ */
    RMK_CONFIG_BYTES,    /* target: uint64_t; 512, 64KiB, 16MiB, 2GiB, 64kB, 16MB, 2GB */
    RMK_CONFIG_DURATION, /* target: uint64_t microseconds; 0, 20us, 250ms, 10s, 5m, 1h */
    RMK_CONFIG_CHOICE,   /* target: int, the index in `choices` */
};

enum rmk_config_origin {
    RMK_CONFIG_UNSET,
    RMK_CONFIG_DEFAULT,
    RMK_CONFIG_FILE,
    RMK_CONFIG_ENV,
    RMK_CONFIG_FLAG
};

#define RMK_CONFIG_TEXTS_MAX 64
struct rmk_config_texts {
    const char *items[RMK_CONFIG_TEXTS_MAX];
    size_t count;
};

struct rmk_config_flag {
    const char *name; /* "listen-grpc": --listen-grpc, REMASK_LISTEN_GRPC */
    enum rmk_config_kind kind;
    void *target;
    const char *fallback; /* as somebody would type it; NULL: none (0, false, NULL, empty) */
    const char *argument; /* for --help: "HOST:PORT" */
    const char *help;
    uint64_t min, max; /* UINT, BYTES, DURATION (in microseconds); max 0: none */
    double double_min, double_max;
    const char *const *choices; /* NULL-terminated */
    bool required;              /* absent everywhere: an error that names the flag */
    /* filled in */
    enum rmk_config_origin origin;
    const char *given; /* the text the value was made of; NULL: none */
};

struct rmk_config {
    const char *program;       /* "remask caption" */
    const char *summary;       /* one sentence */
    const char *operands_name; /* "IMAGE…"; NULL: no operands */
    struct rmk_config_flag *flags;
    size_t flag_count;
    size_t operands_min, operands_max;
    /* filled in */
    const char **operands;
    size_t operand_count;
    const char *file; /* --config */
    bool help, version, print;
    char *file_text;
};

/* Parse everything and write what has to be said: --help, --version and --print-config to stdout, a
 * mistake to stderr. Returns -1 to go on, else the exit status (0 or RMK_EXIT_USAGE). Texts live
 * until deinit. */
int rmk_config_load(struct rmk_config *config, int argc, char **argv);
void rmk_config_deinit(struct rmk_config *config);

/* The same without speaking; with --help or --version nothing else is looked at. `environment`:
 * NULL-terminated NAME=value. Errors: RMK_EINVAL; RMK_ENOTFOUND, RMK_ELIMIT, RMK_EIO (the file);
 * the sentence names the flag, its origin, what was given and what is allowed. */
enum rmk_err rmk_config_parse(struct rmk_config *config, int argc, char **argv, char **environment,
                              struct rmk_why *why);

/* The flag with that name, to ask for its origin. */
const struct rmk_config_flag *rmk_config_flag(const struct rmk_config *config, const char *name);

#endif
