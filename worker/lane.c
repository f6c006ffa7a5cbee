#include "worker/lane.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

struct rmk_lane {
    struct rmk_mailbox mailbox; /* finished jobs, to the loop */
    pthread_t thread;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t posted;
    struct rmk_lane_job *first;
    struct rmk_lane_job **last; /* where the next job is linked */
    bool closing;
};

static void *lane_main(void *context)
{
    struct rmk_lane *lane = context;

    pthread_mutex_lock(&lane->mutex);
    for (;;) {
        struct rmk_lane_job *job = lane->first;
        if (job == NULL) {
            if (lane->closing) {
                break;
            }
            pthread_cond_wait(&lane->posted, &lane->mutex);
            continue;
        }
        lane->first = job->next;
        if (lane->first == NULL) {
            lane->last = &lane->first;
        }
        pthread_mutex_unlock(&lane->mutex);
        job->run(job);
        rmk_mailbox_post(&lane->mailbox, &job->finished);
        pthread_mutex_lock(&lane->mutex);
    }
    pthread_mutex_unlock(&lane->mutex);
    return NULL;
}

static void deliver(struct rmk_mailbox_item *item, void *context)
{
    struct rmk_lane_job *job = (void *)((char *)item - offsetof(struct rmk_lane_job, finished));

    (void)context;
    job->done(job);
}

static void free_lane(void *context)
{
    struct rmk_lane *lane = context;

    pthread_mutex_destroy(&lane->mutex);
    pthread_cond_destroy(&lane->posted);
    free(lane);
}

enum rmk_err rmk_lane_create(uv_loop_t *loop, struct rmk_lane **out_lane, struct rmk_why *why)
{
    enum rmk_err err;

    struct rmk_lane *lane = calloc(1, sizeof(*lane));
    if (lane == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for a lane");
        goto out;
    }
    pthread_mutex_init(&lane->mutex, NULL);
    pthread_cond_init(&lane->posted, NULL);
    lane->last = &lane->first;
    RMK_TRY(rmk_mailbox_init(&lane->mailbox, loop, deliver, lane, why));
    if (pthread_create(&lane->thread, NULL, lane_main, lane) != 0) {
        rmk_mailbox_close(&lane->mailbox, free_lane);
        lane = NULL;
        err = rmk_fail(why, RMK_ELIMIT, "no thread for a lane");
        goto out;
    }
    *out_lane = lane;
    lane = NULL;
out:
    free(lane);
    return err;
}

void rmk_lane_post(struct rmk_lane *lane, struct rmk_lane_job *job)
{
    job->next = NULL;
    pthread_mutex_lock(&lane->mutex);
    rmk_assert(!lane->closing);
    *lane->last = job;
    lane->last = &job->next;
    pthread_cond_signal(&lane->posted);
    pthread_mutex_unlock(&lane->mutex);
}

void rmk_lane_close(struct rmk_lane *lane)
{
    if (lane == NULL) {
        return;
    }
    pthread_mutex_lock(&lane->mutex);
    lane->closing = true;
    pthread_cond_signal(&lane->posted);
    pthread_mutex_unlock(&lane->mutex);
    pthread_join(lane->thread, NULL);
    rmk_mailbox_close(&lane->mailbox, free_lane);
}
