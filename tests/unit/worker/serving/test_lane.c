#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/lane.h"

enum { JOBS = 100 };

struct job {
    struct rmk_lane_job job; /* first: the lane hands it back */
    int number;
    bool ran;
    pthread_t ran_on;
};

static int done_count;
static bool in_order;
static pthread_t loop_thread;

static void run(struct rmk_lane_job *lane_job)
{
    struct job *job = (struct job *)lane_job;

    job->ran = true;
    job->ran_on = pthread_self();
}

static void done(struct rmk_lane_job *lane_job)
{
    struct job *job = (struct job *)lane_job;

    in_order = in_order && job->number == done_count && job->ran;
    assert_true(pthread_equal(pthread_self(), loop_thread));
    assert_false(pthread_equal(job->ran_on, loop_thread));
    done_count++;
}

static void jobs_run_on_the_lane_and_end_on_the_loop_in_order(void **state)
{
    struct rmk_lane *lane = NULL;
    struct job jobs[JOBS] = {{{0}}};
    uv_loop_t loop;

    (void)state;
    done_count = 0;
    in_order = true;
    loop_thread = pthread_self();
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(rmk_lane_create(&loop, &lane, NULL), RMK_OK);
    for (int i = 0; i < JOBS; i++) {
        jobs[i].job.run = run;
        jobs[i].job.done = done;
        jobs[i].number = i;
        rmk_lane_post(lane, &jobs[i].job);
    }
    while (done_count < JOBS / 2) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
    rmk_lane_close(lane); /* the rest ends inside */
    assert_int_equal(done_count, JOBS);
    assert_true(in_order);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_run_on_the_lane_and_end_on_the_loop_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
