#include "worker/vision/fetch.h"

#include <stdlib.h>
#include <string.h>

#include "common/digest.h"
#include "common/limits.h"
#include "common/rpc/pack.h"
#include "remask/cluster/v1/cluster.pb-c.h"

enum { FETCH_TIMEOUT_MS = 60000 };

struct rmk_fetch {
    struct rmk_rpc_call *call;
    uint8_t digest[RMK_DIGEST_BYTES];
    uint32_t index;
    rmk_fetch_done done; /* NULL once cancelled */
    void *context;
    uint8_t *bytes;
    uint64_t received;
    uint64_t total;
    enum rmk_err err;
    struct rmk_why why;
};

static enum rmk_err take_chunk(struct rmk_fetch *fetch, const Remask__Cluster__V1__Chunk *chunk)
{
    if (fetch->bytes == NULL) {
        if (chunk->total_bytes == 0 || chunk->total_bytes > RMK_BLOB_BYTES_MAX) {
            return rmk_fail(&fetch->why, RMK_ELIMIT,
                            "a picture of %llu bytes is over the limit of %u",
                            (unsigned long long)chunk->total_bytes, RMK_BLOB_BYTES_MAX);
        }
        fetch->total = chunk->total_bytes;
        fetch->bytes = malloc(fetch->total);
        if (fetch->bytes == NULL) {
            return rmk_fail(&fetch->why, RMK_EUNAVAILABLE, "no memory for a picture of %llu bytes",
                            (unsigned long long)fetch->total);
        }
    }
    if (chunk->total_bytes != fetch->total || chunk->offset != fetch->received ||
        chunk->data.len > fetch->total - fetch->received) {
        return rmk_fail(&fetch->why, RMK_EUNAVAILABLE, "the picture's chunks do not fit together");
    }
    if (chunk->data.len > 0) {
        memcpy(fetch->bytes + fetch->received, chunk->data.data, chunk->data.len);
        fetch->received += chunk->data.len;
    }
    return RMK_OK;
}

static void on_message(struct rmk_rpc_call *call, struct rmk_bytes bytes, void *context)
{
    struct rmk_fetch *fetch = context;
    ProtobufCMessage *unpacked = NULL;

    if (fetch->done == NULL || fetch->err != RMK_OK) {
        return;
    }
    fetch->err = rmk_unpack(&remask__cluster__v1__chunk__descriptor, bytes, &unpacked, &fetch->why);
    if (fetch->err == RMK_OK) {
        fetch->err = take_chunk(fetch, (const Remask__Cluster__V1__Chunk *)unpacked);
        remask__cluster__v1__chunk__free_unpacked((Remask__Cluster__V1__Chunk *)unpacked, NULL);
    }
    if (fetch->err != RMK_OK) {
        rmk_rpc_call_cancel(call);
    }
}

static enum rmk_err verify(struct rmk_fetch *fetch, int status, const char *message)
{
    uint8_t digest[RMK_DIGEST_BYTES];
    enum rmk_err err;

    if (fetch->err != RMK_OK) {
        return fetch->err;
    }
    if (status != RMK_STATUS_OK) {
        return rmk_fail(&fetch->why, rmk_err_of_status(status), "fetch of the picture failed: %s",
                        message);
    }
    if (fetch->bytes == NULL || fetch->received != fetch->total) {
        return rmk_fail(&fetch->why, RMK_EUNAVAILABLE, "the picture came short: %llu of %llu bytes",
                        (unsigned long long)fetch->received, (unsigned long long)fetch->total);
    }
    err = rmk_digest_of(rmk_bytes_of(fetch->bytes, fetch->total), digest, &fetch->why);
    if (err == RMK_OK && memcmp(digest, fetch->digest, sizeof(digest)) != 0) {
        err = rmk_fail(&fetch->why, RMK_EUNAVAILABLE,
                       "the picture that came is another one than was asked for");
    }
    return err;
}

static void on_done(struct rmk_rpc_call *call, int status, const char *message, void *context)
{
    struct rmk_fetch *fetch = context;

    (void)call;
    if (fetch->done != NULL) {
        enum rmk_err err = verify(fetch, status, message);
        uint8_t *bytes = NULL;
        if (err == RMK_OK) {
            bytes = fetch->bytes;
            fetch->bytes = NULL;
        }
        fetch->done(fetch->context, fetch->index, err, bytes, fetch->total, fetch->why.text);
    }
    free(fetch->bytes);
    free(fetch);
}

struct rmk_fetch *rmk_fetch_start(struct rmk_rpc_channel *channel, const uint8_t digest[32],
                                  uint32_t index, rmk_fetch_done done, void *context)
{
    static const struct rmk_rpc_events events = {.on_message = on_message, .on_done = on_done};
    Remask__Cluster__V1__FetchRequest request = REMASK__CLUSTER__V1__FETCH_REQUEST__INIT;

    struct rmk_fetch *fetch = calloc(1, sizeof(*fetch));
    if (fetch == NULL) {
        return NULL;
    }
    memcpy(fetch->digest, digest, sizeof(fetch->digest));
    fetch->index = index;
    fetch->done = done;
    fetch->context = context;
    fetch->call = rmk_rpc_channel_call(channel, "/remask.cluster.v1.Images/Fetch", FETCH_TIMEOUT_MS,
                                       false, NULL, &events, fetch);
    request.digest.data = fetch->digest;
    request.digest.len = sizeof(fetch->digest);
    (void)rmk_pack_send(fetch->call, &request.base);
    rmk_rpc_call_half_close(fetch->call);
    return fetch;
}

void rmk_fetch_cancel(struct rmk_fetch *fetch)
{
    fetch->done = NULL;
    rmk_rpc_call_cancel(fetch->call);
}
