/* Errors: codes are for machines, sentences for people.
 *
 * A function that can fail returns `enum rmk_err`. Where the reason is interesting it takes a
 * `struct rmk_why *` (may be NULL) as its last parameter and leaves one sentence there. Context is
 * put in front on the way up: `load model: shard 2: header is 9 bytes, file has 7`.
 */
#ifndef RMK_COMMON_ERR_H
#define RMK_COMMON_ERR_H

#include <stdarg.h>

enum rmk_err {
    RMK_OK = 0,
    RMK_EINVAL,       /* the caller's input is wrong: a flag, a field, a shape */
    RMK_ENOTFOUND,    /* the named thing is not there */
    RMK_ELIMIT,       /* full, or larger than a limit; trying later may help */
    RMK_ECORRUPT,     /* a file or message contradicts itself */
    RMK_EUNSUPPORTED, /* understood, but this build or model does not do it */
    RMK_EIO,          /* the operating system said no */
    RMK_EUNAVAILABLE, /* a peer is gone or not ready; trying again is right */
    RMK_EDEADLINE,    /* time ran out */
    RMK_ECANCELLED,   /* whoever asked no longer wants it */
    RMK_EEXISTS,      /* there is one already */
    RMK_EINTERNAL,    /* our own fault, or a poisoned computation (NaN) */
};

/* One sentence for a person. Zero-initialised means "no reason yet". */
struct rmk_why {
    char text[512];
};

/* Stable lower-case name of a code, for logs and metrics labels. */
const char *rmk_err_name(enum rmk_err err);

/* Write the sentence and hand back `err`, so that `return rmk_fail(why, RMK_EINVAL, "…")` reads
 * well. Too long is cut; control characters that came from input become '?'. */
enum rmk_err rmk_fail(struct rmk_why *why, enum rmk_err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Put `context: ` in front of the sentence that is there. */
void rmk_why_context(struct rmk_why *why, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Evaluate, and go to `out` with `err` set when it failed. */
#define RMK_TRY(expression)                                                                        \
    do {                                                                                           \
        err = (expression);                                                                        \
        if (err != RMK_OK) {                                                                       \
            goto out;                                                                              \
        }                                                                                          \
    } while (0)

/* Stays on in release: a broken invariant of ours ends the process with the place and the text. */
#define rmk_assert(condition)                                                                      \
    ((condition) ? (void)0 : rmk_assert_failed(#condition, __FILE__, __LINE__))

_Noreturn void rmk_assert_failed(const char *condition, const char *file, int line);

#endif
