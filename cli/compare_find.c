#include "cli/compare.h"

static bool continues_character(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

/* The last beginning of a character at or before `offset`. */
static size_t character_before(struct rmk_bytes text, size_t offset)
{
    while (offset > 0 && offset < text.size && continues_character(text.data[offset])) {
        offset--;
    }
    return offset;
}

/* The first beginning of a character at or after `offset`. */
static size_t character_after(struct rmk_bytes text, size_t offset)
{
    while (offset < text.size && continues_character(text.data[offset])) {
        offset++;
    }
    return offset;
}

struct rmk_parting rmk_compare_find(const int32_t *a, size_t a_count, struct rmk_bytes a_text,
                                    const int32_t *b, size_t b_count, struct rmk_bytes b_text)
{
    const size_t shorter = a_count < b_count ? a_count : b_count;
    struct rmk_parting parting = {.longer = a_count < b_count ? b_count : a_count};
    const size_t shorter_text = a_text.size < b_text.size ? a_text.size : b_text.size;
    size_t offset = 0;

    parting.token = shorter;
    for (size_t i = shorter; i-- > 0;) {
        if (a[i] == b[i]) {
            parting.agreeing++;
        } else {
            parting.token = i;
        }
    }
    parting.same = parting.agreeing == parting.longer;
    while (offset < shorter_text && a_text.data[offset] == b_text.data[offset]) {
        offset++;
    }
    /* The bytes before are the same in both, but either may stand inside a character. */
    while (offset > 0 && (character_before(a_text, offset) != offset ||
                          character_before(b_text, offset) != offset)) {
        offset--;
    }
    parting.text_offset = offset;
    return parting;
}

struct rmk_excerpt rmk_compare_excerpt(struct rmk_bytes text, size_t offset, size_t bytes_before,
                                       size_t bytes_after)
{
    size_t begin = offset > bytes_before ? character_after(text, offset - bytes_before) : 0;
    size_t end =
        text.size - offset > bytes_after ? character_before(text, offset + bytes_after) : text.size;

    /* Text that is no UTF-8 may have no characters to keep whole. */
    begin = begin < offset ? begin : offset;
    end = end > offset ? end : offset;
    return (struct rmk_excerpt){
        .before = rmk_bytes_of(text.data + begin, offset - begin),
        .after = rmk_bytes_of(text.data + offset, end - offset),
        .begins_later = begin > 0,
        .ends_earlier = end < text.size,
    };
}
