#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/bench.h"
#include "cli/client.h"
#include "cli/generate.h"
#include "common/clock.h"
#include "common/limits.h"
#include "common/prng.h"

/* A month, for a rate of next to nothing. */
#define GAP_US_MAX 2.6e12

enum { SIGNAL_COUNT = 2, PROGRESS_MS = 250, PROGRESS_WIDTH = 78 };

struct load;

struct flight {
    struct rmk_generate
        generate; /* first: a generate is a flight; not under way: the place is free */
    struct load *load;
    struct rmk_rpc_channel *channel;
    struct rmk_answer answer;
    uint64_t due_us;
    bool warmup;
};

struct load {
    const struct rmk_bench_options *options;
    struct rmk_bench_outcome *outcome;
    struct rmk_client client;
    struct rmk_rpc_channel **channels; /* those beyond the client's own */
    size_t channel_count;
    uv_signal_t signals[SIGNAL_COUNT];
    uv_timer_t arrival; /* open loop: the next request is due */
    uv_timer_t progress;
    struct flight *flights; /* [concurrency] */
    uint64_t warmed;        /* warm-up requests begun */
    uint64_t begun;         /* measured requests begun */
    uint64_t active;
    uint64_t failed;
    uint64_t started_us; /* when the measured part began; 0: not yet */
    uint64_t next_us;    /* open loop: when the next one is due, after started_us */
    bool closing;
};

uint64_t rmk_bench_arrival_us(double rate, uint64_t seed, uint64_t index, uint64_t previous_us)
{
    /* Gaps between the events of a Poisson process are exponential. */
    const double uniform = rmk_prng_unit53(rmk_prng_splitmix(seed, index));

    const double gap_us = -log1p(-uniform) / rate * 1e6;

    return previous_us + (uint64_t)(gap_us < GAP_US_MAX ? gap_us : GAP_US_MAX);
}

void rmk_bench_outcome_deinit(struct rmk_bench_outcome *outcome)
{
    free(outcome->samples);
    outcome->samples = NULL;
}

static void go_on(struct load *load);

/* ---- progress
 * --------------------------------------------------------------------------------------- */

static void show_progress(uv_timer_t *timer)
{
    const struct load *load = timer->data;
    const size_t ended = load->outcome->sample_count;
    char line[PROGRESS_WIDTH + 1];

    if (load->started_us == 0) {
        (void)snprintf(line, sizeof(line), "warming up: %llu of %llu",
                       (unsigned long long)(load->warmed - load->active),
                       (unsigned long long)load->options->warmup_count);
    } else {
        const double seconds = (double)(rmk_clock_us() - load->started_us) / 1e6;

        (void)snprintf(line, sizeof(line),
                       "%zu of %llu done, %llu under way, %llu failed, %.2f a second", ended,
                       (unsigned long long)load->options->request_count,
                       (unsigned long long)load->active, (unsigned long long)load->failed,
                       seconds > 0 ? (double)ended / seconds : 0);
    }
    (void)fprintf(stderr, "\r%-*s", PROGRESS_WIDTH, line);
}

static void clear_progress(void)
{
    if (isatty(STDERR_FILENO)) {
        (void)fprintf(stderr, "\r%-*s\r", PROGRESS_WIDTH, "");
    }
}

/* ---- one request
 * ------------------------------------------------------------------------------------ */

static void note(struct load *load, const struct flight *flight)
{
    const struct rmk_answer *answer = &flight->answer;
    const Remask__V1__Usage *usage = rmk_answer_usage(answer);
    struct rmk_bench_outcome *outcome = load->outcome;
    /* What it waited here before it was sent; the server knows nothing of it. */
    const uint64_t late_us = answer->begun_us - flight->due_us;

    if (answer->result == NULL) {
        if (load->failed++ == 0) {
            outcome->why = answer->why;
        }
    } else {
        (void)snprintf(outcome->profile, sizeof(outcome->profile), "%s", usage->profile);
        (void)snprintf(outcome->numerics, sizeof(outcome->numerics), "%s", usage->numerics);
    }
    outcome->samples[outcome->sample_count++] = (struct rmk_bench_sample){
        .status = answer->status,
        .first_commit_us = late_us + usage->first_commit_us,
        .first_text_us = answer->first_text_us == 0 ? 0 : answer->first_text_us - flight->due_us,
        .end_us = answer->ended_us - flight->due_us,
        .queue_us = usage->queue_us,
        .encode_us = usage->encode_us,
        .compute_us = usage->compute_us,
        .tokens = usage->completion_tokens,
        .forwards = usage->forwards,
        .refreshes = usage->refreshes,
        .committed = usage->tokens_per_forward * usage->forwards,
    };
    outcome->span_us = answer->ended_us - load->started_us;
}

static void on_done(struct rmk_generate *generate)
{
    struct flight *flight = (struct flight *)generate;
    struct load *load = flight->load;

    load->active--;
    if (!flight->warmup && !(load->closing && flight->answer.result == NULL)) {
        note(load, flight);
    }
    rmk_answer_deinit(&flight->answer);
    go_on(load);
}

/* The warm-up takes the pictures from the end, so as to leave those that are measured to be
 * encoded. */
static size_t path_of(const struct rmk_bench_options *options, uint64_t index, bool warmup)
{
    const size_t place = (size_t)(index % options->path_count);

    return warmup ? options->path_count - 1 - place : place;
}

static void start(struct load *load, struct flight *flight, uint64_t index, bool warmup,
                  uint64_t due_us)
{
    static const struct rmk_generate_events events = {.done = on_done};
    const struct rmk_bench_options *options = load->options;
    const bool has_picture = options->path_count > 0;
    char *const *paths = has_picture ? options->paths + path_of(options, index, warmup) : NULL;
    uint8_t *packed = NULL;
    size_t size = 0;

    flight->due_us = due_us;
    flight->warmup = warmup;
    flight->answer = (struct rmk_answer){.begun_us = rmk_clock_us()};
    enum rmk_err err = rmk_request_pack(&options->request, paths, has_picture ? 1 : 0, &packed,
                                        &size, &flight->answer.why);
    if (err != RMK_OK) {
        rmk_why_context(&flight->answer.why, "%s", has_picture ? paths[0] : "request");
        flight->answer.status = rmk_status_of(err);
        flight->answer.ended_us = rmk_clock_us();
        if (!warmup) {
            note(load, flight);
        }
        return;
    }
    flight->generate = (struct rmk_generate){
        .events = &events,
        .answer = &flight->answer,
        .endpoint = load->client.endpoint,
    };
    load->active++;
    rmk_generate_begin(&flight->generate, flight->channel, rmk_bytes_of(packed, size),
                       rmk_request_deadline_ms(&options->request),
                       rmk_request_metadata(&options->request));
    free(packed);
}

/* ---- all of them
 * ------------------------------------------------------------------------------------ */

static struct flight *free_flight(struct load *load)
{
    for (uint64_t i = 0; i < load->options->concurrency; i++) {
        if (load->flights[i].generate.call == NULL) {
            return &load->flights[i];
        }
    }
    return NULL;
}

static void finish(struct load *load)
{
    if (load->closing) {
        return;
    }
    load->closing = true;
    for (int i = 0; i < SIGNAL_COUNT; i++) {
        uv_close((uv_handle_t *)&load->signals[i], NULL);
    }
    uv_close((uv_handle_t *)&load->arrival, NULL);
    uv_close((uv_handle_t *)&load->progress, NULL);
}

static void on_arrival(uv_timer_t *timer)
{
    go_on(timer->data);
}

static void set_next(struct load *load)
{
    if (load->options->rate > 0) {
        load->next_us = rmk_bench_arrival_us(load->options->rate, load->options->arrival_seed,
                                             load->begun, load->next_us);
    }
}

/* When the next measured request is due; false: there is none. */
static bool next_due(const struct load *load, uint64_t now_us, uint64_t *out_due_us)
{
    if (load->begun == load->options->request_count) {
        return false;
    }
    *out_due_us = load->options->rate > 0 ? load->started_us + load->next_us : now_us;
    return true;
}

static void go_on(struct load *load)
{
    const struct rmk_bench_options *options = load->options;
    struct flight *flight;
    uint64_t due_us;

    if (load->closing) {
        return;
    }
    while (load->warmed < options->warmup_count && (flight = free_flight(load)) != NULL) {
        start(load, flight, load->warmed++, true, rmk_clock_us());
    }
    if (load->warmed < options->warmup_count || (load->started_us == 0 && load->active > 0)) {
        return;
    }
    if (load->started_us == 0) {
        load->started_us = rmk_clock_us();
        set_next(load);
    }
    while (next_due(load, rmk_clock_us(), &due_us) && due_us <= rmk_clock_us() &&
           (flight = free_flight(load)) != NULL) {
        start(load, flight, load->begun++, false, due_us);
        set_next(load);
    }
    if (!next_due(load, rmk_clock_us(), &due_us)) {
        if (load->active == 0) {
            finish(load);
        }
        return;
    }
    if (free_flight(load) != NULL) {
        const uint64_t now_us = rmk_clock_us();
        const uint64_t wait_us = due_us > now_us ? due_us - now_us : 0;

        uv_update_time(&load->client.loop);
        (void)uv_timer_start(&load->arrival, on_arrival, (wait_us + 999) / 1000, 0);
    }
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct load *load = handle->data;

    load->outcome->interrupted = number;
    finish(load); /* what is under way is cancelled when the client closes */
}

static enum rmk_err open_channels(struct load *load, struct rmk_why *why)
{
    const struct rmk_rpc_options options = {.message_bytes_max = RMK_MESSAGE_BYTES_MAX,
                                            .api_key = load->options->request.api_key};
    const size_t wanted = (size_t)load->options->connection_count;
    enum rmk_err err = RMK_OK;

    load->channels = calloc(wanted, sizeof(struct rmk_rpc_channel *));
    if (load->channels == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for %zu connections", wanted);
    }
    while (load->channel_count + 1 < wanted) {
        RMK_TRY(rmk_rpc_channel_create(load->client.rpc, load->client.endpoint, &options,
                                       &load->channels[load->channel_count], why));
        load->channel_count++;
    }
    for (uint64_t i = 0; i < load->options->concurrency; i++) {
        const uint64_t place = i % wanted;

        load->flights[i].load = load;
        load->flights[i].channel = place == 0 ? load->client.channel : load->channels[place - 1];
    }
out:
    return err;
}

static void open_handles(struct load *load)
{
    static const int numbers[SIGNAL_COUNT] = {SIGINT, SIGTERM};

    for (int i = 0; i < SIGNAL_COUNT; i++) {
        (void)uv_signal_init(&load->client.loop, &load->signals[i]);
        load->signals[i].data = load;
        (void)uv_signal_start(&load->signals[i], on_signal, numbers[i]);
    }
    (void)uv_timer_init(&load->client.loop, &load->arrival);
    load->arrival.data = load;
    (void)uv_timer_init(&load->client.loop, &load->progress);
    load->progress.data = load;
    if (isatty(STDERR_FILENO)) {
        (void)uv_timer_start(&load->progress, show_progress, 0, PROGRESS_MS);
    }
}

enum rmk_err rmk_bench_load(const struct rmk_bench_options *options, const char *endpoint,
                            struct rmk_bench_outcome *out_outcome, struct rmk_why *why)
{
    struct load load = {.options = options, .outcome = out_outcome};
    bool opened = false;
    enum rmk_err err;

    *out_outcome = (struct rmk_bench_outcome){0};
    out_outcome->samples = calloc((size_t)options->request_count, sizeof(*out_outcome->samples));
    load.flights = calloc((size_t)options->concurrency, sizeof(*load.flights));
    if (out_outcome->samples == NULL || load.flights == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for %llu requests",
                       (unsigned long long)options->request_count);
        goto out;
    }
    RMK_TRY(rmk_client_open(&load.client, endpoint, options->request.api_key, why));
    opened = true;
    RMK_TRY(open_channels(&load, why));
    open_handles(&load);
    go_on(&load);
    while (!load.closing) {
        (void)uv_run(&load.client.loop, UV_RUN_ONCE);
    }
    clear_progress();
out:
    for (size_t i = 0; i < load.channel_count; i++) {
        rmk_rpc_channel_destroy(load.channels[i]);
    }
    if (opened) {
        rmk_client_close(&load.client);
    }
    free(load.channels);
    free(load.flights);
    return err;
}
