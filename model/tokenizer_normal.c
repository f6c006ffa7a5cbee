#include "model/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "common/utf8.h"

enum {
    DECOMPOSED_MAX = 32, /* characters of one decomposed character; Unicode's longest is 18 */
};

struct characters {
    utf8proc_int32_t *items;
    size_t count;
    size_t capacity;
};

static enum rmk_err reserve(struct characters *characters, size_t more)
{
    if (more <= characters->capacity - characters->count) {
        return RMK_OK;
    }
    size_t capacity = (characters->count + more) * 2;
    utf8proc_int32_t *grown = realloc(characters->items, capacity * sizeof(*grown));
    if (grown == NULL) {
        return RMK_ELIMIT;
    }
    characters->items = grown;
    characters->capacity = capacity;
    return RMK_OK;
}

static int combining_class(utf8proc_int32_t character)
{
    return utf8proc_get_property(character)->combining_class;
}

/* Characters of a text, decomposed, not yet in canonical order. */
static enum rmk_err decompose(rmk_normal_form form, struct rmk_bytes text,
                              struct characters *characters, struct rmk_why *why)
{
    for (size_t at = 0; at < text.size;) {
        uint32_t codepoint = 0;
        size_t length = 1;
        int boundary = 0;
        (void)rmk_utf8_next(rmk_bytes_of(text.data + at, text.size - at), &codepoint, &length);
        at += length;
        if (reserve(characters, DECOMPOSED_MAX) != RMK_OK) {
            return rmk_fail(why, RMK_ELIMIT, "no memory to normalise %zu bytes", text.size);
        }
        utf8proc_ssize_t count = utf8proc_decompose_char(
            (utf8proc_int32_t)codepoint, characters->items + characters->count, DECOMPOSED_MAX,
            (utf8proc_option_t)(form | UTF8PROC_DECOMPOSE), &boundary);
        rmk_assert(count >= 0);
        rmk_assert(count <= DECOMPOSED_MAX);
        characters->count += (size_t)count;
    }
    return RMK_OK;
}

/* Stable order by combining class of a run of marks. Short runs, nearly all there are, by
 * insertion; long ones by counting, since a hostile text may be one single run. */
static enum rmk_err order_run(utf8proc_int32_t *run, size_t count)
{
    if (count <= 32) {
        for (size_t i = 1; i < count; i++) {
            utf8proc_int32_t mark = run[i];
            size_t at = i;
            while (at > 0 && combining_class(run[at - 1]) > combining_class(mark)) {
                run[at] = run[at - 1];
                at--;
            }
            run[at] = mark;
        }
        return RMK_OK;
    }
    size_t begins[257] = {0};
    utf8proc_int32_t *sorted = malloc(count * sizeof(*sorted));
    if (sorted == NULL) {
        return RMK_ELIMIT;
    }
    for (size_t i = 0; i < count; i++) {
        begins[(combining_class(run[i]) & 0xff) + 1]++;
    }
    for (size_t value = 1; value < 257; value++) {
        begins[value] += begins[value - 1];
    }
    for (size_t i = 0; i < count; i++) {
        sorted[begins[combining_class(run[i]) & 0xff]++] = run[i];
    }
    memcpy(run, sorted, count * sizeof(*sorted));
    free(sorted);
    return RMK_OK;
}

static enum rmk_err order(struct characters *characters)
{
    for (size_t at = 0; at < characters->count;) {
        size_t begin = at;
        while (at < characters->count && combining_class(characters->items[at]) != 0) {
            at++;
        }
        if (at - begin > 1 && order_run(characters->items + begin, at - begin) != RMK_OK) {
            return RMK_ELIMIT;
        }
        at += at == begin;
    }
    return RMK_OK;
}

enum rmk_err rmk_normalise(rmk_normal_form form, struct rmk_bytes text, uint8_t **out_text,
                           size_t *out_size, struct rmk_why *why)
{
    struct characters characters = {0};
    uint8_t *bytes = NULL;
    size_t size = 0;
    enum rmk_err err;

    RMK_TRY(decompose(form, text, &characters, why));
    if (order(&characters) != RMK_OK) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory to normalise %zu bytes", text.size);
        goto out;
    }
    if (form & UTF8PROC_COMPOSE && characters.count > 0) {
        utf8proc_ssize_t count = utf8proc_normalize_utf32(
            characters.items, (utf8proc_ssize_t)characters.count, (utf8proc_option_t)form);
        rmk_assert(count >= 0);
        characters.count = (size_t)count;
    }
    bytes = malloc(characters.count * RMK_UTF8_MAX + 1);
    if (bytes == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory to normalise %zu bytes", text.size);
        goto out;
    }
    for (size_t i = 0; i < characters.count; i++) {
        size += rmk_utf8_encode((uint32_t)characters.items[i], (char *)bytes + size);
    }
    *out_text = bytes;
    *out_size = size;
    err = RMK_OK;
out:
    free(characters.items);
    return err;
}
