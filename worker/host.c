#include "worker/host.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "model/manifest.h"
#include "model/safetensors.h"

enum { PROTOCOL = 1 };

void rmk_host_init(struct rmk_host *host, const char *role, const struct rmk_host_options *options)
{
    memset(host, 0, sizeof(*host));
    host->role = role;
    host->options = options;
    (void)uv_loop_init(&host->loop);
}

/* The tower may have a folder of its own. */
static enum rmk_err verify(const struct rmk_host *host, struct rmk_why *why)
{
    enum rmk_err err;

    RMK_TRY(rmk_manifest_verify(host->options->model_dir, why));
    if (host->options->vision_dir != NULL) {
        RMK_TRY(rmk_manifest_verify(host->options->vision_dir, why));
    }
    rmk_log(RMK_LOG_INFO, host->role, "weights verified", "model=%s", host->options->model_dir);
out:
    return err;
}

enum rmk_err rmk_host_load(struct rmk_host *host, struct rmk_checkpoint **out_checkpoint,
                           struct rmk_why *why)
{
    const struct rmk_host_options *options = host->options;
    struct rmk_checkpoint *checkpoint = NULL;
    enum rmk_err err;

    if (options->verify_weights) {
        RMK_TRY(verify(host, why));
    }
    RMK_TRY(rmk_spec_read(options->model_dir, options->vision_dir, NULL, &host->spec, why));
    if (!options->load_dummy) {
        RMK_TRY(rmk_checkpoint_open(options->model_dir, &checkpoint, why));
        rmk_checkpoint_digest(checkpoint, host->digest);
    }
    RMK_TRY(rmk_device_create(&options->device, &host->device, why));
    *out_checkpoint = checkpoint;
    checkpoint = NULL;
out:
    rmk_checkpoint_close(checkpoint);
    return err;
}

static void fill_hello(struct rmk_host *host)
{
    Remask__Cluster__V1__Hello *hello = &host->hello;
    char machine[64] = "";

    (void)gethostname(machine, sizeof(machine) - 1);
    (void)snprintf(host->name, sizeof(host->name), "%s/%ld", machine, (long)getpid());
    remask__cluster__v1__hello__init(hello);
    hello->protocol_min = PROTOCOL;
    hello->protocol_max = PROTOCOL;
    hello->name = host->name;
    hello->version = (char *)RMK_VERSION;
    hello->model_digest.data = host->digest;
    hello->model_digest.len = sizeof(host->digest);
    hello->width = host->spec.text.width;
}

static void rpc_closed(void *context)
{
    (void)context;
}

/* The coordinator has our Goodbye, or will not take it. */
static void on_parted(void *context)
{
    struct rmk_host *host = context;

    rmk_lane_close(host->lane);
    rmk_rpc_close(host->rpc, rpc_closed, host);
    uv_close((uv_handle_t *)&host->terminate, NULL);
    uv_close((uv_handle_t *)&host->interrupt, NULL);
}

static void on_signal(uv_signal_t *signal, int number)
{
    struct rmk_host *host = signal->data;

    if (host->stopping) {
        _exit(128 + number); /* asked twice: at once */
    }
    host->stopping = true;
    rmk_log(RMK_LOG_INFO, host->role, "stopping", "signal=%d", number);
    rmk_attach_close(host->attach, "the worker was asked to stop", on_parted, host);
    host->stop(host->context);
}

enum rmk_err rmk_host_start(struct rmk_host *host, void (*stop)(void *context), void *context,
                            struct rmk_why *why)
{
    enum rmk_err err;

    host->stop = stop;
    host->context = context;
    fill_hello(host);
    (void)uv_signal_init(&host->loop, &host->terminate);
    (void)uv_signal_init(&host->loop, &host->interrupt);
    host->terminate.data = host;
    host->interrupt.data = host;
    (void)uv_signal_start(&host->terminate, on_signal, SIGTERM);
    (void)uv_signal_start(&host->interrupt, on_signal, SIGINT);
    RMK_TRY(rmk_rpc_create(&host->loop, &host->rpc, why));
    RMK_TRY(rmk_lane_create(&host->loop, &host->lane, why));
out:
    return err;
}

enum rmk_err rmk_host_attach(struct rmk_host *host, const struct rmk_attach_events *events,
                             void *context, struct rmk_why *why)
{
    return rmk_attach_create(host->rpc, &host->loop, host->options->coordinator,
                             &host->options->rpc, &host->hello, events, context, &host->attach,
                             why);
}

void rmk_host_run(struct rmk_host *host)
{
    (void)uv_run(&host->loop, UV_RUN_DEFAULT);
}

void rmk_host_check_device(const struct rmk_host *host)
{
    const char *fault = host->device != NULL ? rmk_device_fault(host->device) : NULL;

    if (fault != NULL) {
        rmk_log(RMK_LOG_ERROR, host->role, "the device failed", "why=%s", fault);
        _exit(1); /* its memory is not to be given back in order: every call would fail */
    }
}

void rmk_host_deinit(struct rmk_host *host)
{
    rmk_device_destroy(host->device);
    (void)uv_loop_close(&host->loop);
}
