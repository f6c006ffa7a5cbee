#include "tests/company/party.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/prng.h"
#include "tests/support/text_group.h"
#include "tests/unit/coordinator/engine/door.h"
#include "worker/text/weights.h"

enum {
    ROWS_MAX = PARTY_PROMPT_MAX + PARTY_GEN_MAX,
    READS_MAX = PARTY_ASKS * PARTY_GEN_MAX,
    GROUP_READY_US = 1000,
};

struct party {
    struct text_group group;
    struct spy *spies[TEXT_GROUP_MAX];
    struct door door;
    uint64_t order;
    uint64_t epoch;
    uint32_t widest;
    const struct party_ask *asks;
    struct party_answer *answers;
    /* The plan under way. */
    bool planned;
    struct rmk_plan plan;
    struct rmk_plan_row rows[PARTY_ASKS]; /* in another order */
    uint64_t timer_us;
    struct rmk_guess guesses[READS_MAX];
    struct rmk_read reads[TEXT_GROUP_MAX][READS_MAX];
    bool poisoned[TEXT_GROUP_MAX][PARTY_ASKS];
};

static uint64_t next_number(uint64_t *state)
{
    return rmk_prng_splitmix(20, (*state)++);
}

static uint32_t below(uint64_t *state, uint32_t bound)
{
    return (uint32_t)(next_number(state) % bound);
}

/* ---- what is asked
 * ---------------------------------------------------------------------------------------------- */

static void make_prompt(const struct rmk_spec *spec, struct party_ask *ask, uint64_t *random)
{
    struct rmk_submit *submit = &ask->submit;
    const size_t width = spec->text.width;

    submit->prompt_rows = 4 + below(random, PARTY_PROMPT_MAX - 4 + 1);
    for (uint32_t i = 0; i < submit->prompt_rows; i++) {
        ask->ids[i] = (int32_t)(2 + below(random, 30));
    }
    if (below(random, 2) == 0) {
        ask->picture_begin = below(random, submit->prompt_rows);
        ask->picture_end =
            ask->picture_begin + 1 + below(random, submit->prompt_rows - ask->picture_begin);
    }
    size_t count = (ask->picture_end - ask->picture_begin) * width;
    ask->features = calloc(count + 1, sizeof(*ask->features));
    assert_non_null(ask->features);
    for (size_t i = 0; i < count; i++) {
        ask->features[i] = ((float)below(random, 2000) - 1000.0F) / 20000.0F;
    }
}

/* Every rule with every cache comes up (25 of 65), the rest by chance. */
static void make_policy(struct party_ask *ask, uint32_t index, uint64_t *random)
{
    struct rmk_submit *submit = &ask->submit;

    submit->rule = (struct rmk_rule_options){
        .rule = (enum rmk_rule)(index % (RMK_RULE_LOCAL_LEAP + 1)),
        .tau = below(random, 2) == 0 ? 0.9 : 1.0,
        .factor = below(random, 2) == 0 ? 0.5 : 0.01,
        .tau_low = 0.3,
        .kappa = 0.9,
        .reach = 2,
    };
    submit->cache = (struct rmk_cache_options){
        .cache = (enum rmk_cache)(index / (RMK_RULE_LOCAL_LEAP + 1) % (RMK_CACHE_FEATURE + 1)),
        .refresh_interval = below(random, 2) == 0 ? 0 : 3,
        .prompt_interval = 4,
        .gen_interval = 2,
        .transfer_ratio = 0.25,
    };
    if (below(random, 2) == 0) {
        submit->temperature = 0.7;
    }
    if (below(random, 3) == 0) {
        submit->cfg_scale = 1.5F;
    }
    if (submit->rule.rule == RMK_RULE_QUOTA && below(random, 2) == 0) {
        submit->remasking = RMK_REMASK_RANDOM;
    }
}

void party_make_asks(const struct rmk_spec *spec, struct party_ask *asks)
{
    static const uint32_t blocks[] = {4, 8, 16};
    uint64_t random = 20;

    for (uint32_t i = 0; i < PARTY_ASKS; i++) {
        struct party_ask *ask = &asks[i];
        *ask = (struct party_ask){.submit = {.tag = i,
                                             .mask_id = spec->text.mask_id,
                                             .gen_length = PARTY_GEN_MAX,
                                             .block_length = blocks[below(&random, 3)],
                                             .seed = SPY_SEED + i}};
        if (ask->submit.block_length < PARTY_GEN_MAX && below(&random, 2) == 0) {
            ask->submit.gen_length = PARTY_GEN_MAX / 2;
        }
        ask->submit.steps = ask->submit.gen_length / (1 + below(&random, 2));
        make_prompt(spec, ask, &random);
        make_policy(ask, i, &random);
    }
}

void party_free_asks(struct party_ask *asks)
{
    for (uint32_t i = 0; i < PARTY_ASKS; i++) {
        free(asks[i].features);
    }
}

/* ---- the group
 * ----------------------------------------------------------------------------------------------------
 */

struct party *party_create(const struct rmk_spec *spec, enum rmk_dtype act, uint32_t ranks,
                           uint32_t threads)
{
    struct party *party = calloc(1, sizeof(*party));

    assert_non_null(party);
    party->group = (struct text_group){
        .device = {.backend = "cpu", .act = act, .threads = threads},
        .runner = {.spec = spec,
                   .slot_count = PARTY_ASKS,
                   .rows_max = ROWS_MAX,
                   .step_rows_max = 2 * PARTY_ASKS * ROWS_MAX,
                   .reads_max = READS_MAX,
                   .kv_rows_max = 2 * PARTY_ASKS * ROWS_MAX,
                   .feature_rows_max = 2 * PARTY_ASKS * ROWS_MAX},
    };
    if (text_group_create(&party->group, ranks) != RMK_OK) {
        fail_msg("%u ranks: %s", ranks, text_group_why(&party->group));
    }
    for (uint32_t rank = 0; rank < ranks; rank++) {
        party->spies[rank] = spy_create(party->group.ranks[rank].device,
                                        rmk_weights_cut(spec->text.vocab, rank, ranks).count);
    }
    return party;
}

void party_destroy(struct party *party)
{
    for (uint32_t rank = 0; rank < party->group.size; rank++) {
        spy_destroy(party->spies[rank]);
    }
    text_group_destroy(&party->group);
    free(party);
}

struct spy *party_spy(struct party *party, uint32_t rank)
{
    return party->spies[rank];
}

uint32_t party_widest(const struct party *party)
{
    return party->widest;
}

static enum rmk_err open_row(struct text_rank *rank, const struct party_ask *ask,
                             const struct rmk_plan_row *row)
{
    struct rmk_layout layout[PARTY_LAYOUTS];
    uint32_t count = 0;

    if (ask->picture_begin > 0) {
        layout[count++] = (struct rmk_layout){.ids = ask->ids, .rows = ask->picture_begin};
    }
    if (ask->picture_end > ask->picture_begin) {
        layout[count++] = (struct rmk_layout){.features = rank->rank == 0 ? ask->features : NULL,
                                              .rows = ask->picture_end - ask->picture_begin};
    }
    if (ask->submit.prompt_rows > ask->picture_end) {
        layout[count++] = (struct rmk_layout){.ids = ask->ids + ask->picture_end,
                                              .rows = ask->submit.prompt_rows - ask->picture_end};
    }
    const struct rmk_open open = {.slot = row->slot,
                                  .prompt_rows = ask->submit.prompt_rows,
                                  .layout = layout,
                                  .layout_count = count,
                                  .gen_length = ask->submit.gen_length,
                                  .kv = row->kv,
                                  .cfg = row->cfg_scale > 0,
                                  .feature = row->kind == RMK_PLAN_FEATURE};
    return rmk_runner_open(rank->runner, &open, &rank->why);
}

/* One rank's part of the plan. */
static enum rmk_err run_on(struct text_rank *rank, void *argument)
{
    struct party *party = argument;
    const struct rmk_plan *plan = &party->plan;
    struct rmk_row rows[PARTY_ASKS];
    struct rmk_update *updates[PARTY_ASKS] = {NULL};
    enum rmk_err err = RMK_OK;

    for (uint32_t i = 0; i < plan->close_count; i++) {
        rmk_runner_close(rank->runner, plan->closes[i]);
    }
    for (uint32_t i = 0; i < plan->row_count; i++) {
        const struct rmk_plan_row *row = &party->rows[i];
        const struct party_ask *ask = &party->asks[row->seed - SPY_SEED];
        updates[i] = calloc(row->update_count + 1, sizeof(*updates[i]));
        assert_non_null(updates[i]);
        for (uint32_t j = 0; j < row->update_count; j++) {
            updates[i][j] =
                (struct rmk_update){.position = row->updates[j].position, .id = row->updates[j].id};
        }
        rows[i] = (struct rmk_row){
            .slot = row->slot,
            .kind = row->kind == RMK_PLAN_FULL     ? RMK_ROW_FULL
                    : row->kind == RMK_PLAN_WINDOW ? RMK_ROW_WINDOW
                                                   : RMK_ROW_FEATURE,
            .keep = row->keep,
            .window_begin = row->window_begin,
            .window_end = row->window_end,
            .refresh_prompt = row->refresh_prompt,
            .refresh_gen = row->refresh_gen,
            .transfer_ratio = row->transfer_ratio,
            .cfg_scale = row->cfg_scale,
            .updates = updates[i],
            .update_count = row->update_count,
            .reads = row->reads,
            .read_count = row->read_count,
            .noise = RMK_NOISE_PHILOX,
            .temperature = row->temperature,
            .seed = row->seed,
            .forward = row->forward,
        };
        if (row->open) {
            RMK_TRY(open_row(rank, ask, row));
        }
    }
    RMK_TRY(rmk_runner_run(rank->runner, rows, plan->row_count, party->reads[rank->rank],
                           party->poisoned[rank->rank], &rank->why));
out:
    for (uint32_t i = 0; i < plan->row_count; i++) {
        free(updates[i]);
    }
    return err;
}

/* ---- the engine
 * ---------------------------------------------------------------------------------------------------
 */

static void finish(struct party *party, const struct rmk_action *action)
{
    struct party_answer *answer = &party->answers[action->tag];

    assert_false(answer->finished);
    assert_true(action->finish.id_count <= PARTY_GEN_MAX);
    if (action->finish.reason != RMK_FINISH_LENGTH && action->finish.reason != RMK_FINISH_STOP) {
        fail_msg("request %u: %s", (unsigned)action->tag, action->finish.why);
    }
    *answer = (struct party_answer){.finished = true,
                                    .reason = action->finish.reason,
                                    .id_count = action->finish.id_count,
                                    .usage = action->finish.usage};
    memcpy(answer->ids, action->finish.ids, answer->id_count * sizeof(*answer->ids));
}

static void step(struct party *party, struct rmk_event event)
{
    door_step(&party->door, event);
    for (uint32_t i = 0; i < party->door.actions.count; i++) {
        const struct rmk_action *action = &party->door.actions.items[i];
        if (action->kind == RMK_ACTION_FINISH) {
            finish(party, action);
        } else if (action->kind == RMK_ACTION_SET_TIMER) {
            party->timer_us = action->timer_us;
        } else if (action->kind == RMK_ACTION_RUN_STEP) {
            assert_false(party->planned);
            party->planned = true;
            party->plan = action->plan;
        }
    }
}

static void shuffle_rows(struct party *party)
{
    memcpy(party->rows, party->plan.rows, party->plan.row_count * sizeof(*party->rows));
    for (uint32_t i = party->plan.row_count; i > 1; i--) {
        uint32_t j = below(&party->order, i);
        struct rmk_plan_row row = party->rows[i - 1];
        party->rows[i - 1] = party->rows[j];
        party->rows[j] = row;
    }
}

/* The plan under way on every rank, and if `heard` the answer. */
static void run_plan(struct party *party, bool heard)
{
    struct rmk_row_result results[PARTY_ASKS];
    uint32_t read = 0;

    shuffle_rows(party);
    party->planned = false;
    party->widest = party->plan.row_count > party->widest ? party->plan.row_count : party->widest;
    if (text_group_call(&party->group, run_on, party) != RMK_OK) {
        fail_msg("%s", text_group_why(&party->group));
    }
    for (uint32_t i = 0; i < party->plan.row_count; i++) {
        const struct rmk_plan_row *row = &party->rows[i];
        const struct party_ask *ask = &party->asks[row->seed - SPY_SEED];
        results[i] = (struct rmk_row_result){.request = row->request,
                                             .poisoned = party->poisoned[0][i],
                                             .guesses = &party->guesses[read],
                                             .guess_count = row->read_count};
        for (uint32_t j = 0; j < row->read_count; j++, read++) {
            party->guesses[read] = (struct rmk_guess){
                .position = (int32_t)row->reads[j] - (int32_t)ask->submit.prompt_rows,
                .token = party->reads[0][read].token,
                .confidence = party->reads[0][read].confidence,
            };
        }
    }
    party->door.now_us += 1000;
    if (heard) {
        step(party, (struct rmk_event){.kind = RMK_EVENT_STEP_DONE,
                                       .step = {.epoch = party->plan.epoch,
                                                .sequence = party->plan.sequence,
                                                .rows = results,
                                                .row_count = party->plan.row_count}});
    }
}

static void rise(struct party *party)
{
    const struct rmk_runner_options *options = &party->group.runner;

    for (uint32_t rank = 0; rank < party->group.size; rank++) {
        rmk_runner_set_comm(party->group.ranks[rank].runner, party->group.ranks[rank].comm);
    }
    step(party, (struct rmk_event){.kind = RMK_EVENT_GROUP_UP,
                                   .group = {.epoch = ++party->epoch,
                                             .slot_count = options->slot_count,
                                             .rows_max = options->rows_max,
                                             .step_rows_max = options->step_rows_max,
                                             .kv_rows_max = options->kv_rows_max,
                                             .feature_rows_max = options->feature_rows_max,
                                             .reads_max = options->reads_max,
                                             .numerics_class = 1}});
}

static void fall(struct party *party)
{
    party->planned = false;
    step(party, (struct rmk_event){.kind = RMK_EVENT_GROUP_DOWN, .group = {.epoch = party->epoch}});
    assert_false(party->planned);
    party->door.now_us += GROUP_READY_US;
    rise(party);
}

static bool is_over(const struct party *party, uint32_t begin, uint32_t end)
{
    for (uint32_t i = begin; i < end; i++) {
        if (!party->answers[i].finished) {
            return false;
        }
    }
    return true;
}

static void submit_all(struct party *party, uint32_t begin, uint32_t end)
{
    uint32_t order[PARTY_ASKS];

    for (uint32_t i = begin; i < end; i++) {
        uint32_t j = begin + below(&party->order, i - begin + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (uint32_t i = begin; i < end; i++) {
        const struct rmk_submit *submit = &party->asks[order[i]].submit;
        step(party, (struct rmk_event){.kind = RMK_EVENT_SUBMIT, .submit = submit});
    }
}

uint32_t party_run(struct party *party, const struct party_plan *plan, const struct party_ask *asks,
                   uint32_t begin, uint32_t end, struct party_answer *answers)
{
    const struct rmk_engine_limits limits = {
        .requests_max = PARTY_ASKS,
        .queued_max = PARTY_ASKS,
        .groups_max = 1,
        .visions_max = 1,
        .rows_per_plan_max = plan->rows_per_plan,
        .retries_max = PARTY_LOSSES_MAX,
        .plan_timeout_us = 1000000,
        .encode_timeout_us = 1000000,
    };
    uint32_t rounds = 0;
    uint32_t losses = 0;

    door_open(&party->door, &limits);
    party->asks = asks;
    party->answers = answers;
    party->order = plan->order_seed;
    party->epoch = 0;
    party->widest = 0;
    party->planned = false;
    memset(answers + begin, 0, (end - begin) * sizeof(*answers));
    /* The group comes last, so that the first plan may take everyone. */
    submit_all(party, begin, end);
    rise(party);
    while (!is_over(party, begin, end)) {
        if (!party->planned) {
            party->door.now_us = party->timer_us;
            step(party, (struct rmk_event){.kind = RMK_EVENT_TICK});
            continue;
        }
        bool lost = losses < PARTY_LOSSES_MAX && plan->losses[losses] == rounds + 1;
        run_plan(party, !lost);
        rounds++;
        if (lost) {
            losses++;
            fall(party);
        }
    }
    door_close(&party->door);
    return rounds;
}
