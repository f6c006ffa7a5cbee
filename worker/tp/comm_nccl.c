/* GPUs, one a rank, through NCCL.
 *
 * The sum is on device memory, enqueued behind the device's ops; nobody waits for it. The others
 * are on host memory, as everywhere: they pass through scratch on the device, and the copy back is
 * where the host waits for the GPU.
 *
 * A peer that dies leaves a kernel of ours waiting on the GPU for ever, and with it whoever waits
 * for the stream. So a watchdog looks at the communicator every few milliseconds: on NCCL's own
 * error, on abort, and on a deadline that passes while something is under way, it calls
 * ncclCommAbort, which ends those kernels. What the step computes from then on means nothing; the
 * next collective says so, and every step ends with one.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/limits.h"
#include "kernels/kernels.h"
#include "worker/tp/kind.h"
#include "worker/tp/nccl.h"

enum {
    PIECE_BYTES_MAX = 1 << 20,
    WATCH_MS = 5,
    POLL_US = 20,
    POLLS_AT_ONCE = 200, /* before each is a sleep, which takes 50 us longer than it should */
};

struct nccl_comm {
    struct rmk_comm comm;
    const struct rmk_nccl *nccl;
    struct rmk_device *device;
    uint8_t *scratch; /* on the device: [1 + size][piece_bytes], the first is ours */
    size_t piece_bytes;
    _Atomic bool under_way; /* something was enqueued and not yet waited for */

    pthread_mutex_t mutex; /* all below */
    pthread_cond_t changed;
    rmk_nccl_handle handle; /* NULL once aborted */
    enum rmk_err cause;     /* why it was */
    struct rmk_why cause_why;
    bool leaving;
    bool watching; /* the watchdog has the GPU */
    bool watched;
    pthread_t watchdog;
};

static struct nccl_comm *nccl_of(struct rmk_comm *comm)
{
    return (struct nccl_comm *)comm;
}

/* -- failing
 * ----------------------------------------------------------------------------------------- */

/* With the mutex. The first cause stays. */
static void give_up(struct nccl_comm *n, enum rmk_err err, const char *text)
{
    if (n->handle == NULL) {
        return;
    }
    n->cause = rmk_fail(&n->cause_why, err, "%s", text);
    (void)n->nccl->abort(n->handle);
    n->handle = NULL;
}

/* With the mutex. */
static void give_up_on_result(struct nccl_comm *n, int result)
{
    char text[256];

    if (n->handle == NULL) {
        return;
    }
    (void)snprintf(text, sizeof(text), "NCCL at rank %u: %s (%.160s)", n->comm.rank,
                   n->nccl->error_string(result), n->nccl->last_error(n->handle));
    give_up(n, RMK_EUNAVAILABLE, text);
}

/* With the mutex: what the watchdog looks at. */
static void look(struct nccl_comm *n)
{
    const uint64_t deadline_us = atomic_load(&n->comm.deadline_us);
    int result = RMK_NCCL_SUCCESS;
    char text[64];

    if (atomic_load(&n->comm.aborted)) {
        give_up(n, RMK_ECANCELLED, "the group was aborted");
        return;
    }
    if (deadline_us != 0 && atomic_load(&n->under_way) && rmk_comm_now_us() > deadline_us) {
        (void)snprintf(text, sizeof(text), "the deadline passed at rank %u", n->comm.rank);
        give_up(n, RMK_EDEADLINE, text);
        return;
    }
    int called = n->nccl->get_async_error(n->handle, &result);
    if (called != RMK_NCCL_SUCCESS) {
        give_up_on_result(n, called);
    } else if (result != RMK_NCCL_SUCCESS && result != RMK_NCCL_IN_PROGRESS) {
        give_up_on_result(n, result);
    }
}

static void *watch(void *context)
{
    struct nccl_comm *n = context;

    /* Nothing is copied, but the GPU is this thread's from now on. ncclCommAbort goes back to the
     * one it found, which would be the first of the machine otherwise, with a context made there.
     */
    (void)n->device->ops->upload(n->device, n->scratch, n, 0);
    (void)pthread_mutex_lock(&n->mutex);
    n->watching = true;
    (void)pthread_cond_broadcast(&n->changed);
    while (!n->leaving && n->handle != NULL) {
        const uint64_t next_us = rmk_comm_now_us() + WATCH_MS * 1000u;
        const struct timespec next = {.tv_sec = (time_t)(next_us / 1000000u),
                                      .tv_nsec = (long)(next_us % 1000000u) * 1000};
        look(n);
        if (n->handle != NULL) {
            (void)pthread_cond_timedwait(&n->changed, &n->mutex, &next);
        }
    }
    (void)pthread_mutex_unlock(&n->mutex);
    return NULL;
}

/* Whether it is still good; else why not. */
static enum rmk_err verdict(struct nccl_comm *n, struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;

    (void)pthread_mutex_lock(&n->mutex);
    if (n->handle == NULL) {
        err = rmk_fail(why, n->cause, "%s", n->cause_why.text);
    }
    (void)pthread_mutex_unlock(&n->mutex);
    return err;
}

/* -- calls
 * ------------------------------------------------------------------------------------------- */

static void pause_shortly(void)
{
    const struct timespec pause = {.tv_nsec = POLL_US * 1000};

    (void)nanosleep(&pause, NULL);
}

/* What is enqueued takes tens of microseconds and comes twice a layer; connecting takes long. */
static void pause_between(uint32_t polls)
{
    if (polls < POLLS_AT_ONCE) {
        (void)sched_yield();
    } else {
        pause_shortly();
    }
}

/* A non-blocking communicator takes the next call only when it is through with the last: enqueued,
 * not computed. */
static enum rmk_err settle(struct nccl_comm *n, int result, struct rmk_why *why)
{
    uint32_t polls = 0;

    (void)pthread_mutex_lock(&n->mutex);
    while (n->handle != NULL && result == RMK_NCCL_IN_PROGRESS) {
        (void)pthread_mutex_unlock(&n->mutex);
        pause_between(polls++);
        (void)pthread_mutex_lock(&n->mutex);
        look(n);
        if (n->handle != NULL) {
            int called = n->nccl->get_async_error(n->handle, &result);
            result = called == RMK_NCCL_SUCCESS ? result : called;
        }
    }
    if (n->handle != NULL && result != RMK_NCCL_SUCCESS) {
        give_up_on_result(n, result);
    }
    (void)pthread_mutex_unlock(&n->mutex);
    return verdict(n, why);
}

enum verb { SUM, GATHER, SEND };

struct call {
    enum verb verb;
    const void *in;
    void *out;
    size_t count; /* floats of a sum, bytes of the others */
    uint32_t root;
};

static int issue(struct nccl_comm *n, const struct call *call)
{
    void *stream = n->device->info.stream;

    switch (call->verb) {
    case SUM:
        return n->nccl->all_reduce(call->in, call->out, call->count, RMK_NCCL_FLOAT32, RMK_NCCL_SUM,
                                   n->handle, stream);
    case GATHER:
        return n->nccl->all_gather(call->in, call->out, call->count, RMK_NCCL_INT8, n->handle,
                                   stream);
    case SEND:
        break;
    }
    return n->nccl->broadcast(call->in, call->out, call->count, RMK_NCCL_INT8, (int)call->root,
                              n->handle, stream);
}

static enum rmk_err enqueue(struct nccl_comm *n, const struct call *call, struct rmk_why *why)
{
    int result = RMK_NCCL_SUCCESS;

    (void)pthread_mutex_lock(&n->mutex);
    if (n->handle != NULL) {
        atomic_store(&n->under_way, true);
        result = issue(n, call);
    }
    (void)pthread_mutex_unlock(&n->mutex);
    return settle(n, result, why);
}

static enum rmk_err begin(struct nccl_comm *n, struct rmk_why *why)
{
    const uint64_t deadline_us = atomic_load(&n->comm.deadline_us);
    char text[64];

    (void)pthread_mutex_lock(&n->mutex);
    if (atomic_load(&n->comm.aborted)) {
        give_up(n, RMK_ECANCELLED, "the group was aborted");
    } else if (deadline_us != 0 && rmk_comm_now_us() > deadline_us) {
        (void)snprintf(text, sizeof(text), "the deadline passed at rank %u", n->comm.rank);
        give_up(n, RMK_EDEADLINE, text);
    }
    (void)pthread_mutex_unlock(&n->mutex);
    return verdict(n, why);
}

/* -- collectives
 * ------------------------------------------------------------------------------------- */

static enum rmk_err nccl_all_reduce(struct rmk_comm *comm, float *x, size_t count,
                                    struct rmk_why *why)
{
    struct nccl_comm *n = nccl_of(comm);
    enum rmk_err err;

    RMK_TRY(begin(n, why));
    if (count > 0) {
        RMK_TRY(enqueue(n, &(struct call){.verb = SUM, .in = x, .out = x, .count = count}, why));
    }
out:
    return err;
}

static enum rmk_err to_device(struct nccl_comm *n, const void *source, size_t bytes,
                              struct rmk_why *why)
{
    enum rmk_err err = n->device->ops->upload(n->device, n->scratch, source, bytes);

    return err == RMK_OK ? err : rmk_fail(why, err, "the device took no bytes for a collective");
}

/* Waits for the GPU. If the communicator was aborted meanwhile, the bytes mean nothing. */
static enum rmk_err from_device(struct nccl_comm *n, void *target, const uint8_t *source,
                                size_t bytes, struct rmk_why *why)
{
    enum rmk_err err = n->device->ops->download(n->device, target, source, bytes);
    enum rmk_err broken = verdict(n, why);

    if (broken != RMK_OK) {
        return broken;
    }
    atomic_store(&n->under_way, false);
    return err == RMK_OK ? err : rmk_fail(why, err, "the device gave no bytes of a collective");
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static enum rmk_err nccl_all_gather(struct rmk_comm *comm, const void *in, size_t bytes, void *out,
                                    struct rmk_why *why)
{
    struct nccl_comm *n = nccl_of(comm);
    uint8_t *everybodys = n->scratch + n->piece_bytes;
    enum rmk_err err;

    RMK_TRY(begin(n, why));
    for (size_t done = 0; done < bytes; done += n->piece_bytes) {
        const size_t length = smaller(n->piece_bytes, bytes - done);
        const struct call call = {
            .verb = GATHER, .in = n->scratch, .out = everybodys, .count = length};
        RMK_TRY(to_device(n, (const uint8_t *)in + done, length, why));
        RMK_TRY(enqueue(n, &call, why));
        for (uint32_t rank = 0; rank < comm->size; rank++) {
            RMK_TRY(from_device(n, (uint8_t *)out + rank * bytes + done, everybodys + rank * length,
                                length, why));
        }
    }
out:
    return err;
}

static enum rmk_err nccl_broadcast(struct rmk_comm *comm, void *data, size_t bytes, uint32_t root,
                                   struct rmk_why *why)
{
    struct nccl_comm *n = nccl_of(comm);
    enum rmk_err err;

    RMK_TRY(begin(n, why));
    for (size_t done = 0; done < bytes; done += n->piece_bytes) {
        const size_t length = smaller(n->piece_bytes, bytes - done);
        const struct call call = {
            .verb = SEND, .in = n->scratch, .out = n->scratch, .count = length, .root = root};
        if (comm->rank == root) {
            RMK_TRY(to_device(n, (const uint8_t *)data + done, length, why));
        }
        RMK_TRY(enqueue(n, &call, why));
        RMK_TRY(from_device(n, (uint8_t *)data + done, n->scratch, length, why));
    }
out:
    return err;
}

static enum rmk_err nccl_barrier(struct rmk_comm *comm, struct rmk_why *why)
{
    uint8_t everybodys[RMK_TP_RANKS_MAX];
    const uint8_t mine = 1;

    return nccl_all_gather(comm, &mine, sizeof(mine), everybodys, why);
}

/* -- life
 * -------------------------------------------------------------------------------------------- */

static void nccl_abort(struct rmk_comm *comm)
{
    struct nccl_comm *n = nccl_of(comm);

    /* The watchdog does it: whoever aborts must not wait for the GPU. */
    (void)pthread_mutex_lock(&n->mutex);
    (void)pthread_cond_signal(&n->changed);
    (void)pthread_mutex_unlock(&n->mutex);
}

static void nccl_destroy(struct rmk_comm *comm)
{
    struct nccl_comm *n = nccl_of(comm);

    (void)pthread_mutex_lock(&n->mutex);
    n->leaving = true;
    /* Aborted even when all is well: it frees everything, and waits for no peer as an orderly end
     * would. */
    give_up(n, RMK_ECANCELLED, "the group has ended");
    (void)pthread_cond_signal(&n->changed);
    (void)pthread_mutex_unlock(&n->mutex);
    if (n->watched) {
        (void)pthread_join(n->watchdog, NULL);
    }
    if (n->scratch != NULL) {
        n->device->ops->free(n->device, n->scratch);
    }
    (void)pthread_cond_destroy(&n->changed);
    (void)pthread_mutex_destroy(&n->mutex);
    free(n);
}

static const struct rmk_comm_ops ops = {
    .all_reduce = nccl_all_reduce,
    .all_gather = nccl_all_gather,
    .broadcast = nccl_broadcast,
    .barrier = nccl_barrier,
    .abort = nccl_abort,
    .destroy = nccl_destroy,
    .on_device = true,
};

static enum rmk_err nccl_id_make(struct rmk_comm_id *id, struct rmk_why *why)
{
    const struct rmk_nccl *nccl = NULL;
    struct rmk_nccl_id made;
    enum rmk_err err;

    RMK_TRY(rmk_nccl_load(&nccl, why));
    int result = nccl->get_unique_id(&made);
    if (result != RMK_NCCL_SUCCESS) {
        err = rmk_fail(why, RMK_EUNAVAILABLE, "NCCL makes no id: %s", nccl->error_string(result));
        goto out;
    }
    _Static_assert(RMK_COMM_KIND_BYTES + sizeof(made) <= sizeof(id->bytes), "an id has room");
    memcpy(id->bytes + RMK_COMM_KIND_BYTES, &made, sizeof(made));
out:
    return err;
}

static void init_locks(struct nccl_comm *n)
{
    pthread_condattr_t attributes;

    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&n->mutex, NULL);
    (void)pthread_cond_init(&n->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
}

/* Starts and comes back at once; then the communicator is asked until all ranks are there. */
static enum rmk_err join(struct nccl_comm *n, const struct rmk_comm_options *options,
                         const struct rmk_comm_id *id, struct rmk_why *why)
{
    const uint64_t end_us = rmk_comm_now_us() + options->form_timeout_ms * UINT64_C(1000);
    struct rmk_nccl_config config = rmk_nccl_config();
    struct rmk_nccl_id wanted;

    memcpy(&wanted, id->bytes + RMK_COMM_KIND_BYTES, sizeof(wanted));
    int result = n->nccl->init_rank_config(&n->handle, (int)options->size, wanted,
                                           (int)options->rank, &config);
    while (result == RMK_NCCL_IN_PROGRESS) {
        if (rmk_comm_now_us() > end_us) {
            return rmk_fail(why, RMK_EDEADLINE,
                            "not all %u ranks came to NCCL within %u ms (rank %u waited)",
                            options->size, options->form_timeout_ms, options->rank);
        }
        pause_shortly();
        int called = n->nccl->get_async_error(n->handle, &result);
        result = called == RMK_NCCL_SUCCESS ? result : called;
    }
    if (result != RMK_NCCL_SUCCESS) {
        return rmk_fail(why, RMK_EUNAVAILABLE,
                        "NCCL did not form the group at rank %u: %s (%.160s)", options->rank,
                        n->nccl->error_string(result), n->nccl->last_error(n->handle));
    }
    return RMK_OK;
}

static enum rmk_err nccl_create(const struct rmk_comm_options *options,
                                const struct rmk_comm_id *id, struct rmk_comm **out_comm,
                                struct rmk_why *why)
{
    const struct rmk_nccl *nccl = NULL;
    struct nccl_comm *n = NULL;
    enum rmk_err err;

    if (options->device == NULL || options->device->info.stream == NULL) {
        err = rmk_fail(why, RMK_EINVAL, "a communicator of kind nccl needs a GPU");
        goto out;
    }
    RMK_TRY(rmk_nccl_load(&nccl, why));
    n = calloc(1, sizeof(*n));
    if (n == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for a communicator");
        goto out;
    }
    init_locks(n);
    n->comm.ops = &ops;
    n->comm.rank = options->rank;
    n->comm.size = options->size;
    n->nccl = nccl;
    n->device = options->device;
    n->piece_bytes = smaller(options->message_bytes_max + 1, PIECE_BYTES_MAX);
    /* The first op on this thread also makes the GPU its current one, which NCCL goes by. */
    RMK_TRY(n->device->ops->alloc(n->device, n->piece_bytes * (1 + (size_t)options->size),
                                  (void **)&n->scratch, why));
    RMK_TRY(join(n, options, id, why));
    if (pthread_create(&n->watchdog, NULL, watch, n) != 0) {
        err = rmk_fail(why, RMK_ELIMIT, "no thread to watch a communicator");
        goto out;
    }
    n->watched = true;
    (void)pthread_mutex_lock(&n->mutex);
    while (!n->watching) { /* ops of a device come from one thread at a time */
        (void)pthread_cond_wait(&n->changed, &n->mutex);
    }
    (void)pthread_mutex_unlock(&n->mutex);
    *out_comm = &n->comm;
    n = NULL;
out:
    if (n != NULL) {
        nccl_destroy(&n->comm);
    }
    return err;
}

const struct rmk_comm_kind rmk_comm_nccl = {
    .name = "nccl", .id_make = nccl_id_make, .create = nccl_create};
