/* The barrier under worker/tp/comm_cpu.c: where ranks meet, and where they agree that one of them
 * failed.
 *
 * Everything hangs on one word in shared memory,
 *
 *     state = generation (16 bits) | rank (8 bits) | cause (8 bits)
 *
 * which either advances to the next generation or takes a cause, never both: whoever changes it
 * first decides for all ranks. So a barrier succeeds everywhere or nowhere, even when a deadline
 * passes on one rank in the very moment when the last one arrives. A cause is final.
 */
#ifndef RMK_WORKER_TP_CPU_BARRIER_H
#define RMK_WORKER_TP_CPU_BARRIER_H

#include <poll.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/limits.h"

enum rmk_cpu_cause {
    RMK_CPU_FINE = 0,
    RMK_CPU_GONE,     /* the rank's process ended */
    RMK_CPU_LEFT,     /* the rank destroyed its communicator */
    RMK_CPU_DEADLINE, /* the rank's deadline passed while it waited */
    RMK_CPU_ABORT,    /* the rank was told to abort */
    RMK_CPU_MISMATCH, /* the rank called another collective than rank 0 */
};

/* What a rank is about to do; compared at the first meeting of each collective. */
struct rmk_cpu_call {
    uint32_t op;
    uint32_t root;
    uint64_t bytes;
};

struct rmk_cpu_line {
    alignas(64) _Atomic uint32_t arrived; /* generation + 1 of the last barrier this rank came to */
    struct rmk_cpu_call calls[2];         /* by parity of the generation */
};

/* At the front of the shared memory; zero is its beginning. */
struct rmk_cpu_shared {
    alignas(64) _Atomic uint32_t state;
    _Atomic uint32_t sleepers;
    alignas(64) _Atomic uint32_t count; /* ranks that have come to the present barrier */
    struct rmk_cpu_line lines[RMK_TP_RANKS_MAX];
};

/* Descriptors that become readable when a rank ends: its pidfd, its socket. */
struct rmk_cpu_watch {
    struct pollfd fds[2 * RMK_TP_RANKS_MAX];
    uint8_t ranks[2 * RMK_TP_RANKS_MAX];
    uint32_t count;
};

struct rmk_cpu_outcome {
    enum rmk_cpu_cause cause;
    uint32_t rank;
};

uint32_t rmk_cpu_generation(const struct rmk_cpu_shared *shared);

/* Wait until all `size` ranks are here. */
struct rmk_cpu_outcome rmk_cpu_barrier(struct rmk_cpu_shared *shared, uint32_t rank, uint32_t size,
                                       struct rmk_cpu_watch *watch,
                                       const _Atomic uint64_t *deadline_us);

/* Let every present and later barrier fail. From any thread. The first cause stays. */
void rmk_cpu_break(struct rmk_cpu_shared *shared, enum rmk_cpu_cause cause, uint32_t rank);

#endif
