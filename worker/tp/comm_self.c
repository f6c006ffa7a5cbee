/* One rank: every collective is the identity, but abort and deadline mean what they mean elsewhere.
 */
#include <stdlib.h>
#include <string.h>

#include "worker/tp/kind.h"

static enum rmk_err check(struct rmk_comm *comm, struct rmk_why *why)
{
    uint64_t deadline_us = atomic_load(&comm->deadline_us);

    if (atomic_load(&comm->aborted)) {
        return rmk_fail(why, RMK_ECANCELLED, "the group was aborted");
    }
    if (deadline_us != 0 && rmk_comm_now_us() > deadline_us) {
        return rmk_fail(why, RMK_EDEADLINE, "the deadline passed at rank 0");
    }
    return RMK_OK;
}

static enum rmk_err self_all_reduce(struct rmk_comm *comm, float *x, size_t count,
                                    struct rmk_why *why)
{
    (void)x;
    (void)count;
    return check(comm, why);
}

static enum rmk_err self_all_gather(struct rmk_comm *comm, const void *in, size_t bytes, void *out,
                                    struct rmk_why *why)
{
    enum rmk_err err;

    RMK_TRY(check(comm, why));
    if (bytes > 0) {
        memcpy(out, in, bytes);
    }
out:
    return err;
}

static enum rmk_err self_broadcast(struct rmk_comm *comm, void *data, size_t bytes, uint32_t root,
                                   struct rmk_why *why)
{
    (void)data;
    (void)bytes;
    (void)root;
    return check(comm, why);
}

static void self_abort(struct rmk_comm *comm)
{
    (void)comm;
}

static void self_destroy(struct rmk_comm *comm)
{
    free(comm);
}

static const struct rmk_comm_ops ops = {
    .all_reduce = self_all_reduce,
    .all_gather = self_all_gather,
    .broadcast = self_broadcast,
    .barrier = check,
    .abort = self_abort,
    .destroy = self_destroy,
};

static enum rmk_err self_create(const struct rmk_comm_options *options,
                                const struct rmk_comm_id *id, struct rmk_comm **out_comm,
                                struct rmk_why *why)
{
    (void)id;
    if (options->size != 1) {
        return rmk_fail(why, RMK_EINVAL, "a communicator of kind self has one rank, not %u",
                        options->size);
    }
    struct rmk_comm *comm = calloc(1, sizeof(*comm));
    if (comm == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for a communicator");
    }
    comm->ops = &ops;
    comm->size = 1;
    *out_comm = comm;
    return RMK_OK;
}

const struct rmk_comm_kind rmk_comm_self = {.name = "self", .create = self_create};
