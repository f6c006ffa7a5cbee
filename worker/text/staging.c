#include "worker/text/staging.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "common/clock.h"
#include "common/limits.h"
#include "common/list.h"
#include "common/rpc/pack.h"
#include "remask/cluster/v1/cluster.pb-c.h"

enum { PULL_TIMEOUT_MS = 60000 };

/* One TCP connection per vision worker, kept while it works. */
struct source {
    struct rmk_list link;
    struct rmk_rpc_channel *channel;
    char address[256];
};

struct entry {
    struct rmk_list
        link; /* in staging->entries, or in no list once forgotten with its pull under way */
    struct rmk_staging *staging; /* NULL once forgotten */
    struct rmk_staging_item item;
    struct rmk_rpc_call *call; /* NULL: resident */
    struct source *source;
    float *rows;
    uint64_t bytes;
    uint64_t received;
    uint64_t begun_us;
    bool complete;
    enum rmk_err err; /* why the pull was given up */
    struct rmk_why why;
};

struct rmk_staging {
    struct rmk_rpc *rpc;
    struct rmk_rpc_options options;
    uint32_t width;
    uint64_t bytes_max;
    uint64_t bytes;
    struct rmk_staging_events events;
    void *context;
    struct rmk_list entries;
    struct rmk_list sources;
};

enum rmk_err rmk_staging_create(struct rmk_rpc *rpc, const struct rmk_rpc_options *options,
                                uint32_t width, uint64_t bytes_max,
                                const struct rmk_staging_events *events, void *context,
                                struct rmk_staging **out_staging, struct rmk_why *why)
{
    struct rmk_staging *staging = calloc(1, sizeof(*staging));

    if (staging == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for staged features");
    }
    staging->rpc = rpc;
    staging->options = *options;
    staging->width = width;
    staging->bytes_max = bytes_max;
    staging->events = *events;
    staging->context = context;
    rmk_list_init(&staging->entries);
    rmk_list_init(&staging->sources);
    *out_staging = staging;
    return RMK_OK;
}

static void free_entry(struct entry *entry)
{
    free(entry->rows);
    free(entry);
}

/* Out of the table; a pull under way is cancelled and frees the entry when it has ended. */
static void drop(struct entry *entry)
{
    entry->staging->bytes -= entry->bytes;
    rmk_list_remove(&entry->link);
    entry->staging = NULL;
    if (entry->call != NULL) {
        rmk_rpc_call_cancel(entry->call);
    } else {
        free_entry(entry);
    }
}

static struct entry *find(struct rmk_staging *staging, uint64_t request, uint32_t item)
{
    struct rmk_list *link;
    struct rmk_list *following;

    rmk_list_each(link, following, &staging->entries)
    {
        struct entry *entry = rmk_list_entry(link, struct entry, link);
        if (entry->item.request == request && entry->item.item == item) {
            return entry;
        }
    }
    return NULL;
}

static struct source *source_of(struct rmk_staging *staging, const char *address,
                                struct rmk_why *why)
{
    struct rmk_list *link;
    struct rmk_list *following;

    rmk_list_each(link, following, &staging->sources)
    {
        struct source *source = rmk_list_entry(link, struct source, link);
        if (strcmp(source->address, address) == 0) {
            return source;
        }
    }
    struct source *source = calloc(1, sizeof(*source));
    if (source == NULL || strlen(address) >= sizeof(source->address)) {
        (void)rmk_fail(why, RMK_EINVAL, "the vision worker's address is too long");
        free(source);
        return NULL;
    }
    memcpy(source->address, address, strlen(address) + 1);
    if (rmk_rpc_channel_create(staging->rpc, address, &staging->options, &source->channel, why) !=
        RMK_OK) {
        free(source);
        return NULL;
    }
    rmk_list_append(&staging->sources, &source->link);
    return source;
}

/* A failed connection would be retried with growing pauses; a new channel starts afresh. */
static void forget_source(struct rmk_staging *staging, struct source *source)
{
    struct rmk_list *link;
    struct rmk_list *following;

    rmk_list_each(link, following, &staging->entries)
    {
        struct entry *entry = rmk_list_entry(link, struct entry, link);
        if (entry->source == source) {
            entry->source = NULL;
        }
    }
    rmk_list_remove(&source->link);
    rmk_rpc_channel_destroy(source->channel);
    free(source);
}

static enum rmk_err take_chunk(struct entry *entry, const Remask__Cluster__V1__FeatureChunk *chunk)
{
    if (chunk->dtype != REMASK__CLUSTER__V1__DATA_TYPE__F32 || chunk->width != entry->item.width ||
        chunk->rows != entry->item.rows || chunk->total_bytes != entry->bytes) {
        return rmk_fail(
            &entry->why, RMK_ECORRUPT,
            "announced %u x %u fp32 features, the vision worker sends %u x %u of type %d",
            entry->item.rows, entry->item.width, chunk->rows, chunk->width, (int)chunk->dtype);
    }
    if (chunk->offset != entry->received || chunk->data.len > entry->bytes - entry->received) {
        return rmk_fail(&entry->why, RMK_ECORRUPT,
                        "a feature chunk of %zu bytes at %llu does not fit: %llu of %llu are here",
                        chunk->data.len, (unsigned long long)chunk->offset,
                        (unsigned long long)entry->received, (unsigned long long)entry->bytes);
    }
    if (chunk->data.len > 0) {
        memcpy((uint8_t *)entry->rows + entry->received, chunk->data.data, chunk->data.len);
        entry->received += chunk->data.len;
    }
    if (entry->received < entry->bytes) {
        return RMK_OK;
    }
    if (XXH64(entry->rows, entry->bytes, 0) != chunk->xxh64) {
        return rmk_fail(&entry->why, RMK_ECORRUPT, "the features' checksum does not match");
    }
    for (uint64_t i = 0; i < entry->bytes / sizeof(float); i++) {
        if (!isfinite(entry->rows[i])) {
            return rmk_fail(&entry->why, RMK_EINTERNAL, "a feature is not finite");
        }
    }
    entry->complete = true;
    return RMK_OK;
}

static void on_message(struct rmk_rpc_call *call, struct rmk_bytes message, void *context)
{
    struct entry *entry = context;
    ProtobufCMessage *unpacked = NULL;

    if (entry->staging == NULL || entry->err != RMK_OK) {
        return;
    }
    entry->err = rmk_unpack(&remask__cluster__v1__feature_chunk__descriptor, message, &unpacked,
                            &entry->why);
    if (entry->err == RMK_OK) {
        entry->err = take_chunk(entry, (const Remask__Cluster__V1__FeatureChunk *)unpacked);
        remask__cluster__v1__feature_chunk__free_unpacked(
            (Remask__Cluster__V1__FeatureChunk *)unpacked, NULL);
    }
    if (entry->err != RMK_OK) {
        rmk_rpc_call_cancel(call);
    }
}

static void on_done(struct rmk_rpc_call *call, int status, const char *message, void *context)
{
    struct entry *entry = context;
    struct rmk_staging *staging = entry->staging;

    (void)call;
    entry->call = NULL;
    if (staging == NULL) {
        free_entry(entry);
        return;
    }
    if (entry->complete) {
        staging->events.on_resident(staging->context, &entry->item,
                                    rmk_clock_us() - entry->begun_us);
        return;
    }
    if (entry->err == RMK_OK) {
        entry->err = status == RMK_STATUS_OK ? RMK_ECORRUPT : rmk_err_of_status(status);
        (void)rmk_fail(&entry->why, entry->err, "pull of features ended early: %s", message);
        if (entry->source != NULL && status == RMK_STATUS_UNAVAILABLE) {
            forget_source(staging, entry->source);
        }
    }
    const struct rmk_staging_item item = entry->item;
    const enum rmk_err err = entry->err;
    const struct rmk_why why = entry->why;
    drop(entry);
    staging->events.on_failed(staging->context, &item, err, why.text);
}

static enum rmk_err begin(struct rmk_staging *staging, const struct rmk_staging_item *item,
                          const char *address, struct rmk_why *why)
{
    static const struct rmk_rpc_events events = {.on_message = on_message, .on_done = on_done};
    Remask__Cluster__V1__PullRequest pull = REMASK__CLUSTER__V1__PULL_REQUEST__INIT;
    const uint64_t bytes = (uint64_t)item->rows * item->width * sizeof(float);
    struct entry *entry = NULL;
    enum rmk_err err;

    if (item->width != staging->width || item->rows == 0 || item->rows > RMK_PROMPT_ROWS_MAX) {
        err = rmk_fail(why, RMK_EINVAL,
                       "features of %u x %u were announced; this model takes rows of %u",
                       item->rows, item->width, staging->width);
        goto out;
    }
    if (bytes > staging->bytes_max - staging->bytes) {
        /* Not the picture's fault: others are in the way, and asking again is right. */
        err =
            rmk_fail(why, RMK_EUNAVAILABLE, "no room for %llu bytes of features beside %llu staged",
                     (unsigned long long)bytes, (unsigned long long)staging->bytes);
        goto out;
    }
    entry = calloc(1, sizeof(*entry));
    float *rows = malloc(bytes);
    struct source *source = source_of(staging, address, why);
    if (entry == NULL || rows == NULL || source == NULL) {
        err = source == NULL ? RMK_EUNAVAILABLE
                             : rmk_fail(why, RMK_EUNAVAILABLE, "no memory for staged features");
        free(rows);
        free(entry);
        goto out;
    }
    entry->staging = staging;
    entry->item = *item;
    entry->rows = rows;
    entry->bytes = bytes;
    entry->source = source;
    entry->begun_us = rmk_clock_us();
    staging->bytes += bytes;
    rmk_list_append(&staging->entries, &entry->link);
    pull.key.data = entry->item.key;
    pull.key.len = sizeof(entry->item.key);
    pull.epoch = item->vision_epoch;
    entry->call = rmk_rpc_channel_call(source->channel, "/remask.cluster.v1.Features/Pull",
                                       PULL_TIMEOUT_MS, false, NULL, &events, entry);
    (void)rmk_pack_send(entry->call, &pull.base);
    rmk_rpc_call_half_close(entry->call);
    err = RMK_OK;
out:
    return err;
}

void rmk_staging_prefetch(struct rmk_staging *staging, const struct rmk_staging_item *item,
                          const char *address)
{
    struct rmk_why why = {0};
    struct entry *old = find(staging, item->request, item->item);

    if (old != NULL) {
        drop(old);
    }
    enum rmk_err err = begin(staging, item, address, &why);
    if (err != RMK_OK) {
        staging->events.on_failed(staging->context, item, err, why.text);
    }
}

float *rmk_staging_take(struct rmk_staging *staging, uint64_t request, uint32_t item, uint32_t rows)
{
    struct entry *entry = find(staging, request, item);

    if (entry == NULL || !entry->complete || entry->item.rows != rows) {
        return NULL;
    }
    float *taken = entry->rows;
    entry->rows = NULL;
    drop(entry);
    return taken;
}

void rmk_staging_forget(struct rmk_staging *staging, uint64_t request)
{
    struct rmk_list *link;
    struct rmk_list *following;

    rmk_list_each(link, following, &staging->entries)
    {
        struct entry *entry = rmk_list_entry(link, struct entry, link);
        if (entry->item.request == request) {
            drop(entry);
        }
    }
}

void rmk_staging_clear(struct rmk_staging *staging)
{
    while (!rmk_list_empty(&staging->entries)) {
        drop(rmk_list_entry(staging->entries.next, struct entry, link));
    }
}

void rmk_staging_destroy(struct rmk_staging *staging)
{
    if (staging == NULL) {
        return;
    }
    rmk_staging_clear(staging);
    while (!rmk_list_empty(&staging->sources)) {
        struct source *source = rmk_list_entry(staging->sources.next, struct source, link);
        rmk_list_remove(&source->link);
        rmk_rpc_channel_destroy(source->channel);
        free(source);
    }
    free(staging);
}
