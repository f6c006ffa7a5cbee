#include "cli/wire.h"

#include <stdbool.h>

enum {
    WIRE_VARINT = 0,
    WIRE_FIXED64 = 1,
    WIRE_LENGTH = 2,
    WIRE_FIXED32 = 5,
};

static bool take(struct rmk_bytes *rest, uint64_t size, struct rmk_bytes *out)
{
    if (size > rest->size) {
        return false;
    }
    *out = rmk_bytes_of(rest->data, (size_t)size);
    rest->data += size;
    rest->size -= (size_t)size;
    return true;
}

static bool take_varint(struct rmk_bytes *rest, uint64_t *out)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64 && rest->size > 0; shift += 7) {
        uint8_t byte = *rest->data;
        rest->data++;
        rest->size--;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *out = value;
            return true;
        }
    }
    return false;
}

/* One field; `value` is its bytes where it has a length, else empty. */
static bool take_field(struct rmk_bytes *rest, uint64_t *number, struct rmk_bytes *value)
{
    struct rmk_bytes skipped;
    uint64_t tag;
    uint64_t size;

    *value = (struct rmk_bytes){0};
    if (!take_varint(rest, &tag)) {
        return false;
    }
    *number = tag >> 3;
    switch (tag & 7) {
    case WIRE_VARINT:
        return take_varint(rest, &size);
    case WIRE_FIXED64:
        return take(rest, 8, &skipped);
    case WIRE_FIXED32:
        return take(rest, 4, &skipped);
    case WIRE_LENGTH:
        return take_varint(rest, &size) && take(rest, size, value);
    default:
        return false;
    }
}

struct rmk_bytes rmk_wire_find(struct rmk_bytes message, const uint32_t *fields, size_t field_count)
{
    for (size_t i = 0; i < field_count; i++) {
        struct rmk_bytes rest = message;
        struct rmk_bytes found = {0};

        while (rest.size > 0) {
            struct rmk_bytes value;
            uint64_t number;

            if (!take_field(&rest, &number, &value)) {
                return (struct rmk_bytes){0};
            }
            if (number == fields[i]) {
                found = value;
            }
        }
        message = found;
    }
    return message;
}
