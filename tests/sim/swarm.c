/* What a seed means. Every seed draws its own limits, rates and mix of faults, so that some runs
 * are calm, some are only about one thing going wrong, and some are a storm. */
#include <string.h>

#include "tests/sim/sim.h"

/* In a third of the runs this kind of trouble does not exist. */
static uint32_t draw_rate(struct sim *sim, uint32_t per_mille_max)
{
    return sim_chance(sim, 333) ? 0 : (uint32_t)sim_between(sim, 0, per_mille_max);
}

static void draw_chaos(struct sim *sim)
{
    struct sim_chaos *chaos = &sim->chaos;

    *chaos = (struct sim_chaos){.until_us = sim_between(sim, 100000, 600000)};
    chaos->bad_picture_per_mille = draw_rate(sim, 150);
    chaos->early_close_per_mille = sim_chance(sim, 500) ? 0 : (uint32_t)sim_between(sim, 1, 1000);
    if (sim_chance(sim, 100)) {
        return; /* nothing goes wrong at all */
    }
    chaos->group_life_us = sim_chance(sim, 333) ? 0 : sim_between(sim, 20000, 300000);
    chaos->vision_life_us = sim_chance(sim, 333) ? 0 : sim_between(sim, 20000, 300000);
    chaos->stall_per_mille = draw_rate(sim, 20);
    chaos->fail_per_mille = draw_rate(sim, 60);
    chaos->condemn_per_mille = draw_rate(sim, 4);
    chaos->garble_per_mille = draw_rate(sim, 20);
    chaos->duplicate_per_mille = draw_rate(sim, 200);
    chaos->untold_per_mille = draw_rate(sim, 500);
    chaos->encode_stall_per_mille = draw_rate(sim, 80);
    chaos->encode_fail_per_mille = draw_rate(sim, 150);
    chaos->fetch_stall_per_mille = draw_rate(sim, 80);
    chaos->evict_per_mille = draw_rate(sim, 200);
    chaos->class_change_per_mille = draw_rate(sim, 300);
    chaos->tick_per_mille = draw_rate(sim, 300);
}

static void draw_limits(struct sim *sim)
{
    sim->group_count = 1 + sim_below(sim, SIM_GROUPS_MAX - 1);
    sim->vision_count = 1 + sim_below(sim, SIM_VISIONS_MAX - 1);
    sim->limits = (struct rmk_engine_limits){
        .requests_max = 2 + sim_below(sim, 23),
        .groups_max = sim->group_count,
        .visions_max = sim->vision_count,
        .rows_per_plan_max = sim_chance(sim, 500) ? 1 : 1 + sim_below(sim, 4),
        .retries_max = sim_below(sim, RMK_RETRIES_MAX + 1),
        .plan_timeout_us = sim_between(sim, 20000, 200000),
        .encode_timeout_us = sim_between(sim, 20000, 300000),
    };
    sim->limits.queued_max = 1 + sim_below(sim, sim->limits.requests_max);
    sim->link_us_min = sim_between(sim, 10, 300);
    sim->link_us_max = sim->link_us_min + sim_between(sim, 0, 3000);
    sim->compute_us_min = sim_between(sim, 50, 1000);
    sim->compute_us_max = sim->compute_us_min + sim_between(sim, 0, 3000);
    sim->tile_us = sim_between(sim, 100, 3000);
    sim->form_us = sim_between(sim, 1000, 50000);
}

static void draw_workers(struct sim *sim)
{
    uint64_t classes = sim_chance(sim, 500) ? 1 : 2;

    for (uint32_t i = 0; i < sim->group_count; i++) {
        struct sim_group *group = &sim->groups[i];
        group->slot_count = 1 + sim_below(sim, 4);
        group->rows_max = sim_chance(sim, 800) ? SIM_ROWS_MAX : 40 + sim_below(sim, 60);
        group->step_rows_max = sim_chance(sim, 700) ? 2 * SIM_ROWS_MAX : 60 + sim_below(sim, 200);
        group->numerics_class = 1 + sim_below(sim, (uint32_t)classes);
    }
    for (uint32_t i = 0; i < sim->vision_count; i++) {
        struct sim_vision *vision = &sim->visions[i];
        vision->parallel_max = 1 + sim_below(sim, 3);
        vision->cache_max = 1 + sim_below(sim, SIM_CACHE_MAX);
    }
}

static void draw_model(struct sim *sim)
{
    static const uint32_t levels[] = {1, 3, 16, 1000000};

    sim->model = (struct sim_model){
        .salt = sim_random(sim),
        .levels = levels[sim_below(sim, 4)],
        .mask_per_mille = draw_rate(sim, 200),
        .nan_per_mille = draw_rate(sim, 100),
        .poison_per_mille = sim_chance(sim, 800) ? 0 : 10,
    };
}

static void draw_lengths(struct sim *sim, struct sim_ask *ask)
{
    uint32_t blocks = 1 + sim_below(sim, 4);

    ask->block_length = 1 + sim_below(sim, SIM_GEN_MAX / 4);
    ask->gen_length = ask->block_length * blocks;
    ask->steps = blocks * (1 + sim_below(sim, ask->block_length + 3));
    ask->prompt_rows = sim_below(sim, 25);
    ask->suffix_count = sim_chance(sim, 700) ? 0 : 1 + sim_below(sim, SIM_SUFFIX_MAX);
    for (uint32_t i = 0; i < ask->suffix_count; i++) {
        ask->suffix[i] = (int32_t)sim_below(sim, SIM_VOCABULARY); /* the mask token among them */
    }
}

static void draw_pictures(struct sim *sim, struct sim_ask *ask, const struct rmk_item *pictures,
                          uint32_t count)
{
    uint32_t rows = 0;

    ask->item_count = sim_chance(sim, 400) ? 0 : 1 + sim_below(sim, SIM_ITEMS_MAX);
    for (uint32_t i = 0; i < ask->item_count; i++) {
        ask->items[i] = pictures[sim_below(sim, count)]; /* often the same as another request's */
        rows += ask->items[i].rows;
    }
    ask->prompt_rows += rows;
    if (sim_chance(sim, 200)) {
        for (uint32_t row = rows;
             row < ask->prompt_rows && ask->prompt_mask_count < SIM_PROMPT_MASKS_MAX; row++) {
            if (sim_chance(sim, 200)) {
                ask->prompt_masks[ask->prompt_mask_count++] = row;
            }
        }
    }
}

static void draw_stops(struct sim *sim, struct sim_ask *ask)
{
    ask->stop_count = sim_chance(sim, 300) ? 0 : 1 + sim_below(sim, SIM_STOPS_MAX);
    for (uint32_t i = 0; i < ask->stop_count; i++) {
        static const uint32_t lengths[] = {1, 1, 1, 2, 2, 3, 4, 0};
        ask->stop_counts[i] = lengths[sim_below(sim, sim_chance(sim, 950) ? 7 : 8)];
        for (uint32_t j = 0; j < ask->stop_counts[i]; j++) {
            ask->stop_ids[i][j] =
                (int32_t)sim_below(sim, sim_chance(sim, 500) ? 4 : SIM_VOCABULARY);
        }
    }
}

static void draw_ask(struct sim *sim, const struct rmk_item *pictures, uint32_t picture_count)
{
    struct sim_ask *ask = &sim->asks[sim->ask_count++];

    ask->tag = 100 + sim->ask_count;
    ask->content = sim_random(sim);
    draw_lengths(sim, ask);
    draw_pictures(sim, ask, pictures, picture_count);
    draw_stops(sim, ask);
    ask->temperature = sim_chance(sim, 500) ? 0 : 0.7;
    ask->cfg_scale = sim_chance(sim, 700) ? 0.0f : 1.5f;
    ask->remasking = sim_chance(sim, 700) ? RMK_REMASK_LOW_CONFIDENCE : RMK_REMASK_RANDOM;
    ask->golden_noise = sim_chance(sim, 300);
    ask->seed = sim_random(sim);
    ask->lane = sim_chance(sim, 700) ? RMK_LANE_ONLINE : RMK_LANE_BATCH;
    ask->tenant = sim_below(sim, 3);
    ask->text_stop_at = sim_chance(sim, 900) ? 0 : 1 + sim_below(sim, ask->gen_length);
}

/* Rules, caches and batches exist in odd seeds only, and what they draw is drawn apart: so the even
 * seeds that once showed something still mean what they meant. */
static bool is_mixed(const struct sim *sim)
{
    return sim->seed % 2 == 1;
}

/* Of these, some are crowded: many requests at once, room for all, and losses that they survive. So
 * plans are wide and mixed, and most requests come to an answer that is compared. */
static bool is_crowded(const struct sim *sim)
{
    return sim->seed % 8 == 7;
}

static uint32_t draw_apart(const struct sim *sim, uint32_t who, uint32_t what, uint32_t bound)
{
    return (uint32_t)(sim_mix(sim_mix(sim->seed, UINT64_C(0x6d69780000) + who), what) % bound);
}

static void draw_policies(struct sim *sim)
{
    for (uint32_t i = 0; is_mixed(sim) && i < sim->ask_count; i++) {
        struct sim_ask *ask = &sim->asks[i];
        ask->rule = (struct rmk_rule_options){
            .rule = (enum rmk_rule)draw_apart(sim, i, 0, RMK_RULE_LOCAL_LEAP + 1),
            .tau = draw_apart(sim, i, 1, 11) / 10.0,
            .factor = draw_apart(sim, i, 2, 9) / 4.0,
            .factor_compat = draw_apart(sim, i, 3, 2) == 1,
            .tau_low = draw_apart(sim, i, 4, 11) / 10.0,
            .kappa = draw_apart(sim, i, 5, 11) / 10.0,
            .reach = draw_apart(sim, i, 6, 6),
        };
        ask->cache = (struct rmk_cache_options){
            .cache = (enum rmk_cache)draw_apart(sim, i, 7, RMK_CACHE_FEATURE + 1),
            .refresh_interval = draw_apart(sim, i, 8, 7),
            .prompt_interval = 1 + draw_apart(sim, i, 9, 8),
            .gen_interval = 1 + draw_apart(sim, i, 10, 4),
            .transfer_ratio = draw_apart(sim, i, 11, 5) / 4.0,
        };
        ask->best_at_deadline = draw_apart(sim, i, 12, 2) == 1;
    }
    for (uint32_t i = 0; is_mixed(sim) && i < sim->group_count; i++) {
        struct sim_group *group = &sim->groups[i];
        uint32_t who = 100 + i;
        if (draw_apart(sim, who, 0, 8) > 0) {
            group->kv_rows_max = 60 + draw_apart(sim, who, 1, 5 * SIM_ROWS_MAX);
        }
        group->feature_rows_max = group->kv_rows_max;
        if (draw_apart(sim, who, 9, 2) == 0) {
            group->feature_rows_max = draw_apart(sim, who, 10, 2 * SIM_ROWS_MAX);
        }
        if (draw_apart(sim, who, 2, 2) == 0) {
            group->reads_max = 20 + draw_apart(sim, who, 3, 2 * SIM_GEN_MAX);
        }
        if (draw_apart(sim, who, 4, 2) == 0) {
            group->cost_full_row_ns = 1 + draw_apart(sim, who, 5, 2000000);
            group->cost_window_row_ns = draw_apart(sim, who, 6, 2000000);
            group->cost_round_ns = draw_apart(sim, who, 7, 20000000);
        }
        group->slot_count += draw_apart(sim, who, 8, SIM_SLOTS_MAX - 4 + 1);
    }
    if (is_mixed(sim)) {
        sim->limits.rows_per_plan_max = 1 + draw_apart(sim, 200, 0, SIM_PLAN_ROWS_MAX);
    }
}

/* Groups run ahead in every second of the odd seeds: where they are not slow, and nobody waits. */
static void draw_ahead(struct sim *sim)
{
    if (sim->seed % 4 != 3) {
        return;
    }
    sim->limits.ahead_max =
        draw_apart(sim, 300, 0, 8) == 0 ? 1 : 2 + draw_apart(sim, 300, 1, SIM_AHEAD_MAX - 1);
    for (uint32_t i = 0; i < sim->group_count; i++) {
        struct sim_group *group = &sim->groups[i];
        uint32_t who = 301 + i;
        group->ahead_max = draw_apart(sim, who, 0, 8) == 0 ? 0 : 2 + draw_apart(sim, who, 1, 5);
        group->slowness = draw_apart(sim, who, 2, 4) == 0 ? draw_apart(sim, who, 3, 60) : 0;
    }
    for (uint32_t i = 0; i < sim->ask_count; i++) {
        sim->asks[i].stepwise = draw_apart(sim, i, 13, 8) == 0;
    }
}

static void draw_crowd(struct sim *sim)
{
    sim->limits.requests_max = SIM_ASKS_MAX;
    sim->limits.queued_max = SIM_ASKS_MAX;
    sim->limits.rows_per_plan_max = 2 + draw_apart(sim, 201, 0, SIM_PLAN_ROWS_MAX - 1);
    sim->limits.retries_max = RMK_RETRIES_MAX;
    sim->model.poison_per_mille = 0;
    sim->chaos.condemn_per_mille = 0;
    sim->chaos.bad_picture_per_mille /= 4;
    sim->chaos.fetch_garble_per_mille = draw_apart(sim, 202, 0, 60);
    for (uint32_t i = 0; i < sim->group_count; i++) {
        struct sim_group *group = &sim->groups[i];
        group->slot_count = SIM_SLOTS_MAX - draw_apart(sim, 210 + i, 0, SIM_SLOTS_MAX / 2);
        group->rows_max = SIM_ROWS_MAX;
        group->step_rows_max = (2 + draw_apart(sim, 210 + i, 1, 4)) * SIM_ROWS_MAX;
        group->kv_rows_max = (4 + draw_apart(sim, 210 + i, 2, 5)) * SIM_ROWS_MAX;
        group->feature_rows_max = group->kv_rows_max;
        group->reads_max = (2 + draw_apart(sim, 210 + i, 3, 4)) * SIM_GEN_MAX;
    }
}

/* ---- clients over time
 * ------------------------------------------------------------------------------------------- */

static void submit(struct sim *sim, struct sim_event *event)
{
    sim_client_submit(sim, &sim->asks[event->index]);
}

static void tell(struct sim *sim, struct sim_event *event)
{
    sim_client_tell(sim, &sim->asks[event->index], (enum rmk_event_kind)event->number);
}

static void plan_tell(struct sim *sim, uint32_t index, uint64_t at_us, enum rmk_event_kind kind)
{
    struct sim_event *event = sim_at(sim, at_us, tell);

    event->index = index;
    event->number = (uint64_t)kind;
}

static void plan_client(struct sim *sim, uint32_t index, uint64_t span_us)
{
    struct sim_ask *ask = &sim->asks[index];
    uint64_t begin_us = sim_between(sim, 0, span_us);

    sim_at(sim, begin_us, submit)->index = index;
    if (sim_chance(sim, 150)) {
        ask->deadline_us = begin_us + sim_between(sim, 0, 400000);
    }
    if (sim_chance(sim, 150)) {
        plan_tell(sim, index, begin_us + sim_between(sim, 0, 200000), RMK_EVENT_CANCEL);
    }
    if (sim_chance(sim, 200)) {
        uint64_t slow_us = begin_us + sim_between(sim, 0, 100000);
        plan_tell(sim, index, slow_us, RMK_EVENT_CLIENT_SLOW);
        plan_tell(sim, index, slow_us + sim_between(sim, 0, 300000), RMK_EVENT_CLIENT_READY);
    }
}

static void drain(struct sim *sim, struct sim_event *event)
{
    (void)event;
    sim->draining = true;
    sim_deliver(sim, &(struct rmk_event){.kind = RMK_EVENT_DRAIN});
}

static void poke(struct sim *sim, struct sim_event *event)
{
    (void)event;
    if (sim_chance(sim, sim->chaos.tick_per_mille)) {
        sim_deliver(sim, &(struct rmk_event){.kind = RMK_EVENT_TICK});
    }
    if (!sim_is_healing(sim)) {
        sim_at(sim, sim->now_us + 5000, poke);
    }
}

static void rise_group(struct sim *sim, struct sim_event *event)
{
    sim_group_form(sim, event->index);
}

static void rise_vision(struct sim *sim, struct sim_event *event)
{
    sim_vision_form(sim, event->index);
}

static void count_seed(struct sim *sim)
{
    sim->stats.seeds = 1;
    sim->stats.asked = sim->ask_count;
    sim->stats.faults = sim->faults;
    sim_count(sim, (enum sim_stat)(SIM_SEEDS_1_GROUP + sim->group_count - 1));
    if (sim->draining) {
        sim_count(sim, SIM_SEEDS_DRAINED);
    }
    if (sim->faults == 0) {
        sim_count(sim, SIM_SEEDS_CALM);
    }
}

void sim_run_seed(uint64_t seed, bool print_trace, struct sim *sim)
{
    struct rmk_item pictures[4] = {0};

    memset(sim, 0, sizeof(*sim));
    sim->seed = seed;
    sim->print_trace = print_trace;
    draw_limits(sim);
    draw_chaos(sim);
    draw_workers(sim);
    draw_model(sim);
    for (uint32_t i = 0; i < 4; i++) {
        uint64_t name = sim_random(sim);
        memcpy(pictures[i].key, &name, sizeof(name));
        pictures[i].rows = 1 + sim_below(sim, 8);
        pictures[i].tile_count = 1 + sim_below(sim, 6);
    }
    uint32_t asks = 3 + sim_below(sim, 14) + (is_crowded(sim) ? 16 : 0);
    for (uint32_t i = 0; i < asks; i++) {
        draw_ask(sim, pictures, 1 + sim_below(sim, 4));
    }
    draw_policies(sim);
    if (is_crowded(sim)) {
        draw_crowd(sim);
    }
    draw_ahead(sim);
    sim_begin(sim);
    for (uint32_t i = 0; i < sim->group_count; i++) {
        sim_at(sim, sim_between(sim, 0, 20000), rise_group)->index = i;
    }
    for (uint32_t i = 0; i < sim->vision_count; i++) {
        sim_at(sim, sim_between(sim, 0, 20000), rise_vision)->index = i;
    }
    uint64_t span_us = sim_between(sim, 1000, 300000); /* short: overload */
    for (uint32_t i = 0; i < asks; i++) {
        plan_client(sim, i, span_us);
    }
    if (sim_chance(sim, 200) && !is_crowded(sim)) {
        sim_at(sim, sim_between(sim, 0, 400000), drain);
    }
    sim_at(sim, 0, poke);
    sim_run_until_ended(sim, sim->chaos.until_us + 120000000);
    while (sim_run_next(sim)) {
    }
    sim_group_check_idle(sim);
    count_seed(sim);
    sim_end(sim);
}
