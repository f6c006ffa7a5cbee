/* The bytes of pictures while somebody may still need them: blobs, counted, bounded in sum, found
 * by digest; and `Images.Fetch`, by which vision workers get them.
 *
 *     client ── GenerateRequest ──► blob (reserved) ── digest ──► published ──► Images.Fetch ──►
 * vision └─ freed with the last request
 *
 * All on the loop's thread, except that a pool thread may read a blob's bytes and write its digest
 * before it is published.
 */
#ifndef RMK_COORDINATOR_BACK_IMAGES_H
#define RMK_COORDINATOR_BACK_IMAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/digest.h"
#include "common/err.h"

struct rmk_images;
struct rmk_rpc_call;

struct rmk_blob {
    uint8_t digest[RMK_DIGEST_BYTES]; /* SHA-256 of the bytes; good once published */
    struct rmk_bytes bytes;
    /* the store's */
    struct rmk_images *images;
    struct rmk_blob *next;
    uint32_t tenant; /* who brought it first */
    uint32_t references;
    bool published;
    uint8_t *data;
};

/* `bytes_max`: all blobs together. NULL: no memory. */
struct rmk_images *rmk_images_create(uint64_t bytes_max);
/* Every blob must have been unreferenced. Takes NULL. */
void rmk_images_destroy(struct rmk_images *images);

/* Take ownership of malloc'ed `data` (freed in any case, on failure too). One reference, the
 * caller's. `tenant`: below RMK_TENANTS; 0: nobody in particular. RMK_ELIMIT: the store is full, or
 * what is left of it is for other tenants; try later. */
enum rmk_err rmk_images_reserve(struct rmk_images *images, uint32_t tenant, uint8_t *data,
                                size_t size, struct rmk_blob **out_blob, struct rmk_why *why);

/* Make a blob with a digest findable. Returns the blob to use from now on, with the caller's
 * reference: an older one of the same digest, if there is one, and then `blob` has been released.
 */
struct rmk_blob *rmk_images_publish(struct rmk_blob *blob);

struct rmk_blob *rmk_blob_ref(struct rmk_blob *blob);
/* Takes NULL. */
void rmk_blob_unref(struct rmk_blob *blob);

/* Borrowed; NULL when absent. */
struct rmk_blob *rmk_images_find(const struct rmk_images *images,
                                 const uint8_t digest[RMK_DIGEST_BYTES]);

uint64_t rmk_images_bytes(const struct rmk_images *images);
uint32_t rmk_images_count(const struct rmk_images *images);

/* Handler of "/remask.cluster.v1.Images/Fetch"; `context` is the store. */
void rmk_images_on_fetch(struct rmk_rpc_call *call, void *context);

#endif
