#include "coordinator/app.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/rpc/health.h"
#include "common/rpc/http_metrics.h"
#include "common/rpc/rpc.h"
#include "coordinator/arena.h"
#include "coordinator/back/images.h"
#include "coordinator/back/link.h"
#include "coordinator/back/text_link.h"
#include "coordinator/back/vision_link.h"
#include "coordinator/engine/engine.h"
#include "coordinator/front/grpc_api.h"
#include "coordinator/front/intake.h"
#include "coordinator/front/keys.h"
#include "coordinator/listen.h"
#include "coordinator/loop.h"
#include "coordinator/metrics.h"
#include "coordinator/perform.h"
#include "coordinator/requests.h"
#include "coordinator/served.h"
#include "coordinator/warmup.h"

enum {
    LINKS_MAX = 4096,
    ROWS_PER_PLAN_MAX = 16, /* requests of one round of a group */
    WARMUP_PAUSE_MS = 1000, /* after one that failed */
    DRAIN_POLL_MS = 20,
    DRAIN_GRACE_MS = 1000, /* after the drain timeout, for the last sentences to reach clients */
};

struct rmk_app {
    uv_loop_t *uv;
    struct rmk_app_options options;
    uint64_t started_us;
    bool require_vision;
    bool was_ready;

    struct rmk_model_data *model;
    void *engine_memory;
    struct rmk_engine *engine;
    struct rmk_metrics *registry;
    struct rmk_coordinator_metrics metrics;
    struct rmk_images *images;
    struct rmk_requests *requests;
    struct rmk_links *links;
    struct rmk_loop *loop;
    struct rmk_performer performer;
    struct rmk_arena scratch;
    struct rmk_warmup warmup;
    struct rmk_keys *keys; /* NULL: anybody may call */
    struct rmk_grpc_api api;

    struct rmk_rpc *rpc;
    struct rmk_rpc_server *server;
    struct rmk_rpc_server *cluster_server;
    struct rmk_health *health;
    struct rmk_http_metrics *http;

    uv_timer_t timer; /* a warm-up's next try; when draining, the watch over the end */
    bool timer_open;
    bool draining;
    bool aborted;
    bool closing;
    uint64_t drain_due_us;
    void (*stopped)(void *context);
    void *stopped_context;
};

void rmk_app_defaults(struct rmk_app_options *options)
{
    *options = (struct rmk_app_options){
        .listen = "127.0.0.1:8001",
        .cluster_listen = "127.0.0.1:8003",
        .metrics_listen = "127.0.0.1:8002",
        .requests_max = 1024,
        .queued_max = 512,
        .intakes_max = 128,
        .results_kept = 1024,
        .retries_max = RMK_RETRIES_MAX,
        .ahead_max = 8,
        .image_bytes_max = (uint64_t)1 << 30,
        .plan_timeout_ms = 30000,
        .encode_timeout_ms = 60000,
        .form_timeout_ms = 60000,
        .hello_timeout_ms = 10000,
        .heartbeat_interval_ms = 1000,
        .heartbeat_timeout_ms = 5000,
        .stall_timeout_ms = 60000,
        .drain_timeout_ms = 30000,
    };
}

/* ---- readiness
 * --------------------------------------------------------------------------------------- */

bool rmk_app_ready(const struct rmk_app *app)
{
    if (app->draining || !app->warmup.warm ||
        rmk_texts_up_count(rmk_links_texts(app->links)) == 0) {
        return false;
    }
    return !app->require_vision || rmk_visions_up_count(rmk_links_visions(app->links)) > 0;
}

static const char *state_name(void *context)
{
    const struct rmk_app *app = context;

    if (app->draining) {
        return "draining";
    }
    return rmk_app_ready(app) ? "ready" : "starting";
}

static void update_health(struct rmk_app *app)
{
    bool ready = rmk_app_ready(app);

    rmk_health_set(app->health, "", ready);
    rmk_health_set(app->health, "readiness", ready);
    rmk_health_set(app->health, "remask.v1.Remask", ready);
    rmk_gauge_set(app->metrics.ready, ready);
    if (ready != app->was_ready) {
        app->was_ready = ready;
        rmk_log(RMK_LOG_INFO, "app", ready ? "ready" : "not ready",
                "uptime_s=%.1f groups_up=%u visions_up=%u",
                (double)(rmk_clock_us() - app->started_us) / 1e6,
                rmk_texts_up_count(rmk_links_texts(app->links)),
                rmk_visions_up_count(rmk_links_visions(app->links)));
    }
}

static void warm_up(struct rmk_app *app)
{
    if (!app->draining && rmk_texts_up_count(rmk_links_texts(app->links)) > 0) {
        rmk_warmup_begin(&app->warmup);
    }
}

static void on_warmup_timer(uv_timer_t *timer)
{
    warm_up(timer->data);
}

static void on_warmup_done(void *context, bool ok)
{
    struct rmk_app *app = context;

    if (!ok && !app->draining) {
        (void)uv_timer_start(&app->timer, on_warmup_timer, WARMUP_PAUSE_MS, 0);
    }
    update_health(app);
}

/* A group or a vision worker came or went. */
static void on_changed(void *context)
{
    struct rmk_app *app = context;

    if (!app->closing) {
        warm_up(app);
        update_health(app);
    }
}

/* ---- the parts' views of each other
 * -------------------------------------------------------------------- */

static void on_perform(void *context, const struct rmk_action *action)
{
    struct rmk_app *app = context;

    rmk_perform(&app->performer, action);
}

static void on_flush(void *context)
{
    struct rmk_app *app = context;

    rmk_requests_flush(app->requests);
}

static void on_post(void *context, const struct rmk_event *event)
{
    struct rmk_app *app = context;

    /* While closing, ranks that go are no news. */
    if (app->loop != NULL) {
        rmk_loop_post(app->loop, event);
    }
}

static const struct rmk_intake *on_intake_of(void *context, struct rmk_request_id id)
{
    const struct rmk_app *app = context;
    const struct rmk_request *request = rmk_requests_find(app->requests, id);

    return request != NULL ? request->intake : NULL;
}

/* A request that no attached group can run would wait for ever. With no group attached nobody knows
 * yet, and the engine says it later. */
static enum rmk_err on_fits(void *context, const struct rmk_intake *intake, struct rmk_why *why)
{
    const struct rmk_app *app = context;
    const struct rmk_submit *submit = &intake->submit;
    uint32_t rows = submit->prompt_rows + submit->gen_length + submit->suffix_count;
    uint32_t step_rows = submit->cfg_scale > 0 ? 2 * rows : rows;
    uint32_t reads = submit->gen_length + submit->prompt_mask_count;
    struct rmk_text_limits limits;

    rmk_texts_limits(rmk_links_texts(app->links), &limits);
    if (limits.rows_max == 0) {
        return RMK_OK;
    }
    if (rows > limits.rows_max) {
        return rmk_fail(
            why, RMK_EINVAL,
            "messages: %u prompt rows, %u to generate and %u of suffix are %u rows, the text "
            "workers take at most %u",
            submit->prompt_rows, submit->gen_length, submit->suffix_count, rows, limits.rows_max);
    }
    if (step_rows > limits.step_rows_max) {
        return rmk_fail(
            why, RMK_EINVAL,
            "sampling.cfg_scale: %u rows in two passes are more than the %u that the text "
            "workers take in one step",
            step_rows, limits.step_rows_max);
    }
    if (submit->cache.cache != RMK_CACHE_NONE && step_rows > limits.kv_rows_max) {
        return rmk_fail(
            why, RMK_EUNSUPPORTED,
            "sampling.cache: the request needs room for the keys and values of %u rows, "
            "the text workers have it for %u",
            step_rows, limits.kv_rows_max);
    }
    if (submit->cache.cache == RMK_CACHE_FEATURE && step_rows > limits.feature_rows_max) {
        return rmk_fail(
            why, RMK_EUNSUPPORTED,
            "sampling.cache: the request needs room for the features of %u rows, the text workers "
            "have it for %u",
            step_rows, limits.feature_rows_max);
    }
    if (reads > limits.reads_max) {
        return rmk_fail(
            why, RMK_EINVAL,
            "sampling.gen_length: %u open positions are more than the %u that the text workers "
            "take in one step",
            reads, limits.reads_max);
    }
    return RMK_OK;
}

static void on_trace(void *context, const char *line)
{
    (void)context;
    rmk_log(RMK_LOG_DEBUG, "engine", line, NULL);
}

static void on_collect(void *context)
{
    struct rmk_app *app = context;
    struct rmk_engine_counts counts;

    rmk_engine_count(app->engine, &counts);
    rmk_coordinator_metrics_engine(&app->metrics, &counts);
    rmk_gauge_set(app->metrics.image_bytes, (double)rmk_images_bytes(app->images));
    rmk_gauge_set(app->metrics.image_count, rmk_images_count(app->images));
}

static bool on_http_ready(void *context)
{
    return rmk_app_ready(context);
}

/* ---- start
 * ------------------------------------------------------------------------------------------------
 */

/* Series for the tenants there are, and a word about them. */
static void announce_keys(struct rmk_app *app)
{
    for (uint32_t i = 0; i < rmk_keys_tenant_count(app->keys); i++) {
        const struct rmk_tenant *tenant = rmk_keys_tenant(app->keys, i);

        rmk_coordinator_metrics_tenant(&app->metrics, tenant->number, tenant->name);
    }
    rmk_log(RMK_LOG_INFO, "app", "API keys loaded", "file=%s keys=%u", app->options.api_keys,
            rmk_keys_count(app->keys));
}

static enum rmk_err create_keys(struct rmk_app *app, struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;

    if (app->options.api_keys == NULL) {
        goto out;
    }
    RMK_TRY(rmk_keys_create(app->options.api_keys, &app->keys, why));
    announce_keys(app);
    if (app->options.tls.certificate == NULL && !rmk_secure_is_loopback(app->options.listen)) {
        rmk_log(RMK_LOG_WARN, "app", "API keys travel in plain text", "listen=%s",
                app->options.listen);
    }
out:
    if (err != RMK_OK) {
        rmk_why_context(why, "--api-keys");
    }
    return err;
}

void rmk_app_reload(struct rmk_app *app)
{
    struct rmk_why why = {0};

    if (app->keys == NULL) {
        rmk_log(RMK_LOG_INFO, "app", "nothing to reload", "why=%s", "there is no --api-keys");
    } else if (rmk_keys_load(app->keys, &why) == RMK_OK) {
        announce_keys(app);
    } else {
        rmk_log(RMK_LOG_ERROR, "app", "API keys not reloaded, the old ones stay", "why=%s",
                why.text);
    }
}

static enum rmk_err create_engine(struct rmk_app *app, struct rmk_why *why)
{
    struct rmk_engine_limits limits = {
        .requests_max = app->options.requests_max,
        .queued_max = app->options.queued_max,
        .groups_max = RMK_GROUPS_MAX,
        .visions_max = RMK_VISION_MAX,
        .rows_per_plan_max = ROWS_PER_PLAN_MAX,
        .retries_max = app->options.retries_max,
        .ahead_max = app->options.ahead_max,
        .plan_timeout_us = (uint64_t)app->options.plan_timeout_ms * 1000,
        .encode_timeout_us = (uint64_t)app->options.encode_timeout_ms * 1000,
    };
    size_t bytes = (rmk_engine_bytes(&limits) + 63) & ~(size_t)63;

    app->engine_memory = aligned_alloc(64, bytes);
    if (app->engine_memory == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for the engine: %zu bytes", bytes);
    }
    app->engine = rmk_engine_init(app->engine_memory, &limits);
    if (rmk_log_enabled(RMK_LOG_DEBUG)) {
        rmk_engine_trace(app->engine, on_trace, app);
    }
    return RMK_OK;
}

static enum rmk_err create_tables(struct rmk_app *app, struct rmk_why *why)
{
    struct rmk_requests_options requests = {
        .requests_max = app->options.requests_max,
        .intakes_max = app->options.intakes_max,
        .finished_max = app->options.results_kept,
        .fits = on_fits,
        .context = app,
    };
    struct rmk_back_options back = {
        .width = app->model->spec.text.width,
        .vocab = app->model->spec.text.vocab,
        .groups_max = RMK_GROUPS_MAX,
        .visions_max = RMK_VISION_MAX,
        .links_max = LINKS_MAX,
        .heartbeat_interval_ms = app->options.heartbeat_interval_ms,
        .heartbeat_timeout_ms = app->options.heartbeat_timeout_ms,
        .hello_timeout_ms = app->options.hello_timeout_ms,
        .form_timeout_ms = app->options.form_timeout_ms,
        /* Seconds since 1970, times 65536: no coordinator forms epochs faster than that, so a later
         * one's are always larger, and a worker can tell. */
        .epoch_base = rmk_clock_wall_us() / 1000000 << 16,
    };
    struct rmk_back_hooks hooks = {
        .post = on_post,
        .intake_of = on_intake_of,
        .changed = on_changed,
        .context = app,
    };
    struct rmk_loop_hooks loop = {.perform = on_perform, .flush = on_flush, .context = app};
    enum rmk_err err;

    memcpy(back.model_digest, app->model->served.digest, RMK_DIGEST_BYTES);
    app->images = rmk_images_create(app->options.image_bytes_max);
    if (app->images == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for the store of pictures");
        goto out;
    }
    RMK_TRY(rmk_requests_create(app->uv, &app->model->served, &requests, &app->metrics,
                                &app->requests, why));
    RMK_TRY(rmk_links_create(app->uv, &back, &hooks, &app->metrics, &app->links, why));
    RMK_TRY(rmk_loop_create(app->uv, app->engine, &loop, &app->loop, why));
    rmk_requests_connect(app->requests, app->loop);
    rmk_warmup_init(&app->warmup, app->requests, on_warmup_done, app);
    app->performer = (struct rmk_performer){
        .requests = app->requests,
        .texts = rmk_links_texts(app->links),
        .visions = rmk_links_visions(app->links),
        .loop = app->loop,
        .scratch = &app->scratch,
    };
    app->api = (struct rmk_grpc_api){
        .requests = app->requests,
        .images = app->images,
        .engine = app->engine,
        .links = app->links,
        .keys = app->keys,
        .model_name = app->model->served.name,
        .started_us = app->started_us,
        .stall_timeout_ms = app->options.stall_timeout_ms,
        .state = state_name,
        .context = app,
    };
out:
    return err;
}

static enum rmk_err create_servers(struct rmk_app *app, struct rmk_why *why)
{
    struct rmk_rpc_method api[RMK_GRPC_API_METHOD_COUNT + RMK_HEALTH_METHOD_COUNT];
    struct rmk_rpc_method cluster[2 + RMK_HEALTH_METHOD_COUNT] = {
        {"/remask.cluster.v1.Cluster/Attach", rmk_links_on_attach, app->links},
        {"/remask.cluster.v1.Images/Fetch", rmk_images_on_fetch, app->images},
    };
    struct rmk_http_metrics_hooks hooks = {
        .ready = on_http_ready,
        .collect = on_collect,
        .context = app,
    };
    struct rmk_listen_spec specs[] = {
        {.flag = "listen",
         .address = app->options.listen,
         .tls = &app->options.tls,
         .message_bytes_max = RMK_MESSAGE_BYTES_MAX,
         .keys = app->keys != NULL,
         .insecure = app->options.insecure},
        {.flag = "cluster-listen",
         .address = app->options.cluster_listen,
         .tls = &app->options.cluster_tls,
         .message_bytes_max = RMK_CLUSTER_MESSAGE_BYTES_MAX,
         .mutual = true,
         .insecure = app->options.insecure},
    };
    enum rmk_err err;

    app->health = rmk_health_create();
    if (app->health == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for the health service");
        goto out;
    }
    rmk_grpc_api_methods(&app->api, api);
    rmk_health_methods(app->health, api + RMK_GRPC_API_METHOD_COUNT);
    rmk_health_methods(app->health, cluster + 2);
    rmk_health_set(app->health, "liveness", true);
    rmk_health_set(app->health, "remask.cluster.v1.Cluster", true);
    update_health(app);
    RMK_TRY(rmk_rpc_create(app->uv, &app->rpc, why));
    RMK_TRY(rmk_listen(app->rpc, &specs[0], api, sizeof(api) / sizeof(api[0]), &app->server, why));
    RMK_TRY(rmk_listen(app->rpc, &specs[1], cluster, sizeof(cluster) / sizeof(cluster[0]),
                       &app->cluster_server, why));
    err = rmk_http_metrics_create(app->uv, app->options.metrics_listen, app->registry, &hooks,
                                  &app->http, why);
    if (err != RMK_OK) {
        rmk_why_context(why, "--metrics-listen");
    }
out:
    return err;
}

/* What was asked for, with the port that came of it. */
static void address_of(const char *asked, uint16_t port, char out[128])
{
    const char *colon = strrchr(asked, ':');
    int host_bytes = colon != NULL ? (int)(colon - asked) : 0;

    (void)snprintf(out, 128, "%.*s:%u", host_bytes, asked, port);
}

/* Whole or not at all: who waits for the file must not read half of it. */
static enum rmk_err write_ready_file(const char *path, const char *api, const char *cluster,
                                     const char *metrics, struct rmk_why *why)
{
    char part[1024];
    json_t *json = json_pack("{s:s, s:s, s:s, s:i}", "listen", api, "cluster", cluster, "metrics",
                             metrics, "pid", (int)getpid());
    enum rmk_err err = RMK_OK;

    if (json == NULL || snprintf(part, sizeof(part), "%s.part", path) >= (int)sizeof(part)) {
        err = rmk_fail(why, RMK_EINVAL, "--ready-file: the path is too long");
        goto out;
    }
    if (json_dump_file(json, part, JSON_INDENT(2)) != 0 || rename(part, path) != 0) {
        err = rmk_fail(why, RMK_EIO, "--ready-file: cannot write %s", path);
    }
out:
    json_decref(json);
    return err;
}

static enum rmk_err announce(struct rmk_app *app, struct rmk_why *why)
{
    char api[128], cluster[128], metrics[128];
    char digest[RMK_DIGEST_HEX_BYTES];

    address_of(app->options.listen, rmk_app_port(app), api);
    address_of(app->options.cluster_listen, rmk_app_cluster_port(app), cluster);
    address_of(app->options.metrics_listen, rmk_app_metrics_port(app), metrics);
    rmk_digest_hex(app->model->served.digest, digest);
    rmk_log(RMK_LOG_INFO, "app", "listening",
            "version=%s model=%s digest=%.16s vision=%s listen=%s cluster=%s metrics=%s "
            "requests_max=%u "
            "start_s=%.2f",
            RMK_VERSION, app->model->served.name, digest,
            app->model->spec.vision.present ? "yes" : "no", api, cluster, metrics,
            app->options.requests_max, (double)(rmk_clock_us() - app->started_us) / 1e6);
    if (app->options.ready_file == NULL) {
        return RMK_OK;
    }
    return write_ready_file(app->options.ready_file, api, cluster, metrics, why);
}

static void begin_close(struct rmk_app *app);

static void nobody_waits(void *context)
{
    (void)context;
}

enum rmk_err rmk_app_create(uv_loop_t *uv, const struct rmk_app_options *options,
                            struct rmk_app **out_app, struct rmk_why *why)
{
    struct rmk_app *app = calloc(1, sizeof(*app));
    enum rmk_err err;

    if (app == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for a coordinator");
    }
    app->uv = uv;
    app->options = *options;
    app->started_us = rmk_clock_us();
    (void)uv_timer_init(uv, &app->timer); /* cannot fail */
    app->timer.data = app;
    app->timer_open = true;
    RMK_TRY(rmk_model_data_create(options->model_dir, options->vision_dir,
                                  options->config_overrides, options->model_name,
                                  options->load_dummy, &app->model, why));
    app->model->served.profile = options->profile;
    app->require_vision =
        options->require_vision == RMK_VISION_NEED_YES ||
        (options->require_vision == RMK_VISION_NEED_AUTO && app->model->spec.vision.present);
    app->registry = rmk_metrics_create();
    if (app->registry == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for metrics");
        goto out;
    }
    rmk_coordinator_metrics_init(&app->metrics, app->registry);
    RMK_TRY(create_keys(app, why));
    RMK_TRY(create_engine(app, why));
    RMK_TRY(create_tables(app, why));
    RMK_TRY(create_servers(app, why));
    RMK_TRY(announce(app, why));
    *out_app = app;
    app = NULL;
out:
    if (app != NULL) {
        /* Half-built: closed by the loop like a whole one. */
        app->stopped = nobody_waits;
        begin_close(app);
    }
    return err;
}

uint16_t rmk_app_port(const struct rmk_app *app)
{
    return rmk_rpc_server_port(app->server);
}

uint16_t rmk_app_cluster_port(const struct rmk_app *app)
{
    return rmk_rpc_server_port(app->cluster_server);
}

uint16_t rmk_app_metrics_port(const struct rmk_app *app)
{
    return rmk_http_metrics_port(app->http);
}

/* ---- end
 * ---------------------------------------------------------------------------------------------------
 */

/* Close one after the other, each when the one before has gone: first the network, so that nobody
 * comes in; then what its calls referred to. */
static void close_next(void *context);

static void on_timer_closed(uv_handle_t *handle)
{
    close_next(handle->data);
}

static void free_app(struct rmk_app *app)
{
    void (*stopped)(void *context) = app->stopped;
    void *context = app->stopped_context;

    rmk_requests_destroy(app->requests);
    rmk_keys_destroy(app->keys);
    rmk_images_destroy(app->images);
    rmk_health_destroy(app->health);
    rmk_metrics_destroy(app->registry);
    rmk_model_data_destroy(app->model);
    rmk_arena_deinit(&app->scratch);
    free(app->engine_memory);
    free(app);
    stopped(context);
}

static void on_links_closed(void *context)
{
    struct rmk_app *app = context;

    rmk_links_destroy(app->links);
    app->links = NULL;
    close_next(app);
}

static void close_next(void *context)
{
    struct rmk_app *app = context;

    if (app->rpc != NULL) {
        struct rmk_rpc *rpc = app->rpc;

        app->rpc = NULL;
        rmk_rpc_close(rpc, close_next, app);
    } else if (app->http != NULL) {
        struct rmk_http_metrics *http = app->http;

        app->http = NULL;
        rmk_http_metrics_close(http, close_next, app);
    } else if (app->timer_open) {
        app->timer_open = false;
        uv_close((uv_handle_t *)&app->timer, on_timer_closed);
    } else if (app->loop != NULL) {
        struct rmk_loop *loop = app->loop;

        app->loop = NULL;
        rmk_loop_close(loop, close_next, app);
    } else if (app->links != NULL) {
        rmk_links_close(app->links, on_links_closed, app);
    } else {
        free_app(app);
    }
}

static void begin_close(struct rmk_app *app)
{
    app->closing = true;
    if (app->health != NULL) {
        rmk_health_shutdown(app->health);
    }
    close_next(app);
}

static void on_drain_timer(uv_timer_t *timer)
{
    struct rmk_app *app = timer->data;
    uint64_t now_us = rmk_clock_us();
    bool quiet = rmk_requests_idle(app->requests) && app->api.call_count == 0;

    if (!quiet && !app->aborted && now_us >= app->drain_due_us) {
        app->aborted = true;
        app->drain_due_us = now_us + DRAIN_GRACE_MS * 1000;
        rmk_log(RMK_LOG_WARN, "app", "drain timeout", "open_calls=%u", app->api.call_count);
        rmk_requests_abort(app->requests, "the coordinator is shutting down");
        return;
    }
    /* Jobs on pool threads use our memory: they are waited for in any case. */
    if (quiet || (app->aborted && now_us >= app->drain_due_us &&
                  rmk_requests_job_count(app->requests) == 0)) {
        (void)uv_timer_stop(&app->timer);
        begin_close(app);
    }
}

void rmk_app_drain(struct rmk_app *app, void (*stopped)(void *context), void *context)
{
    rmk_assert(!app->draining);
    rmk_log(RMK_LOG_INFO, "app", "draining", "open_calls=%u", app->api.call_count);
    app->draining = true;
    app->stopped = stopped;
    app->stopped_context = context;
    app->drain_due_us = rmk_clock_us() + (uint64_t)app->options.drain_timeout_ms * 1000;
    /* Health first: whoever balances load should know before anybody is refused. */
    update_health(app);
    rmk_requests_drain(app->requests);
    rmk_loop_post(app->loop, &(struct rmk_event){.kind = RMK_EVENT_DRAIN});
    (void)uv_timer_start(&app->timer, on_drain_timer, 0, DRAIN_POLL_MS);
}
