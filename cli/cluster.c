#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "cli/cli.h"
#include "cli/json_text.h"
#include "cli/state.h"
#include "cli/up.h"
#include "common/clock.h"
#include "common/rpc/pack.h"
#include "grpc/health/v1/health.pb-c.h"

enum {
    LOOK_MS = 20,
    HEALTH_DEADLINE_MS = 500,
    ENDING_MS = 10000,        /* workers have nothing to finish */
    DRAINING_EXTRA_MS = 5000, /* beyond what the coordinator allows its requests */
    DEATHS_MAX = 5,           /* of one worker, before the cluster has ever been ready */
};

static void begin_stop(struct rmk_cluster *cluster);
static void go_on_stopping(struct rmk_cluster *cluster);

/* ---- what others are told
 * --------------------------------------------------------------------------- */

static void add_process(json_t *list, const struct rmk_child *child)
{
    (void)json_array_append_new(
        list, json_pack("{s:s, s:i}", "name", child->name, "pid", rmk_child_pid(child)));
}

static void write_state(struct rmk_cluster *cluster)
{
    json_t *processes = json_array();
    struct rmk_why why = {0};

    add_process(processes, &cluster->coordinator);
    for (size_t i = 0; i < cluster->worker_count; i++) {
        add_process(processes, &cluster->workers[i]);
    }
    json_t *state = json_pack("{s:i, s:s, s:o, s:s, s:s, s:s, s:o, s:b, s:o}", "pid", (int)getpid(),
                              "version", RMK_VERSION, "model", rmk_json_text(cluster->model),
                              "endpoint", cluster->endpoint, "metrics", cluster->metrics, "cluster",
                              cluster->internal, "logs", rmk_json_text(cluster->log_dir), "ready",
                              cluster->phase == RMK_UP_READY, "processes", processes);
    if (rmk_state_write(cluster->options->name, state, &why) != RMK_OK) {
        (void)fprintf(stderr, "remask up: %s\n", why.text);
    }
    json_decref(state);
}

static void fail(struct rmk_cluster *cluster, int status, const char *sentence)
{
    (void)fprintf(stderr, "remask up: %s\n", sentence);
    cluster->status = status;
    begin_stop(cluster);
}

static void on_started(struct rmk_child *child)
{
    write_state(child->context);
}

/* ---- deaths
 * ------------------------------------------------------------------------------------------ */

static void describe_death(const struct rmk_child *child, int64_t status, int signal, char *out,
                           size_t out_size)
{
    if (signal != 0) {
        (void)snprintf(out, out_size, "%s was ended by signal %d", child->name, signal);
    } else {
        (void)snprintf(out, out_size, "%s ended with status %lld", child->name, (long long)status);
    }
}

/* Starting again cannot help when the model or a flag is wrong, nor a coordinator whose port is
 * taken. */
static bool is_hopeless(const struct rmk_cluster *cluster, const struct rmk_child *child,
                        int64_t status)
{
    return child == &cluster->coordinator || status == RMK_EXIT_CONFIG ||
           status == RMK_EXIT_USAGE || child->deaths >= DEATHS_MAX;
}

static void on_died(struct rmk_child *child, int64_t status, int signal)
{
    struct rmk_cluster *cluster = child->context;
    char death[128];
    char words[1280];
    char sentence[1536];

    describe_death(child, status, signal, death, sizeof(death));
    if (cluster->phase >= RMK_UP_DRAINING) {
        /* A worker that is still loading ends by the signal itself. */
        if ((status != 0 || signal != 0) && signal != SIGTERM && cluster->status == 0) {
            (void)fprintf(stderr, "remask up: %s while it was to stop\n", death);
            cluster->status = RMK_EXIT_FAILURE;
        }
        go_on_stopping(cluster);
        return;
    }
    if (cluster->phase < RMK_UP_READY && is_hopeless(cluster, child, status)) {
        rmk_child_last_words(child, words, sizeof(words));
        (void)snprintf(sentence, sizeof(sentence), "%s: %s", child->name, words);
        fail(cluster, signal == 0 && status > 0 && status < 126 ? (int)status : RMK_EXIT_FAILURE,
             sentence);
        return;
    }
    uint32_t pause_ms = rmk_child_start_later(child);
    (void)fprintf(stderr, "remask up: %s; starting it again in %u ms\n", death, pause_ms);
}

static void adopt(struct rmk_cluster *cluster, struct rmk_child *child)
{
    child->started = on_started;
    child->died = on_died;
    child->context = cluster;
}

/* ---- getting ready
 * ------------------------------------------------------------------------------------ */

static bool take_address(const json_t *ready, const char *key, char out[128])
{
    const char *address = json_string_value(json_object_get(ready, key));

    if (address == NULL || strlen(address) >= 128) {
        return false;
    }
    memcpy(out, address, strlen(address) + 1);
    return true;
}

/* From here on the ports are known, and a coordinator that starts again must take the same. */
static enum rmk_err pin_ports(struct rmk_cluster *cluster, struct rmk_why *why)
{
    struct rmk_child *child = &cluster->coordinator;
    const char *const addresses[3] = {cluster->endpoint, cluster->metrics, cluster->internal};
    static const char *const flags[3] = {"listen", "metrics-listen", "cluster-listen"};
    enum rmk_err err = RMK_OK;

    for (size_t i = 0; i < 3; i++) {
        free(child->argv[--child->argc]);
    }
    for (size_t i = 0; i < 3; i++) {
        RMK_TRY(rmk_child_argumentf(child, why, "--%s=%s", flags[i], addresses[i]));
    }
out:
    return err;
}

static enum rmk_err start_workers(struct rmk_cluster *cluster, struct rmk_why *why)
{
    enum rmk_err err;

    RMK_TRY(pin_ports(cluster, why));
    RMK_TRY(rmk_cluster_workers(cluster, why));
    for (size_t i = 0; i < cluster->worker_count; i++) {
        adopt(cluster, &cluster->workers[i]);
        RMK_TRY(rmk_child_start(&cluster->workers[i], why));
    }
    RMK_TRY(rmk_client_open(&cluster->client, cluster->endpoint, NULL, why));
    cluster->client_open = true;
out:
    return err;
}

static void look_for_ready_file(struct rmk_cluster *cluster)
{
    struct rmk_why why = {0};
    json_t *ready = json_load_file(cluster->ready_file, 0, NULL);

    if (ready == NULL) {
        return; /* not yet */
    }
    bool complete = take_address(ready, "listen", cluster->endpoint) &&
                    take_address(ready, "metrics", cluster->metrics) &&
                    take_address(ready, "cluster", cluster->internal);
    json_decref(ready);
    if (!complete) {
        fail(cluster, RMK_EXIT_INTERNAL, "the coordinator's ready file lacks its addresses");
        return;
    }
    cluster->phase = RMK_UP_JOINING;
    if (start_workers(cluster, &why) != RMK_OK) {
        fail(cluster, RMK_EXIT_FAILURE, why.text);
    }
}

static bool is_serving(struct rmk_cluster *cluster)
{
    Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;

    if (rmk_client_ask(&cluster->client, "/grpc.health.v1.Health/Check", &request.base,
                       &grpc__health__v1__health_check_response__descriptor, HEALTH_DEADLINE_MS,
                       &reply, NULL) != RMK_OK) {
        return false;
    }
    bool serving = ((const Grpc__Health__V1__HealthCheckResponse *)reply)->status ==
                   GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
    protobuf_c_message_free_unpacked(reply, NULL);
    return serving;
}

static void close_client(struct rmk_cluster *cluster)
{
    if (cluster->client_open) {
        rmk_client_close(&cluster->client);
        cluster->client_open = false;
    }
}

static void on_look(uv_timer_t *timer)
{
    struct rmk_cluster *cluster = timer->data;

    if (cluster->phase == RMK_UP_STARTING) {
        look_for_ready_file(cluster);
    } else if (cluster->phase == RMK_UP_JOINING && is_serving(cluster)) {
        cluster->phase = RMK_UP_READY;
        (void)uv_timer_stop(&cluster->look);
        (void)uv_timer_stop(&cluster->limit);
        close_client(cluster);
        write_state(cluster);
        cluster->ready(cluster, cluster->context);
    }
}

/* Why it is not ready is known to whoever has not come: the logs. */
static void on_start_limit(uv_timer_t *timer)
{
    struct rmk_cluster *cluster = timer->data;
    char sentence[1280];

    (void)snprintf(sentence, sizeof(sentence),
                   "not ready after %.0f s; the logs in %s say what is missing",
                   (double)cluster->options->start_timeout_us / 1e6, cluster->log_dir);
    fail(cluster, RMK_EXIT_TEMPORARY, sentence);
}

/* ---- stopping
 * ------------------------------------------------------------------------------------------ */

static void signal_workers(struct rmk_cluster *cluster, int signal, bool group)
{
    for (size_t i = 0; i < cluster->worker_count; i++) {
        rmk_child_signal(&cluster->workers[i], signal, group);
    }
}

static bool workers_alive(const struct rmk_cluster *cluster)
{
    for (size_t i = 0; i < cluster->worker_count; i++) {
        if (cluster->workers[i].alive) {
            return true;
        }
    }
    return false;
}

static void on_stop_limit(uv_timer_t *timer)
{
    struct rmk_cluster *cluster = timer->data;

    rmk_child_signal(&cluster->coordinator, SIGKILL, true);
    if (cluster->phase == RMK_UP_ENDING) {
        signal_workers(cluster, SIGKILL, true);
    }
}

/* The coordinator first: it ends what it has begun, and for that it needs its workers. */
static void begin_stop(struct rmk_cluster *cluster)
{
    if (cluster->phase >= RMK_UP_DRAINING) {
        return;
    }
    cluster->phase = RMK_UP_DRAINING;
    (void)uv_timer_stop(&cluster->look);
    close_client(cluster);
    rmk_child_calm(&cluster->coordinator);
    for (size_t i = 0; i < cluster->worker_count; i++) {
        rmk_child_calm(&cluster->workers[i]);
    }
    rmk_child_signal(&cluster->coordinator, SIGTERM, false);
    (void)uv_timer_start(&cluster->limit, on_stop_limit,
                         cluster->options->stop_timeout_us / 1000 + DRAINING_EXTRA_MS, 0);
    go_on_stopping(cluster);
}

static void go_on_stopping(struct rmk_cluster *cluster)
{
    if (cluster->phase == RMK_UP_DRAINING && !cluster->coordinator.alive) {
        cluster->phase = RMK_UP_ENDING;
        signal_workers(cluster, SIGTERM, false);
        (void)uv_timer_start(&cluster->limit, on_stop_limit, ENDING_MS, 0);
    }
    if (cluster->phase != RMK_UP_ENDING || workers_alive(cluster)) {
        return;
    }
    cluster->phase = RMK_UP_GONE;
    for (int i = 0; i < RMK_UP_SIGNAL_COUNT; i++) {
        uv_close((uv_handle_t *)&cluster->signals[i], NULL);
    }
    uv_close((uv_handle_t *)&cluster->look, NULL);
    uv_close((uv_handle_t *)&cluster->limit, NULL);
    rmk_child_close(&cluster->coordinator);
    for (size_t i = 0; i < cluster->worker_count; i++) {
        rmk_child_close(&cluster->workers[i]);
    }
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct rmk_cluster *cluster = handle->data;

    if (cluster->phase >= RMK_UP_DRAINING) { /* asked twice: at once */
        cluster->status = 128 + number;
        rmk_child_signal(&cluster->coordinator, SIGKILL, true);
        signal_workers(cluster, SIGKILL, true);
        return;
    }
    if (cluster->phase < RMK_UP_READY) {
        cluster->status = 128 + number;
    }
    begin_stop(cluster);
}

/* ---- all of it
 * -------------------------------------------------------------------------------------------- */

static enum rmk_err find_folders(struct rmk_cluster *cluster, struct rmk_why *why)
{
    const struct rmk_up_options *options = cluster->options;
    size_t size = sizeof(cluster->bin_dir);
    char *resolved = realpath(options->model, NULL);
    struct stat found;
    enum rmk_err err = RMK_OK;

    if (resolved == NULL) {
        err = rmk_fail(why, RMK_ENOTFOUND, "--model %s: %s", options->model, strerror(errno));
        goto out;
    }
    (void)snprintf(cluster->model, sizeof(cluster->model), "%s", resolved);
    if (uv_exepath(cluster->bin_dir, &size) != 0) {
        err = rmk_fail(why, RMK_EIO, "the path of this program cannot be found");
        goto out;
    }
    *strrchr(cluster->bin_dir, '/') = '\0';
    RMK_TRY(rmk_state_path(options->name, ".ready", cluster->ready_file, why));
    if (options->log_dir != NULL) {
        (void)snprintf(cluster->log_dir, sizeof(cluster->log_dir), "%s", options->log_dir);
    } else {
        RMK_TRY(rmk_state_path(options->name, ".logs", cluster->log_dir, why));
    }
    if (mkdir(cluster->log_dir, 0700) != 0 && errno != EEXIST) {
        err = rmk_fail(why, RMK_EIO, "the log folder %s cannot be made: %s", cluster->log_dir,
                       strerror(errno));
        goto out;
    }
    if (access(cluster->log_dir, W_OK | X_OK) != 0 || stat(cluster->log_dir, &found) != 0 ||
        !S_ISDIR(found.st_mode)) {
        err = rmk_fail(why, RMK_EIO, "--log-dir %s is no folder that can be written to",
                       cluster->log_dir);
        goto out;
    }
    (void)unlink(cluster->ready_file);
out:
    free(resolved);
    return err;
}

static void start_loop(struct rmk_cluster *cluster)
{
    static const int numbers[RMK_UP_SIGNAL_COUNT] = {SIGINT, SIGTERM, SIGHUP};

    (void)uv_timer_init(&cluster->loop, &cluster->look);
    (void)uv_timer_init(&cluster->loop, &cluster->limit);
    cluster->look.data = cluster;
    cluster->limit.data = cluster;
    (void)uv_timer_start(&cluster->look, on_look, LOOK_MS, LOOK_MS);
    (void)uv_timer_start(&cluster->limit, on_start_limit, cluster->options->start_timeout_us / 1000,
                         0);
    for (int i = 0; i < RMK_UP_SIGNAL_COUNT; i++) {
        (void)uv_signal_init(&cluster->loop, &cluster->signals[i]);
        cluster->signals[i].data = cluster;
        (void)uv_signal_start(&cluster->signals[i], on_signal, numbers[i]);
    }
}

int rmk_cluster_run(const struct rmk_up_options *options,
                    void (*ready)(struct rmk_cluster *cluster, void *context), void *context)
{
    struct rmk_cluster *cluster = calloc(1, sizeof(*cluster));
    struct rmk_why why = {0};
    enum rmk_err err;
    int status;

    if (cluster == NULL) {
        (void)fprintf(stderr, "remask up: no memory\n");
        return RMK_EXIT_FAILURE;
    }
    cluster->options = options;
    cluster->lock_fd = -1;
    cluster->begun_us = rmk_clock_us();
    cluster->ready = ready;
    cluster->context = context;
    (void)uv_loop_init(&cluster->loop);
    RMK_TRY(rmk_state_lock(options->name, &cluster->lock_fd, &why));
    RMK_TRY(find_folders(cluster, &why));
    start_loop(cluster);
    err = rmk_cluster_coordinator(cluster, &why);
    adopt(cluster, &cluster->coordinator);
    if (err == RMK_OK) {
        err = rmk_child_start(&cluster->coordinator, &why);
    }
    if (err != RMK_OK) {
        fail(cluster, RMK_EXIT_FAILURE, why.text);
    }
    (void)uv_run(&cluster->loop, UV_RUN_DEFAULT);
    err = RMK_OK;
out:
    if (err != RMK_OK) {
        (void)fprintf(stderr, "remask up: %s\n", why.text);
        cluster->status = rmk_cli_exit_of(err);
    } else {
        (void)unlink(cluster->ready_file);
    }
    if (cluster->lock_fd >= 0) {
        rmk_state_remove(options->name);
        (void)close(cluster->lock_fd);
    }
    (void)uv_loop_close(&cluster->loop);
    status = cluster->status;
    free(cluster->workers);
    free(cluster);
    return status;
}
