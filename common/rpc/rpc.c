#include "common/rpc/rpc.h"

#include <stdlib.h>
#include <string.h>

#include <grpc/support/log.h>

#include "common/log.h"
#include "common/process.h"
#include "common/rpc/internal.h"

#if defined(__SANITIZE_THREAD__)
/* libgrpc is not instrumented, so TSan does not see that starting a batch happens before its
 * completion. */
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define TSAN_ACQUIRE(address) __tsan_acquire(address)
#define TSAN_RELEASE(address) __tsan_release(address)
#else
#define TSAN_ACQUIRE(address) ((void)(address))
#define TSAN_RELEASE(address) ((void)(address))
#endif

enum { OPEN_FILES_MIN = 48 }; /* event queues, their wake-ups, and some connections */

static const char *const status_names[RMK_STATUS_COUNT] = {
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
};

const char *rmk_status_name(int status)
{
    return status >= 0 && status < RMK_STATUS_COUNT ? status_names[status] : "UNKNOWN";
}

enum rmk_status rmk_status_of(enum rmk_err err)
{
    switch (err) {
    case RMK_OK:
        return RMK_STATUS_OK;
    case RMK_EINVAL:
    case RMK_ECORRUPT: /* what contradicts itself is a client's message or picture */
        return RMK_STATUS_INVALID_ARGUMENT;
    case RMK_ENOTFOUND:
        return RMK_STATUS_NOT_FOUND;
    case RMK_ELIMIT:
        return RMK_STATUS_RESOURCE_EXHAUSTED;
    case RMK_EUNSUPPORTED:
        return RMK_STATUS_UNIMPLEMENTED;
    case RMK_EUNAVAILABLE:
        return RMK_STATUS_UNAVAILABLE;
    case RMK_EDEADLINE:
        return RMK_STATUS_DEADLINE_EXCEEDED;
    case RMK_ECANCELLED:
        return RMK_STATUS_CANCELLED;
    case RMK_EEXISTS:
        return RMK_STATUS_ALREADY_EXISTS;
    case RMK_EIO:
    case RMK_EINTERNAL:
        return RMK_STATUS_INTERNAL;
    }
    return RMK_STATUS_INTERNAL;
}

enum rmk_err rmk_err_of_status(int status)
{
    switch (status) {
    case RMK_STATUS_OK:
        return RMK_OK;
    case RMK_STATUS_CANCELLED:
        return RMK_ECANCELLED;
    case RMK_STATUS_INVALID_ARGUMENT:
    case RMK_STATUS_OUT_OF_RANGE:
    case RMK_STATUS_FAILED_PRECONDITION:
    case RMK_STATUS_PERMISSION_DENIED:
    case RMK_STATUS_UNAUTHENTICATED:
        return RMK_EINVAL;
    case RMK_STATUS_DEADLINE_EXCEEDED:
        return RMK_EDEADLINE;
    case RMK_STATUS_NOT_FOUND:
        return RMK_ENOTFOUND;
    case RMK_STATUS_ALREADY_EXISTS:
        return RMK_EEXISTS;
    case RMK_STATUS_RESOURCE_EXHAUSTED:
        return RMK_ELIMIT;
    case RMK_STATUS_UNIMPLEMENTED:
        return RMK_EUNSUPPORTED;
    case RMK_STATUS_UNAVAILABLE:
    case RMK_STATUS_ABORTED:
        return RMK_EUNAVAILABLE;
    case RMK_STATUS_DATA_LOSS:
        return RMK_ECORRUPT;
    default:
        return RMK_EINTERNAL;
    }
}

/* ---- the bridge ---------------------------------------------------------------------------- */

void *rmk_rpc_op_tag(struct rmk_rpc_op *op, void *owner,
                     void (*complete)(struct rmk_rpc_op *op, void *owner, bool ok))
{
    op->owner = owner;
    op->complete = complete;
    TSAN_RELEASE(op);
    return op;
}

static void run_queue(void *context)
{
    struct rmk_rpc *rpc = context;

    for (;;) {
        grpc_event event =
            grpc_completion_queue_next(rpc->queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN) {
            break;
        }
        struct rmk_rpc_op *op = event.tag;
        TSAN_ACQUIRE(op);
        op->ok = event.success != 0;
        rmk_mailbox_post(&rpc->mailbox, &op->item);
    }
    rmk_mailbox_post(&rpc->mailbox, &rpc->stopped);
}

static void on_mailbox_closed(void *context)
{
    struct rmk_rpc *rpc = context;

    rmk_assert(rmk_list_empty(&rpc->dirty));
    grpc_shutdown_blocking();
    if (rpc->closed != NULL) {
        rpc->closed(rpc->closed_context);
    }
    free(rpc);
}

static void on_watch_closed(uv_handle_t *handle)
{
    struct rmk_rpc *rpc = handle->data;

    rmk_mailbox_close(&rpc->mailbox, on_mailbox_closed);
}

static void on_flusher_closed(uv_handle_t *handle)
{
    struct rmk_rpc *rpc = handle->data;

    uv_close((uv_handle_t *)&rpc->watch, on_watch_closed);
}

static void on_stopped(struct rmk_rpc *rpc)
{
    (void)uv_thread_join(&rpc->thread);
    grpc_completion_queue_destroy(rpc->queue);
    uv_close((uv_handle_t *)&rpc->flusher, on_flusher_closed);
}

static void on_delivered(struct rmk_mailbox_item *item, void *context)
{
    struct rmk_rpc *rpc = context;

    if (item == &rpc->stopped) {
        on_stopped(rpc);
        return;
    }
    struct rmk_rpc_op *op = (struct rmk_rpc_op *)(void *)item;
    op->complete(op, op->owner, op->ok);
}

/* Just before the loop waits: everything that one turn has queued on a call leaves in one batch. */
static void on_flush(uv_prepare_t *prepare)
{
    struct rmk_rpc *rpc = prepare->data;

    while (!rmk_list_empty(&rpc->dirty)) {
        struct rmk_list *link = rpc->dirty.next;
        rmk_list_remove(link);
        rmk_rpc_call_flush(rmk_rpc_call_of_dirty(link));
    }
}

static void on_grpc_log(gpr_log_func_args *args)
{
    const char *file = strrchr(args->file, '/');

    /* What the core calls an error is usually a peer that went away; we report that ourselves. */
    rmk_log(args->severity == GPR_LOG_SEVERITY_ERROR ? RMK_LOG_WARN : RMK_LOG_DEBUG, "grpc",
            "message from the core", "at=%s:%d text=%s", file != NULL ? file + 1 : args->file,
            args->line, args->message);
}

enum rmk_err rmk_rpc_create(uv_loop_t *loop, struct rmk_rpc **out_rpc, struct rmk_why *why)
{
    struct rmk_rpc *rpc;
    enum rmk_err err = rmk_process_check_open_files(OPEN_FILES_MIN, why);

    if (err != RMK_OK) {
        return err;
    }
    rpc = calloc(1, sizeof(*rpc));
    if (rpc == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for rpc");
    }
    rpc->loop = loop;
    rmk_list_init(&rpc->dirty);
    rmk_list_init(&rpc->calls);
    rmk_list_init(&rpc->servers);
    rmk_list_init(&rpc->channels);
    err = rmk_mailbox_init(&rpc->mailbox, loop, on_delivered, rpc, why);
    if (err != RMK_OK) {
        free(rpc);
        return err;
    }
    gpr_set_log_function(on_grpc_log);
    grpc_init();
    rpc->queue = grpc_completion_queue_create_for_next(NULL);
    (void)uv_timer_init(loop, &rpc->watch);
    rpc->watch.data = rpc;
    (void)uv_prepare_init(loop, &rpc->flusher);
    rpc->flusher.data = rpc;
    (void)uv_prepare_start(&rpc->flusher, on_flush);
    /* The mailbox keeps the loop alive. */
    uv_unref((uv_handle_t *)&rpc->flusher);
    int status = uv_thread_create(&rpc->thread, run_queue, rpc);
    /* Only when the system is out of threads, and then nothing else would work either. */
    rmk_assert(status == 0);
    *out_rpc = rpc;
    return RMK_OK;
}

void rmk_rpc_check_closed(struct rmk_rpc *rpc)
{
    if (!rpc->closing || rpc->stopping || !rmk_list_empty(&rpc->calls) ||
        !rmk_list_empty(&rpc->servers) || !rmk_list_empty(&rpc->channels)) {
        return;
    }
    rpc->stopping = true;
    grpc_completion_queue_shutdown(rpc->queue);
}

void rmk_rpc_close(struct rmk_rpc *rpc, void (*closed)(void *context), void *context)
{
    struct rmk_list *link;
    struct rmk_list *following;

    rmk_assert(!rpc->closing);
    rpc->closing = true;
    rpc->closed = closed;
    rpc->closed_context = context;
    rmk_list_each(link, following, &rpc->calls)
    {
        rmk_rpc_call_cancel(rmk_rpc_call_of_link(link));
    }
    rmk_list_each(link, following, &rpc->servers)
    {
        rmk_rpc_server_stop(link);
    }
    rmk_list_each(link, following, &rpc->channels)
    {
        rmk_rpc_channel_stop(link);
    }
    rmk_rpc_check_closed(rpc);
}
