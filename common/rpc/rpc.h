/* gRPC C core on libuv: one completion queue, one thread that waits on it, and a mailbox that
 * carries completions to the loop. Everything in this header is called, and calls back, on the
 * loop's thread.
 *
 *     C core ──► cq thread ──► mailbox (lock-free list) ──► uv_async_send ──► callbacks on the loop
 *
 * One `struct rmk_rpc_call` is one RPC of any kind at either end. Messages are packed bytes;
 * packing is the business of whoever owns the generated type. Sends are queued (the core allows one
 * at a time); reads are posted one by one unless paused. Source of the traps: grpc 1.51 core
 * headers; docs/internals/rpc.md.
 */
#ifndef RMK_COMMON_RPC_RPC_H
#define RMK_COMMON_RPC_RPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "common/bytes.h"
#include "common/err.h"

struct rmk_rpc;
struct rmk_rpc_server;
struct rmk_rpc_channel;
struct rmk_rpc_call;

/* Status codes as on the wire (grpc_status_code). */
enum rmk_status {
    RMK_STATUS_OK = 0,
    RMK_STATUS_CANCELLED = 1,
    RMK_STATUS_UNKNOWN = 2,
    RMK_STATUS_INVALID_ARGUMENT = 3,
    RMK_STATUS_DEADLINE_EXCEEDED = 4,
    RMK_STATUS_NOT_FOUND = 5,
    RMK_STATUS_ALREADY_EXISTS = 6,
    RMK_STATUS_PERMISSION_DENIED = 7,
    RMK_STATUS_RESOURCE_EXHAUSTED = 8,
    RMK_STATUS_FAILED_PRECONDITION = 9,
    RMK_STATUS_ABORTED = 10,
    RMK_STATUS_OUT_OF_RANGE = 11,
    RMK_STATUS_UNIMPLEMENTED = 12,
    RMK_STATUS_INTERNAL = 13,
    RMK_STATUS_UNAVAILABLE = 14,
    RMK_STATUS_DATA_LOSS = 15,
    RMK_STATUS_UNAUTHENTICATED = 16,
};

enum { RMK_STATUS_COUNT = 17 };

/* "NOT_FOUND"; "UNKNOWN" for what is none of the above. */
const char *rmk_status_name(int status);
enum rmk_status rmk_status_of(enum rmk_err err);
enum rmk_err rmk_err_of_status(int status);

/* The bridge. Start it after every fork: a child of a process that has started gRPC must exec. */
enum rmk_err rmk_rpc_create(uv_loop_t *loop, struct rmk_rpc **out_rpc, struct rmk_why *why);

/* Cancels every call, shuts servers and channels, joins the thread; `closed` runs on the loop when
 * nothing is left and `rpc` is freed. Calls get their on_done first. */
void rmk_rpc_close(struct rmk_rpc *rpc, void (*closed)(void *context), void *context);

struct rmk_rpc_options {
    uint32_t message_bytes_max;    /* received and sent; 0: 4 MiB */
    uint32_t keepalive_ms;         /* 0: 10 s */
    uint32_t keepalive_timeout_ms; /* 0: 5 s */
    /* TLS: all NULL: plaintext. Server: cert+key, and ca asks for client certificates. Client: ca,
     * and cert+key. PEM text. */
    const char *tls_ca;
    const char *tls_cert;
    const char *tls_key;
    const char *tls_target_name; /* client: name to check instead of the address */
};

/* ---- calls
 * -----------------------------------------------------------------------------------------------------------
 */

struct rmk_rpc_events {
    /* A message; `message` lives until the callback returns. */
    void (*on_message)(struct rmk_rpc_call *call, struct rmk_bytes message, void *context);
    /* The peer will send no more. May be NULL. */
    void (*on_half_close)(struct rmk_rpc_call *call, void *context);
    /* The send queue fell below half of its mark after having been above. May be NULL. */
    void (*on_writable)(struct rmk_rpc_call *call, void *context);
    /* Always, exactly once, last (may be NULL): the call is over; `call` is freed when this
     * returns. Server: `status` CANCELLED when the client went away or its deadline passed, else
     * what finish was given. Client: what the server said. */
    void (*on_done)(struct rmk_rpc_call *call, int status, const char *message, void *context);
};

/* Set once per call, at its start. */
void rmk_rpc_call_listen(struct rmk_rpc_call *call, const struct rmk_rpc_events *events,
                         void *context);
/* Listen to nothing from here on: the call lives on without its owner, until its end. */
void rmk_rpc_call_ignore(struct rmk_rpc_call *call);

/* Queue one message; the bytes are copied. False when the queue is over its mark
 * (RMK_RPC_QUEUE_BYTES): the message is still queued, but wait for on_writable before more. Ignored
 * after finish or cancel. */
bool rmk_rpc_call_send(struct rmk_rpc_call *call, struct rmk_bytes message);
#define RMK_RPC_QUEUE_BYTES (8u << 20)
/* Another mark for this call; 0: the default. */
void rmk_rpc_call_set_mark(struct rmk_rpc_call *call, size_t bytes);
size_t rmk_rpc_call_queued_bytes(const struct rmk_rpc_call *call);

/* Server: end the call after what is queued. Client: rmk_rpc_call_half_close says "no more from
 * me". */
void rmk_rpc_call_finish(struct rmk_rpc_call *call, int status, const char *message);
void rmk_rpc_call_half_close(struct rmk_rpc_call *call);
/* Server: ignore the call and finish it, before anybody has listened or after. */
void rmk_rpc_call_refuse(struct rmk_rpc_call *call, int status, const char *message);
/* Either end: stop now; on_done follows on the loop, never inside this call. */
void rmk_rpc_call_cancel(struct rmk_rpc_call *call);

/* Reading stops after the message under way; resume goes on. */
void rmk_rpc_call_pause(struct rmk_rpc_call *call);
void rmk_rpc_call_resume(struct rmk_rpc_call *call);

void *rmk_rpc_call_context(const struct rmk_rpc_call *call);
const char *
rmk_rpc_call_peer(const struct rmk_rpc_call *call); /* "ipv4:127.0.0.1:41000"; for logs */
/* Server: the client's deadline in uv_hrtime microseconds; 0: none. */
uint64_t rmk_rpc_call_deadline_us(const struct rmk_rpc_call *call);
/* Server: value of a request metadata key (lower case), borrowed; NULL when absent. */
const char *rmk_rpc_call_metadata(const struct rmk_rpc_call *call, const char *key);

/* ---- server
 * ----------------------------------------------------------------------------------------------------------
 */

/* `on_call` must call rmk_rpc_call_listen before it returns. Unary and server streaming calls get
 * one on_message, then on_half_close. */
typedef void (*rmk_rpc_handler)(struct rmk_rpc_call *call, void *context);

struct rmk_rpc_method {
    const char *path; /* "/remask.v1.Remask/Generate" */
    rmk_rpc_handler on_call;
    void *context;
};

/* Listen on `address` (HOST:PORT; port 0: the system chooses). Unknown methods answer UNIMPLEMENTED
 * with their name. Errors: RMK_EUNAVAILABLE (address in use: named; SO_REUSEPORT is off),
 * RMK_EINVAL (TLS material). */
enum rmk_err rmk_rpc_server_create(struct rmk_rpc *rpc, const char *address,
                                   const struct rmk_rpc_options *options,
                                   const struct rmk_rpc_method *methods, size_t method_count,
                                   struct rmk_rpc_server **out_server, struct rmk_why *why);
uint16_t rmk_rpc_server_port(const struct rmk_rpc_server *server);
/* Stop accepting; open calls go on. Freed with the rpc. */
void rmk_rpc_server_drain(struct rmk_rpc_server *server);

/* ---- client
 * ----------------------------------------------------------------------------------------------------------
 */

/* One TCP connection, made when the first call needs it. Errors: RMK_EINVAL. */
enum rmk_err rmk_rpc_channel_create(struct rmk_rpc *rpc, const char *address,
                                    const struct rmk_rpc_options *options,
                                    struct rmk_rpc_channel **out_channel, struct rmk_why *why);
/* Calls under way go on; the channel is freed after the last of them. */
void rmk_rpc_channel_destroy(struct rmk_rpc_channel *channel);

/* Start a call of any kind. deadline_ms 0: none. wait_for_ready: keep trying to connect until the
 * deadline instead of failing at once with UNAVAILABLE. `metadata`: NULL-terminated key, value,
 * key, value, …, or NULL. */
struct rmk_rpc_call *rmk_rpc_channel_call(struct rmk_rpc_channel *channel, const char *path,
                                          uint64_t deadline_ms, bool wait_for_ready,
                                          const char *const *metadata,
                                          const struct rmk_rpc_events *events, void *context);

#endif
