#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <uv.h>

#include "common/config.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/process.h"
#include "coordinator/app.h"
#include "coordinator/front/profile.h"

enum {
    EXIT_UNAVAILABLE = 69,
};

struct program {
    uv_loop_t loop;
    uv_signal_t terminate;
    uv_signal_t interrupt;
    uv_signal_t hangup;
    struct rmk_app *app;
    bool draining;
};

static void on_stopped(void *context)
{
    struct program *program = context;

    uv_close((uv_handle_t *)&program->terminate, NULL);
    uv_close((uv_handle_t *)&program->interrupt, NULL);
    uv_close((uv_handle_t *)&program->hangup, NULL);
}

/* The first asks, the second does not wait. */
static void on_signal(uv_signal_t *handle, int number)
{
    struct program *program = handle->data;

    if (program->draining) {
        _exit(128 + number);
    }
    program->draining = true;
    rmk_app_drain(program->app, on_stopped, program);
}

static void on_hangup(uv_signal_t *handle, int number)
{
    struct program *program = handle->data;

    (void)number;
    if (!program->draining) {
        rmk_app_reload(program->app);
    }
}

static int exit_code(enum rmk_err err)
{
    switch (err) {
    case RMK_EUNAVAILABLE:
        return EXIT_UNAVAILABLE;
    case RMK_EINVAL:
    case RMK_ENOTFOUND:
    case RMK_ECORRUPT:
    case RMK_EUNSUPPORTED:
        return RMK_EXIT_CONFIG;
    default:
        return EXIT_FAILURE;
    }
}

static int run(const struct rmk_app_options *options)
{
    static struct program program;
    struct rmk_why why = {0};
    enum rmk_err err;

    rmk_process_init();
    if (uv_loop_init(&program.loop) != 0) {
        (void)fprintf(stderr, "remask-coordinator: cannot make an event loop\n");
        return EXIT_FAILURE;
    }
    err = rmk_app_create(&program.loop, options, &program.app, &why);
    if (err != RMK_OK) {
        rmk_log(RMK_LOG_ERROR, "app", "cannot start", "why=%s", why.text);
    } else {
        (void)uv_signal_init(&program.loop, &program.terminate);
        (void)uv_signal_init(&program.loop, &program.interrupt);
        (void)uv_signal_init(&program.loop, &program.hangup);
        program.hangup.data = &program;
        program.terminate.data = &program;
        program.interrupt.data = &program;
        (void)uv_signal_start(&program.terminate, on_signal, SIGTERM);
        (void)uv_signal_start(&program.interrupt, on_signal, SIGINT);
        (void)uv_signal_start(&program.hangup, on_hangup, SIGHUP);
    }
    /* Until everything is closed, whether it ran or only half started. */
    (void)uv_run(&program.loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&program.loop);
    if (err == RMK_OK) {
        rmk_log(RMK_LOG_INFO, "app", "stopped", NULL);
    }
    return err == RMK_OK ? EXIT_SUCCESS : exit_code(err);
}

/* Flags are 64 bits wide; the limits are not. */
struct flag_numbers {
    uint64_t requests_max, queued_max, intakes_max, results_kept, retries_max, ahead_max;
    uint64_t plan_timeout_ms, encode_timeout_ms, form_timeout_ms, drain_timeout_ms;
    uint64_t heartbeat_interval_ms, heartbeat_timeout_ms, stall_timeout_ms;
};

static void set_numbers(struct rmk_app_options *options, const struct flag_numbers *numbers)
{
    options->requests_max = (uint32_t)numbers->requests_max;
    options->queued_max = (uint32_t)numbers->queued_max;
    options->intakes_max = (uint32_t)numbers->intakes_max;
    options->results_kept = (uint32_t)numbers->results_kept;
    options->retries_max = (uint32_t)numbers->retries_max;
    options->ahead_max = (uint32_t)numbers->ahead_max;
    options->plan_timeout_ms = (uint32_t)numbers->plan_timeout_ms;
    options->encode_timeout_ms = (uint32_t)numbers->encode_timeout_ms;
    options->form_timeout_ms = (uint32_t)numbers->form_timeout_ms;
    options->drain_timeout_ms = (uint32_t)numbers->drain_timeout_ms;
    options->heartbeat_interval_ms = (uint32_t)numbers->heartbeat_interval_ms;
    options->heartbeat_timeout_ms = (uint32_t)numbers->heartbeat_timeout_ms;
    options->stall_timeout_ms = (uint32_t)numbers->stall_timeout_ms;
}

#define TEXT(flag, where, otherwise, shape, sentence)                                              \
    {                                                                                              \
        .name = (flag), .kind = RMK_CONFIG_TEXT, .target = (where), .fallback = (otherwise),       \
        .argument = (shape), .help = (sentence)                                                    \
    }
#define NUMBER(flag, where, otherwise, least, most, sentence)                                      \
    {                                                                                              \
        .name = (flag), .kind = RMK_CONFIG_UINT, .target = (where), .fallback = (otherwise),       \
        .min = (least), .max = (most), .argument = "N", .help = (sentence)                         \
    }

static const char *const load_formats[] = {"checkpoint", "dummy", NULL};

int main(int argc, char **argv)
{
    struct rmk_app_options options;
    struct flag_numbers numbers = {0};
    bool require_vision = false;
    int profile = RMK_PROFILE_EXACT;
    int load_format = 0;
    int log_level = RMK_LOG_INFO;
    int log_format = RMK_LOG_LOGFMT;
    struct rmk_config_flag flags[] = {
        {.name = "model",
         .kind = RMK_CONFIG_TEXT,
         .target = &options.model_dir,
         .argument = "DIR",
         .help = "the checkpoint: config, tokenizer and headers are read, weights never",
         .required = true},
        TEXT("vision-dir", &options.vision_dir, NULL, "DIR",
             "a SigLIP directory with the tower's geometry"),
        TEXT("config-overrides", &options.config_overrides, NULL, "JSON",
             "fields that replace those of config.json; workers need the same"),
        TEXT("served-model-name", &options.model_name, NULL, "NAME",
             "what clients call the model; default: the directory's name"),
        {.name = "load-format",
         .kind = RMK_CONFIG_CHOICE,
         .target = &load_format,
         .fallback = "checkpoint",
         .choices = load_formats,
         .help = "dummy: workers have dummy weights, for benchmarks; no weights are looked for"},
        {.name = "default-profile",
         .kind = RMK_CONFIG_CHOICE,
         .target = &profile,
         .fallback = "exact",
         .choices = rmk_profile_names,
         .argument = "PROFILE",
         .help = "commit rule and cache of requests that name none; see docs/profiles.md"},
        TEXT("listen", &options.listen, "127.0.0.1:8001", "HOST:PORT",
             "public gRPC API; port 0: any"),
        TEXT("cluster-listen", &options.cluster_listen, "127.0.0.1:8003", "HOST:PORT",
             "where workers attach"),
        TEXT("metrics-listen", &options.metrics_listen, "127.0.0.1:8002", "HOST:PORT",
             "/metrics, /healthz, /readyz"),
        TEXT("ready-file", &options.ready_file, NULL, "PATH",
             "write the addresses listened on there, as JSON"),
        TEXT("api-keys", &options.api_keys, NULL, "FILE",
             "API: a line is a key and its tenant; read again at SIGHUP"),
        TEXT("tls-cert", &options.tls.certificate, NULL, "FILE", "API: certificate, PEM"),
        TEXT("tls-key", &options.tls.key, NULL, "FILE", "API: its key, PEM"),
        TEXT("tls-ca", &options.tls.authority, NULL, "FILE",
             "API: ask clients for certificates of this authority"),
        TEXT("cluster-tls-cert", &options.cluster_tls.certificate, NULL, "FILE",
             "cluster plane: certificate, PEM"),
        TEXT("cluster-tls-key", &options.cluster_tls.key, NULL, "FILE",
             "cluster plane: its key, PEM"),
        TEXT("cluster-tls-ca", &options.cluster_tls.authority, NULL, "FILE",
             "cluster plane: authority of the workers' certificates"),
        {.name = "insecure",
         .kind = RMK_CONFIG_SWITCH,
         .target = &options.insecure,
         .help = "plaintext beyond loopback"},
        {.name = "require-vision",
         .kind = RMK_CONFIG_SWITCH,
         .target = &require_vision,
         .help = "ready only with a vision worker; default: if the model has a tower"},
        NUMBER("max-requests", &numbers.requests_max, "1024", 1, RMK_REQUESTS_MAX, "open requests"),
        NUMBER("max-queued", &numbers.queued_max, "512", 1, RMK_REQUESTS_MAX,
               "of these, not yet on a group"),
        NUMBER("max-intakes", &numbers.intakes_max, "128", 1, RMK_REQUESTS_MAX,
               "requests being tokenized"),
        NUMBER("results-kept", &numbers.results_kept, "1024", 0, 65536,
               "answers kept for clients that ask again with the same request id"),
        NUMBER("max-retries", &numbers.retries_max, "8", 0, RMK_RETRIES_MAX,
               "losses of a worker that a request survives"),
        NUMBER("run-ahead", &numbers.ahead_max, "8", 1, RMK_AHEAD_MAX,
               "forwards that a group may run by itself while nobody waits; 1: none"),
        {.name = "max-image-bytes",
         .kind = RMK_CONFIG_BYTES,
         .target = &options.image_bytes_max,
         .fallback = "1GiB",
         .min = RMK_BLOB_BYTES_MAX,
         .argument = "BYTES",
         .help = "pictures of all open requests together"},
        NUMBER("plan-timeout-ms", &numbers.plan_timeout_ms, "30000", 1, 3600000,
               "a group that does not answer a plan by then, and four times what the plan should "
               "take by the group's own measure, is dissolved"),
        NUMBER("encode-timeout-ms", &numbers.encode_timeout_ms, "60000", 1, 3600000,
               "an encode or a pull not answered by then is asked again"),
        NUMBER("form-timeout-ms", &numbers.form_timeout_ms, "60000", 1, 3600000,
               "a group that does not form by then tries again"),
        NUMBER("drain-timeout-ms", &numbers.drain_timeout_ms, "30000", 0, 3600000,
               "after SIGTERM, how long open requests may go on"),
        NUMBER("heartbeat-interval-ms", &numbers.heartbeat_interval_ms, "1000", 10, 60000,
               "between heartbeats to workers"),
        NUMBER("heartbeat-timeout-ms", &numbers.heartbeat_timeout_ms, "5000", 20, 600000,
               "a worker silent for so long is lost"),
        NUMBER("stall-timeout-ms", &numbers.stall_timeout_ms, "60000", 1, 3600000,
               "a client that reads nothing for so long is cut off"),
        {.name = "log-level",
         .kind = RMK_CONFIG_CHOICE,
         .target = &log_level,
         .fallback = "info",
         .choices = rmk_log_level_names,
         .argument = "LEVEL",
         .help = "debug is the engine's trace"},
        {.name = "log-format",
         .kind = RMK_CONFIG_CHOICE,
         .target = &log_format,
         .fallback = "logfmt",
         .choices = rmk_log_format_names,
         .argument = "FORMAT",
         .help = "of the lines on stderr"},
    };
    struct rmk_config config = {
        .program = "remask-coordinator",
        .summary = "Takes requests, plans rounds, hands out work to text and vision workers.",
        .flags = flags,
        .flag_count = sizeof(flags) / sizeof(flags[0]),
    };
    int status;

    rmk_app_defaults(&options);
    status = rmk_config_load(&config, argc, argv);
    if (status < 0) {
        set_numbers(&options, &numbers);
        options.profile = &rmk_profiles[profile];
        options.load_dummy = load_format == 1;
        if (rmk_config_flag(&config, "require-vision")->origin != RMK_CONFIG_UNSET) {
            options.require_vision = require_vision ? RMK_VISION_NEED_YES : RMK_VISION_NEED_NO;
        }
        rmk_log_init((enum rmk_log_level)log_level, (enum rmk_log_format)log_format, "coordinator");
        status = run(&options);
    }
    rmk_config_deinit(&config);
    return status;
}
