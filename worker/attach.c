#include "worker/attach.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/rpc/pack.h"

enum {
    PAUSE_MS_MIN = 50,
    PAUSE_MS_MAX = 5000,
    WELCOME_TIMEOUT_MS = 10000,
    GOODBYE_TIMEOUT_MS = 1000,
};

struct rmk_attach {
    uv_timer_t timer; /* the pause before a dial; while attached, the heartbeat */
    struct rmk_rpc_channel *channel;
    struct rmk_rpc_call *call; /* NULL between dials */
    const Remask__Cluster__V1__Hello *hello;
    struct rmk_attach_events events;
    void *context; /* of the events; of `closed` once it is closing */
    void (*closed)(void *context);
    bool attached; /* Welcome has come */
    uint32_t pause_ms;
    uint32_t heartbeat_interval_ms;
    uint64_t heartbeat_timeout_us;
    uint64_t heard_us; /* when anything last came */
    uint64_t echo_us;  /* the coordinator's clock in its last heartbeat */
    char address[256];
};

static void dial(uv_timer_t *timer);

static void send_message(struct rmk_attach *attach,
                         const Remask__Cluster__V1__WorkerMessage *message)
{
    if (attach->call != NULL) {
        (void)rmk_pack_send(attach->call, &message->base);
    }
}

static void dial_after(struct rmk_attach *attach, uint32_t pause_ms)
{
    (void)uv_timer_start(&attach->timer, dial, pause_ms, 0);
}

static void beat(uv_timer_t *timer)
{
    struct rmk_attach *attach = timer->data;
    Remask__Cluster__V1__Heartbeat heartbeat = REMASK__CLUSTER__V1__HEARTBEAT__INIT;
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;
    const uint64_t now_us = rmk_clock_us();

    if (now_us - attach->heard_us > attach->heartbeat_timeout_us) {
        rmk_log(RMK_LOG_WARN, "attach", "coordinator is silent", "address=%s silent_ms=%llu",
                attach->address, (unsigned long long)((now_us - attach->heard_us) / 1000));
        rmk_rpc_call_cancel(attach->call);
        return;
    }
    heartbeat.sent_us = now_us;
    heartbeat.echo_us = attach->echo_us;
    message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_HEARTBEAT;
    message.heartbeat = &heartbeat;
    send_message(attach, &message);
}

static void welcomed(struct rmk_attach *attach, const Remask__Cluster__V1__Welcome *welcome)
{
    attach->attached = true;
    attach->pause_ms = PAUSE_MS_MIN;
    attach->heartbeat_interval_ms =
        welcome->heartbeat_interval_ms > 0 ? welcome->heartbeat_interval_ms : 1000;
    attach->heartbeat_timeout_us =
        (welcome->heartbeat_timeout_ms > 0 ? welcome->heartbeat_timeout_ms : 5000) * (uint64_t)1000;
    (void)uv_timer_start(&attach->timer, beat, attach->heartbeat_interval_ms,
                         attach->heartbeat_interval_ms);
    rmk_log(RMK_LOG_INFO, "attach", "attached", "coordinator=%s protocol=%u epoch=%llu",
            attach->address, welcome->protocol, (unsigned long long)welcome->worker_epoch);
    attach->events.on_attached(attach->context, welcome);
}

static void on_message(struct rmk_rpc_call *call, struct rmk_bytes bytes, void *context)
{
    struct rmk_attach *attach = context;
    struct rmk_why why = {0};
    ProtobufCMessage *unpacked = NULL;

    attach->heard_us = rmk_clock_us();
    if (rmk_unpack(&remask__cluster__v1__coordinator_message__descriptor, bytes, &unpacked, &why) !=
        RMK_OK) {
        rmk_log(RMK_LOG_ERROR, "attach", "message is malformed", "why=%s", why.text);
        rmk_rpc_call_cancel(call);
        return;
    }
    Remask__Cluster__V1__CoordinatorMessage *message =
        (Remask__Cluster__V1__CoordinatorMessage *)unpacked;
    switch (message->kind_case) {
    case REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_WELCOME:
        if (!attach->attached) {
            welcomed(attach, message->welcome);
        }
        break;
    case REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_HEARTBEAT:
        attach->echo_us = message->heartbeat->sent_us;
        break;
    default:
        if (attach->attached) {
            attach->events.on_message(attach->context, &message, bytes);
        }
        break;
    }
    if (message != NULL) {
        remask__cluster__v1__coordinator_message__free_unpacked(message, NULL);
    }
}

static void on_done(struct rmk_rpc_call *call, int status, const char *message, void *context)
{
    struct rmk_attach *attach = context;
    const bool refused =
        status == RMK_STATUS_INVALID_ARGUMENT || status == RMK_STATUS_FAILED_PRECONDITION ||
        status == RMK_STATUS_ALREADY_EXISTS || status == RMK_STATUS_UNAUTHENTICATED ||
        status == RMK_STATUS_PERMISSION_DENIED || status == RMK_STATUS_UNIMPLEMENTED;

    (void)call;
    attach->call = NULL;
    if (attach->attached) {
        attach->attached = false;
        rmk_log(RMK_LOG_WARN, "attach", "stream to the coordinator broke",
                "address=%s status=%d why=%s", attach->address, status, message);
        attach->events.on_lost(attach->context);
    } else {
        rmk_log(refused ? RMK_LOG_ERROR : RMK_LOG_INFO, "attach",
                refused ? "the coordinator refused this worker" : "no coordinator yet",
                "address=%s status=%d why=%s", attach->address, status, message);
    }
    dial_after(attach, refused ? PAUSE_MS_MAX : attach->pause_ms);
    attach->pause_ms = attach->pause_ms * 2 > PAUSE_MS_MAX ? PAUSE_MS_MAX : attach->pause_ms * 2;
}

static void silent_welcome(uv_timer_t *timer)
{
    struct rmk_attach *attach = timer->data;

    rmk_log(RMK_LOG_WARN, "attach", "no Welcome from the coordinator", "address=%s waited_ms=%d",
            attach->address, WELCOME_TIMEOUT_MS);
    if (attach->call != NULL) {
        rmk_rpc_call_cancel(attach->call);
    }
}

static void dial(uv_timer_t *timer)
{
    static const struct rmk_rpc_events events = {.on_message = on_message, .on_done = on_done};
    struct rmk_attach *attach = timer->data;
    Remask__Cluster__V1__Hello hello = *attach->hello;
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;

    attach->heard_us = rmk_clock_us();
    attach->call = rmk_rpc_channel_call(attach->channel, "/remask.cluster.v1.Cluster/Attach", 0,
                                        false, NULL, &events, attach);
    message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_HELLO;
    message.hello = &hello;
    send_message(attach, &message);
    (void)uv_timer_start(timer, silent_welcome, WELCOME_TIMEOUT_MS, 0);
}

enum rmk_err rmk_attach_create(struct rmk_rpc *rpc, uv_loop_t *loop,
                               const char *coordinator_address,
                               const struct rmk_rpc_options *options,
                               const Remask__Cluster__V1__Hello *hello,
                               const struct rmk_attach_events *events, void *context,
                               struct rmk_attach **out_attach, struct rmk_why *why)
{
    enum rmk_err err;

    struct rmk_attach *attach = calloc(1, sizeof(*attach));
    if (attach == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for the stream to the coordinator");
        goto out;
    }
    if (strlen(coordinator_address) >= sizeof(attach->address)) {
        err = rmk_fail(why, RMK_EINVAL, "the coordinator's address is too long");
        goto out;
    }
    memcpy(attach->address, coordinator_address, strlen(coordinator_address) + 1);
    attach->hello = hello;
    attach->events = *events;
    attach->context = context;
    attach->pause_ms = PAUSE_MS_MIN;
    RMK_TRY(rmk_rpc_channel_create(rpc, coordinator_address, options, &attach->channel, why));
    (void)uv_timer_init(loop, &attach->timer);
    attach->timer.data = attach;
    dial_after(attach, 0);
    *out_attach = attach;
    attach = NULL;
out:
    free(attach);
    return err;
}

void rmk_attach_send(struct rmk_attach *attach, const Remask__Cluster__V1__WorkerMessage *message)
{
    if (attach->attached) {
        send_message(attach, message);
    }
}

/* ---- the end ----------------------------------------------------------------------------------
 */

static void free_attach(uv_handle_t *handle)
{
    struct rmk_attach *attach = handle->data;

    attach->closed(attach->context);
    free(attach);
}

static void close_timer(struct rmk_attach *attach)
{
    uv_close((uv_handle_t *)&attach->timer, free_attach);
}

static void on_last_message(struct rmk_rpc_call *call, struct rmk_bytes message, void *context)
{
    (void)call;
    (void)message;
    (void)context;
}

static void on_last_done(struct rmk_rpc_call *call, int status, const char *message, void *context)
{
    (void)call;
    (void)status;
    (void)message;
    close_timer(context);
}

static void goodbye_timeout(uv_timer_t *timer)
{
    struct rmk_attach *attach = timer->data;

    rmk_rpc_call_cancel(attach->call);
}

void rmk_attach_close(struct rmk_attach *attach, const char *why, void (*closed)(void *context),
                      void *context)
{
    static const struct rmk_rpc_events last = {.on_message = on_last_message,
                                               .on_done = on_last_done};
    Remask__Cluster__V1__Goodbye goodbye = REMASK__CLUSTER__V1__GOODBYE__INIT;
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;

    attach->closed = closed;
    attach->context = context;
    rmk_rpc_channel_destroy(attach->channel);
    (void)uv_timer_stop(&attach->timer);
    if (attach->call == NULL) {
        close_timer(attach);
        return;
    }
    rmk_rpc_call_listen(attach->call, &last, attach);
    if (!attach->attached) {
        rmk_rpc_call_cancel(attach->call);
        return;
    }
    goodbye.why = (char *)why;
    message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_GOODBYE;
    message.goodbye = &goodbye;
    send_message(attach, &message);
    attach->attached = false;
    /* A stream that is cancelled under a Goodbye drops it: the coordinator would see a loss. */
    rmk_rpc_call_half_close(attach->call);
    (void)uv_timer_start(&attach->timer, goodbye_timeout, GOODBYE_TIMEOUT_MS, 0);
}
