#include "common/digest.h"

#include <openssl/evp.h>
#include <stdlib.h>

struct rmk_digest {
    EVP_MD_CTX *context;
};

enum rmk_err rmk_digest_create(struct rmk_digest **out_digest, struct rmk_why *why)
{
    struct rmk_digest *digest = calloc(1, sizeof(*digest));
    enum rmk_err err = RMK_OK;

    if (digest == NULL || (digest->context = EVP_MD_CTX_new()) == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for a digest");
        goto out;
    }
    if (EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL) != 1) {
        err = rmk_fail(why, RMK_EUNSUPPORTED, "this libcrypto offers no SHA-256");
        goto out;
    }

    *out_digest = digest;
    digest = NULL;
out:
    rmk_digest_destroy(digest);
    return err;
}

void rmk_digest_destroy(struct rmk_digest *digest)
{
    if (digest == NULL) {
        return;
    }
    EVP_MD_CTX_free(digest->context);
    free(digest);
}

/* Once SHA-256 is set up, updating and finishing compute in place and have no way to fail. */
void rmk_digest_update(struct rmk_digest *digest, const void *data, size_t size)
{
    rmk_assert(EVP_DigestUpdate(digest->context, data, size) == 1);
}

static struct rmk_bytes put_u64(uint8_t out[8], uint64_t value)
{
    for (size_t i = 0; i < 8; i++) {
        out[i] = (uint8_t)(value >> (8 * i));
    }
    return rmk_bytes_of(out, 8);
}

void rmk_digest_part(struct rmk_digest *digest, const char *tag, struct rmk_bytes bytes)
{
    uint8_t length[8];
    size_t tag_size = strlen(tag);

    rmk_digest_update(digest, put_u64(length, tag_size).data, sizeof(length));
    rmk_digest_update(digest, tag, tag_size);
    rmk_digest_update(digest, put_u64(length, bytes.size).data, sizeof(length));
    rmk_digest_update(digest, bytes.data, bytes.size);
}

void rmk_digest_part_u64(struct rmk_digest *digest, const char *tag, uint64_t value)
{
    uint8_t bytes[8];

    rmk_digest_part(digest, tag, put_u64(bytes, value));
}

void rmk_digest_finish(struct rmk_digest *digest, uint8_t out_sum[RMK_DIGEST_BYTES])
{
    unsigned size = 0;

    rmk_assert(EVP_DigestFinal_ex(digest->context, out_sum, &size) == 1);
    rmk_assert(size == RMK_DIGEST_BYTES);
    rmk_assert(EVP_DigestInit_ex(digest->context, NULL, NULL) == 1);
}

enum rmk_err rmk_digest_of(struct rmk_bytes bytes, uint8_t out_sum[RMK_DIGEST_BYTES],
                           struct rmk_why *why)
{
    struct rmk_digest *digest = NULL;
    enum rmk_err err;

    RMK_TRY(rmk_digest_create(&digest, why));
    rmk_digest_update(digest, bytes.data, bytes.size);
    rmk_digest_finish(digest, out_sum);
out:
    rmk_digest_destroy(digest);
    return err;
}

void rmk_digest_hex(const uint8_t sum[RMK_DIGEST_BYTES], char out_text[RMK_DIGEST_HEX_BYTES])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < RMK_DIGEST_BYTES; i++) {
        out_text[2 * i] = digits[sum[i] >> 4];
        out_text[2 * i + 1] = digits[sum[i] & 15];
    }
    out_text[2 * RMK_DIGEST_BYTES] = '\0';
}
