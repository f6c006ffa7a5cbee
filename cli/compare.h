/* Where and how two answers part: pure functions over two texts and two lists of ids; compare.c
 * asks for the answers.
 */
#ifndef RMK_CLI_COMPARE_H
#define RMK_CLI_COMPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"

struct rmk_parting {
    bool same;          /* all ids are */
    size_t token;       /* the first that differs; the shorter length when one begins the other */
    size_t agreeing;    /* positions with the same id in both */
    size_t longer;      /* ids of the longer one */
    size_t text_offset; /* where the texts part; a character's beginning */
};

struct rmk_parting rmk_compare_find(const int32_t *a, size_t a_count, struct rmk_bytes a_text,
                                    const int32_t *b, size_t b_count, struct rmk_bytes b_text);

/* The part of `text` around `offset`: at most so many bytes before and after, whole characters. */
struct rmk_excerpt {
    struct rmk_bytes before;
    struct rmk_bytes after;
    bool begins_later; /* there is text before `before` */
    bool ends_earlier; /* there is text after `after` */
};

struct rmk_excerpt rmk_compare_excerpt(struct rmk_bytes text, size_t offset, size_t bytes_before,
                                       size_t bytes_after);

#endif
