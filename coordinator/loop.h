/* Where events become decisions. One turn: gather all events → step the engine → perform all
 * actions → flush. Everything runs on the libuv loop's thread.
 *
 *     links, streams, timers ── post ──► [events] ── turn ──► engine ──► perform ──► links, streams
 *                                           ▲                              │
 *                                           └──────── post ────────────────┘
 */
#ifndef RMK_COORDINATOR_LOOP_H
#define RMK_COORDINATOR_LOOP_H

#include <uv.h>

#include "common/err.h"

struct rmk_loop;
struct rmk_engine;
struct rmk_event;
struct rmk_action;

struct rmk_loop_hooks {
    /* May post events; they are stepped in the same turn. */
    void (*perform)(void *context, const struct rmk_action *action);
    /* Once at the end of every turn: what was gathered for clients goes out. */
    void (*flush)(void *context);
    void *context;
};

enum rmk_err rmk_loop_create(uv_loop_t *uv, struct rmk_engine *engine,
                             const struct rmk_loop_hooks *hooks, struct rmk_loop **out_loop,
                             struct rmk_why *why);

/* Queue an event for the next turn. What it points to is copied, but for a SUBMIT, whose memory
 * must live until its FINISH. `now_us` is set by the loop. */
void rmk_loop_post(struct rmk_loop *loop, const struct rmk_event *event);

/* No turn after this. `closed` runs when the handles are gone and the loop is freed. */
void rmk_loop_close(struct rmk_loop *loop, void (*closed)(void *context), void *context);

#endif
