#include "common/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {
    [RMK_OK] = "ok",
    [RMK_EINVAL] = "invalid",
    [RMK_ENOTFOUND] = "not_found",
    [RMK_ELIMIT] = "limit",
    [RMK_ECORRUPT] = "corrupt",
    [RMK_EUNSUPPORTED] = "unsupported",
    [RMK_EIO] = "io",
    [RMK_EUNAVAILABLE] = "unavailable",
    [RMK_EDEADLINE] = "deadline",
    [RMK_ECANCELLED] = "cancelled",
    [RMK_EEXISTS] = "exists",
    [RMK_EINTERNAL] = "internal",
};

const char *rmk_err_name(enum rmk_err err)
{
    if ((unsigned)err >= sizeof(names) / sizeof(names[0])) {
        return "unknown";
    }
    return names[err];
}

/* Input may be quoted in a sentence; it must not be able to forge a second log line. */
static void drop_control_characters(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            *text = '?';
        }
    }
}

enum rmk_err rmk_fail(struct rmk_why *why, enum rmk_err err, const char *format, ...)
{
    va_list arguments;

    if (why == NULL) {
        return err;
    }
    va_start(arguments, format);
    (void)vsnprintf(why->text, sizeof(why->text), format, arguments);
    va_end(arguments);
    drop_control_characters(why->text);
    return err;
}

void rmk_why_context(struct rmk_why *why, const char *format, ...)
{
    char context[sizeof(why->text)];
    char old[sizeof(why->text)];
    va_list arguments;

    if (why == NULL) {
        return;
    }
    va_start(arguments, format);
    (void)vsnprintf(context, sizeof(context), format, arguments);
    va_end(arguments);
    memcpy(old, why->text, sizeof(old));
    /* Cut is fine: the front carries the place. */
    if (snprintf(why->text, sizeof(why->text), "%s: %s", context, old) < 0) {
        why->text[0] = '\0';
    }
    drop_control_characters(why->text);
}

_Noreturn void rmk_assert_failed(const char *condition, const char *file, int line)
{
    (void)fprintf(stderr, "%s:%d: broken invariant: %s\n", file, line, condition);
    abort();
}
