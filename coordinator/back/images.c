#include "coordinator/back/images.h"

#include <stdlib.h>
#include <string.h>

#include "common/limits.h"
#include "common/rpc/pack.h"
#include "common/rpc/rpc.h"
#include "coordinator/engine/policy.h"
#include "remask/cluster/v1/cluster.pb-c.h"

enum { BUCKET_COUNT = 4096 }; /* digests are uniform: their first bytes are the hash */

struct rmk_images {
    uint64_t bytes_max;
    uint64_t bytes;
    uint64_t tenant_bytes[RMK_TENANTS];
    uint32_t count;
    struct rmk_blob *buckets[BUCKET_COUNT];
};

static uint32_t bucket_of(const uint8_t *digest)
{
    return (digest[0] | (uint32_t)digest[1] << 8) % BUCKET_COUNT;
}

struct rmk_images *rmk_images_create(uint64_t bytes_max)
{
    struct rmk_images *images = calloc(1, sizeof(*images));

    if (images != NULL) {
        images->bytes_max = bytes_max;
    }
    return images;
}

void rmk_images_destroy(struct rmk_images *images)
{
    if (images != NULL) {
        rmk_assert(images->count == 0);
        free(images);
    }
}

static enum rmk_err check_room(const struct rmk_images *images, uint32_t tenant, size_t size,
                               struct rmk_why *why)
{
    const uint64_t free_bytes = images->bytes_max - images->bytes;
    const uint64_t held_bytes = images->tenant_bytes[tenant];

    if (size > free_bytes) {
        return rmk_fail(
            why, RMK_ELIMIT,
            "the coordinator holds %llu bytes of pictures for other requests and may hold "
            "%llu; try again later",
            (unsigned long long)images->bytes, (unsigned long long)images->bytes_max);
    }
    /* One picture at least has everybody. */
    if (held_bytes > 0 && rmk_policy_is_hog(tenant, held_bytes + size, free_bytes - size)) {
        return rmk_fail(
            why, RMK_ELIMIT,
            "the coordinator holds %llu bytes of this tenant's pictures, and what is left "
            "is for others; try again later",
            (unsigned long long)held_bytes);
    }
    return RMK_OK;
}

enum rmk_err rmk_images_reserve(struct rmk_images *images, uint32_t tenant, uint8_t *data,
                                size_t size, struct rmk_blob **out_blob, struct rmk_why *why)
{
    struct rmk_blob *blob;

    rmk_assert(tenant < RMK_TENANTS);
    if (check_room(images, tenant, size, why) != RMK_OK) {
        free(data);
        return RMK_ELIMIT;
    }
    blob = calloc(1, sizeof(*blob));
    if (blob == NULL) {
        free(data);
        return rmk_fail(why, RMK_ELIMIT, "no memory for a picture");
    }
    blob->images = images;
    blob->references = 1;
    blob->data = data;
    blob->bytes = rmk_bytes_of(data, size);
    blob->tenant = tenant;
    images->bytes += size;
    images->tenant_bytes[tenant] += size;
    images->count++;
    *out_blob = blob;
    return RMK_OK;
}

struct rmk_blob *rmk_images_find(const struct rmk_images *images,
                                 const uint8_t digest[RMK_DIGEST_BYTES])
{
    struct rmk_blob *blob = images->buckets[bucket_of(digest)];

    while (blob != NULL && memcmp(blob->digest, digest, RMK_DIGEST_BYTES) != 0) {
        blob = blob->next;
    }
    return blob;
}

struct rmk_blob *rmk_images_publish(struct rmk_blob *blob)
{
    struct rmk_images *images = blob->images;
    struct rmk_blob *older;
    uint32_t bucket;

    if (blob->published) {
        return blob;
    }
    older = rmk_images_find(images, blob->digest);
    if (older != NULL) {
        rmk_blob_ref(older);
        rmk_blob_unref(blob);
        return older;
    }
    bucket = bucket_of(blob->digest);
    blob->next = images->buckets[bucket];
    images->buckets[bucket] = blob;
    blob->published = true;
    return blob;
}

struct rmk_blob *rmk_blob_ref(struct rmk_blob *blob)
{
    blob->references++;
    return blob;
}

void rmk_blob_unref(struct rmk_blob *blob)
{
    if (blob == NULL || --blob->references > 0) {
        return;
    }
    if (blob->published) {
        struct rmk_blob **link = &blob->images->buckets[bucket_of(blob->digest)];

        while (*link != blob) {
            link = &(*link)->next;
        }
        *link = blob->next;
    }
    blob->images->bytes -= blob->bytes.size;
    blob->images->tenant_bytes[blob->tenant] -= blob->bytes.size;
    blob->images->count--;
    free(blob->data);
    free(blob);
}

uint64_t rmk_images_bytes(const struct rmk_images *images)
{
    return images->bytes;
}

uint32_t rmk_images_count(const struct rmk_images *images)
{
    return images->count;
}

/* ---- Images.Fetch ------------------------------------------------------------------------------
 */

struct fetch {
    struct rmk_images *images;
    struct rmk_blob *blob; /* NULL: not asked yet */
    size_t offset;
};

/* Send until the queue is at its mark; on_writable goes on from there. The blob is held, so the
 * request may end meanwhile. */
static void fetch_send(struct rmk_rpc_call *call, struct fetch *fetch)
{
    struct rmk_bytes bytes = fetch->blob->bytes;
    bool room = true;

    while (room && fetch->offset < bytes.size) {
        Remask__Cluster__V1__Chunk chunk = REMASK__CLUSTER__V1__CHUNK__INIT;
        size_t size = bytes.size - fetch->offset;

        if (size > RMK_CHUNK_BYTES) {
            size = RMK_CHUNK_BYTES;
        }
        chunk.offset = fetch->offset;
        chunk.total_bytes = bytes.size;
        chunk.data.data = (uint8_t *)(uintptr_t)(bytes.data + fetch->offset);
        chunk.data.len = size;
        room = rmk_pack_send(call, &chunk.base);
        fetch->offset += size;
    }
    if (fetch->offset == bytes.size) {
        rmk_rpc_call_finish(call, RMK_STATUS_OK, NULL);
    }
}

static void on_fetch_message(struct rmk_rpc_call *call, struct rmk_bytes message, void *context)
{
    struct fetch *fetch = context;
    ProtobufCMessage *unpacked = NULL;
    Remask__Cluster__V1__FetchRequest *request;
    struct rmk_why why = {0};
    enum rmk_err err;

    if (fetch->blob != NULL) {
        return; /* a second message on a call that takes one */
    }
    err = rmk_unpack(&remask__cluster__v1__fetch_request__descriptor, message, &unpacked, &why);
    if (err != RMK_OK) {
        rmk_rpc_call_finish(call, rmk_status_of(err), why.text);
        return;
    }
    request = (Remask__Cluster__V1__FetchRequest *)unpacked;
    if (request->digest.len != RMK_DIGEST_BYTES) {
        rmk_rpc_call_finish(call, RMK_STATUS_INVALID_ARGUMENT, "digest: is not 32 bytes");
        goto out;
    }
    fetch->blob = rmk_images_find(fetch->images, request->digest.data);
    if (fetch->blob == NULL) {
        rmk_rpc_call_finish(call, RMK_STATUS_NOT_FOUND,
                            "no picture with this digest: its requests have ended");
        goto out;
    }
    rmk_blob_ref(fetch->blob);
    fetch_send(call, fetch);
out:
    protobuf_c_message_free_unpacked(unpacked, NULL);
}

static void on_fetch_writable(struct rmk_rpc_call *call, void *context)
{
    struct fetch *fetch = context;

    if (fetch->blob != NULL && fetch->offset < fetch->blob->bytes.size) {
        fetch_send(call, fetch);
    }
}

static void on_fetch_done(struct rmk_rpc_call *call, int status, const char *message, void *context)
{
    struct fetch *fetch = context;

    (void)call;
    (void)status;
    (void)message;
    rmk_blob_unref(fetch->blob);
    free(fetch);
}

static void on_orphan_message(struct rmk_rpc_call *call, struct rmk_bytes message, void *context)
{
    (void)call;
    (void)message;
    (void)context;
}

static void on_orphan_done(struct rmk_rpc_call *call, int status, const char *message,
                           void *context)
{
    (void)call;
    (void)status;
    (void)message;
    (void)context;
}

void rmk_images_on_fetch(struct rmk_rpc_call *call, void *context)
{
    static const struct rmk_rpc_events events = {
        .on_message = on_fetch_message,
        .on_writable = on_fetch_writable,
        .on_done = on_fetch_done,
    };
    static const struct rmk_rpc_events orphan = {
        .on_message = on_orphan_message,
        .on_done = on_orphan_done,
    };
    struct fetch *fetch = calloc(1, sizeof(*fetch));

    if (fetch == NULL) {
        rmk_rpc_call_listen(call, &orphan, NULL);
        rmk_rpc_call_finish(call, RMK_STATUS_RESOURCE_EXHAUSTED, "no memory for a fetch");
        return;
    }
    fetch->images = context;
    rmk_rpc_call_listen(call, &events, fetch);
}
