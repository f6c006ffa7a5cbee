/* worker/tp/comm_nccl.c against a fake NCCL ($RMK_TEST_FAKE_NCCL): every rank is a thread with a
 * device whose memory is the host's and whose stream is the fake's. What only a GPU shows is in
 * tests/gpu. */
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/kernels.h"
#include "tests/support/fake_nccl.h"
#include "worker/tp/comm.h"
#include "worker/tp/kind.h"

enum { RANKS = 3, FORM_MS = 20000, PIECE = 64 };

static fake_nccl_wait_fn *wait_for_stream;
static fake_nccl_break_fn *break_comm;
static fake_nccl_set_version_fn *set_version;

/* -- a device
 * ---------------------------------------------------------------------------------------- */

static enum rmk_err device_alloc(struct rmk_device *device, size_t bytes, void **out,
                                 struct rmk_why *why)
{
    (void)device;
    (void)why;
    *out = calloc(1, bytes);
    return *out != NULL ? RMK_OK : RMK_ELIMIT;
}

static void device_free(struct rmk_device *device, void *memory)
{
    (void)device;
    free(memory);
}

/* In order with what is enqueued. */
static enum rmk_err device_copy(struct rmk_device *device, void *target, const void *source,
                                size_t bytes)
{
    wait_for_stream(device->info.stream);
    memcpy(target, source, bytes);
    return RMK_OK;
}

static const struct rmk_ops device_ops = {
    .alloc = device_alloc,
    .free = device_free,
    .upload = device_copy,
    .download = device_copy,
};

/* -- ranks
 * ------------------------------------------------------------------------------------------- */

struct rank {
    uint32_t number;
    uint32_t size;
    const struct rmk_comm_id *id;
    struct rmk_device device;
    struct rmk_comm *comm;
    pthread_t thread;
    enum rmk_err err;
    struct rmk_why why;
    float sums[100];
    uint8_t gathered[RANKS][150];
    uint8_t told[150];
};

static enum rmk_err join(struct rank *rank)
{
    rank->device = (struct rmk_device){.ops = &device_ops, .info = {.stream = &rank->device}};
    const struct rmk_comm_options options = {.kind = "nccl",
                                             .rank = rank->number,
                                             .size = rank->size,
                                             .epoch = 1,
                                             .message_bytes_max = PIECE,
                                             .form_timeout_ms = FORM_MS,
                                             .device = &rank->device};

    return rmk_comm_create(&options, rank->id, &rank->comm, &rank->why);
}

static void run(struct rank ranks[RANKS], const struct rmk_comm_id *id, void *(*body)(void *))
{
    for (uint32_t i = 0; i < RANKS; i++) {
        memset(&ranks[i], 0, sizeof(ranks[i]));
        ranks[i].number = i;
        ranks[i].size = RANKS;
        ranks[i].id = id;
        assert_int_equal(pthread_create(&ranks[i].thread, NULL, body, &ranks[i]), 0);
    }
    for (uint32_t i = 0; i < RANKS; i++) {
        assert_int_equal(pthread_join(ranks[i].thread, NULL), 0);
    }
}

static struct rank ranks[RANKS];
static struct rmk_comm_id id;

/* -- what works
 * -------------------------------------------------------------------------------------- */

static void *all_collectives(void *context)
{
    struct rank *rank = context;
    uint8_t mine[150];
    enum rmk_err err;

    RMK_TRY(join(rank));
    rmk_assert(rmk_comm_on_device(rank->comm));
    for (size_t i = 0; i < 100; i++) {
        rank->sums[i] = (float)(rank->number + i);
    }
    for (int twice = 0; twice < 2; twice++) { /* enqueued one behind the other */
        RMK_TRY(rmk_comm_all_reduce(rank->comm, rank->sums, 100, &rank->why));
    }
    memset(mine, 'a' + (int)rank->number, sizeof(mine));
    RMK_TRY(rmk_comm_all_gather(rank->comm, mine, sizeof(mine), rank->gathered, &rank->why));
    memset(rank->told, (int)rank->number, sizeof(rank->told));
    RMK_TRY(rmk_comm_broadcast(rank->comm, rank->told, sizeof(rank->told), 2, &rank->why));
    RMK_TRY(rmk_comm_barrier(rank->comm, &rank->why));
    RMK_TRY(rmk_comm_all_gather(rank->comm, NULL, 0, NULL, &rank->why));
out:
    rank->err = err;
    rmk_comm_destroy(rank->comm);
    return NULL;
}

static void collectives_move_and_sum_what_they_should_and_groups_form_again(void **state)
{
    (void)state;
    for (int epoch = 0; epoch < 2; epoch++) {
        assert_int_equal(rmk_comm_id_make("nccl", &id, NULL), RMK_OK);
        run(ranks, &id, all_collectives);
        for (size_t r = 0; r < RANKS; r++) {
            assert_string_equal(ranks[r].why.text, "");
            assert_int_equal(ranks[r].err, RMK_OK);
            for (size_t i = 0; i < 100; i++) {
                assert_true(ranks[r].sums[i] == 3.0F * (3.0F + 3.0F * (float)i));
            }
            for (size_t from = 0; from < RANKS; from++) {
                for (size_t i = 0; i < 150; i++) {
                    assert_int_equal(ranks[r].gathered[from][i], 'a' + from);
                }
            }
            for (size_t i = 0; i < 150; i++) {
                assert_int_equal(ranks[r].told[i], 2);
            }
        }
    }
}

/* -- what fails
 * -------------------------------------------------------------------------------------- */

enum blow { ABORT, BREAK, DEADLINE };
static _Atomic enum blow blow;

static void *strike(void *context)
{
    struct rank *rank = context;

    (void)usleep(30000);
    if (atomic_load(&blow) == ABORT) {
        rmk_comm_abort(rank->comm);
    } else {
        break_comm(&rank->device, 6);
    }
    return NULL;
}

/* Rank 2 comes and then does nothing: the others wait on the GPU until something ends it. */
static void *wait_for_ever(void *context)
{
    struct rank *rank = context;
    uint8_t everybodys[RANKS];
    uint8_t mine = 1;
    pthread_t striker;

    rank->err = join(rank);
    if (rank->err != RMK_OK || rank->number == 2) {
        (void)usleep(200000);
        rmk_comm_destroy(rank->comm);
        return NULL;
    }
    if (atomic_load(&blow) == DEADLINE) {
        rmk_comm_set_deadline(rank->comm, rmk_comm_now_us() + 30000);
    } else {
        (void)pthread_create(&striker, NULL, strike, rank);
    }
    (void)rmk_comm_all_reduce(rank->comm, rank->sums, 4, NULL); /* enqueued, whatever comes of it */
    rank->err = rmk_comm_all_gather(rank->comm, &mine, 1, everybodys, &rank->why);
    if (atomic_load(&blow) != DEADLINE) {
        (void)pthread_join(striker, NULL);
    }
    enum rmk_err again = rmk_comm_all_reduce(rank->comm, rank->sums, 4, NULL);
    rank->err = again == rank->err ? rank->err : RMK_EINTERNAL;
    rmk_comm_destroy(rank->comm);
    return NULL;
}

static void a_wait_on_the_gpu_ends_by_abort_error_and_deadline(void **state)
{
    static const struct {
        enum blow blow;
        enum rmk_err err;
        const char *text;
    } blows[] = {
        {ABORT, RMK_ECANCELLED, "the group was aborted"},
        {BREAK, RMK_EUNAVAILABLE, "remote process exited"},
        {DEADLINE, RMK_EDEADLINE, "the deadline passed"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(blows) / sizeof(blows[0]); i++) {
        assert_int_equal(rmk_comm_id_make("nccl", &id, NULL), RMK_OK);
        atomic_store(&blow, blows[i].blow);
        run(ranks, &id, wait_for_ever);
        for (size_t r = 0; r < 2; r++) {
            assert_int_equal(ranks[r].err, blows[i].err);
            assert_non_null(strstr(ranks[r].why.text, blows[i].text));
        }
    }
}

static void ranks_that_do_not_come_end_at_the_timeout(void **state)
{
    struct rank alone = {.size = 2, .id = &id};
    struct rmk_comm_options options = {.kind = "nccl",
                                       .size = 2,
                                       .message_bytes_max = PIECE,
                                       .form_timeout_ms = 30,
                                       .device = &alone.device};

    (void)state;
    alone.device = (struct rmk_device){.ops = &device_ops, .info = {.stream = &alone.device}};
    assert_int_equal(rmk_comm_id_make("nccl", &id, NULL), RMK_OK);
    assert_int_equal(rmk_comm_create(&options, &id, &alone.comm, &alone.why), RMK_EDEADLINE);
    assert_non_null(strstr(alone.why.text, "not all 2 ranks came"));
    options.device = NULL;
    assert_int_equal(rmk_comm_create(&options, &id, &alone.comm, &alone.why), RMK_EINVAL);
    assert_null(alone.comm);
}

/* Before any communicator: a library that was found stays. */
static void without_a_good_library_the_answer_is_a_sentence(void **state)
{
    struct rmk_why why = {0};

    (void)state;
    rmk_comm_nccl_library("/nowhere/libnccl.so.2");
    assert_int_equal(rmk_comm_id_make("nccl", &id, &why), RMK_EUNAVAILABLE);
    assert_non_null(strstr(why.text, "/nowhere/libnccl.so.2"));
    rmk_comm_nccl_library("libm.so.6");
    assert_int_equal(rmk_comm_id_make("nccl", &id, &why), RMK_EUNAVAILABLE);
    assert_non_null(strstr(why.text, "has no nccl"));
    rmk_comm_nccl_library(getenv("RMK_TEST_FAKE_NCCL"));
    set_version(21803);
    assert_int_equal(rmk_comm_id_make("nccl", &id, &why), RMK_EUNAVAILABLE);
    assert_non_null(strstr(why.text, "is version 21803"));
    set_version(22809);
    assert_int_equal(rmk_comm_id_make("nccl", &id, &why), RMK_OK);
}

/* Last: it cannot be taken back. */
static void ranks_that_share_a_gpu_need_a_library_that_can(void **state)
{
    struct rmk_why why = {0};

    (void)state;
    (void)unsetenv("NCCL_MULTI_RANK_GPU_ENABLE");
    rmk_comm_nccl_share_gpus();
    assert_string_equal(getenv("NCCL_MULTI_RANK_GPU_ENABLE"), "1");
    set_version(22809);
    assert_int_equal(rmk_comm_id_make("nccl", &id, &why), RMK_EUNAVAILABLE);
    assert_non_null(strstr(why.text, "is version 22809; several ranks on one GPU need 23000, or "
                                     "--collectives cpu"));
    set_version(23007);
    assert_int_equal(rmk_comm_id_make("nccl", &id, &why), RMK_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_good_library_the_answer_is_a_sentence),
        cmocka_unit_test(collectives_move_and_sum_what_they_should_and_groups_form_again),
        cmocka_unit_test(a_wait_on_the_gpu_ends_by_abort_error_and_deadline),
        cmocka_unit_test(ranks_that_do_not_come_end_at_the_timeout),
        cmocka_unit_test(ranks_that_share_a_gpu_need_a_library_that_can),
    };
    const char *path = getenv("RMK_TEST_FAKE_NCCL");
    void *library = path != NULL ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;

    if (library == NULL) {
        (void)fprintf(stderr, "RMK_TEST_FAKE_NCCL names no library\n");
        return 1;
    }
    *(void **)&wait_for_stream = dlsym(library, "fake_nccl_wait");
    *(void **)&break_comm = dlsym(library, "fake_nccl_break");
    *(void **)&set_version = dlsym(library, "fake_nccl_set_version");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
