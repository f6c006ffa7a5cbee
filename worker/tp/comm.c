#include "worker/tp/comm.h"

#include <stdlib.h>
#include <string.h>

#include "common/limits.h"
#include "worker/tp/kind.h"

static const struct rmk_comm_kind *const kinds[] = {&rmk_comm_self, &rmk_comm_cpu, &rmk_comm_nccl};

static const struct rmk_comm_kind *find_kind(const char *name)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(kinds[i]->name, name) == 0) {
            return kinds[i];
        }
    }
    return NULL;
}

enum rmk_err rmk_comm_id_make(const char *kind, struct rmk_comm_id *out_id, struct rmk_why *why)
{
    const struct rmk_comm_kind *found = find_kind(kind);
    struct rmk_comm_id id = {0};
    enum rmk_err err = RMK_OK;

    if (found == NULL) {
        err = rmk_fail(why, RMK_EINVAL,
                       "there is no communicator of kind '%.40s': use self, cpu or nccl", kind);
        goto out;
    }
    (void)strncpy((char *)id.bytes, found->name, RMK_COMM_KIND_BYTES - 1);
    if (found->id_make != NULL) {
        RMK_TRY(found->id_make(&id, why));
    }
    *out_id = id;
out:
    return err;
}

enum rmk_err rmk_comm_create(const struct rmk_comm_options *options, const struct rmk_comm_id *id,
                             struct rmk_comm **out_comm, struct rmk_why *why)
{
    const struct rmk_comm_kind *kind = find_kind(options->kind);

    if (kind == NULL) {
        return rmk_fail(why, RMK_EINVAL,
                        "there is no communicator of kind '%.40s': use self, cpu or nccl",
                        options->kind);
    }
    if (kind->id_make != NULL &&
        strncmp((const char *)id->bytes, kind->name, RMK_COMM_KIND_BYTES) != 0) {
        return rmk_fail(why, RMK_EINVAL, "the communicator's id was not made for kind %s",
                        kind->name);
    }
    if (options->size < 1 || options->size > RMK_TP_RANKS_MAX || options->rank >= options->size) {
        return rmk_fail(why, RMK_EINVAL, "rank %u of %u: a group has 1 to %d ranks, counted from 0",
                        options->rank, options->size, RMK_TP_RANKS_MAX);
    }
    return kind->create(options, id, out_comm, why);
}

void rmk_comm_destroy(struct rmk_comm *comm)
{
    if (comm != NULL) {
        comm->ops->destroy(comm);
    }
}

void rmk_comm_abort(struct rmk_comm *comm)
{
    atomic_store(&comm->aborted, true);
    comm->ops->abort(comm);
}

uint32_t rmk_comm_rank(const struct rmk_comm *comm)
{
    return comm->rank;
}

uint32_t rmk_comm_size(const struct rmk_comm *comm)
{
    return comm->size;
}

bool rmk_comm_on_device(const struct rmk_comm *comm)
{
    return comm->ops->on_device;
}

void rmk_comm_set_deadline(struct rmk_comm *comm, uint64_t deadline_us)
{
    atomic_store(&comm->deadline_us, deadline_us);
}

/* A communicator that has failed stays failed: its ranks may be at different places. */
static enum rmk_err settle(struct rmk_comm *comm, enum rmk_err err, struct rmk_why *why)
{
    if (err != RMK_OK) {
        comm->failed = err;
        comm->failed_why = *why;
    }
    return err;
}

static enum rmk_err repeat_failure(const struct rmk_comm *comm, struct rmk_why *why)
{
    if (why != NULL) {
        *why = comm->failed_why;
    }
    return comm->failed;
}

/* One collective: skipped after a failure, and its sentence is kept even for a caller that wants
 * none. */
#define COLLECTIVE(comm, why, call)                                                                \
    do {                                                                                           \
        struct rmk_why own_why = {0};                                                              \
        if ((comm)->failed != RMK_OK) {                                                            \
            return repeat_failure(comm, why);                                                      \
        }                                                                                          \
        enum rmk_err err = settle(comm, call, &own_why);                                           \
        if (err != RMK_OK && (why) != NULL) {                                                      \
            *(why) = own_why;                                                                      \
        }                                                                                          \
        return err;                                                                                \
    } while (0)

enum rmk_err rmk_comm_all_reduce(struct rmk_comm *comm, float *x, size_t count, struct rmk_why *why)
{
    COLLECTIVE(comm, why, comm->ops->all_reduce(comm, x, count, &own_why));
}

enum rmk_err rmk_comm_all_gather(struct rmk_comm *comm, const void *in, size_t bytes, void *out,
                                 struct rmk_why *why)
{
    COLLECTIVE(comm, why, comm->ops->all_gather(comm, in, bytes, out, &own_why));
}

enum rmk_err rmk_comm_broadcast(struct rmk_comm *comm, void *data, size_t bytes, uint32_t root,
                                struct rmk_why *why)
{
    rmk_assert(root < comm->size);
    COLLECTIVE(comm, why, comm->ops->broadcast(comm, data, bytes, root, &own_why));
}

enum rmk_err rmk_comm_barrier(struct rmk_comm *comm, struct rmk_why *why)
{
    COLLECTIVE(comm, why, comm->ops->barrier(comm, &own_why));
}
