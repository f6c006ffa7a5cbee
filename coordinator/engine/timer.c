#include "coordinator/engine/timer.h"

#include <stdbool.h>

#include "common/err.h"

void rmk_timer_init(struct rmk_timers *timers, uint32_t id_count)
{
    timers->id_count = id_count;
    timers->count = 0;
    for (uint32_t id = 0; id < id_count; id++) {
        timers->due[id] = RMK_TIMER_NEVER;
    }
}

static bool is_earlier(const struct rmk_timers *timers, uint32_t a, uint32_t b)
{
    return timers->due[a] != timers->due[b] ? timers->due[a] < timers->due[b] : a < b;
}

static void put(struct rmk_timers *timers, uint32_t place, uint32_t id)
{
    timers->heap[place] = id;
    timers->place[id] = place;
}

static void rise(struct rmk_timers *timers, uint32_t place)
{
    uint32_t id = timers->heap[place];

    while (place > 0 && is_earlier(timers, id, timers->heap[(place - 1) / 2])) {
        put(timers, place, timers->heap[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    put(timers, place, id);
}

static void sink(struct rmk_timers *timers, uint32_t place)
{
    uint32_t id = timers->heap[place];

    while (2 * place + 1 < timers->count) {
        uint32_t child = 2 * place + 1;
        if (child + 1 < timers->count &&
            is_earlier(timers, timers->heap[child + 1], timers->heap[child])) {
            child++;
        }
        if (!is_earlier(timers, timers->heap[child], id)) {
            break;
        }
        put(timers, place, timers->heap[child]);
        place = child;
    }
    put(timers, place, id);
}

void rmk_timer_set(struct rmk_timers *timers, uint32_t id, uint64_t due_us)
{
    uint64_t old_us = timers->due[id];

    rmk_assert(id < timers->id_count);
    if (due_us == old_us) {
        return;
    }
    timers->due[id] = due_us;
    if (old_us == RMK_TIMER_NEVER) {
        put(timers, timers->count, id);
        rise(timers, timers->count++);
    } else if (due_us == RMK_TIMER_NEVER) {
        uint32_t place = timers->place[id];
        uint32_t last = timers->heap[--timers->count];
        if (last != id) {
            put(timers, place, last);
            rise(timers, place);
            sink(timers, timers->place[last]);
        }
    } else {
        rise(timers, timers->place[id]);
        sink(timers, timers->place[id]);
    }
}

uint64_t rmk_timer_first(const struct rmk_timers *timers, uint32_t *out_id)
{
    if (timers->count == 0) {
        return RMK_TIMER_NEVER;
    }
    *out_id = timers->heap[0];
    return timers->due[timers->heap[0]];
}

void rmk_timer_check(const struct rmk_timers *timers)
{
    uint32_t waiting = 0;

    for (uint32_t place = 0; place < timers->count; place++) {
        uint32_t id = timers->heap[place];
        rmk_assert(timers->place[id] == place);
        rmk_assert(place == 0 || !is_earlier(timers, id, timers->heap[(place - 1) / 2]));
    }
    for (uint32_t id = 0; id < timers->id_count; id++) {
        waiting += timers->due[id] != RMK_TIMER_NEVER;
    }
    rmk_assert(waiting == timers->count);
}
