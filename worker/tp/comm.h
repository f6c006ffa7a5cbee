/* Collectives of one group of tensor-parallel ranks: one epoch of one group is one communicator.
 *
 *     self   one rank: every collective is the identity
 *     cpu    ranks of one host over shared memory; fixed rank order, fp32 accumulation:
 * bit-reproducible tcp    CPU ranks across hosts            (same door, later) nccl   GPUs, one a
 * rank; a library found at run time. Sums are in device memory and in NCCL's order, which is the
 *            same on all ranks; with more than two it may differ from one count to another
 *
 * All ranks call the same collectives in the same order with the same sizes. A call returns on
 * every rank or fails on every rank: a dead peer is noticed within a second (its socket or pidfd
 * closes), a slow one only by the deadline of the plan. After any failure the communicator is only
 * good for abort and destroy. `abort` may come from another thread at any time and makes the call
 * under way return RMK_ECANCELLED.
 */
#ifndef RMK_WORKER_TP_COMM_H
#define RMK_WORKER_TP_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct rmk_comm;
struct rmk_device;

/* Made by rank 0, carried by the coordinator to the others inside the authenticated streams. A
 * capability: who has it can join. ncclUniqueId fits (128 bytes). */
struct rmk_comm_id {
    uint8_t bytes[160];
};

struct rmk_comm_options {
    const char *kind; /* "self", "cpu", "nccl" */
    uint32_t rank;
    uint32_t size;
    uint64_t epoch;
    size_t message_bytes_max;  /* largest payload of one collective call; larger ones are chunked
                                  inside */
    uint32_t form_timeout_ms;  /* how long the others may take to come */
    struct rmk_device *device; /* nccl: the rank's GPU, borrowed; the others do not look at it */
};

/* Rank 0, before create. The name inside is random and usable by this user only. */
enum rmk_err rmk_comm_id_make(const char *kind, struct rmk_comm_id *out_id, struct rmk_why *why);

/* Blocks until all ranks are here. Errors: RMK_EDEADLINE (names the ranks that did not come),
 * RMK_EINVAL, RMK_EUNAVAILABLE. Leaves nothing behind in /dev/shm, not even when every rank is
 * killed after it. */
enum rmk_err rmk_comm_create(const struct rmk_comm_options *options, const struct rmk_comm_id *id,
                             struct rmk_comm **out_comm, struct rmk_why *why);
void rmk_comm_destroy(struct rmk_comm *comm);

/* Thread-safe; sticky. */
void rmk_comm_abort(struct rmk_comm *comm);

uint32_t rmk_comm_rank(const struct rmk_comm *comm);
uint32_t rmk_comm_size(const struct rmk_comm *comm);

/* Absolute CLOCK_MONOTONIC microseconds after which collectives fail with RMK_EDEADLINE; 0: none.
 */
void rmk_comm_set_deadline(struct rmk_comm *comm, uint64_t deadline_us);

/* Where x of all_reduce lies: true: in memory of options.device, and the sum is enqueued behind the
 * device's ops without waiting (a failure may show only at a later call); false: in host memory.
 * The other collectives are on host memory and wait. */
bool rmk_comm_on_device(const struct rmk_comm *comm);

/* The NCCL library to use instead of the system's libnccl.so.2; before the first communicator, kept
 * by the caller. */
void rmk_comm_nccl_library(const char *path);

/* Several ranks have one GPU, which NCCL has to be told, and can be from version 2.30 on; older
 * ones then answer RMK_EUNAVAILABLE. Sets an environment variable: before there are threads. */
void rmk_comm_nccl_share_gpus(void);

/* x = sum over ranks, in rank order, fp32. In place. */
enum rmk_err rmk_comm_all_reduce(struct rmk_comm *comm, float *x, size_t count,
                                 struct rmk_why *why);

/* out [size][bytes] in rank order. `in` must not lie inside `out`. */
enum rmk_err rmk_comm_all_gather(struct rmk_comm *comm, const void *in, size_t bytes, void *out,
                                 struct rmk_why *why);

enum rmk_err rmk_comm_broadcast(struct rmk_comm *comm, void *data, size_t bytes, uint32_t root,
                                struct rmk_why *why);

enum rmk_err rmk_comm_barrier(struct rmk_comm *comm, struct rmk_why *why);

#endif
