/* A libuv loop for tests: turns until something has come, and gives up loudly after a minute. */
#ifndef TESTS_SUPPORT_LOOP_H
#define TESTS_SUPPORT_LOOP_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <uv.h>

#include "common/err.h"

enum { TEST_LOOP_PATIENCE_MS = 60000 };

struct test_loop {
    uv_loop_t loop;
    uv_timer_t guard;
};

static inline void test_loop_give_up(uv_timer_t *timer)
{
    (void)timer;
    (void)fprintf(stderr, "waited %d ms for something that did not come\n", TEST_LOOP_PATIENCE_MS);
    abort();
}

static inline void test_loop_init(struct test_loop *test)
{
    rmk_assert(uv_loop_init(&test->loop) == 0);
    rmk_assert(uv_timer_init(&test->loop, &test->guard) == 0);
    rmk_assert(uv_timer_start(&test->guard, test_loop_give_up, TEST_LOOP_PATIENCE_MS, 0) == 0);
    uv_unref((uv_handle_t *)&test->guard);
}

/* Not 0 when a handle was left open. */
static inline int test_loop_close(struct test_loop *test)
{
    uv_close((uv_handle_t *)&test->guard, NULL);
    (void)uv_run(&test->loop, UV_RUN_DEFAULT);
    return uv_loop_close(&test->loop);
}

#define test_loop_while(test, condition)                                                           \
    do {                                                                                           \
        while (condition) {                                                                        \
            (void)uv_run(&(test)->loop, UV_RUN_ONCE);                                              \
        }                                                                                          \
    } while (0)

/* For `closed` callbacks: sets the bool that is their context. */
static inline void test_loop_set(void *flag)
{
    *(bool *)flag = true;
}

static inline void test_loop_timer_set(uv_timer_t *timer)
{
    test_loop_set(timer->data);
}

static inline void test_loop_for_ms(struct test_loop *test, uint64_t ms)
{
    bool over = false;
    uv_timer_t timer;

    rmk_assert(uv_timer_init(&test->loop, &timer) == 0);
    timer.data = &over;
    rmk_assert(uv_timer_start(&timer, test_loop_timer_set, ms, 0) == 0);
    test_loop_while(test, !over);
    uv_close((uv_handle_t *)&timer, NULL);
    (void)uv_run(&test->loop, UV_RUN_NOWAIT);
}

#endif
