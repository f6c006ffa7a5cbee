#include "tests/golden/tool/group.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "worker/tp/comm.h"

struct rank {
    struct group *group;
    uint32_t number;
    pthread_t thread;
    struct rmk_device *device;
    struct rmk_runner *runner;
    struct rmk_comm *comm;
    enum rmk_err err;
    struct rmk_why why;
};

struct group {
    struct group_options options;
    struct rmk_comm_id id;
    struct rank *ranks;
    pthread_barrier_t begin;
    pthread_barrier_t end;
    group_fn run; /* NULL: leave */
    void *context;
};

static const char *comm_kind(const struct group_options *options)
{
    return options->size == 1 ? "self" : "cpu";
}

static enum rmk_err load(struct rank *rank)
{
    const struct group_options *options = &rank->group->options;
    struct rmk_device_options device = {
        .backend = options->backend, .act = options->act, .threads = 1, .plugin = options->plugin};
    struct rmk_comm_options comm = {
        .kind = comm_kind(options),
        .rank = rank->number,
        .size = options->size,
        .epoch = 1,
        .message_bytes_max = (size_t)1 << 20,
        .form_timeout_ms = 30000,
    };
    enum rmk_err err;

    RMK_TRY(rmk_device_create(&device, &rank->device, &rank->why));
    struct rmk_runner_options runner = {
        .spec = options->spec,
        .device = rank->device,
        .rank = rank->number,
        .size = options->size,
        .slot_count = 1,
        .rows_max = options->rows_max,
        .step_rows_max = 2 * options->rows_max,
        .reads_max = options->reads_max,
        .kv_rows_max = 2 * options->rows_max,
        .feature_rows_max = 2 * options->rows_max,
    };
    RMK_TRY(rmk_runner_create(&runner, &rank->runner, &rank->why));
    RMK_TRY(rmk_comm_create(&comm, &rank->group->id, &rank->comm, &rank->why));
    rmk_runner_set_comm(rank->runner, rank->comm);
out:
    return err;
}

static void *rank_main(void *context)
{
    struct rank *rank = context;
    struct group *group = rank->group;

    rank->err = load(rank);
    (void)pthread_barrier_wait(&group->end);
    for (;;) {
        (void)pthread_barrier_wait(&group->begin);
        if (group->run == NULL) {
            break;
        }
        rank->err = group->run(rank->runner, rank->number, group->context, &rank->why);
        (void)pthread_barrier_wait(&group->end);
    }
    rmk_runner_destroy(rank->runner);
    rmk_comm_destroy(rank->comm);
    rmk_device_destroy(rank->device);
    return NULL;
}

static enum rmk_err first_error(struct group *group, struct rmk_why *why)
{
    for (uint32_t i = 0; i < group->options.size; i++) {
        if (group->ranks[i].err != RMK_OK) {
            *why = group->ranks[i].why;
            return group->ranks[i].err;
        }
    }
    return RMK_OK;
}

enum rmk_err group_create(const struct group_options *options, struct group **out_group,
                          struct rmk_why *why)
{
    struct group *group = calloc(1, sizeof(*group));

    rmk_assert(group != NULL);
    group->options = *options;
    group->ranks = calloc(options->size, sizeof(*group->ranks));
    rmk_assert(group->ranks != NULL);
    enum rmk_err err = rmk_comm_id_make(comm_kind(options), &group->id, why);
    if (err != RMK_OK) {
        free(group->ranks);
        free(group);
        return err;
    }
    (void)pthread_barrier_init(&group->begin, NULL, options->size + 1);
    (void)pthread_barrier_init(&group->end, NULL, options->size + 1);
    for (uint32_t i = 0; i < options->size; i++) {
        group->ranks[i].group = group;
        group->ranks[i].number = i;
        int failed = pthread_create(&group->ranks[i].thread, NULL, rank_main, &group->ranks[i]);
        rmk_assert(failed == 0);
    }
    (void)pthread_barrier_wait(&group->end);
    err = first_error(group, why);
    if (err != RMK_OK) {
        group_destroy(group);
        return err;
    }
    *out_group = group;
    return RMK_OK;
}

enum rmk_err group_run(struct group *group, group_fn run, void *context, struct rmk_why *why)
{
    group->run = run;
    group->context = context;
    (void)pthread_barrier_wait(&group->begin);
    (void)pthread_barrier_wait(&group->end);
    return first_error(group, why);
}

void group_destroy(struct group *group)
{
    if (group == NULL) {
        return;
    }
    group->run = NULL;
    (void)pthread_barrier_wait(&group->begin);
    for (uint32_t i = 0; i < group->options.size; i++) {
        (void)pthread_join(group->ranks[i].thread, NULL);
    }
    (void)pthread_barrier_destroy(&group->begin);
    (void)pthread_barrier_destroy(&group->end);
    free(group->ranks);
    free(group);
}
