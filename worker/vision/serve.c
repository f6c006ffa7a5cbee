#include "worker/vision/serve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/process.h"
#include "model/safetensors.h"
#include "worker/vision/cache.h"
#include "worker/vision/encoder.h"
#include "worker/vision/order.h"
#include "worker/vision/pull.h"

struct serve {
    struct rmk_host host;
    struct rmk_vision_serve_options options;
    struct rmk_encoder *encoder;
    struct rmk_feature_cache *cache;
    struct rmk_rpc_server *server;
    struct rmk_rpc_channel
        *coordinator; /* for Images.Fetch: bulk does not ride behind the control stream */
    struct rmk_orders *orders;
    char address[256];
};

static void answered(void *context, const struct rmk_order_answer *answer)
{
    struct serve *serve = context;
    Remask__Cluster__V1__Encoded encoded = REMASK__CLUSTER__V1__ENCODED__INIT;
    Remask__Cluster__V1__EncodeFailed failed = REMASK__CLUSTER__V1__ENCODE_FAILED__INIT;
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;

    rmk_host_check_device(&serve->host);
    if (serve->host.stopping) {
        return;
    }
    if (answer->err != RMK_OK) {
        failed.request = answer->request;
        failed.item = answer->item;
        failed.error = answer->err;
        failed.why = (char *)answer->why;
        message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_ENCODE_FAILED;
        message.encode_failed = &failed;
    } else {
        const struct rmk_feature_entry *entry = answer->entry;
        encoded.request = answer->request;
        encoded.item = answer->item;
        encoded.key.data = (uint8_t *)entry->key;
        encoded.key.len = sizeof(entry->key);
        encoded.rows = entry->row_count;
        encoded.width = entry->width;
        encoded.dtype = REMASK__CLUSTER__V1__DATA_TYPE__F32;
        encoded.bytes = (uint64_t)entry->row_count * entry->width * sizeof(float);
        encoded.cached = answer->cached;
        encoded.decode_us = answer->decode_us;
        encoded.encode_us = answer->encode_us;
        encoded.tile_count = entry->tile_count;
        message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_ENCODED;
        message.encoded = &encoded;
    }
    rmk_attach_send(serve->host.attach, &message);
}

static void on_attached(void *context, const Remask__Cluster__V1__Welcome *welcome)
{
    (void)context;
    (void)welcome;
}

static void on_message(void *context, Remask__Cluster__V1__CoordinatorMessage **message,
                       struct rmk_bytes bytes)
{
    struct serve *serve = context;

    (void)bytes;
    if ((*message)->kind_case == REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_ENCODE) {
        rmk_orders_take(serve->orders, (*message)->encode);
    }
}

static void on_lost(void *context)
{
    struct serve *serve = context;

    rmk_orders_forget(serve->orders);
}

/* ---- start and stop
 * -------------------------------------------------------------------------------------------------
 */

static void stop(void *context)
{
    struct serve *serve = context;

    rmk_orders_close(serve->orders);
    rmk_rpc_channel_destroy(serve->coordinator);
}

static enum rmk_err load_model(struct serve *serve, struct rmk_why *why)
{
    const struct rmk_vision_serve_options *options = &serve->options;
    struct rmk_checkpoint *checkpoint = NULL;
    enum rmk_err err;

    RMK_TRY(rmk_host_load(&serve->host, &checkpoint, why));
    struct rmk_encoder_options encoder = {
        .spec = &serve->host.spec,
        .device = serve->host.device,
        .tile_batch = options->tile_batch,
        .load_dummy = options->host.load_dummy,
        .dummy_seed = options->host.dummy_seed,
    };
    RMK_TRY(rmk_encoder_create(&encoder, &serve->encoder, why));
    RMK_TRY(rmk_feature_cache_create(options->cache_bytes_max, &serve->cache, why));
out:
    rmk_checkpoint_close(checkpoint);
    return err;
}

/* What text workers dial: the advertised host (or the one listened on) and the port that was got.
 */
static void fill_address(struct serve *serve)
{
    const char *host = serve->options.advertise;
    const char *colon = strrchr(serve->options.listen, ':');
    const int length = colon == NULL ? 0 : (int)(colon - serve->options.listen);

    if (host != NULL) {
        (void)snprintf(serve->address, sizeof(serve->address), "%s:%u", host,
                       rmk_rpc_server_port(serve->server));
    } else {
        (void)snprintf(serve->address, sizeof(serve->address), "%.*s:%u", length,
                       serve->options.listen, rmk_rpc_server_port(serve->server));
    }
}

static void fill_hello(struct serve *serve)
{
    Remask__Cluster__V1__Hello *hello = &serve->host.hello;

    fill_address(serve);
    hello->role = REMASK__CLUSTER__V1__ROLE__VISION;
    hello->address = serve->address;
    hello->parallel_max = serve->options.parallel_max;
    hello->cache_bytes = serve->options.cache_bytes_max;
}

static enum rmk_err start(struct serve *serve, struct rmk_why *why)
{
    static const struct rmk_attach_events attach_events = {
        .on_attached = on_attached,
        .on_message = on_message,
        .on_lost = on_lost,
    };
    const struct rmk_vision_serve_options *options = &serve->options;
    const struct rmk_rpc_method methods[] = {
        {.path = "/remask.cluster.v1.Features/Pull",
         .on_call = rmk_pull_serve,
         .context = serve->cache},
    };
    enum rmk_err err;

    RMK_TRY(rmk_host_start(&serve->host, stop, serve, why));
    RMK_TRY(rmk_rpc_server_create(serve->host.rpc, options->listen, &options->host.rpc, methods, 1,
                                  &serve->server, why));
    RMK_TRY(rmk_rpc_channel_create(serve->host.rpc, options->host.coordinator, &options->host.rpc,
                                   &serve->coordinator, why));
    struct rmk_orders_options orders = {
        .loop = &serve->host.loop,
        .lane = serve->host.lane,
        .encoder = serve->encoder,
        .tile_batch = serve->options.tile_batch,
        .spec = &serve->host.spec,
        .cache = serve->cache,
        .coordinator = serve->coordinator,
        .answered = answered,
        .context = serve,
    };
    RMK_TRY(rmk_orders_create(&orders, &serve->orders, why));
    fill_hello(serve);
    RMK_TRY(rmk_host_attach(&serve->host, &attach_events, serve, why));
out:
    return err;
}

int rmk_vision_serve(const struct rmk_vision_serve_options *options)
{
    const uint64_t begun_us = rmk_clock_us();
    struct rmk_why why = {0};
    int status = 1;

    struct serve *serve = calloc(1, sizeof(*serve));
    if (serve == NULL) {
        return status;
    }
    serve->options = *options;
    rmk_host_init(&serve->host, "vision", &serve->options.host);
    if (load_model(serve, &why) != RMK_OK) {
        rmk_log(RMK_LOG_ERROR, "vision", "cannot load the model", "why=%s", why.text);
        rmk_host_check_device(&serve->host);
        status = RMK_EXIT_CONFIG;
        goto out;
    }
    if (start(serve, &why) != RMK_OK) {
        rmk_log(RMK_LOG_ERROR, "vision", "cannot start", "why=%s", why.text);
        _exit(status); /* half-started handles: the process is over anyway */
    }
    rmk_log(RMK_LOG_INFO, "vision", "ready",
            "model=%s device=%s features=%s cache_bytes=%llu seconds=%.1f", options->host.model_dir,
            serve->host.device->info.description, serve->address,
            (unsigned long long)options->cache_bytes_max,
            (double)(rmk_clock_us() - begun_us) / 1e6);
    rmk_host_run(&serve->host);
    status = 0;
out:
    rmk_feature_cache_destroy(serve->cache);
    rmk_encoder_destroy(serve->encoder);
    rmk_host_deinit(&serve->host);
    free(serve);
    return status;
}
