#include "coordinator/back/link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/rpc/pack.h"
#include "common/rpc/rpc.h"
#include "coordinator/back/text_link.h"
#include "coordinator/back/vision_link.h"
#include "coordinator/metrics.h"
#include "remask/cluster/v1/cluster.pb-c.h"

struct rmk_links {
    uv_timer_t timer;
    struct rmk_back_options options;
    struct rmk_back_hooks hooks;
    struct rmk_coordinator_metrics *metrics;
    struct rmk_texts *texts;
    struct rmk_visions *visions;
    struct rmk_list all;
    uint32_t count;
    uint64_t epochs;       /* the last given, to groups and attachments alike */
    uint64_t next_beat_us; /* 0: nobody is attached */
    bool closing;
    void (*closed)(void *context);
    void *closed_context;
};

struct rmk_texts *rmk_links_texts(struct rmk_links *links)
{
    return links->texts;
}

struct rmk_visions *rmk_links_visions(struct rmk_links *links)
{
    return links->visions;
}

/* ---- the end of a link
 * ------------------------------------------------------------------------------- */

/* The group or the pool hears of it once, whichever way the link ends. */
static void detach(struct rmk_link *link, const char *why)
{
    struct rmk_links *links = link->links;
    enum rmk_link_state state = link->state;

    link->state = RMK_LINK_ENDED;
    if (state == RMK_LINK_HELLO || state == RMK_LINK_ENDED) {
        return;
    }
    rmk_counter_add(links->metrics->links_lost, 1);
    rmk_log(RMK_LOG_INFO, "back", "worker left", "worker=%s attachment=%llu why=%s", link->name,
            (unsigned long long)link->epoch, why);
    if (state == RMK_LINK_TEXT) {
        rmk_texts_gone(links->texts, link, rmk_clock_us(), why);
    } else {
        rmk_visions_gone(links->visions, link);
    }
}

void rmk_link_end(struct rmk_link *link, int status, const char *why)
{
    if (link->state != RMK_LINK_ENDED) {
        detach(link, why);
        rmk_rpc_call_finish(link->call, status, why);
    }
}

static void on_done(struct rmk_rpc_call *call, int status, const char *message, void *context)
{
    struct rmk_link *link = context;

    (void)call;
    (void)status;
    (void)message;
    detach(link, "its stream broke off");
    rmk_list_remove(&link->link);
    link->links->count--;
    rmk_gauge_set(link->links->metrics->links, link->links->count);
    free(link);
}

/* ---- Hello
 * --------------------------------------------------------------------------------------------- */

static enum rmk_err check_hello(const struct rmk_links *links,
                                const Remask__Cluster__V1__Hello *hello, int *out_status,
                                struct rmk_why *why)
{
    *out_status = RMK_STATUS_FAILED_PRECONDITION;
    if (hello->protocol_min > RMK_PROTOCOL_MAX || hello->protocol_max < RMK_PROTOCOL_MIN) {
        return rmk_fail(why, RMK_EUNSUPPORTED,
                        "%s speaks protocol %u to %u, this coordinator %u to %u", hello->name,
                        hello->protocol_min, hello->protocol_max, RMK_PROTOCOL_MIN,
                        RMK_PROTOCOL_MAX);
    }
    if (hello->model_digest.len != RMK_DIGEST_BYTES ||
        memcmp(hello->model_digest.data, links->options.model_digest, RMK_DIGEST_BYTES) != 0) {
        return rmk_fail(
            why, RMK_EINVAL,
            "%s has another model than this coordinator: the digests of the checkpoint headers "
            "differ",
            hello->name);
    }
    if (hello->width != links->options.width) {
        return rmk_fail(why, RMK_EINVAL, "%s has width %u, the model here has %u", hello->name,
                        hello->width, links->options.width);
    }
    return RMK_OK;
}

static void send_welcome(struct rmk_link *link)
{
    const struct rmk_back_options *options = &link->links->options;
    Remask__Cluster__V1__Welcome welcome = REMASK__CLUSTER__V1__WELCOME__INIT;
    Remask__Cluster__V1__CoordinatorMessage message =
        REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__INIT;

    welcome.protocol = RMK_PROTOCOL_MAX;
    welcome.worker_epoch = link->epoch;
    welcome.heartbeat_interval_ms = options->heartbeat_interval_ms;
    welcome.heartbeat_timeout_ms = options->heartbeat_timeout_ms;
    message.kind_case = REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_WELCOME;
    message.welcome = &welcome;
    (void)rmk_pack_send(link->call, &message.base);
}

static void on_hello(struct rmk_link *link, const Remask__Cluster__V1__Hello *hello,
                     uint64_t now_us)
{
    struct rmk_links *links = link->links;
    struct rmk_why why = {0};
    int status = RMK_STATUS_FAILED_PRECONDITION;
    enum rmk_err err;

    (void)snprintf(link->name, sizeof(link->name), "%s",
                   hello->name[0] != '\0' ? hello->name : rmk_rpc_call_peer(link->call));
    link->epoch = ++links->epochs;
    RMK_TRY(check_hello(links, hello, &status, &why));
    if (hello->role == REMASK__CLUSTER__V1__ROLE__TEXT) {
        RMK_TRY(rmk_texts_attach(links->texts, link, hello, &status, &why));
        link->state = RMK_LINK_TEXT;
    } else if (hello->role == REMASK__CLUSTER__V1__ROLE__VISION) {
        RMK_TRY(rmk_visions_attach(links->visions, link, hello, &status, &why));
        link->state = RMK_LINK_VISION;
    } else {
        status = RMK_STATUS_INVALID_ARGUMENT;
        err = rmk_fail(&why, RMK_EINVAL, "role: %d is not known", (int)hello->role);
        goto out;
    }
    rmk_log(RMK_LOG_INFO, "back", "worker attached",
            "worker=%s role=%s group=%s rank=%u peer=%s version=%s attachment=%llu", link->name,
            link->state == RMK_LINK_TEXT ? "text" : "vision", hello->group, hello->rank,
            rmk_rpc_call_peer(link->call), hello->version, (unsigned long long)link->epoch);
    /* Welcome is the first message: a group's Form, which may follow at once, must not overtake it.
     */
    send_welcome(link);
    if (link->state == RMK_LINK_TEXT) {
        rmk_texts_attached(links->texts, link, now_us);
    } else {
        rmk_visions_attached(links->visions, link);
    }
out:
    if (err != RMK_OK) {
        rmk_counter_add(links->metrics->links_refused, 1);
        rmk_log(RMK_LOG_WARN, "back", "worker refused", "worker=%s peer=%s why=%s", link->name,
                rmk_rpc_call_peer(link->call), why.text);
        rmk_link_end(link, status, why.text);
    }
}

/* ---- messages
 * ------------------------------------------------------------------------------------------- */

static void dispatch(struct rmk_link *link, const Remask__Cluster__V1__WorkerMessage *message,
                     uint64_t now_us)
{
    struct rmk_why why = {0};
    enum rmk_err err = RMK_OK;

    if (link->state == RMK_LINK_HELLO) {
        if (message->kind_case != REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_HELLO) {
            rmk_link_end(link, RMK_STATUS_INVALID_ARGUMENT, "the first message is not a Hello");
            return;
        }
        on_hello(link, message->hello, now_us);
        return;
    }
    switch (message->kind_case) {
    case REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_HELLO:
        err = rmk_fail(&why, RMK_EINVAL, "a second Hello");
        break;
    case REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_HEARTBEAT:
        link->echo_us = message->heartbeat->sent_us;
        break;
    case REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_GOODBYE: {
        char text[sizeof(why.text)];

        (void)snprintf(text, sizeof(text), "it said goodbye: %.200s", message->goodbye->why);
        rmk_link_end(link, RMK_STATUS_OK, text);
        break;
    }
    case REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND__NOT_SET:
        break; /* a kind of a later protocol */
    default:
        if (link->state == RMK_LINK_TEXT) {
            err = rmk_texts_message(link->links->texts, link, message, now_us, &why);
        } else {
            err = rmk_visions_message(link->links->visions, link, message, &why);
        }
        break;
    }
    if (err != RMK_OK) {
        rmk_why_context(&why, "%s breaks the protocol", link->name);
        rmk_link_end(link, RMK_STATUS_INVALID_ARGUMENT, why.text);
    }
}

static void on_message(struct rmk_rpc_call *call, struct rmk_bytes bytes, void *context)
{
    struct rmk_link *link = context;
    ProtobufCMessage *message = NULL;
    struct rmk_why why = {0};

    (void)call;
    if (link->state == RMK_LINK_ENDED) {
        return;
    }
    link->heard_us = rmk_clock_us();
    if (rmk_unpack(&remask__cluster__v1__worker_message__descriptor, bytes, &message, &why) !=
        RMK_OK) {
        rmk_why_context(&why, "%s", link->name);
        rmk_link_end(link, RMK_STATUS_INVALID_ARGUMENT, why.text);
        return;
    }
    dispatch(link, (const Remask__Cluster__V1__WorkerMessage *)message, link->heard_us);
    protobuf_c_message_free_unpacked(message, NULL);
}

static void on_half_close(struct rmk_rpc_call *call, void *context)
{
    (void)call;
    rmk_link_end(context, RMK_STATUS_OK, "it closed its stream");
}

void rmk_links_on_attach(struct rmk_rpc_call *call, void *context)
{
    static const struct rmk_rpc_events events = {
        .on_message = on_message,
        .on_half_close = on_half_close,
        .on_done = on_done,
    };
    struct rmk_links *links = context;
    struct rmk_link *link = NULL;

    if (links->count < links->options.links_max && !links->closing) {
        link = calloc(1, sizeof(*link));
    }
    if (link == NULL) {
        rmk_rpc_call_refuse(call, RMK_STATUS_RESOURCE_EXHAUSTED,
                            "as many workers are attached as are allowed");
        return;
    }
    link->links = links;
    link->call = call;
    link->opened_us = rmk_clock_us();
    link->heard_us = link->opened_us;
    (void)snprintf(link->name, sizeof(link->name), "%s", rmk_rpc_call_peer(call));
    rmk_list_append(&links->all, &link->link);
    links->count++;
    rmk_gauge_set(links->metrics->links, links->count);
    rmk_rpc_call_listen(call, &events, link);
    rmk_links_arm(links);
}

/* ---- time
 * ------------------------------------------------------------------------------------------------
 */

static void send_heartbeat(struct rmk_link *link, uint64_t now_us)
{
    Remask__Cluster__V1__Heartbeat heartbeat = REMASK__CLUSTER__V1__HEARTBEAT__INIT;
    Remask__Cluster__V1__CoordinatorMessage message =
        REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__INIT;

    heartbeat.sent_us = now_us;
    heartbeat.echo_us = link->echo_us;
    message.kind_case = REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_HEARTBEAT;
    message.heartbeat = &heartbeat;
    (void)rmk_pack_send(link->call, &message.base);
}

static void watch(struct rmk_link *link, uint64_t now_us)
{
    const struct rmk_back_options *options = &link->links->options;
    struct rmk_why why = {0};

    if (link->state == RMK_LINK_ENDED) {
        return;
    }
    if (link->state == RMK_LINK_HELLO) {
        if (now_us - link->opened_us > (uint64_t)options->hello_timeout_ms * 1000) {
            rmk_link_end(link, RMK_STATUS_DEADLINE_EXCEEDED, "no Hello came");
        }
        return;
    }
    /* gRPC's keepalive sees a dead host; this sees a process whose sockets live and which does
     * nothing. */
    if (now_us - link->heard_us > (uint64_t)options->heartbeat_timeout_ms * 1000) {
        (void)rmk_fail(&why, RMK_EUNAVAILABLE, "%s was not heard of for %.1f s", link->name,
                       (double)(now_us - link->heard_us) / 1e6);
        rmk_link_end(link, RMK_STATUS_UNAVAILABLE, why.text);
        return;
    }
    send_heartbeat(link, now_us);
}

static void beat(struct rmk_links *links, uint64_t now_us)
{
    uint64_t interval_us = (uint64_t)links->options.heartbeat_interval_ms * 1000;
    /* When we ourselves stood still (a stopped process, a sleeping machine), the silence was ours:
     * what the workers said is still in the sockets. Judge next time. */
    bool late = now_us - links->next_beat_us > interval_us;
    struct rmk_list *node, *following;

    rmk_list_each(node, following, &links->all)
    {
        struct rmk_link *link = rmk_list_entry(node, struct rmk_link, link);

        if (late) {
            link->heard_us = now_us;
        }
        watch(link, now_us);
    }
    links->next_beat_us = now_us + interval_us;
}

static void on_timer(uv_timer_t *timer)
{
    struct rmk_links *links = timer->data;
    uint64_t now_us = rmk_clock_us();

    if (links->next_beat_us != 0 && now_us >= links->next_beat_us) {
        beat(links, now_us);
    }
    rmk_texts_tick(links->texts, now_us);
    rmk_links_arm(links);
}

void rmk_links_arm(struct rmk_links *links)
{
    uint64_t now_us = rmk_clock_us();
    uint64_t due_us;

    if (links->closing) {
        return;
    }
    if (links->count == 0) {
        links->next_beat_us = 0;
    } else if (links->next_beat_us == 0) {
        links->next_beat_us = now_us + (uint64_t)links->options.heartbeat_interval_ms * 1000;
    }
    due_us = rmk_texts_due_us(links->texts);
    if (due_us == 0 || (links->next_beat_us != 0 && links->next_beat_us < due_us)) {
        due_us = links->next_beat_us;
    }
    if (due_us == 0) {
        (void)uv_timer_stop(&links->timer);
        return;
    }
    uv_update_time(links->timer.loop);
    (void)uv_timer_start(&links->timer, on_timer,
                         due_us > now_us ? (due_us - now_us + 999) / 1000 + 1 : 0, 0);
}

/* ---- life
 * ------------------------------------------------------------------------------------------------
 */

enum rmk_err rmk_links_create(uv_loop_t *uv, const struct rmk_back_options *options,
                              const struct rmk_back_hooks *hooks,
                              struct rmk_coordinator_metrics *metrics, struct rmk_links **out_links,
                              struct rmk_why *why)
{
    struct rmk_links *links = calloc(1, sizeof(*links));
    enum rmk_err err = RMK_OK;

    if (links == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for the table of workers");
        goto out;
    }
    rmk_list_init(&links->all);
    links->options = *options;
    links->hooks = *hooks;
    links->metrics = metrics;
    links->epochs = options->epoch_base;
    links->texts = rmk_texts_create(links, &links->options, &links->hooks, metrics, &links->epochs);
    links->visions = rmk_visions_create(&links->options, &links->hooks, metrics);
    if (links->texts == NULL || links->visions == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for the table of workers");
        goto out;
    }
    (void)uv_timer_init(uv, &links->timer); /* cannot fail */
    links->timer.data = links;
    *out_links = links;
    links = NULL;
out:
    rmk_links_destroy(links);
    return err;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct rmk_links *links = handle->data;

    links->closed(links->closed_context);
}

void rmk_links_close(struct rmk_links *links, void (*closed)(void *context), void *context)
{
    links->closing = true;
    links->closed = closed;
    links->closed_context = context;
    uv_close((uv_handle_t *)&links->timer, on_timer_closed);
}

void rmk_links_destroy(struct rmk_links *links)
{
    if (links == NULL) {
        return;
    }
    rmk_assert(links->count == 0);
    rmk_texts_destroy(links->texts);
    rmk_visions_destroy(links->visions);
    free(links);
}
