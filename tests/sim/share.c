/* What tenants have of a group, reckoned from outside: over every span of plans each of which
 * leaves somebody of tenant A out, no other tenant gets more work than A, but for a bounded lead.
 */
#include <string.h>

#include "common/least.h"
#include "coordinator/engine/policy.h"
#include "coordinator/engine/state.h" /* for looking in only */
#include "tests/sim/sim.h"

struct tenant_view {
    bool online; /* it has residents that are not batch ones */
    bool waits;  /* it has residents that could ride and do not */
    uint64_t work;
};

static uint64_t cost_of(const struct sim_group *group, const struct sim_ask *ask,
                        const struct rmk_plan_row *row)
{
    bool window = row->kind == RMK_PLAN_WINDOW;
    uint64_t rows = window ? row->window_end - row->window_begin : sim_ask_rows(ask);
    uint64_t row_ns = window && group->cost_window_row_ns > 0 ? group->cost_window_row_ns
                                                              : group->cost_full_row_ns;

    return rows * (ask->cfg_scale > 0 ? 2 : 1) * (row_ns == 0 ? 1 : row_ns);
}

static void look(const struct sim *sim, const struct rmk_plan *plan,
                 struct tenant_view views[SIM_TENANTS])
{
    const struct rmk_group *group = &sim->engine->fleet.groups[plan->group];

    for (uint32_t i = 0; i < group->slot_count; i++) {
        const struct rmk_request_id holder = group->slots[i].holder;
        const struct rmk_request *request = &sim->engine->requests[holder.index];
        if (holder.generation != 0) {
            struct tenant_view *view = &views[request->tenant];
            view->online |= request->lane == RMK_LANE_ONLINE;
            view->waits |= request->stage == RMK_STAGE_READY && !request->slow;
        }
    }
}

void sim_share_note(struct sim *sim, const struct rmk_plan *plan)
{
    struct sim_group *group = &sim->groups[plan->group];
    struct sim_shares *shares = &group->shares;
    struct tenant_view views[SIM_TENANTS] = {0};

    if (shares->epoch != plan->epoch) {
        *shares = (struct sim_shares){.epoch = plan->epoch};
    }
    look(sim, plan, views);
    for (uint32_t i = 0; i < plan->row_count; i++) {
        const struct sim_ask *ask = sim_ask_of(sim, plan->rows[i].request);
        uint64_t cost = cost_of(group, ask, &plan->rows[i]);
        struct tenant_view *view = &views[ask->tenant];

        uint64_t charge = cost * (view->online ? 1 : RMK_POLICY_ONLINE_STREAK + 1);

        shares->cost_max = rmk_most(shares->cost_max, cost);
        shares->charge_max = rmk_most(shares->charge_max, charge);
        view->work += charge;
    }
    uint64_t lead = shares->cost_max;
    if (group->cost_full_row_ns > 0) {
        lead = rmk_most(lead, rmk_most(RMK_POLICY_ROUND_NS, group->cost_round_ns));
    }
    uint64_t slack = 2 * (lead + shares->charge_max) + rmk_most(lead, shares->charge_max);
    for (uint32_t a = 0; a < SIM_TENANTS; a++) {
        for (uint32_t b = 0; b < SIM_TENANTS; b++) {
            uint64_t *had = &shares->had[a][b];
            *had = views[a].waits ? *had + views[b].work : 0;
        }
        for (uint32_t b = 0; b < SIM_TENANTS; b++) {
            if (shares->had[a][b] > shares->had[a][a] + slack) {
                sim_fail(sim, SIM_WRONG,
                         "while tenant %u waited for group %u, tenant %u had %llu of its work and "
                         "it %llu",
                         a, plan->group, b, (unsigned long long)shares->had[a][b],
                         (unsigned long long)shares->had[a][a]);
            }
        }
    }
}
