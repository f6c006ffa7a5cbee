#include "coordinator/metrics.h"

static struct rmk_histogram *seconds(struct rmk_metrics *registry, const char *name,
                                     const char *help)
{
    return rmk_metrics_histogram(registry, name, help, NULL, rmk_metrics_seconds,
                                 rmk_metrics_seconds_count);
}

static void init_clients(struct rmk_coordinator_metrics *m, struct rmk_metrics *r)
{
    for (int status = 0; status < RMK_STATUS_COUNT; status++) {
        m->requests[status] = rmk_metrics_counter(
            r, "remask_requests_total", "Client calls that have ended, by gRPC status.",
            (const char *[]){"status", rmk_status_name(status), NULL});
    }
    m->requests_joined = rmk_metrics_counter(
        r, "remask_requests_joined_total",
        "Client calls that joined a request under way by its request id.", NULL);
    m->requests_recalled = rmk_metrics_counter(
        r, "remask_requests_recalled_total",
        "Client calls that were answered with a stored result by their request id.", NULL);
    m->intakes = rmk_metrics_gauge(r, "remask_intakes",
                                   "Requests being checked and tokenized on pool threads.", NULL);
    m->intake_seconds =
        seconds(r, "remask_intake_seconds", "Arrival of a request to its intake's end.");
    m->request_seconds =
        seconds(r, "remask_request_seconds", "Arrival of a client call to its end.");
    m->queue_seconds =
        seconds(r, "remask_request_queue_seconds", "Submission of a request to its first round.");
    m->encode_seconds =
        seconds(r, "remask_request_encode_seconds",
                "Submission of a request with pictures to all features being ready.");
    m->first_commit_seconds = seconds(r, "remask_request_first_commit_seconds",
                                      "Submission of a request to its first committed token.");
    m->compute_seconds = seconds(r, "remask_request_compute_seconds",
                                 "Sum of a request's rounds as workers measure them.");
    m->prompt_rows =
        rmk_metrics_counter(r, "remask_prompt_rows_total",
                            "Prompt rows of answered requests, picture rows included.", NULL);
    m->image_rows = rmk_metrics_counter(r, "remask_image_rows_total",
                                        "Picture rows of answered requests.", NULL);
    m->completion_tokens = rmk_metrics_counter(r, "remask_completion_tokens_total",
                                               "Generated tokens of answered requests.", NULL);
    m->forwards = rmk_metrics_counter(r, "remask_forwards_total",
                                      "Model evaluations of answered requests.", NULL);
    m->refreshes =
        rmk_metrics_counter(r, "remask_refreshes_total",
                            "Of these, evaluations over every position of the request.", NULL);
    m->replays =
        rmk_metrics_counter(r, "remask_replays_total",
                            "Evaluations run again without the head to rebuild a cache.", NULL);
    m->ready = rmk_metrics_gauge(r, "remask_ready", "1 when requests can be served, else 0.", NULL);
}

static void init_workers(struct rmk_coordinator_metrics *m, struct rmk_metrics *r)
{
    m->links = rmk_metrics_gauge(r, "remask_workers_attached", "Worker processes attached.", NULL);
    m->links_refused = rmk_metrics_counter(r, "remask_workers_refused_total",
                                           "Attachments refused at their Hello.", NULL);
    m->links_lost =
        rmk_metrics_counter(r, "remask_workers_lost_total", "Attachments that have ended.", NULL);
    m->groups_formed = rmk_metrics_counter(r, "remask_group_epochs_total",
                                           "Epochs that text groups have formed.", NULL);
    m->groups_lost = rmk_metrics_counter(r, "remask_group_losses_total",
                                         "Formed epochs of text groups that have ended.", NULL);
    m->step_seconds = seconds(r, "remask_step_seconds",
                              "A plan's way to a text group and its result's way back.");
    m->step_compute_seconds =
        seconds(r, "remask_step_compute_seconds", "A plan as the group measures it.");
    m->steps_failed = rmk_metrics_counter(r, "remask_steps_failed_total",
                                          "Plans that a living group refused.", NULL);
    m->encodes =
        rmk_metrics_counter(r, "remask_vision_encodes_total", "Pictures and videos encoded.", NULL);
    m->encodes_cached = rmk_metrics_counter(r, "remask_vision_encodes_cached_total",
                                            "Encodes answered from a vision worker's cache.", NULL);
    m->encodes_failed =
        rmk_metrics_counter(r, "remask_vision_encodes_failed_total", "Encodes that failed.", NULL);
    m->vision_decode_seconds = seconds(r, "remask_vision_decode_seconds",
                                       "Decoding and tiling of an item, not from the cache.");
    m->vision_encode_seconds = seconds(r, "remask_vision_encode_seconds",
                                       "Tower and projector of an item, not from the cache.");
    m->pulls = rmk_metrics_counter(r, "remask_features_pulls_total",
                                   "Feature transfers from vision to text workers.", NULL);
    m->pulls_failed = rmk_metrics_counter(r, "remask_features_pulls_failed_total",
                                          "Feature transfers that failed.", NULL);
    m->pull_seconds = seconds(r, "remask_features_pull_seconds", "A feature transfer.");
    m->image_bytes = rmk_metrics_gauge(r, "remask_image_bytes",
                                       "Bytes of pictures held for open requests.", NULL);
    m->image_count =
        rmk_metrics_gauge(r, "remask_images", "Pictures held for open requests.", NULL);
}

static void init_engine(struct rmk_coordinator_metrics *m, struct rmk_metrics *r)
{
    m->open =
        rmk_metrics_gauge(r, "remask_requests_open", "Requests accepted and not finished.", NULL);
    m->queued =
        rmk_metrics_gauge(r, "remask_requests_waiting", "Open requests not yet on a group.", NULL);
    m->encoding = rmk_metrics_gauge(r, "remask_requests_encoding",
                                    "Open requests whose pictures are being encoded.", NULL);
    m->running = rmk_metrics_gauge(r, "remask_requests_running", "Open requests on a group.", NULL);
    m->groups_up = rmk_metrics_gauge(r, "remask_groups_up", "Text groups that are up.", NULL);
    m->visions_up =
        rmk_metrics_gauge(r, "remask_visions_up", "Vision workers that are attached.", NULL);
    m->accepted = rmk_metrics_counter(r, "remask_accepted_total", "Requests accepted.", NULL);
    m->refused = rmk_metrics_counter(r, "remask_refused_total", "Requests refused for load.", NULL);
    m->rounds =
        rmk_metrics_counter(r, "remask_rounds_total", "Rounds: plans answered by a group.", NULL);
    m->rows = rmk_metrics_counter(r, "remask_rows_total", "Rows of these plans.", NULL);
    m->commits = rmk_metrics_counter(r, "remask_commits_total", "Tokens committed.", NULL);
    m->recoveries =
        rmk_metrics_counter(r, "remask_recoveries_total",
                            "Times a request was carried over the loss of a worker.", NULL);
}

void rmk_coordinator_metrics_init(struct rmk_coordinator_metrics *metrics,
                                  struct rmk_metrics *registry)
{
    metrics->registry = registry;
    rmk_gauge_set(rmk_metrics_gauge(registry, "remask_build_info", "1, labelled with the version.",
                                    (const char *[]){"version", RMK_VERSION, NULL}),
                  1);
    init_clients(metrics, registry);
    init_workers(metrics, registry);
    init_engine(metrics, registry);
}

/* Counters only grow by adding; the engine's counts are sums. */
static void catch_up(struct rmk_counter *counter, uint64_t sum)
{
    rmk_counter_add(counter, sum - rmk_counter_value(counter));
}

void rmk_coordinator_metrics_engine(struct rmk_coordinator_metrics *metrics,
                                    const struct rmk_engine_counts *counts)
{
    rmk_gauge_set(metrics->open, counts->open);
    rmk_gauge_set(metrics->queued, counts->queued);
    rmk_gauge_set(metrics->encoding, counts->encoding);
    rmk_gauge_set(metrics->running, counts->running);
    rmk_gauge_set(metrics->groups_up, counts->groups_up);
    rmk_gauge_set(metrics->visions_up, counts->visions_up);
    catch_up(metrics->accepted, counts->accepted);
    catch_up(metrics->refused, counts->refused);
    catch_up(metrics->rounds, counts->rounds);
    catch_up(metrics->rows, counts->rows);
    catch_up(metrics->commits, counts->commits);
    catch_up(metrics->recoveries, counts->recoveries);
}
