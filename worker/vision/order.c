#include "worker/vision/order.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/digest.h"
#include "common/limits.h"
#include "common/list.h"
#include "worker/vision/fetch.h"

/* Somebody who waits for a key. */
struct waiter {
    struct rmk_list link;
    uint64_t request;
    uint32_t item;
};

struct order {
    struct rmk_list link;       /* in orders->active */
    struct rmk_list ready_link; /* in orders->ready */
    struct rmk_orders *orders;
    struct rmk_list waiters;
    uint8_t key[RMK_DIGEST_BYTES];
    enum rmk_image_mode mode;
    uint32_t rows; /* as the coordinator computed */
    uint32_t blob_count;
    uint32_t blobs_missing;
    struct rmk_bytes blobs[RMK_FRAMES_MAX]; /* malloc'ed, ours */
    struct rmk_fetch *fetches[RMK_FRAMES_MAX];
    uv_work_t decode;
    struct rmk_tiles tiles;
    float *features;
    uint64_t decode_us;
    uint64_t encode_us;
    enum rmk_err err;
    struct rmk_why why;
};

struct rmk_orders {
    struct rmk_orders_options options;
    struct rmk_list active;
    struct rmk_list ready; /* decoded, until the lane is free */
    struct rmk_lane_job encode;
    struct order *batch[RMK_ENCODER_ITEMS_MAX]; /* on the lane now */
    uint32_t batch_count;                       /* 0: the lane is free */
    bool closing;
};

enum rmk_err rmk_orders_create(const struct rmk_orders_options *options,
                               struct rmk_orders **out_orders, struct rmk_why *why)
{
    struct rmk_orders *orders = calloc(1, sizeof(*orders));

    if (orders == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for encode orders");
    }
    orders->options = *options;
    rmk_list_init(&orders->active);
    rmk_list_init(&orders->ready);
    *out_orders = orders;
    return RMK_OK;
}

static void free_when_idle(struct rmk_orders *orders)
{
    if (orders->closing && rmk_list_empty(&orders->active)) {
        free(orders);
    }
}

static void answer_waiters(struct order *order, const struct rmk_feature_entry *entry)
{
    struct rmk_orders *orders = order->orders;
    bool first = true;

    while (!rmk_list_empty(&order->waiters)) {
        struct waiter *waiter = rmk_list_entry(order->waiters.next, struct waiter, link);
        struct rmk_order_answer answer = {
            .request = waiter->request,
            .item = waiter->item,
            .err = order->err,
            .why = order->why.text,
            .entry = entry,
            .cached = !first,
            .decode_us = order->decode_us,
            .encode_us = order->encode_us,
        };
        rmk_list_remove(&waiter->link);
        free(waiter);
        orders->options.answered(orders->options.context, &answer);
        first = false;
    }
}

/* The end of every order, good or bad. */
static void finish(struct order *order)
{
    struct rmk_orders *orders = order->orders;
    const struct rmk_feature_entry *found = NULL;

    if (order->err == RMK_OK) {
        struct rmk_feature_entry entry = {
            .rows = order->features,
            .row_count = order->tiles.grid.rows,
            .width = orders->options.spec->text.width,
            .tile_count = order->tiles.grid.tile_count,
        };
        memcpy(entry.key, order->key, sizeof(entry.key));
        order->features = NULL; /* the cache's now */
        order->err = orders->closing
                         ? RMK_ECANCELLED
                         : rmk_feature_cache_put(orders->options.cache, &entry, &order->why);
        if (orders->closing) {
            free(entry.rows);
        } else if (order->err == RMK_OK) {
            found = rmk_feature_cache_find(orders->options.cache, order->key);
        }
    }
    rmk_list_remove(&order->link);
    answer_waiters(order, found);
    for (uint32_t i = 0; i < order->blob_count; i++) {
        if (order->fetches[i] != NULL) {
            rmk_fetch_cancel(order->fetches[i]);
        }
        free((void *)order->blobs[i].data);
    }
    rmk_tiles_deinit(&order->tiles);
    free(order->features);
    free(order);
    free_when_idle(orders);
}

/* ---- encode, on the lane
 * --------------------------------------------------------------------------------------------- */

static void run_encode(struct rmk_lane_job *job)
{
    struct rmk_orders *orders = rmk_list_entry(job, struct rmk_orders, encode);
    struct rmk_encoder_item items[RMK_ENCODER_ITEMS_MAX];
    struct order *members[RMK_ENCODER_ITEMS_MAX];
    const uint64_t begun_us = rmk_clock_us();
    struct rmk_why why = {0};
    uint64_t tile_count = 0;
    uint32_t count = 0;

    for (uint32_t i = 0; i < orders->batch_count; i++) {
        struct order *order = orders->batch[i];
        const size_t values = (size_t)order->tiles.grid.rows * orders->options.spec->text.width;
        order->features = malloc(values * sizeof(float));
        if (order->features == NULL) {
            order->err = rmk_fail(&order->why, RMK_EUNAVAILABLE, "no memory for %u feature rows",
                                  order->tiles.grid.rows);
            continue;
        }
        items[count] =
            (struct rmk_encoder_item){.tiles = &order->tiles, .features = order->features};
        members[count++] = order;
        tile_count += order->tiles.grid.tile_count;
    }
    if (count == 0) {
        return;
    }
    enum rmk_err err = rmk_encoder_encode(orders->options.encoder, items, count, &why);
    const uint64_t took_us = rmk_clock_us() - begun_us;
    for (uint32_t i = 0; i < count; i++) {
        struct order *order = members[i];
        order->err = err != RMK_OK ? err : items[i].err;
        if (order->err != RMK_OK) {
            order->why = why;
        }
        order->encode_us = took_us * order->tiles.grid.tile_count / tile_count;
    }
}

static void encode_done(struct rmk_lane_job *job);

/* The oldest that are ready, as many as fit. */
static void encode_next(struct rmk_orders *orders)
{
    uint64_t tile_count = 0;
    struct rmk_list *link;
    struct rmk_list *following;

    if (orders->batch_count > 0) {
        return;
    }
    rmk_list_each(link, following, &orders->ready)
    {
        struct order *order = rmk_list_entry(link, struct order, ready_link);
        tile_count += order->tiles.grid.tile_count;
        if (orders->batch_count > 0 && (tile_count > orders->options.tile_batch ||
                                        orders->batch_count == RMK_ENCODER_ITEMS_MAX)) {
            break;
        }
        rmk_list_remove(link);
        orders->batch[orders->batch_count++] = order;
    }
    if (orders->batch_count > 0) {
        orders->encode.run = run_encode;
        orders->encode.done = encode_done;
        rmk_lane_post(orders->options.lane, &orders->encode);
    }
}

static void encode_done(struct rmk_lane_job *job)
{
    struct rmk_orders *orders = rmk_list_entry(job, struct rmk_orders, encode);
    struct order *done[RMK_ENCODER_ITEMS_MAX];
    const uint32_t count = orders->batch_count;
    struct rmk_list *link;
    struct rmk_list *following;

    memcpy(done, orders->batch, sizeof(done));
    orders->batch_count = 0;
    if (orders->closing) {
        rmk_list_each(link, following, &orders->ready)
        {
            struct order *order = rmk_list_entry(link, struct order, ready_link);
            rmk_list_remove(link);
            order->err = RMK_ECANCELLED;
            finish(order); /* not the last: those of the batch are active */
        }
    } else {
        encode_next(orders); /* before the answers, so that the lane does not wait for them */
    }
    for (uint32_t i = 0; i < count; i++) {
        finish(done[i]); /* of the last one of a closing worker, `orders` is gone */
    }
}

/* ---- decode, on the pool
 * ------------------------------------------------------------------------------------------------
 */

static void run_decode(uv_work_t *work)
{
    struct order *order = work->data;
    const uint64_t begun_us = rmk_clock_us();

    order->err = rmk_tiles_make(&order->orders->options.spec->grid, order->blobs, order->blob_count,
                                order->mode, &order->tiles, &order->why);
    order->decode_us = rmk_clock_us() - begun_us;
}

static void decode_done(uv_work_t *work, int status)
{
    struct order *order = work->data;

    (void)status;
    if (order->err == RMK_OK && order->tiles.grid.rows != order->rows) {
        /* The header said one size, the decoder found another: the prompt has no place for the
         * difference. */
        order->err = rmk_fail(&order->why, RMK_ECORRUPT,
                              "the picture's header promises %u rows, its pixels give %u",
                              order->rows, order->tiles.grid.rows);
    }
    if (order->err != RMK_OK || order->orders->closing) {
        order->err = order->err != RMK_OK ? order->err : RMK_ECANCELLED;
        finish(order);
        return;
    }
    rmk_list_append(&order->orders->ready, &order->ready_link);
    encode_next(order->orders);
}

/* ---- fetch
 * --------------------------------------------------------------------------------------------------------------------
 */

static void fetched(void *context, uint32_t index, enum rmk_err err, uint8_t *bytes, size_t size,
                    const char *why)
{
    struct order *order = context;

    order->fetches[index] = NULL;
    order->blobs[index] = rmk_bytes_of(bytes, size);
    order->blobs_missing--;
    if (err != RMK_OK) {
        order->err = rmk_fail(&order->why, err, "%s", why);
        finish(order); /* cancels the other fetches */
        return;
    }
    if (order->blobs_missing > 0) {
        return;
    }
    order->decode.data = order;
    int failed =
        uv_queue_work(order->orders->options.loop, &order->decode, run_decode, decode_done);
    rmk_assert(failed == 0);
}

static struct order *find_active(struct rmk_orders *orders, const uint8_t *key)
{
    struct rmk_list *link;
    struct rmk_list *following;

    rmk_list_each(link, following, &orders->active)
    {
        struct order *order = rmk_list_entry(link, struct order, link);
        if (memcmp(order->key, key, sizeof(order->key)) == 0) {
            return order;
        }
    }
    return NULL;
}

static struct order *begin(struct rmk_orders *orders, const Remask__Cluster__V1__Encode *encode)
{
    struct order *order = calloc(1, sizeof(*order));

    if (order == NULL) {
        return NULL;
    }
    order->orders = orders;
    rmk_list_init(&order->waiters);
    memcpy(order->key, encode->key.data, sizeof(order->key));
    order->mode = (enum rmk_image_mode)encode->mode; /* the wire's numbers are the enum's */
    order->rows = encode->rows;
    order->blob_count = (uint32_t)encode->n_digests;
    order->blobs_missing = order->blob_count;
    rmk_list_append(&orders->active, &order->link);
    for (uint32_t i = 0; i < order->blob_count; i++) {
        order->fetches[i] = rmk_fetch_start(orders->options.coordinator, encode->digests[i].data, i,
                                            fetched, order);
        if (order->fetches[i] == NULL) {
            order->err = rmk_fail(&order->why, RMK_EUNAVAILABLE, "no memory to fetch a picture");
            break;
        }
    }
    return order;
}

static enum rmk_err check(const Remask__Cluster__V1__Encode *encode, struct rmk_why *why)
{
    if (encode->key.len != RMK_DIGEST_BYTES) {
        return rmk_fail(why, RMK_EINTERNAL, "an encode order's key has %zu bytes", encode->key.len);
    }
    if (encode->n_digests == 0 || encode->n_digests > RMK_FRAMES_MAX) {
        return rmk_fail(why, RMK_ELIMIT, "an encode order has %zu pictures; 1 to %d are possible",
                        encode->n_digests, RMK_FRAMES_MAX);
    }
    for (size_t i = 0; i < encode->n_digests; i++) {
        if (encode->digests[i].len != RMK_DIGEST_BYTES) {
            return rmk_fail(why, RMK_EINTERNAL, "an encode order's digest has %zu bytes",
                            encode->digests[i].len);
        }
    }
    if (encode->mode <= REMASK__CLUSTER__V1__IMAGE_MODE__AUTO ||
        encode->mode > REMASK__CLUSTER__V1__IMAGE_MODE__VIDEO) {
        return rmk_fail(why, RMK_EINTERNAL, "an encode order has picture mode %d",
                        (int)encode->mode);
    }
    return RMK_OK;
}

void rmk_orders_take(struct rmk_orders *orders, const Remask__Cluster__V1__Encode *encode)
{
    struct rmk_order_answer answer = {.request = encode->request, .item = encode->item};
    struct rmk_why why = {0};
    struct waiter *waiter = NULL;

    answer.err = check(encode, &why);
    answer.why = why.text;
    if (answer.err != RMK_OK) {
        goto answer;
    }
    answer.entry = rmk_feature_cache_find(orders->options.cache, encode->key.data);
    if (answer.entry != NULL) {
        answer.cached = true;
        goto answer;
    }
    waiter = calloc(1, sizeof(*waiter));
    struct order *order = find_active(orders, encode->key.data);
    if (waiter != NULL && order == NULL) {
        order = begin(orders, encode);
    }
    if (waiter == NULL || order == NULL) {
        free(waiter);
        answer.err = rmk_fail(&why, RMK_EUNAVAILABLE, "no memory for an encode order");
        goto answer;
    }
    waiter->request = encode->request;
    waiter->item = encode->item;
    rmk_list_append(&order->waiters, &waiter->link);
    if (order->err != RMK_OK && order->blobs_missing == order->blob_count) {
        finish(order);
    }
    return;
answer:
    orders->options.answered(orders->options.context, &answer);
}

void rmk_orders_forget(struct rmk_orders *orders)
{
    struct rmk_list *link;
    struct rmk_list *following;

    rmk_list_each(link, following, &orders->active)
    {
        struct order *order = rmk_list_entry(link, struct order, link);
        while (!rmk_list_empty(&order->waiters)) {
            struct waiter *waiter = rmk_list_entry(order->waiters.next, struct waiter, link);
            rmk_list_remove(&waiter->link);
            free(waiter);
        }
    }
}

void rmk_orders_close(struct rmk_orders *orders)
{
    struct rmk_list *link;
    struct rmk_list *following;

    if (orders == NULL) {
        return;
    }
    rmk_orders_forget(orders);
    orders->closing = true;
    if (rmk_list_empty(&orders->active)) {
        free(orders);
        return;
    }
    /* Those that only wait for bytes end now; decodes and encodes end where they are. finish() of
     * the last one frees. */
    rmk_list_each(link, following, &orders->active)
    {
        struct order *order = rmk_list_entry(link, struct order, link);
        if (order->blobs_missing > 0) {
            const bool last = following == &orders->active && orders->active.next == link;
            order->err = RMK_ECANCELLED;
            finish(order);
            if (last) {
                return;
            }
        }
    }
}
