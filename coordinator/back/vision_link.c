#include "coordinator/back/vision_link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/rpc/pack.h"
#include "common/rpc/rpc.h"
#include "coordinator/back/images.h"
#include "coordinator/back/link.h"
#include "coordinator/metrics.h"

enum {
    ADDRESS_BYTES_MAX = 255,
    PARALLEL_MAX = 1024,
    ORDERS_MAX =
        256, /* more than the engine has under way at one worker, those it gave up on included */
};

/* What was asked, to check the answer against. The request may have ended meanwhile: then others
 * that want the same picture wait for this very answer. */
struct order {
    bool open;
    struct rmk_request_id request;
    uint32_t item;
    uint32_t rows;
    uint8_t key[RMK_DIGEST_BYTES];
};

struct vision {
    uint32_t index;
    struct rmk_link *link; /* NULL: the place is free */
    char address[ADDRESS_BYTES_MAX + 1];
    uint32_t parallel_max;
    uint64_t encoded_count;
    uint32_t order_next; /* the oldest is overwritten */
    struct order orders[ORDERS_MAX];
};

struct rmk_visions {
    const struct rmk_back_options *options;
    const struct rmk_back_hooks *hooks;
    struct rmk_coordinator_metrics *metrics;
    struct vision *places; /* [visions_max] */
    uint32_t up_count;
};

struct rmk_visions *rmk_visions_create(const struct rmk_back_options *options,
                                       const struct rmk_back_hooks *hooks,
                                       struct rmk_coordinator_metrics *metrics)
{
    struct rmk_visions *visions = calloc(1, sizeof(*visions));

    if (visions == NULL) {
        return NULL;
    }
    visions->options = options;
    visions->hooks = hooks;
    visions->metrics = metrics;
    visions->places = calloc(options->visions_max, sizeof(*visions->places));
    if (visions->places == NULL) {
        free(visions);
        return NULL;
    }
    for (uint32_t i = 0; i < options->visions_max; i++) {
        visions->places[i].index = i;
    }
    return visions;
}

void rmk_visions_destroy(struct rmk_visions *visions)
{
    if (visions != NULL) {
        free(visions->places);
        free(visions);
    }
}

/* ---- coming and going
 * ------------------------------------------------------------------------------------ */

enum rmk_err rmk_visions_attach(struct rmk_visions *visions, struct rmk_link *link,
                                const Remask__Cluster__V1__Hello *hello, int *out_status,
                                struct rmk_why *why)
{
    size_t address_bytes = strlen(hello->address);

    *out_status = RMK_STATUS_INVALID_ARGUMENT;
    if (address_bytes == 0 || address_bytes > ADDRESS_BYTES_MAX) {
        return rmk_fail(why, RMK_EINVAL, "address: has %zu bytes, must have 1 to %d", address_bytes,
                        ADDRESS_BYTES_MAX);
    }
    if (hello->parallel_max == 0 || hello->parallel_max > PARALLEL_MAX) {
        return rmk_fail(why, RMK_EINVAL, "parallel_max: is %u, must be from 1 to %d",
                        hello->parallel_max, PARALLEL_MAX);
    }
    for (uint32_t i = 0; i < visions->options->visions_max; i++) {
        struct vision *vision = &visions->places[i];

        if (vision->link == NULL) {
            vision->link = link;
            vision->parallel_max = hello->parallel_max;
            vision->encoded_count = 0;
            memset(vision->orders, 0, sizeof(vision->orders));
            (void)snprintf(vision->address, sizeof(vision->address), "%s", hello->address);
            link->owner = vision;
            visions->up_count++;
            return RMK_OK;
        }
    }
    *out_status = RMK_STATUS_RESOURCE_EXHAUSTED;
    return rmk_fail(why, RMK_ELIMIT, "role: %u vision workers are attached, no more are allowed",
                    visions->options->visions_max);
}

void rmk_visions_attached(struct rmk_visions *visions, struct rmk_link *link)
{
    const struct vision *vision = link->owner;

    visions->hooks->post(visions->hooks->context,
                         &(struct rmk_event){.kind = RMK_EVENT_VISION_UP,
                                             .vision = {.vision = vision->index,
                                                        .epoch = link->epoch,
                                                        .parallel_max = vision->parallel_max}});
    visions->hooks->changed(visions->hooks->context);
}

void rmk_visions_gone(struct rmk_visions *visions, struct rmk_link *link)
{
    struct vision *vision = link->owner;

    vision->link = NULL;
    visions->up_count--;
    visions->hooks->post(
        visions->hooks->context,
        &(struct rmk_event){.kind = RMK_EVENT_VISION_DOWN,
                            .vision = {.vision = vision->index, .epoch = link->epoch}});
    visions->hooks->changed(visions->hooks->context);
}

/* ---- orders
 * ------------------------------------------------------------------------------------------------
 */

static struct vision *vision_at(const struct rmk_visions *visions, uint32_t index, uint64_t epoch)
{
    struct vision *vision;

    if (index >= visions->options->visions_max) {
        return NULL;
    }
    vision = &visions->places[index];
    return vision->link != NULL && vision->link->epoch == epoch ? vision : NULL;
}

static void keep_order(struct vision *vision, const struct rmk_encode *encode)
{
    struct order *order = &vision->orders[vision->order_next++ % ORDERS_MAX];

    *order = (struct order){
        .open = true,
        .request = encode->request,
        .item = encode->item,
        .rows = encode->rows,
    };
    memcpy(order->key, encode->key, RMK_DIGEST_BYTES);
}

/* Close and return the order an answer is about; NULL: nothing like it was asked, or it was
 * answered. */
static const struct order *close_order(struct vision *vision, uint64_t request, uint32_t item)
{
    for (uint32_t i = 0; i < ORDERS_MAX; i++) {
        struct order *order = &vision->orders[i];

        if (order->open && order->item == item && rmk_wire_of_request(order->request) == request) {
            order->open = false;
            return order;
        }
    }
    return NULL;
}

void rmk_visions_encode(struct rmk_visions *visions, uint32_t index, uint64_t epoch,
                        const struct rmk_encode *encode)
{
    struct vision *vision = vision_at(visions, index, epoch);
    Remask__Cluster__V1__Encode order = REMASK__CLUSTER__V1__ENCODE__INIT;
    Remask__Cluster__V1__CoordinatorMessage message =
        REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__INIT;
    ProtobufCBinaryData digests[RMK_FRAMES_MAX];

    if (vision == NULL) {
        return;
    }
    rmk_assert(encode->frame_count <= RMK_FRAMES_MAX);
    keep_order(vision, encode);
    for (uint32_t i = 0; i < encode->frame_count; i++) {
        digests[i].data = encode->frames[i]->digest;
        digests[i].len = RMK_DIGEST_BYTES;
    }
    order.request = rmk_wire_of_request(encode->request);
    order.item = encode->item;
    order.key.data = (uint8_t *)(uintptr_t)encode->key;
    order.key.len = RMK_DIGEST_BYTES;
    order.n_digests = encode->frame_count;
    order.digests = digests;
    order.mode = (Remask__Cluster__V1__ImageMode)encode->mode; /* the same numbers */
    order.rows = encode->rows;
    message.kind_case = REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_ENCODE;
    message.encode = &order;
    (void)rmk_pack_send(vision->link->call, &message.base);
}

const char *rmk_visions_address(const struct rmk_visions *visions, uint32_t index, uint64_t epoch)
{
    const struct vision *vision = vision_at(visions, index, epoch);

    return vision != NULL ? vision->address : NULL;
}

/* ---- answers
 * -------------------------------------------------------------------------------------------------
 */

/* Whether the worker encoded what the coordinator counted. */
static enum rmk_err check_encoded(const struct rmk_visions *visions, const struct order *order,
                                  const Remask__Cluster__V1__Encoded *encoded, struct rmk_why *why)
{
    if (encoded->key.len != RMK_DIGEST_BYTES ||
        memcmp(encoded->key.data, order->key, RMK_DIGEST_BYTES) != 0) {
        return rmk_fail(why, RMK_EINTERNAL, "the vision worker answered for another picture");
    }
    if (encoded->rows != order->rows || encoded->width != visions->options->width) {
        return rmk_fail(why, RMK_EINTERNAL,
                        "the vision worker made %u rows of width %u where %u of %u were expected",
                        encoded->rows, encoded->width, order->rows, visions->options->width);
    }
    return RMK_OK;
}

static void count_encoded(struct rmk_visions *visions, const Remask__Cluster__V1__Encoded *encoded)
{
    rmk_counter_add(visions->metrics->encodes, 1);
    if (encoded->cached) {
        rmk_counter_add(visions->metrics->encodes_cached, 1);
        return;
    }
    rmk_histogram_observe(visions->metrics->vision_decode_seconds,
                          (double)encoded->decode_us / 1e6);
    rmk_histogram_observe(visions->metrics->vision_encode_seconds,
                          (double)encoded->encode_us / 1e6);
}

enum rmk_err rmk_visions_message(struct rmk_visions *visions, struct rmk_link *link,
                                 const Remask__Cluster__V1__WorkerMessage *message,
                                 struct rmk_why *why)
{
    struct vision *vision = link->owner;
    const struct order *order;
    struct rmk_why reason = {0};
    struct rmk_event event = {
        .kind = RMK_EVENT_FEATURES_READY,
        .features = {.vision = vision->index, .vision_epoch = link->epoch, .group = UINT32_MAX},
    };
    uint64_t request;

    if (message->kind_case == REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_ENCODED) {
        request = message->encoded->request;
        event.features.item = message->encoded->item;
    } else if (message->kind_case == REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_ENCODE_FAILED) {
        request = message->encode_failed->request;
        event.features.item = message->encode_failed->item;
    } else {
        return rmk_fail(why, RMK_EINVAL,
                        "a vision worker sent message kind %d, which is a text rank's",
                        (int)message->kind_case);
    }
    order = close_order(vision, request, event.features.item);
    if (order == NULL) {
        return RMK_OK; /* once more, or of a time we have forgotten */
    }
    event.features.request = order->request;
    if (message->kind_case == REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_ENCODED) {
        event.features.err = check_encoded(visions, order, message->encoded, &reason);
        event.features.why = reason.text;
    } else {
        event.features.err = rmk_err_of_wire(message->encode_failed->error);
        event.features.why = message->encode_failed->why;
    }
    if (event.features.err == RMK_OK) {
        vision->encoded_count++;
        count_encoded(visions, message->encoded);
    } else {
        event.kind = RMK_EVENT_FEATURES_FAILED;
        rmk_counter_add(visions->metrics->encodes_failed, 1);
        rmk_log(RMK_LOG_WARN, "back", "encode failed", "worker=%s request=%llx item=%u why=%s",
                link->name, (unsigned long long)request, event.features.item, event.features.why);
    }
    visions->hooks->post(visions->hooks->context, &event);
    return RMK_OK;
}

/* ---- looking in
 * --------------------------------------------------------------------------------------------------
 */

uint32_t rmk_visions_max(const struct rmk_visions *visions)
{
    return visions->options->visions_max;
}

bool rmk_visions_status(const struct rmk_visions *visions, uint32_t index,
                        struct rmk_vision_status *out_status)
{
    const struct vision *vision = &visions->places[index];

    if (vision->link == NULL) {
        return false;
    }
    *out_status = (struct rmk_vision_status){
        .name = vision->link->name,
        .address = vision->address,
        .epoch = vision->link->epoch,
        .encoded_count = vision->encoded_count,
    };
    return true;
}

uint32_t rmk_visions_up_count(const struct rmk_visions *visions)
{
    return visions->up_count;
}
