/* Encode orders of a vision worker: fetch the pictures, decode and tile them on the pool, run the
 * tower on the lane, put the features in the cache. An order for a key that another is working on
 * waits for it; one in the cache is answered at once.
 *
 *     order ─► fetch (all blobs) ─► decode (uv pool) ─► ready ─► encode (lane) ─► cache ─► answer
 *
 * The pool decodes while the tower runs; what has become ready meanwhile goes through the tower
 * together, as far as tile_batch holds it.
 */
#ifndef RMK_WORKER_VISION_ORDER_H
#define RMK_WORKER_VISION_ORDER_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "common/err.h"
#include "common/rpc/rpc.h"
#include "model/spec.h"
#include "remask/cluster/v1/cluster.pb-c.h"
#include "worker/lane.h"
#include "worker/vision/cache.h"
#include "worker/vision/encoder.h"

struct rmk_orders;

struct rmk_order_answer {
    uint64_t request;
    uint32_t item;
    enum rmk_err err;
    const char *why;                       /* of an error */
    const struct rmk_feature_entry *entry; /* RMK_OK */
    bool cached;
    uint64_t decode_us;
    uint64_t encode_us;
};

typedef void (*rmk_order_answered)(void *context, const struct rmk_order_answer *answer);

struct rmk_orders_options {
    uv_loop_t *loop;
    struct rmk_lane *lane;
    struct rmk_encoder *encoder; /* lane only */
    uint32_t tile_batch;         /* tiles of one encode, unless one item has more */
    const struct rmk_spec *spec;
    struct rmk_feature_cache *cache;
    struct rmk_rpc_channel *coordinator; /* Images.Fetch */
    rmk_order_answered answered;         /* may come inside rmk_orders_take */
    void *context;
};

enum rmk_err rmk_orders_create(const struct rmk_orders_options *options,
                               struct rmk_orders **out_orders, struct rmk_why *why);

/* Answers go nowhere any more; work under way ends by itself. Call before the lane is closed; frees
 * when the last order has ended. Takes NULL. */
void rmk_orders_close(struct rmk_orders *orders);

void rmk_orders_take(struct rmk_orders *orders, const Remask__Cluster__V1__Encode *encode);

/* The attachment is gone: nobody waits for what is under way. Results still go to the cache. */
void rmk_orders_forget(struct rmk_orders *orders);

#endif
