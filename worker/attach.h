/* A worker's stream to the coordinator: dial, Hello, Welcome, heartbeats, and dial again when it
 * breaks.
 *
 * The role behind it (text/serve, vision/serve) gives the Hello and takes messages; it hears of a
 * broken stream by `on_lost` and must then forget everything that belonged to the attachment. A
 * refused Hello is not retried at once: the sentence is logged and the next try comes after the
 * longest pause, since only an operator can mend it.
 */
#ifndef RMK_WORKER_ATTACH_H
#define RMK_WORKER_ATTACH_H

#include <stdint.h>

#include <uv.h>

#include "common/rpc/rpc.h"
#include "remask/cluster/v1/cluster.pb-c.h"

struct rmk_attach;

struct rmk_attach_events {
    /* Welcome has come: the attachment is on, under this epoch. */
    void (*on_attached)(void *context, const Remask__Cluster__V1__Welcome *welcome);
    /* Any other message but heartbeats, and its bytes as they came; *message is the callee's when
     * it sets it to NULL. */
    void (*on_message)(void *context, Remask__Cluster__V1__CoordinatorMessage **message,
                       struct rmk_bytes bytes);
    void (*on_lost)(void *context);
};

/* `hello` is borrowed for the attach's life. The first dial happens at once. */
enum rmk_err rmk_attach_create(struct rmk_rpc *rpc, uv_loop_t *loop,
                               const char *coordinator_address,
                               const struct rmk_rpc_options *options,
                               const Remask__Cluster__V1__Hello *hello,
                               const struct rmk_attach_events *events, void *context,
                               struct rmk_attach **out_attach, struct rmk_why *why);

/* Dropped when not attached: what it spoke of is over. */
void rmk_attach_send(struct rmk_attach *attach, const Remask__Cluster__V1__WorkerMessage *message);

/* Says Goodbye, waits until the coordinator has closed the stream or a second is over, and frees
 * the attach; then, on the loop and never inside this call, `closed`. No event comes after it. */
void rmk_attach_close(struct rmk_attach *attach, const char *why, void (*closed)(void *context),
                      void *context);

#endif
