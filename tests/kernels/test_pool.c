#include "kernels/cpu/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <unistd.h>

#include <cmocka.h>

enum {
    THREADS = 4,
    TASKS_MAX = 300,
};

struct count {
    _Atomic uint32_t runs[TASKS_MAX];
    _Atomic uint32_t inside[THREADS]; /* calls running now under this worker number */
    _Atomic bool clash;
};

static void count_task(void *context, uint32_t task, uint32_t worker)
{
    struct count *count = context;

    if (atomic_fetch_add(&count->inside[worker], 1) != 0) {
        atomic_store(&count->clash, true);
    }
    (void)atomic_fetch_add(&count->runs[task], 1);
    (void)atomic_fetch_sub(&count->inside[worker], 1);
}

static void run_loops(uint32_t threads, int loops)
{
    static const uint32_t sizes[] = {0, 1, 2, 3, 7, 64, TASKS_MAX};
    struct rmk_pool *pool = NULL;
    struct rmk_why why = {0};
    struct count count;

    assert_int_equal(rmk_pool_create(threads, &pool, &why), RMK_OK);
    assert_int_equal(rmk_pool_thread_count(pool), threads);
    for (int loop = 0; loop < loops; loop++) {
        uint32_t tasks = sizes[(size_t)loop % (sizeof(sizes) / sizeof(sizes[0]))];
        memset(&count, 0, sizeof(count));
        rmk_pool_run(pool, count_task, &count, tasks);
        for (uint32_t task = 0; task < TASKS_MAX; task++) {
            assert_int_equal(atomic_load(&count.runs[task]), task < tasks ? 1 : 0);
        }
        assert_false(atomic_load(&count.clash));
        if (loop % 500 == 499) {
            (void)usleep(300); /* long enough for the workers to fall asleep */
        }
    }
    rmk_pool_destroy(pool);
}

static void every_task_runs_once_and_no_two_share_a_worker(void **state)
{
    (void)state;
    run_loops(1, 50);
    run_loops(2, 4000);
    run_loops(THREADS, 4000);
}

static void a_pool_that_never_ran_ends(void **state)
{
    struct rmk_pool *pool = NULL;

    (void)state;
    for (int i = 0; i < 50; i++) {
        assert_int_equal(rmk_pool_create(THREADS, &pool, NULL), RMK_OK);
        rmk_pool_destroy(pool);
    }
    rmk_pool_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_runs_once_and_no_two_share_a_worker),
        cmocka_unit_test(a_pool_that_never_ran_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
