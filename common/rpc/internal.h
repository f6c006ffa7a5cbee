/* What the files of common/rpc share. Nobody else includes it. */
#ifndef RMK_COMMON_RPC_INTERNAL_H
#define RMK_COMMON_RPC_INTERNAL_H

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include "common/list.h"
#include "common/rpc/mailbox.h"
#include "common/rpc/rpc.h"

/* One batch in flight. Its address is the tag that the completion queue hands back. */
struct rmk_rpc_op {
    struct rmk_mailbox_item item;
    void (*complete)(struct rmk_rpc_op *op, void *owner, bool ok);
    void *owner;
    bool ok;
};

struct rmk_rpc {
    uv_loop_t *loop;
    grpc_completion_queue *queue;
    uv_thread_t thread;
    struct rmk_mailbox mailbox;
    struct rmk_mailbox_item stopped; /* posted by the thread as its last act */
    uv_prepare_t flusher;
    uv_timer_t watch;      /* over calls that may stall; runs once one asks for it */
    struct rmk_list dirty; /* calls with something to send */
    struct rmk_list calls;
    struct rmk_list servers;
    struct rmk_list channels;
    bool closing;
    bool stopping;
    void (*closed)(void *context);
    void *closed_context;
};

/* Goes on with closing when the last call, server or channel has gone. */
void rmk_rpc_check_closed(struct rmk_rpc *rpc);

/* Every tag goes through here on its way into the core: TSan does not see the core's own locking.
 */
void *rmk_rpc_op_tag(struct rmk_rpc_op *op, void *owner,
                     void (*complete)(struct rmk_rpc_op *op, void *owner, bool ok));

/* ---- options.c ----------------------------------------------------------------------------- */

/* Request metadata of one call of ours. */
#define RMK_RPC_HEADERS_MAX 8

#define RMK_RPC_ARGS_MAX 24
struct rmk_rpc_args {
    grpc_arg items[RMK_RPC_ARGS_MAX];
    grpc_channel_args args;
    grpc_resource_quota *quota; /* server only */
};

void rmk_rpc_args_init(struct rmk_rpc_args *args, const struct rmk_rpc_options *options,
                       bool is_server);
void rmk_rpc_args_deinit(struct rmk_rpc_args *args);

/* HOST:PORT. Errors: RMK_EINVAL. */
enum rmk_err rmk_rpc_address_check(const char *address, struct rmk_why *why);

enum rmk_err rmk_rpc_server_credentials(const struct rmk_rpc_options *options,
                                        grpc_server_credentials **out, struct rmk_why *why);
enum rmk_err rmk_rpc_channel_credentials(const struct rmk_rpc_options *options,
                                         grpc_channel_credentials **out, struct rmk_why *why);

/* ---- call.c -------------------------------------------------------------------------------- */

/* A call that has arrived; takes `core` and `metadata`. */
struct rmk_rpc_call *rmk_rpc_call_accept(struct rmk_rpc *rpc, grpc_call *core,
                                         grpc_metadata_array *metadata, gpr_timespec deadline);
/* After the handler has listened: begin to read. */
void rmk_rpc_call_begin_reading(struct rmk_rpc_call *call);

/* A call of ours; takes `core`. `released` runs once, after on_done. */
struct rmk_rpc_call *rmk_rpc_call_start(struct rmk_rpc *rpc, grpc_call *core, uint32_t flags,
                                        const char *const *metadata,
                                        const struct rmk_rpc_events *events, void *context,
                                        void (*released)(void *channel), void *channel);

/* As rmk_rpc_call_send; takes the slice. */
bool rmk_rpc_call_send_slice(struct rmk_rpc_call *call, grpc_slice slice);

/* Send what is queued, if no send is under way. */
void rmk_rpc_call_flush(struct rmk_rpc_call *call);
struct rmk_rpc_call *rmk_rpc_call_of_dirty(struct rmk_list *link);
struct rmk_rpc_call *rmk_rpc_call_of_link(struct rmk_list *link);

/* ---- server.c, client.c -------------------------------------------------------------------- */

/* Refuse new calls and cancel those that are open; the server frees itself when all is quiet. */
void rmk_rpc_server_stop(struct rmk_list *link);
void rmk_rpc_channel_stop(struct rmk_list *link);

#endif
