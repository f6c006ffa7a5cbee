/* A group of runners in one process, one thread a rank, for tests of worker/text. */
#ifndef RMK_TESTS_SUPPORT_TEXT_GROUP_H
#define RMK_TESTS_SUPPORT_TEXT_GROUP_H

#include <pthread.h>
#include <string.h>

#include "kernels/kernels.h"
#include "worker/text/runner.h"
#include "worker/tp/comm.h"

enum { TEXT_GROUP_MAX = 5 };

struct text_rank {
    uint32_t rank;
    uint32_t size;
    struct rmk_device *device;
    struct rmk_comm *comm;
    struct rmk_runner *runner;
    struct rmk_why why;
    /* of the call under way */
    enum rmk_err (*call)(struct text_rank *, void *);
    void *argument;
    enum rmk_err err;
};

struct text_group {
    uint32_t size;
    struct rmk_device_options device;
    struct rmk_runner_options runner;
    struct rmk_comm_id id;
    struct text_rank ranks[TEXT_GROUP_MAX];
};

static inline void *text_group_thread(void *argument)
{
    struct text_rank *rank = argument;

    rank->err = rank->call(rank, rank->argument);
    return NULL;
}

/* The same call on every rank at once; the first error. */
static inline enum rmk_err text_group_call(struct text_group *group,
                                           enum rmk_err (*call)(struct text_rank *, void *),
                                           void *argument)
{
    pthread_t threads[TEXT_GROUP_MAX];
    enum rmk_err err = RMK_OK;

    for (uint32_t i = 0; i < group->size; i++) {
        struct text_rank *rank = &group->ranks[i];
        rank->call = call;
        rank->argument = argument;
        rank->why = (struct rmk_why){0};
        (void)pthread_create(&threads[i], NULL, text_group_thread, rank);
    }
    for (uint32_t i = 0; i < group->size; i++) {
        (void)pthread_join(threads[i], NULL);
        err = err == RMK_OK ? group->ranks[i].err : err;
    }
    return err;
}

static inline enum rmk_err text_group_create_rank(struct text_rank *rank, void *argument)
{
    struct text_group *group = argument;
    struct rmk_comm_options comm = {.kind = group->size == 1 ? "self" : "cpu",
                                    .rank = rank->rank,
                                    .size = group->size,
                                    .message_bytes_max = 1 << 16,
                                    .form_timeout_ms = 20000};
    struct rmk_runner_options runner = group->runner;
    struct rmk_why *why = &rank->why;
    enum rmk_err err;

    RMK_TRY(rmk_device_create(&group->device, &rank->device, why));
    runner.device = rank->device;
    runner.rank = rank->rank;
    runner.size = group->size;
    RMK_TRY(rmk_runner_create(&runner, &rank->runner, why));
    RMK_TRY(rmk_comm_create(&comm, &group->id, &rank->comm, why));
    rmk_runner_set_comm(rank->runner, rank->comm);
out:
    return err;
}

/* group->device and group->runner are filled in but for device, rank and size. */
static inline enum rmk_err text_group_create(struct text_group *group, uint32_t size)
{
    group->size = size;
    for (uint32_t i = 0; i < size; i++) {
        group->ranks[i] = (struct text_rank){.rank = i, .size = size};
    }
    if (rmk_comm_id_make(size == 1 ? "self" : "cpu", &group->id, NULL) != RMK_OK) {
        return RMK_EINTERNAL;
    }
    return text_group_call(group, text_group_create_rank, group);
}

static inline void text_group_destroy(struct text_group *group)
{
    for (uint32_t i = 0; i < group->size; i++) {
        struct text_rank *rank = &group->ranks[i];
        rmk_runner_destroy(rank->runner);
        rmk_comm_destroy(rank->comm);
        rmk_device_destroy(rank->device);
        *rank = (struct text_rank){0};
    }
}

/* The sentence of the first rank that failed. */
static inline const char *text_group_why(const struct text_group *group)
{
    for (uint32_t i = 0; i < group->size; i++) {
        if (group->ranks[i].err != RMK_OK) {
            return group->ranks[i].why.text;
        }
    }
    return "no error";
}

#endif
