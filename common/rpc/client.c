#include <stdio.h>
#include <stdlib.h>

#include "common/rpc/internal.h"

struct rmk_rpc_channel {
    struct rmk_list link;
    struct rmk_rpc *rpc;
    grpc_channel *core;
    char *authorization; /* NULL: none */
    unsigned calls;
    bool unwanted;
};

/* Destroying the core's channel under a call would break the call, so the last call does it. */
static void check_gone(struct rmk_rpc_channel *channel)
{
    struct rmk_rpc *rpc = channel->rpc;

    if (!channel->unwanted || channel->calls > 0) {
        return;
    }
    rmk_list_remove(&channel->link);
    grpc_channel_destroy(channel->core);
    free(channel->authorization);
    free(channel);
    rmk_rpc_check_closed(rpc);
}

static void on_released(void *context)
{
    struct rmk_rpc_channel *channel = context;

    channel->calls--;
    check_gone(channel);
}

enum rmk_err rmk_rpc_channel_create(struct rmk_rpc *rpc, const char *address,
                                    const struct rmk_rpc_options *options,
                                    struct rmk_rpc_channel **out_channel, struct rmk_why *why)
{
    static const struct rmk_rpc_options defaults = {0};
    grpc_channel_credentials *credentials = NULL;
    struct rmk_rpc_channel *channel = NULL;
    struct rmk_rpc_args args;
    enum rmk_err err;

    rmk_assert(!rpc->closing);
    if (options == NULL) {
        options = &defaults;
    }
    RMK_TRY(rmk_rpc_address_check(address, why));
    RMK_TRY(rmk_rpc_channel_credentials(options, &credentials, why));
    channel = calloc(1, sizeof(*channel));
    if (channel == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for a channel");
        goto out;
    }
    if (options->api_key != NULL &&
        asprintf(&channel->authorization, "Bearer %s", options->api_key) < 0) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for a channel");
        free(channel);
        goto out;
    }
    rmk_rpc_args_init(&args, options, false);
    channel->core = grpc_channel_create(address, credentials, &args.args);
    rmk_rpc_args_deinit(&args);
    channel->rpc = rpc;
    rmk_list_append(&rpc->channels, &channel->link);
    *out_channel = channel;
out:
    if (credentials != NULL) {
        grpc_channel_credentials_release(credentials);
    }
    return err;
}

void rmk_rpc_channel_destroy(struct rmk_rpc_channel *channel)
{
    if (channel == NULL) {
        return;
    }
    channel->unwanted = true;
    check_gone(channel);
}

void rmk_rpc_channel_stop(struct rmk_list *link)
{
    rmk_rpc_channel_destroy(rmk_list_entry(link, struct rmk_rpc_channel, link));
}

struct rmk_rpc_call *rmk_rpc_channel_call(struct rmk_rpc_channel *channel, const char *path,
                                          uint64_t deadline_ms, bool wait_for_ready,
                                          const char *const *metadata,
                                          const struct rmk_rpc_events *events, void *context)
{
    gpr_timespec deadline = gpr_inf_future(GPR_CLOCK_MONOTONIC);
    grpc_slice method = grpc_slice_from_copied_string(path);
    uint32_t flags = GRPC_INITIAL_METADATA_WAIT_FOR_READY_EXPLICITLY_SET;
    const char *headers[2 * RMK_RPC_HEADERS_MAX + 1] = {"authorization", channel->authorization};
    size_t header_count = channel->authorization != NULL ? 2 : 0;

    if (deadline_ms > 0) {
        deadline = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                                gpr_time_from_millis((int64_t)deadline_ms, GPR_TIMESPAN));
    }
    if (wait_for_ready) {
        flags |= GRPC_INITIAL_METADATA_WAIT_FOR_READY;
    }
    for (size_t i = 0; metadata != NULL && metadata[i] != NULL; i++) {
        rmk_assert(header_count + 1 < sizeof(headers) / sizeof(headers[0]));
        headers[header_count++] = metadata[i];
    }
    headers[header_count] = NULL;
    grpc_call *core = grpc_channel_create_call(channel->core, NULL, GRPC_PROPAGATE_DEFAULTS,
                                               channel->rpc->queue, method, NULL, deadline, NULL);
    grpc_slice_unref(method);
    channel->calls++;
    return rmk_rpc_call_start(channel->rpc, core, flags, headers, events, context, on_released,
                              channel);
}
