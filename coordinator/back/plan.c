#include "coordinator/back/plan.h"

#include <xxhash.h>

#include "common/rpc/pack.h"
#include "coordinator/arena.h"
#include "coordinator/back/back.h"
#include "coordinator/engine/ahead.h"
#include "coordinator/engine/engine.h"
#include "coordinator/front/intake.h"
#include "remask/cluster/v1/cluster.pb-c.h"

/* protobuf-c wants pointers to mutable memory and only reads it. */
#define READ_ONLY(type, pointer) ((type *)(uintptr_t)(pointer))

static Remask__Cluster__V1__Open *make_open(const struct rmk_plan_row *row,
                                            const struct rmk_intake *intake,
                                            struct rmk_arena *scratch)
{
    Remask__Cluster__V1__Open *open = rmk_arena_take(scratch, sizeof(*open));
    Remask__Cluster__V1__Layout *layout =
        rmk_arena_take(scratch, intake->piece_count * sizeof(*layout));

    remask__cluster__v1__open__init(open);
    open->slot = row->slot;
    open->request = rmk_wire_of_request(row->request);
    open->prompt_rows = intake->submit.prompt_rows;
    open->gen_length = intake->submit.gen_length;
    open->kv = row->kv;
    open->cfg = intake->submit.cfg_scale > 0;
    open->feature = intake->submit.cache.cache == RMK_CACHE_FEATURE;
    open->n_suffix = intake->submit.suffix_count;
    open->suffix = READ_ONLY(int32_t, intake->submit.suffix);
    open->n_layout = intake->piece_count;
    open->layout = rmk_arena_take(scratch, intake->piece_count * sizeof(*open->layout));
    for (uint32_t i = 0; i < intake->piece_count; i++) {
        const struct rmk_piece *piece = &intake->pieces[i];

        remask__cluster__v1__layout__init(&layout[i]);
        layout[i].n_ids = piece->id_count;
        layout[i].ids = intake->ids + piece->id_first;
        layout[i].item = piece->item;
        layout[i].rows = piece->rows;
        open->layout[i] = &layout[i];
    }
    return open;
}

static Remask__Cluster__V1__RowKind kind_of(enum rmk_plan_kind kind)
{
    static const Remask__Cluster__V1__RowKind kinds[] = {
        [RMK_PLAN_FULL] = REMASK__CLUSTER__V1__ROW_KIND__FULL,
        [RMK_PLAN_WINDOW] = REMASK__CLUSTER__V1__ROW_KIND__WINDOW,
        [RMK_PLAN_FEATURE] = REMASK__CLUSTER__V1__ROW_KIND__FEATURE,
    };

    return kinds[kind];
}

static Remask__Cluster__V1__CommitRule rule_of(enum rmk_rule rule)
{
    static const Remask__Cluster__V1__CommitRule rules[] = {
        [RMK_RULE_QUOTA] = REMASK__CLUSTER__V1__COMMIT_RULE__RULE_QUOTA,
        [RMK_RULE_THRESHOLD] = REMASK__CLUSTER__V1__COMMIT_RULE__RULE_THRESHOLD,
        [RMK_RULE_FACTOR] = REMASK__CLUSTER__V1__COMMIT_RULE__RULE_FACTOR,
        [RMK_RULE_HIERARCHICAL] = REMASK__CLUSTER__V1__COMMIT_RULE__RULE_HIERARCHICAL,
        [RMK_RULE_LOCAL_LEAP] = REMASK__CLUSTER__V1__COMMIT_RULE__RULE_LOCAL_LEAP,
    };

    return rules[rule];
}

static Remask__Cluster__V1__CachePolicy cache_of(enum rmk_cache cache)
{
    static const Remask__Cluster__V1__CachePolicy policies[] = {
        [RMK_CACHE_NONE] = REMASK__CLUSTER__V1__CACHE_POLICY__CACHE_NONE,
        [RMK_CACHE_PROMPT] = REMASK__CLUSTER__V1__CACHE_POLICY__CACHE_PROMPT,
        [RMK_CACHE_PREFIX] = REMASK__CLUSTER__V1__CACHE_POLICY__CACHE_PREFIX,
        [RMK_CACHE_DUAL] = REMASK__CLUSTER__V1__CACHE_POLICY__CACHE_DUAL,
        [RMK_CACHE_FEATURE] = REMASK__CLUSTER__V1__CACHE_POLICY__CACHE_FEATURE,
    };

    return policies[cache];
}

static void add_stops(Remask__Cluster__V1__RunAhead *out, const struct rmk_ahead *ahead,
                      struct rmk_arena *scratch)
{
    Remask__Cluster__V1__StopIds *stops =
        rmk_arena_take(scratch, ahead->stop_count * sizeof(*stops));

    out->n_stops = ahead->stop_count;
    out->stops = rmk_arena_take(scratch, ahead->stop_count * sizeof(*out->stops));
    for (uint32_t i = 0; i < ahead->stop_count; i++) {
        remask__cluster__v1__stop_ids__init(&stops[i]);
        stops[i].n_ids = ahead->stops[i].count;
        stops[i].ids = READ_ONLY(int32_t, ahead->stops[i].ids);
        out->stops[i] = &stops[i];
    }
}

/* Seed, noise, forward and transfer ratio are the row's own. */
static Remask__Cluster__V1__RunAhead *make_ahead(const struct rmk_plan_row *row,
                                                 struct rmk_arena *scratch)
{
    Remask__Cluster__V1__RunAhead *out = rmk_arena_take(scratch, sizeof(*out));
    struct rmk_ahead *ahead = rmk_arena_take(scratch, sizeof(*ahead));

    rmk_ahead_describe(row->canvas, ahead);
    remask__cluster__v1__run_ahead__init(out);
    out->forwards = row->ahead;
    out->prompt_rows = ahead->prompt_rows;
    out->total_rows = ahead->total_rows;
    out->block_length = ahead->block_length;
    out->steps_per_block = ahead->steps_per_block;
    out->mask_id = ahead->mask_id;
    out->random_remasking = ahead->remasking == RMK_REMASK_RANDOM;
    out->rule = rule_of(ahead->rule.rule);
    out->tau = ahead->rule.tau;
    out->factor = ahead->rule.factor;
    out->factor_compat = ahead->rule.factor_compat;
    out->tau_low = ahead->rule.tau_low;
    out->kappa = ahead->rule.kappa;
    out->reach = ahead->rule.reach;
    out->cache = cache_of(ahead->cache.cache);
    out->refresh_interval = ahead->cache.refresh_interval;
    out->prompt_interval = ahead->cache.prompt_interval;
    out->gen_interval = ahead->cache.gen_interval;
    add_stops(out, ahead, scratch);
    out->based = ahead->based;
    out->base_forward = ahead->base;
    out->block = ahead->block;
    out->step = ahead->step;
    out->block_masks = ahead->block_masks;
    out->found = ahead->found;
    out->stop_position = ahead->stop_position;
    out->n_ids = ahead->gen_length;
    out->ids = READ_ONLY(int32_t, ahead->ids);
    out->n_prompt_masks = ahead->prompt_mask_count;
    out->prompt_masks = ahead->prompt_masks;
    return out;
}

static Remask__Cluster__V1__Row *make_row(const struct rmk_plan_row *row, struct rmk_arena *scratch)
{
    Remask__Cluster__V1__Row *out = rmk_arena_take(scratch, sizeof(*out));
    uint32_t *positions = rmk_arena_take(scratch, row->update_count * sizeof(*positions));
    int32_t *ids = rmk_arena_take(scratch, row->update_count * sizeof(*ids));

    for (uint32_t i = 0; i < row->update_count; i++) {
        positions[i] = row->updates[i].position;
        ids[i] = row->updates[i].id;
    }
    remask__cluster__v1__row__init(out);
    out->request = rmk_wire_of_request(row->request);
    out->slot = row->slot;
    out->kind = kind_of(row->kind);
    out->keep = row->keep;
    out->window_begin = row->window_begin;
    out->window_end = row->window_end;
    out->refresh_prompt = row->refresh_prompt;
    out->refresh_gen = row->refresh_gen;
    out->transfer_ratio = row->transfer_ratio;
    out->cfg_scale = row->cfg_scale;
    out->n_update_positions = row->update_count;
    out->update_positions = positions;
    out->n_update_ids = row->update_count;
    out->update_ids = ids;
    out->n_reads = row->read_count;
    out->reads = READ_ONLY(uint32_t, row->reads);
    out->temperature = row->temperature;
    out->noise = row->golden_noise ? REMASK__CLUSTER__V1__NOISE_KIND__SPLITMIX_REFERENCE
                                   : REMASK__CLUSTER__V1__NOISE_KIND__PHILOX;
    out->seed = row->seed;
    out->forward = row->forward;
    out->ahead = row->ahead > 1 ? make_ahead(row, scratch) : NULL;
    return out;
}

uint8_t *rmk_plan_pack(const struct rmk_plan *plan, const struct rmk_intake *const *intakes,
                       struct rmk_arena *scratch, size_t *out_size)
{
    Remask__Cluster__V1__StepPlan step_plan = REMASK__CLUSTER__V1__STEP_PLAN__INIT;
    Remask__Cluster__V1__CoordinatorMessage message =
        REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__INIT;

    step_plan.epoch = plan->epoch;
    step_plan.sequence = plan->sequence;
    step_plan.n_closes = plan->close_count;
    step_plan.closes = READ_ONLY(uint32_t, plan->closes);
    step_plan.opens = rmk_arena_take(scratch, plan->row_count * sizeof(*step_plan.opens));
    step_plan.rows = rmk_arena_take(scratch, plan->row_count * sizeof(*step_plan.rows));
    for (uint32_t i = 0; i < plan->row_count; i++) {
        if (plan->rows[i].open) {
            step_plan.opens[step_plan.n_opens++] = make_open(&plan->rows[i], intakes[i], scratch);
        }
        step_plan.rows[step_plan.n_rows++] = make_row(&plan->rows[i], scratch);
    }
    message.kind_case = REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_STEP_PLAN;
    message.step_plan = &step_plan;
    return rmk_pack(&message.base, out_size);
}

uint64_t rmk_plan_hash(const uint8_t *packed, size_t size)
{
    return XXH64(packed, size, 0);
}
