#include <stdlib.h>
#include <string.h>

#include "tests/sim/group.h"

struct pull {
    struct rmk_request_id request;
    uint32_t item;
    uint32_t vision;
    uint64_t vision_epoch;
    uint32_t group;
    uint64_t epoch;
    uint64_t number;
};

static bool same(struct rmk_request_id a, struct rmk_request_id b)
{
    return a.index == b.index && a.generation == b.generation;
}

/* ---- life
 * --------------------------------------------------------------------------------------------------------
 */

static void form(struct sim *sim, struct sim_event *event)
{
    sim_group_form(sim, event->index);
}

static void tell_down(struct sim *sim, uint32_t index, uint64_t *stream_us)
{
    struct sim_message *message = sim_message(RMK_EVENT_GROUP_DOWN);

    message->event.group =
        (struct rmk_event_group){.group = index, .epoch = sim->groups[index].epoch};
    sim_send(sim, message, 0, stream_us);
}

static void perish(struct sim *sim, struct sim_event *event)
{
    struct sim_group *group = &sim->groups[event->index];

    if (group->alive && group->epoch == event->number && !sim_is_healing(sim)) {
        sim->faults++;
        sim_group_die(sim, event->index, !sim_chance(sim, sim->chaos.untold_per_mille));
    }
}

void sim_group_form(struct sim *sim, uint32_t index)
{
    struct sim_group *group = &sim->groups[index];

    group->alive = true;
    group->epoch += 1 + sim_below(sim, 2);
    group->sequence = 0;
    group->staged_count = 0;
    memset(group->slots, 0, sizeof(group->slots));
    if (sim_fault(sim, sim->chaos.class_change_per_mille)) {
        group->numerics_class = group->numerics_class % 3 + 1;
    }
    struct sim_message *message = sim_message(RMK_EVENT_GROUP_UP);
    message->event.group = (struct rmk_event_group){
        .group = index,
        .epoch = group->epoch,
        .slot_count = group->slot_count,
        .rows_max = group->rows_max,
        .step_rows_max = group->step_rows_max,
        .numerics_class = group->numerics_class,
        .kv_rows_max = group->kv_rows_max,
        .feature_rows_max = group->feature_rows_max,
        .reads_max = group->reads_max,
        .cost_full_row_ns = group->cost_full_row_ns,
        .cost_window_row_ns = group->cost_window_row_ns,
        .cost_round_ns = group->cost_round_ns,
        .ahead_max = group->ahead_max,
    };
    sim_send(sim, message, 0, &group->up_us);
    if (sim->chaos.group_life_us > 0 && !sim_is_healing(sim)) {
        struct sim_event *death =
            sim_at(sim, sim->now_us + sim_between(sim, 0, 2 * sim->chaos.group_life_us), perish);
        death->index = index;
        death->number = group->epoch;
    }
}

void sim_group_die(struct sim *sim, uint32_t index, bool told)
{
    struct sim_group *group = &sim->groups[index];

    group->alive = false;
    sim_count(sim, SIM_GROUP_LOSSES);
    if (told) {
        /* Not in order with what the group sent before: the loss may be seen first, or last of all.
         */
        tell_down(sim, index, sim_chance(sim, 300) ? NULL : &group->up_us);
    }
    sim_at(sim, sim->now_us + sim_between(sim, sim->form_us / 2, sim->form_us), form)->index =
        index;
}

/* ---- plans
 * -------------------------------------------------------------------------------------------------------
 */

static struct sim_pass pass_of(const struct sim_ask *ask, const struct rmk_plan_row *row)
{
    bool window = row->kind == RMK_PLAN_WINDOW;

    return (struct sim_pass){
        .kind = row->kind,
        .keep = row->keep,
        .begin = window ? row->window_begin : 0,
        .end = window ? row->window_end : sim_ask_rows(ask),
        .refresh_prompt = row->refresh_prompt,
        .refresh_gen = row->refresh_gen,
        .transfer_ratio = row->transfer_ratio,
    };
}

static uint32_t count_positions(const struct sim_ask *ask, const struct rmk_plan_row *row)
{
    struct sim_pass pass = pass_of(ask, row);

    return (pass.end - pass.begin) * (ask->cfg_scale > 0 ? 2 : 1);
}

static void verify_plan(struct sim *sim, const struct sim_group *group, const struct sim_plan *plan)
{
    bool closed[SIM_SLOTS_MAX] = {false};
    uint32_t positions = 0;
    uint32_t reads = 0;

    if (plan->plan.sequence != group->sequence + 1) {
        sim_fail(sim, SIM_WRONG, "group %u got plan %llu after plan %llu", plan->plan.group,
                 (unsigned long long)plan->plan.sequence, (unsigned long long)group->sequence);
    }
    for (uint32_t i = 0; i < plan->plan.close_count; i++) {
        closed[plan->closes[i]] = true;
    }
    for (uint32_t i = 0; i < plan->plan.row_count; i++) {
        const struct rmk_plan_row *row = &plan->rows[i];
        const struct sim_slot *slot = &group->slots[row->slot];
        bool used = slot->used && !closed[row->slot];
        if (row->slot >= group->slot_count) {
            sim_fail(sim, SIM_WRONG, "group %u has no slot %u", plan->plan.group, row->slot);
        }
        if (row->open && used) {
            sim_fail(sim, SIM_WRONG, "slot %u of group %u is opened while request %u.%u is in it",
                     row->slot, plan->plan.group, slot->request.index, slot->request.generation);
        }
        if (!row->open && (!used || !same(slot->request, row->request))) {
            sim_fail(sim, SIM_WRONG, "slot %u of group %u does not hold request %u.%u", row->slot,
                     plan->plan.group, row->request.index, row->request.generation);
        }
        for (uint32_t j = 0; j < i; j++) {
            if (plan->rows[j].slot == row->slot) {
                sim_fail(sim, SIM_WRONG, "slot %u is in a plan twice", row->slot);
            }
        }
        const struct sim_ask *ask = sim_ask_of(sim, row->request);
        reads += row->read_count;
        positions += ask == NULL ? 0 : count_positions(ask, row);
    }
    if (group->reads_max > 0 && reads > group->reads_max) {
        sim_fail(sim, SIM_WRONG, "a plan reads %u positions, group %u takes %u", reads,
                 plan->plan.group, group->reads_max);
    }
    if (positions > group->step_rows_max) {
        sim_fail(sim, SIM_WRONG, "a plan has %u positions, group %u takes %u", positions,
                 plan->plan.group, group->step_rows_max);
    }
}

static bool take_staged(struct sim_group *group, struct rmk_request_id request, uint32_t item,
                        const uint8_t key[32])
{
    for (uint32_t i = 0; i < group->staged_count; i++) {
        struct sim_staged *staged = &group->staged[i];
        if (staged->ready && same(staged->request, request) && staged->item == item &&
            memcmp(staged->key, key, 32) == 0) {
            *staged = group->staged[--group->staged_count];
            return true;
        }
    }
    return false;
}

static void verify_room(struct sim *sim, const struct sim_group *group)
{
    uint32_t kv_rows = 0;
    uint32_t feature_rows = 0;

    for (uint32_t i = 0; i < group->slot_count; i++) {
        const struct sim_slot *slot = &group->slots[i];
        kv_rows += slot->used ? slot->kv_rows : 0;
        feature_rows +=
            slot->used && slot->ask->cache.cache == RMK_CACHE_FEATURE ? slot->kv_rows : 0;
    }
    if (kv_rows > group->kv_rows_max || feature_rows > group->feature_rows_max) {
        sim_fail(sim, SIM_WRONG, "%u key/value rows are to be kept where %u fit", kv_rows,
                 group->kv_rows_max);
    }
}

/* What the row builds on is there, and what it reads it computes. */
static void verify_kept(struct sim *sim, const struct sim_slot *slot, const struct sim_plan *plan,
                        uint32_t index)
{
    const struct rmk_plan_row *row = &plan->rows[index];
    struct sim_pass pass = pass_of(slot->ask, row);
    bool refreshes = row->refresh_prompt && row->refresh_gen;

    if ((row->kind != RMK_PLAN_FULL || row->keep) && slot->kv_rows == 0) {
        sim_fail(sim, SIM_WRONG, "request %u.%u was not opened to keep anything",
                 row->request.index, row->request.generation);
    }
    if ((row->kind == RMK_PLAN_WINDOW && !slot->kept.filled) ||
        (row->kind == RMK_PLAN_FEATURE && !refreshes && !slot->kept.featured)) {
        sim_fail(sim, SIM_WRONG, "request %u.%u builds on what is not there", row->request.index,
                 row->request.generation);
    }
    for (uint32_t i = 0; i < row->read_count; i++) {
        if (plan->reads[index][i] < pass.begin || plan->reads[index][i] >= pass.end) {
            sim_fail(sim, SIM_WRONG, "request %u.%u: read %u is outside [%u, %u)",
                     row->request.index, row->request.generation, plan->reads[index][i], pass.begin,
                     pass.end);
        }
    }
}

/* Prompt and features into the slot. False: a picture's features are not here. */
static bool open_slot(struct sim *sim, struct sim_group *group, const struct rmk_plan_row *row)
{
    struct sim_slot *slot = &group->slots[row->slot];
    const struct sim_ask *ask = sim_ask_of(sim, row->request);

    if (ask == NULL) {
        return false; /* ended while the plan was on its way */
    }
    for (uint32_t i = 0; i < ask->item_count; i++) {
        if (!take_staged(group, row->request, i, ask->items[i].key)) {
            return false;
        }
    }
    slot->used = true;
    slot->request = row->request;
    slot->ask = ask;
    slot->kv_rows = row->kv ? sim_ask_kv_rows(ask) : 0;
    memset(&slot->kept, 0, sizeof(slot->kept));
    verify_room(sim, group);
    sim_ask_fill(ask, slot->rows);
    return true;
}

/* The canvas that the worker has is the one the engine has, and what is to be read is a mask. */
static void update_slot(struct sim *sim, struct sim_group *group, const struct sim_plan *plan,
                        uint32_t index)
{
    const struct rmk_plan_row *row = &plan->rows[index];
    struct sim_slot *slot = &group->slots[row->slot];
    const struct sim_ask *ask = slot->ask;

    for (uint32_t i = 0; i < row->update_count; i++) {
        const struct rmk_plan_update *update = &plan->updates[index][i];
        if (update->position >= sim_ask_rows(ask) || slot->rows[update->position] != SIM_MASK) {
            sim_fail(sim, SIM_WRONG, "request %u.%u: update of row %u, which is no mask",
                     row->request.index, row->request.generation, update->position);
        }
        slot->rows[update->position] = update->id;
    }
    if (memcmp(slot->rows + ask->prompt_rows, plan->canvas[index],
               ask->gen_length * sizeof(int32_t)) != 0) {
        sim_fail(sim, SIM_WRONG, "request %u.%u: the worker's canvas is not the engine's",
                 row->request.index, row->request.generation);
    }
    for (uint32_t i = 0; i < row->read_count; i++) {
        uint32_t read = plan->reads[index][i];
        if (read >= sim_ask_rows(ask) || slot->rows[read] != SIM_MASK ||
            (i > 0 && read <= plan->reads[index][i - 1])) {
            sim_fail(sim, SIM_WRONG, "request %u.%u: read %u is no mask or out of order",
                     row->request.index, row->request.generation, read);
        }
    }
}

bool sim_group_guess(const struct sim *sim, const struct sim_group *group, struct sim_slot *slot,
                     const struct sim_pass *pass, const uint32_t *reads, uint32_t read_count,
                     uint64_t forward, struct rmk_guess *guesses)
{
    uint64_t hash = sim_model_forward(&sim->model, slot->ask, pass, slot->rows, &slot->kept,
                                      forward, group->numerics_class);

    for (uint32_t i = 0; i < read_count; i++) {
        guesses[i].position = (int32_t)reads[i] - (int32_t)slot->ask->prompt_rows;
        sim_model_guess(&sim->model, hash, reads[i], &guesses[i].token, &guesses[i].confidence);
    }
    /* Nobody sees a logit of a row without reads. */
    return read_count == 0 || !sim_model_poisons(&sim->model, hash);
}

static void answer_row(struct sim *sim, struct sim_group *group, const struct sim_plan *plan,
                       uint32_t index, struct sim_message *message)
{
    const struct rmk_plan_row *row = &plan->rows[index];
    struct sim_slot *slot = &group->slots[row->slot];
    const struct sim_pass pass = pass_of(slot->ask, row);
    struct rmk_row_result *result = &message->rows[message->row_count];
    struct rmk_guess *guesses = message->guesses[message->row_count];

    *result = (struct rmk_row_result){
        .request = row->request,
        .poisoned = !sim_group_guess(sim, group, slot, &pass, plan->reads[index], row->read_count,
                                     row->forward, guesses),
        .guess_count = row->read_count,
    };
    message->classes[message->row_count++] = group->numerics_class;
    if (row->ahead <= 1 && sim_fault(sim, sim->chaos.garble_per_mille)) {
        sim_count(sim, SIM_ROWS_GARBLED);
        switch (row->read_count == 0 ? 0 : sim_below(sim, 4)) {
        case 0:
            message->row_count--; /* the row is missing */
            break;
        case 1:
            result->guess_count--;
            break;
        case 2:
            guesses[sim_below(sim, row->read_count)].position += 1;
            break;
        default:
            guesses[sim_below(sim, row->read_count)].token = -7;
            break;
        }
    }
}

/* A message that says the plan did not run. `culprit` -1: nobody is blamed. */
static void refuse_plan(struct sim *sim, struct sim_group *group, const struct sim_plan *plan,
                        int culprit, enum rmk_err err)
{
    struct sim_message *message = sim_message(RMK_EVENT_STEP_FAILED);

    message->event.step = (struct rmk_event_step){
        .group = plan->plan.group,
        .epoch = plan->plan.epoch,
        .sequence = plan->plan.sequence,
        .err = err,
    };
    if (culprit >= 0) {
        message->event.step.culprit = plan->rows[culprit].request;
    }
    sim_count(sim, SIM_PLANS_FAILED);
    (void)snprintf(message->why, sizeof(message->why), "the plan did not run: %s",
                   rmk_err_name(err));
    sim_send(sim, message, sim_between(sim, 0, sim->compute_us_max), &group->up_us);
}

bool sim_group_fail(struct sim *sim, struct sim_group *group, const struct sim_plan *plan,
                    uint32_t row)
{
    struct sim_ask *ask = sim_ask_of(sim, plan->rows[row].request);

    if (group->fail_next || sim_fault(sim, sim->chaos.fail_per_mille)) {
        group->fail_next = false;
        refuse_plan(sim, group, plan, sim_chance(sim, 500) ? (int)row : -1,
                    sim_chance(sim, 500) ? RMK_EINTERNAL : RMK_EUNAVAILABLE);
        return true;
    }
    if (ask != NULL && sim_fault(sim, sim->chaos.condemn_per_mille)) {
        ask->condemned = true;
        refuse_plan(sim, group, plan, (int)row, RMK_EINVAL);
        return true;
    }
    return false;
}

static void count_plan(struct sim *sim, const struct sim_plan *plan)
{
    static const enum sim_stat kinds[] = {[RMK_PLAN_FULL] = SIM_ROWS_FULL,
                                          [RMK_PLAN_WINDOW] = SIM_ROWS_WINDOW,
                                          [RMK_PLAN_FEATURE] = SIM_ROWS_FEATURE};
    uint32_t full = 0;

    sim_count(sim, SIM_PLANS);
    for (uint32_t i = 0; i < plan->plan.row_count; i++) {
        struct sim_ask *ask = sim_ask_of(sim, plan->rows[i].request);
        full += plan->rows[i].kind == RMK_PLAN_FULL;
        sim_count(sim, kinds[plan->rows[i].kind]);
        if (plan->rows[i].read_count == 0) {
            sim_count(sim, SIM_ROWS_REPLAY);
        }
        if (ask != NULL) {
            ask->groups |= 1U << plan->plan.group;
        }
    }
    if (plan->plan.row_count > 1) {
        sim_count(sim, SIM_PLANS_SHARED);
    }
    if (full > 0 && full < plan->plan.row_count) {
        sim_count(sim, SIM_PLANS_MIXED);
    }
}

static void run_plan(struct sim *sim, struct sim_group *group, struct sim_plan *plan)
{
    struct sim_message *message;

    verify_plan(sim, group, plan);
    count_plan(sim, plan);
    group->sequence = plan->plan.sequence;
    if (group->stall_next) {
        group->stall_next = false;
        return;
    }
    if (sim_fault(sim, sim->chaos.stall_per_mille)) {
        if (sim_chance(sim, 500)) {
            return; /* never answers */
        }
        group->up_us = sim->now_us + sim_between(sim, 0, 2 * sim->limits.plan_timeout_us);
    }
    if (sim_fault(sim, sim->chaos.fail_per_mille / 2)) {
        refuse_plan(sim, group, plan, -1, RMK_EUNAVAILABLE); /* before it has closed anything */
        return;
    }
    for (uint32_t i = 0; i < plan->plan.close_count; i++) {
        group->slots[plan->closes[i]].used = false;
    }
    message = sim_message(RMK_EVENT_STEP_DONE);
    message->event.step = (struct rmk_event_step){
        .group = plan->plan.group,
        .epoch = plan->plan.epoch,
        .sequence = plan->plan.sequence,
    };
    for (uint32_t i = 0; i < plan->plan.row_count; i++) {
        if (sim_group_fail(sim, group, plan, i)) {
            free(message);
            return;
        }
        if (plan->rows[i].open && !open_slot(sim, group, &plan->rows[i])) {
            refuse_plan(sim, group, plan, (int)i, RMK_ENOTFOUND);
            free(message);
            return;
        }
        update_slot(sim, group, plan, i);
        verify_kept(sim, &group->slots[plan->rows[i].slot], plan, i);
        answer_row(sim, group, plan, i, message);
    }
    if (plan->rows[0].ahead > 1) {
        if (!sim_ahead_run(sim, group, plan, message)) {
            free(message);
            return;
        }
        sim_ahead_garble(sim, message);
    }
    uint64_t compute_us = sim_between(sim, sim->compute_us_min, sim->compute_us_max);
    message->event.step.compute_us = compute_us * (1 + group->slowness);
    sim_send(sim, message, compute_us, &group->up_us);
}

static void plan_arrives(struct sim *sim, struct sim_event *event)
{
    struct sim_plan *plan = event->payload;
    struct sim_group *group = &sim->groups[event->index];

    if (group->alive && group->epoch == plan->plan.epoch) {
        run_plan(sim, group, plan);
    }
}

/* ---- pulls, releases
 * --------------------------------------------------------------------------------------------- */

static struct sim_staged *find_pull(struct sim_group *group, uint64_t number)
{
    for (uint32_t i = 0; i < group->staged_count; i++) {
        if (group->staged[i].pull == number) {
            return &group->staged[i];
        }
    }
    return NULL;
}

/* Features that are not what the vision worker's checksum says. */
static bool is_garbled(const struct sim *sim, const struct pull *pull)
{
    return !sim_is_healing(sim) &&
           sim_mix(sim_mix(sim->seed, UINT64_C(0x67617262)), pull->number) % 1000 <
               sim->chaos.fetch_garble_per_mille;
}

static void pull_ends(struct sim *sim, struct sim_event *event)
{
    const struct pull *pull = event->payload;
    struct sim_group *group = &sim->groups[pull->group];
    struct sim_staged *staged = find_pull(group, pull->number);
    enum rmk_err err = RMK_OK;

    if (!group->alive || group->epoch != pull->epoch || staged == NULL) {
        return; /* nobody wants it any more */
    }
    if (sim_fault(sim, sim->chaos.evict_per_mille)) {
        sim_vision_evict(sim, pull->vision);
    }
    if (!sim->visions[pull->vision].alive ||
        sim->visions[pull->vision].epoch != pull->vision_epoch) {
        err = RMK_EUNAVAILABLE;
    } else if (!sim_vision_has(sim, pull->vision, pull->vision_epoch, staged->key)) {
        err = RMK_ENOTFOUND;
    } else if (is_garbled(sim, pull)) {
        err = RMK_ECORRUPT;
        sim_count(sim, SIM_PULLS_GARBLED);
    }
    struct sim_message *message =
        sim_message(err == RMK_OK ? RMK_EVENT_FEATURES_RESIDENT : RMK_EVENT_FEATURES_FAILED);
    message->event.features = (struct rmk_event_features){
        .request = pull->request,
        .item = pull->item,
        .group = pull->group,
        .epoch = pull->epoch,
        .err = err,
    };
    staged->ready = err == RMK_OK;
    if (err != RMK_OK) {
        sim->faults++;
        (void)snprintf(message->why, sizeof(message->why), "the pull failed: %s",
                       rmk_err_name(err));
    }
    sim_send(sim, message, 0, &group->up_us);
}

static void pull_arrives(struct sim *sim, struct sim_event *event)
{
    struct pull *pull = event->payload;
    struct sim_group *group = &sim->groups[pull->group];
    const struct sim_ask *ask = sim_ask_of(sim, pull->request);

    if (!group->alive || group->epoch != pull->epoch) {
        return;
    }
    if (ask == NULL || pull->item >= ask->item_count || group->staged_count == SIM_STAGED_MAX) {
        sim_fail(sim, SIM_WRONG,
                 "group %u: a pull for nobody, or %u stagings that were never released",
                 pull->group, group->staged_count);
    }
    struct sim_staged *staged = &group->staged[group->staged_count++];
    pull->number = ++sim->pulls;
    *staged =
        (struct sim_staged){.request = pull->request, .item = pull->item, .pull = pull->number};
    memcpy(staged->key, ask->items[pull->item].key, sizeof(staged->key));
    if (sim_fault(sim, sim->chaos.fetch_stall_per_mille)) {
        return;
    }
    struct sim_event *end =
        sim_at(sim, sim->now_us + sim_link_delay(sim) + sim_link_delay(sim), pull_ends);
    end->payload = event->payload;
    event->payload = NULL;
}

void sim_group_check_idle(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->group_count; i++) {
        const struct sim_group *group = &sim->groups[i];
        if (group->alive && group->staged_count > 0) {
            sim_fail(sim, SIM_WRONG,
                     "group %u: features of %u pictures were staged and never released", i,
                     group->staged_count);
        }
    }
}

static void release_arrives(struct sim *sim, struct sim_event *event)
{
    const struct pull *release = event->payload;
    struct sim_group *group = &sim->groups[release->group];
    uint32_t kept = 0;

    if (!group->alive || group->epoch != release->epoch) {
        return;
    }
    for (uint32_t i = 0; i < group->staged_count; i++) {
        if (!same(group->staged[i].request, release->request)) {
            group->staged[kept++] = group->staged[i];
        }
    }
    group->staged_count = kept;
    /* A body may close the slot at once instead of waiting for the plan that says so. */
    if (sim_chance(sim, sim->chaos.early_close_per_mille)) {
        for (uint32_t slot = 0; slot < group->slot_count; slot++) {
            if (group->slots[slot].used && same(group->slots[slot].request, release->request)) {
                group->slots[slot].used = false;
            }
        }
    }
}

/* ---- what the coordinator's body does
 * ---------------------------------------------------------------------------- */

static struct sim_event *send_down(struct sim *sim, uint32_t index,
                                   void (*run)(struct sim *, struct sim_event *))
{
    struct sim_group *group = &sim->groups[index];
    uint64_t at_us = sim->now_us + sim_link_delay(sim);

    group->down_us = at_us > group->down_us ? at_us : group->down_us;
    struct sim_event *event = sim_at(sim, group->down_us, run);
    event->index = index;
    return event;
}

/* What the group's canvas has to be at this row: all that it has been told. A row that reads is
 * told everything. */
static void copy_canvas(const struct rmk_request *request, const struct sim_ask *ask,
                        int32_t *canvas)
{
    memcpy(canvas, request->canvas.ids, ask->gen_length * sizeof(int32_t));
    for (uint32_t i = request->log_seen; i < request->canvas.log_count; i++) {
        uint32_t position = request->canvas.log[i].position;
        if (position >= ask->prompt_rows && rmk_request_ride(request).replay) {
            canvas[position - ask->prompt_rows] = SIM_MASK;
        }
    }
}

static void send_plan(struct sim *sim, const struct rmk_plan *plan)
{
    struct sim_group *group = &sim->groups[plan->group];
    struct sim_plan *copy = calloc(1, sizeof(*copy));

    if (copy == NULL || plan->row_count == 0 || plan->row_count > sim->limits.rows_per_plan_max) {
        sim_fail(sim, SIM_WRONG, "a plan of %u rows", plan->row_count);
    }
    if (group->flight_epoch == plan->epoch && group->flight_sequence != 0) {
        sim_fail(sim, SIM_WRONG, "group %u gets plan %llu while plan %llu is not answered",
                 plan->group, (unsigned long long)plan->sequence,
                 (unsigned long long)group->flight_sequence);
    }
    group->flight_epoch = plan->epoch;
    group->flight_sequence = plan->sequence;
    copy->plan = *plan;
    memcpy(copy->closes, plan->closes, plan->close_count * sizeof(*plan->closes));
    for (uint32_t i = 0; i < plan->row_count; i++) {
        const struct rmk_plan_row *row = &plan->rows[i];
        const struct sim_ask *ask = sim_ask_of(sim, row->request);
        if (ask == NULL || ask->ended || ask->slow) {
            sim_fail(sim, SIM_WRONG,
                     "request %u.%u rides though it has ended or its client is slow",
                     row->request.index, row->request.generation);
        }
        copy->rows[i] = *row;
        memcpy(copy->updates[i], row->updates, row->update_count * sizeof(*row->updates));
        memcpy(copy->reads[i], row->reads, row->read_count * sizeof(*row->reads));
        copy_canvas(&sim->engine->requests[row->request.index], ask, copy->canvas[i]);
        if (row->ahead > 1) {
            sim_ahead_take_leave(sim, plan->group, row, ask, copy, i);
        }
    }
    send_down(sim, plan->group, plan_arrives)->payload = copy;
}

static void dissolve(struct sim *sim, struct sim_event *event)
{
    struct sim_group *group = &sim->groups[event->index];

    if (group->alive && group->epoch == event->number) {
        sim_group_die(sim, event->index, true);
    }
}

void sim_group_act(struct sim *sim, const struct rmk_action *action)
{
    if (action->kind == RMK_ACTION_RUN_STEP) {
        sim_share_note(sim, &action->plan);
        send_plan(sim, &action->plan);
        return;
    }
    if (action->kind == RMK_ACTION_DISSOLVE) {
        struct sim_event *event = sim_at(sim, sim->now_us + sim_link_delay(sim), dissolve);
        sim_count(sim, SIM_DISSOLVED);
        event->index = action->place.group;
        event->number = action->place.epoch;
        return;
    }
    struct pull *message = calloc(1, sizeof(*message));
    if (message == NULL) {
        sim_fail(sim, 1, "no memory");
    }
    *message = (struct pull){
        .request = action->request,
        .item = action->place.item,
        .vision = action->place.vision,
        .vision_epoch = action->place.vision_epoch,
        .group = action->place.group,
        .epoch = action->place.epoch,
    };
    bool pulls = action->kind == RMK_ACTION_PREFETCH;
    send_down(sim, message->group, pulls ? pull_arrives : release_arrives)->payload = message;
}
