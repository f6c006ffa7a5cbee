/* A lane: one thread that does slow things (device work, collectives) in order, for a loop that
 * must not wait.
 *
 *     loop ── rmk_lane_post(job) ──► thread: job->run ── mailbox ──► loop: job->done
 *
 * Jobs are embedded in the poster's own structs, run one at a time in the order posted, and their
 * `done` is called on the loop in the same order.
 */
#ifndef RMK_WORKER_LANE_H
#define RMK_WORKER_LANE_H

#include <uv.h>

#include "common/err.h"
#include "common/rpc/mailbox.h"

struct rmk_lane;

struct rmk_lane_job {
    void (*run)(struct rmk_lane_job *job);  /* on the lane's thread */
    void (*done)(struct rmk_lane_job *job); /* on the loop; may free the job */
    struct rmk_lane_job *next;
    struct rmk_mailbox_item finished;
};

enum rmk_err rmk_lane_create(uv_loop_t *loop, struct rmk_lane **out_lane, struct rmk_why *why);

void rmk_lane_post(struct rmk_lane *lane, struct rmk_lane_job *job);

/* Lets posted jobs finish and joins the thread (so no job may block for ever); calls the `done`s
 * that are left, and frees the lane when the loop has closed its handle. Takes NULL. */
void rmk_lane_close(struct rmk_lane *lane);

#endif
