#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

struct encode {
    struct rmk_request_id request;
    uint32_t item;
    struct rmk_item what;
    uint64_t epoch;
};

bool sim_is_bad_picture(const struct sim *sim, const uint8_t key[32])
{
    uint64_t name;

    memcpy(&name, key, sizeof(name));
    return sim_mix(sim_mix(sim->model.salt, 0xBAD), name) % 1000 < sim->chaos.bad_picture_per_mille;
}

static uint32_t find(const struct sim_vision *vision, const uint8_t key[32])
{
    uint32_t place = 0;

    while (place < vision->cache_count && memcmp(vision->cache[place], key, 32) != 0) {
        place++;
    }
    return place;
}

bool sim_vision_has(const struct sim *sim, uint32_t index, uint64_t epoch, const uint8_t key[32])
{
    const struct sim_vision *vision = &sim->visions[index];

    return vision->alive && vision->epoch == epoch && find(vision, key) < vision->cache_count;
}

void sim_vision_evict(struct sim *sim, uint32_t index)
{
    struct sim_vision *vision = &sim->visions[index];

    if (vision->cache_count > 0) {
        memmove(vision->cache[0], vision->cache[1],
                (vision->cache_count - 1) * sizeof(vision->cache[0]));
        vision->cache_count--;
    }
}

static void perish(struct sim *sim, struct sim_event *event)
{
    struct sim_vision *vision = &sim->visions[event->index];

    if (vision->alive && vision->epoch == event->number && !sim_is_healing(sim)) {
        sim->faults++;
        sim_vision_die(sim, event->index, !sim_chance(sim, sim->chaos.untold_per_mille));
    }
}

void sim_vision_form(struct sim *sim, uint32_t index)
{
    struct sim_vision *vision = &sim->visions[index];

    vision->alive = true;
    vision->epoch++;
    vision->cache_count = 0;
    struct sim_message *message = sim_message(RMK_EVENT_VISION_UP);
    message->event.vision = (struct rmk_event_vision){
        .vision = index,
        .epoch = vision->epoch,
        .parallel_max = vision->parallel_max,
    };
    sim_send(sim, message, 0, &vision->up_us);
    if (sim->chaos.vision_life_us > 0 && !sim_is_healing(sim)) {
        struct sim_event *death =
            sim_at(sim, sim->now_us + sim_between(sim, 0, 2 * sim->chaos.vision_life_us), perish);
        death->index = index;
        death->number = vision->epoch;
    }
}

static void form(struct sim *sim, struct sim_event *event)
{
    sim_vision_form(sim, event->index);
}

void sim_vision_die(struct sim *sim, uint32_t index, bool told)
{
    struct sim_vision *vision = &sim->visions[index];

    vision->alive = false;
    sim_count(sim, SIM_VISION_LOSSES);
    if (told) {
        struct sim_message *message = sim_message(RMK_EVENT_VISION_DOWN);
        message->event.vision = (struct rmk_event_vision){.vision = index, .epoch = vision->epoch};
        sim_send(sim, message, 0, sim_chance(sim, 300) ? NULL : &vision->up_us);
    }
    sim_at(sim, sim->now_us + sim_between(sim, sim->form_us / 2, sim->form_us), form)->index =
        index;
}

static void encode_ends(struct sim *sim, struct sim_event *event)
{
    const struct encode *encode = event->payload;
    struct sim_vision *vision = &sim->visions[event->index];
    enum rmk_err err = RMK_OK;

    if (!vision->alive || vision->epoch != encode->epoch) {
        return;
    }
    if (sim_is_bad_picture(sim, encode->what.key)) {
        err = RMK_ECORRUPT;
    } else if (vision->fail_next || sim_fault(sim, sim->chaos.encode_fail_per_mille)) {
        err = RMK_EINTERNAL;
    } else if (sim_ask_of(sim, encode->request) == NULL ||
               sim_ask_of(sim, encode->request)->ended) {
        err = RMK_ENOTFOUND; /* the picture's bytes went with the request that asked */
        sim->faults++;
    }
    vision->fail_next = false;
    struct sim_message *message =
        sim_message(err == RMK_OK ? RMK_EVENT_FEATURES_READY : RMK_EVENT_FEATURES_FAILED);
    message->event.features = (struct rmk_event_features){
        .request = encode->request,
        .item = encode->item,
        .vision = event->index,
        .vision_epoch = encode->epoch,
        .group = UINT32_MAX,
        .err = err,
    };
    (void)snprintf(message->why, sizeof(message->why), "the picture was not encoded: %s",
                   rmk_err_name(err));
    if (err == RMK_OK && find(vision, encode->what.key) == vision->cache_count) {
        if (vision->cache_count == vision->cache_max) {
            sim_vision_evict(sim, event->index);
        }
        memcpy(vision->cache[vision->cache_count++], encode->what.key, 32);
    }
    sim_send(sim, message, 0, &vision->up_us);
}

static void encode_arrives(struct sim *sim, struct sim_event *event)
{
    const struct encode *encode = event->payload;
    struct sim_vision *vision = &sim->visions[event->index];

    if (!vision->alive || vision->epoch != encode->epoch) {
        return;
    }
    if (vision->stall_next || sim_fault(sim, sim->chaos.encode_stall_per_mille)) {
        vision->stall_next = false;
        return;
    }
    bool cached = find(vision, encode->what.key) < vision->cache_count;
    uint64_t takes_us = cached ? 0 : encode->what.tile_count * sim->tile_us;
    struct sim_event *end = sim_at(sim, sim->now_us + takes_us, encode_ends);
    end->index = event->index;
    end->payload = event->payload;
    event->payload = NULL;
}

void sim_vision_act(struct sim *sim, const struct rmk_action *action)
{
    struct sim_vision *vision = &sim->visions[action->place.vision];
    const struct sim_ask *ask = sim_ask_of(sim, action->request);
    struct encode *encode = calloc(1, sizeof(*encode));
    uint64_t at_us = sim->now_us + sim_link_delay(sim);

    if (encode == NULL || ask == NULL || action->place.item >= ask->item_count) {
        sim_fail(sim, SIM_WRONG, "an encode for nobody");
    }
    encode->request = action->request;
    encode->item = action->place.item;
    encode->what = ask->items[action->place.item];
    encode->epoch = action->place.vision_epoch;
    vision->down_us = at_us > vision->down_us ? at_us : vision->down_us;
    struct sim_event *event = sim_at(sim, vision->down_us, encode_arrives);
    event->index = action->place.vision;
    event->payload = encode;
}
