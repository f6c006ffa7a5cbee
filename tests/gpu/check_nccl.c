/* worker/tp/comm_nccl.c against the real library, on the GPUs that are there: every collective with
 * values, a group that forms again, one whose peer does not come, and one that is aborted.
 *
 *     check-nccl [--plugin FILE] [--nccl FILE] [--ranks N] [--shared]
 *
 * A rank is a thread with a GPU to itself; without --ranks there are as many as GPUs, at most two.
 * One rank alone still goes through everything that is ours: the library's symbols, the layout of
 * its config, an init that comes back before it is done, calls that are settled, abort. --shared
 * only asks whether the library can have several ranks on one GPU. */
#include <getopt.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "worker/tp/comm.h"
#include "worker/tp/kind.h"

enum {
    RANKS_MAX = 2,
    SUM_COUNT = 32 * 4096, /* what a block step of 32 rows adds up in LLaDA-V 8B */
    SUMS = 64,             /* of one forward */
    LONG_BYTES = 3000000,  /* more than a piece */
    FORM_MS = 60000,
    ALONE_MS = 3000,
};

struct rank {
    uint32_t number;
    uint32_t size;
    uint32_t form_ms;
    const char *plugin;
    const struct rmk_comm_id *id;
    struct rmk_comm *comm;
    struct rmk_device *device;
    pthread_t thread;
    enum rmk_err err;
    struct rmk_why why;
};

static enum rmk_err open_device(const char *plugin, uint32_t index, struct rmk_device **out,
                                struct rmk_why *why)
{
    const struct rmk_device_options options = {
        .backend = "cuda", .act = RMK_F32, .device_index = index, .plugin = plugin};

    return rmk_device_create(&options, out, why);
}

static enum rmk_err join(struct rank *rank)
{
    const struct rmk_comm_options options = {.kind = "nccl",
                                             .rank = rank->number,
                                             .size = rank->size,
                                             .epoch = 1,
                                             .message_bytes_max = LONG_BYTES,
                                             .form_timeout_ms = rank->form_ms,
                                             .device = rank->device};
    const uint64_t begin_us = rmk_comm_now_us();
    enum rmk_err err = rmk_comm_create(&options, rank->id, &rank->comm, &rank->why);

    (void)printf("rank %u of %u: %s after %.1f ms%s%s\n", rank->number, rank->size,
                 err == RMK_OK ? "joined" : "did not join",
                 (double)(rmk_comm_now_us() - begin_us) * 1e-3, err == RMK_OK ? "" : ": ",
                 rank->why.text);
    return err;
}

/* -- what works
 * -------------------------------------------------------------------------------------- */

static enum rmk_err check_sums(struct rank *rank)
{
    const struct rmk_ops *ops = rank->device->ops;
    float *values = malloc(SUM_COUNT * sizeof(*values));
    float *x = NULL;
    float want = 0;
    enum rmk_err err;

    if (values == NULL) {
        err = rmk_fail(&rank->why, RMK_ELIMIT, "no memory");
        goto out;
    }
    RMK_TRY(ops->alloc(rank->device, SUM_COUNT * sizeof(*x), (void **)&x, &rank->why));
    for (uint32_t i = 0; i < SUM_COUNT; i++) {
        values[i] = (float)(rank->number + 1 + i % 7);
    }
    RMK_TRY(ops->upload(rank->device, x, values, SUM_COUNT * sizeof(*x)));
    RMK_TRY(rmk_comm_all_reduce(rank->comm, x, SUM_COUNT, &rank->why)); /* connects, too */
    RMK_TRY(ops->download(rank->device, values, x, SUM_COUNT * sizeof(*x)));
    for (uint32_t i = 0; i < SUM_COUNT; i++) {
        want = 0;
        for (uint32_t other = 0; other < rank->size; other++) {
            want += (float)(other + 1 + i % 7);
        }
        if (values[i] != want) {
            err = rmk_fail(&rank->why, RMK_EINTERNAL, "rank %u: sum %u is %g, should be %g",
                           rank->number, i, (double)values[i], (double)want);
            goto out;
        }
    }
    const uint64_t begin_us = rmk_comm_now_us();
    for (int i = 0; i < SUMS; i++) {
        RMK_TRY(rmk_comm_all_reduce(rank->comm, x, SUM_COUNT, &rank->why));
    }
    const uint64_t enqueued_us = rmk_comm_now_us();
    RMK_TRY(ops->synchronize(rank->device, &rank->why));
    (void)printf("rank %u of %u: %d sums of %d KiB: %.1f us each to enqueue, %.1f us each in all\n",
                 rank->number, rank->size, SUMS, SUM_COUNT * 4 / 1024,
                 (double)(enqueued_us - begin_us) / SUMS,
                 (double)(rmk_comm_now_us() - begin_us) / SUMS);
out:
    ops->free(rank->device, x);
    free(values);
    return err;
}

static enum rmk_err check_bytes(struct rank *rank)
{
    const uint32_t root = rank->size - 1;
    uint8_t *mine = malloc(LONG_BYTES);
    uint8_t *all = malloc((size_t)LONG_BYTES * rank->size);
    enum rmk_err err;

    if (mine == NULL || all == NULL) {
        err = rmk_fail(&rank->why, RMK_ELIMIT, "no memory");
        goto out;
    }
    for (size_t i = 0; i < LONG_BYTES; i++) {
        mine[i] = (uint8_t)(i % 251 + rank->number);
    }
    RMK_TRY(rmk_comm_all_gather(rank->comm, mine, LONG_BYTES, all, &rank->why));
    RMK_TRY(rmk_comm_broadcast(rank->comm, mine, LONG_BYTES, root, &rank->why));
    for (size_t i = 0; i < LONG_BYTES; i++) {
        bool good = mine[i] == (uint8_t)(i % 251 + root);
        for (uint32_t other = 0; other < rank->size; other++) {
            good = good && all[other * (size_t)LONG_BYTES + i] == (uint8_t)(i % 251 + other);
        }
        if (!good) {
            err = rmk_fail(&rank->why, RMK_EINTERNAL, "rank %u: byte %zu of a message is wrong",
                           rank->number, i);
            goto out;
        }
    }
    RMK_TRY(rmk_comm_barrier(rank->comm, &rank->why));
out:
    free(mine);
    free(all);
    return err;
}

/* -- what fails
 * -------------------------------------------------------------------------------------- */

static void *abort_soon(void *context)
{
    const struct timespec pause = {.tv_nsec = 100 * 1000 * 1000};

    (void)nanosleep(&pause, NULL);
    rmk_comm_abort(context);
    return NULL;
}

/* Rank 0 waits on the GPU for a peer that does nothing, until it is aborted; alone it waits for
 * the abort only. */
static enum rmk_err check_abort(struct rank *rank)
{
    uint8_t everybodys[RANKS_MAX];
    uint8_t mine = 1;
    pthread_t striker;

    if (rank->number > 0) {
        const struct timespec pause = {.tv_nsec = 500 * 1000 * 1000};
        (void)nanosleep(&pause, NULL);
        return RMK_OK;
    }
    if (pthread_create(&striker, NULL, abort_soon, rank->comm) != 0) {
        return rmk_fail(&rank->why, RMK_ELIMIT, "no thread");
    }
    if (rank->size == 1) {
        (void)pthread_join(striker, NULL);
    }
    enum rmk_err err = rmk_comm_all_gather(rank->comm, &mine, 1, everybodys, NULL);
    if (rank->size > 1) {
        (void)pthread_join(striker, NULL);
    }
    return err == RMK_ECANCELLED ? RMK_OK
                                 : rmk_fail(&rank->why, RMK_EINTERNAL,
                                            "an aborted collective says %s", rmk_err_name(err));
}

static enum rmk_err leave(struct rank *rank)
{
    struct rmk_why why = {0};

    rmk_comm_destroy(rank->comm);
    rank->comm = NULL;
    /* A kernel that was ended must leave the device as it was. */
    enum rmk_err err = rank->device->ops->synchronize(rank->device, &why);
    return err == RMK_OK ? RMK_OK : rmk_fail(&rank->why, err, "after a group: %s", why.text);
}

static void *live(void *context)
{
    struct rank *rank = context;
    enum rmk_err err;

    RMK_TRY(join(rank));
    RMK_TRY(check_sums(rank));
    RMK_TRY(check_bytes(rank));
    RMK_TRY(check_abort(rank));
out:
    rank->err = err;
    if (rank->comm != NULL) {
        err = leave(rank);
        rank->err = rank->err != RMK_OK ? rank->err : err;
    }
    return NULL;
}

/* -- groups
 * ------------------------------------------------------------------------------------------ */

static enum rmk_err run_group(struct rank *ranks, uint32_t count, struct rmk_why *why)
{
    struct rmk_comm_id id;
    enum rmk_err err;

    RMK_TRY(rmk_comm_id_make("nccl", &id, why));
    for (uint32_t i = 0; i < count; i++) {
        ranks[i].id = &id;
        ranks[i].size = count;
        ranks[i].form_ms = FORM_MS;
        if (pthread_create(&ranks[i].thread, NULL, live, &ranks[i]) != 0) {
            return rmk_fail(why, RMK_ELIMIT, "no thread"); /* the process ends */
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        (void)pthread_join(ranks[i].thread, NULL);
    }
    for (uint32_t i = 0; i < count && err == RMK_OK; i++) {
        if (ranks[i].err != RMK_OK) {
            err = rmk_fail(why, ranks[i].err, "%s", ranks[i].why.text);
        }
    }
out:
    return err;
}

/* One of two comes: an init that is under way must end, and leave the device well. */
static enum rmk_err run_alone(struct rank *rank, struct rmk_why *why)
{
    struct rmk_comm_id id;
    enum rmk_err err;

    RMK_TRY(rmk_comm_id_make("nccl", &id, why));
    rank->id = &id;
    rank->size = 2;
    rank->form_ms = ALONE_MS;
    err = join(rank);
    if (err != RMK_EDEADLINE) {
        err = rmk_fail(why, RMK_EINTERNAL, "a group whose peer does not come says %s",
                       rmk_err_name(err));
        goto out;
    }
    rank->why.text[0] = '\0';
    RMK_TRY(rank->device->ops->synchronize(rank->device, why));
out:
    return err;
}

static uint32_t open_devices(const char *plugin, struct rank *ranks, uint32_t wanted,
                             struct rmk_why *why)
{
    uint32_t count = 0;

    while (count < wanted && open_device(plugin, count, &ranks[count].device, why) == RMK_OK) {
        ranks[count].number = count;
        count++;
    }
    return count;
}

static enum rmk_err check_all(const char *plugin, uint32_t wanted)
{
    static struct rank ranks[RANKS_MAX];
    struct rmk_why why = {0};
    enum rmk_err err = RMK_OK;
    const uint32_t count = open_devices(plugin, ranks, wanted > 0 ? wanted : RANKS_MAX, &why);

    if (count == 0 || count < wanted) {
        err = RMK_EUNAVAILABLE; /* the sentence is there */
        goto out;
    }
    for (int epoch = 0; epoch < 2; epoch++) {
        RMK_TRY(run_group(ranks, count, &why));
    }
    RMK_TRY(run_alone(&ranks[0], &why));
    RMK_TRY(run_group(ranks, count, &why));
    (void)printf("check-nccl: %u rank(s): good\n", count);
out:
    for (uint32_t i = 0; i < count; i++) {
        rmk_device_destroy(ranks[i].device);
    }
    if (err != RMK_OK) {
        (void)fprintf(stderr, "check-nccl: %s: %s\n", rmk_err_name(err), why.text);
    }
    return err;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"plugin", required_argument, NULL, 'p'},
        {"nccl", required_argument, NULL, 'l'},
        {"ranks", required_argument, NULL, 'r'},
        {"shared", no_argument, NULL, 's'},
        {NULL, 0, NULL, 0},
    };
    const char *plugin = NULL;
    bool good = true;
    bool shared = false;
    unsigned long ranks = 0;
    struct rmk_comm_id id;
    struct rmk_why why = {0};
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'p':
            plugin = optarg;
            break;
        case 'l':
            rmk_comm_nccl_library(optarg);
            break;
        case 'r':
            ranks = strtoul(optarg, NULL, 10);
            good = good && ranks >= 1 && ranks <= RANKS_MAX;
            break;
        case 's':
            shared = true;
            break;
        default:
            good = false;
        }
    }
    if (!good || optind < argc) {
        (void)fprintf(stderr,
                      "usage: check-nccl [--plugin FILE] [--nccl FILE] [--ranks 1|2] [--shared]\n");
        return 2;
    }
    if (shared) {
        rmk_comm_nccl_share_gpus();
        if (rmk_comm_id_make("nccl", &id, &why) != RMK_OK) {
            (void)fprintf(stderr, "check-nccl: %s\n", why.text);
            return 1;
        }
        (void)printf("check-nccl: ranks can share a GPU\n");
        return 0;
    }
    return check_all(plugin, (uint32_t)ranks) == RMK_OK ? 0 : 1;
}
