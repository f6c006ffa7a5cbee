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

enum { PULL_TIMEOUT_MS = 60000, ADDRESS_BYTES = 256 };

/* One TCP connection per vision worker, kept while it works. */
struct source {
    struct rmk_list link;
    struct rmk_rpc_channel *channel;
    char address[ADDRESS_BYTES];
};

struct entry {
    struct rmk_list
        link; /* in staging->entries, or in no list once forgotten with its pull under way */
    struct rmk_staging *staging; /* NULL once forgotten */
    struct rmk_staging_item item;
    char address[ADDRESS_BYTES];
    bool waiting;              /* for room; its bytes do not count yet */
    struct rmk_rpc_call *call; /* NULL: waiting, or resident */
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
    entry->staging->bytes -= entry->waiting ? 0 : entry->bytes;
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
    if (source == NULL) {
        (void)rmk_fail(why, RMK_EUNAVAILABLE, "no memory for a connection to a vision worker");
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

static void pull_waiting(struct rmk_staging *staging);

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
    pull_waiting(staging);
}

/* There is room for it. */
static enum rmk_err pull(struct rmk_staging *staging, struct entry *entry, struct rmk_why *why)
{
    static const struct rmk_rpc_events events = {.on_message = on_message, .on_done = on_done};
    Remask__Cluster__V1__PullRequest request = REMASK__CLUSTER__V1__PULL_REQUEST__INIT;

    entry->rows = malloc(entry->bytes);
    if (entry->rows == NULL) {
        return rmk_fail(why, RMK_EUNAVAILABLE, "no memory for staged features");
    }
    entry->source = source_of(staging, entry->address, why);
    if (entry->source == NULL) {
        return RMK_EUNAVAILABLE;
    }
    entry->waiting = false;
    entry->begun_us = rmk_clock_us();
    staging->bytes += entry->bytes;
    request.key.data = entry->item.key;
    request.key.len = sizeof(entry->item.key);
    request.epoch = entry->item.vision_epoch;
    entry->call = rmk_rpc_channel_call(entry->source->channel, "/remask.cluster.v1.Features/Pull",
                                       PULL_TIMEOUT_MS, false, NULL, &events, entry);
    (void)rmk_pack_send(entry->call, &request.base);
    rmk_rpc_call_half_close(entry->call);
    return RMK_OK;
}

/* Who waits longest, and whether it is only its own request that is in its way. */
static struct entry *first_waiting(struct rmk_staging *staging, bool *out_alone)
{
    struct rmk_list *link;
    struct rmk_list *following;
    struct entry *first = NULL;

    rmk_list_each(link, following, &staging->entries)
    {
        struct entry *entry = rmk_list_entry(link, struct entry, link);
        if (first == NULL && entry->waiting) {
            first = entry;
        }
    }
    *out_alone = true;
    if (first == NULL) {
        return NULL;
    }
    rmk_list_each(link, following, &staging->entries)
    {
        struct entry *entry = rmk_list_entry(link, struct entry, link);
        *out_alone &= entry->waiting || entry->item.request == first->item.request;
    }
    return first;
}

/* Pulls begin in the order of their announcements, none before its turn: those of a request come
 * one after the other, so the first request in line gets all of its own and makes room again. */
static void pull_waiting(struct rmk_staging *staging)
{
    bool alone;
    struct entry *entry;

    while ((entry = first_waiting(staging, &alone)) != NULL) {
        struct rmk_why why = {0};
        enum rmk_err err = RMK_OK;
        if (entry->bytes <= staging->bytes_max - staging->bytes) {
            err = pull(staging, entry, &why);
        } else if (alone || entry->bytes > staging->bytes_max) {
            err = rmk_fail(&why, RMK_EUNAVAILABLE,
                           "the pictures of one request need %llu bytes of features and more; "
                           "%llu can be staged (--staging-bytes)",
                           (unsigned long long)(staging->bytes + entry->bytes),
                           (unsigned long long)staging->bytes_max);
        } else {
            break;
        }
        if (err != RMK_OK) {
            const struct rmk_staging_item item = entry->item;
            drop(entry);
            staging->events.on_failed(staging->context, &item, err, why.text);
        }
    }
}

static enum rmk_err announce(struct rmk_staging *staging, const struct rmk_staging_item *item,
                             const char *address, struct rmk_why *why)
{
    if (item->width != staging->width || item->rows == 0 || item->rows > RMK_PROMPT_ROWS_MAX) {
        return rmk_fail(why, RMK_EINVAL,
                        "features of %u x %u were announced; this model takes rows of %u",
                        item->rows, item->width, staging->width);
    }
    if (strlen(address) >= ADDRESS_BYTES) {
        return rmk_fail(why, RMK_EINVAL, "the vision worker's address is too long");
    }
    struct entry *entry = calloc(1, sizeof(*entry));
    if (entry == NULL) {
        return rmk_fail(why, RMK_EUNAVAILABLE, "no memory for staged features");
    }
    entry->staging = staging;
    entry->item = *item;
    entry->bytes = (uint64_t)item->rows * item->width * sizeof(float);
    entry->waiting = true;
    memcpy(entry->address, address, strlen(address) + 1);
    rmk_list_append(&staging->entries, &entry->link);
    return RMK_OK;
}

void rmk_staging_prefetch(struct rmk_staging *staging, const struct rmk_staging_item *item,
                          const char *address)
{
    struct rmk_why why = {0};
    struct entry *old = find(staging, item->request, item->item);

    if (old != NULL) {
        drop(old);
    }
    enum rmk_err err = announce(staging, item, address, &why);
    if (err != RMK_OK) {
        staging->events.on_failed(staging->context, item, err, why.text);
    }
    pull_waiting(staging);
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
    pull_waiting(staging);
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
    pull_waiting(staging);
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
