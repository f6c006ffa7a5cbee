/* UTF-8 by the Unicode standard's table 3-7: no surrogates, no overlong forms, nothing past
 * U+10FFFF. */
#ifndef RMK_COMMON_UTF8_H
#define RMK_COMMON_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"

enum { RMK_UTF8_MAX = 4 }; /* bytes of one character */

enum rmk_utf8 {
    RMK_UTF8_VALID = 0,  /* a character */
    RMK_UTF8_INVALID,    /* bytes that no continuation can save */
    RMK_UTF8_UNFINISHED, /* the input ends inside what may become a character */
};

/* Look at the beginning of `rest`, which is not empty.
 *
 * VALID       *out_codepoint is the character, *out_length its bytes
 * INVALID     *out_length is the maximal prefix that began well, at least 1: what one U+FFFD
 * replaces UNFINISHED  *out_length is rest.size
 */
enum rmk_utf8 rmk_utf8_next(struct rmk_bytes rest, uint32_t *out_codepoint, size_t *out_length);

/* Whether all of `text` is UTF-8; when not, *out_offset (may be NULL) is the first bad byte. */
bool rmk_utf8_valid(struct rmk_bytes text, size_t *out_offset);

/* Write one scalar value; returns the bytes written. `codepoint` is a scalar value. */
size_t rmk_utf8_encode(uint32_t codepoint, char out[RMK_UTF8_MAX]);

/* Python's str.isspace() for one character: Unicode White_Space and U+001C..U+001F. */
bool rmk_utf8_is_space(uint32_t codepoint);

/* Python's str.strip() on valid UTF-8: a view without white space at either end. */
struct rmk_bytes rmk_utf8_strip(struct rmk_bytes text);

#endif
