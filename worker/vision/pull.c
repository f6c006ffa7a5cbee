#include "worker/vision/pull.h"

#include <stdlib.h>

#include "common/limits.h"
#include "common/rpc/pack.h"
#include "remask/cluster/v1/cluster.pb-c.h"

struct pull {
    struct rmk_feature_cache *cache;
    const struct rmk_feature_entry *entry; /* pinned; NULL before the request */
    uint64_t offset;
};

/* Until the queue is full or everything is in it. */
static void send_chunks(struct rmk_rpc_call *call, struct pull *pull)
{
    const struct rmk_feature_entry *entry = pull->entry;
    const uint64_t total = (uint64_t)entry->row_count * entry->width * sizeof(float);
    bool room = true;

    while (room && pull->offset < total) {
        Remask__Cluster__V1__FeatureChunk chunk = REMASK__CLUSTER__V1__FEATURE_CHUNK__INIT;
        uint64_t size =
            total - pull->offset < RMK_CHUNK_BYTES ? total - pull->offset : RMK_CHUNK_BYTES;
        chunk.offset = pull->offset;
        chunk.total_bytes = total;
        chunk.rows = entry->row_count;
        chunk.width = entry->width;
        chunk.dtype = REMASK__CLUSTER__V1__DATA_TYPE__F32;
        chunk.data.data = (uint8_t *)entry->rows + pull->offset;
        chunk.data.len = size;
        pull->offset += size;
        chunk.xxh64 = pull->offset == total ? entry->xxh64 : 0;
        room = rmk_pack_send(call, &chunk.base);
        if (pull->offset == total) {
            rmk_rpc_call_finish(call, RMK_STATUS_OK, "");
        }
    }
}

static void on_message(struct rmk_rpc_call *call, struct rmk_bytes bytes, void *context)
{
    struct pull *pull = context;
    struct rmk_why why = {0};
    ProtobufCMessage *unpacked = NULL;

    if (pull->entry != NULL) {
        return;
    }
    enum rmk_err err =
        rmk_unpack(&remask__cluster__v1__pull_request__descriptor, bytes, &unpacked, &why);
    if (err != RMK_OK) {
        rmk_rpc_call_finish(call, rmk_status_of(err), why.text);
        return;
    }
    Remask__Cluster__V1__PullRequest *request = (Remask__Cluster__V1__PullRequest *)unpacked;
    if (request->key.len != sizeof(pull->entry->key)) {
        rmk_rpc_call_finish(call, RMK_STATUS_INVALID_ARGUMENT, "a features' key has 32 bytes");
    } else {
        pull->entry = rmk_feature_cache_find(pull->cache, request->key.data);
        if (pull->entry == NULL) {
            rmk_rpc_call_finish(call, RMK_STATUS_NOT_FOUND,
                                "these features are not here (any more)");
        } else {
            rmk_feature_cache_pin(pull->cache, pull->entry);
            send_chunks(call, pull);
        }
    }
    remask__cluster__v1__pull_request__free_unpacked(request, NULL);
}

static void on_writable(struct rmk_rpc_call *call, void *context)
{
    struct pull *pull = context;

    if (pull->entry != NULL) {
        send_chunks(call, pull);
    }
}

static void on_done(struct rmk_rpc_call *call, int status, const char *message, void *context)
{
    struct pull *pull = context;

    (void)call;
    (void)status;
    (void)message;
    if (pull->entry != NULL) {
        rmk_feature_cache_unpin(pull->cache, pull->entry);
    }
    free(pull);
}

void rmk_pull_serve(struct rmk_rpc_call *call, void *context)
{
    static const struct rmk_rpc_events events = {
        .on_message = on_message, .on_writable = on_writable, .on_done = on_done};

    struct pull *pull = calloc(1, sizeof(*pull));
    if (pull == NULL) {
        rmk_rpc_call_refuse(call, RMK_STATUS_RESOURCE_EXHAUSTED, "no memory for a pull");
        return;
    }
    pull->cache = context;
    rmk_rpc_call_listen(call, &events, pull);
}
