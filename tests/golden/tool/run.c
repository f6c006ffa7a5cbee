/* One recorded generation: the real engine drives the real runner, and every commit is held against
 * the record. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/engine/engine.h"
#include "tests/golden/tool/scene.h"

/* Where the reference's own margin is smaller, other arithmetic may pick otherwise (reference
 * README, "gaps"). */
#define NOISE_GAP 1e-4
/* Confidences are probabilities; two programs in fp32 differ by about the logits' difference (1e-4)
 * times p(1-p). */
#define CONFIDENCE_TOLERANCE 2e-3

enum { STOPS_MAX = RMK_STOP_COUNT_MAX };

struct replay {
    struct report *report;
    const struct scene *scene;
    const json_t *run;
    const json_t *steps;
    char label[160];
    struct rmk_engine *engine;
    struct rmk_plan_row row; /* of the plan under way */
    struct rmk_read *reads;
    struct rmk_guess *guesses;
    bool random;
    bool mismatch;
    double worst_confidence;
    /* the answer */
    bool finished;
    enum rmk_finish reason;
    uint32_t forwards;
    int32_t *ids;
    uint32_t id_count;
    char why[512];
};

static double number(const json_t *object, const char *key, double fallback)
{
    const json_t *value = json_object_get(object, key);

    return json_is_number(value) ? json_number_value(value) : fallback;
}

/* ---- the runner's side: every rank opens once, then runs rows
 * --------------------------------------------------- */

struct step_call {
    struct replay *replay;
    const struct rmk_open *open; /* NULL after the first row */
    const struct rmk_row *row;
    bool poisoned;
};

static enum rmk_err run_step(struct rmk_runner *runner, uint32_t rank, void *context,
                             struct rmk_why *why)
{
    struct step_call *call = context;
    struct rmk_read *reads = call->replay->reads;
    struct rmk_read *own = NULL;
    bool poisoned = false;
    enum rmk_err err;

    if (call->open != NULL) {
        rmk_runner_close(runner, 0);
        RMK_TRY(rmk_runner_open(runner, call->open, why));
    }
    if (rank != 0) {
        own = calloc(call->row->read_count + 1, sizeof(*own));
        rmk_assert(own != NULL);
        reads = own;
    }
    RMK_TRY(rmk_runner_run(runner, call->row, 1, reads, &poisoned, why));
    if (rank == 0) {
        call->poisoned = poisoned;
    }
out:
    free(own);
    return err;
}

/* ---- forcing
 * ------------------------------------------------------------------------------------------------------------
 */

static struct rmk_guess *guess_at(struct replay *replay, int32_t position)
{
    for (uint32_t i = 0; i < replay->row.read_count; i++) {
        if (replay->guesses[i].position == position) {
            return &replay->guesses[i];
        }
    }
    return NULL;
}

/* The token of every recorded pick: equal, or the record's gap is noise and the record wins. */
static void settle_tokens(struct replay *replay, const json_t *step, size_t index)
{
    const json_t *picks = json_object_get(step, "picks");
    struct agreement *agreement = &replay->report->agreement;

    for (size_t i = 0; i < json_array_size(picks); i++) {
        const json_t *pick = json_array_get(picks, i);
        const int32_t position = (int32_t)number(pick, "pos", 0);
        const int32_t token = (int32_t)number(pick, "token", -1);
        struct rmk_guess *guess = guess_at(replay, position);
        agreement->picks += guess != NULL;
        agreement->picks_equal += guess != NULL && guess->token == token;
        if (guess == NULL || guess->token == token) {
            continue;
        }
        if (agreement->measured) {
            guess->token = token;
        } else if (number(pick, "logit_gap", INFINITY) < NOISE_GAP) {
            report_forced(replay->report, replay->scene->name, replay->label,
                          "step %zu position %d: token %d, recorded %d, gap %.2g", index, position,
                          guess->token, token, number(pick, "logit_gap", 0));
            guess->token = token;
        }
    }
}

static bool is_pick(const json_t *picks, int32_t position)
{
    for (size_t i = 0; i < json_array_size(picks); i++) {
        if ((int32_t)number(json_array_get(picks, i), "pos", INT32_MIN) == position) {
            return true;
        }
    }
    return false;
}

/* Which positions commit: when ours are others and the record's gap is noise, lift the recorded
 * ones above the rest. */
static void settle_order(struct replay *replay, const json_t *step, size_t index)
{
    const json_t *picks = json_object_get(step, "picks");
    const uint32_t count = replay->row.read_count;
    const uint32_t quota = (uint32_t)number(step, "k", 0);
    struct rmk_guess *sorted = malloc((count + 1) * sizeof(*sorted));
    bool same = true;

    rmk_assert(sorted != NULL);
    memcpy(sorted, replay->guesses, count * sizeof(*sorted));
    uint32_t selected = rmk_denoise_select(sorted, count, quota);
    for (uint32_t i = 0; i < selected; i++) {
        same = same && is_pick(picks, sorted[i].position);
    }
    replay->report->agreement.steps++;
    replay->report->agreement.steps_equal += same;
    const bool measured = replay->report->agreement.measured;
    if (!same && (measured || number(step, "conf_gap", INFINITY) < NOISE_GAP)) {
        if (!measured) {
            report_forced(replay->report, replay->scene->name, replay->label,
                          "step %zu: other positions commit, recorded gap %.2g", index,
                          number(step, "conf_gap", 0));
        }
        for (uint32_t i = 0; i < count; i++) {
            if (is_pick(picks, replay->guesses[i].position)) {
                replay->guesses[i].confidence += 1.0;
            }
        }
    }
    free(sorted);
}

static const json_t *recorded_step(const struct replay *replay, size_t index)
{
    return json_array_get(replay->steps, index);
}

/* ---- the feature cache: when parts are refreshed, and which rows the record chose
 * ------------------------------------- */

enum { LAYERS_MAX = 64 };

struct choice {
    struct rmk_feature_choice passes[2];
    const uint32_t *layers[2][LAYERS_MAX];
    uint32_t *rows;
};

/* Near-ties of similarity are decided by rounding: where rows are recorded, they are taken. False:
 * none are. */
static bool recorded_choice(const struct replay *replay, uint64_t forward, struct choice *choice)
{
    const json_t *all = json_object_get(replay->run, "cache_rows");
    size_t used = 0;
    bool found = false;

    for (uint32_t pass = 0; pass < 2; pass++) {
        choice->passes[pass].rows = choice->layers[pass];
    }
    choice->rows = calloc(2 * (size_t)LAYERS_MAX * RMK_GEN_LENGTH_MAX, sizeof(*choice->rows));
    rmk_assert(choice->rows != NULL);
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *entry = json_array_get(all, i);
        const json_t *sequences = json_object_get(entry, "rows");
        const size_t layer = (size_t)number(entry, "layer", 0);
        rmk_assert(layer < LAYERS_MAX);
        for (size_t pass = 0;
             (uint64_t)number(entry, "forward", -1) == forward && pass < json_array_size(sequences);
             pass++) {
            const json_t *rows = json_array_get(sequences, pass);
            choice->layers[pass][layer] = choice->rows + used;
            choice->passes[pass].count = (uint32_t)json_array_size(rows);
            for (size_t k = 0; k < json_array_size(rows); k++) {
                choice->rows[used++] = (uint32_t)json_integer_value(json_array_get(rows, k));
            }
            found = true;
        }
    }
    return found;
}

/* Forwards are counted from the start, over all blocks. */
static void plan_cache(const struct replay *replay, struct rmk_row *row, struct choice *choice)
{
    const json_t *cache = json_object_get(replay->run, "cache");

    if (!json_is_object(cache)) {
        return;
    }
    row->kind = RMK_ROW_FEATURE;
    row->refresh_prompt = row->forward % (uint64_t)number(cache, "prompt_interval", 1) == 0;
    row->refresh_gen = row->forward % (uint64_t)number(cache, "gen_interval", 1) == 0;
    row->transfer_ratio = number(cache, "transfer_ratio", 0);
    row->replay = recorded_choice(replay, row->forward, choice) ? choice->passes : NULL;
}

/* ---- the engine's side
 * ---------------------------------------------------------------------------------------------------
 */

static void feed(struct replay *replay, const struct rmk_event *event);

static enum rmk_err perform_step(struct replay *replay, const struct rmk_plan *plan,
                                 struct rmk_why *why)
{
    const struct scene *scene = replay->scene;
    const json_t *suffix_json = json_object_get(replay->run, "suffix_ids");
    const json_t *params = json_object_get(replay->run, "params");
    int32_t suffix[RMK_SUFFIX_MAX];
    struct rmk_update *updates = NULL;
    struct choice choice = {.rows = NULL};
    enum rmk_err err;

    rmk_assert(plan->row_count == 1);
    replay->row = plan->rows[0];
    const struct rmk_plan_row *row = &replay->row;
    for (size_t i = 0; i < json_array_size(suffix_json); i++) {
        suffix[i] = (int32_t)json_integer_value(json_array_get(suffix_json, i));
    }
    const struct rmk_open open = {
        .slot = 0,
        .prompt_rows = scene->prompt_rows,
        .layout = scene->layout,
        .layout_count = scene->layout_count,
        .gen_length = (uint32_t)number(params, "gen_length", 128),
        .suffix = suffix,
        .suffix_count = (uint32_t)json_array_size(suffix_json),
        .feature = json_is_object(json_object_get(replay->run, "cache")),
        .cfg = row->cfg_scale > 0,
    };
    updates = calloc(row->update_count + 1, sizeof(*updates));
    rmk_assert(updates != NULL);
    for (uint32_t i = 0; i < row->update_count; i++) {
        updates[i] =
            (struct rmk_update){.position = row->updates[i].position, .id = row->updates[i].id};
    }
    struct rmk_row runner_row = {
        .slot = 0,
        .cfg_scale = row->cfg_scale,
        .updates = updates,
        .update_count = row->update_count,
        .reads = row->reads,
        .read_count = row->read_count,
        .noise = RMK_NOISE_SPLITMIX,
        .temperature = row->temperature,
        .seed = row->seed,
        .forward = row->forward,
    };
    plan_cache(replay, &runner_row, &choice);
    struct step_call call = {
        .replay = replay, .open = row->open ? &open : NULL, .row = &runner_row};
    RMK_TRY(group_run(scene->group, run_step, &call, why));
    if (call.poisoned) {
        err = rmk_fail(why, RMK_EINTERNAL, "a logit is not finite");
    }
out:
    free(choice.rows);
    free(updates);
    return err;
}

/* Our answers, with what random remasking draws in place of confidences, settled against the
 * record. */
static void answer_step(struct replay *replay, const struct rmk_plan *plan)
{
    const size_t index = (size_t)replay->row.forward;
    const json_t *step = recorded_step(replay, index);
    const json_t *params = json_object_get(replay->run, "params");
    const uint32_t total = replay->scene->prompt_rows +
                           (uint32_t)number(params, "gen_length", 128) +
                           (uint32_t)json_array_size(json_object_get(replay->run, "suffix_ids"));

    for (uint32_t i = 0; i < replay->row.read_count; i++) {
        const uint32_t row = replay->row.reads[i];
        replay->guesses[i] = (struct rmk_guess){
            .position = (int32_t)row - (int32_t)replay->scene->prompt_rows,
            .token = replay->reads[i].token,
            .confidence = replay->random ? rmk_denoise_random(replay->row.seed, replay->row.forward,
                                                              total, row, true)
                                         : replay->reads[i].confidence,
        };
    }
    if (step != NULL) {
        settle_tokens(replay, step, index);
        if (!replay->random) {
            settle_order(replay, step, index);
        }
    }
    const struct rmk_row_result result = {
        .request = replay->row.request,
        .guesses = replay->guesses,
        .guess_count = replay->row.read_count,
    };
    const struct rmk_event event = {
        .kind = RMK_EVENT_STEP_DONE,
        .now_us = replay->row.forward + 10,
        .step = {.group = plan->group,
                 .epoch = plan->epoch,
                 .sequence = plan->sequence,
                 .rows = &result,
                 .row_count = 1},
    };
    feed(replay, &event);
}

/* Commits of this round against the record's picks, as sets: equal confidences have no order of
 * their own. */
static void check_commits(struct replay *replay, const struct rmk_commit *commits, uint32_t count,
                          size_t index)
{
    const json_t *picks = json_object_get(recorded_step(replay, index), "picks");
    uint32_t inside = 0;

    for (size_t i = 0; i < json_array_size(picks); i++) {
        inside += number(json_array_get(picks, i), "pos", -1) >= 0;
    }
    if (inside != count && !replay->mismatch) {
        replay->mismatch = true;
        (void)snprintf(replay->why, sizeof(replay->why),
                       "step %zu commits %u positions, recorded %u", index, count, inside);
    }
    for (size_t i = 0; i < json_array_size(picks); i++) {
        const json_t *pick = json_array_get(picks, i);
        const int32_t position = (int32_t)number(pick, "pos", -1);
        const struct rmk_commit *found = NULL;
        for (uint32_t k = 0; k < count && position >= 0; k++) {
            found = (int32_t)commits[k].position == position ? &commits[k] : found;
        }
        if (position < 0) {
            continue;
        }
        if (found == NULL || found->token != (int32_t)number(pick, "token", -1)) {
            if (!replay->mismatch) {
                (void)snprintf(replay->why, sizeof(replay->why),
                               "step %zu position %d: %s, recorded token %d (gap %.2g)", index,
                               position, found == NULL ? "not committed" : "another token",
                               (int)number(pick, "token", -1), number(pick, "logit_gap", 0));
            }
            replay->mismatch = true;
            continue;
        }
        double confidence =
            found->confidence >= 1.0 + NOISE_GAP ? found->confidence - 1.0 : found->confidence;
        replay->worst_confidence =
            fmax(replay->worst_confidence, fabs(confidence - number(pick, "conf", confidence)));
    }
}

static void take_answer(struct replay *replay, const struct rmk_action *action)
{
    replay->finished = true;
    replay->reason = action->finish.reason;
    replay->forwards = action->finish.usage.forwards;
    replay->id_count = action->finish.id_count;
    replay->ids = malloc((replay->id_count + 1) * sizeof(*replay->ids));
    rmk_assert(replay->ids != NULL);
    memcpy(replay->ids, action->finish.ids, replay->id_count * sizeof(*replay->ids));
    if (action->finish.why != NULL && action->finish.why[0] != '\0') {
        (void)snprintf(replay->why, sizeof(replay->why), "%s", action->finish.why);
    }
}

static void feed(struct replay *replay, const struct rmk_event *event)
{
    struct rmk_actions actions;
    struct rmk_plan plan = {0};
    struct rmk_why why = {0};
    struct rmk_plan_row row = {0};
    bool stepping = false;
    const size_t index = (size_t)replay->row.forward;

    rmk_engine_step(replay->engine, event, &actions);
    for (uint32_t i = 0; i < actions.count; i++) {
        const struct rmk_action *action = &actions.items[i];
        switch (action->kind) {
        case RMK_ACTION_RUN_STEP:
            if (action->plan.row_count > 0) {
                stepping = true;
                plan = action->plan;
                row = plan.rows[0];
                plan.rows = &row;
            }
            break;
        case RMK_ACTION_EMIT:
            check_commits(replay, action->emit.commits, action->emit.commit_count, index);
            break;
        case RMK_ACTION_FINISH:
            take_answer(replay, action);
            break;
        default:
            break;
        }
    }
    if (stepping && !replay->finished) {
        if (perform_step(replay, &plan, &why) != RMK_OK) {
            replay->finished = true;
            replay->mismatch = true;
            (void)snprintf(replay->why, sizeof(replay->why), "%.*s", (int)sizeof(replay->why) - 1,
                           why.text);
            return;
        }
        answer_step(replay, &plan);
    }
}

/* ---- one run
 * -------------------------------------------------------------------------------------------------------------------
 */

static void judge(struct replay *replay)
{
    const json_t *want = json_object_get(replay->run, "result_ids");
    const char *name = replay->scene->name;
    bool same = replay->finished && replay->reason <= RMK_FINISH_STOP &&
                replay->id_count == json_array_size(want);

    for (size_t i = 0; same && i < replay->id_count; i++) {
        same = json_integer_value(json_array_get(want, i)) == replay->ids[i];
    }
    const uint32_t forwards = (uint32_t)number(replay->run, "forwards", 0);
    report_exact(replay->report, name, replay->label,
                 same && !replay->mismatch && forwards == replay->forwards,
                 "%s, %u forwards (reference %u), %u ids%s%s",
                 same ? "ids identical" : "ids differ", replay->forwards, forwards,
                 replay->id_count, replay->why[0] != '\0' ? ": " : "", replay->why);
    struct agreement *agreement = &replay->report->agreement;
    if (agreement->measured) {
        agreement->confidence_worst =
            replay->random ? agreement->confidence_worst
                           : fmax(agreement->confidence_worst, replay->worst_confidence);
        return;
    }
    if (!replay->random && replay->worst_confidence > CONFIDENCE_TOLERANCE) {
        report_failed(replay->report, name, replay->label,
                      "a confidence differs by %.3g of tolerance %.3g", replay->worst_confidence,
                      CONFIDENCE_TOLERANCE);
    }
}

static void submit(struct replay *replay)
{
    static struct rmk_stop stops[STOPS_MAX];
    static int32_t stop_ids[STOPS_MAX][RMK_STOP_IDS_MAX];
    static int32_t suffix[RMK_SUFFIX_MAX];
    const json_t *params = json_object_get(replay->run, "params");
    const json_t *stop_json = json_object_get(replay->run, "stop_ids");
    const json_t *suffix_json = json_object_get(replay->run, "suffix_ids");
    const char *remasking = json_string_value(json_object_get(params, "remasking"));

    for (size_t i = 0; i < json_array_size(stop_json); i++) {
        const json_t *ids = json_array_get(stop_json, i);
        for (size_t k = 0; k < json_array_size(ids); k++) {
            stop_ids[i][k] = (int32_t)json_integer_value(json_array_get(ids, k));
        }
        stops[i] = (struct rmk_stop){.ids = stop_ids[i], .count = (uint32_t)json_array_size(ids)};
    }
    for (size_t i = 0; i < json_array_size(suffix_json); i++) {
        suffix[i] = (int32_t)json_integer_value(json_array_get(suffix_json, i));
    }
    replay->random = remasking != NULL && strcmp(remasking, "random") == 0;
    const struct rmk_submit ask = {
        .tag = 1,
        .prompt_rows = replay->scene->prompt_rows,
        .prompt_masks = replay->scene->prompt_masks,
        .prompt_mask_count = replay->scene->prompt_mask_count,
        .mask_id = replay->scene->spec->text.mask_id,
        .gen_length = (uint32_t)number(params, "gen_length", 128),
        .block_length = (uint32_t)number(params, "block_length", 128),
        .steps = (uint32_t)number(params, "steps", 128),
        .temperature = number(params, "temperature", 0),
        .cfg_scale = (float)number(params, "cfg_scale", 0),
        .remasking = replay->random ? RMK_REMASK_RANDOM : RMK_REMASK_LOW_CONFIDENCE,
        .seed = (uint64_t)number(replay->run, "noise_seed", 0),
        .golden_noise = true,
        .stops = stops,
        .stop_count = (uint32_t)json_array_size(stop_json),
        .suffix = suffix,
        .suffix_count = (uint32_t)json_array_size(suffix_json),
    };
    const struct rmk_event group_up = {
        .kind = RMK_EVENT_GROUP_UP,
        .now_us = 1,
        .group = {.group = 0,
                  .epoch = 1,
                  .slot_count = 1,
                  .rows_max = UINT32_MAX,
                  .step_rows_max = UINT32_MAX},
    };
    const struct rmk_event event = {.kind = RMK_EVENT_SUBMIT, .now_us = 2, .submit = &ask};
    feed(replay, &group_up);
    feed(replay, &event);
}

void golden_run(struct report *report, const struct scene *scene, const json_t *run)
{
    static const struct rmk_engine_limits limits = {
        .requests_max = 2,
        .queued_max = 2,
        .groups_max = 1,
        .visions_max = 1,
        .rows_per_plan_max = 1,
        .retries_max = 1,
        .plan_timeout_us = UINT64_MAX / 4,
        .encode_timeout_us = UINT64_MAX / 4,
    };
    struct replay replay = {
        .report = report, .scene = scene, .run = run, .steps = json_object_get(run, "steps")};
    const char *error = json_string_value(json_object_get(run, "error"));

    (void)snprintf(replay.label, sizeof(replay.label), "run %s",
                   json_string_value(json_object_get(run, "name")));
    if (error != NULL) {
        report_raised(report, scene->name, replay.label, error);
        return;
    }
    const json_t *cache = json_object_get(run, "cache");
    if (json_is_object(cache) && !json_is_integer(json_object_get(cache, "prompt_interval"))) {
        report_pending(report, scene->name, replay.label, "a cache of a kind that is not known");
        return;
    }
    void *memory = aligned_alloc(64, (rmk_engine_bytes(&limits) + 63) / 64 * 64);
    replay.reads = calloc(RMK_GEN_LENGTH_MAX + RMK_PROMPT_MASKS_MAX, sizeof(*replay.reads));
    replay.guesses = calloc(RMK_GEN_LENGTH_MAX + RMK_PROMPT_MASKS_MAX, sizeof(*replay.guesses));
    rmk_assert(memory != NULL && replay.reads != NULL && replay.guesses != NULL);
    replay.engine = rmk_engine_init(memory, &limits);
    submit(&replay);
    judge(&replay);
    free(replay.ids);
    free(replay.reads);
    free(replay.guesses);
    free(memory);
}
