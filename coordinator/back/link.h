/* One worker process: its Attach stream from Hello to the end. Greeting, heartbeats and the watch
 * over silence are here; what a text rank or a vision worker says goes to text_link or vision_link.
 *
 *     on_call ──► waits for Hello ──► Welcome, TEXT or VISION ──► ended: by the worker, the
 * network, or rmk_link_end
 */
#ifndef RMK_COORDINATOR_BACK_LINK_H
#define RMK_COORDINATOR_BACK_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "common/err.h"
#include "common/list.h"
#include "coordinator/back/back.h"

struct rmk_links;
struct rmk_rpc_call;
struct rmk_texts;
struct rmk_visions;

enum rmk_link_state {
    RMK_LINK_HELLO = 0, /* waits for it */
    RMK_LINK_TEXT,
    RMK_LINK_VISION,
    RMK_LINK_ENDED, /* nothing is sent or heard any more */
};

struct rmk_link {
    struct rmk_links *links;
    struct rmk_rpc_call *call;
    enum rmk_link_state state;
    char name[128];
    uint64_t epoch; /* of this attachment */
    void *owner;    /* text: its group; vision: its place in the pool */
    uint32_t rank;  /* text */
    /* of link.c */
    struct rmk_list link;
    uint64_t opened_us;
    uint64_t heard_us;
    uint64_t echo_us; /* the worker's clock in its last heartbeat */
};

enum rmk_err rmk_links_create(uv_loop_t *uv, const struct rmk_back_options *options,
                              const struct rmk_back_hooks *hooks,
                              struct rmk_coordinator_metrics *metrics, struct rmk_links **out_links,
                              struct rmk_why *why);
/* No timer after this; streams end with their server. `closed` runs when the timer is gone. */
void rmk_links_close(struct rmk_links *links, void (*closed)(void *context), void *context);
/* After close, and after every call has had its on_done. Takes NULL. */
void rmk_links_destroy(struct rmk_links *links);

struct rmk_texts *rmk_links_texts(struct rmk_links *links);
struct rmk_visions *rmk_links_visions(struct rmk_links *links);

/* Handler of "/remask.cluster.v1.Cluster/Attach"; `context` is the links. */
void rmk_links_on_attach(struct rmk_rpc_call *call, void *context);

/* End the stream with a status and a sentence; its group or pool hears of it first. */
void rmk_link_end(struct rmk_link *link, int status, const char *why);

/* A group's due time may have changed. */
void rmk_links_arm(struct rmk_links *links);

#endif
