#include "coordinator/back/text_link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "common/clock.h"
#include "common/least.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/rpc/pack.h"
#include "common/rpc/rpc.h"
#include "coordinator/arena.h"
#include "coordinator/back/flight.h"
#include "coordinator/back/link.h"
#include "coordinator/back/plan.h"
#include "coordinator/front/intake.h"
#include "coordinator/metrics.h"

enum { GROUP_NAME_BYTES_MAX = 64 };

/* Measured by each rank at its start; 0: not measured. */
struct text_costs {
    uint64_t full_row_ns;
    uint64_t window_row_ns;
    uint64_t round_ns;
};

struct text_group {
    struct rmk_texts *texts;
    struct rmk_group machine;
    uint32_t index;
    char name[GROUP_NAME_BYTES_MAX + 1];
    struct rmk_link *ranks[RMK_TP_RANKS_MAX];
    struct rmk_text_limits limits; /* the least of its ranks */
    struct text_costs costs;       /* of its slowest rank, which the others wait for */
    uint32_t slot_count;
    uint32_t ahead_max; /* the least of its ranks: 0 with one that does not know of it */
    char numerics[96];
    uint64_t numerics_class;
    struct rmk_flight flight;
    uint64_t round_count;
};

struct rmk_texts {
    struct rmk_links *links;
    const struct rmk_back_options *options;
    const struct rmk_back_hooks *hooks;
    struct rmk_coordinator_metrics *metrics;
    uint64_t *epochs;
    struct text_group **groups; /* [groups_max], filled from the front; reused when empty */
    uint32_t group_count;
    struct rmk_arena scratch;
};

static const struct rmk_group_out group_out;

struct rmk_texts *rmk_texts_create(struct rmk_links *links, const struct rmk_back_options *options,
                                   const struct rmk_back_hooks *hooks,
                                   struct rmk_coordinator_metrics *metrics, uint64_t *epochs)
{
    struct rmk_texts *texts = calloc(1, sizeof(*texts));

    if (texts == NULL) {
        return NULL;
    }
    texts->links = links;
    texts->options = options;
    texts->hooks = hooks;
    texts->metrics = metrics;
    texts->epochs = epochs;
    texts->groups = calloc(options->groups_max, sizeof(struct text_group *));
    if (texts->groups == NULL) {
        free(texts);
        return NULL;
    }
    return texts;
}

void rmk_texts_destroy(struct rmk_texts *texts)
{
    if (texts == NULL) {
        return;
    }
    for (uint32_t i = 0; i < texts->group_count; i++) {
        rmk_flight_deinit(&texts->groups[i]->flight);
        free(texts->groups[i]);
    }
    rmk_arena_deinit(&texts->scratch);
    free(texts->groups);
    free(texts);
}

/* ---- Hello
 * ------------------------------------------------------------------------------------------- */

static struct text_group *find_group(const struct rmk_texts *texts, const char *name)
{
    for (uint32_t i = 0; i < texts->group_count; i++) {
        if (strcmp(texts->groups[i]->name, name) == 0) {
            return texts->groups[i];
        }
    }
    return NULL;
}

/* A new place, or that of a group whose ranks have all left. */
static struct text_group *take_group(struct rmk_texts *texts)
{
    struct text_group *group;

    if (texts->group_count == texts->options->groups_max) {
        for (uint32_t i = 0; i < texts->group_count; i++) {
            if (texts->groups[i]->machine.present_count == 0) {
                return texts->groups[i];
            }
        }
        return NULL;
    }
    group = calloc(1, sizeof(*group));
    if (group == NULL) {
        return NULL;
    }
    group->texts = texts;
    group->index = texts->group_count;
    texts->groups[texts->group_count++] = group;
    return group;
}

static enum rmk_err check_fields(const Remask__Cluster__V1__Hello *hello, struct rmk_why *why)
{
    size_t name_bytes = strlen(hello->group);

    if (name_bytes == 0 || name_bytes > GROUP_NAME_BYTES_MAX) {
        return rmk_fail(why, RMK_EINVAL, "group: the name has %zu bytes, must have 1 to %d",
                        name_bytes, GROUP_NAME_BYTES_MAX);
    }
    if (hello->size == 0 || hello->size > RMK_TP_RANKS_MAX || hello->rank >= hello->size) {
        return rmk_fail(why, RMK_EINVAL, "rank: %u of %u ranks, at most %d are allowed",
                        hello->rank, hello->size, RMK_TP_RANKS_MAX);
    }
    if (hello->slot_count == 0 || hello->slot_count > RMK_GROUP_SLOTS_MAX) {
        return rmk_fail(why, RMK_EINVAL, "slot_count: is %u, must be from 1 to %d",
                        hello->slot_count, RMK_GROUP_SLOTS_MAX);
    }
    if (hello->rows_max == 0 || hello->step_rows_max == 0 || hello->reads_max == 0) {
        return rmk_fail(why, RMK_EINVAL, "rows_max %u, step_rows_max %u, reads_max %u: one is 0",
                        hello->rows_max, hello->step_rows_max, hello->reads_max);
    }
    if (hello->numerics == NULL) {
        return rmk_fail(why, RMK_EINVAL, "numerics: is missing");
    }
    return RMK_OK;
}

static void numerics_of(const Remask__Cluster__V1__Numerics *numerics, char out_name[96],
                        uint64_t *out_class)
{
    char all[512];

    (void)snprintf(out_name, 96, "%.40s/%.40s/tp%u", numerics->backend, numerics->dtype,
                   numerics->tp);
    (void)snprintf(all, sizeof(all), "%.100s\n%.100s\n%.100s\n%u\n%.100s", numerics->backend,
                   numerics->architecture, numerics->dtype, numerics->tp, numerics->version);
    *out_class = XXH64(all, strlen(all), 0);
}

/* Whether the rank fits beside those that are there. */
static enum rmk_err check_place(const struct text_group *group,
                                const Remask__Cluster__V1__Hello *hello, uint64_t numerics_class,
                                int *out_status, struct rmk_why *why)
{
    if (hello->size != group->machine.size) {
        *out_status = RMK_STATUS_FAILED_PRECONDITION;
        return rmk_fail(why, RMK_EINVAL, "size: %s says group %s has %u ranks, others said %u",
                        hello->name, group->name, hello->size, group->machine.size);
    }
    if (group->ranks[hello->rank] != NULL) {
        *out_status = RMK_STATUS_ALREADY_EXISTS;
        return rmk_fail(why, RMK_EEXISTS, "rank: %u of group %s is taken by %s", hello->rank,
                        group->name, group->ranks[hello->rank]->name);
    }
    if (numerics_class != group->numerics_class) {
        *out_status = RMK_STATUS_FAILED_PRECONDITION;
        return rmk_fail(why, RMK_EINVAL,
                        "numerics: %s differs from the other ranks of group %s, which are %s",
                        hello->name, group->name, group->numerics);
    }
    return RMK_OK;
}

enum rmk_err rmk_texts_attach(struct rmk_texts *texts, struct rmk_link *link,
                              const Remask__Cluster__V1__Hello *hello, int *out_status,
                              struct rmk_why *why)
{
    struct text_group *group;
    uint64_t numerics_class;
    char numerics[96];
    enum rmk_err err;

    *out_status = RMK_STATUS_INVALID_ARGUMENT;
    RMK_TRY(check_fields(hello, why));
    numerics_of(hello->numerics, numerics, &numerics_class);
    group = find_group(texts, hello->group);
    if (group == NULL) {
        group = take_group(texts);
        if (group == NULL) {
            *out_status = RMK_STATUS_RESOURCE_EXHAUSTED;
            err = rmk_fail(why, RMK_ELIMIT, "group: %u groups are attached, no more are allowed",
                           texts->options->groups_max);
            goto out;
        }
    }
    if (group->machine.present_count == 0) {
        /* The first rank says what the group is. One that comes back keeps its backoff. */
        if (strcmp(group->name, hello->group) != 0 || group->machine.size != hello->size) {
            rmk_group_init(&group->machine, hello->size, texts->options->form_timeout_ms,
                           texts->epochs, &group_out, group);
        }
        (void)snprintf(group->name, sizeof(group->name), "%s", hello->group);
        (void)snprintf(group->numerics, sizeof(group->numerics), "%s", numerics);
        group->numerics_class = numerics_class;
        group->slot_count = hello->slot_count;
        group->ahead_max = hello->ahead_max;
        group->limits = (struct rmk_text_limits){
            .rows_max = hello->rows_max,
            .step_rows_max = hello->step_rows_max,
            .reads_max = hello->reads_max,
            .kv_rows_max = hello->kv_rows_max,
            .feature_rows_max = hello->feature_rows_max,
        };
        group->costs = (struct text_costs){0};
    }
    RMK_TRY(check_place(group, hello, numerics_class, out_status, why));
    group->slot_count = rmk_least(group->slot_count, hello->slot_count);
    group->ahead_max = rmk_least(group->ahead_max, hello->ahead_max);
    group->limits.rows_max = rmk_least(group->limits.rows_max, hello->rows_max);
    group->limits.step_rows_max = rmk_least(group->limits.step_rows_max, hello->step_rows_max);
    group->limits.reads_max = rmk_least(group->limits.reads_max, hello->reads_max);
    group->limits.kv_rows_max = rmk_least(group->limits.kv_rows_max, hello->kv_rows_max);
    group->limits.feature_rows_max =
        rmk_least(group->limits.feature_rows_max, hello->feature_rows_max);
    group->costs.full_row_ns = rmk_most(group->costs.full_row_ns, hello->cost_full_row_ns);
    group->costs.window_row_ns = rmk_most(group->costs.window_row_ns, hello->cost_window_row_ns);
    group->costs.round_ns = rmk_most(group->costs.round_ns, hello->cost_round_ns);
    link->owner = group;
    link->rank = hello->rank;
    group->ranks[hello->rank] = link;
out:
    return err;
}

void rmk_texts_attached(struct rmk_texts *texts, struct rmk_link *link, uint64_t now_us)
{
    struct text_group *group = link->owner;

    rmk_group_join(&group->machine, link->rank, now_us);
    rmk_links_arm(texts->links);
}

void rmk_texts_gone(struct rmk_texts *texts, struct rmk_link *link, uint64_t now_us,
                    const char *why)
{
    struct text_group *group = link->owner;
    struct rmk_why text = {0};

    (void)rmk_fail(&text, RMK_EUNAVAILABLE, "rank %u (%s) is lost: %s", link->rank, link->name,
                   why);
    group->ranks[link->rank] = NULL;
    rmk_group_leave(&group->machine, link->rank, now_us, text.text);
    rmk_links_arm(texts->links);
}

void rmk_texts_tick(struct rmk_texts *texts, uint64_t now_us)
{
    for (uint32_t i = 0; i < texts->group_count; i++) {
        rmk_group_tick(&texts->groups[i]->machine, now_us);
    }
}

uint64_t rmk_texts_due_us(const struct rmk_texts *texts)
{
    uint64_t soonest = 0;

    for (uint32_t i = 0; i < texts->group_count; i++) {
        uint64_t due_us = rmk_group_due_us(&texts->groups[i]->machine);

        if (due_us != 0 && (soonest == 0 || due_us < soonest)) {
            soonest = due_us;
        }
    }
    return soonest;
}

/* ---- what the group wants said
 * ----------------------------------------------------------------------- */

static void tell(struct rmk_link *link, Remask__Cluster__V1__CoordinatorMessage *message)
{
    if (link != NULL && link->state == RMK_LINK_TEXT) {
        (void)rmk_pack_send(link->call, &message->base);
    }
}

static void out_form(void *context, uint32_t rank, uint64_t epoch, uint32_t size,
                     uint32_t timeout_ms)
{
    struct text_group *group = context;
    Remask__Cluster__V1__Form form = REMASK__CLUSTER__V1__FORM__INIT;
    Remask__Cluster__V1__CoordinatorMessage message =
        REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__INIT;

    form.epoch = epoch;
    form.rank = rank;
    form.size = size;
    form.timeout_ms = timeout_ms;
    message.kind_case = REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_FORM;
    message.form = &form;
    tell(group->ranks[rank], &message);
}

static void out_bootstrap(void *context, uint32_t rank, uint64_t epoch, struct rmk_bytes id)
{
    struct text_group *group = context;
    Remask__Cluster__V1__Bootstrap bootstrap = REMASK__CLUSTER__V1__BOOTSTRAP__INIT;
    Remask__Cluster__V1__CoordinatorMessage message =
        REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__INIT;

    bootstrap.epoch = epoch;
    bootstrap.id.data = (uint8_t *)(uintptr_t)id.data;
    bootstrap.id.len = id.size;
    message.kind_case = REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_BOOTSTRAP;
    message.bootstrap = &bootstrap;
    tell(group->ranks[rank], &message);
}

static void out_dissolve(void *context, uint32_t rank, uint64_t epoch, const char *why)
{
    struct text_group *group = context;
    Remask__Cluster__V1__Dissolve dissolve = REMASK__CLUSTER__V1__DISSOLVE__INIT;
    Remask__Cluster__V1__CoordinatorMessage message =
        REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__INIT;

    dissolve.epoch = epoch;
    dissolve.why = (char *)(uintptr_t)why;
    message.kind_case = REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_DISSOLVE;
    message.dissolve = &dissolve;
    tell(group->ranks[rank], &message);
}

static void out_up(void *context, uint64_t epoch)
{
    struct text_group *group = context;
    struct rmk_texts *texts = group->texts;
    struct rmk_event event = {
        .kind = RMK_EVENT_GROUP_UP,
        .group =
            {
                .group = group->index,
                .epoch = epoch,
                .slot_count = group->slot_count,
                .rows_max = group->limits.rows_max,
                .step_rows_max = group->limits.step_rows_max,
                .numerics_class = group->numerics_class,
                .kv_rows_max = group->limits.kv_rows_max,
                .feature_rows_max = group->limits.feature_rows_max,
                .reads_max = group->limits.reads_max,
                .cost_full_row_ns = group->costs.full_row_ns,
                .cost_window_row_ns = group->costs.window_row_ns,
                .cost_round_ns = group->costs.round_ns,
                .ahead_max = group->ahead_max,
            },
    };

    rmk_counter_add(texts->metrics->groups_formed, 1);
    rmk_log(RMK_LOG_INFO, "back", "group up", "group=%s epoch=%llu size=%u numerics=%s",
            group->name, (unsigned long long)epoch, group->machine.size, group->numerics);
    texts->hooks->post(texts->hooks->context, &event);
    texts->hooks->changed(texts->hooks->context);
}

static void out_down(void *context, uint64_t epoch, const char *why)
{
    struct text_group *group = context;
    struct rmk_texts *texts = group->texts;

    group->flight.under_way = false;
    rmk_counter_add(texts->metrics->groups_lost, 1);
    rmk_log(RMK_LOG_WARN, "back", "group down", "group=%s epoch=%llu why=%s", group->name,
            (unsigned long long)epoch, why);
    texts->hooks->post(texts->hooks->context,
                       &(struct rmk_event){.kind = RMK_EVENT_GROUP_DOWN,
                                           .group = {.group = group->index, .epoch = epoch}});
    texts->hooks->changed(texts->hooks->context);
}

static const struct rmk_group_out group_out = {
    .form = out_form,
    .bootstrap = out_bootstrap,
    .dissolve = out_dissolve,
    .up = out_up,
    .down = out_down,
};

/* ---- orders
 * -------------------------------------------------------------------------------------------- */

/* The group with this index if this epoch of it is up. */
static struct text_group *group_at(const struct rmk_texts *texts, uint32_t index, uint64_t epoch)
{
    struct text_group *group;

    if (index >= texts->group_count) {
        return NULL;
    }
    group = texts->groups[index];
    return group->machine.state == RMK_GROUP_UP && group->machine.epoch == epoch ? group : NULL;
}

void rmk_texts_run(struct rmk_texts *texts, const struct rmk_plan *plan,
                   const struct rmk_intake *const *intakes)
{
    struct text_group *group = group_at(texts, plan->group, plan->epoch);
    uint8_t *packed;
    size_t size;

    if (group == NULL) {
        return; /* GROUP_DOWN is on its way to the engine */
    }
    rmk_assert(!group->flight.under_way);
    packed = rmk_plan_pack(plan, intakes, &texts->scratch, &size);
    rmk_arena_reset(&texts->scratch);
    if (packed == NULL) {
        rmk_group_fault(&group->machine, plan->epoch, rmk_clock_us(), "no memory for a plan");
        rmk_links_arm(texts->links);
        return;
    }
    rmk_flight_begin(&group->flight, plan, intakes, rmk_plan_hash(packed, size), rmk_clock_us());
    /* The same bytes to every rank: a rank that reads something else shows in its hash. */
    for (uint32_t rank = 0; rank < group->machine.size; rank++) {
        (void)rmk_rpc_call_send(group->ranks[rank]->call, rmk_bytes_of(packed, size));
    }
    free(packed);
}

void rmk_texts_prefetch(struct rmk_texts *texts, uint32_t index, uint64_t epoch,
                        const struct rmk_prefetch *prefetch)
{
    struct text_group *group = group_at(texts, index, epoch);
    Remask__Cluster__V1__Prefetch order = REMASK__CLUSTER__V1__PREFETCH__INIT;
    Remask__Cluster__V1__CoordinatorMessage message =
        REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__INIT;

    if (group == NULL) {
        return;
    }
    order.epoch = epoch;
    order.request = rmk_wire_of_request(prefetch->request);
    order.item = prefetch->item;
    order.key.data = (uint8_t *)(uintptr_t)prefetch->key;
    order.key.len = RMK_DIGEST_BYTES;
    order.address = (char *)(uintptr_t)prefetch->address;
    order.vision_epoch = prefetch->vision_epoch;
    order.rows = prefetch->rows;
    order.width = texts->options->width;
    message.kind_case = REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_PREFETCH;
    message.prefetch = &order;
    tell(group->ranks[0], &message);
}

void rmk_texts_forget(struct rmk_texts *texts, uint32_t index, uint64_t epoch,
                      struct rmk_request_id request)
{
    struct text_group *group = group_at(texts, index, epoch);
    Remask__Cluster__V1__Forget forget = REMASK__CLUSTER__V1__FORGET__INIT;
    Remask__Cluster__V1__CoordinatorMessage message =
        REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__INIT;

    if (group == NULL) {
        return;
    }
    forget.epoch = epoch;
    forget.request = rmk_wire_of_request(request);
    message.kind_case = REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_FORGET;
    message.forget = &forget;
    for (uint32_t rank = 0; rank < group->machine.size; rank++) {
        tell(group->ranks[rank], &message);
    }
}

void rmk_texts_dissolve(struct rmk_texts *texts, uint32_t index, uint64_t epoch, const char *why)
{
    struct text_group *group = group_at(texts, index, epoch);

    if (group != NULL) {
        rmk_group_fault(&group->machine, epoch, rmk_clock_us(), why);
        rmk_links_arm(texts->links);
    }
}

/* ---- answers
 * ------------------------------------------------------------------------------------------- */

/* Rank 0's answer that the group could not do the plan, though it lives. */
static void step_failed(struct rmk_texts *texts, struct text_group *group,
                        const Remask__Cluster__V1__StepResult *result)
{
    struct rmk_event event = {
        .kind = RMK_EVENT_STEP_FAILED,
        .step =
            {
                .group = group->index,
                .epoch = result->epoch,
                .sequence = result->sequence,
                .compute_us = result->compute_us,
                .err = rmk_err_of_wire(result->error),
                .culprit = rmk_request_of_wire(result->culprit),
                .why = result->why,
            },
    };

    rmk_counter_add(texts->metrics->steps_failed, 1);
    rmk_log(RMK_LOG_WARN, "back", "plan failed", "group=%s epoch=%llu sequence=%llu why=%s",
            group->name, (unsigned long long)result->epoch, (unsigned long long)result->sequence,
            result->why);
    texts->hooks->post(texts->hooks->context, &event);
}

static enum rmk_err step_done(struct rmk_texts *texts, struct text_group *group,
                              const Remask__Cluster__V1__StepResult *result, uint64_t now_us,
                              struct rmk_why *why)
{
    struct rmk_flight *flight = &group->flight;
    struct rmk_row_result *rows;
    enum rmk_err err;

    RMK_TRY(rmk_flight_read(flight, result, texts->options->vocab, &texts->scratch, &rows, why));
    flight->under_way = false;
    group->round_count++;
    rmk_group_worked(&group->machine);
    rmk_histogram_observe(texts->metrics->step_seconds, (double)(now_us - flight->sent_us) / 1e6);
    rmk_histogram_observe(texts->metrics->step_compute_seconds, (double)result->compute_us / 1e6);
    texts->hooks->post(texts->hooks->context, &(struct rmk_event){
                                                  .kind = RMK_EVENT_STEP_DONE,
                                                  .step =
                                                      {
                                                          .group = group->index,
                                                          .epoch = result->epoch,
                                                          .sequence = result->sequence,
                                                          .rows = rows,
                                                          .row_count = flight->row_count,
                                                          .compute_us = result->compute_us,
                                                      },
                                              });
out:
    rmk_arena_reset(&texts->scratch);
    return err;
}

static enum rmk_err on_step_result(struct rmk_texts *texts, struct rmk_link *link,
                                   const Remask__Cluster__V1__StepResult *result, uint64_t now_us,
                                   struct rmk_why *why)
{
    struct text_group *group = link->owner;
    struct rmk_flight *flight = &group->flight;

    if (group->machine.state != RMK_GROUP_UP || result->epoch != group->machine.epoch ||
        result->sequence != flight->sequence) {
        return RMK_OK; /* of a plan that nobody waits for any more */
    }
    if (result->hash != flight->hash) {
        (void)rmk_fail(why, RMK_EINTERNAL, "rank %u read another plan %llu than was sent",
                       link->rank, (unsigned long long)result->sequence);
        rmk_group_fault(&group->machine, result->epoch, now_us, why->text);
        rmk_links_arm(texts->links);
        return RMK_OK;
    }
    if (link->rank != 0 || !flight->under_way) {
        return RMK_OK; /* only rank 0 has answers; a second one changes nothing */
    }
    if (result->error != RMK_OK || result->why[0] != '\0') {
        flight->under_way = false;
        step_failed(texts, group, result);
        return RMK_OK;
    }
    return step_done(texts, group, result, now_us, why);
}

/* The request and item that a worker's answer is about, checked. False: late, finished meanwhile.
 */
static enum rmk_err check_item(struct rmk_texts *texts, uint64_t request, uint32_t item,
                               bool *out_live, struct rmk_why *why)
{
    const struct rmk_intake *intake =
        texts->hooks->intake_of(texts->hooks->context, rmk_request_of_wire(request));

    *out_live = intake != NULL;
    if (intake != NULL && item >= intake->submit.item_count) {
        return rmk_fail(why, RMK_EINVAL, "item %u of request %llx, which has %u", item,
                        (unsigned long long)request, intake->submit.item_count);
    }
    return RMK_OK;
}

static enum rmk_err on_features(struct rmk_texts *texts, struct rmk_link *link,
                                const Remask__Cluster__V1__WorkerMessage *message,
                                struct rmk_why *why)
{
    struct text_group *group = link->owner;
    struct rmk_event event = {0};
    bool live;
    enum rmk_err err;

    event.features.group = group->index;
    if (message->kind_case == REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_FEATURES_RESIDENT) {
        const Remask__Cluster__V1__FeaturesResident *resident = message->features_resident;

        RMK_TRY(check_item(texts, resident->request, resident->item, &live, why));
        event.kind = RMK_EVENT_FEATURES_RESIDENT;
        event.features.request = rmk_request_of_wire(resident->request);
        event.features.item = resident->item;
        event.features.epoch = resident->epoch;
        rmk_counter_add(texts->metrics->pulls, 1);
        rmk_histogram_observe(texts->metrics->pull_seconds, (double)resident->pull_us / 1e6);
    } else {
        const Remask__Cluster__V1__FeaturesFailed *failed = message->features_failed;

        RMK_TRY(check_item(texts, failed->request, failed->item, &live, why));
        event.kind = RMK_EVENT_FEATURES_FAILED;
        event.features.request = rmk_request_of_wire(failed->request);
        event.features.item = failed->item;
        event.features.epoch = failed->epoch;
        /* A pull that fails is never the picture's fault, whatever it failed of: evicted features
         * are encoded again, all else is tried again. */
        event.features.err =
            rmk_err_of_wire(failed->error) == RMK_ENOTFOUND ? RMK_ENOTFOUND : RMK_EUNAVAILABLE;
        event.features.why = failed->why;
        rmk_counter_add(texts->metrics->pulls_failed, 1);
        rmk_log(RMK_LOG_WARN, "back", "pull failed", "group=%s request=%llx item=%u why=%s",
                group->name, (unsigned long long)failed->request, failed->item, failed->why);
    }
    if (live && group_at(texts, group->index, event.features.epoch) != NULL) {
        texts->hooks->post(texts->hooks->context, &event);
    }
out:
    return err;
}

static void on_fault(struct rmk_texts *texts, struct rmk_link *link,
                     const Remask__Cluster__V1__GroupFault *fault, uint64_t now_us)
{
    struct text_group *group = link->owner;
    struct rmk_why why = {0};

    if (fault->lost_rank < group->machine.size) {
        (void)rmk_fail(&why, RMK_EUNAVAILABLE, "rank %u lost rank %u: %s", link->rank,
                       fault->lost_rank, fault->why);
    } else {
        (void)rmk_fail(&why, RMK_EUNAVAILABLE, "rank %u failed: %s", link->rank, fault->why);
    }
    rmk_group_fault(&group->machine, fault->epoch, now_us, why.text);
    rmk_links_arm(texts->links);
}

enum rmk_err rmk_texts_message(struct rmk_texts *texts, struct rmk_link *link,
                               const Remask__Cluster__V1__WorkerMessage *message, uint64_t now_us,
                               struct rmk_why *why)
{
    struct text_group *group = link->owner;
    enum rmk_err err = RMK_OK;

    switch (message->kind_case) {
    case REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_BOOTSTRAP_ID:
        return rmk_group_bootstrap(
            &group->machine, link->rank, message->bootstrap_id->epoch,
            rmk_bytes_of(message->bootstrap_id->id.data, message->bootstrap_id->id.len), why);
    case REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_FORMED:
        err = rmk_group_formed(&group->machine, link->rank, message->formed->epoch, why);
        rmk_links_arm(texts->links);
        return err;
    case REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_FAULT:
        on_fault(texts, link, message->fault, now_us);
        return RMK_OK;
    case REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_STEP_RESULT:
        return on_step_result(texts, link, message->step_result, now_us, why);
    case REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_FEATURES_RESIDENT:
    case REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_FEATURES_FAILED:
        return on_features(texts, link, message, why);
    default:
        return rmk_fail(why, RMK_EINVAL,
                        "a text rank sent message kind %d, which is a vision worker's",
                        (int)message->kind_case);
    }
}

/* ---- looking in
 * ------------------------------------------------------------------------------------------ */

void rmk_texts_limits(const struct rmk_texts *texts, struct rmk_text_limits *out_limits)
{
    *out_limits = (struct rmk_text_limits){0};
    for (uint32_t i = 0; i < texts->group_count; i++) {
        const struct text_group *group = texts->groups[i];

        if (group->machine.present_count == 0) {
            continue;
        }
        /* Perhaps of several groups: what none of them can hold for itself is refused here, what
         * none can hold together by the engine. */
        out_limits->rows_max = rmk_most(out_limits->rows_max, group->limits.rows_max);
        out_limits->step_rows_max =
            rmk_most(out_limits->step_rows_max, group->limits.step_rows_max);
        out_limits->reads_max = rmk_most(out_limits->reads_max, group->limits.reads_max);
        out_limits->kv_rows_max = rmk_most(out_limits->kv_rows_max, group->limits.kv_rows_max);
        out_limits->feature_rows_max =
            rmk_most(out_limits->feature_rows_max, group->limits.feature_rows_max);
    }
}

uint32_t rmk_texts_count(const struct rmk_texts *texts)
{
    return texts->group_count;
}

bool rmk_texts_status(const struct rmk_texts *texts, uint32_t index,
                      struct rmk_text_status *out_status)
{
    const struct text_group *group;

    if (index >= texts->group_count) {
        return false;
    }
    group = texts->groups[index];
    *out_status = (struct rmk_text_status){
        .name = group->name,
        .state = group->machine.state,
        .epoch = group->machine.epoch,
        .size = group->machine.size,
        .numerics = group->numerics,
        .round_count = group->round_count,
    };
    for (uint32_t rank = 0; rank < group->machine.size; rank++) {
        out_status->rank_names[rank] = group->ranks[rank] != NULL ? group->ranks[rank]->name : NULL;
    }
    return true;
}

const char *rmk_texts_numerics(const struct rmk_texts *texts, uint32_t index)
{
    return index < texts->group_count ? texts->groups[index]->numerics : "";
}

uint32_t rmk_texts_up_count(const struct rmk_texts *texts)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < texts->group_count; i++) {
        count += texts->groups[i]->machine.state == RMK_GROUP_UP;
    }
    return count;
}
