/* The coordinator's series, registered once; names and meanings are in docs/reference/metrics.md.
 * Modules add to the fields directly. What the engine counts itself is copied over when somebody
 * reads.
 */
#ifndef RMK_COORDINATOR_METRICS_H
#define RMK_COORDINATOR_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/metrics.h"
#include "common/rpc/rpc.h"
#include "coordinator/engine/engine.h"

struct rmk_coordinator_metrics {
    struct rmk_metrics *registry; /* borrowed */
    /* clients */
    struct rmk_counter *requests[RMK_STATUS_COUNT]; /* by gRPC status of the call's end */
    struct rmk_counter *requests_joined;
    struct rmk_counter *requests_recalled;
    struct rmk_gauge *intakes;
    struct rmk_histogram *intake_seconds;
    struct rmk_histogram *request_seconds;
    struct rmk_histogram *queue_seconds;
    struct rmk_histogram *encode_seconds;
    struct rmk_histogram *first_commit_seconds;
    struct rmk_histogram *compute_seconds;
    struct rmk_counter *prompt_rows;
    struct rmk_counter *image_rows;
    struct rmk_counter *completion_tokens;
    struct rmk_counter *forwards;
    struct rmk_counter *refreshes;
    struct rmk_counter *replays;
    struct rmk_gauge *ready;
    /* workers */
    struct rmk_gauge *links;
    struct rmk_counter *links_refused;
    struct rmk_counter *links_lost;
    struct rmk_counter *groups_formed;
    struct rmk_counter *groups_lost;
    struct rmk_histogram *step_seconds;
    struct rmk_histogram *step_compute_seconds;
    struct rmk_counter *steps_failed;
    struct rmk_counter *encodes;
    struct rmk_counter *encodes_cached;
    struct rmk_counter *encodes_failed;
    struct rmk_histogram *vision_decode_seconds;
    struct rmk_histogram *vision_encode_seconds;
    struct rmk_counter *pulls;
    struct rmk_counter *pulls_failed;
    struct rmk_histogram *pull_seconds;
    struct rmk_gauge *image_bytes;
    struct rmk_gauge *image_count;
    /* the engine's */
    struct rmk_gauge *open;
    struct rmk_gauge *queued;
    struct rmk_gauge *encoding;
    struct rmk_gauge *running;
    struct rmk_gauge *groups_up;
    struct rmk_gauge *visions_up;
    struct rmk_counter *accepted;
    struct rmk_counter *refused;
    struct rmk_counter *rounds;
    struct rmk_counter *rows;
    struct rmk_counter *commits;
    struct rmk_counter *recoveries;
};

void rmk_coordinator_metrics_init(struct rmk_coordinator_metrics *metrics,
                                  struct rmk_metrics *registry);

/* Bring the engine's own counts up to date. */
void rmk_coordinator_metrics_engine(struct rmk_coordinator_metrics *metrics,
                                    const struct rmk_engine_counts *counts);

#endif
