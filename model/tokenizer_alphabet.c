#include "model/tokenizer_parts.h"

#include "common/utf8.h"

/* Printable Latin-1 stands for itself; the other 68 bytes, in order, are U+0100 and up. */
static bool stands_for_itself(uint32_t byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/* Of the bytes that do not, how many are below `byte`. */
static uint32_t others_below(uint32_t byte)
{
    if (byte <= ' ') {
        return byte;
    }
    return byte <= 0xa0 ? 33 + (byte - 0x7f) : 67; /* 0x00-0x20, 0x7f-0xa0, 0xad */
}

uint32_t rmk_alphabet_character(uint8_t byte)
{
    return stands_for_itself(byte) ? byte : 0x100 + others_below(byte);
}

int rmk_alphabet_byte(uint32_t codepoint)
{
    if (codepoint < 0x100) {
        return stands_for_itself(codepoint) ? (int)codepoint : -1;
    }
    uint32_t other = codepoint - 0x100;
    if (other <= ' ') {
        return (int)other;
    }
    if (other < 67) {
        return (int)(other - 33 + 0x7f);
    }
    return other == 67 ? 0xad : -1;
}

size_t rmk_alphabet_write(struct rmk_bytes bytes, char *out)
{
    size_t size = 0;

    for (size_t i = 0; i < bytes.size; i++) {
        size += rmk_utf8_encode(rmk_alphabet_character(bytes.data[i]), out + size);
    }
    return size;
}

size_t rmk_alphabet_read(struct rmk_bytes content, uint8_t *out)
{
    size_t size = 0;

    for (size_t at = 0; at < content.size;) {
        uint32_t codepoint = 0;
        size_t length = 0;
        enum rmk_utf8 kind =
            rmk_utf8_next(rmk_bytes_of(content.data + at, content.size - at), &codepoint, &length);
        int byte = kind == RMK_UTF8_VALID ? rmk_alphabet_byte(codepoint) : -1;
        if (byte < 0) {
            memcpy(out, content.data, content.size);
            return content.size;
        }
        out[size++] = (uint8_t)byte;
        at += length;
    }
    return size;
}
