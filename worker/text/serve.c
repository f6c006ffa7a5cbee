#include "worker/text/serve.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "common/clock.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/process.h"
#include "model/safetensors.h"
#include "model/spec.h"
#include "model/tokenizer.h"
#include "worker/text/cache.h"
#include "worker/text/exchange.h"
#include "worker/text/memory_plan.h"
#include "worker/text/plan.h"
#include "worker/text/runner.h"
#include "worker/text/staging.h"
#include "worker/text/weights.h"
#include "worker/tp/comm.h"

enum {
    ROWS_MAX_DEFAULT = 8192,
    READS_MAX = 4 * RMK_GEN_LENGTH_MAX,
};

struct serve {
    struct rmk_host host;
    struct rmk_text_serve_options options;
    struct rmk_runner *runner; /* lane thread only, once serving */
    struct rmk_plan_limits limits;
    struct rmk_runner_cost cost;
    struct rmk_staging *staging; /* rank 0 only */
    uint64_t epoch;              /* of the last Form; 0: none. Loop thread */
    uint32_t form_timeout_ms;
    Remask__Cluster__V1__Numerics numerics;
    /* The communicator belongs to the lane; the loop may only abort it, under the mutex. */
    pthread_mutex_t mutex;
    struct rmk_comm *comm;
    uint64_t comm_epoch;
};

/* ---- what goes up
 * ------------------------------------------------------------------------------------------------------
 */

static void send_fault(struct serve *serve, uint64_t epoch, const char *why)
{
    Remask__Cluster__V1__GroupFault fault = REMASK__CLUSTER__V1__GROUP_FAULT__INIT;
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;

    fault.epoch = epoch;
    fault.lost_rank = UINT32_MAX;
    fault.why = (char *)why;
    message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_FAULT;
    message.fault = &fault;
    rmk_attach_send(serve->host.attach, &message);
}

static void on_resident(void *context, const struct rmk_staging_item *item, uint64_t pull_us)
{
    struct serve *serve = context;
    Remask__Cluster__V1__FeaturesResident resident = REMASK__CLUSTER__V1__FEATURES_RESIDENT__INIT;
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;

    resident.epoch = item->epoch;
    resident.request = item->request;
    resident.item = item->item;
    resident.pull_us = pull_us;
    message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_FEATURES_RESIDENT;
    message.features_resident = &resident;
    rmk_attach_send(serve->host.attach, &message);
}

static void on_failed(void *context, const struct rmk_staging_item *item, enum rmk_err err,
                      const char *why)
{
    struct serve *serve = context;
    Remask__Cluster__V1__FeaturesFailed failed = REMASK__CLUSTER__V1__FEATURES_FAILED__INIT;
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;

    failed.epoch = item->epoch;
    failed.request = item->request;
    failed.item = item->item;
    failed.error = err;
    failed.why = (char *)why;
    message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_FEATURES_FAILED;
    message.features_failed = &failed;
    rmk_attach_send(serve->host.attach, &message);
}

/* ---- epochs
 * ----------------------------------------------------------------------------------------------------------------
 */

static const char *comm_kind(const struct serve *serve)
{
    if (serve->options.size == 1) {
        return "self";
    }
    if (serve->options.collectives != NULL) {
        return serve->options.collectives;
    }
    return serve->host.device->info.stream != NULL && serve->options.device_ranks <= 1 ? "nccl"
                                                                                       : "cpu";
}

static void abort_comm(struct serve *serve)
{
    pthread_mutex_lock(&serve->mutex);
    if (serve->comm != NULL) {
        rmk_comm_abort(serve->comm);
    }
    pthread_mutex_unlock(&serve->mutex);
}

/* Lane. */
static void drop_comm(struct serve *serve)
{
    pthread_mutex_lock(&serve->mutex);
    struct rmk_comm *comm = serve->comm;
    serve->comm = NULL;
    serve->comm_epoch = 0;
    pthread_mutex_unlock(&serve->mutex);
    rmk_runner_set_comm(serve->runner, NULL);
    rmk_comm_destroy(comm);
}

struct form_job {
    struct rmk_lane_job job;
    struct serve *serve;
    struct rmk_comm_options options;
    struct rmk_comm_id id;
    enum rmk_err err;
    struct rmk_why why;
};

static void run_form(struct rmk_lane_job *job)
{
    struct form_job *form = (struct form_job *)job;
    struct serve *serve = form->serve;
    struct rmk_comm *comm = NULL;

    drop_comm(serve);
    form->err = rmk_comm_create(&form->options, &form->id, &comm, &form->why);
    if (form->err != RMK_OK) {
        return;
    }
    pthread_mutex_lock(&serve->mutex);
    serve->comm = comm;
    serve->comm_epoch = form->options.epoch;
    pthread_mutex_unlock(&serve->mutex);
    rmk_runner_set_comm(serve->runner, comm);
}

static void form_done(struct rmk_lane_job *job)
{
    struct form_job *form = (struct form_job *)job;
    struct serve *serve = form->serve;
    Remask__Cluster__V1__Formed formed = REMASK__CLUSTER__V1__FORMED__INIT;
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;

    if (!serve->host.stopping && form->options.epoch == serve->epoch) {
        if (form->err == RMK_OK) {
            rmk_log(RMK_LOG_INFO, "text", "group formed", "group=%s rank=%u epoch=%llu",
                    serve->options.group, serve->options.rank, (unsigned long long)serve->epoch);
            formed.epoch = form->options.epoch;
            message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_FORMED;
            message.formed = &formed;
            rmk_attach_send(serve->host.attach, &message);
        } else {
            rmk_log(RMK_LOG_WARN, "text", "group did not form", "group=%s epoch=%llu why=%s",
                    serve->options.group, (unsigned long long)serve->epoch, form->why.text);
            send_fault(serve, form->options.epoch, form->why.text);
        }
    } else if (form->err == RMK_OK) {
        abort_comm(serve); /* dissolved while it formed: the next Form destroys it */
    }
    free(form);
}

static void post_form(struct serve *serve, const struct rmk_comm_id *id)
{
    struct form_job *form = calloc(1, sizeof(*form));

    rmk_assert(form != NULL);
    form->job.run = run_form;
    form->job.done = form_done;
    form->serve = serve;
    form->id = *id;
    form->options = (struct rmk_comm_options){
        .kind = comm_kind(serve),
        .rank = serve->options.rank,
        .size = serve->options.size,
        .epoch = serve->epoch,
        .message_bytes_max = (size_t)1 << 20,
        .form_timeout_ms = serve->form_timeout_ms,
        .device = serve->host.device,
    };
    rmk_lane_post(serve->host.lane, &form->job);
}

static void on_form(struct serve *serve, const Remask__Cluster__V1__Form *form)
{
    struct rmk_comm_id id = {0};
    struct rmk_why why = {0};
    Remask__Cluster__V1__BootstrapId bootstrap = REMASK__CLUSTER__V1__BOOTSTRAP_ID__INIT;
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;

    if (form->rank != serve->options.rank || form->size != serve->options.size) {
        send_fault(serve, form->epoch,
                   "the coordinator wants another rank or size than this worker has");
        return;
    }
    abort_comm(serve);
    if (serve->staging != NULL) {
        rmk_staging_clear(serve->staging);
    }
    serve->epoch = form->epoch;
    serve->form_timeout_ms = form->timeout_ms > 0 ? form->timeout_ms : 10000;
    if (serve->options.rank != 0) {
        return; /* Bootstrap brings the id */
    }
    if (rmk_comm_id_make(comm_kind(serve), &id, &why) != RMK_OK) {
        send_fault(serve, form->epoch, why.text);
        return;
    }
    bootstrap.epoch = form->epoch;
    bootstrap.id.data = id.bytes;
    bootstrap.id.len = sizeof(id.bytes);
    message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_BOOTSTRAP_ID;
    message.bootstrap_id = &bootstrap;
    rmk_attach_send(serve->host.attach, &message);
    post_form(serve, &id);
}

static void on_bootstrap(struct serve *serve, const Remask__Cluster__V1__Bootstrap *bootstrap)
{
    struct rmk_comm_id id;

    if (bootstrap->epoch != serve->epoch || serve->options.rank == 0) {
        return;
    }
    if (bootstrap->id.len != sizeof(id.bytes)) {
        send_fault(serve, bootstrap->epoch, "the communicator's id has the wrong length");
        return;
    }
    memcpy(id.bytes, bootstrap->id.data, sizeof(id.bytes));
    post_form(serve, &id);
}

static void end_epoch(struct serve *serve)
{
    serve->epoch = 0;
    abort_comm(serve);
    if (serve->staging != NULL) {
        rmk_staging_clear(serve->staging);
    }
}

/* ---- plans
 * -------------------------------------------------------------------------------------------------------------------
 */

struct plan_job {
    struct rmk_lane_job job;
    struct serve *serve;
    struct rmk_plan_job *plan;
    bool stale; /* its epoch has no communicator any more */
    enum rmk_err err;
    struct rmk_why why;
};

static void run_plan(struct rmk_lane_job *job)
{
    struct plan_job *plan = (struct plan_job *)job;
    struct serve *serve = plan->serve;

    if (serve->comm == NULL ||
        serve->comm_epoch != rmk_plan_epoch(plan->plan)) { /* only the lane writes these */
        plan->stale = true;
        return;
    }
    plan->err = rmk_plan_run(plan->plan, serve->runner, serve->comm, &plan->why);
    if (plan->err != RMK_OK) {
        drop_comm(serve); /* others may still wait in it: they see it close */
    }
}

static void plan_done(struct rmk_lane_job *job)
{
    struct plan_job *plan = (struct plan_job *)job;
    struct serve *serve = plan->serve;
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;

    rmk_host_check_device(&serve->host);
    if (!plan->stale && !serve->host.stopping && rmk_plan_epoch(plan->plan) == serve->epoch) {
        if (plan->err == RMK_OK) {
            message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_STEP_RESULT;
            message.step_result = (Remask__Cluster__V1__StepResult *)rmk_plan_result(plan->plan);
            rmk_attach_send(serve->host.attach, &message);
        } else {
            rmk_log(RMK_LOG_WARN, "text", "epoch is over", "group=%s rank=%u epoch=%llu why=%s",
                    serve->options.group, serve->options.rank, (unsigned long long)serve->epoch,
                    plan->why.text);
            send_fault(serve, serve->epoch, plan->why.text);
        }
    }
    rmk_plan_destroy(plan->plan);
    free(plan);
}

static float *take_staged(void *context, uint64_t request, uint32_t item, uint32_t rows)
{
    return rmk_staging_take(context, request, item, rows);
}

static void on_plan(struct serve *serve, Remask__Cluster__V1__CoordinatorMessage **message,
                    struct rmk_bytes bytes)
{
    struct rmk_why why = {0};
    struct plan_job *job = NULL;

    if ((*message)->step_plan->epoch != serve->epoch) {
        return;
    }
    job = calloc(1, sizeof(*job));
    if (job == NULL || rmk_plan_create(*message, XXH64(bytes.data, bytes.size, 0), &serve->limits,
                                       &job->plan, &why) != RMK_OK) {
        send_fault(serve, serve->epoch, why.text[0] != '\0' ? why.text : "no memory for a plan");
        free(job);
        return;
    }
    *message = NULL; /* the plan's now */
    if (serve->staging != NULL) {
        rmk_plan_take_features(job->plan, take_staged, serve->staging);
    }
    job->job.run = run_plan;
    job->job.done = plan_done;
    job->serve = serve;
    rmk_lane_post(serve->host.lane, &job->job);
}

static void on_prefetch(struct serve *serve, const Remask__Cluster__V1__Prefetch *prefetch)
{
    struct rmk_staging_item item = {
        .epoch = prefetch->epoch,
        .request = prefetch->request,
        .item = prefetch->item,
        .vision_epoch = prefetch->vision_epoch,
        .rows = prefetch->rows,
        .width = prefetch->width,
    };

    if (serve->staging == NULL || prefetch->epoch != serve->epoch) {
        return;
    }
    if (prefetch->key.len != sizeof(item.key)) {
        on_failed(serve, &item, RMK_EINTERNAL, "the features' key has the wrong length");
        return;
    }
    memcpy(item.key, prefetch->key.data, sizeof(item.key));
    rmk_staging_prefetch(serve->staging, &item, prefetch->address);
}

/* ---- the stream
 * ------------------------------------------------------------------------------------------------------------------
 */

static void on_attached(void *context, const Remask__Cluster__V1__Welcome *welcome)
{
    (void)context;
    (void)welcome;
}

static void on_message(void *context, Remask__Cluster__V1__CoordinatorMessage **message,
                       struct rmk_bytes bytes)
{
    struct serve *serve = context;
    const Remask__Cluster__V1__CoordinatorMessage *m = *message;

    switch (m->kind_case) {
    case REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_FORM:
        on_form(serve, m->form);
        break;
    case REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_BOOTSTRAP:
        on_bootstrap(serve, m->bootstrap);
        break;
    case REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_DISSOLVE:
        if (m->dissolve->epoch == serve->epoch) {
            rmk_log(RMK_LOG_INFO, "text", "group dissolved", "group=%s epoch=%llu why=%s",
                    serve->options.group, (unsigned long long)serve->epoch, m->dissolve->why);
            end_epoch(serve);
        }
        break;
    case REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_STEP_PLAN:
        on_plan(serve, message, bytes);
        break;
    case REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_PREFETCH:
        on_prefetch(serve, m->prefetch);
        break;
    case REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_FORGET:
        if (serve->staging != NULL) {
            rmk_staging_forget(serve->staging, m->forget->request);
        }
        break;
    default:
        break; /* a newer coordinator may say more than we know */
    }
}

static void on_lost(void *context)
{
    end_epoch(context);
}

/* ---- start and stop
 * ------------------------------------------------------------------------------------------------------------------
 */

static void stop(void *context)
{
    struct serve *serve = context;

    end_epoch(serve);
    rmk_staging_destroy(serve->staging);
}

/* Ranks whose memory is this rank's too: of the host, or of its GPU. */
static uint32_t sharers(const struct serve *serve)
{
    return rmk_exchange_is_host(serve->host.device) ? serve->options.local_ranks
                                                    : serve->options.device_ranks;
}

/* Said before anything is loaded; on a GPU also held to what is free there. */
static enum rmk_err plan_memory(const struct serve *serve, const struct rmk_runner_options *runner,
                                const struct rmk_checkpoint *checkpoint, struct rmk_why *why)
{
    const struct rmk_tensor *table =
        checkpoint != NULL ? rmk_checkpoint_find(checkpoint, "model.embed_tokens.weight") : NULL;
    const struct rmk_memory_ask ask = {
        .text = &runner->spec->text,
        .act = serve->host.device->info.act,
        .stored = table != NULL ? table->dtype : RMK_BF16,
        .cuda = !rmk_exchange_is_host(serve->host.device),
        .rank = runner->rank,
        .size = runner->size,
        .slot_count = runner->slot_count,
        .rows_max = runner->rows_max,
        .step_rows_max = runner->step_rows_max,
        .reads_max = runner->reads_max,
        .kv_rows_max = runner->kv_rows_max,
        .feature_rows_max = runner->feature_rows_max,
        .free_bytes = serve->host.device->info.memory_free_bytes,
        .memory_bytes = serve->host.device->info.memory_bytes,
        .sharers = sharers(serve),
    };
    const struct rmk_memory_plan plan = rmk_memory_plan_make(&ask);
    char line[512];

    rmk_memory_plan_describe(&plan, line, sizeof(line));
    rmk_log(RMK_LOG_INFO, "text", "memory plan", "rank=%u/%u plan=%s", runner->rank, runner->size,
            line);
    if (serve->options.dry_run) {
        (void)printf("plan: %s\n", line);
    }
    if (ask.cuda && plan.total_bytes > plan.free_bytes) {
        return rmk_fail(why, RMK_ELIMIT, "the model does not fit on the GPU: %s", line);
    }
    return RMK_OK;
}

/* Rows of `row_bytes` within `bytes_max`, no more than are wanted. */
static uint32_t cache_rows(const struct serve *serve, uint64_t bytes_max, uint64_t row_bytes,
                           uint64_t wanted)
{
    if (bytes_max == RMK_TEXT_BYTES_AUTO) {
        bytes_max =
            rmk_memory_plan_cache_bytes(serve->host.device->info.memory_bytes, sharers(serve));
    }
    uint64_t rows = bytes_max / row_bytes;
    return (uint32_t)(rows < wanted ? rows : wanted);
}

/* Rank 0 has the widest cut; all ranks count with it, so that the same memory gives the same rows.
 */
static void plan_caches(struct serve *serve)
{
    const struct rmk_text_spec *text = &serve->host.spec.text;
    const uint32_t key_width =
        rmk_weights_cut(text->kv_head_count, 0, serve->options.size).count * text->head_width;
    const uint64_t rows_max = serve->limits.rows_max;

    serve->limits.kv_rows_max = cache_rows(
        serve, serve->options.kv_bytes_max,
        rmk_cache_kv_row_bytes(text->layer_count, key_width, serve->host.device->info.act),
        serve->limits.slot_count * rows_max);
    serve->limits.feature_rows_max = cache_rows(
        serve, serve->options.feature_bytes_max,
        rmk_cache_feature_row_bytes(text->layer_count, text->width),
        2 * rows_max < serve->limits.kv_rows_max ? 2 * rows_max : serve->limits.kv_rows_max);
}

static enum rmk_err load_model(struct serve *serve, struct rmk_why *why)
{
    const struct rmk_text_serve_options *options = &serve->options;
    struct rmk_tokenizer *tokenizer = NULL;
    struct rmk_checkpoint *checkpoint = NULL;
    enum rmk_err err;

    RMK_TRY(rmk_host_load(&serve->host, &checkpoint, why));
    RMK_TRY(rmk_tokenizer_create_in(options->host.model_dir, &tokenizer, why));
    RMK_TRY(rmk_spec_bind_tokenizer(&serve->host.spec, tokenizer, why));
    uint32_t rows_max = options->rows_max;
    if (rows_max == 0) {
        rows_max = serve->host.spec.text.prompt_rows_max + RMK_GEN_LENGTH_MAX;
        rows_max = rows_max < ROWS_MAX_DEFAULT ? rows_max : ROWS_MAX_DEFAULT;
    }
    serve->limits = (struct rmk_plan_limits){
        .slot_count = options->slot_count,
        .rows_max = rows_max,
        .step_rows_max = 2 * rows_max, /* guidance counts a request twice */
        .reads_max = READS_MAX,
        .vocab = serve->host.spec.text.vocab,
    };
    plan_caches(serve);
    struct rmk_runner_options runner = {
        .spec = &serve->host.spec,
        .device = serve->host.device,
        .rank = options->rank,
        .size = options->size,
        .slot_count = options->slot_count,
        .rows_max = rows_max,
        .step_rows_max = serve->limits.step_rows_max,
        .reads_max = READS_MAX,
        .kv_rows_max = serve->limits.kv_rows_max,
        .feature_rows_max = serve->limits.feature_rows_max,
        .load_dummy = options->host.load_dummy,
        .dummy_seed = options->host.dummy_seed,
    };
    RMK_TRY(plan_memory(serve, &runner, checkpoint, why));
    RMK_TRY(rmk_runner_create(&runner, &serve->runner, why));
    RMK_TRY(rmk_runner_measure(serve->runner, &serve->cost, why));
out:
    rmk_checkpoint_close(checkpoint);
    rmk_tokenizer_destroy(tokenizer);
    return err;
}

static void fill_hello(struct serve *serve)
{
    Remask__Cluster__V1__Hello *hello = &serve->host.hello;
    Remask__Cluster__V1__Numerics *numerics = &serve->numerics;

    remask__cluster__v1__numerics__init(numerics);
    numerics->backend = (char *)serve->host.device->info.backend;
    numerics->architecture = serve->host.device->info.description;
    numerics->dtype = (char *)rmk_dtype_name(serve->host.device->info.act);
    numerics->tp = serve->options.size;
    numerics->version = (char *)RMK_VERSION;
    hello->role = REMASK__CLUSTER__V1__ROLE__TEXT;
    hello->group = (char *)serve->options.group;
    hello->rank = serve->options.rank;
    hello->size = serve->options.size;
    hello->numerics = numerics;
    hello->slot_count = serve->limits.slot_count;
    hello->rows_max = serve->limits.rows_max;
    hello->step_rows_max = serve->limits.step_rows_max;
    hello->reads_max = serve->limits.reads_max;
    hello->kv_rows_max = serve->limits.kv_rows_max;
    hello->cost_full_row_ns = serve->cost.full_row_ns;
    hello->cost_window_row_ns = serve->cost.window_row_ns;
    hello->cost_round_ns = serve->cost.round_ns;
    hello->feature_rows_max = serve->limits.feature_rows_max;
    hello->ahead_max = RMK_AHEAD_MAX;
}

static enum rmk_err start(struct serve *serve, struct rmk_why *why)
{
    static const struct rmk_staging_events staging_events = {.on_resident = on_resident,
                                                             .on_failed = on_failed};
    static const struct rmk_attach_events attach_events = {
        .on_attached = on_attached,
        .on_message = on_message,
        .on_lost = on_lost,
    };
    const struct rmk_text_serve_options *options = &serve->options;
    enum rmk_err err;

    RMK_TRY(rmk_host_start(&serve->host, stop, serve, why));
    fill_hello(serve);
    if (options->rank == 0) {
        RMK_TRY(rmk_staging_create(serve->host.rpc, &options->host.rpc, serve->host.spec.text.width,
                                   options->staging_bytes_max, &staging_events, serve,
                                   &serve->staging, why));
    }
    RMK_TRY(rmk_host_attach(&serve->host, &attach_events, serve, why));
out:
    return err;
}

int rmk_text_serve(const struct rmk_text_serve_options *options)
{
    struct rmk_why why = {0};
    char plan[1024];
    int status = 1;
    const uint64_t begun_us = rmk_clock_us();

    struct serve *serve = calloc(1, sizeof(*serve));
    if (serve == NULL) {
        return status;
    }
    serve->options = *options;
    pthread_mutex_init(&serve->mutex, NULL);
    rmk_host_init(&serve->host, "text", &serve->options.host);
    if (load_model(serve, &why) != RMK_OK) {
        rmk_log(RMK_LOG_ERROR, "text", "cannot load the model", "why=%s", why.text);
        rmk_host_check_device(&serve->host);
        status = RMK_EXIT_CONFIG;
        goto out;
    }
    rmk_runner_describe(serve->runner, plan, sizeof(plan));
    rmk_log(RMK_LOG_INFO, "text", "model loaded",
            "model=%s rank=%u/%u device=%s plan=%s full_row_ns=%llu window_row_ns=%llu "
            "round_ns=%llu seconds=%.1f",
            options->host.model_dir, options->rank, options->size,
            serve->host.device->info.description, plan, (unsigned long long)serve->cost.full_row_ns,
            (unsigned long long)serve->cost.window_row_ns, (unsigned long long)serve->cost.round_ns,
            (double)(rmk_clock_us() - begun_us) / 1e6);
    if (serve->host.device->info.slow_products > 0) {
        rmk_log(RMK_LOG_WARN, "text", "cublasLt has no algorithm for some products",
                "rank=%u/%u shapes=%u", options->rank, options->size,
                serve->host.device->info.slow_products);
    }
    if (options->dry_run) {
        (void)printf("%s\n", plan);
        status = 0;
        goto out;
    }
    if (start(serve, &why) != RMK_OK) {
        rmk_log(RMK_LOG_ERROR, "text", "cannot start", "why=%s", why.text);
        _exit(status); /* half-started handles: the process is over anyway */
    }
    rmk_host_run(&serve->host);
    drop_comm(serve);
    status = 0;
out:
    rmk_runner_destroy(serve->runner);
    rmk_host_deinit(&serve->host);
    pthread_mutex_destroy(&serve->mutex);
    free(serve);
    return status;
}
