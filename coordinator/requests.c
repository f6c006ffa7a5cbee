#include "coordinator/requests.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/rpc/rpc.h"
#include "coordinator/engine/policy.h"
#include "coordinator/finish.h"
#include "coordinator/front/ask.h"
#include "coordinator/front/intake.h"
#include "coordinator/front/keys.h"
#include "coordinator/front/recall.h"
#include "coordinator/loop.h"
#include "coordinator/metrics.h"
#include "coordinator/result.h"
#include "coordinator/stream.h"
#include "model/tokenizer.h"

struct rmk_requests {
    uv_loop_t *uv;
    const struct rmk_served *served;
    struct rmk_requests_options options;
    struct rmk_coordinator_metrics *metrics;
    struct rmk_loop *loop;
    struct rmk_recall *recall;
    struct rmk_request **by_index; /* [requests_max] by the engine's index; NULL or live */
    struct rmk_list all;
    struct rmk_list dirty;
    uint32_t count;
    uint32_t job_count;
    uint32_t tenant_jobs[RMK_TENANTS];
    bool draining;
};

struct rmk_intake_job {
    uv_work_t work;
    struct rmk_requests *requests;
    struct rmk_listener *listener; /* NULL: left meanwhile */
    struct rmk_ask *ask;
    uint32_t tenant;
    uint64_t deadline_us;
    struct rmk_intake *intake;
    enum rmk_err err;
    struct rmk_why why;
};

enum rmk_err rmk_requests_create(uv_loop_t *uv, const struct rmk_served *served,
                                 const struct rmk_requests_options *options,
                                 struct rmk_coordinator_metrics *metrics,
                                 struct rmk_requests **out_requests, struct rmk_why *why)
{
    struct rmk_requests *requests = calloc(1, sizeof(*requests));
    enum rmk_err err = RMK_OK;

    if (requests == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for the table of requests");
        goto out;
    }
    rmk_list_init(&requests->all);
    rmk_list_init(&requests->dirty);
    requests->uv = uv;
    requests->served = served;
    requests->options = *options;
    requests->metrics = metrics;
    /* More than the engine takes: it is the engine that says "full", with a hint when to try again.
     */
    requests->recall =
        rmk_recall_create(options->requests_max + options->intakes_max, options->finished_max);
    requests->by_index = calloc(options->requests_max, sizeof(struct rmk_request *));
    if (requests->recall == NULL || requests->by_index == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for %u requests", options->requests_max);
        goto out;
    }
    *out_requests = requests;
    requests = NULL;
out:
    rmk_requests_destroy(requests);
    return err;
}

static void request_free(struct rmk_requests *requests, struct rmk_request *request)
{
    rmk_assert(rmk_list_empty(&request->listeners));
    if (request->in_recall) {
        rmk_recall_end(requests->recall, request->tenant, request->name, NULL);
    }
    if (request->accepted) {
        requests->by_index[request->id.index] = NULL;
    }
    rmk_list_remove(&request->link);
    rmk_list_remove(&request->dirty);
    requests->count--;
    rmk_stream_destroy(request->stream);
    rmk_intake_destroy(request->intake);
    free(request);
}

void rmk_requests_destroy(struct rmk_requests *requests)
{
    struct rmk_list *link, *following;

    if (requests == NULL) {
        return;
    }
    rmk_assert(requests->job_count == 0);
    /* Requests without listeners may be left when the loop has ended before the engine did. */
    rmk_list_each(link, following, &requests->all)
    {
        request_free(requests, rmk_list_entry(link, struct rmk_request, link));
    }
    rmk_recall_destroy(requests->recall);
    free(requests->by_index);
    free(requests);
}

void rmk_requests_connect(struct rmk_requests *requests, struct rmk_loop *loop)
{
    requests->loop = loop;
}

bool rmk_requests_idle(const struct rmk_requests *requests)
{
    return requests->count == 0 && requests->job_count == 0;
}

uint32_t rmk_requests_job_count(const struct rmk_requests *requests)
{
    return requests->job_count;
}

static void post_about(struct rmk_requests *requests, enum rmk_event_kind kind,
                       const struct rmk_request *request)
{
    rmk_loop_post(requests->loop, &(struct rmk_event){.kind = kind, .request = request->id});
}

/* ---- listeners
 * ------------------------------------------------------------------------------------- */

uint32_t rmk_requests_tenant(const struct rmk_listener *listener)
{
    return listener->tenant != NULL ? listener->tenant->number : 0;
}

static const char *tenant_name(const struct rmk_listener *listener)
{
    return listener->tenant != NULL ? listener->tenant->name : "-";
}

static void log_access(const struct rmk_listener *listener, const struct rmk_outcome *outcome,
                       uint64_t total_us)
{
    const struct rmk_result *result = outcome->result;

    if (result == NULL) {
        rmk_log(RMK_LOG_INFO, "front", "request ended",
                "req=%s tenant=%s peer=%s method=%s status=%s total_us=%llu why=%s",
                outcome->request_id, tenant_name(listener), listener->peer, listener->method,
                rmk_status_name(outcome->status), (unsigned long long)total_us, outcome->why);
        return;
    }
    rmk_log(
        RMK_LOG_INFO, "front", "request ended",
        "req=%s tenant=%s peer=%s method=%s status=OK reason=%s profile=%s prompt_rows=%u "
        "image_rows=%u tokens=%u forwards=%u refreshes=%u replays=%u recoveries=%u restarted=%d "
        "queue_us=%llu encode_us=%llu first_commit_us=%llu "
        "compute_us=%llu total_us=%llu",
        outcome->request_id, tenant_name(listener), listener->peer, listener->method,
        rmk_result_reason(result), result->profile, result->prompt_rows, result->image_rows,
        result->id_count - result->suffix_count, result->usage.forwards, result->usage.refreshes,
        result->usage.replays, result->usage.recoveries, (int)result->usage.restarted,
        (unsigned long long)result->usage.queue_us, (unsigned long long)result->usage.encode_us,
        (unsigned long long)result->usage.first_commit_us,
        (unsigned long long)result->usage.compute_us, (unsigned long long)total_us);
}

static void count_end(struct rmk_requests *requests, const struct rmk_listener *listener,
                      int status, uint64_t total_us)
{
    int index = status >= 0 && status < RMK_STATUS_COUNT ? status : RMK_STATUS_UNKNOWN;

    rmk_counter_add(requests->metrics->requests[index], 1);
    rmk_histogram_observe(requests->metrics->request_seconds, (double)total_us / 1e6);
    if (listener->tenant != NULL) {
        rmk_counter_add(requests->metrics->tenants[listener->tenant->number].requests, 1);
    }
}

/* Off every list before the front hears of it: it may free the listener. */
static void end_listener(struct rmk_requests *requests, struct rmk_listener *listener,
                         const struct rmk_outcome *outcome)
{
    uint64_t total_us = rmk_clock_us() - listener->opened_us;

    if (listener->request != NULL) {
        rmk_list_remove(&listener->link);
        listener->request = NULL;
    }
    count_end(requests, listener, outcome->status, total_us);
    log_access(listener, outcome, total_us);
    listener->ops->ended(listener, outcome);
}

static void fail_listener(struct rmk_requests *requests, struct rmk_listener *listener, int status,
                          const char *request_id, const char *why)
{
    struct rmk_outcome outcome = {.status = status, .why = why, .request_id = request_id};

    end_listener(requests, listener, &outcome);
}

/* Bring one listener up to what is settled. */
static void catch_up(struct rmk_listener *listener, const struct rmk_request *request)
{
    struct rmk_bytes text = rmk_stream_text(request->stream);
    uint32_t id_count;
    const int32_t *ids = rmk_stream_ids(request->stream, &id_count);

    if (!listener->told_accepted) {
        listener->told_accepted = true;
        listener->ops->accepted(listener, request->name, request->intake->submit.prompt_rows);
    }
    if (text.size > listener->text_sent || id_count > listener->ids_sent) {
        size_t text_from = listener->text_sent;
        uint32_t ids_from = listener->ids_sent;

        listener->text_sent = text.size;
        listener->ids_sent = id_count;
        listener->ops->text(listener,
                            text.size > text_from
                                ? rmk_bytes_of(text.data + text_from, text.size - text_from)
                                : (struct rmk_bytes){0},
                            ids + ids_from, id_count - ids_from);
    }
}

/* The engine hears of slowness when nobody is left who reads: one slow reader among several only
 * misses canvases. */
static void weigh_slowness(struct rmk_requests *requests, struct rmk_request *request)
{
    struct rmk_list *link, *following;
    bool slow = !rmk_list_empty(&request->listeners);

    if (!request->accepted || request->cancelled) {
        return;
    }
    rmk_list_each(link, following, &request->listeners)
    {
        slow = slow && rmk_list_entry(link, struct rmk_listener, link)->slow;
    }
    if (slow != request->slow) {
        request->slow = slow;
        post_about(requests, slow ? RMK_EVENT_CLIENT_SLOW : RMK_EVENT_CLIENT_READY, request);
    }
}

/* One who reads may join one who does not: then the request goes on. */
static void join(struct rmk_requests *requests, struct rmk_request *request,
                 struct rmk_listener *listener)
{
    listener->request = request;
    rmk_list_append(&request->listeners, &listener->link);
    if (request->accepted) {
        catch_up(listener, request);
        weigh_slowness(requests, request);
    }
}

void rmk_requests_slow(struct rmk_requests *requests, struct rmk_listener *listener, bool slow)
{
    listener->slow = slow;
    if (listener->request != NULL) {
        weigh_slowness(requests, listener->request);
    }
}

/* Nobody wants the answer. Its id is free at once: who asks again begins anew instead of sharing
 * the cancellation. */
static void cancel(struct rmk_requests *requests, struct rmk_request *request)
{
    if (request->cancelled) {
        return;
    }
    request->cancelled = true;
    if (request->in_recall) {
        request->in_recall = false;
        rmk_recall_end(requests->recall, request->tenant, request->name, NULL);
    }
    if (request->accepted) {
        post_about(requests, RMK_EVENT_CANCEL, request);
    }
}

void rmk_requests_leave(struct rmk_requests *requests, struct rmk_listener *listener)
{
    struct rmk_request *request = listener->request;
    uint64_t total_us = rmk_clock_us() - listener->opened_us;
    struct rmk_outcome outcome = {
        .status = RMK_STATUS_CANCELLED,
        .why = "the client went away or its deadline passed",
        .request_id = request != NULL ? request->name : "",
    };

    count_end(requests, listener, outcome.status, total_us);
    log_access(listener, &outcome, total_us);
    if (listener->job != NULL) {
        listener->job->listener = NULL;
        listener->job = NULL;
    }
    if (request == NULL) {
        return;
    }
    rmk_list_remove(&listener->link);
    listener->request = NULL;
    if (rmk_list_empty(&request->listeners)) {
        cancel(requests, request);
    } else {
        weigh_slowness(requests, request);
    }
}

void rmk_requests_refuse(struct rmk_requests *requests, struct rmk_listener *listener, int status,
                         const char *why)
{
    struct rmk_outcome outcome = {.status = status, .why = why, .request_id = ""};

    count_end(requests, listener, status, 0);
    log_access(listener, &outcome, 0);
}

/* ---- opening
 * ------------------------------------------------------------------------------------------ */

static void make_name(char name[RMK_REQUEST_ID_BYTES_MAX + 1])
{
    uint64_t number = rmk_clock_us();

    /* Names need to differ, not to be secret: the clock will do when the system has no random bytes
     * yet. */
    (void)!getrandom(&number, sizeof(number), GRND_NONBLOCK);
    (void)snprintf(name, RMK_REQUEST_ID_BYTES_MAX + 1, "r-%016llx", (unsigned long long)number);
}

/* Someone asks again for what was answered a while ago. */
static void replay(struct rmk_requests *requests, struct rmk_listener *listener, const char *name,
                   struct rmk_result *result)
{
    struct rmk_outcome outcome = {.status = RMK_STATUS_OK, .result = result, .request_id = name};

    rmk_counter_add(requests->metrics->requests_recalled, 1);
    listener->ops->accepted(listener, name, result->prompt_rows);
    listener->ops->text(listener, rmk_bytes_of(result->text, result->text_size), result->ids,
                        result->id_count);
    end_listener(requests, listener, &outcome);
}

static enum rmk_err begin(struct rmk_requests *requests, struct rmk_intake_job *job,
                          const char *name, struct rmk_why *why)
{
    struct rmk_request *request = NULL;
    enum rmk_err err;

    RMK_TRY(requests->options.fits(requests->options.context, job->intake, why));
    request = calloc(1, sizeof(*request));
    if (request == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for a request");
        goto out;
    }
    RMK_TRY(rmk_stream_create(requests->served->tokenizer,
                              job->intake->submit.gen_length + job->intake->submit.suffix_count,
                              job->intake->text_stops, job->intake->text_stop_count,
                              &request->stream, why));
    (void)snprintf(request->name, sizeof(request->name), "%s", name);
    request->tenant = rmk_requests_tenant(job->listener);
    RMK_TRY(rmk_recall_begin(requests->recall, request->tenant, request->name,
                             job->intake->contents, request, why));
    request->in_recall = true;
    rmk_list_init(&request->dirty);
    rmk_list_init(&request->listeners);
    rmk_list_append(&requests->all, &request->link);
    requests->count++;
    request->intake = job->intake;
    job->intake = NULL;
    rmk_intake_adopt(request->intake);
    request->intake->submit.tag = (uint64_t)(uintptr_t)request;
    request->intake->submit.tenant = request->tenant;
    request->intake->submit.deadline_us =
        rmk_finish_deadline_us(&request->intake->submit, job->deadline_us, rmk_clock_us());
    join(requests, request, job->listener);
    rmk_loop_post(requests->loop, &(struct rmk_event){.kind = RMK_EVENT_SUBMIT,
                                                      .submit = &request->intake->submit});
    request = NULL;
out:
    if (request != NULL) {
        rmk_stream_destroy(request->stream);
        free(request);
    }
    return err;
}

/* Intake went well and the client is still there. */
static void admit(struct rmk_requests *requests, struct rmk_intake_job *job)
{
    struct rmk_listener *listener = job->listener;
    char name[RMK_REQUEST_ID_BYTES_MAX + 1];
    struct rmk_request *request = NULL;
    struct rmk_result *result = NULL;
    struct rmk_why why = {0};
    enum rmk_err err;

    if (job->ask->request_id[0] != '\0') {
        (void)snprintf(name, sizeof(name), "%s", job->ask->request_id);
    } else {
        make_name(name);
    }
    switch (rmk_recall_look(requests->recall, rmk_requests_tenant(listener), name,
                            job->intake->contents, &request, &result)) {
    case RMK_RECALLED_LIVE:
        rmk_counter_add(requests->metrics->requests_joined, 1);
        join(requests, request, listener);
        return;
    case RMK_RECALLED_FINISHED:
        replay(requests, listener, name, result);
        return;
    case RMK_RECALLED_OTHER:
        fail_listener(requests, listener, RMK_STATUS_ALREADY_EXISTS, name,
                      "request_id: was used for a request with other contents");
        return;
    case RMK_RECALLED_NEW:
        break;
    }
    if (requests->draining) {
        fail_listener(requests, listener, RMK_STATUS_UNAVAILABLE, name,
                      "the coordinator is shutting down");
        return;
    }
    err = begin(requests, job, name, &why);
    if (err != RMK_OK) {
        fail_listener(requests, listener, rmk_finish_refusal(err), name, why.text);
    }
}

static void on_intake(uv_work_t *work)
{
    struct rmk_intake_job *job = work->data;

    job->err = rmk_intake_create(job->requests->served, job->ask, &job->intake, &job->why);
}

static void on_intake_done(uv_work_t *work, int status)
{
    struct rmk_intake_job *job = work->data;
    struct rmk_requests *requests = job->requests;

    (void)status; /* jobs are never cancelled */
    requests->job_count--;
    requests->tenant_jobs[job->tenant]--;
    rmk_gauge_set(requests->metrics->intakes, requests->job_count);
    if (job->listener != NULL) {
        job->listener->job = NULL;
        rmk_histogram_observe(requests->metrics->intake_seconds,
                              (double)(rmk_clock_us() - job->listener->opened_us) / 1e6);
        if (job->err != RMK_OK) {
            fail_listener(requests, job->listener, rmk_status_of(job->err), job->ask->request_id,
                          job->why.text);
        } else {
            admit(requests, job);
        }
    }
    rmk_intake_destroy(job->intake);
    rmk_ask_destroy(job->ask);
    free(job);
}

/* No more at the door, or no more of this tenant's. */
static bool is_crowded(const struct rmk_requests *requests, uint32_t tenant)
{
    const uint32_t free_count = requests->options.intakes_max - requests->job_count;

    return free_count == 0 ||
           rmk_policy_is_hog(tenant, requests->tenant_jobs[tenant], free_count - 1);
}

void rmk_requests_open(struct rmk_requests *requests, struct rmk_ask *ask, uint64_t deadline_us,
                       struct rmk_listener *listener)
{
    struct rmk_intake_job *job = NULL;

    listener->request = NULL;
    listener->job = NULL;
    rmk_list_init(&listener->link);
    listener->opened_us = rmk_clock_us();
    listener->text_sent = 0;
    listener->ids_sent = 0;
    listener->told_accepted = false;
    listener->slow = false;
    if (requests->draining) {
        fail_listener(requests, listener, RMK_STATUS_UNAVAILABLE, ask->request_id,
                      "the coordinator is shutting down");
        goto out;
    }
    if (is_crowded(requests, rmk_requests_tenant(listener))) {
        fail_listener(requests, listener, RMK_STATUS_RESOURCE_EXHAUSTED, ask->request_id,
                      "too many requests arrive at once; try again later");
        goto out;
    }
    job = calloc(1, sizeof(*job));
    if (job == NULL) {
        fail_listener(requests, listener, RMK_STATUS_RESOURCE_EXHAUSTED, ask->request_id,
                      "no memory for a request");
        goto out;
    }
    job->work.data = job;
    job->requests = requests;
    job->listener = listener;
    job->ask = ask;
    job->deadline_us = deadline_us;
    ask = NULL;
    job->tenant = rmk_requests_tenant(listener);
    listener->job = job;
    requests->job_count++;
    requests->tenant_jobs[job->tenant]++;
    rmk_gauge_set(requests->metrics->intakes, requests->job_count);
    /* Cannot fail: libuv only queues it. */
    (void)uv_queue_work(requests->uv, &job->work, on_intake, on_intake_done);
out:
    rmk_ask_destroy(ask);
}

void rmk_requests_drain(struct rmk_requests *requests)
{
    requests->draining = true;
}

static void fail_all(struct rmk_requests *requests, struct rmk_request *request, int status,
                     const char *why)
{
    while (!rmk_list_empty(&request->listeners)) {
        fail_listener(requests, rmk_list_entry(request->listeners.next, struct rmk_listener, link),
                      status, request->name, why);
    }
}

void rmk_requests_abort(struct rmk_requests *requests, const char *why)
{
    struct rmk_list *link, *following;

    rmk_list_each(link, following, &requests->all)
    {
        struct rmk_request *request = rmk_list_entry(link, struct rmk_request, link);

        fail_all(requests, request, RMK_STATUS_UNAVAILABLE, why);
        cancel(requests, request);
    }
}

/* ---- what the engine decided
 * ------------------------------------------------------------------------------ */

struct rmk_request *rmk_requests_find(const struct rmk_requests *requests, struct rmk_request_id id)
{
    struct rmk_request *request;

    if (id.index >= requests->options.requests_max) {
        return NULL;
    }
    request = requests->by_index[id.index];
    return request != NULL && request->id.generation == id.generation ? request : NULL;
}

static void mark_dirty(struct rmk_requests *requests, struct rmk_request *request)
{
    if (rmk_list_empty(&request->dirty)) {
        rmk_list_append(&requests->dirty, &request->dirty);
    }
}

void rmk_requests_accepted(struct rmk_requests *requests, const struct rmk_action *action)
{
    struct rmk_request *request = (struct rmk_request *)(uintptr_t)action->tag;

    rmk_assert(action->request.index < requests->options.requests_max);
    rmk_assert(requests->by_index[action->request.index] == NULL);
    request->id = action->request;
    request->accepted = true;
    requests->by_index[request->id.index] = request;
    if (request->cancelled) {
        post_about(requests, RMK_EVENT_CANCEL, request);
    }
    mark_dirty(requests, request);
}

static void show_canvas(struct rmk_requests *requests, struct rmk_request *request,
                        const struct rmk_action *action)
{
    struct rmk_list *link, *following;
    struct rmk_canvas canvas = {0};
    char *text = NULL;
    size_t size = 0;

    rmk_list_each(link, following, &request->listeners)
    {
        struct rmk_listener *listener = rmk_list_entry(link, struct rmk_listener, link);

        /* A canvas is a snapshot: who cannot read it in time gets the next. */
        if (!listener->wants_canvas || listener->slow) {
            continue;
        }
        if (text == NULL) {
            if (rmk_tokenizer_decode(requests->served->tokenizer, action->emit.canvas,
                                     action->emit.gen_length, false, &text, &size,
                                     NULL) != RMK_OK) {
                return;
            }
            canvas = (struct rmk_canvas){
                .ids = action->emit.canvas,
                .id_count = action->emit.gen_length,
                .text = rmk_bytes_of(text, size),
                .block = action->emit.block,
                .step = action->emit.step,
            };
        }
        catch_up(listener, request); /* Accepted comes before any canvas */
        listener->ops->canvas(listener, &canvas);
    }
    free(text);
}

/* The request has moved to hardware that computes otherwise and begins anew. Who has had text can
 * not be told so; asking again with the same id joins what goes on. */
static void restart(struct rmk_requests *requests, struct rmk_request *request)
{
    struct rmk_list *link, *following;

    rmk_list_each(link, following, &request->listeners)
    {
        struct rmk_listener *listener = rmk_list_entry(link, struct rmk_listener, link);

        if (listener->text_sent > 0 || listener->ids_sent > 0) {
            fail_listener(
                requests, listener, RMK_STATUS_UNAVAILABLE, request->name,
                "the request had to begin anew on other hardware after text was sent; ask "
                "again with the same request id");
        }
    }
    if (rmk_list_empty(&request->listeners)) {
        cancel(requests, request);
    }
    rmk_stream_reset(request->stream);
    request->stop_reported = false;
}

void rmk_requests_emit(struct rmk_requests *requests, const struct rmk_action *action)
{
    struct rmk_request *request = rmk_requests_find(requests, action->request);
    struct rmk_why why = {0};

    if (request == NULL || request->cancelled) {
        return;
    }
    if (action->emit.commit_count == 0 && action->emit.settled_count == 0) {
        restart(requests, request);
        return;
    }
    if (rmk_stream_advance(request->stream, action->emit.canvas, action->emit.settled_count,
                           &why) != RMK_OK) {
        /* What could not be stored now is tried again with the next commit. */
        rmk_log(RMK_LOG_WARN, "stream", "text is late", "req=%s why=%s", request->name, why.text);
    }
    show_canvas(requests, request, action);
    mark_dirty(requests, request);
    if (rmk_stream_stopped(request->stream) && !request->stop_reported) {
        request->stop_reported = true;
        post_about(requests, RMK_EVENT_TEXT_STOP, request);
    }
}

void rmk_requests_flush(struct rmk_requests *requests)
{
    struct rmk_list *link, *following;

    rmk_list_each(link, following, &requests->dirty)
    {
        struct rmk_request *request = rmk_list_entry(link, struct rmk_request, dirty);
        struct rmk_list *inner, *inner_following;

        rmk_list_remove(&request->dirty);
        rmk_list_each(inner, inner_following, &request->listeners)
        {
            catch_up(rmk_list_entry(inner, struct rmk_listener, link), request);
        }
    }
}

static void count_result(struct rmk_requests *requests, uint32_t tenant,
                         const struct rmk_result *result)
{
    struct rmk_coordinator_metrics *metrics = requests->metrics;
    const uint32_t tokens = result->id_count - result->suffix_count;

    rmk_counter_add(metrics->prompt_rows, result->prompt_rows);
    rmk_counter_add(metrics->image_rows, result->image_rows);
    rmk_counter_add(metrics->completion_tokens, tokens);
    if (tenant != 0) {
        rmk_counter_add(metrics->tenants[tenant].completion_tokens, tokens);
    }
    rmk_counter_add(metrics->forwards, result->usage.forwards);
    rmk_counter_add(metrics->refreshes, result->usage.refreshes);
    rmk_counter_add(metrics->replays, result->usage.replays);
    rmk_histogram_observe(metrics->queue_seconds, (double)result->usage.queue_us / 1e6);
    rmk_histogram_observe(metrics->first_commit_seconds,
                          (double)result->usage.first_commit_us / 1e6);
    rmk_histogram_observe(metrics->compute_seconds, (double)result->usage.compute_us / 1e6);
    if (result->image_rows > 0) {
        rmk_histogram_observe(metrics->encode_seconds, (double)result->usage.encode_us / 1e6);
    }
}

void rmk_requests_finish(struct rmk_requests *requests, const struct rmk_action *action)
{
    /* By tag: a refused request never had an id. The engine finishes each exactly once. */
    struct rmk_request *request = (struct rmk_request *)(uintptr_t)action->tag;
    bool answered = rmk_finish_answers(action);
    struct rmk_outcome outcome = {.request_id = request->name};
    struct rmk_result *result = NULL;
    struct rmk_why why = {0};

    if (answered) {
        result = rmk_finish_result(request, action, &why);
        outcome.status = result != NULL ? RMK_STATUS_OK : RMK_STATUS_RESOURCE_EXHAUSTED;
    } else {
        outcome.status = rmk_finish_status(action, &why);
    }
    outcome.result = result;
    outcome.why = why.text;
    if (request->in_recall) {
        request->in_recall = false;
        rmk_recall_end(requests->recall, request->tenant, request->name, result);
    }
    if (result != NULL) {
        count_result(requests, request->tenant, result);
    }
    while (!rmk_list_empty(&request->listeners)) {
        struct rmk_listener *listener =
            rmk_list_entry(request->listeners.next, struct rmk_listener, link);

        if (result != NULL) {
            catch_up(listener, request);
        }
        end_listener(requests, listener, &outcome);
    }
    rmk_result_unref(result);
    request_free(requests, request);
}
