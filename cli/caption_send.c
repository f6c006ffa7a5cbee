#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/caption.h"
#include "cli/cli.h"
#include "cli/client.h"

enum { SIGNAL_COUNT = 2 };

struct sender;

/* A job under way. */
struct flight {
    struct rmk_generate
        generate; /* first: a generate is a flight; not under way: the place is free */
    struct sender *sender;
    struct rmk_caption_job *job;
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
    bool signalled;  /* one has come of which the loop has not told us yet */
};

static void go_on(struct sender *sender);

/* ---- printing in order
 * ---------------------------------------------------------------------------- */

static void print_ready(struct sender *sender)
{
    while (sender->printed < sender->job_count && sender->jobs[sender->printed].done) {
        struct rmk_caption_job *job = &sender->jobs[sender->printed++];

        if (sender->interrupted == 0 && !sender->signalled) {
            rmk_caption_print(sender->options, job);
        }
        sender->failed += job->answer.result == NULL;
        sender->unreachable +=
            job->answer.result == NULL && job->answer.status == RMK_STATUS_UNAVAILABLE;
        rmk_answer_deinit(&job->answer);
    }
}

/* ---- a call
 * ---------------------------------------------------------------------------------------- */

static void on_piece(struct rmk_generate *generate, struct rmk_bytes text)
{
    struct flight *flight = (struct flight *)generate;

    if (flight->sender->options->stream) {
        rmk_caption_print_piece(flight->sender->options, flight->job, text);
    }
}

static void on_done(struct rmk_generate *generate)
{
    struct flight *flight = (struct flight *)generate;

    flight->job->done = true;
    flight->sender->active--;
    go_on(flight->sender);
}

static void start(struct flight *flight, struct rmk_caption_job *job)
{
    static const struct rmk_generate_events events = {.piece = on_piece, .done = on_done};
    struct sender *sender = flight->sender;
    const struct rmk_request_options *request = &sender->options->request;
    uint8_t *packed = NULL;
    size_t size = 0;
    enum rmk_err err =
        rmk_request_pack(request, job->paths, job->path_count, &packed, &size, &job->answer.why);

    if (err != RMK_OK) {
        sender->signalled = err == RMK_ECANCELLED;
        job->answer.status = rmk_status_of(err);
        job->done = true;
        return;
    }
    flight->job = job;
    flight->generate = (struct rmk_generate){
        .events = &events,
        .answer = &job->answer,
        .endpoint = sender->client.endpoint,
    };
    sender->active++;
    rmk_generate_begin(&flight->generate, sender->client.channel, rmk_bytes_of(packed, size),
                       rmk_request_deadline_ms(request), rmk_request_metadata(request));
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
        if (sender->flights[i].generate.call == NULL) {
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
        if (sender->flights[i].generate.call != NULL) {
            rmk_rpc_call_cancel(sender->flights[i].generate.call);
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
    while (!sender->signalled && sender->begun < sender->job_count &&
           sender->begun < sender->printed + ahead_max && (flight = free_flight(sender)) != NULL) {
        start(flight, &sender->jobs[sender->begun++]);
        print_ready(sender);
    }
    if (sender->active == 0 && sender->begun == sender->job_count && !sender->signalled) {
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
    sender->signalled = false;
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
        return rmk_cli_unwritten("remask caption");
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
    enum rmk_err err = sender.flights == NULL ? rmk_fail(&why, RMK_ELIMIT, "no memory for requests")
                                              : rmk_client_open(&sender.client, endpoint,
                                                                options->request.api_key, &why);
    if (err != RMK_OK) {
        (void)fprintf(stderr, "remask caption: %s\n", why.text);
        free(sender.flights);
        return rmk_cli_exit_of_open(err);
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
