#include "common/utf8.h"

#include "common/err.h"

/* What a first byte asks for. `low` and `high` bound the second byte: that is where overlong forms,
 * surrogates and values past U+10FFFF are excluded, so that a bad prefix is known at its second
 * byte. */
struct lead {
    uint8_t length; /* 0: cannot begin a character */
    uint8_t low;
    uint8_t high;
};

static struct lead lead_of(uint8_t byte)
{
    if (byte < 0x80) {
        return (struct lead){1, 0, 0};
    }
    if (byte < 0xc2) {
        return (struct lead){0, 0, 0};
    }
    if (byte < 0xe0) {
        return (struct lead){2, 0x80, 0xbf};
    }
    if (byte < 0xf0) {
        return (struct lead){3, byte == 0xe0 ? 0xa0 : 0x80, byte == 0xed ? 0x9f : 0xbf};
    }
    if (byte < 0xf5) {
        return (struct lead){4, byte == 0xf0 ? 0x90 : 0x80, byte == 0xf4 ? 0x8f : 0xbf};
    }
    return (struct lead){0, 0, 0};
}

enum rmk_utf8 rmk_utf8_next(struct rmk_bytes rest, uint32_t *out_codepoint, size_t *out_length)
{
    rmk_assert(rest.size > 0);
    struct lead lead = lead_of(rest.data[0]);
    static const uint8_t masks[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t codepoint = rest.data[0] & masks[lead.length];

    if (lead.length == 0) {
        *out_length = 1;
        return RMK_UTF8_INVALID;
    }
    for (size_t i = 1; i < lead.length; i++) {
        *out_length = i;
        if (i == rest.size) {
            return RMK_UTF8_UNFINISHED;
        }
        uint8_t low = i == 1 ? lead.low : 0x80;
        uint8_t high = i == 1 ? lead.high : 0xbf;
        if (rest.data[i] < low || rest.data[i] > high) {
            return RMK_UTF8_INVALID;
        }
        codepoint = codepoint << 6 | (rest.data[i] & 0x3f);
    }
    *out_codepoint = codepoint;
    *out_length = lead.length;
    return RMK_UTF8_VALID;
}

bool rmk_utf8_valid(struct rmk_bytes text, size_t *out_offset)
{
    size_t at = 0;

    while (at < text.size) {
        uint32_t codepoint;
        size_t length;
        if (text.data[at] < 0x80) {
            at++;
            continue;
        }
        if (rmk_utf8_next(rmk_bytes_of(text.data + at, text.size - at), &codepoint, &length) !=
            RMK_UTF8_VALID) {
            if (out_offset != NULL) {
                *out_offset = at;
            }
            return false;
        }
        at += length;
    }
    return true;
}

size_t rmk_utf8_encode(uint32_t codepoint, char out[RMK_UTF8_MAX])
{
    rmk_assert(codepoint <= 0x10ffff);
    rmk_assert(codepoint < 0xd800 || codepoint > 0xdfff);
    if (codepoint < 0x80) {
        out[0] = (char)codepoint;
        return 1;
    }
    if (codepoint < 0x800) {
        out[0] = (char)(0xc0 | codepoint >> 6);
        out[1] = (char)(0x80 | (codepoint & 0x3f));
        return 2;
    }
    if (codepoint < 0x10000) {
        out[0] = (char)(0xe0 | codepoint >> 12);
        out[1] = (char)(0x80 | (codepoint >> 6 & 0x3f));
        out[2] = (char)(0x80 | (codepoint & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | codepoint >> 18);
    out[1] = (char)(0x80 | (codepoint >> 12 & 0x3f));
    out[2] = (char)(0x80 | (codepoint >> 6 & 0x3f));
    out[3] = (char)(0x80 | (codepoint & 0x3f));
    return 4;
}

bool rmk_utf8_is_space(uint32_t codepoint)
{
    switch (codepoint) {
    case 0x20:
    case 0x85:
    case 0xa0:
    case 0x1680:
    case 0x2028:
    case 0x2029:
    case 0x202f:
    case 0x205f:
    case 0x3000:
        return true;
    default:
        return (codepoint >= 0x09 && codepoint <= 0x0d) ||
               (codepoint >= 0x1c && codepoint <= 0x1f) ||
               (codepoint >= 0x2000 && codepoint <= 0x200a);
    }
}

/* Bytes of the white space at the front (0: none). */
static size_t space_at(const uint8_t *data, size_t size)
{
    uint32_t codepoint;
    size_t length;

    if (size == 0 ||
        rmk_utf8_next(rmk_bytes_of(data, size), &codepoint, &length) != RMK_UTF8_VALID) {
        return 0;
    }
    return rmk_utf8_is_space(codepoint) ? length : 0;
}

struct rmk_bytes rmk_utf8_strip(struct rmk_bytes text)
{
    size_t length;

    while ((length = space_at(text.data, text.size)) != 0) {
        text = rmk_bytes_of(text.data + length, text.size - length);
    }
    while (text.size > 0) {
        size_t last = text.size - 1;
        while (last > 0 && (text.data[last] & 0xc0) == 0x80) {
            last--;
        }
        if (space_at(text.data + last, text.size - last) == 0) {
            break;
        }
        text.size = last;
    }
    return text;
}
