/* The engine's actions, done: one function, one line per kind. */
#ifndef RMK_COORDINATOR_PERFORM_H
#define RMK_COORDINATOR_PERFORM_H

struct rmk_action;
struct rmk_arena;
struct rmk_loop;
struct rmk_requests;
struct rmk_texts;
struct rmk_visions;

struct rmk_performer {
    struct rmk_requests *requests;
    struct rmk_texts *texts;
    struct rmk_visions *visions;
    struct rmk_loop *loop; /* for what cannot be done: the engine hears of it as an event */
    struct rmk_arena *scratch;
};

void rmk_perform(struct rmk_performer *performer, const struct rmk_action *action);

#endif
