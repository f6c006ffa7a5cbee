/* The regular expressions of a pre-tokenizer, run by PCRE2.
 *
 * tokenizer.json is written for Oniguruma (Ruby syntax). What both engines read alike passes
 * through, what they spell differently is rewritten, and what they might understand differently is
 * refused: a wrong pattern gives wrong ids without any error.
 *
 * Known difference: what is a letter or a digit comes from PCRE2's Unicode tables (10.42: Unicode
 * 14). Characters that later versions of Unicode added are neither there, so pieces next to them
 * may end elsewhere than in the reference.
 *
 * A file we did not make must not be able to hang us: every step of a match is counted (an
 * automatic callout before each item of the pattern), and a text may cost a fixed number of steps
 * per byte, no more.
 */
#ifndef RMK_MODEL_TOKENIZER_PATTERN_H
#define RMK_MODEL_TOKENIZER_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#include "common/bytes.h"
#include "common/err.h"

enum { RMK_PATTERN_BYTES_MAX = 4096 };

struct rmk_pattern; /* immutable: any number of threads may match with it */

/* Errors: RMK_ECORRUPT (no regular expression), RMK_EUNSUPPORTED (syntax we do not carry over). */
enum rmk_err rmk_pattern_create(const char *regex, struct rmk_pattern **out_pattern,
                                struct rmk_why *why);

/* The same for a fixed string. */
enum rmk_err rmk_pattern_create_literal(const char *literal, struct rmk_pattern **out_pattern,
                                        struct rmk_why *why);
void rmk_pattern_destroy(struct rmk_pattern *pattern);

/* What one caller needs to match: scratch memory and the steps that are left. */
struct rmk_matcher;

/* `text_bytes` is all the text that will be matched; it sets the budget of steps. */
enum rmk_err rmk_matcher_create(size_t text_bytes, struct rmk_matcher **out_matcher,
                                struct rmk_why *why);
void rmk_matcher_destroy(struct rmk_matcher *matcher);

/* First match in `text` (valid UTF-8) at or after `from`; the bytes before `from` are there to look
 * back at. Errors: RMK_ELIMIT (too many steps, or too much memory). */
enum rmk_err rmk_matcher_find(struct rmk_matcher *matcher, const struct rmk_pattern *pattern,
                              struct rmk_bytes text, size_t from, bool *out_found,
                              size_t *out_begin, size_t *out_end, struct rmk_why *why);

#endif
