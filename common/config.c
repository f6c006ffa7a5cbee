#include "common/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/config_value.h"
#include "common/file.h"

enum {
    FILE_BYTES_MAX = 1 << 20,
    NAME_BYTES_MAX = 64,
};

static const char *const builtins[] = {"help", "version", "config", "print-config"};

/* ---- finding a flag, or the nearest one ---------------------------------------------------- */

static struct rmk_config_flag *find_flag(const struct rmk_config *config, const char *name,
                                         size_t name_size)
{
    for (size_t i = 0; i < config->flag_count; i++) {
        const char *candidate = config->flags[i].name;
        if (strlen(candidate) == name_size && memcmp(candidate, name, name_size) == 0) {
            return &config->flags[i];
        }
    }
    return NULL;
}

const struct rmk_config_flag *rmk_config_flag(const struct rmk_config *config, const char *name)
{
    const struct rmk_config_flag *flag = find_flag(config, name, strlen(name));

    rmk_assert(flag != NULL);
    return flag;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Levenshtein: inserted, dropped and replaced characters. */
static size_t edit_distance(const char *a, size_t a_size, const char *b)
{
    size_t row[NAME_BYTES_MAX + 1];
    size_t b_size = strlen(b);

    if (a_size > NAME_BYTES_MAX || b_size > NAME_BYTES_MAX) {
        return NAME_BYTES_MAX;
    }
    for (size_t j = 0; j <= b_size; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a_size; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_size; j++) {
            size_t above = row[j];
            size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
            row[j] = least(replaced, 1 + least(above, row[j - 1]));
            diagonal = above;
        }
    }
    return row[b_size];
}

static enum rmk_err fail_unknown(const struct rmk_config *config, const char *name,
                                 size_t name_size, struct rmk_why *why)
{
    const char *nearest = NULL;
    size_t nearest_distance = 3 > name_size / 3 ? 3 : name_size / 3;

    for (size_t i = 0; i < config->flag_count + sizeof(builtins) / sizeof(builtins[0]); i++) {
        const char *candidate =
            i < config->flag_count ? config->flags[i].name : builtins[i - config->flag_count];
        size_t distance = edit_distance(name, name_size, candidate);
        if (distance < nearest_distance) {
            nearest = candidate;
            nearest_distance = distance;
        }
    }
    (void)rmk_fail(why, RMK_EINVAL, "there is no flag --%.*s", (int)least(name_size, 100), name);
    if (nearest != NULL && why != NULL) {
        size_t size = strlen(why->text);
        (void)snprintf(why->text + size, sizeof(why->text) - size, "; did you mean --%s?", nearest);
    }
    return RMK_EINVAL;
}

/* ---- values -------------------------------------------------------------------------------- */

/* Sources are read from the weakest to the strongest; a stronger one replaces what was there. */
static enum rmk_err set_flag(struct rmk_config_flag *flag, enum rmk_config_origin origin,
                             const char *text, struct rmk_why *why)
{
    rmk_assert(origin >= flag->origin);
    if (origin > flag->origin) {
        rmk_config_value_clear(flag);
    }
    flag->origin = origin;
    flag->given = text;
    return rmk_config_value_set(flag, text, why);
}

static enum rmk_err apply_defaults(struct rmk_config *config, struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;

    for (size_t i = 0; i < config->flag_count; i++) {
        struct rmk_config_flag *flag = &config->flags[i];
        flag->origin = RMK_CONFIG_UNSET;
        flag->given = NULL;
        rmk_config_value_clear(flag);
        if (flag->fallback != NULL) {
            err = set_flag(flag, RMK_CONFIG_DEFAULT, flag->fallback, why);
            if (err != RMK_OK) {
                rmk_why_context(why, "--%s (its default)", flag->name);
                return err;
            }
        }
    }
    return RMK_OK;
}

/* ---- the file ------------------------------------------------------------------------------ */

static enum rmk_err read_file(const char *path, char **out_text, struct rmk_why *why)
{
    uint8_t *data = NULL;
    size_t size = 0;
    enum rmk_err err;

    RMK_TRY(rmk_file_read(path, RMK_FILE_ANY, FILE_BYTES_MAX, &data, &size, why));
    if (memchr(data, '\0', size) != NULL) {
        err = rmk_fail(why, RMK_EINVAL, "contains a NUL byte");
        goto out;
    }
    *out_text = (char *)data;
    data = NULL;
out:
    free(data);
    if (err != RMK_OK) {
        rmk_why_context(why, "--config %.200s", path);
    }
    return err;
}

static char *trim(char *text)
{
    size_t size;

    text += strspn(text, " \t\r");
    size = strlen(text);
    while (size > 0 && strchr(" \t\r", text[size - 1]) != NULL) {
        size--;
    }
    text[size] = '\0';
    return text;
}

static enum rmk_err apply_line(struct rmk_config *config, char *line, struct rmk_why *why)
{
    char *name = trim(line);
    char *equals = strchr(name, '=');
    struct rmk_config_flag *flag;
    enum rmk_err err;

    if (name[0] == '\0' || name[0] == '#') {
        return RMK_OK;
    }
    if (equals == NULL) {
        return rmk_fail(why, RMK_EINVAL, "\"%.100s\" is no `name = value`", name);
    }
    *equals = '\0';
    name = trim(name);
    flag = find_flag(config, name, strlen(name));
    if (flag == NULL) {
        return fail_unknown(config, name, strlen(name), why);
    }
    if (flag->origin == RMK_CONFIG_FILE && flag->kind != RMK_CONFIG_TEXTS) {
        return rmk_fail(why, RMK_EINVAL, "%s is given twice", name);
    }
    err = set_flag(flag, RMK_CONFIG_FILE, trim(equals + 1), why);
    if (err != RMK_OK) {
        rmk_why_context(why, "%s", name);
    }
    return err;
}

static enum rmk_err apply_file(struct rmk_config *config, struct rmk_why *why)
{
    enum rmk_err err;
    unsigned number = 0;
    char *following;

    if (config->file == NULL) {
        return RMK_OK;
    }
    RMK_TRY(read_file(config->file, &config->file_text, why));
    for (char *line = config->file_text; line != NULL; line = following) {
        char *end = strchr(line, '\n');
        following = end != NULL ? end + 1 : NULL;
        if (end != NULL) {
            *end = '\0';
        }
        number++;
        err = apply_line(config, line, why);
        if (err != RMK_OK) {
            rmk_why_context(why, "--config %.200s: line %u", config->file, number);
            goto out;
        }
    }
    err = RMK_OK;
out:
    return err;
}

/* ---- the environment ----------------------------------------------------------------------- */

static void env_name(const char *flag_name, char out[NAME_BYTES_MAX])
{
    int size = snprintf(out, NAME_BYTES_MAX, "REMASK_%s", flag_name);

    rmk_assert(size < NAME_BYTES_MAX);
    for (char *at = out; *at != '\0'; at++) {
        if (*at == '-') {
            *at = '_';
        } else if (*at >= 'a' && *at <= 'z') {
            *at = (char)(*at - 'a' + 'A');
        }
    }
}

static const char *find_env(char **environment, const char *flag_name)
{
    char name[NAME_BYTES_MAX];

    env_name(flag_name, name);
    size_t size = strlen(name);
    for (char **at = environment; at != NULL && *at != NULL; at++) {
        if (strncmp(*at, name, size) == 0 && (*at)[size] == '=') {
            return *at + size + 1;
        }
    }
    return NULL;
}

static enum rmk_err apply_environment(struct rmk_config *config, char **environment,
                                      struct rmk_why *why)
{
    for (size_t i = 0; i < config->flag_count; i++) {
        struct rmk_config_flag *flag = &config->flags[i];
        const char *text = find_env(environment, flag->name);
        enum rmk_err err = text == NULL ? RMK_OK : set_flag(flag, RMK_CONFIG_ENV, text, why);
        if (err != RMK_OK) {
            char name[NAME_BYTES_MAX];
            env_name(flag->name, name);
            rmk_why_context(why, "%s", name);
            return err;
        }
    }
    return RMK_OK;
}

/* ---- the command line ---------------------------------------------------------------------- */

/* One argument of the command line, or two when the value stands apart. */
struct argument {
    const char *name; /* without dashes; NULL: an operand */
    size_t name_size;
    const char *value; /* after `=`, or the operand; NULL: none yet */
};

static struct argument read_argument(const char *text, bool *only_operands)
{
    if (*only_operands || text[0] != '-' || text[1] == '\0') {
        return (struct argument){.value = text};
    }
    if (strcmp(text, "-h") == 0) {
        return (struct argument){.name = "help", .name_size = 4};
    }
    const char *name = text + 1 + (text[1] == '-');
    const char *equals = strchr(name, '=');
    return (struct argument){
        .name = name,
        .name_size = equals != NULL ? (size_t)(equals - name) : strlen(name),
        .value = equals != NULL ? equals + 1 : NULL,
    };
}

static bool is_named(const struct argument *argument, const char *name)
{
    return argument->name_size == strlen(name) &&
           memcmp(argument->name, name, argument->name_size) == 0;
}

/* `--no-name` of a switch. */
static struct rmk_config_flag *find_negated(const struct rmk_config *config,
                                            const struct argument *argument)
{
    struct rmk_config_flag *flag = NULL;

    if (argument->name_size > 3 && memcmp(argument->name, "no-", 3) == 0 &&
        argument->value == NULL) {
        flag = find_flag(config, argument->name + 3, argument->name_size - 3);
    }
    return flag != NULL && flag->kind == RMK_CONFIG_SWITCH ? flag : NULL;
}

static enum rmk_err take_value(struct argument *argument, int argc, char **argv, int *at,
                               const char *what, struct rmk_why *why)
{
    if (argument->value != NULL) {
        return RMK_OK;
    }
    if (*at + 1 >= argc) {
        return rmk_fail(why, RMK_EINVAL, "--%.*s needs a value: %s", (int)argument->name_size,
                        argument->name, what != NULL ? what : "VALUE");
    }
    argument->value = argv[++*at];
    return RMK_OK;
}

static enum rmk_err apply_builtin(struct rmk_config *config, struct argument *argument, int argc,
                                  char **argv, int *at, bool *out_taken, struct rmk_why *why)
{
    *out_taken = true;
    if (is_named(argument, "config")) {
        enum rmk_err err = take_value(argument, argc, argv, at, "FILE", why);
        config->file = argument->value;
        return err;
    }
    if (is_named(argument, "help")) {
        config->help = true;
    } else if (is_named(argument, "version")) {
        config->version = true;
    } else if (is_named(argument, "print-config")) {
        config->print = true;
    } else {
        *out_taken = false;
    }
    return RMK_OK;
}

static enum rmk_err apply_argument(struct rmk_config *config, struct argument *argument, int argc,
                                   char **argv, int *at, struct rmk_why *why)
{
    struct rmk_config_flag *flag = find_flag(config, argument->name, argument->name_size);
    struct rmk_config_flag *negated = flag == NULL ? find_negated(config, argument) : NULL;
    enum rmk_err err;

    if (negated != NULL) {
        return set_flag(negated, RMK_CONFIG_FLAG, "false", why);
    }
    if (flag == NULL) {
        return fail_unknown(config, argument->name, argument->name_size, why);
    }
    if (flag->kind == RMK_CONFIG_SWITCH && argument->value == NULL) {
        argument->value = "true";
    }
    RMK_TRY(take_value(argument, argc, argv, at, flag->argument, why));
    err = set_flag(flag, RMK_CONFIG_FLAG, argument->value, why);
    if (err != RMK_OK) {
        rmk_why_context(why, "--%s", flag->name);
    }
out:
    return err;
}

/* The command line is walked twice: first only for --config, --help and the like (the file is
 * weaker than the flags, so it is applied before them), then for the rest. */
static enum rmk_err walk(struct rmk_config *config, int argc, char **argv, bool only_builtins,
                         struct rmk_why *why)
{
    bool only_operands = false;
    enum rmk_err err = RMK_OK;

    for (int i = 1; i < argc && err == RMK_OK; i++) {
        bool taken = false;
        if (!only_operands && strcmp(argv[i], "--") == 0) {
            only_operands = true;
            continue;
        }
        struct argument argument = read_argument(argv[i], &only_operands);
        if (argument.name == NULL) {
            if (!only_builtins) {
                config->operands[config->operand_count++] = argument.value;
            }
            continue;
        }
        err = apply_builtin(config, &argument, argc, argv, &i, &taken, why);
        if (taken || err != RMK_OK) {
            continue;
        }
        if (!only_builtins) {
            err = apply_argument(config, &argument, argc, argv, &i, why);
            continue;
        }
        const struct rmk_config_flag *flag = find_flag(config, argument.name, argument.name_size);
        if (flag != NULL && flag->kind != RMK_CONFIG_SWITCH && argument.value == NULL) {
            i++; /* its value, which may look like a flag */
        }
    }
    return err;
}

static enum rmk_err check_complete(const struct rmk_config *config, struct rmk_why *why)
{
    const char *what = config->operands_name;

    for (size_t i = 0; i < config->flag_count; i++) {
        if (config->flags[i].required && config->flags[i].origin == RMK_CONFIG_UNSET) {
            return rmk_fail(why, RMK_EINVAL, "--%s %s must be given", config->flags[i].name,
                            config->flags[i].argument != NULL ? config->flags[i].argument : "");
        }
    }
    if (config->operand_count > (what != NULL ? config->operands_max : 0)) {
        return rmk_fail(why, RMK_EINVAL, "unexpected argument \"%.100s\"",
                        config->operands[what != NULL ? config->operands_max : 0]);
    }
    if (what != NULL && config->operand_count < config->operands_min) {
        return rmk_fail(why, RMK_EINVAL, "%s is missing", what);
    }
    return RMK_OK;
}

enum rmk_err rmk_config_parse(struct rmk_config *config, int argc, char **argv, char **environment,
                              struct rmk_why *why)
{
    enum rmk_err err;

    config->operand_count = 0;
    config->file_text = NULL;
    config->help = false;
    config->version = false;
    config->print = false;
    config->file = find_env(environment, "config");
    config->operands = calloc((size_t)argc + 1, sizeof(config->operands[0]));
    if (config->operands == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for the command line");
        goto out;
    }
    RMK_TRY(walk(config, argc, argv, true, why));
    if (config->help || config->version) {
        goto out;
    }
    RMK_TRY(apply_defaults(config, why));
    RMK_TRY(apply_file(config, why));
    RMK_TRY(apply_environment(config, environment, why));
    RMK_TRY(walk(config, argc, argv, false, why));
    if (!config->print) {
        RMK_TRY(check_complete(config, why));
    }
out:
    return err;
}

void rmk_config_deinit(struct rmk_config *config)
{
    free(config->operands);
    free(config->file_text);
    config->operands = NULL;
    config->file_text = NULL;
}

/* ---- speaking ------------------------------------------------------------------------------ */

static void print_flag(const struct rmk_config_flag *flag)
{
    char left[96];
    bool is_switch = flag->kind == RMK_CONFIG_SWITCH;

    const char *argument = flag->argument;

    if (argument == NULL) {
        argument = flag->kind == RMK_CONFIG_CHOICE ? "CHOICE" : "";
    }
    (void)snprintf(left, sizeof(left), "--%s%s %s", is_switch ? "[no-]" : "", flag->name, argument);
    (void)printf("  %-34s %s", left, flag->help);
    if (flag->kind == RMK_CONFIG_CHOICE) {
        for (int i = 0; flag->choices[i] != NULL; i++) {
            (void)printf("%s%s", i == 0 ? ": " : ", ", flag->choices[i]);
        }
    }
    if (flag->required) {
        (void)printf(" (required)");
    } else if (flag->fallback != NULL) {
        (void)printf(" (%s)", flag->fallback);
    }
    (void)printf("\n");
}

static void print_help(const struct rmk_config *config)
{
    (void)printf("usage: %s [FLAGS]%s%s\n%s\n\n", config->program,
                 config->operands_name != NULL ? " " : "",
                 config->operands_name != NULL ? config->operands_name : "", config->summary);
    for (size_t i = 0; i < config->flag_count; i++) {
        print_flag(&config->flags[i]);
    }
    (void)printf("\n  --config FILE, --print-config, --version, --help\n\n"
                 "A flag --some-name may also be given as REMASK_SOME_NAME, or as a line\n"
                 "`some-name = value` of the --config file; the command line wins, then the\n"
                 "environment, then the file.\n");
}

/* The output is a valid --config file. */
static void print_config(const struct rmk_config *config)
{
    static const char *const origins[] = {"unset", "default", "file", "environment", "flag"};

    for (size_t i = 0; i < config->flag_count; i++) {
        const struct rmk_config_flag *flag = &config->flags[i];
        (void)printf("# %s\n", origins[flag->origin]);
        if (flag->given == NULL) {
            (void)printf("# %s =\n", flag->name);
        } else if (flag->kind == RMK_CONFIG_TEXTS) {
            const struct rmk_config_texts *texts = flag->target;
            for (size_t j = 0; j < texts->count; j++) {
                (void)printf("%s = %s\n", flag->name, texts->items[j]);
            }
        } else {
            (void)printf("%s = %s\n", flag->name, flag->given);
        }
    }
}

int rmk_config_load(struct rmk_config *config, int argc, char **argv)
{
    struct rmk_why why = {0};
    enum rmk_err err = rmk_config_parse(config, argc, argv, environ, &why);

    if (err != RMK_OK) {
        (void)fprintf(stderr, "%s: %s\n", config->program, why.text);
        return RMK_EXIT_USAGE;
    }
    if (config->help) {
        print_help(config);
        return 0;
    }
    if (config->version) {
        (void)printf("%s %s\n", config->program, RMK_VERSION);
        return 0;
    }
    if (config->print) {
        print_config(config);
        return 0;
    }
    return -1;
}
