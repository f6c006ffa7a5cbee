#include "worker/text/plan.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/limits.h"
#include "coordinator/engine/ahead.h"
#include "worker/text/run_ahead.h"

struct rmk_plan_job {
    Remask__Cluster__V1__CoordinatorMessage *owner;
    const Remask__Cluster__V1__StepPlan *plan;
    uint64_t hash;
    /* as the runner wants it */
    struct rmk_open *opens;     /* [plan->n_opens] */
    struct rmk_layout *layouts; /* of all opens, one after another */
    uint32_t layout_count;
    struct rmk_row *rows;        /* [plan->n_rows] */
    struct rmk_update *updates;  /* of all rows */
    struct rmk_read *reads;      /* answers of all rows */
    bool *poisoned;              /* [plan->n_rows] */
    struct rmk_run_ahead *ahead; /* NULL: no leave */
    /* not ready, or refused */
    enum rmk_err err;
    struct rmk_why why;
    uint64_t culprit;
    /* the answer */
    Remask__Cluster__V1__StepResult result;
    Remask__Cluster__V1__RowResult *row_results;
    Remask__Cluster__V1__RowResult **row_result_pointers;
    int32_t *tokens;
    double *confidences;
    /* of what was run ahead: [plan->n_rows][RMK_AHEAD_MAX] and all their reads */
    Remask__Cluster__V1__ForwardResult *forwards;
    Remask__Cluster__V1__ForwardResult **forward_pointers;
    int32_t *ahead_tokens;
    double *ahead_confidences;
    uint32_t *ahead_positions; /* of all their commits */
    int32_t *ahead_ids;
};

/* ---- making: every number of the message is checked here once
 * ----------------------------------------------------- */

static enum rmk_err refuse(struct rmk_plan_job *job, uint64_t culprit, enum rmk_err err)
{
    if (job->err == RMK_OK) {
        job->err = err;
        job->culprit = culprit;
    }
    return err;
}

static enum rmk_err convert_open(struct rmk_plan_job *job, const Remask__Cluster__V1__Open *source,
                                 const struct rmk_plan_limits *limits, struct rmk_open *target)
{
    const uint64_t total = (uint64_t)source->prompt_rows + source->gen_length + source->n_suffix;
    uint64_t rows = 0;

    if (source->slot >= limits->slot_count || total > limits->rows_max) {
        return refuse(job, source->request,
                      rmk_fail(&job->why, RMK_EINVAL,
                               "open of slot %u with %llu rows: this group has %u slots of %u rows",
                               source->slot, (unsigned long long)total, limits->slot_count,
                               limits->rows_max));
    }
    if (((source->kv || source->feature) && limits->kv_rows_max == 0) ||
        (source->feature && limits->feature_rows_max == 0)) {
        return refuse(
            job, source->request,
            rmk_fail(
                &job->why, RMK_EUNSUPPORTED,
                "the request wants to keep %s from step to step; this group has no memory for it",
                source->feature ? "features" : "keys and values"));
    }
    target->slot = source->slot;
    target->prompt_rows = source->prompt_rows;
    target->layout = job->layouts + job->layout_count;
    target->layout_count = (uint32_t)source->n_layout;
    target->gen_length = source->gen_length;
    target->suffix = source->suffix;
    target->suffix_count = (uint32_t)source->n_suffix;
    target->kv = source->kv;
    target->cfg = source->cfg;
    target->feature = source->feature;
    for (size_t i = 0; i < source->n_layout; i++) {
        const Remask__Cluster__V1__Layout *piece = source->layout[i];
        struct rmk_layout *layout = &job->layouts[job->layout_count++];
        layout->ids = piece->n_ids > 0 ? piece->ids : NULL;
        layout->rows = piece->n_ids > 0 ? (uint32_t)piece->n_ids : piece->rows;
        rows += layout->rows;
    }
    if (rows != source->prompt_rows) {
        return refuse(job, source->request,
                      rmk_fail(&job->why, RMK_EINVAL,
                               "the prompt's pieces have %llu rows together, %u were announced",
                               (unsigned long long)rows, source->prompt_rows));
    }
    return RMK_OK;
}

/* False: a kind from a newer coordinator. */
static bool convert_kind(Remask__Cluster__V1__RowKind source, enum rmk_row_kind *out_kind)
{
    switch (source) {
    case REMASK__CLUSTER__V1__ROW_KIND__FULL:
        *out_kind = RMK_ROW_FULL;
        return true;
    case REMASK__CLUSTER__V1__ROW_KIND__WINDOW:
        *out_kind = RMK_ROW_WINDOW;
        return true;
    case REMASK__CLUSTER__V1__ROW_KIND__FEATURE:
        *out_kind = RMK_ROW_FEATURE;
        return true;
    default:
        return false;
    }
}

static enum rmk_err convert_row(struct rmk_plan_job *job, const Remask__Cluster__V1__Row *source,
                                const struct rmk_plan_limits *limits, struct rmk_update *updates,
                                struct rmk_row *target)
{
    enum rmk_row_kind kind;

    if (source->slot >= limits->slot_count || source->n_update_positions != source->n_update_ids ||
        !convert_kind(source->kind, &kind)) {
        return refuse(
            job, source->request,
            rmk_fail(&job->why, RMK_EINVAL,
                     "a row for slot %u with %zu positions and %zu ids of kind %d cannot be run",
                     source->slot, source->n_update_positions, source->n_update_ids,
                     (int)source->kind));
    }
    if (kind == RMK_ROW_WINDOW &&
        (source->window_begin >= source->window_end || source->window_end > limits->rows_max)) {
        return refuse(job, source->request,
                      rmk_fail(&job->why, RMK_EINVAL,
                               "a window of rows [%u, %u) is empty or outside the model",
                               source->window_begin, source->window_end));
    }
    if (kind == RMK_ROW_FEATURE && !(source->transfer_ratio >= 0 && source->transfer_ratio <= 1)) {
        return refuse(job, source->request,
                      rmk_fail(&job->why, RMK_EINVAL, "a transfer ratio of %g is not from 0 to 1",
                               source->transfer_ratio));
    }
    for (size_t i = 0; i < source->n_update_positions; i++) {
        updates[i] = (struct rmk_update){.position = source->update_positions[i],
                                         .id = source->update_ids[i]};
        if (updates[i].position >= limits->rows_max || updates[i].id < 0 ||
            (uint32_t)updates[i].id >= limits->vocab) {
            return refuse(job, source->request,
                          rmk_fail(&job->why, RMK_EINVAL,
                                   "an update of position %u with id %d is outside the model",
                                   updates[i].position, updates[i].id));
        }
    }
    for (size_t i = 0; i < source->n_reads; i++) {
        if (source->reads[i] >= limits->rows_max ||
            (i > 0 && source->reads[i] <= source->reads[i - 1])) {
            return refuse(job, source->request,
                          rmk_fail(&job->why, RMK_EINVAL, "the positions to read do not ascend"));
        }
    }
    *target = (struct rmk_row){
        .slot = source->slot,
        .kind = kind,
        .keep = source->keep,
        .window_begin = source->window_begin,
        .window_end = source->window_end,
        .refresh_prompt = source->refresh_prompt,
        .refresh_gen = source->refresh_gen,
        .transfer_ratio = source->transfer_ratio,
        .cfg_scale = source->cfg_scale,
        .updates = updates,
        .update_count = (uint32_t)source->n_update_positions,
        .reads = source->reads,
        .read_count = (uint32_t)source->n_reads,
        .noise = source->noise == REMASK__CLUSTER__V1__NOISE_KIND__SPLITMIX_REFERENCE
                     ? RMK_NOISE_SPLITMIX
                     : RMK_NOISE_PHILOX,
        .temperature = source->temperature,
        .seed = source->seed,
        .forward = source->forward,
    };
    return RMK_OK;
}

static bool convert_rule(Remask__Cluster__V1__CommitRule source, enum rmk_rule *out_rule)
{
    switch (source) {
    case REMASK__CLUSTER__V1__COMMIT_RULE__RULE_QUOTA:
        *out_rule = RMK_RULE_QUOTA;
        return true;
    case REMASK__CLUSTER__V1__COMMIT_RULE__RULE_THRESHOLD:
        *out_rule = RMK_RULE_THRESHOLD;
        return true;
    case REMASK__CLUSTER__V1__COMMIT_RULE__RULE_FACTOR:
        *out_rule = RMK_RULE_FACTOR;
        return true;
    case REMASK__CLUSTER__V1__COMMIT_RULE__RULE_HIERARCHICAL:
        *out_rule = RMK_RULE_HIERARCHICAL;
        return true;
    case REMASK__CLUSTER__V1__COMMIT_RULE__RULE_LOCAL_LEAP:
        *out_rule = RMK_RULE_LOCAL_LEAP;
        return true;
    default:
        return false;
    }
}

static bool convert_cache(Remask__Cluster__V1__CachePolicy source, enum rmk_cache *out_cache)
{
    switch (source) {
    case REMASK__CLUSTER__V1__CACHE_POLICY__CACHE_NONE:
        *out_cache = RMK_CACHE_NONE;
        return true;
    case REMASK__CLUSTER__V1__CACHE_POLICY__CACHE_PROMPT:
        *out_cache = RMK_CACHE_PROMPT;
        return true;
    case REMASK__CLUSTER__V1__CACHE_POLICY__CACHE_PREFIX:
        *out_cache = RMK_CACHE_PREFIX;
        return true;
    case REMASK__CLUSTER__V1__CACHE_POLICY__CACHE_DUAL:
        *out_cache = RMK_CACHE_DUAL;
        return true;
    case REMASK__CLUSTER__V1__CACHE_POLICY__CACHE_FEATURE:
        *out_cache = RMK_CACHE_FEATURE;
        return true;
    default:
        return false;
    }
}

/* A row's leave, with room for its stops. Numbers are checked where the canvas begins. */
static enum rmk_err convert_ahead(const Remask__Cluster__V1__Row *row,
                                  struct rmk_stop stops[RMK_STOP_COUNT_MAX],
                                  struct rmk_ahead *target, struct rmk_why *why)
{
    const Remask__Cluster__V1__RunAhead *source = row->ahead;
    enum rmk_rule rule;
    enum rmk_cache cache;

    if (source == NULL) {
        return rmk_fail(why, RMK_EINVAL,
                        "a row has no leave to run ahead, others of its plan have");
    }
    if (!convert_rule(source->rule, &rule) || !convert_cache(source->cache, &cache)) {
        return rmk_fail(why, RMK_EUNSUPPORTED, "leave for rule %d and cache %d, unknown here",
                        (int)source->rule, (int)source->cache);
    }
    if (source->n_stops > RMK_STOP_COUNT_MAX || source->n_ids > RMK_GEN_LENGTH_MAX ||
        source->n_prompt_masks > RMK_PROMPT_MASKS_MAX) {
        return rmk_fail(why, RMK_ELIMIT,
                        "a row has leave with %zu stops, %zu ids and %zu mask tokens before them",
                        source->n_stops, source->n_ids, source->n_prompt_masks);
    }
    *target = (struct rmk_ahead){
        .prompt_rows = source->prompt_rows,
        .total_rows = source->total_rows,
        .gen_length = (uint32_t)source->n_ids,
        .block_length = source->block_length,
        .steps_per_block = source->steps_per_block,
        .mask_id = source->mask_id,
        .remasking = source->random_remasking ? RMK_REMASK_RANDOM : RMK_REMASK_LOW_CONFIDENCE,
        .rule = {.rule = rule,
                 .tau = source->tau,
                 .factor = source->factor,
                 .factor_compat = source->factor_compat,
                 .tau_low = source->tau_low,
                 .kappa = source->kappa,
                 .reach = source->reach},
        .cache = {.cache = cache,
                  .refresh_interval = source->refresh_interval,
                  .prompt_interval = source->prompt_interval,
                  .gen_interval = source->gen_interval,
                  .transfer_ratio = row->transfer_ratio},
        .seed = row->seed,
        .golden_noise = row->noise == REMASK__CLUSTER__V1__NOISE_KIND__SPLITMIX_REFERENCE,
        .stops = stops,
        .stop_count = (uint32_t)source->n_stops,
        .forward = row->forward,
        .based = source->based,
        .base = source->base_forward,
        .block = source->block,
        .step = source->step,
        .block_masks = source->block_masks,
        .found = source->found,
        .stop_position = source->stop_position,
        .ids = source->ids,
        .prompt_mask_count = (uint32_t)source->n_prompt_masks,
    };
    for (size_t i = 0; i < source->n_prompt_masks; i++) {
        target->prompt_masks[i] = source->prompt_masks[i];
    }
    for (size_t i = 0; i < source->n_stops; i++) {
        stops[i] = (struct rmk_stop){.ids = source->stops[i]->ids,
                                     .count = (uint32_t)source->stops[i]->n_ids};
    }
    return RMK_OK;
}

/* The answers of what is run ahead: as many as there may be. */
static enum rmk_err allocate_ahead(struct rmk_plan_job *job, struct rmk_why *why)
{
    const size_t forwards = job->plan->n_rows * RMK_AHEAD_MAX;

    job->forwards = calloc(forwards, sizeof(*job->forwards));
    job->forward_pointers = calloc(forwards, sizeof(*job->forward_pointers));
    job->ahead_tokens = calloc(RMK_AHEAD_READS_MAX, sizeof(*job->ahead_tokens));
    job->ahead_confidences = calloc(RMK_AHEAD_READS_MAX, sizeof(*job->ahead_confidences));
    job->ahead_positions = calloc(RMK_AHEAD_READS_MAX, sizeof(*job->ahead_positions));
    job->ahead_ids = calloc(RMK_AHEAD_READS_MAX, sizeof(*job->ahead_ids));
    if (job->forwards == NULL || job->forward_pointers == NULL || job->ahead_tokens == NULL ||
        job->ahead_confidences == NULL || job->ahead_positions == NULL || job->ahead_ids == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for what is run ahead");
    }
    return RMK_OK;
}

/* Leave for all rows, or for none. */
static void convert_leave(struct rmk_plan_job *job)
{
    const Remask__Cluster__V1__StepPlan *plan = job->plan;
    const uint32_t row_count = (uint32_t)plan->n_rows;
    struct rmk_stop(*stops)[RMK_STOP_COUNT_MAX] = calloc(plan->n_rows, sizeof(*stops));
    struct rmk_ahead *aheads = calloc(plan->n_rows, sizeof(*aheads));
    uint32_t forwards = RMK_AHEAD_MAX;
    uint64_t culprit = 0;
    enum rmk_err err;

    if (stops == NULL || aheads == NULL) {
        err = rmk_fail(&job->why, RMK_ELIMIT, "no memory for the leave of %zu rows", plan->n_rows);
        goto out;
    }
    for (uint32_t i = 0; i < row_count; i++) {
        culprit = plan->rows[i]->request;
        RMK_TRY(convert_ahead(plan->rows[i], stops[i], &aheads[i], &job->why));
        if (plan->rows[i]->ahead->forwards < forwards) {
            forwards = plan->rows[i]->ahead->forwards;
        }
    }
    culprit = row_count == 1 ? culprit : 0;
    RMK_TRY(rmk_run_ahead_create(job->rows, aheads, row_count, forwards, &job->ahead, &job->why));
    RMK_TRY(allocate_ahead(job, &job->why));
out:
    free(stops);
    free(aheads);
    /* From a newer coordinator: it is content with one forward, too. */
    if (err != RMK_OK && err != RMK_EUNSUPPORTED) {
        (void)refuse(job, culprit, err);
    }
}

static void convert(struct rmk_plan_job *job, const struct rmk_plan_limits *limits)
{
    const Remask__Cluster__V1__StepPlan *plan = job->plan;
    struct rmk_update *updates = job->updates;
    uint64_t read_count = 0;

    for (size_t i = 0; i < plan->n_closes; i++) {
        if (plan->closes[i] >= limits->slot_count) {
            (void)refuse(job, 0,
                         rmk_fail(&job->why, RMK_EINVAL, "close of slot %u of %u", plan->closes[i],
                                  limits->slot_count));
            return;
        }
    }
    for (size_t i = 0; i < plan->n_opens; i++) {
        if (convert_open(job, plan->opens[i], limits, &job->opens[i]) != RMK_OK) {
            return;
        }
    }
    for (size_t i = 0; i < plan->n_rows; i++) {
        if (convert_row(job, plan->rows[i], limits, updates, &job->rows[i]) != RMK_OK) {
            return;
        }
        updates += plan->rows[i]->n_update_positions;
        read_count += plan->rows[i]->n_reads;
    }
    if (read_count > limits->reads_max) {
        (void)refuse(job, 0,
                     rmk_fail(&job->why, RMK_ELIMIT,
                              "the plan reads %llu positions, this group %u at once",
                              (unsigned long long)read_count, limits->reads_max));
        return;
    }
    for (size_t i = 0; i < plan->n_rows; i++) {
        if (plan->rows[i]->ahead != NULL) {
            convert_leave(job);
            return;
        }
    }
}

static enum rmk_err allocate(struct rmk_plan_job *job, struct rmk_why *why)
{
    const Remask__Cluster__V1__StepPlan *plan = job->plan;
    size_t layouts = 0;
    size_t updates = 0;
    size_t reads = 0;

    for (size_t i = 0; i < plan->n_opens; i++) {
        layouts += plan->opens[i]->n_layout;
    }
    for (size_t i = 0; i < plan->n_rows; i++) {
        updates += plan->rows[i]->n_update_positions;
        reads += plan->rows[i]->n_reads;
    }
    /* One more of each, so that an empty list is no NULL. */
    const struct {
        void **target;
        size_t count;
        size_t size;
    } arrays[] = {
        {(void **)&job->opens, plan->n_opens, sizeof(*job->opens)},
        {(void **)&job->layouts, layouts, sizeof(*job->layouts)},
        {(void **)&job->rows, plan->n_rows, sizeof(*job->rows)},
        {(void **)&job->updates, updates, sizeof(*job->updates)},
        {(void **)&job->reads, reads, sizeof(*job->reads)},
        {(void **)&job->poisoned, plan->n_rows, sizeof(*job->poisoned)},
        {(void **)&job->row_results, plan->n_rows, sizeof(*job->row_results)},
        {(void **)&job->row_result_pointers, plan->n_rows, sizeof(*job->row_result_pointers)},
        {(void **)&job->tokens, reads, sizeof(*job->tokens)},
        {(void **)&job->confidences, reads, sizeof(*job->confidences)},
    };
    for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++) {
        *arrays[i].target = calloc(arrays[i].count + 1, arrays[i].size);
        if (*arrays[i].target == NULL) {
            return rmk_fail(why, RMK_ELIMIT, "no memory for a plan of %zu rows", plan->n_rows);
        }
    }
    return RMK_OK;
}

enum rmk_err rmk_plan_create(Remask__Cluster__V1__CoordinatorMessage *owner, uint64_t hash,
                             const struct rmk_plan_limits *limits, struct rmk_plan_job **out_job,
                             struct rmk_why *why)
{
    enum rmk_err err;

    struct rmk_plan_job *job = calloc(1, sizeof(*job));
    if (job == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for a plan");
        goto out;
    }
    job->plan = owner->step_plan;
    job->hash = hash;
    remask__cluster__v1__step_result__init(&job->result);
    RMK_TRY(allocate(job, why));
    convert(job, limits);
    job->owner = owner;
    *out_job = job;
    job = NULL;
out:
    rmk_plan_destroy(job);
    return err;
}

void rmk_plan_destroy(struct rmk_plan_job *job)
{
    if (job == NULL) {
        return;
    }
    for (uint32_t i = 0; job->layouts != NULL && i < job->layout_count; i++) {
        free((void *)job->layouts[i].features);
    }
    if (job->owner != NULL) {
        remask__cluster__v1__coordinator_message__free_unpacked(job->owner, NULL);
    }
    free(job->opens);
    free(job->layouts);
    free(job->rows);
    free(job->updates);
    free(job->reads);
    free(job->poisoned);
    free(job->row_results);
    free(job->row_result_pointers);
    free(job->tokens);
    free(job->confidences);
    free(job->forwards);
    free(job->forward_pointers);
    free(job->ahead_tokens);
    free(job->ahead_confidences);
    free(job->ahead_positions);
    free(job->ahead_ids);
    rmk_run_ahead_destroy(job->ahead);
    free(job);
}

void rmk_plan_take_features(struct rmk_plan_job *job, rmk_plan_take take, void *context)
{
    uint32_t layout = 0;

    if (job->err != RMK_OK) {
        return;
    }
    for (size_t i = 0; i < job->plan->n_opens; i++) {
        const Remask__Cluster__V1__Open *open = job->plan->opens[i];
        for (size_t k = 0; k < open->n_layout; k++, layout++) {
            const Remask__Cluster__V1__Layout *piece = open->layout[k];
            if (piece->n_ids > 0 || piece->rows == 0) {
                continue;
            }
            job->layouts[layout].features = take(context, open->request, piece->item, piece->rows);
            if (job->layouts[layout].features == NULL) {
                (void)refuse(job, open->request,
                             rmk_fail(&job->why, RMK_EUNAVAILABLE,
                                      "features of item %u are not here", piece->item));
                return;
            }
        }
    }
}

/* ---- running
 * ----------------------------------------------------------------------------------------------------------
 */

struct verdict {
    uint64_t hash;
    uint64_t culprit;
    uint32_t err;
    uint32_t padding;
};

/* All ranks learn whether all have the same plan and can run it. */
static enum rmk_err agree(struct rmk_plan_job *job, struct rmk_comm *comm, struct rmk_why *why)
{
    struct verdict mine = {.hash = job->hash, .culprit = job->culprit, .err = (uint32_t)job->err};
    struct verdict all[RMK_TP_RANKS_MAX];
    enum rmk_err err;

    RMK_TRY(rmk_comm_all_gather(comm, &mine, sizeof(mine), all, why));
    for (uint32_t rank = 0; rank < rmk_comm_size(comm); rank++) {
        if (all[rank].hash != job->hash) {
            err = rmk_fail(why, RMK_EINTERNAL, "ranks 0 and %u hold different plans", rank);
            goto out;
        }
        if (all[rank].err != RMK_OK && job->err == RMK_OK) {
            job->err = (enum rmk_err)all[rank].err;
            job->culprit = all[rank].culprit;
            (void)rmk_fail(&job->why, job->err, "rank %u could not run the plan", rank);
        }
    }
out:
    return err;
}

/* Errors of the communicator or the device end the epoch. The others are the request's: the ranks,
 * given the same bytes, came to the same end. */
static bool ends_epoch(enum rmk_err err)
{
    return err == RMK_EUNAVAILABLE || err == RMK_EDEADLINE || err == RMK_ECANCELLED ||
           err == RMK_EIO;
}

static enum rmk_err run_rows(struct rmk_plan_job *job, struct rmk_runner *runner,
                             struct rmk_why *why)
{
    const Remask__Cluster__V1__StepPlan *plan = job->plan;
    enum rmk_err err;

    for (size_t i = 0; i < plan->n_closes; i++) {
        rmk_runner_close(runner, plan->closes[i]);
    }
    for (size_t i = 0; i < plan->n_opens; i++) {
        err = rmk_runner_open(runner, &job->opens[i], why);
        if (err != RMK_OK) {
            job->culprit = plan->opens[i]->request;
            goto out;
        }
    }
    err = rmk_runner_run(runner, job->rows, (uint32_t)plan->n_rows, job->reads, job->poisoned, why);
    if (err == RMK_OK && job->ahead != NULL) {
        err = rmk_run_ahead_run(job->ahead, runner, job->reads, job->poisoned, why);
    }
    if (err != RMK_OK) {
        job->culprit = plan->n_rows == 1 ? plan->rows[0]->request : 0;
    }
out:
    return err;
}

/* A plan that failed leaves nothing opened: the engine will open again. */
static void close_opened(struct rmk_plan_job *job, struct rmk_runner *runner)
{
    for (size_t i = 0; i < job->plan->n_opens; i++) {
        rmk_runner_close(runner, job->plan->opens[i]->slot);
    }
}

/* `read`, `committed`: so many of those of all rows together are taken. */
static void answer_ahead(struct rmk_plan_job *job, size_t index, size_t *read, size_t *committed)
{
    const uint32_t row = (uint32_t)index;
    Remask__Cluster__V1__RowResult *out = &job->row_results[index];

    out->n_ahead = rmk_run_ahead_count(job->ahead, row);
    out->ahead = job->forward_pointers + index * RMK_AHEAD_MAX;
    out->poisoned_ahead = rmk_run_ahead_poisoned(job->ahead, row);
    for (uint32_t i = 0; i < out->n_ahead; i++) {
        const struct rmk_run_ahead_forward done = rmk_run_ahead_at(job->ahead, row, i);
        Remask__Cluster__V1__ForwardResult *forward = &job->forwards[index * RMK_AHEAD_MAX + i];

        remask__cluster__v1__forward_result__init(forward);
        forward->n_reads = done.count;
        forward->reads = (uint32_t *)(uintptr_t)done.positions;
        forward->n_tokens = done.count;
        forward->tokens = job->ahead_tokens + *read;
        forward->n_confidences = done.count;
        forward->confidences = job->ahead_confidences + *read;
        for (uint32_t k = 0; k < done.count; k++, ++*read) {
            job->ahead_tokens[*read] = done.reads[k].token;
            job->ahead_confidences[*read] = done.reads[k].confidence;
        }
        forward->n_committed_positions = done.commit_count;
        forward->committed_positions = job->ahead_positions + *committed;
        forward->n_committed_ids = done.commit_count;
        forward->committed_ids = job->ahead_ids + *committed;
        for (uint32_t k = 0; k < done.commit_count; k++, ++*committed) {
            job->ahead_positions[*committed] = done.commits[k].position;
            job->ahead_ids[*committed] = done.commits[k].id;
        }
        out->ahead[i] = forward;
    }
}

static void answer_rows(struct rmk_plan_job *job)
{
    const Remask__Cluster__V1__StepPlan *plan = job->plan;
    size_t read = 0;
    size_t ahead_read = 0;
    size_t ahead_committed = 0;

    for (size_t i = 0; i < plan->n_rows; i++) {
        Remask__Cluster__V1__RowResult *row = &job->row_results[i];
        remask__cluster__v1__row_result__init(row);
        row->request = plan->rows[i]->request;
        row->poisoned = job->poisoned[i];
        row->tokens = job->tokens + read;
        row->n_tokens = plan->rows[i]->n_reads;
        row->confidences = job->confidences + read;
        row->n_confidences = plan->rows[i]->n_reads;
        for (size_t k = 0; k < plan->rows[i]->n_reads; k++, read++) {
            job->tokens[read] = job->reads[read].token;
            job->confidences[read] = job->reads[read].confidence;
        }
        if (job->ahead != NULL) {
            answer_ahead(job, i, &ahead_read, &ahead_committed);
        }
        job->row_result_pointers[i] = row;
    }
    job->result.rows = job->row_result_pointers;
    job->result.n_rows = plan->n_rows;
}

enum rmk_err rmk_plan_run(struct rmk_plan_job *job, struct rmk_runner *runner,
                          struct rmk_comm *comm, struct rmk_why *why)
{
    const uint64_t begun_us = rmk_clock_us();
    enum rmk_err err;

    RMK_TRY(agree(job, comm, why));
    if (job->err == RMK_OK) {
        err = run_rows(job, runner, &job->why);
        if (ends_epoch(err)) {
            *why = job->why;
            goto out;
        }
        job->err = err;
        if (err != RMK_OK) {
            close_opened(job, runner);
        }
    }
    job->result.epoch = job->plan->epoch;
    job->result.sequence = job->plan->sequence;
    job->result.hash = job->hash;
    job->result.compute_us = rmk_clock_us() - begun_us;
    if (job->err == RMK_OK) {
        if (rmk_comm_rank(comm) == 0) {
            answer_rows(job);
        }
    } else {
        job->result.why = job->why.text;
        job->result.error = (uint32_t)job->err;
        job->result.culprit = job->culprit;
    }
    err = RMK_OK;
out:
    return err;
}

const Remask__Cluster__V1__StepResult *rmk_plan_result(const struct rmk_plan_job *job)
{
    return &job->result;
}

uint64_t rmk_plan_epoch(const struct rmk_plan_job *job)
{
    return job->plan->epoch;
}
