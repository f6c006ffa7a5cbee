#include "coordinator/front/keys.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/file.h"

enum { FILE_BYTES_MAX = 1 << 20 };

struct key {
    uint8_t digest[RMK_DIGEST_BYTES];
    uint32_t tenant; /* its number */
    uint32_t line;
};

struct rmk_keys {
    const char *path;
    struct key *keys;
    uint32_t count;
    struct rmk_tenant tenants[RMK_TENANTS - 1];
    uint32_t tenant_count;
};

/* ---- a line ------------------------------------------------------------------------------------
 */

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r';
}

/* Skips blanks, then takes bytes up to the next one. */
static struct rmk_bytes take_word(struct rmk_bytes *line)
{
    size_t size = 0;

    while (line->size > 0 && is_blank(line->data[0])) {
        *line = rmk_bytes_of(line->data + 1, line->size - 1);
    }
    while (size < line->size && !is_blank(line->data[size])) {
        size++;
    }
    struct rmk_bytes word = rmk_bytes_of(line->data, size);
    *line = rmk_bytes_of(line->data + size, line->size - size);
    return word;
}

static enum rmk_err check_key(struct rmk_bytes key, struct rmk_why *why)
{
    for (size_t i = 0; i < key.size; i++) {
        if (key.data[i] <= ' ' || key.data[i] > '~') {
            return rmk_fail(why, RMK_EINVAL, "the key has a byte that is not printable ASCII");
        }
    }
    if (key.size < RMK_KEY_BYTES_MIN || key.size > RMK_KEY_BYTES_MAX) {
        return rmk_fail(why, RMK_EINVAL, "the key has %zu bytes, %d to %d are allowed", key.size,
                        RMK_KEY_BYTES_MIN, RMK_KEY_BYTES_MAX);
    }
    return RMK_OK;
}

/* A label of metrics and a word of log lines. */
static enum rmk_err check_tenant(struct rmk_bytes name, struct rmk_why *why)
{
    if (name.size == 0) {
        return rmk_fail(why, RMK_EINVAL, "no tenant behind the key");
    }
    if (name.size > RMK_TENANT_BYTES_MAX) {
        return rmk_fail(why, RMK_EINVAL, "the tenant has %zu bytes, at most %d are allowed",
                        name.size, RMK_TENANT_BYTES_MAX);
    }
    for (size_t i = 0; i < name.size; i++) {
        const uint8_t c = name.data[i];
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
        if (!plain) {
            return rmk_fail(why, RMK_EINVAL,
                            "the tenant has a byte that is no letter, digit, dot, underscore or "
                            "hyphen");
        }
    }
    return RMK_OK;
}

/* ---- a file ------------------------------------------------------------------------------------
 */

/* What a parse has found; it becomes the keys' own when all of it is good. */
struct draft {
    struct key *keys;
    uint32_t count;
    struct rmk_tenant tenants[RMK_TENANTS - 1]; /* the old ones first */
    uint32_t tenant_count;
};

static enum rmk_err tenant_of(struct draft *draft, struct rmk_bytes name, uint32_t *out_number,
                              struct rmk_why *why)
{
    for (uint32_t i = 0; i < draft->tenant_count; i++) {
        if (rmk_bytes_equal(rmk_bytes_text(draft->tenants[i].name), name)) {
            *out_number = draft->tenants[i].number;
            return RMK_OK;
        }
    }
    if (draft->tenant_count == RMK_TENANTS - 1) {
        return rmk_fail(why, RMK_ELIMIT,
                        "more than %d tenants since the start; start again to forget old ones",
                        RMK_TENANTS - 1);
    }
    struct rmk_tenant *tenant = &draft->tenants[draft->tenant_count++];
    memcpy(tenant->name, name.data, name.size);
    tenant->name[name.size] = '\0';
    tenant->number = draft->tenant_count;
    *out_number = tenant->number;
    return RMK_OK;
}

static enum rmk_err parse_line(struct draft *draft, struct rmk_bytes line, uint32_t number,
                               struct rmk_why *why)
{
    struct rmk_bytes key = take_word(&line);
    struct rmk_bytes tenant = take_word(&line);
    struct rmk_bytes rest = take_word(&line);
    struct key entry = {.line = number};
    enum rmk_err err = RMK_OK;

    if (key.size == 0 || key.data[0] == '#') {
        goto out;
    }
    RMK_TRY(check_key(key, why));
    if (tenant.size > 0 && tenant.data[0] == '#') {
        tenant.size = 0;
    }
    RMK_TRY(check_tenant(tenant, why));
    if (rest.size > 0 && rest.data[0] != '#') {
        err = rmk_fail(why, RMK_EINVAL, "more than a key and a tenant");
        goto out;
    }
    RMK_TRY(rmk_digest_of(key, entry.digest, why));
    for (uint32_t i = 0; i < draft->count; i++) {
        if (memcmp(draft->keys[i].digest, entry.digest, sizeof(entry.digest)) == 0) {
            err = rmk_fail(why, RMK_EEXISTS, "the key of line %u again", draft->keys[i].line);
            goto out;
        }
    }
    if (draft->count == RMK_KEYS_MAX) {
        err = rmk_fail(why, RMK_ELIMIT, "more than %d keys", RMK_KEYS_MAX);
        goto out;
    }
    RMK_TRY(tenant_of(draft, tenant, &entry.tenant, why));
    draft->keys[draft->count++] = entry;
out:
    return err;
}

enum rmk_err rmk_keys_parse(struct rmk_keys *keys, struct rmk_bytes text, struct rmk_why *why)
{
    struct draft *draft = calloc(1, sizeof(*draft));
    struct key *found = calloc(RMK_KEYS_MAX, sizeof(*found));
    enum rmk_err err = RMK_OK;

    if (draft == NULL || found == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for keys");
        goto out;
    }
    draft->keys = found;
    memcpy(draft->tenants, keys->tenants, sizeof(draft->tenants));
    draft->tenant_count = keys->tenant_count;
    for (uint32_t number = 1; text.size > 0; number++) {
        const uint8_t *newline = memchr(text.data, '\n', text.size);
        const size_t size = newline != NULL ? (size_t)(newline - text.data) : text.size;
        const size_t used = newline != NULL ? size + 1 : size;

        err = parse_line(draft, rmk_bytes_of(text.data, size), number, why);
        if (err != RMK_OK) {
            rmk_why_context(why, "line %u", number);
            goto out;
        }
        text = rmk_bytes_of(text.data + used, text.size - used);
    }
    if (draft->count == 0) {
        err = rmk_fail(why, RMK_EINVAL, "there is no key in it, so nobody could come in");
        goto out;
    }
    free(keys->keys);
    keys->keys = found;
    found = NULL;
    keys->count = draft->count;
    memcpy(keys->tenants, draft->tenants, sizeof(keys->tenants));
    keys->tenant_count = draft->tenant_count;
out:
    free(found);
    free(draft);
    return err;
}

/* As ssh does with private keys, but a group may read: that is how secrets are handed to services.
 */
static enum rmk_err check_mode(int fd, struct rmk_why *why)
{
    struct stat status;

    if (fstat(fd, &status) != 0) {
        return rmk_fail(why, RMK_EIO, "%s", strerror(errno));
    }
    if ((status.st_mode & (S_IROTH | S_IWOTH)) != 0) {
        return rmk_fail(why, RMK_EINVAL,
                        "everybody on this machine may read or change it (mode %03o); chmod 600",
                        (unsigned)(status.st_mode & 0777));
    }
    return RMK_OK;
}

enum rmk_err rmk_keys_load(struct rmk_keys *keys, struct rmk_why *why)
{
    uint8_t *text = NULL;
    size_t size = 0;
    int fd = -1;
    enum rmk_err err;

    RMK_TRY(rmk_file_open(keys->path, RMK_FILE_REGULAR, &fd, why));
    RMK_TRY(check_mode(fd, why));
    RMK_TRY(rmk_file_read_open(fd, FILE_BYTES_MAX, &text, &size, why));
    RMK_TRY(rmk_keys_parse(keys, rmk_bytes_of(text, size), why));
out:
    if (text != NULL) {
        explicit_bzero(text, size);
        free(text);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    if (err != RMK_OK) {
        rmk_why_context(why, "%.300s", keys->path);
    }
    return err;
}

/* ---- a call ------------------------------------------------------------------------------------
 */

/* How long it takes says nothing of how much is equal. */
static bool is_same(const uint8_t a[RMK_DIGEST_BYTES], const uint8_t b[RMK_DIGEST_BYTES])
{
    volatile uint8_t difference = 0;

    for (size_t i = 0; i < RMK_DIGEST_BYTES; i++) {
        difference |= a[i] ^ b[i];
    }
    return difference == 0;
}

enum rmk_err rmk_keys_check(const struct rmk_keys *keys, const char *authorization,
                            const struct rmk_tenant **out_tenant, struct rmk_why *why)
{
    static const char scheme[] = "Bearer ";
    uint8_t digest[RMK_DIGEST_BYTES];
    uint32_t tenant = 0;
    enum rmk_err err;

    if (authorization == NULL) {
        return rmk_fail(why, RMK_EINVAL,
                        "this server wants an API key: metadata authorization, \"Bearer KEY\"");
    }
    if (strncasecmp(authorization, scheme, sizeof(scheme) - 1) != 0) {
        return rmk_fail(why, RMK_EINVAL, "authorization: is not \"Bearer KEY\"");
    }
    const char *key = authorization + sizeof(scheme) - 1;
    RMK_TRY(rmk_digest_of(rmk_bytes_text(key + strspn(key, " ")), digest, why));
    for (uint32_t i = 0; i < keys->count; i++) {
        tenant = is_same(keys->keys[i].digest, digest) ? keys->keys[i].tenant : tenant;
    }
    if (tenant == 0) {
        err = rmk_fail(why, RMK_EINVAL, "authorization: the API key is not known here");
        goto out;
    }
    *out_tenant = &keys->tenants[tenant - 1];
out:
    return err;
}

/* ---- life --------------------------------------------------------------------------------------
 */

enum rmk_err rmk_keys_create(const char *path, struct rmk_keys **out_keys, struct rmk_why *why)
{
    struct rmk_keys *keys = calloc(1, sizeof(*keys));
    enum rmk_err err = RMK_OK;

    if (keys == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for keys");
        goto out;
    }
    keys->path = path;
    if (path != NULL) {
        RMK_TRY(rmk_keys_load(keys, why));
    }
    *out_keys = keys;
    keys = NULL;
out:
    rmk_keys_destroy(keys);
    return err;
}

void rmk_keys_destroy(struct rmk_keys *keys)
{
    if (keys != NULL) {
        free(keys->keys);
        free(keys);
    }
}

uint32_t rmk_keys_count(const struct rmk_keys *keys)
{
    return keys->count;
}

uint32_t rmk_keys_tenant_count(const struct rmk_keys *keys)
{
    return keys->tenant_count;
}

const struct rmk_tenant *rmk_keys_tenant(const struct rmk_keys *keys, uint32_t index)
{
    rmk_assert(index < keys->tenant_count);
    return &keys->tenants[index];
}
