/* Hands objects from any thread to the loop's thread: a lock-free list and one uv_async_t. Order is
 * kept per sender, and over all senders in the order of their posts. Nothing is allocated: the link
 * lives in the object.
 *
 *     any thread ── post ──► [list] ──(list was empty: uv_async_send)──► loop: deliver(item) for
 * each
 */
#ifndef RMK_COMMON_RPC_MAILBOX_H
#define RMK_COMMON_RPC_MAILBOX_H

#include <stdatomic.h>

#include <uv.h>

#include "common/err.h"

struct rmk_mailbox_item {
    struct rmk_mailbox_item *next;
};

typedef void (*rmk_mailbox_deliver)(struct rmk_mailbox_item *item, void *context);

struct rmk_mailbox {
    _Atomic(struct rmk_mailbox_item *) newest;
    uv_async_t async;
    rmk_mailbox_deliver deliver;
    void *context;
    void (*closed)(void *context);
};

/* Memory belongs to the caller and must live until `closed` has run. */
enum rmk_err rmk_mailbox_init(struct rmk_mailbox *mailbox, uv_loop_t *loop,
                              rmk_mailbox_deliver deliver, void *context, struct rmk_why *why);

/* Any thread. `item` is the mailbox's until it is delivered. */
void rmk_mailbox_post(struct rmk_mailbox *mailbox, struct rmk_mailbox_item *item);

/* Loop's thread, after the last post has returned. What is still there is delivered first, inside
 * this call. */
void rmk_mailbox_close(struct rmk_mailbox *mailbox, void (*closed)(void *context));

#endif
