#include "coordinator/front/grpc_api.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/rpc/pack.h"
#include "coordinator/back/link.h"
#include "coordinator/back/text_link.h"
#include "coordinator/back/vision_link.h"
#include "coordinator/engine/engine.h"
#include "coordinator/front/ask.h"
#include "coordinator/front/grpc_ask.h"
#include "coordinator/front/keys.h"
#include "coordinator/requests.h"
#include "coordinator/result.h"
#include "remask/v1/remask.pb-c.h"

/* ---- who calls ---------------------------------------------------------------------------------
 */

/* False: the call has been refused, before any of its messages was read. *out_tenant is NULL when
 * the server has no keys. */
static bool authorize(struct rmk_grpc_api *api, struct rmk_rpc_call *call, const char *method,
                      const struct rmk_tenant **out_tenant)
{
    struct rmk_listener caller = {.peer = rmk_rpc_call_peer(call), .method = method};
    struct rmk_why why = {0};

    *out_tenant = NULL;
    if (api->keys == NULL || rmk_keys_check(api->keys, rmk_rpc_call_metadata(call, "authorization"),
                                            out_tenant, &why) == RMK_OK) {
        return true;
    }
    rmk_requests_refuse(api->requests, &caller, RMK_STATUS_UNAUTHENTICATED, why.text);
    rmk_rpc_call_refuse(call, RMK_STATUS_UNAUTHENTICATED, why.text);
    return false;
}

/* ---- strings that may hold NULs
 * -------------------------------------------------------------------------- */

/* protobuf-c ends strings at a NUL, which a model may well generate. Such a text travels as an
 * unknown field with the text's own number: the same bytes on the wire. */
struct raw_text {
    ProtobufCMessageUnknownField field;
    uint8_t *data;
};

static size_t put_varint(uint8_t *out, uint64_t value)
{
    size_t size = 0;

    while (value >= 0x80) {
        out[size++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    out[size++] = (uint8_t)value;
    return size;
}

/* Set `*member`, field `number` of `message`, to `text`, which ends in a NUL after text.size bytes.
 */
static void set_text(ProtobufCMessage *message, uint32_t number, char **member,
                     struct rmk_bytes text, struct raw_text *raw)
{
    size_t size;

    *raw = (struct raw_text){0};
    if (text.size == 0) {
        return;
    }
    if (memchr(text.data, '\0', text.size) == NULL) {
        *member = (char *)(uintptr_t)text.data;
        return;
    }
    raw->data = malloc(text.size + 10);
    if (raw->data == NULL) {
        *member = (char *)(uintptr_t)text.data; /* cut at the NUL rather than lost */
        return;
    }
    size = put_varint(raw->data, text.size);
    memcpy(raw->data + size, text.data, text.size);
    raw->field.tag = number;
    raw->field.wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
    raw->field.data = raw->data;
    raw->field.len = size + text.size;
    message->n_unknown_fields = 1;
    message->unknown_fields = &raw->field;
}

/* ---- Generate, GenerateOnce
 * ---------------------------------------------------------------------------------- */

/* What may wait for a client that does not read: about a hundred rounds' canvases. There may be a
 * thousand such. */
enum { CLIENT_QUEUE_BYTES = 256 * 1024 };

struct generate {
    struct rmk_listener listener; /* first: a listener is a generate */
    struct rmk_grpc_api *api;
    struct rmk_rpc_call *call;
    bool once; /* GenerateOnce: only the result */
    bool return_ids;
    bool asked;     /* a request has come */
    bool listening; /* the requests table knows us */
};

static void send_event(struct generate *generate, const Remask__V1__GenerateEvent *event)
{
    if (!rmk_pack_send(generate->call, &event->base) && generate->listening) {
        rmk_requests_slow(generate->api->requests, &generate->listener, true);
    }
}

static void on_accepted(struct rmk_listener *listener, const char *request_id, uint32_t prompt_rows)
{
    struct generate *generate = (struct generate *)listener;
    Remask__V1__Accepted accepted = REMASK__V1__ACCEPTED__INIT;
    Remask__V1__GenerateEvent event = REMASK__V1__GENERATE_EVENT__INIT;

    if (generate->once) {
        return;
    }
    accepted.request_id = (char *)(uintptr_t)request_id;
    accepted.prompt_rows = prompt_rows;
    event.kind_case = REMASK__V1__GENERATE_EVENT__KIND_ACCEPTED;
    event.accepted = &accepted;
    send_event(generate, &event);
}

/* A NUL-terminated copy: deltas are cut out of a longer text. */
static char *copy_text(struct rmk_bytes text)
{
    char *copy = malloc(text.size + 1);

    if (copy != NULL) {
        if (text.size > 0) {
            memcpy(copy, text.data, text.size);
        }
        copy[text.size] = '\0';
    }
    return copy;
}

static void on_text(struct rmk_listener *listener, struct rmk_bytes text, const int32_t *ids,
                    uint32_t id_count)
{
    struct generate *generate = (struct generate *)listener;
    Remask__V1__TextDelta delta = REMASK__V1__TEXT_DELTA__INIT;
    Remask__V1__GenerateEvent event = REMASK__V1__GENERATE_EVENT__INIT;
    struct raw_text raw;
    char *copy;

    if (generate->once || (text.size == 0 && !generate->return_ids)) {
        return;
    }
    copy = copy_text(text);
    if (copy == NULL) {
        return; /* the result has the whole text */
    }
    set_text(&delta.base, 1, &delta.text, rmk_bytes_of(copy, text.size), &raw);
    if (generate->return_ids) {
        delta.n_ids = id_count;
        delta.ids = (int32_t *)(uintptr_t)ids;
    }
    event.kind_case = REMASK__V1__GENERATE_EVENT__KIND_TEXT;
    event.text = &delta;
    send_event(generate, &event);
    free(raw.data);
    free(copy);
}

static void on_canvas(struct rmk_listener *listener, const struct rmk_canvas *canvas)
{
    struct generate *generate = (struct generate *)listener;
    Remask__V1__Canvas out = REMASK__V1__CANVAS__INIT;
    Remask__V1__GenerateEvent event = REMASK__V1__GENERATE_EVENT__INIT;
    struct raw_text raw;

    set_text(&out.base, 2, &out.text, canvas->text, &raw);
    out.n_ids = canvas->id_count;
    out.ids = (int32_t *)(uintptr_t)canvas->ids;
    out.block = canvas->block;
    out.step = canvas->step;
    event.kind_case = REMASK__V1__GENERATE_EVENT__KIND_CANVAS;
    event.canvas = &out;
    send_event(generate, &event);
    free(raw.data);
}

static void send_result(struct generate *generate, const struct rmk_outcome *outcome)
{
    const struct rmk_result *result = outcome->result;
    Remask__V1__GenerateResult out = REMASK__V1__GENERATE_RESULT__INIT;
    Remask__V1__GenerateEvent event = REMASK__V1__GENERATE_EVENT__INIT;
    Remask__V1__Usage usage = REMASK__V1__USAGE__INIT;
    struct raw_text raw;

    out.request_id = (char *)(uintptr_t)outcome->request_id;
    set_text(&out.base, 2, &out.text, rmk_bytes_of(result->text, result->text_size), &raw);
    out.n_ids = result->id_count;
    out.ids = result->ids;
    out.finish_reason = (char *)(uintptr_t)rmk_result_reason(result);
    out.model = (char *)(uintptr_t)generate->api->model_name;
    out.usage = &usage;
    usage.prompt_rows = result->prompt_rows;
    usage.image_rows = result->image_rows;
    usage.image_tiles = result->image_tiles;
    usage.completion_tokens = result->id_count - result->suffix_count;
    usage.forwards = result->usage.forwards;
    usage.recoveries = result->usage.recoveries;
    usage.restarted = result->usage.restarted;
    usage.queue_us = result->usage.queue_us;
    usage.encode_us = result->usage.encode_us;
    usage.first_commit_us = result->usage.first_commit_us;
    usage.compute_us = result->usage.compute_us;
    usage.total_us = result->usage.total_us;
    usage.refreshes = result->usage.refreshes;
    usage.replays = result->usage.replays;
    if (result->usage.forwards > 0) {
        usage.tokens_per_forward = (double)result->usage.committed / (double)result->usage.forwards;
    }
    usage.profile = (char *)(uintptr_t)result->profile;
    usage.numerics = (char *)(uintptr_t)result->numerics;
    if (generate->once) {
        (void)rmk_pack_send(generate->call, &out.base);
    } else {
        event.kind_case = REMASK__V1__GENERATE_EVENT__KIND_RESULT;
        event.result = &out;
        (void)rmk_pack_send(generate->call, &event.base);
    }
    free(raw.data);
}

static void on_ended(struct rmk_listener *listener, const struct rmk_outcome *outcome)
{
    struct generate *generate = (struct generate *)listener;

    generate->listening = false;
    if (outcome->result != NULL) {
        send_result(generate, outcome);
    }
    rmk_rpc_call_finish(generate->call, outcome->status, outcome->why);
}

static const struct rmk_listener_ops listener_ops = {
    .accepted = on_accepted,
    .text = on_text,
    .canvas = on_canvas,
    .ended = on_ended,
};

/* Which lane the call says it rides in. */
static enum rmk_err lane_of(const struct rmk_rpc_call *call, enum rmk_lane *out_lane,
                            struct rmk_why *why)
{
    const char *lane = rmk_rpc_call_metadata(call, "x-remask-lane");

    if (lane == NULL || strcmp(lane, "online") == 0) {
        *out_lane = RMK_LANE_ONLINE;
        return RMK_OK;
    }
    if (strcmp(lane, "batch") == 0) {
        *out_lane = RMK_LANE_BATCH;
        return RMK_OK;
    }
    return rmk_fail(why, RMK_EINVAL, "x-remask-lane: %.40s is not known; online and batch are",
                    lane);
}

static void on_generate_message(struct rmk_rpc_call *call, struct rmk_bytes bytes, void *context)
{
    struct generate *generate = context;
    Remask__V1__GenerateRequest *request;
    ProtobufCMessage *message = NULL;
    struct rmk_ask *ask = NULL;
    struct rmk_why why = {0};
    enum rmk_lane lane = RMK_LANE_ONLINE;
    enum rmk_err err;

    if (generate->asked) {
        return; /* a second message on a call that takes one */
    }
    generate->asked = true;
    RMK_TRY(lane_of(call, &lane, &why));
    RMK_TRY(rmk_unpack(&remask__v1__generate_request__descriptor, bytes, &message, &why));
    request = (Remask__V1__GenerateRequest *)message;
    generate->return_ids = request->return_ids;
    generate->listener.wants_canvas = request->stream_canvas && !generate->once;
    RMK_TRY(rmk_grpc_ask(generate->api->images, rmk_requests_tenant(&generate->listener), request,
                         bytes.size, &ask, &why));
    ask->lane = lane;
    ask->watched = generate->listener.wants_canvas;
    generate->listening = true;
    rmk_requests_open(generate->api->requests, ask, rmk_rpc_call_deadline_us(call),
                      &generate->listener);
out:
    if (err != RMK_OK) {
        rmk_requests_refuse(generate->api->requests, &generate->listener, rmk_status_of(err),
                            why.text);
        rmk_rpc_call_finish(call, rmk_status_of(err), why.text);
    }
}

static void on_generate_writable(struct rmk_rpc_call *call, void *context)
{
    struct generate *generate = context;

    (void)call;
    if (generate->listening) {
        rmk_requests_slow(generate->api->requests, &generate->listener, false);
    }
}

/* The client ended its side without having asked. */
static void on_generate_half_close(struct rmk_rpc_call *call, void *context)
{
    struct generate *generate = context;

    if (!generate->asked) {
        generate->asked = true;
        rmk_rpc_call_finish(call, RMK_STATUS_INVALID_ARGUMENT, "the call has no request");
    }
}

static void on_generate_done(struct rmk_rpc_call *call, int status, const char *message,
                             void *context)
{
    struct generate *generate = context;

    (void)call;
    (void)status;
    (void)message;
    if (generate->listening) {
        rmk_requests_leave(generate->api->requests, &generate->listener);
    }
    generate->api->call_count--;
    free(generate);
}

static void begin(struct rmk_rpc_call *call, struct rmk_grpc_api *api, bool once)
{
    static const struct rmk_rpc_events events = {
        .on_message = on_generate_message,
        .on_half_close = on_generate_half_close,
        .on_writable = on_generate_writable,
        .on_done = on_generate_done,
    };
    const char *method = once ? "GenerateOnce" : "Generate";
    const struct rmk_tenant *tenant;
    struct generate *generate;

    if (!authorize(api, call, method, &tenant)) {
        return;
    }
    generate = calloc(1, sizeof(*generate));
    if (generate == NULL) {
        rmk_rpc_call_refuse(call, RMK_STATUS_RESOURCE_EXHAUSTED, "no memory for a call");
        return;
    }
    generate->listener.ops = &listener_ops;
    generate->listener.peer = rmk_rpc_call_peer(call);
    generate->listener.method = method;
    generate->listener.tenant = tenant;
    generate->api = api;
    generate->call = call;
    generate->once = once;
    api->call_count++;
    rmk_rpc_call_set_mark(call, CLIENT_QUEUE_BYTES);
    rmk_rpc_call_set_stall(call, api->stall_timeout_ms);
    rmk_rpc_call_listen(call, &events, generate);
}

static void on_generate(struct rmk_rpc_call *call, void *context)
{
    begin(call, context, false);
}

static void on_generate_once(struct rmk_rpc_call *call, void *context)
{
    begin(call, context, true);
}

/* ---- Status
 * -----------------------------------------------------------------------------------------------------
 */

struct status_reply {
    Remask__V1__StatusReply reply;
    Remask__V1__GroupStatus *groups;
    Remask__V1__VisionStatus *visions;
};

static bool add_groups(struct status_reply *status, const struct rmk_texts *texts)
{
    uint32_t count = rmk_texts_count(texts);

    status->groups = calloc((size_t)count + 1, sizeof(*status->groups));
    status->reply.groups = calloc((size_t)count + 1, sizeof(*status->reply.groups));
    if (status->groups == NULL || status->reply.groups == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        Remask__V1__GroupStatus *group = &status->groups[i];
        struct rmk_text_status text;

        (void)rmk_texts_status(texts, i, &text);
        remask__v1__group_status__init(group);
        group->ranks = calloc(RMK_TP_RANKS_MAX, sizeof(*group->ranks));
        if (group->ranks == NULL) {
            return false;
        }
        for (uint32_t rank = 0; rank < text.size; rank++) {
            if (text.rank_names[rank] != NULL) {
                group->ranks[group->n_ranks++] = (char *)(uintptr_t)text.rank_names[rank];
            }
        }
        group->name = (char *)(uintptr_t)text.name;
        group->state = (char *)(uintptr_t)rmk_group_state_name(text.state);
        group->epoch = text.epoch;
        group->size = text.size;
        group->numerics = (char *)(uintptr_t)text.numerics;
        group->rounds = text.round_count;
        status->reply.groups[status->reply.n_groups++] = group;
    }
    return true;
}

static bool add_visions(struct status_reply *status, const struct rmk_visions *visions)
{
    uint32_t count = rmk_visions_max(visions);

    status->visions = calloc((size_t)count + 1, sizeof(*status->visions));
    status->reply.visions = calloc((size_t)count + 1, sizeof(*status->reply.visions));
    if (status->visions == NULL || status->reply.visions == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        Remask__V1__VisionStatus *out = &status->visions[status->reply.n_visions];
        struct rmk_vision_status vision;

        if (!rmk_visions_status(visions, i, &vision)) {
            continue;
        }
        remask__v1__vision_status__init(out);
        out->name = (char *)(uintptr_t)vision.name;
        out->address = (char *)(uintptr_t)vision.address;
        out->epoch = vision.epoch;
        out->encoded = vision.encoded_count;
        status->reply.visions[status->reply.n_visions++] = out;
    }
    return true;
}

static void on_status_message(struct rmk_rpc_call *call, struct rmk_bytes message, void *context)
{
    struct rmk_grpc_api *api = context;
    struct status_reply status = {.reply = REMASK__V1__STATUS_REPLY__INIT};
    Remask__V1__StatusReply *reply = &status.reply;
    struct rmk_engine_counts counts;

    (void)message; /* StatusRequest is empty */
    rmk_engine_count(api->engine, &counts);
    reply->version = (char *)(uintptr_t)RMK_VERSION;
    reply->model = (char *)(uintptr_t)api->model_name;
    reply->state = (char *)(uintptr_t)api->state(api->context);
    reply->uptime_us = rmk_clock_us() - api->started_us;
    reply->open_requests = counts.open;
    reply->queued_requests = counts.queued;
    reply->accepted = counts.accepted;
    reply->refused = counts.refused;
    if (add_groups(&status, rmk_links_texts(api->links)) &&
        add_visions(&status, rmk_links_visions(api->links))) {
        (void)rmk_pack_send(call, &reply->base);
        rmk_rpc_call_finish(call, RMK_STATUS_OK, NULL);
    } else {
        rmk_rpc_call_finish(call, RMK_STATUS_RESOURCE_EXHAUSTED, "no memory for a status");
    }
    for (size_t i = 0; i < reply->n_groups; i++) {
        free(reply->groups[i]->ranks);
    }
    free(reply->groups);
    free(reply->visions);
    free(status.groups);
    free(status.visions);
}

static void on_status(struct rmk_rpc_call *call, void *context)
{
    static const struct rmk_rpc_events events = {.on_message = on_status_message};
    const struct rmk_tenant *tenant;

    if (authorize(context, call, "Status", &tenant)) {
        rmk_rpc_call_listen(call, &events, context);
    }
}

void rmk_grpc_api_methods(struct rmk_grpc_api *api,
                          struct rmk_rpc_method out_methods[RMK_GRPC_API_METHOD_COUNT])
{
    out_methods[0] = (struct rmk_rpc_method){
        .path = "/remask.v1.Remask/Generate", .on_call = on_generate, .context = api};
    out_methods[1] = (struct rmk_rpc_method){
        .path = "/remask.v1.Remask/GenerateOnce", .on_call = on_generate_once, .context = api};
    out_methods[2] = (struct rmk_rpc_method){
        .path = "/remask.v1.Remask/Status", .on_call = on_status, .context = api};
}
