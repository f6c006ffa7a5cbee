#include "kernels/cpu/pool.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPIN_COUNT = 500 }; /* some 10 microseconds: about the time between two loops of a forward */

/* `door` says who is in the current loop: the low half counts workers inside, bit 32 says that it
 * is open. A worker comes in only through an open door; the caller closes it and waits until nobody
 * is left inside. */
#define DOOR_OPEN (1ULL << 32)

struct rmk_pool {
    uint32_t thread_count;
    uint32_t started;
    pthread_t *threads; /* [thread_count - 1] */
    struct worker *workers;

    _Atomic uint32_t bell; /* rung for every loop; workers sleep on it */
    _Atomic uint32_t sleeper_count;
    _Atomic uint64_t door;
    _Atomic uint32_t
        empty; /* rung when the last worker leaves a closed door; the caller sleeps on it */
    _Atomic bool quit;

    /* The loop. Written only while the door is closed and nobody is inside. */
    rmk_pool_task *function;
    void *context;
    uint32_t task_count;
    _Atomic uint32_t task_next;
};

struct worker {
    struct rmk_pool *pool;
    uint32_t index;
};

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void sleep_while(_Atomic uint32_t *word, uint32_t value)
{
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake(_Atomic uint32_t *word, int count)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

static void work(struct rmk_pool *pool, uint32_t worker)
{
    for (;;) {
        uint32_t task = atomic_fetch_add_explicit(&pool->task_next, 1, memory_order_relaxed);
        if (task >= pool->task_count) {
            return;
        }
        pool->function(pool->context, task, worker);
    }
}

static bool enter(struct rmk_pool *pool)
{
    uint64_t door = atomic_load(&pool->door);

    while ((door & DOOR_OPEN) != 0) {
        if (atomic_compare_exchange_weak(&pool->door, &door, door + 1)) {
            return true;
        }
    }
    return false;
}

static void leave(struct rmk_pool *pool)
{
    if (atomic_fetch_sub(&pool->door, 1) == 1) { /* closed, and we were the last */
        (void)atomic_fetch_add(&pool->empty, 1);
        wake(&pool->empty, 1);
    }
}

/* Until the bell differs from `heard`. */
static uint32_t listen(struct rmk_pool *pool, uint32_t heard)
{
    for (int i = 0; i < SPIN_COUNT; i++) {
        uint32_t bell = atomic_load_explicit(&pool->bell, memory_order_acquire);
        if (bell != heard) {
            return bell;
        }
        pause_briefly();
    }
    (void)atomic_fetch_add(&pool->sleeper_count, 1);
    while (atomic_load(&pool->bell) == heard) {
        sleep_while(&pool->bell, heard);
    }
    (void)atomic_fetch_sub(&pool->sleeper_count, 1);
    return atomic_load(&pool->bell);
}

static void *run_worker(void *argument)
{
    struct worker *worker = argument;
    struct rmk_pool *pool = worker->pool;
    uint32_t heard = 0;

    for (;;) {
        heard = listen(pool, heard);
        if (atomic_load(&pool->quit)) {
            return NULL;
        }
        if (enter(pool)) {
            work(pool, worker->index);
            leave(pool);
        }
    }
}

static void ring(struct rmk_pool *pool)
{
    (void)atomic_fetch_add(&pool->bell, 1);
    if (atomic_load(&pool->sleeper_count) > 0) {
        wake(&pool->bell, INT_MAX);
    }
}

enum rmk_err rmk_pool_create(uint32_t thread_count, struct rmk_pool **out_pool, struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;

    rmk_assert(thread_count > 0);
    struct rmk_pool *pool = calloc(1, sizeof(*pool));
    if (pool == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for a thread pool");
    }
    pool->thread_count = thread_count;
    pool->threads = calloc(thread_count, sizeof(*pool->threads));
    pool->workers = calloc(thread_count, sizeof(*pool->workers));
    if (pool->threads == NULL || pool->workers == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for %u threads", thread_count);
        goto out;
    }
    for (uint32_t i = 0; i + 1 < thread_count; i++) {
        pool->workers[i] = (struct worker){.pool = pool, .index = i + 1};
        if (pthread_create(&pool->threads[i], NULL, run_worker, &pool->workers[i]) != 0) {
            err = rmk_fail(why, RMK_ELIMIT, "cannot start thread %u of %u", i + 1, thread_count);
            goto out;
        }
        pool->started++;
    }
    *out_pool = pool;
    pool = NULL;
out:
    rmk_pool_destroy(pool);
    return err;
}

void rmk_pool_destroy(struct rmk_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    atomic_store(&pool->quit, true);
    ring(pool);
    for (uint32_t i = 0; i < pool->started; i++) {
        (void)pthread_join(pool->threads[i], NULL);
    }
    free(pool->threads);
    free(pool->workers);
    free(pool);
}

uint32_t rmk_pool_thread_count(const struct rmk_pool *pool)
{
    return pool->thread_count;
}

/* Close the door and wait until nobody is inside. */
static void finish(struct rmk_pool *pool)
{
    uint64_t inside = atomic_fetch_sub(&pool->door, DOOR_OPEN) - DOOR_OPEN;

    for (int i = 0; i < SPIN_COUNT && inside != 0; i++) {
        pause_briefly();
        inside = atomic_load(&pool->door);
    }
    for (;;) {
        uint32_t empty = atomic_load(&pool->empty);
        if (atomic_load(&pool->door) == 0) {
            return;
        }
        sleep_while(&pool->empty, empty);
    }
}

void rmk_pool_run(struct rmk_pool *pool, rmk_pool_task *function, void *context,
                  uint32_t task_count)
{
    if (pool->thread_count == 1 || task_count <= 1) {
        for (uint32_t task = 0; task < task_count; task++) {
            function(context, task, 0);
        }
        return;
    }
    pool->function = function;
    pool->context = context;
    pool->task_count = task_count;
    atomic_store(&pool->task_next, 0);
    atomic_store(&pool->door, DOOR_OPEN);
    ring(pool);
    work(pool, 0);
    finish(pool);
}
