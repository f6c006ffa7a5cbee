#include "common/rpc/mailbox.h"

#include <stddef.h>

static void deliver_all(struct rmk_mailbox *mailbox)
{
    struct rmk_mailbox_item *newest =
        atomic_exchange_explicit(&mailbox->newest, NULL, memory_order_acquire);
    struct rmk_mailbox_item *oldest = NULL;

    while (newest != NULL) {
        struct rmk_mailbox_item *older = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = older;
    }
    while (oldest != NULL) {
        struct rmk_mailbox_item *item = oldest;
        oldest = oldest->next; /* the item may be freed by its delivery */
        item->next = NULL;
        mailbox->deliver(item, mailbox->context);
    }
}

static void on_async(uv_async_t *async)
{
    deliver_all(async->data);
}

enum rmk_err rmk_mailbox_init(struct rmk_mailbox *mailbox, uv_loop_t *loop,
                              rmk_mailbox_deliver deliver, void *context, struct rmk_why *why)
{
    *mailbox = (struct rmk_mailbox){.deliver = deliver, .context = context};
    int status = uv_async_init(loop, &mailbox->async, on_async);

    if (status != 0) {
        return rmk_fail(why, RMK_EIO, "mailbox: %s", uv_strerror(status));
    }
    mailbox->async.data = mailbox;
    return RMK_OK;
}

void rmk_mailbox_post(struct rmk_mailbox *mailbox, struct rmk_mailbox_item *item)
{
    item->next = atomic_load_explicit(&mailbox->newest, memory_order_relaxed);
    /* Once the exchange has succeeded the loop may already be delivering, and freeing, the item. */
    struct rmk_mailbox_item *older = item->next;
    while (!atomic_compare_exchange_weak_explicit(&mailbox->newest, &older, item,
                                                  memory_order_release, memory_order_relaxed)) {
        item->next = older;
    }
    if (older == NULL) {
        (void)uv_async_send(&mailbox->async);
    }
}

static void on_closed(uv_handle_t *handle)
{
    struct rmk_mailbox *mailbox = handle->data;

    mailbox->closed(mailbox->context);
}

void rmk_mailbox_close(struct rmk_mailbox *mailbox, void (*closed)(void *context))
{
    deliver_all(mailbox);
    mailbox->closed = closed;
    uv_close((uv_handle_t *)&mailbox->async, on_closed);
}
