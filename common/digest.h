/* SHA-256, streaming, and a framed form for keys made of several parts.
 *
 * A content digest is the key of caches that tenants share, so two different inputs must never hash
 * the same bytes. Gluing parts together would allow it ("ab"+"c" and "a"+"bc"; a 4x1 picture and a
 * 1x4 one); rmk_digest_part frames each part as
 *
 *     length of the tag (u64, little endian) | tag | length of the bytes (u64, little endian) |
 * bytes
 *
 * which can be read back in one way only. Use either framed parts or raw updates in one digest, not
 * both.
 */
#ifndef RMK_COMMON_DIGEST_H
#define RMK_COMMON_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/err.h"

enum {
    RMK_DIGEST_BYTES = 32,
    RMK_DIGEST_HEX_BYTES = 65, /* with the NUL */
};

struct rmk_digest;

/* RMK_ELIMIT when there is no memory, RMK_EUNSUPPORTED when libcrypto was built without SHA-256. */
enum rmk_err rmk_digest_create(struct rmk_digest **out_digest, struct rmk_why *why);

/* Takes NULL. */
void rmk_digest_destroy(struct rmk_digest *digest);

/* Raw bytes, as sha256sum sees them. */
void rmk_digest_update(struct rmk_digest *digest, const void *data, size_t size);

/* One framed part; `tag` says what it is ("image", "salt", …). */
void rmk_digest_part(struct rmk_digest *digest, const char *tag, struct rmk_bytes bytes);

/* A framed number: the part's bytes are the eight of `value`, little endian. */
void rmk_digest_part_u64(struct rmk_digest *digest, const char *tag, uint64_t value);

/* The result; the digest starts afresh and may be used for another input. */
void rmk_digest_finish(struct rmk_digest *digest, uint8_t out_sum[RMK_DIGEST_BYTES]);

/* All at once. */
enum rmk_err rmk_digest_of(struct rmk_bytes bytes, uint8_t out_sum[RMK_DIGEST_BYTES],
                           struct rmk_why *why);

/* Lower-case hexadecimal, NUL-terminated. */
void rmk_digest_hex(const uint8_t sum[RMK_DIGEST_BYTES], char out_text[RMK_DIGEST_HEX_BYTES]);

#endif
