#include "common/config_value.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit bytes_units[] = {
    {"", 1},
    {"B", 1},
    {"kB", 1000},
    {"MB", 1000 * 1000},
    {"GB", 1000 * 1000 * 1000},
    {"KiB", 1u << 10},
    {"MiB", 1u << 20},
    {"GiB", 1u << 30},
    {NULL, 0},
};

static const struct unit duration_units[] = {
    {"us", 1}, {"ms", 1000}, {"s", 1000000u}, {"m", 60u * 1000000u}, {"h", 3600000000u}, {NULL, 0},
};

static const struct unit no_units[] = {{"", 1}, {NULL, 0}};

/* Digits only: strtoull would take spaces, signs and wrap "-1" around. Returns what follows them.
 */
static const char *parse_digits(const char *text, uint64_t *out_number)
{
    uint64_t number = 0;
    const char *at = text;

    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*at - '0'), &number)) {
            return NULL;
        }
    }
    *out_number = number;
    return at == text ? NULL : at;
}

static enum rmk_err parse_uint(const struct rmk_config_flag *flag, const struct unit *units,
                               const char *what, const char *text, uint64_t *out,
                               struct rmk_why *why)
{
    uint64_t number = 0;
    const char *rest = parse_digits(text, &number);
    const struct unit *unit = units;

    if (rest == NULL) {
        return rmk_fail(why, RMK_EINVAL, "\"%.100s\" is no %s", text, what);
    }
    while (unit->name != NULL && strcmp(unit->name, rest) != 0) {
        unit++;
    }
    if (unit->name == NULL && !(number == 0 && *rest == '\0')) {
        return rmk_fail(why, RMK_EINVAL, "\"%.100s\" is no %s", text, what);
    }
    if (unit->name != NULL && __builtin_mul_overflow(number, unit->factor, &number)) {
        return rmk_fail(why, RMK_EINVAL, "\"%.100s\" is too large", text);
    }
    if (number < flag->min || (flag->max != 0 && number > flag->max)) {
        const char *base = flag->kind == RMK_CONFIG_DURATION ? " us" : "";
        return flag->max != 0 ? rmk_fail(why, RMK_EINVAL,
                                         "\"%.100s\" is not within %" PRIu64 " to %" PRIu64 "%s",
                                         text, flag->min, flag->max, base)
                              : rmk_fail(why, RMK_EINVAL, "\"%.100s\" is less than %" PRIu64 "%s",
                                         text, flag->min, base);
    }
    *out = number;
    return RMK_OK;
}

static enum rmk_err parse_double(const struct rmk_config_flag *flag, const char *text, double *out,
                                 struct rmk_why *why)
{
    char *end = NULL;

    errno = 0;
    /* strtod would also take leading space, hexadecimal, "inf" and "nan". */
    double number = strspn(text, "+-.0123456789eE") == strlen(text) ? strtod(text, &end) : NAN;
    if (end == NULL || end == text || *end != '\0' || !isfinite(number)) {
        return rmk_fail(why, RMK_EINVAL, "\"%.100s\" is no finite number", text);
    }
    if (flag->double_min != flag->double_max &&
        (number < flag->double_min || number > flag->double_max)) {
        return rmk_fail(why, RMK_EINVAL, "\"%.100s\" is not within %g to %g", text,
                        flag->double_min, flag->double_max);
    }
    *out = number;
    return RMK_OK;
}

static enum rmk_err parse_switch(const char *text, bool *out, struct rmk_why *why)
{
    static const char *const names[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = i % 2 == 1;
            return RMK_OK;
        }
    }
    return rmk_fail(why, RMK_EINVAL, "\"%.100s\" is neither true nor false", text);
}

static enum rmk_err parse_choice(const struct rmk_config_flag *flag, const char *text, int *out,
                                 struct rmk_why *why)
{
    char list[256] = "";
    size_t size = 0;

    for (int i = 0; flag->choices[i] != NULL; i++) {
        if (strcmp(text, flag->choices[i]) == 0) {
            *out = i;
            return RMK_OK;
        }
        if (size < sizeof(list)) {
            size += (size_t)snprintf(list + size, sizeof(list) - size, "%s%s", i > 0 ? ", " : "",
                                     flag->choices[i]);
        }
    }
    return rmk_fail(why, RMK_EINVAL, "\"%.100s\" is none of: %s", text, list);
}

enum rmk_err rmk_config_value_set(struct rmk_config_flag *flag, const char *text,
                                  struct rmk_why *why)
{
    struct rmk_config_texts *texts = flag->target;

    switch (flag->kind) {
    case RMK_CONFIG_TEXT:
        *(const char **)flag->target = text;
        return RMK_OK;
    case RMK_CONFIG_TEXTS:
        if (texts->count == RMK_CONFIG_TEXTS_MAX) {
            return rmk_fail(why, RMK_EINVAL, "given more than %d times", RMK_CONFIG_TEXTS_MAX);
        }
        texts->items[texts->count++] = text;
        return RMK_OK;
    case RMK_CONFIG_SWITCH:
        return parse_switch(text, flag->target, why);
    case RMK_CONFIG_UINT:
        return parse_uint(flag, no_units, "whole number", text, flag->target, why);
    case RMK_CONFIG_DOUBLE:
        return parse_double(flag, text, flag->target, why);
    case RMK_CONFIG_BYTES:
        return parse_uint(flag, bytes_units, "size such as 512, 64KiB, 16MiB or 2GiB", text,
                          flag->target, why);
    case RMK_CONFIG_DURATION:
        return parse_uint(flag, duration_units, "duration such as 250ms, 10s, 5m or 1h", text,
                          flag->target, why);
    case RMK_CONFIG_CHOICE:
        return parse_choice(flag, text, flag->target, why);
    }
    return rmk_fail(why, RMK_EINTERNAL, "a flag of kind %d", (int)flag->kind);
}

void rmk_config_value_clear(struct rmk_config_flag *flag)
{
    switch (flag->kind) {
    case RMK_CONFIG_TEXT:
        *(const char **)flag->target = NULL;
        return;
    case RMK_CONFIG_TEXTS:
        ((struct rmk_config_texts *)flag->target)->count = 0;
        return;
    case RMK_CONFIG_SWITCH:
        *(bool *)flag->target = false;
        return;
    case RMK_CONFIG_DOUBLE:
        *(double *)flag->target = 0;
        return;
    case RMK_CONFIG_CHOICE:
        *(int *)flag->target = 0;
        return;
    case RMK_CONFIG_UINT:
    case RMK_CONFIG_BYTES:
    case RMK_CONFIG_DURATION:
        *(uint64_t *)flag->target = 0;
        return;
    }
}
