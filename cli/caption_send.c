#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/caption.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/wire.h"

enum { SIGNAL_COUNT = 2 };

struct sender;

/* A job under way. */
struct flight {
    struct sender *sender;
    struct rmk_caption_job *job;
    struct rmk_rpc_call *call; /* NULL: the place is free */
};

struct sender {
    const struct rmk_caption_options *options;
    struct rmk_client client;
    uv_signal_t signals[SIGNAL_COUNT];
    struct rmk_caption_job *jobs;
    size_t job_count;
    size_t begun;   /* jobs before this one are sent or done */
    size_t printed; /* jobs before this one are printed */
    struct flight *flights;
    size_t active; /* flights with a call */
    size_t failed;
    size_t unreachable;
    int interrupted; /* the signal; 0: none */
};

static void go_on(struct sender *sender);

/* ---- results
 * ------------------------------------------------------------------------------------------- */

static enum rmk_err keep_result(struct rmk_caption_job *job, Remask__V1__GenerateEvent *event,
                                struct rmk_bytes text)
{
    uint8_t *copy = malloc(text.size + 1);

    if (copy == NULL) {
        return rmk_fail(&job->why, RMK_ELIMIT, "no memory for an answer of %zu bytes", text.size);
    }
    if (text.size > 0) {
        memcpy(copy, text.data, text.size);
    }
    job->text = rmk_bytes_of(copy, text.size);
    job->result = event->result;
    event->kind_case = REMASK__V1__GENERATE_EVENT__KIND__NOT_SET; /* the job's now */
    return RMK_OK;
}

static void drop_result(struct rmk_caption_job *job)
{
    if (job->result != NULL) {
        remask__v1__generate_result__free_unpacked(job->result, NULL);
        free((void *)(uintptr_t)job->text.data);
        job->result = NULL;
    }
}

/* ---- printing in order
 * ---------------------------------------------------------------------------- */

static void print_ready(struct sender *sender)
{
    while (sender->printed < sender->job_count && sender->jobs[sender->printed].done) {
        struct rmk_caption_job *job = &sender->jobs[sender->printed++];

        if (sender->interrupted == 0) {
            rmk_caption_print(sender->options, job);
        }
        sender->failed += job->result == NULL;
        sender->unreachable += job->result == NULL && job->status == RMK_STATUS_UNAVAILABLE;
        drop_result(job);
    }
}

/* ---- a call
 * ---------------------------------------------------------------------------------------- */

/* Not rmk_unpack, which takes no NULs in strings: an answer may well have some. */
static void on_message(struct rmk_rpc_call *call, struct rmk_bytes bytes, void *context)
{
    static const uint32_t piece_path[] = {2, 1};  /* GenerateEvent.text, TextDelta.text */
    static const uint32_t result_path[] = {4, 2}; /* GenerateEvent.result, GenerateResult.text */
    struct flight *flight = context;
    struct rmk_caption_job *job = flight->job;
    enum rmk_err err = RMK_OK;

    if (job->status != RMK_STATUS_OK) {
        return;
    }
    Remask__V1__GenerateEvent *event =
        remask__v1__generate_event__unpack(NULL, bytes.size, bytes.data);
    if (event == NULL) {
        err = rmk_fail(&job->why, RMK_EINTERNAL, "the server's answer is no message");
    } else if (event->kind_case == REMASK__V1__GENERATE_EVENT__KIND_TEXT &&
               flight->sender->options->stream) {
        rmk_caption_print_piece(flight->sender->options, job, rmk_wire_find(bytes, piece_path, 2));
    } else if (event->kind_case == REMASK__V1__GENERATE_EVENT__KIND_RESULT && job->result == NULL) {
        err = keep_result(job, event, rmk_wire_find(bytes, result_path, 2));
    }
    if (err != RMK_OK) {
        job->status = (int)rmk_status_of(err);
        rmk_rpc_call_cancel(call);
    }
    if (event != NULL) {
        remask__v1__generate_event__free_unpacked(event, NULL);
    }
}

static void on_done(struct rmk_rpc_call *call, int status, const char *message, void *context)
{
    struct flight *flight = context;
    struct sender *sender = flight->sender;
    struct rmk_caption_job *job = flight->job;

    (void)call;
    if (job->status == RMK_STATUS_OK && status != RMK_STATUS_OK) {
        job->status = status;
        (void)rmk_client_explain(sender->client.endpoint, status, message, &job->why);
    } else if (job->status == RMK_STATUS_OK && job->result == NULL) {
        job->status = RMK_STATUS_INTERNAL;
        (void)rmk_fail(&job->why, RMK_EINTERNAL, "the server ended the stream without a result");
    }
    if (job->status != RMK_STATUS_OK) {
        drop_result(job);
    }
    job->done = true;
    flight->call = NULL;
    sender->active--;
    go_on(sender);
}

static void start(struct flight *flight, struct rmk_caption_job *job)
{
    static const struct rmk_rpc_events events = {.on_message = on_message, .on_done = on_done};
    struct sender *sender = flight->sender;
    const struct rmk_caption_options *options = sender->options;
    uint8_t *packed = NULL;
    size_t size = 0;
    enum rmk_err err = rmk_caption_request(options, job, &packed, &size, &job->why);

    if (err != RMK_OK) {
        job->status = rmk_status_of(err);
        job->done = true;
        return;
    }
    flight->job = job;
    flight->call =
        rmk_rpc_channel_call(sender->client.channel, "/remask.v1.Remask/Generate",
                             (options->timeout_us + 999) / 1000, false, NULL, &events, flight);
    (void)rmk_rpc_call_send(flight->call, rmk_bytes_of(packed, size));
    rmk_rpc_call_half_close(flight->call);
    sender->active++;
    free(packed);
}

/* ---- all of them
 * ------------------------------------------------------------------------------------- */

/* Streaming shows one answer at a time. */
static size_t width(const struct sender *sender)
{
    return sender->options->stream ? 1 : (size_t)sender->options->parallel;
}

static struct flight *free_flight(struct sender *sender)
{
    for (size_t i = 0; i < width(sender); i++) {
        if (sender->flights[i].call == NULL) {
            return &sender->flights[i];
        }
    }
    return NULL;
}

static void close_signals(struct sender *sender)
{
    for (int i = 0; i < SIGNAL_COUNT; i++) {
        if (!uv_is_closing((uv_handle_t *)&sender->signals[i])) {
            uv_close((uv_handle_t *)&sender->signals[i], NULL);
        }
    }
}

static void cancel_all(struct sender *sender)
{
    sender->begun = sender->job_count;
    for (size_t i = 0; i < width(sender); i++) {
        if (sender->flights[i].call != NULL) {
            rmk_rpc_call_cancel(sender->flights[i].call);
        }
    }
}

static void go_on(struct sender *sender)
{
    const size_t ahead_max =
        4 * width(sender); /* answers that wait for an earlier one are bounded too */
    struct flight *flight;

    print_ready(sender);
    if (ferror(stdout) != 0 && sender->interrupted == 0) {
        sender->interrupted = SIGPIPE;
        cancel_all(sender);
    }
    while (sender->begun < sender->job_count && sender->begun < sender->printed + ahead_max &&
           (flight = free_flight(sender)) != NULL) {
        start(flight, &sender->jobs[sender->begun++]);
        print_ready(sender);
    }
    if (sender->active == 0 && sender->begun == sender->job_count) {
        close_signals(sender);
    }
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct sender *sender = handle->data;

    if (sender->interrupted != 0) {
        _exit(128 + number); /* asked twice: at once */
    }
    sender->interrupted = number;
    cancel_all(sender);
    go_on(sender);
}

static bool under_way(const struct sender *sender)
{
    return !uv_is_closing((const uv_handle_t *)&sender->signals[0]);
}

static int exit_status(const struct sender *sender)
{
    if (sender->interrupted == SIGPIPE) {
        (void)fprintf(stderr, "remask caption: standard output cannot be written\n");
        return RMK_EXIT_FAILURE;
    }
    if (sender->interrupted != 0) {
        (void)fprintf(stderr, "remask caption: interrupted; %zu of %zu requests were answered\n",
                      sender->printed - sender->failed, sender->job_count);
        return 128 + sender->interrupted;
    }
    if (sender->failed == 0) {
        return RMK_EXIT_OK;
    }
    return sender->unreachable == sender->job_count ? RMK_EXIT_UNAVAILABLE : RMK_EXIT_FAILURE;
}

int rmk_caption_send(const struct rmk_caption_options *options, const char *endpoint,
                     struct rmk_caption_job *jobs, size_t job_count)
{
    static const int numbers[SIGNAL_COUNT] = {SIGINT, SIGTERM};
    struct sender sender = {.options = options, .jobs = jobs, .job_count = job_count};
    struct rmk_why why = {0};

    sender.flights = calloc(width(&sender), sizeof(*sender.flights));
    if (sender.flights == NULL || rmk_client_open(&sender.client, endpoint, &why) != RMK_OK) {
        (void)fprintf(stderr, "remask caption: %s\n",
                      sender.flights == NULL ? "no memory for requests" : why.text);
        free(sender.flights);
        return RMK_EXIT_USAGE;
    }
    for (size_t i = 0; i < width(&sender); i++) {
        sender.flights[i].sender = &sender;
    }
    for (int i = 0; i < SIGNAL_COUNT; i++) {
        (void)uv_signal_init(&sender.client.loop, &sender.signals[i]);
        sender.signals[i].data = &sender;
        (void)uv_signal_start(&sender.signals[i], on_signal, numbers[i]);
    }
    go_on(&sender);
    while (under_way(&sender)) {
        (void)uv_run(&sender.client.loop, UV_RUN_ONCE);
    }
    rmk_client_close(&sender.client);
    free(sender.flights);
    return exit_status(&sender);
}
