#include "worker/tp/cpu_barrier.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/err.h"
#include "worker/tp/kind.h"

enum {
    /* Some 10 to 40 µs: a rank that is that late will be later still, and its core may be needed.
     */
    SPINS = 1000,
    /* How long a waiting rank sleeps before it looks after the others and the clock: a fraction of
     * the second within which a death is to be noticed. */
    SLICE_US = 20000,
};

static uint32_t generation_of(uint32_t state)
{
    return state >> 16;
}

static struct rmk_cpu_outcome outcome_of(uint32_t state)
{
    return (struct rmk_cpu_outcome){.cause = (enum rmk_cpu_cause)(state & 0xff),
                                    .rank = (state >> 8) & 0xff};
}

uint32_t rmk_cpu_generation(const struct rmk_cpu_shared *shared)
{
    return generation_of(atomic_load(&shared->state));
}

static void wake(struct rmk_cpu_shared *shared)
{
    if (atomic_load(&shared->sleepers) > 0) {
        (void)syscall(SYS_futex, &shared->state, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    }
}

/* Not the private futex operations: the word is shared by processes. */
static void sleep_while(struct rmk_cpu_shared *shared, uint32_t state, uint64_t us)
{
    struct timespec time = {.tv_sec = (time_t)(us / 1000000),
                            .tv_nsec = (long)(us % 1000000) * 1000};

    atomic_fetch_add(&shared->sleepers, 1);
    (void)syscall(SYS_futex, &shared->state, FUTEX_WAIT, state, &time, NULL, 0);
    atomic_fetch_sub(&shared->sleepers, 1);
}

/* Advance from `generation` unless there is a cause. */
static void advance(struct rmk_cpu_shared *shared, uint32_t generation)
{
    uint32_t expected = generation << 16;

    if (atomic_compare_exchange_strong(&shared->state, &expected, (generation + 1) << 16)) {
        wake(shared);
    }
}

/* Put a cause into `generation`, unless it has ended or has one. */
static void fail(struct rmk_cpu_shared *shared, uint32_t generation, enum rmk_cpu_cause cause,
                 uint32_t rank)
{
    uint32_t expected = generation << 16;

    if (atomic_compare_exchange_strong(&shared->state, &expected,
                                       generation << 16 | rank << 8 | (uint32_t)cause)) {
        wake(shared);
    }
}

void rmk_cpu_break(struct rmk_cpu_shared *shared, enum rmk_cpu_cause cause, uint32_t rank)
{
    uint32_t state = atomic_load(&shared->state);

    while (outcome_of(state).cause == RMK_CPU_FINE) {
        if (atomic_compare_exchange_weak(&shared->state, &state,
                                         state | rank << 8 | (uint32_t)cause)) {
            wake(shared);
            return;
        }
    }
}

/* The rank of a descriptor that says its owner has ended; -1: all live. */
static int find_dead(struct rmk_cpu_watch *watch)
{
    if (poll(watch->fds, watch->count, 0) <= 0) {
        return -1;
    }
    for (uint32_t i = 0; i < watch->count; i++) {
        if (watch->fds[i].revents != 0) {
            return watch->ranks[i];
        }
    }
    return -1;
}

static void pause_core(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

struct rmk_cpu_outcome rmk_cpu_barrier(struct rmk_cpu_shared *shared, uint32_t rank, uint32_t size,
                                       struct rmk_cpu_watch *watch,
                                       const _Atomic uint64_t *deadline_us)
{
    uint32_t state = atomic_load(&shared->state);
    uint32_t generation = generation_of(state);

    if (outcome_of(state).cause != RMK_CPU_FINE) {
        return outcome_of(state);
    }
    atomic_store_explicit(&shared->lines[rank].arrived, generation + 1, memory_order_relaxed);
    if (atomic_fetch_add(&shared->count, 1) == size - 1) {
        /* Before the advance: the next barrier begins to count right after it. */
        atomic_store(&shared->count, 0);
        advance(shared, generation);
    }
    for (uint32_t spin = 0;; spin++) {
        state = atomic_load(&shared->state);
        if (generation_of(state) != generation) {
            return (struct rmk_cpu_outcome){RMK_CPU_FINE, 0};
        }
        if (outcome_of(state).cause != RMK_CPU_FINE) {
            return outcome_of(state);
        }
        if (spin < SPINS) {
            pause_core();
            continue;
        }
        uint64_t deadline = atomic_load(deadline_us);
        uint64_t now = rmk_comm_now_us();
        if (deadline != 0 && now >= deadline) {
            fail(shared, generation, RMK_CPU_DEADLINE, rank);
            continue;
        }
        int dead = find_dead(watch);
        if (dead >= 0) {
            fail(shared, generation, RMK_CPU_GONE, (uint32_t)dead);
            continue;
        }
        uint64_t slice = deadline != 0 && deadline - now < SLICE_US ? deadline - now : SLICE_US;
        sleep_while(shared, state, slice);
    }
}
