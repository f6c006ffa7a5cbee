#include "worker/vision/serve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/process.h"
#include "model/safetensors.h"
#include "model/spec.h"
#include "model/tokenizer.h"
#include "worker/attach.h"
#include "worker/lane.h"
#include "worker/vision/cache.h"
#include "worker/vision/encoder.h"
#include "worker/vision/order.h"
#include "worker/vision/pull.h"

enum { PROTOCOL = 1 };

struct serve {
    struct rmk_vision_serve_options options;
    struct rmk_spec spec;
    uint8_t digest[32];
    struct rmk_device *device;
    struct rmk_encoder *encoder;
    struct rmk_feature_cache *cache;
    uv_loop_t loop;
    uv_signal_t terminate;
    uv_signal_t interrupt;
    struct rmk_rpc *rpc;
    struct rmk_rpc_server *server;
    struct rmk_rpc_channel
        *coordinator; /* for Images.Fetch: bulk does not ride behind the control stream */
    struct rmk_lane *lane;
    struct rmk_orders *orders;
    struct rmk_attach *attach;
    bool stopping;
    char name[128];
    char address[256];
    Remask__Cluster__V1__Hello hello;
};

static void answered(void *context, const struct rmk_order_answer *answer)
{
    struct serve *serve = context;
    Remask__Cluster__V1__Encoded encoded = REMASK__CLUSTER__V1__ENCODED__INIT;
    Remask__Cluster__V1__EncodeFailed failed = REMASK__CLUSTER__V1__ENCODE_FAILED__INIT;
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;

    if (serve->stopping) {
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
    rmk_attach_send(serve->attach, &message);
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

static void rpc_closed(void *context)
{
    (void)context;
}

static void on_signal(uv_signal_t *signal, int number)
{
    struct serve *serve = signal->data;

    if (serve->stopping) {
        _exit(128 + number); /* asked twice: at once */
    }
    serve->stopping = true;
    rmk_log(RMK_LOG_INFO, "vision", "stopping", "signal=%d", number);
    rmk_attach_close(serve->attach, "the worker was asked to stop");
    rmk_orders_close(serve->orders);
    rmk_lane_close(serve->lane);
    rmk_rpc_channel_destroy(serve->coordinator);
    rmk_rpc_close(serve->rpc, rpc_closed, serve);
    uv_close((uv_handle_t *)&serve->terminate, NULL);
    uv_close((uv_handle_t *)&serve->interrupt, NULL);
}

static enum rmk_err load_model(struct serve *serve, struct rmk_why *why)
{
    const struct rmk_vision_serve_options *options = &serve->options;
    struct rmk_checkpoint *checkpoint = NULL;
    enum rmk_err err;

    RMK_TRY(rmk_spec_read(options->model_dir, options->vision_dir, NULL, &serve->spec, why));
    if (!options->load_dummy) {
        RMK_TRY(rmk_checkpoint_open(options->model_dir, &checkpoint, why));
        rmk_checkpoint_digest(checkpoint, serve->digest);
    }
    RMK_TRY(rmk_device_create(&options->device, &serve->device, why));
    struct rmk_encoder_options encoder = {
        .spec = &serve->spec,
        .device = serve->device,
        .tile_batch = options->tile_batch,
        .load_dummy = options->load_dummy,
        .dummy_seed = options->dummy_seed,
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
    Remask__Cluster__V1__Hello *hello = &serve->hello;
    char host[64] = "";

    (void)gethostname(host, sizeof(host) - 1);
    (void)snprintf(serve->name, sizeof(serve->name), "%s/%ld", host, (long)getpid());
    fill_address(serve);
    remask__cluster__v1__hello__init(hello);
    hello->protocol_min = PROTOCOL;
    hello->protocol_max = PROTOCOL;
    hello->role = REMASK__CLUSTER__V1__ROLE__VISION;
    hello->name = serve->name;
    hello->version = (char *)RMK_VERSION;
    hello->model_digest.data = serve->digest;
    hello->model_digest.len = sizeof(serve->digest);
    hello->address = serve->address;
    hello->parallel_max = serve->options.parallel_max;
    hello->cache_bytes = serve->options.cache_bytes_max;
    hello->width = serve->spec.text.width;
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

    (void)uv_signal_init(&serve->loop, &serve->terminate);
    (void)uv_signal_init(&serve->loop, &serve->interrupt);
    serve->terminate.data = serve;
    serve->interrupt.data = serve;
    (void)uv_signal_start(&serve->terminate, on_signal, SIGTERM);
    (void)uv_signal_start(&serve->interrupt, on_signal, SIGINT);
    RMK_TRY(rmk_rpc_create(&serve->loop, &serve->rpc, why));
    RMK_TRY(rmk_rpc_server_create(serve->rpc, options->listen, &options->rpc, methods, 1,
                                  &serve->server, why));
    RMK_TRY(rmk_rpc_channel_create(serve->rpc, options->coordinator, &options->rpc,
                                   &serve->coordinator, why));
    RMK_TRY(rmk_lane_create(&serve->loop, &serve->lane, why));
    struct rmk_orders_options orders = {
        .loop = &serve->loop,
        .lane = serve->lane,
        .encoder = serve->encoder,
        .tile_batch = serve->options.tile_batch,
        .spec = &serve->spec,
        .cache = serve->cache,
        .coordinator = serve->coordinator,
        .answered = answered,
        .context = serve,
    };
    RMK_TRY(rmk_orders_create(&orders, &serve->orders, why));
    fill_hello(serve);
    RMK_TRY(rmk_attach_create(serve->rpc, &serve->loop, options->coordinator, &options->rpc,
                              &serve->hello, &attach_events, serve, &serve->attach, why));
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
    (void)uv_loop_init(&serve->loop);
    if (load_model(serve, &why) != RMK_OK) {
        rmk_log(RMK_LOG_ERROR, "vision", "cannot load the model", "why=%s", why.text);
        status = RMK_EXIT_CONFIG;
        goto out;
    }
    if (start(serve, &why) != RMK_OK) {
        rmk_log(RMK_LOG_ERROR, "vision", "cannot start", "why=%s", why.text);
        _exit(status); /* half-started handles: the process is over anyway */
    }
    rmk_log(RMK_LOG_INFO, "vision", "ready",
            "model=%s device=%s features=%s cache_bytes=%llu seconds=%.1f", options->model_dir,
            serve->device->info.description, serve->address,
            (unsigned long long)options->cache_bytes_max,
            (double)(rmk_clock_us() - begun_us) / 1e6);
    (void)uv_run(&serve->loop, UV_RUN_DEFAULT);
    status = 0;
out:
    rmk_feature_cache_destroy(serve->cache);
    rmk_encoder_destroy(serve->encoder);
    rmk_device_destroy(serve->device);
    (void)uv_loop_close(&serve->loop);
    free(serve);
    return status;
}
