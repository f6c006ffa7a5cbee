/* A connection to a coordinator's public port, with a loop of its own. Commands that only ask one
 * thing use rmk_client_ask; caption puts its own calls on the channel and runs the loop itself. */
#ifndef RMK_CLI_CLIENT_H
#define RMK_CLI_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>
#include <uv.h>

#include "common/err.h"
#include "common/rpc/rpc.h"

struct rmk_client {
    uv_loop_t loop;
    struct rmk_rpc *rpc;
    struct rmk_rpc_channel *channel;
    const char *endpoint;
    bool closed;
};

/* `endpoint` is borrowed until the close. Nothing is sent yet. Errors: RMK_EINVAL (not HOST:PORT).
 */
enum rmk_err rmk_client_open(struct rmk_client *client, const char *endpoint, struct rmk_why *why);
/* Ends what is under way and runs the loop until nothing is left on it. */
void rmk_client_close(struct rmk_client *client);

/* One unary call, waited for. The reply is freed with protobuf_c_message_free_unpacked. deadline_ms
 * 0: none. */
enum rmk_err rmk_client_ask(struct rmk_client *client, const char *path,
                            const ProtobufCMessage *request,
                            const ProtobufCMessageDescriptor *reply_type, uint64_t deadline_ms,
                            ProtobufCMessage **out_reply, struct rmk_why *why);

/* The sentence for a call that ended with `status`: what the server said, or, when nobody is there,
 * that. */
enum rmk_err rmk_client_explain(const char *endpoint, int status, const char *message,
                                struct rmk_why *why);

/* The endpoint to talk to: `given`, else that of the running local cluster `name`, else
 * 127.0.0.1:8001. */
const char *rmk_client_endpoint(const char *given, const char *name, char *buffer,
                                size_t buffer_size);

#endif
