/* A borrowed run of bytes. Not kept past the call unless the callee says so; not NUL-terminated. */
#ifndef RMK_COMMON_BYTES_H
#define RMK_COMMON_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct rmk_bytes {
    const uint8_t *data;
    size_t size;
};

static inline struct rmk_bytes rmk_bytes_of(const void *data, size_t size)
{
    return (struct rmk_bytes){.data = data, .size = size};
}

static inline struct rmk_bytes rmk_bytes_text(const char *text)
{
    return (struct rmk_bytes){.data = (const uint8_t *)text, .size = strlen(text)};
}

static inline int rmk_bytes_equal(struct rmk_bytes a, struct rmk_bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

#endif
