/* Who may use the public API: a file of keys, and the tenants that they stand for.
 *
 *     # one key a line, a space, the tenant
 *     cLx7…Q2  team-a
 *     9dKm…fA  team-a      # the next key, while the last is still in use
 *     Tz0v…8w  nightly
 *
 * Only SHA-256 digests of keys are kept, and every look-up compares with all of them in constant
 * time. A key is never part of a sentence or a log line. The file may be read again while calls are
 * under way: those that have come in go on, whatever it says now.
 */
#ifndef RMK_COORDINATOR_FRONT_KEYS_H
#define RMK_COORDINATOR_FRONT_KEYS_H

#include <stdint.h>

#include "common/bytes.h"
#include "common/err.h"
#include "common/limits.h"

enum {
    RMK_KEY_BYTES_MIN = 16, /* shorter ones can be guessed */
    RMK_KEY_BYTES_MAX = 256,
    RMK_KEYS_MAX = 4096,
};

/* Lives as long as the keys, also when the file no longer names it. */
struct rmk_tenant {
    uint32_t number; /* 1 …; 0 is nobody's: the coordinator itself, and everybody without keys */
    char name[RMK_TENANT_BYTES_MAX + 1];
};

struct rmk_keys;

/* `path` is borrowed; NULL: no key is known until rmk_keys_parse. Errors: those of rmk_keys_load.
 */
enum rmk_err rmk_keys_create(const char *path, struct rmk_keys **out_keys, struct rmk_why *why);
/* Takes NULL. */
void rmk_keys_destroy(struct rmk_keys *keys);

/* Read the file again; after an error what was in force stays so. A tenant keeps its number.
 *
 * Errors, each with the file and, where it is a line's fault, the line:
 *   RMK_ENOTFOUND, RMK_EIO  the file cannot be read
 *   RMK_EINVAL              everybody may read it, or a line is not a key and a tenant
 *   RMK_EEXISTS             a key twice
 *   RMK_ELIMIT              too large, too many keys, or more tenants since the start than fit
 */
enum rmk_err rmk_keys_load(struct rmk_keys *keys, struct rmk_why *why);

/* As rmk_keys_load, from memory. */
enum rmk_err rmk_keys_parse(struct rmk_keys *keys, struct rmk_bytes text, struct rmk_why *why);

uint32_t rmk_keys_count(const struct rmk_keys *keys);
/* All that there have been, by number less one. */
uint32_t rmk_keys_tenant_count(const struct rmk_keys *keys);
const struct rmk_tenant *rmk_keys_tenant(const struct rmk_keys *keys, uint32_t index);

/* The tenant of a call with this `authorization` metadata (NULL: none). Errors: RMK_EINVAL, with a
 * sentence for the client. */
enum rmk_err rmk_keys_check(const struct rmk_keys *keys, const char *authorization,
                            const struct rmk_tenant **out_tenant, struct rmk_why *why);

#endif
