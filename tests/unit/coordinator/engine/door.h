/* For tests at the engine's door: an engine with memory, events by one call, actions looked up by
 * kind. */
#ifndef RMK_TESTS_ENGINE_DOOR_H
#define RMK_TESTS_ENGINE_DOOR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/engine/engine.h"

struct door {
    void *memory;
    struct rmk_engine *engine;
    struct rmk_actions actions; /* of the last event */
    uint64_t now_us;
};

static inline void door_open(struct door *door, const struct rmk_engine_limits *limits)
{
    size_t bytes = (rmk_engine_bytes(limits) + 63) & ~(size_t)63;

    door->memory = aligned_alloc(64, bytes);
    assert_non_null(door->memory);
    memset(door->memory, 0xA5, bytes);
    door->engine = rmk_engine_init(door->memory, limits);
    door->now_us = 1000;
}

static inline void door_close(struct door *door)
{
    free(door->memory);
}

static inline void door_step(struct door *door, struct rmk_event event)
{
    event.now_us = door->now_us;
    rmk_engine_step(door->engine, &event, &door->actions);
    rmk_engine_check(door->engine);
}

/* The first action of this kind, or NULL. */
static inline const struct rmk_action *door_find(const struct door *door, enum rmk_action_kind kind)
{
    for (uint32_t i = 0; i < door->actions.count; i++) {
        if (door->actions.items[i].kind == kind) {
            return &door->actions.items[i];
        }
    }
    return NULL;
}

static inline void door_submit(struct door *door, const struct rmk_submit *submit)
{
    door_step(door, (struct rmk_event){.kind = RMK_EVENT_SUBMIT, .submit = submit});
}

static inline void door_group_up(struct door *door, uint32_t group, uint64_t epoch, uint32_t slots,
                                 uint32_t rows)
{
    door_step(door, (struct rmk_event){
                        .kind = RMK_EVENT_GROUP_UP,
                        .group = {.group = group,
                                  .epoch = epoch,
                                  .slot_count = slots,
                                  .rows_max = rows,
                                  .step_rows_max = 2 * rows,
                                  .numerics_class = 1},
                    });
}

#endif
