/* A tiny text-only request of the coordinator's own: only when a group has answered one does health
 * say SERVING.
 */
#ifndef RMK_COORDINATOR_WARMUP_H
#define RMK_COORDINATOR_WARMUP_H

#include <stdbool.h>

#include "coordinator/requests.h"

struct rmk_warmup {
    struct rmk_listener listener; /* first: the listener is the warm-up */
    struct rmk_requests *requests;
    void (*done)(void *context, bool ok);
    void *context;
    bool under_way;
    bool warm;
};

void rmk_warmup_init(struct rmk_warmup *warmup, struct rmk_requests *requests,
                     void (*done)(void *context, bool ok), void *context);

/* Ask, unless it is asked or was answered already. */
void rmk_warmup_begin(struct rmk_warmup *warmup);
/* No more: nobody waits for it, and `done` is not told. */
void rmk_warmup_stop(struct rmk_warmup *warmup);

#endif
