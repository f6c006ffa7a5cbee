/* Ranks of one host over shared memory.
 *
 *     | shared | staging, turn 0: rank 0 | rank 1 | … | staging, turn 1: … | result, turn 0 |
 * result, turn 1 |
 *
 * A payload goes through in chunks; every chunk takes one turn, and after each turn all ranks meet
 * once. Turns alternate between two sets of buffers, so that nobody writes where a slower rank may
 * still be reading: whoever is one turn ahead is in the other set, and nobody can be two turns
 * ahead.
 *
 * all-reduce, turn t:   copy in chunk t    |   sum chunk t-1 (each rank a stretch of it)   |   copy
 * out chunk t-2
 *
 * Every element is summed by one rank, in rank order, so that all ranks get the same bits.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/tp/cpu_barrier.h"
#include "worker/tp/cpu_group.h"
#include "worker/tp/kind.h"

enum {
    ALIGNMENT = 64,
    /* Staging and result of a chunk stay in the second-level cache. */
    CHUNK_BYTES_MAX = 256 << 10,
    /* Up to here each rank sums everything itself, which saves one meeting. */
    SMALL_BYTES = 16 << 10,
};

enum op {
    OP_ALL_REDUCE = 1,
    OP_ALL_GATHER,
    OP_BROADCAST,
    OP_BARRIER,
};

struct cpu_comm {
    struct rmk_comm comm;
    struct rmk_cpu_group group;
    struct rmk_cpu_shared *shared;
    uint8_t *staging[2];
    float *result[2];
    size_t chunk_bytes;
    uint32_t turn; /* 0 or 1 */
};

static struct cpu_comm *cpu_of(struct rmk_comm *comm)
{
    return (struct cpu_comm *)comm;
}

/* -- meeting
 * --------------------------------------------------------------------------------------- */

/* The ranks that have not come to the barrier that failed. */
static void print_missing(const struct cpu_comm *cpu, char *out, size_t capacity)
{
    uint32_t generation = rmk_cpu_generation(cpu->shared);
    size_t used = 0;

    out[0] = '\0';
    for (uint32_t rank = 0; rank < cpu->comm.size; rank++) {
        if (atomic_load(&cpu->shared->lines[rank].arrived) != generation + 1 && used < capacity) {
            used += (size_t)snprintf(out + used, capacity - used, "%s%u",
                                     used == 0 ? ", waiting for rank " : ", ", rank);
        }
    }
}

static enum rmk_err explain(const struct cpu_comm *cpu, struct rmk_cpu_outcome outcome,
                            struct rmk_why *why)
{
    char missing[128];

    if (outcome.cause != RMK_CPU_FINE && atomic_load(&cpu->comm.aborted)) {
        return rmk_fail(why, RMK_ECANCELLED, "the group was aborted");
    }
    switch (outcome.cause) {
    case RMK_CPU_FINE:
        return RMK_OK;
    case RMK_CPU_GONE:
        return rmk_fail(why, RMK_EUNAVAILABLE, "rank %u is gone", outcome.rank);
    case RMK_CPU_LEFT:
        return rmk_fail(why, RMK_EUNAVAILABLE, "rank %u has left the group", outcome.rank);
    case RMK_CPU_ABORT:
        return rmk_fail(why, RMK_EUNAVAILABLE, "rank %u aborted the group", outcome.rank);
    case RMK_CPU_DEADLINE:
        print_missing(cpu, missing, sizeof(missing));
        return rmk_fail(why, RMK_EDEADLINE, "the deadline passed at rank %u%s", outcome.rank,
                        missing);
    case RMK_CPU_MISMATCH:
        break;
    }
    return rmk_fail(why, RMK_EINTERNAL,
                    "rank %u called another collective than rank 0, or another size", outcome.rank);
}

static enum rmk_err meet(struct cpu_comm *cpu, struct rmk_why *why)
{
    struct rmk_cpu_outcome outcome = rmk_cpu_barrier(cpu->shared, cpu->comm.rank, cpu->comm.size,
                                                     &cpu->group.watch, &cpu->comm.deadline_us);

    cpu->turn ^= 1;
    return explain(cpu, outcome, why);
}

/* The first meeting of a collective also finds out whether all ranks mean the same one. They all
 * see the same calls, so that they all come to the same verdict. */
static enum rmk_err meet_first(struct cpu_comm *cpu, enum op op, uint32_t root, uint64_t bytes,
                               struct rmk_why *why)
{
    uint32_t parity = rmk_cpu_generation(cpu->shared) & 1;
    const struct rmk_cpu_call mine = {.op = (uint32_t)op, .root = root, .bytes = bytes};
    enum rmk_err err;

    cpu->shared->lines[cpu->comm.rank].calls[parity] = mine;
    RMK_TRY(meet(cpu, why));
    const struct rmk_cpu_call *first = &cpu->shared->lines[0].calls[parity];
    for (uint32_t rank = 1; rank < cpu->comm.size; rank++) {
        if (memcmp(first, &cpu->shared->lines[rank].calls[parity], sizeof(*first)) != 0) {
            rmk_cpu_break(cpu->shared, RMK_CPU_MISMATCH, rank);
            err = explain(cpu, (struct rmk_cpu_outcome){RMK_CPU_MISMATCH, rank}, why);
            goto out;
        }
    }
out:
    return err;
}

static enum rmk_err begin(struct cpu_comm *cpu, struct rmk_why *why)
{
    uint64_t deadline_us = atomic_load(&cpu->comm.deadline_us);

    if (atomic_load(&cpu->comm.aborted)) {
        return rmk_fail(why, RMK_ECANCELLED, "the group was aborted");
    }
    if (deadline_us != 0 && rmk_comm_now_us() > deadline_us) {
        rmk_cpu_break(cpu->shared, RMK_CPU_DEADLINE, cpu->comm.rank);
        return rmk_fail(why, RMK_EDEADLINE, "the deadline passed at rank %u", cpu->comm.rank);
    }
    return RMK_OK;
}

/* -- all-reduce
 * ------------------------------------------------------------------------------------- */

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static float *staging_of(struct cpu_comm *cpu, uint32_t turn, uint32_t rank)
{
    return (float *)(void *)(cpu->staging[turn] + rank * cpu->chunk_bytes);
}

/* target[begin, end) = sum over ranks of what lies in the staging of `turn`, from rank 0 up. */
static void sum(struct cpu_comm *cpu, uint32_t turn, size_t begin, size_t end, float *target)
{
    const float *source = staging_of(cpu, turn, 0);

    memcpy(target + begin, source + begin, (end - begin) * sizeof(float));
    for (uint32_t rank = 1; rank < cpu->comm.size; rank++) {
        source = staging_of(cpu, turn, rank);
        for (size_t i = begin; i < end; i++) {
            target[i] += source[i];
        }
    }
}

static enum rmk_err reduce_small(struct cpu_comm *cpu, float *x, size_t count, struct rmk_why *why)
{
    uint32_t turn = cpu->turn;
    enum rmk_err err;

    memcpy(staging_of(cpu, turn, cpu->comm.rank), x, count * sizeof(float));
    RMK_TRY(meet_first(cpu, OP_ALL_REDUCE, 0, count * sizeof(float), why));
    sum(cpu, turn, 0, count, x);
out:
    return err;
}

static enum rmk_err reduce_large(struct cpu_comm *cpu, float *x, size_t count, struct rmk_why *why)
{
    size_t chunk = cpu->chunk_bytes / sizeof(float);
    size_t chunks = (count + chunk - 1) / chunk;
    uint32_t rank = cpu->comm.rank;
    uint32_t size = cpu->comm.size;
    enum rmk_err err = RMK_OK;

    for (size_t step = 0; step < chunks + 2; step++) {
        uint32_t turn = cpu->turn;
        if (step < chunks) {
            size_t length = smaller(chunk, count - step * chunk);
            memcpy(staging_of(cpu, turn, rank), x + step * chunk, length * sizeof(float));
        }
        if (step >= 1 && step <= chunks) {
            size_t length = smaller(chunk, count - (step - 1) * chunk);
            sum(cpu, turn ^ 1, length * rank / size, length * (rank + 1) / size,
                cpu->result[turn ^ 1]);
        }
        if (step >= 2) {
            size_t length = smaller(chunk, count - (step - 2) * chunk);
            memcpy(x + (step - 2) * chunk, cpu->result[turn], length * sizeof(float));
        }
        if (step == 0) {
            RMK_TRY(meet_first(cpu, OP_ALL_REDUCE, 0, count * sizeof(float), why));
        } else if (step <= chunks) {
            RMK_TRY(meet(cpu, why));
        }
    }
out:
    return err;
}

static enum rmk_err cpu_all_reduce(struct rmk_comm *comm, float *x, size_t count,
                                   struct rmk_why *why)
{
    struct cpu_comm *cpu = cpu_of(comm);
    enum rmk_err err;

    RMK_TRY(begin(cpu, why));
    if (count == 0) {
        RMK_TRY(meet_first(cpu, OP_ALL_REDUCE, 0, 0, why));
    } else if (count * sizeof(float) <= smaller(SMALL_BYTES, cpu->chunk_bytes)) {
        RMK_TRY(reduce_small(cpu, x, count, why));
    } else {
        RMK_TRY(reduce_large(cpu, x, count, why));
    }
out:
    return err;
}

/* -- the others
 * -------------------------------------------------------------------------------------- */

/* One chunk at a time from the staging of the ranks that speak to all; no bytes are one empty
 * chunk. */
static enum rmk_err cpu_all_gather(struct rmk_comm *comm, const void *in, size_t bytes, void *out,
                                   struct rmk_why *why)
{
    struct cpu_comm *cpu = cpu_of(comm);
    size_t done = 0;
    enum rmk_err err;

    RMK_TRY(begin(cpu, why));
    do {
        size_t length = smaller(cpu->chunk_bytes, bytes - done);
        uint32_t turn = cpu->turn;
        if (length > 0) {
            memcpy(staging_of(cpu, turn, comm->rank), (const uint8_t *)in + done, length);
        }
        RMK_TRY(done == 0 ? meet_first(cpu, OP_ALL_GATHER, 0, bytes, why) : meet(cpu, why));
        for (uint32_t rank = 0; rank < comm->size && length > 0; rank++) {
            memcpy((uint8_t *)out + rank * bytes + done, staging_of(cpu, turn, rank), length);
        }
        done += length;
    } while (done < bytes);
out:
    return err;
}

static enum rmk_err cpu_broadcast(struct rmk_comm *comm, void *data, size_t bytes, uint32_t root,
                                  struct rmk_why *why)
{
    struct cpu_comm *cpu = cpu_of(comm);
    size_t done = 0;
    enum rmk_err err;

    RMK_TRY(begin(cpu, why));
    do {
        size_t length = smaller(cpu->chunk_bytes, bytes - done);
        uint32_t turn = cpu->turn;
        if (length > 0 && comm->rank == root) {
            memcpy(staging_of(cpu, turn, root), (const uint8_t *)data + done, length);
        }
        RMK_TRY(done == 0 ? meet_first(cpu, OP_BROADCAST, root, bytes, why) : meet(cpu, why));
        if (length > 0 && comm->rank != root) {
            memcpy((uint8_t *)data + done, staging_of(cpu, turn, root), length);
        }
        done += length;
    } while (done < bytes);
out:
    return err;
}

static enum rmk_err cpu_barrier(struct rmk_comm *comm, struct rmk_why *why)
{
    struct cpu_comm *cpu = cpu_of(comm);
    enum rmk_err err;

    RMK_TRY(begin(cpu, why));
    RMK_TRY(meet_first(cpu, OP_BARRIER, 0, 0, why));
out:
    return err;
}

/* -- life -----------------------------------------------------------------------------------------
 */

static void cpu_abort(struct rmk_comm *comm)
{
    rmk_cpu_break(cpu_of(comm)->shared, RMK_CPU_ABORT, comm->rank);
}

static void cpu_destroy(struct rmk_comm *comm)
{
    struct cpu_comm *cpu = cpu_of(comm);

    rmk_cpu_break(cpu->shared, RMK_CPU_LEFT, comm->rank);
    rmk_cpu_group_leave(&cpu->group);
    free(cpu);
}

static const struct rmk_comm_ops ops = {
    .all_reduce = cpu_all_reduce,
    .all_gather = cpu_all_gather,
    .broadcast = cpu_broadcast,
    .barrier = cpu_barrier,
    .abort = cpu_abort,
    .destroy = cpu_destroy,
};

static size_t round_up(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static enum rmk_err cpu_create(const struct rmk_comm_options *options, const struct rmk_comm_id *id,
                               struct rmk_comm **out_comm, struct rmk_why *why)
{
    struct cpu_comm *cpu = calloc(1, sizeof(*cpu));
    enum rmk_err err;

    if (cpu == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for a communicator");
        goto out;
    }
    cpu->comm.ops = &ops;
    cpu->comm.rank = options->rank;
    cpu->comm.size = options->size;
    cpu->chunk_bytes = smaller(round_up(options->message_bytes_max + 1), CHUNK_BYTES_MAX);
    size_t front = round_up(sizeof(struct rmk_cpu_shared));
    size_t staging = cpu->chunk_bytes * options->size;
    RMK_TRY(rmk_cpu_group_join(options, id, front + 2 * (staging + cpu->chunk_bytes), &cpu->group,
                               why));
    cpu->shared = (struct rmk_cpu_shared *)(void *)cpu->group.memory;
    for (unsigned turn = 0; turn < 2; turn++) {
        cpu->staging[turn] = cpu->group.memory + front + turn * staging;
        cpu->result[turn] =
            (float *)(void *)(cpu->group.memory + front + 2 * staging + turn * cpu->chunk_bytes);
    }
    /* All have mapped the memory, or nobody has a communicator. */
    cpu->comm.deadline_us = rmk_comm_now_us() + options->form_timeout_ms * UINT64_C(1000);
    RMK_TRY(cpu_barrier(&cpu->comm, why));
    cpu->comm.deadline_us = 0;

    *out_comm = &cpu->comm;
    cpu = NULL;
out:
    if (cpu != NULL) {
        if (cpu->shared != NULL) {
            rmk_cpu_break(cpu->shared, RMK_CPU_LEFT, options->rank);
        }
        rmk_cpu_group_leave(&cpu->group);
        free(cpu);
    }
    return err;
}

const struct rmk_comm_kind rmk_comm_cpu = {
    .name = "cpu", .id_make = rmk_cpu_group_id_make, .create = cpu_create};
