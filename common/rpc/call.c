#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/support/alloc.h>

#include "common/clock.h"
#include "common/rpc/internal.h"

/* A message waiting for its turn. */
struct outgoing {
    struct rmk_list link;
    grpc_byte_buffer *buffer;
    size_t size;
};

/* A metadata value as the C string we handed out. */
struct text {
    struct text *next;
    const char *key;
    char value[];
};

struct rmk_rpc_call {
    struct rmk_list link;  /* rpc->calls */
    struct rmk_list dirty; /* rpc->dirty while there is something to send */
    struct rmk_rpc *rpc;
    grpc_call *core;
    bool is_server;
    struct rmk_rpc_events events;
    void *context;
    void (*released)(void *channel);
    void *channel;
    unsigned ops_pending;

    /* Reading: one RECV_MESSAGE at a time. */
    struct rmk_rpc_op receive_op;
    grpc_byte_buffer *incoming;
    bool receiving;
    bool paused;
    bool receive_ended;

    /* Sending: one batch at a time, made from whatever waits: headers, one message, the end. */
    struct rmk_rpc_op send_op;
    struct rmk_list queue; /* of struct outgoing */
    struct outgoing *sending;
    bool send_pending;
    size_t queued_bytes;
    size_t queue_mark; /* 0: RMK_RPC_QUEUE_BYTES */
    bool above_mark;
    bool headers_sent;
    bool end_wanted; /* server: finish; client: half close */
    bool end_sent;
    bool send_failed;
    bool cancelled; /* by us */

    /* The end: RECV_CLOSE_ON_SERVER or RECV_STATUS_ON_CLIENT. */
    struct rmk_rpc_op close_op;
    bool over;
    int server_cancelled;
    grpc_status_code status;
    grpc_slice status_text;

    grpc_metadata_array metadata; /* server: request headers; client: response headers, unused */
    grpc_metadata_array trailers; /* client */
    grpc_metadata headers[RMK_RPC_HEADERS_MAX];
    size_t header_count;
    uint32_t header_flags;
    char *peer;
    struct text *texts;
    uint64_t deadline_us;
};

static void start_receiving(struct rmk_rpc_call *call);

struct rmk_rpc_call *rmk_rpc_call_of_dirty(struct rmk_list *link)
{
    return rmk_list_entry(link, struct rmk_rpc_call, dirty);
}

struct rmk_rpc_call *rmk_rpc_call_of_link(struct rmk_list *link)
{
    return rmk_list_entry(link, struct rmk_rpc_call, link);
}

static void start_batch(struct rmk_rpc_call *call, struct rmk_rpc_op *op, const grpc_op *ops,
                        size_t count, void (*complete)(struct rmk_rpc_op *, void *, bool))
{
    grpc_call_error error =
        grpc_call_start_batch(call->core, ops, count, rmk_rpc_op_tag(op, call, complete), NULL);

    /* Every error here is a batch that we put together wrongly. */
    rmk_assert(error == GRPC_CALL_OK);
    call->ops_pending++;
}

/* ---- birth and death ----------------------------------------------------------------------- */

static struct rmk_rpc_call *create_call(struct rmk_rpc *rpc, grpc_call *core)
{
    struct rmk_rpc_call *call = calloc(1, sizeof(*call));

    rmk_assert(call != NULL); /* the core itself aborts when memory is out */
    call->rpc = rpc;
    call->core = core;
    rmk_list_init(&call->dirty);
    rmk_list_init(&call->queue);
    rmk_list_append(&rpc->calls, &call->link);
    grpc_metadata_array_init(&call->metadata);
    grpc_metadata_array_init(&call->trailers);
    call->status_text = grpc_empty_slice();
    return call;
}

static void free_outgoing(struct outgoing *outgoing)
{
    if (outgoing != NULL) {
        grpc_byte_buffer_destroy(outgoing->buffer);
        free(outgoing);
    }
}

static void drop_queue(struct rmk_rpc_call *call)
{
    struct rmk_list *link;
    struct rmk_list *following;

    rmk_list_each(link, following, &call->queue)
    {
        struct outgoing *outgoing = rmk_list_entry(link, struct outgoing, link);
        call->queued_bytes -= outgoing->size;
        rmk_list_remove(link);
        free_outgoing(outgoing);
    }
}

static void destroy_call(struct rmk_rpc_call *call)
{
    drop_queue(call);
    rmk_list_remove(&call->dirty);
    for (size_t i = 0; i < call->header_count; i++) {
        grpc_slice_unref(call->headers[i].key);
        grpc_slice_unref(call->headers[i].value);
    }
    grpc_metadata_array_destroy(&call->metadata);
    grpc_metadata_array_destroy(&call->trailers);
    grpc_slice_unref(call->status_text);
    grpc_call_unref(call->core);
    gpr_free(call->peer);
    while (call->texts != NULL) {
        struct text *text = call->texts;
        call->texts = text->next;
        free(text);
    }
    free(call);
}

/* The one place where a call ends: its end is known and no batch will come back any more. */
static void check_done(struct rmk_rpc_call *call)
{
    struct rmk_rpc *rpc = call->rpc;
    int status = (int)call->status;

    if (!call->over || call->ops_pending > 0) {
        return;
    }
    rmk_list_remove(&call->link);
    if (call->is_server && (call->server_cancelled || !call->end_sent || call->send_failed)) {
        status = RMK_STATUS_CANCELLED;
    }
    if (call->events.on_done != NULL) {
        char *text = grpc_slice_to_c_string(call->status_text);
        call->events.on_done(call, status, text, call->context);
        gpr_free(text);
    }
    void (*released)(void *) = call->released;
    void *channel = call->channel;
    destroy_call(call);
    if (released != NULL) {
        released(channel);
    }
    rmk_rpc_check_closed(rpc);
}

static void on_close_complete(struct rmk_rpc_op *op, void *owner, bool ok)
{
    struct rmk_rpc_call *call = owner;

    (void)op;
    (void)ok; /* these two operations always succeed */
    call->ops_pending--;
    call->over = true;
    drop_queue(call);
    check_done(call);
}

/* ---- reading ------------------------------------------------------------------------------- */

static void deliver_message(struct rmk_rpc_call *call, grpc_byte_buffer *buffer)
{
    grpc_byte_buffer_reader reader;
    grpc_slice *first = NULL;

    int readable = grpc_byte_buffer_reader_init(&reader, buffer);
    rmk_assert(readable == 1); /* raw buffers always are */
    if (buffer->data.raw.slice_buffer.count == 1 &&
        grpc_byte_buffer_reader_peek(&reader, &first) == 1) {
        struct rmk_bytes message =
            rmk_bytes_of(GRPC_SLICE_START_PTR(*first), GRPC_SLICE_LENGTH(*first));
        call->events.on_message(call, message, call->context);
    } else {
        grpc_slice whole = grpc_byte_buffer_reader_readall(&reader);
        struct rmk_bytes message =
            rmk_bytes_of(GRPC_SLICE_START_PTR(whole), GRPC_SLICE_LENGTH(whole));
        call->events.on_message(call, message, call->context);
        grpc_slice_unref(whole);
    }
    grpc_byte_buffer_reader_destroy(&reader);
}

/* A server that has finished a call, and whoever has cancelled one, hears no more of it but its
 * end. */
static bool is_listening(const struct rmk_rpc_call *call)
{
    return !call->cancelled && !(call->is_server && call->end_wanted);
}

static void end_receiving(struct rmk_rpc_call *call, bool ok)
{
    call->receive_ended = true;
    /* Also comes when the call breaks; a server must not take that for "the client has said all".
     */
    if (ok && !grpc_call_failed_before_recv_message(call->core) && is_listening(call) &&
        call->events.on_half_close != NULL) {
        call->events.on_half_close(call, call->context);
    }
}

static void on_receive_complete(struct rmk_rpc_op *op, void *owner, bool ok)
{
    struct rmk_rpc_call *call = owner;
    grpc_byte_buffer *buffer = call->incoming;

    (void)op;
    call->receiving = false;
    call->incoming = NULL;
    if (buffer == NULL) {
        end_receiving(call, ok);
    } else {
        if (ok && is_listening(call)) {
            deliver_message(call, buffer);
        }
        grpc_byte_buffer_destroy(buffer);
        start_receiving(call);
    }
    call->ops_pending--; /* last: the callbacks above must not end the call under our feet */
    check_done(call);
}

static void start_receiving(struct rmk_rpc_call *call)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &call->incoming};

    if (call->paused || call->receiving || call->receive_ended) {
        return;
    }
    call->receiving = true;
    start_batch(call, &call->receive_op, &op, 1, on_receive_complete);
}

void rmk_rpc_call_pause(struct rmk_rpc_call *call)
{
    call->paused = true;
}

void rmk_rpc_call_resume(struct rmk_rpc_call *call)
{
    call->paused = false;
    if (!call->over) {
        start_receiving(call);
    }
}

/* ---- sending ------------------------------------------------------------------------------- */

static void on_send_complete(struct rmk_rpc_op *op, void *owner, bool ok);

static bool may_send(const struct rmk_rpc_call *call)
{
    return !call->end_sent && !call->send_failed && !call->over && !call->cancelled;
}

static void mark_dirty(struct rmk_rpc_call *call)
{
    if (rmk_list_empty(&call->dirty)) {
        rmk_list_append(&call->rpc->dirty, &call->dirty);
    }
}

static grpc_op headers_op(const struct rmk_rpc_call *call)
{
    return (grpc_op){
        .op = GRPC_OP_SEND_INITIAL_METADATA,
        .flags = call->header_flags,
        .data.send_initial_metadata = {.count = call->header_count,
                                       .metadata = (grpc_metadata *)(uintptr_t)call->headers}};
}

static grpc_op end_op(struct rmk_rpc_call *call)
{
    if (!call->is_server) {
        return (grpc_op){.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
    }
    return (grpc_op){.op = GRPC_OP_SEND_STATUS_FROM_SERVER,
                     .data.send_status_from_server = {
                         .status = call->status,
                         .status_details =
                             GRPC_SLICE_LENGTH(call->status_text) > 0 ? &call->status_text : NULL}};
}

void rmk_rpc_call_flush(struct rmk_rpc_call *call)
{
    grpc_op ops[3];
    size_t count = 0;

    if (call->send_pending || !may_send(call)) {
        return;
    }
    if (!rmk_list_empty(&call->queue)) {
        call->sending = rmk_list_entry(call->queue.next, struct outgoing, link);
        rmk_list_remove(&call->sending->link);
    }
    bool ending = call->end_wanted && rmk_list_empty(&call->queue);
    /* A server's headers wait for the first message or the end, a client's for nothing. */
    if (!call->headers_sent && (!call->is_server || call->sending != NULL || ending)) {
        call->headers_sent = true;
        ops[count++] = headers_op(call);
    }
    if (call->sending != NULL) {
        ops[count++] = (grpc_op){.op = GRPC_OP_SEND_MESSAGE,
                                 .data.send_message.send_message = call->sending->buffer};
    }
    if (ending) {
        call->end_sent = true;
        ops[count++] = end_op(call);
    }
    if (count > 0) {
        call->send_pending = true;
        start_batch(call, &call->send_op, ops, count, on_send_complete);
    }
}

static size_t mark_of(const struct rmk_rpc_call *call)
{
    return call->queue_mark != 0 ? call->queue_mark : RMK_RPC_QUEUE_BYTES;
}

static void on_send_complete(struct rmk_rpc_op *op, void *owner, bool ok)
{
    struct rmk_rpc_call *call = owner;

    (void)op;
    call->send_pending = false;
    if (call->sending != NULL) {
        call->queued_bytes -= call->sending->size;
        free_outgoing(call->sending);
        call->sending = NULL;
    }
    if (!ok) {
        /* The call is broken; why comes with its end. */
        call->send_failed = true;
        drop_queue(call);
    }
    rmk_rpc_call_flush(call);
    if (call->above_mark && call->queued_bytes < mark_of(call) / 2 && may_send(call)) {
        call->above_mark = false;
        if (call->events.on_writable != NULL) {
            call->events.on_writable(call, call->context);
        }
    }
    call->ops_pending--;
    check_done(call);
}

bool rmk_rpc_call_send_slice(struct rmk_rpc_call *call, grpc_slice slice)
{
    if (!may_send(call) || call->end_wanted) {
        grpc_slice_unref(slice);
        return false;
    }
    struct outgoing *outgoing = calloc(1, sizeof(*outgoing));
    rmk_assert(outgoing != NULL);
    outgoing->size = GRPC_SLICE_LENGTH(slice);
    outgoing->buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    rmk_list_append(&call->queue, &outgoing->link);
    call->queued_bytes += outgoing->size;
    call->above_mark = call->above_mark || call->queued_bytes > mark_of(call);
    mark_dirty(call);
    return !call->above_mark;
}

bool rmk_rpc_call_send(struct rmk_rpc_call *call, struct rmk_bytes message)
{
    return rmk_rpc_call_send_slice(
        call, grpc_slice_from_copied_buffer((const char *)message.data, message.size));
}

void rmk_rpc_call_set_mark(struct rmk_rpc_call *call, size_t bytes)
{
    call->queue_mark = bytes;
}

size_t rmk_rpc_call_queued_bytes(const struct rmk_rpc_call *call)
{
    return call->queued_bytes;
}

void rmk_rpc_call_finish(struct rmk_rpc_call *call, int status, const char *message)
{
    rmk_assert(call->is_server);
    if (call->end_wanted || !may_send(call)) {
        return;
    }
    call->end_wanted = true;
    call->status = (grpc_status_code)status;
    call->status_text = grpc_slice_from_copied_string(message != NULL ? message : "");
    mark_dirty(call);
}

void rmk_rpc_call_refuse(struct rmk_rpc_call *call, int status, const char *message)
{
    rmk_rpc_call_ignore(call);
    rmk_rpc_call_finish(call, status, message);
}

void rmk_rpc_call_half_close(struct rmk_rpc_call *call)
{
    rmk_assert(!call->is_server);
    call->end_wanted = true;
    mark_dirty(call);
}

void rmk_rpc_call_cancel(struct rmk_rpc_call *call)
{
    if (call->cancelled || call->over) {
        return;
    }
    call->cancelled = true;
    drop_queue(call);
    grpc_call_error error = grpc_call_cancel(call->core, NULL);
    rmk_assert(error == GRPC_CALL_OK);
}

/* ---- a server's call ----------------------------------------------------------------------- */

/* Deadlines come on the core's clock; only the distance means something on ours. */
static uint64_t deadline_of(gpr_timespec deadline)
{
    if (gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) == 0) {
        return 0;
    }
    gpr_timespec left = gpr_time_sub(deadline, gpr_now(deadline.clock_type));
    int64_t left_us = left.tv_sec * 1000000 + left.tv_nsec / 1000;
    uint64_t now_us = rmk_clock_us();

    return left_us > 0 ? now_us + (uint64_t)left_us : now_us;
}

struct rmk_rpc_call *rmk_rpc_call_accept(struct rmk_rpc *rpc, grpc_call *core,
                                         grpc_metadata_array *metadata, gpr_timespec deadline)
{
    struct rmk_rpc_call *call = create_call(rpc, core);
    grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
                  .data.recv_close_on_server.cancelled = &call->server_cancelled};

    call->is_server = true;
    call->metadata = *metadata;
    call->deadline_us = deadline_of(deadline);
    start_batch(call, &call->close_op, &op, 1, on_close_complete);
    return call;
}

void rmk_rpc_call_begin_reading(struct rmk_rpc_call *call)
{
    rmk_assert(call->events.on_message != NULL); /* the handler has to listen */
    start_receiving(call);
}

void rmk_rpc_call_listen(struct rmk_rpc_call *call, const struct rmk_rpc_events *events,
                         void *context)
{
    rmk_assert(events->on_message != NULL);
    call->events = *events;
    call->context = context;
}

static void ignore_message(struct rmk_rpc_call *call, struct rmk_bytes message, void *context)
{
    (void)call;
    (void)message;
    (void)context;
}

void rmk_rpc_call_ignore(struct rmk_rpc_call *call)
{
    static const struct rmk_rpc_events nothing = {.on_message = ignore_message};

    rmk_rpc_call_listen(call, &nothing, NULL);
}

/* ---- a client's call ----------------------------------------------------------------------- */

/* Returns the key whose value cannot be sent, or NULL. */
static const char *add_headers(struct rmk_rpc_call *call, const char *const *metadata)
{
    for (; metadata != NULL && metadata[0] != NULL; metadata += 2) {
        grpc_slice key = grpc_slice_from_copied_string(metadata[0]);
        grpc_slice value = grpc_slice_from_copied_string(metadata[1]);
        rmk_assert(call->header_count < RMK_RPC_HEADERS_MAX);
        rmk_assert(grpc_header_key_is_legal(key));
        rmk_assert(!grpc_is_binary_header(key));
        if (!grpc_header_nonbin_value_is_legal(value)) {
            grpc_slice_unref(key);
            grpc_slice_unref(value);
            return metadata[0];
        }
        call->headers[call->header_count++] = (grpc_metadata){.key = key, .value = value};
    }
    return NULL;
}

struct rmk_rpc_call *rmk_rpc_call_start(struct rmk_rpc *rpc, grpc_call *core, uint32_t flags,
                                        const char *const *metadata,
                                        const struct rmk_rpc_events *events, void *context,
                                        void (*released)(void *channel), void *channel)
{
    struct rmk_rpc_call *call = create_call(rpc, core);
    const char *bad_key = add_headers(call, metadata);

    call->header_flags = flags;
    call->released = released;
    call->channel = channel;
    rmk_rpc_call_listen(call, events, context);

    grpc_op ops[] = {
        {.op = GRPC_OP_RECV_INITIAL_METADATA,
         .data.recv_initial_metadata.recv_initial_metadata = &call->metadata},
        {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
         .data.recv_status_on_client = {.trailing_metadata = &call->trailers,
                                        .status = &call->status,
                                        .status_details = &call->status_text}},
    };
    start_batch(call, &call->close_op, ops, 2, on_close_complete);
    start_receiving(call);
    mark_dirty(call);
    if (bad_key != NULL) {
        char text[128];
        (void)snprintf(text, sizeof(text), "metadata %s cannot be sent: not printable", bad_key);
        call->cancelled = true; /* before anything of it has left */
        (void)grpc_call_cancel_with_status(core, GRPC_STATUS_INVALID_ARGUMENT, text, NULL);
    }
    if (rpc->closing) {
        rmk_rpc_call_cancel(call);
    }
    return call;
}

/* ---- what a call knows --------------------------------------------------------------------- */

void *rmk_rpc_call_context(const struct rmk_rpc_call *call)
{
    return call->context;
}

const char *rmk_rpc_call_peer(const struct rmk_rpc_call *call)
{
    struct rmk_rpc_call *cache = (struct rmk_rpc_call *)(uintptr_t)call;

    if (call->peer == NULL) {
        cache->peer = grpc_call_get_peer(call->core);
    }
    return call->peer;
}

uint64_t rmk_rpc_call_deadline_us(const struct rmk_rpc_call *call)
{
    return call->deadline_us;
}

static const grpc_metadata *find_metadata(const struct rmk_rpc_call *call, const char *key)
{
    for (size_t i = 0; i < call->metadata.count; i++) {
        if (grpc_slice_str_cmp(call->metadata.metadata[i].key, key) == 0) {
            return &call->metadata.metadata[i];
        }
    }
    return NULL;
}

const char *rmk_rpc_call_metadata(const struct rmk_rpc_call *call, const char *key)
{
    struct rmk_rpc_call *cache = (struct rmk_rpc_call *)(uintptr_t)call;
    const grpc_metadata *found = call->is_server ? find_metadata(call, key) : NULL;

    for (const struct text *text = call->texts; text != NULL; text = text->next) {
        if (strcmp(text->key, key) == 0) {
            return text->value;
        }
    }
    if (found == NULL) {
        return NULL;
    }
    size_t size = GRPC_SLICE_LENGTH(found->value);
    struct text *text = malloc(sizeof(*text) + size + 1);
    rmk_assert(text != NULL);
    memcpy(text->value, GRPC_SLICE_START_PTR(found->value), size);
    text->value[size] = '\0';
    text->key = key; /* callers pass literals */
    text->next = cache->texts;
    cache->texts = text;
    return text->value;
}
