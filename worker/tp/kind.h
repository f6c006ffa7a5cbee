/* What a kind of communicator gives to worker/tp/comm.c. Private to this folder. */
#ifndef RMK_WORKER_TP_KIND_H
#define RMK_WORKER_TP_KIND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "worker/tp/comm.h"

/* The first bytes of every id: a text that the others must be asked to join with. */
enum { RMK_COMM_KIND_BYTES = 16 };

struct rmk_comm_ops {
    enum rmk_err (*all_reduce)(struct rmk_comm *, float *x, size_t count, struct rmk_why *why);
    enum rmk_err (*all_gather)(struct rmk_comm *, const void *in, size_t bytes, void *out,
                               struct rmk_why *why);
    enum rmk_err (*broadcast)(struct rmk_comm *, void *data, size_t bytes, uint32_t root,
                              struct rmk_why *why);
    enum rmk_err (*barrier)(struct rmk_comm *, struct rmk_why *why);
    void (*abort)(struct rmk_comm *); /* from any thread */
    void (*destroy)(struct rmk_comm *);
    bool on_device; /* all_reduce is */
};

/* Every kind's communicator begins with this. */
struct rmk_comm {
    const struct rmk_comm_ops *ops;
    uint32_t rank;
    uint32_t size;
    _Atomic bool aborted;
    _Atomic uint64_t deadline_us;
    /* The first failure, which every later call repeats. */
    enum rmk_err failed;
    struct rmk_why failed_why;
};

struct rmk_comm_kind {
    const char *name;
    /* Fill id->bytes from RMK_COMM_KIND_BYTES on. NULL: ranks of this kind need no id to meet. */
    enum rmk_err (*id_make)(struct rmk_comm_id *id, struct rmk_why *why);
    enum rmk_err (*create)(const struct rmk_comm_options *options, const struct rmk_comm_id *id,
                           struct rmk_comm **out_comm, struct rmk_why *why);
};

extern const struct rmk_comm_kind rmk_comm_self;
extern const struct rmk_comm_kind rmk_comm_cpu;
extern const struct rmk_comm_kind rmk_comm_nccl;

static inline uint64_t rmk_comm_now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

#endif
