#include "coordinator/loop.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "coordinator/arena.h"
#include "coordinator/engine/engine.h"

struct rmk_loop {
    uv_check_t check; /* after poll: the turn */
    uv_idle_t idle;   /* active while events wait, so that poll does not sleep on them */
    uv_timer_t timer; /* the engine's one timer */
    struct rmk_engine *engine;
    struct rmk_loop_hooks hooks;
    struct rmk_event *events;
    size_t event_count;
    size_t event_capacity;
    struct rmk_arena arena; /* what this turn's events point to */
    bool tick_due;
    uint32_t handles_open;
    void (*closed)(void *context);
    void *closed_context;
};

static const void *keep(struct rmk_loop *loop, const void *data, size_t size)
{
    return size == 0 ? NULL : memcpy(rmk_arena_take(&loop->arena, size), data, size);
}

static const char *keep_text(struct rmk_loop *loop, const char *text)
{
    return text == NULL ? NULL : keep(loop, text, strlen(text) + 1);
}

/* What was run ahead, down to its last guess. */
static const struct rmk_row_forward *keep_ahead(struct rmk_loop *loop,
                                                const struct rmk_row_forward *ahead, uint32_t count)
{
    struct rmk_row_forward *kept = rmk_arena_take(&loop->arena, count * sizeof(*kept));

    for (uint32_t i = 0; i < count; i++) {
        kept[i] = ahead[i];
        kept[i].commits =
            keep(loop, ahead[i].commits, ahead[i].commit_count * sizeof(*ahead[i].commits));
        kept[i].guesses =
            keep(loop, ahead[i].guesses, ahead[i].guess_count * sizeof(*ahead[i].guesses));
    }
    return kept;
}

static void keep_step(struct rmk_loop *loop, struct rmk_event_step *step)
{
    struct rmk_row_result *rows = rmk_arena_take(&loop->arena, step->row_count * sizeof(*rows));

    for (uint32_t i = 0; i < step->row_count; i++) {
        rows[i] = step->rows[i];
        rows[i].guesses =
            keep(loop, rows[i].guesses, rows[i].guess_count * sizeof(*rows[i].guesses));
        rows[i].ahead = keep_ahead(loop, rows[i].ahead, rows[i].ahead_count);
    }
    step->rows = rows;
    step->why = keep_text(loop, step->why);
}

static void on_idle(uv_idle_t *idle)
{
    (void)idle; /* being active is all it is for */
}

void rmk_loop_post(struct rmk_loop *loop, const struct rmk_event *event)
{
    struct rmk_event *kept;

    if (loop->closed != NULL) {
        return;
    }
    if (loop->event_count == loop->event_capacity) {
        size_t capacity = loop->event_capacity == 0 ? 64 : 2 * loop->event_capacity;
        struct rmk_event *events = realloc(loop->events, capacity * sizeof(*events));

        rmk_assert(events != NULL);
        loop->events = events;
        loop->event_capacity = capacity;
    }
    kept = &loop->events[loop->event_count++];
    *kept = *event;
    switch (event->kind) {
    case RMK_EVENT_FEATURES_READY:
    case RMK_EVENT_FEATURES_RESIDENT:
    case RMK_EVENT_FEATURES_FAILED:
        kept->features.why = keep_text(loop, event->features.why);
        break;
    case RMK_EVENT_STEP_DONE:
    case RMK_EVENT_STEP_FAILED:
        keep_step(loop, &kept->step);
        break;
    default:
        break;
    }
    (void)uv_idle_start(&loop->idle, on_idle);
}

static void set_timer(struct rmk_loop *loop, uint64_t due_us);

static void step(struct rmk_loop *loop, const struct rmk_event *event)
{
    struct rmk_actions actions;

    rmk_engine_step(loop->engine, event, &actions);
    /* At once and in order: actions are the engine's memory, good until its next step. */
    for (uint32_t i = 0; i < actions.count; i++) {
        if (actions.items[i].kind == RMK_ACTION_SET_TIMER) {
            set_timer(loop, actions.items[i].timer_us);
        } else {
            loop->hooks.perform(loop->hooks.context, &actions.items[i]);
        }
    }
}

static void turn(struct rmk_loop *loop)
{
    uint64_t now_us = rmk_clock_us();

    /* One time for the whole turn: what arrived together happened at once. By index, because
     * performing posts more and may move the array. */
    for (size_t i = 0; i < loop->event_count; i++) {
        struct rmk_event event = loop->events[i];

        event.now_us = now_us;
        step(loop, &event);
    }
    loop->event_count = 0;
    /* The timer last: an answer that has arrived beats its own timeout. */
    if (loop->tick_due) {
        loop->tick_due = false;
        step(loop, &(struct rmk_event){.kind = RMK_EVENT_TICK, .now_us = now_us});
    }
    /* A tick's actions may have posted; then the idle handle stays and the next turn comes at once.
     */
    if (loop->event_count == 0) {
        (void)uv_idle_stop(&loop->idle);
        rmk_arena_reset(&loop->arena);
    }
    /* After all decisions: several commits of one request leave as one message. */
    loop->hooks.flush(loop->hooks.context);
}

static void on_check(uv_check_t *check)
{
    struct rmk_loop *loop = check->data;

    if (loop->event_count > 0 || loop->tick_due) {
        turn(loop);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct rmk_loop *loop = timer->data;

    /* libuv runs timers before poll. The turn comes after poll, when answers have been read. */
    loop->tick_due = true;
    (void)uv_idle_start(&loop->idle, on_idle);
}

static void set_timer(struct rmk_loop *loop, uint64_t due_us)
{
    uint64_t now_us = rmk_clock_us();
    uint64_t delay_ms;

    if (due_us == 0) {
        (void)uv_timer_stop(&loop->timer);
        return;
    }
    /* One millisecond more than rounding up: libuv counts from its own rounded-down time, and a
     * tick before its time would find nothing due. */
    delay_ms = due_us > now_us ? (due_us - now_us + 999) / 1000 + 1 : 0;
    uv_update_time(loop->timer.loop);
    (void)uv_timer_start(&loop->timer, on_timer, delay_ms, 0);
}

enum rmk_err rmk_loop_create(uv_loop_t *uv, struct rmk_engine *engine,
                             const struct rmk_loop_hooks *hooks, struct rmk_loop **out_loop,
                             struct rmk_why *why)
{
    struct rmk_loop *loop = calloc(1, sizeof(*loop));

    if (loop == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for the loop");
    }
    loop->engine = engine;
    loop->hooks = *hooks;
    /* These three cannot fail: libuv only fills in the handles. */
    (void)uv_check_init(uv, &loop->check);
    (void)uv_idle_init(uv, &loop->idle);
    (void)uv_timer_init(uv, &loop->timer);
    loop->check.data = loop;
    loop->idle.data = loop;
    loop->timer.data = loop;
    loop->handles_open = 3;
    (void)uv_check_start(&loop->check, on_check);
    *out_loop = loop;
    return RMK_OK;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct rmk_loop *loop = handle->data;
    void (*closed)(void *context) = loop->closed;
    void *context = loop->closed_context;

    if (--loop->handles_open > 0) {
        return;
    }
    rmk_arena_deinit(&loop->arena);
    free(loop->events);
    free(loop);
    closed(context);
}

void rmk_loop_close(struct rmk_loop *loop, void (*closed)(void *context), void *context)
{
    loop->closed = closed;
    loop->closed_context = context;
    uv_close((uv_handle_t *)&loop->check, on_handle_closed);
    uv_close((uv_handle_t *)&loop->idle, on_handle_closed);
    uv_close((uv_handle_t *)&loop->timer, on_handle_closed);
}
