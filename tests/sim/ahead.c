/* A group that runs ahead, with the engine's own code and a canvas of its own for each row. */
#include <string.h>

#include "tests/sim/group.h"

/* In the queue, or on the group for anything but his client. */
static bool somebody_waits(const struct sim *sim, uint32_t index)
{
    const struct rmk_group *group = &sim->engine->fleet.groups[index];
    uint32_t waiting = sim->engine->queue.count;

    for (uint32_t slot = 0; slot < group->slot_count; slot++) {
        const struct rmk_request *request = &sim->engine->requests[group->slots[slot].holder.index];
        waiting += group->slots[slot].holder.generation != 0 &&
                   request->stage != RMK_STAGE_RIDING && !request->slow;
    }
    return waiting > 0;
}

void sim_ahead_take_leave(struct sim *sim, uint32_t group, const struct rmk_plan_row *row,
                          const struct sim_ask *ask, struct sim_plan *copy, uint32_t index)
{
    if (somebody_waits(sim, group) || ask->stepwise || row->ahead > sim->limits.ahead_max ||
        row->ahead > sim->groups[group].ahead_max) {
        sim_fail(sim, SIM_WRONG, "request %u.%u has leave for %u forwards, which it must not have",
                 row->request.index, row->request.generation, row->ahead);
    }
    rmk_ahead_describe(row->canvas, &copy->aheads[index]);
    for (uint32_t i = 0; i < ask->stop_count; i++) {
        copy->stops[index][i] =
            (struct rmk_stop){.ids = ask->stop_ids[i], .count = ask->stop_counts[i]};
    }
    copy->aheads[index].stops = copy->stops[index];
    copy->aheads[index].ids = copy->canvas[index];
}

/* Rows with leave go on with canvases of their own, which the engine's code moves. */
struct ahead {
    struct rmk_canvas canvases[SIM_PLAN_ROWS_MAX];
    uint32_t log_seen[SIM_PLAN_ROWS_MAX];
};

static void begin_ahead(struct sim *sim, const struct sim_plan *plan, struct ahead *ahead)
{
    for (uint32_t i = 0; i < plan->plan.row_count; i++) {
        const struct rmk_plan_row *row = &plan->rows[i];
        struct rmk_canvas *canvas = &ahead->canvases[i];
        struct rmk_why why = {0};
        if (row->ahead != plan->rows[0].ahead || row->read_count == 0) {
            sim_fail(sim, SIM_WRONG, "request %u.%u rides with leave for %u forwards",
                     row->request.index, row->request.generation, row->ahead);
        }
        if (rmk_ahead_begin(canvas, &plan->aheads[i], &why) != RMK_OK ||
            canvas->read_count != row->read_count ||
            memcmp(canvas->reads, plan->reads[i], row->read_count * sizeof(uint32_t)) != 0) {
            sim_fail(sim, SIM_WRONG, "request %u.%u: the leave is not for this forward: %s",
                     row->request.index, row->request.generation, why.text);
        }
        ahead->log_seen[i] = 0;
    }
}

/* Every row commits its last forward. False: one of them has to stop there. */
static bool commit_ahead(const struct sim_plan *plan, const struct sim_message *message, uint32_t n,
                         struct ahead *ahead)
{
    bool goes_on = true;

    for (uint32_t i = 0; i < plan->plan.row_count; i++) {
        struct rmk_canvas *canvas = &ahead->canvases[i];
        struct rmk_guess guesses[SIM_READS_MAX];
        if (message->rows[i].poisoned || message->rows[i].poisoned_ahead) {
            return false;
        }
        memcpy(guesses, n == 1 ? message->guesses[i] : message->ahead_guesses[i][n - 2],
               canvas->read_count * sizeof(*guesses));
        (void)rmk_canvas_commit(canvas, guesses, canvas->read_count);
        goes_on = rmk_canvas_next(canvas) && rmk_ahead_may(canvas) && goes_on;
    }
    return goes_on;
}

/* Forward n (from 1) of a row beyond the one that was asked for. Returns the positions computed. */
static uint32_t forward_ahead(struct sim *sim, struct sim_group *group, const struct sim_plan *plan,
                              uint32_t index, uint32_t n, struct ahead *ahead,
                              struct sim_message *message)
{
    const struct rmk_plan_row *row = &plan->rows[index];
    struct sim_slot *slot = &group->slots[row->slot];
    struct rmk_canvas *canvas = &ahead->canvases[index];
    const struct sim_pass pass = {
        .kind = canvas->pass.kind,
        .keep = canvas->pass.keep,
        .begin = canvas->pass.begin,
        .end = canvas->pass.end,
        .refresh_prompt = canvas->pass.refresh_prompt,
        .refresh_gen = canvas->pass.refresh_gen,
        .transfer_ratio = row->transfer_ratio,
    };

    if (pass.keep || (pass.refresh_prompt && pass.refresh_gen)) {
        sim_fail(sim, SIM_WRONG,
                 "request %u.%u: forward %llu computes everything anew, and is run "
                 "ahead",
                 row->request.index, row->request.generation, (unsigned long long)canvas->forward);
    }
    struct rmk_row_forward *forward = &message->ahead[index][n - 1];
    for (; ahead->log_seen[index] < canvas->log_count; ahead->log_seen[index]++) {
        const struct rmk_plan_update *update = &canvas->log[ahead->log_seen[index]];
        slot->rows[update->position] = update->id;
        message->ahead_commits[index][n - 1][forward->commit_count++] = *update;
    }
    if (sim_group_guess(sim, group, slot, &pass, canvas->reads, canvas->read_count, canvas->forward,
                        message->ahead_guesses[index][n - 1])) {
        forward->guess_count = canvas->read_count;
        message->rows[index].ahead_count = n;
    } else {
        message->rows[index].poisoned_ahead = true;
    }
    return (pass.end - pass.begin) * (slot->ask->cfg_scale > 0 ? 2 : 1);
}

bool sim_ahead_run(struct sim *sim, struct sim_group *group, const struct sim_plan *plan,
                   struct sim_message *message)
{
    static struct ahead ahead;

    begin_ahead(sim, plan, &ahead);
    for (uint32_t n = 1; n < plan->rows[0].ahead && commit_ahead(plan, message, n, &ahead); n++) {
        uint32_t positions = 0;
        uint32_t reads = 0;
        if (sim_group_fail(sim, group, plan, sim_below(sim, plan->plan.row_count))) {
            return false;
        }
        for (uint32_t i = 0; i < plan->plan.row_count; i++) {
            positions += forward_ahead(sim, group, plan, i, n, &ahead, message);
            sim_count(sim, SIM_ROWS_AHEAD);
            reads += ahead.canvases[i].read_count;
        }
        if (positions > group->step_rows_max ||
            (group->reads_max > 0 && reads > group->reads_max)) {
            sim_fail(sim, SIM_WRONG, "%u positions and %u reads are run ahead, group %u takes less",
                     positions, reads, plan->plan.group);
        }
    }
    return true;
}

void sim_ahead_garble(struct sim *sim, struct sim_message *message)
{
    for (uint32_t i = 0; i < message->row_count; i++) {
        if (!sim_fault(sim, sim->chaos.garble_per_mille)) {
            continue;
        }
        sim_count(sim, SIM_ROWS_GARBLED);
        uint32_t n = sim_below(sim, message->rows[i].ahead_count + 1);
        uint32_t *count =
            n == 0 ? &message->rows[i].guess_count : &message->ahead[i][n - 1].guess_count;
        struct rmk_guess *guesses = n == 0 ? message->guesses[i] : message->ahead_guesses[i][n - 1];
        switch (sim_below(sim, 3)) {
        case 0:
            --*count;
            break;
        case 1:
            guesses[sim_below(sim, *count)].position += 1;
            break;
        default:
            guesses[sim_below(sim, *count)].token = -7;
            break;
        }
    }
}
