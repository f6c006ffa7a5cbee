/* worker/tp: collectives of real processes. Every rank is a forked child that ends with 0 when it
 * saw what it should. */
#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker/tp/comm.h"

enum { RANKS_MAX = 4, FORM_MS = 10000, PATIENCE_S = 60 };

static uint64_t now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

/* -- a group of children
 * --------------------------------------------------------------------------- */

/* Shared with the children: who is ready, and a place for numbers. */
struct board {
    _Atomic uint32_t ready;
    _Atomic uint64_t time_us;
};
static struct board *board;
static struct rmk_comm_id id;

/* In a child: end with 1 and a sentence, since cmocka lives in the parent. */
#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "line %d: " #condition ": ", __LINE__);                          \
            (void)fprintf(stderr, __VA_ARGS__);                                                    \
            (void)fprintf(stderr, "\n");                                                           \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static struct rmk_comm *join_with(uint32_t rank, uint32_t size, size_t bytes)
{
    struct rmk_comm_options options = {.kind = "cpu",
                                       .rank = rank,
                                       .size = size,
                                       .epoch = 7,
                                       .message_bytes_max = bytes,
                                       .form_timeout_ms = FORM_MS};
    struct rmk_comm *comm = NULL;
    struct rmk_why why = {0};
    enum rmk_err err = rmk_comm_create(&options, &id, &comm, &why);

    CHECK(err == RMK_OK, "rank %u: %s", rank, why.text);
    return comm;
}

static void start(pid_t *pids, uint32_t size, void (*child)(uint32_t rank, uint32_t size))
{
    board->ready = 0;
    assert_int_equal(rmk_comm_id_make("cpu", &id, NULL), RMK_OK);
    (void)fflush(NULL);
    /* Rank 0 last: the others have to wait for its socket. */
    for (uint32_t i = size; i > 0; i--) {
        pids[i - 1] = fork();
        assert_true(pids[i - 1] >= 0);
        if (pids[i - 1] == 0) {
            (void)alarm(PATIENCE_S);
            child(i - 1, size);
            _exit(0);
        }
    }
}

static void ends_well(pid_t pid, uint32_t rank)
{
    int status = 0;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fail_msg("rank %u ended with status 0x%x", rank, status);
    }
}

static void run(uint32_t size, void (*child)(uint32_t rank, uint32_t size))
{
    pid_t pids[RANKS_MAX];

    start(pids, size, child);
    for (uint32_t rank = 0; rank < size; rank++) {
        ends_well(pids[rank], rank);
    }
}

static void wait_ready(uint32_t count)
{
    for (int i = 0; i < PATIENCE_S * 1000 && board->ready < count; i++) {
        (void)usleep(1000);
    }
    assert_int_equal(board->ready, count);
}

/* -- data
 * ------------------------------------------------------------------------------------------ */

/* Values whose sum depends on the order. */
static float value_of(uint32_t rank, size_t i)
{
    uint32_t x = (uint32_t)i * 2654435761u + rank * 40503u + 1;

    x ^= x >> 15;
    x *= 2246822519u;
    x ^= x >> 13;
    return ((float)(x >> 8) - 8388608.0f) * (x % 3 == 0 ? 1e-9f : 1e-3f);
}

static const size_t sizes[] = {0, 1, 7, 1000, 4096, 4097, 65536, 65537, 200000, 1500001};
enum { SIZE_COUNT = sizeof(sizes) / sizeof(sizes[0]) };

static void check_all_reduce(uint32_t rank, uint32_t size)
{
    struct rmk_comm *comm = join_with(rank, size, sizes[SIZE_COUNT - 1] * sizeof(float));
    float *x = malloc((sizes[SIZE_COUNT - 1] + 1) * sizeof(float));

    CHECK(x != NULL, "no memory");
    CHECK(rmk_comm_rank(comm) == rank, "rank");
    CHECK(rmk_comm_size(comm) == size, "size");
    /* Twice over, so that both sets of buffers see everything after everything. */
    for (int round = 0; round < 2 * SIZE_COUNT; round++) {
        size_t count = sizes[(round * 7) % SIZE_COUNT];
        struct rmk_why why = {0};
        for (size_t i = 0; i < count; i++) {
            x[i] = value_of(rank, i + (size_t)round);
        }
        x[count] = 12345.0f;
        CHECK(rmk_comm_all_reduce(comm, x, count, &why) == RMK_OK, "%s", why.text);
        for (size_t i = 0; i < count; i++) {
            float wanted = value_of(0, i + (size_t)round);
            for (uint32_t r = 1; r < size; r++) {
                wanted += value_of(r, i + (size_t)round);
            }
            CHECK(memcmp(&x[i], &wanted, sizeof(wanted)) == 0,
                  "count %zu, element %zu: %.9g, not %.9g", count, i, (double)x[i], (double)wanted);
        }
        CHECK(x[count] == 12345.0f, "wrote past the end of %zu", count);
    }
    free(x);
    rmk_comm_destroy(comm);
}

static void all_reduce_is_the_sum_in_rank_order_to_the_last_bit(void **state)
{
    (void)state;
    for (uint32_t size = 1; size <= RANKS_MAX; size++) {
        run(size, check_all_reduce);
    }
}

static uint8_t byte_of(uint32_t rank, size_t i)
{
    return (uint8_t)(i * 31 + i / 251 + rank * 97);
}

static void check_gather_and_broadcast(uint32_t rank, uint32_t size)
{
    enum { BYTES_MAX = 700001 };
    static const size_t lengths[] = {0, 1, 24, 4096, 262144, 262145, BYTES_MAX};
    struct rmk_comm *comm = join_with(rank, size, 1000); /* chunks of some 1000 bytes at most */
    uint8_t *in = malloc(BYTES_MAX);
    uint8_t *out = malloc((size_t)BYTES_MAX * RANKS_MAX);
    struct rmk_why why = {0};

    CHECK(in != NULL && out != NULL, "no memory");
    for (unsigned l = 0; l < sizeof(lengths) / sizeof(lengths[0]); l++) {
        size_t bytes = lengths[l];
        for (size_t i = 0; i < bytes; i++) {
            in[i] = byte_of(rank, i);
        }
        CHECK(rmk_comm_all_gather(comm, in, bytes, out, &why) == RMK_OK, "%s", why.text);
        for (uint32_t r = 0; r < size; r++) {
            for (size_t i = 0; i < bytes; i++) {
                CHECK(out[r * bytes + i] == byte_of(r, i), "gather of %zu: rank %u byte %zu", bytes,
                      r, i);
            }
        }
        uint32_t root = l % size;
        CHECK(rmk_comm_broadcast(comm, in, bytes, root, &why) == RMK_OK, "%s", why.text);
        for (size_t i = 0; i < bytes; i++) {
            CHECK(in[i] == byte_of(root, i), "broadcast of %zu from %u: byte %zu", bytes, root, i);
        }
        CHECK(rmk_comm_barrier(comm, &why) == RMK_OK, "%s", why.text);
    }
    free(in);
    free(out);
    rmk_comm_destroy(comm);
}

static void gather_and_broadcast_move_any_number_of_bytes(void **state)
{
    (void)state;
    for (uint32_t size = 1; size <= RANKS_MAX; size++) {
        run(size, check_gather_and_broadcast);
    }
}

static void check_many_small(uint32_t rank, uint32_t size)
{
    struct rmk_comm *comm = join_with(rank, size, 64);

    for (uint32_t i = 0; i < 70000; i++) { /* past the 16 bits of the generation */
        float x = (float)(rank + 1);
        CHECK(rmk_comm_all_reduce(comm, &x, 1, NULL) == RMK_OK, "call %u", i);
        CHECK(x == 3.0f, "call %u: %f", i, (double)x);
    }
    rmk_comm_destroy(comm);
}

static void the_generation_may_wrap_around(void **state)
{
    (void)state;
    run(2, check_many_small);
}

/* -- threads of one process -----------------------------------------------------------------------
 */

struct thread_rank {
    uint32_t rank;
    uint32_t size;
};

static void *thread_main(void *argument)
{
    const struct thread_rank *thread = argument;

    check_all_reduce(thread->rank, thread->size);
    return NULL;
}

static void check_threads(uint32_t rank, uint32_t size)
{
    pthread_t threads[RANKS_MAX];
    struct thread_rank ranks[RANKS_MAX];

    (void)rank;
    (void)size;
    for (uint32_t i = 0; i < 3; i++) {
        ranks[i] = (struct thread_rank){.rank = i, .size = 3};
        CHECK(pthread_create(&threads[i], NULL, thread_main, &ranks[i]) == 0, "no thread");
    }
    for (uint32_t i = 0; i < 3; i++) {
        (void)pthread_join(threads[i], NULL);
    }
}

static void ranks_may_be_threads_of_one_process(void **state)
{
    (void)state;
    run(1, check_threads);
}

/* -- trouble --------------------------------------------------------------------------------------
 */

/* Rank 2 gets as far as the meeting of the others and no further. */
static void lose_rank_2(uint32_t rank, uint32_t size, bool expect_deadline)
{
    struct rmk_comm *comm = join_with(rank, size, 1 << 20);
    float *x = calloc(1 << 18, sizeof(float));
    struct rmk_why why = {0};
    enum rmk_err err;

    CHECK(x != NULL, "no memory");
    CHECK(rmk_comm_all_reduce(comm, x, 1 << 18, &why) == RMK_OK, "%s", why.text);
    if (expect_deadline) {
        rmk_comm_set_deadline(comm, now_us() + 300000);
    }
    board->ready++;
    if (rank == 2) {
        for (;;) {
            (void)pause();
        }
    }
    uint64_t begin = now_us();
    err = rmk_comm_all_reduce(comm, x, 1 << 18, &why);
    if (expect_deadline) {
        CHECK(err == RMK_EDEADLINE, "%s: %s", rmk_err_name(err), why.text);
        CHECK(strstr(why.text, "waiting for rank 2") != NULL, "%s", why.text);
        CHECK(now_us() - begin < 10000000, "took too long");
    } else {
        CHECK(err == RMK_EUNAVAILABLE, "%s: %s", rmk_err_name(err), why.text);
        CHECK(strcmp(why.text, "rank 2 is gone") == 0, "%s", why.text);
        CHECK(now_us() - board->time_us < 3000000, "noticed after %llu us",
              (unsigned long long)(now_us() - board->time_us));
    }
    /* It stays failed, and says the same. */
    struct rmk_why again = {0};
    CHECK(rmk_comm_barrier(comm, &again) == err, "%s", again.text);
    CHECK(strcmp(why.text, again.text) == 0, "%s", again.text);
    CHECK(rmk_comm_all_reduce(comm, x, 1, NULL) == err, "without a sentence");
    free(x);
    rmk_comm_destroy(comm);
}

static void lose_rank_2_dead(uint32_t rank, uint32_t size)
{
    lose_rank_2(rank, size, false);
}

static void lose_rank_2_stopped(uint32_t rank, uint32_t size)
{
    lose_rank_2(rank, size, true);
}

static void a_killed_rank_is_named_within_a_second(void **state)
{
    pid_t pids[RANKS_MAX];

    (void)state;
    start(pids, 4, lose_rank_2_dead);
    wait_ready(4);
    (void)usleep(50000); /* so that the others are inside the collective */
    board->time_us = now_us();
    assert_int_equal(kill(pids[2], SIGKILL), 0);
    ends_well(pids[0], 0);
    ends_well(pids[1], 1);
    ends_well(pids[3], 3);
    assert_true(now_us() - board->time_us <
                3000000); /* a second is the aim, the rest is for a busy machine */
    assert_int_equal(waitpid(pids[2], NULL, 0), pids[2]);
}

static void a_stopped_rank_runs_into_the_deadline(void **state)
{
    pid_t pids[RANKS_MAX];

    (void)state;
    start(pids, 3, lose_rank_2_stopped);
    wait_ready(3);
    assert_int_equal(kill(pids[2], SIGSTOP), 0);
    ends_well(pids[0], 0);
    ends_well(pids[1], 1);
    assert_int_equal(kill(pids[2], SIGKILL), 0);
    assert_int_equal(waitpid(pids[2], NULL, 0), pids[2]);
}

static void *abort_soon(void *comm)
{
    (void)usleep(100000);
    rmk_comm_abort(comm);
    return NULL;
}

/* Rank 1 never comes, rank 0 aborts itself, rank 2 hears of it. */
static void check_abort(uint32_t rank, uint32_t size)
{
    struct rmk_comm *comm = join_with(rank, size, 64);
    struct rmk_why why = {0};
    pthread_t thread;
    float x = 0;

    if (rank == 1) {
        while (board->ready < 2) {
            (void)usleep(1000);
        }
        CHECK(rmk_comm_barrier(comm, &why) == RMK_EUNAVAILABLE, "%s", why.text);
    } else if (rank == 0) {
        CHECK(pthread_create(&thread, NULL, abort_soon, comm) == 0, "no thread");
        CHECK(rmk_comm_all_reduce(comm, &x, 1, &why) == RMK_ECANCELLED, "%s", why.text);
        CHECK(rmk_comm_all_reduce(comm, &x, 1, &why) == RMK_ECANCELLED, "sticky: %s", why.text);
        (void)pthread_join(thread, NULL);
        board->ready++;
    } else {
        CHECK(rmk_comm_all_reduce(comm, &x, 1, &why) == RMK_EUNAVAILABLE, "%s", why.text);
        CHECK(strcmp(why.text, "rank 0 aborted the group") == 0, "%s", why.text);
        board->ready++;
    }
    rmk_comm_destroy(comm);
}

static void abort_ends_the_call_under_way_everywhere(void **state)
{
    (void)state;
    run(3, check_abort);
}

static void check_leave(uint32_t rank, uint32_t size)
{
    struct rmk_comm *comm = join_with(rank, size, 64);
    struct rmk_why why = {0};

    CHECK(rmk_comm_barrier(comm, &why) == RMK_OK, "%s", why.text);
    if (rank == 0) {
        CHECK(rmk_comm_barrier(comm, &why) == RMK_EUNAVAILABLE, "%s", why.text);
        CHECK(strstr(why.text, "rank 1") != NULL, "%s", why.text);
    }
    rmk_comm_destroy(comm);
}

static void a_rank_that_leaves_fails_the_others(void **state)
{
    (void)state;
    run(2, check_leave);
}

static void check_mismatch(uint32_t rank, uint32_t size)
{
    struct rmk_comm *comm = join_with(rank, size, 64);
    struct rmk_why why = {0};
    float x[4] = {0};
    enum rmk_err err = rank == 1 ? rmk_comm_broadcast(comm, x, 16, 0, &why)
                                 : rmk_comm_all_reduce(comm, x, 4, &why);

    CHECK(err == RMK_EINTERNAL, "%s: %s", rmk_err_name(err), why.text);
    CHECK(strstr(why.text, "rank 1 called another collective") != NULL, "%s", why.text);
    rmk_comm_destroy(comm);
}

static void ranks_that_call_different_things_are_told(void **state)
{
    (void)state;
    run(3, check_mismatch);
}

/* -- forming
 * --------------------------------------------------------------------------------------- */

static enum rmk_err try_join(uint32_t rank, uint32_t size, uint64_t epoch, uint32_t timeout_ms,
                             struct rmk_why *why)
{
    struct rmk_comm_options options = {.kind = "cpu",
                                       .rank = rank,
                                       .size = size,
                                       .epoch = epoch,
                                       .message_bytes_max = 64,
                                       .form_timeout_ms = timeout_ms};
    struct rmk_comm *comm = NULL;
    enum rmk_err err = rmk_comm_create(&options, &id, &comm, why);

    CHECK((err == RMK_OK) == (comm != NULL), "output and code differ");
    rmk_comm_destroy(comm);
    return err;
}

/* Of four ranks only 0 and 2 come. */
static void check_missing(uint32_t rank, uint32_t size)
{
    struct rmk_why why = {0};

    (void)size;
    CHECK(try_join(rank * 2, 4, 7, 300, &why) == RMK_EDEADLINE, "%s", why.text);
    CHECK(strcmp(why.text, "rank 1 3 did not come within 300 ms") == 0, "%s", why.text);
}

static void ranks_that_do_not_come_are_named(void **state)
{
    (void)state;
    run(2, check_missing);
}

static void check_refusals(uint32_t rank, uint32_t size)
{
    struct rmk_why why = {0};

    if (rank == 0) {
        struct rmk_comm *comm = join_with(0, 2, 64);
        CHECK(rmk_comm_barrier(comm, &why) == RMK_OK, "%s", why.text);
        rmk_comm_destroy(comm);
        return;
    }
    CHECK(try_join(1, size, 8, FORM_MS, &why) == RMK_EINVAL, "%s", why.text);
    CHECK(strstr(why.text, "another epoch") != NULL, "%s", why.text);
    CHECK(try_join(1, 3, 7, FORM_MS, &why) == RMK_EINVAL, "%s", why.text);
    CHECK(strstr(why.text, "do not fit the group") != NULL, "%s", why.text);
    id.bytes[40] ^= 1; /* inside the secret: turned away without a word */
    CHECK(try_join(1, size, 7, FORM_MS, &why) == RMK_EUNAVAILABLE, "%s", why.text);
    id.bytes[40] ^= 1;
    struct rmk_comm *comm = join_with(1, 2, 64);
    CHECK(rmk_comm_barrier(comm, &why) == RMK_OK, "%s", why.text);
    rmk_comm_destroy(comm);
}

static void strangers_and_stale_ranks_are_turned_away_and_the_group_still_forms(void **state)
{
    (void)state;
    run(2, check_refusals);
}

static void nobody_listening_ends_at_the_timeout(void **state)
{
    struct rmk_comm_options options = {
        .kind = "cpu", .rank = 1, .size = 2, .message_bytes_max = 64, .form_timeout_ms = 50};
    struct rmk_comm *comm = NULL;
    struct rmk_why why = {0};

    (void)state;
    assert_int_equal(rmk_comm_id_make("cpu", &id, &why), RMK_OK);
    assert_int_equal(rmk_comm_create(&options, &id, &comm, &why), RMK_EDEADLINE);
    assert_string_equal(why.text, "rank 0 did not come within 50 ms");
    assert_null(comm);
}

static void bad_arguments_are_refused(void **state)
{
    struct rmk_comm_options options = {
        .kind = "cpu", .rank = 2, .size = 2, .message_bytes_max = 64};
    struct rmk_comm *comm = NULL;
    struct rmk_why why = {0};

    (void)state;
    assert_int_equal(rmk_comm_id_make("mpi", &id, &why), RMK_EINVAL);
    assert_int_equal(rmk_comm_id_make("cpu", &id, &why), RMK_OK);
    assert_int_equal(rmk_comm_create(&options, &id, &comm, &why), RMK_EINVAL);
    options.rank = 0;
    options.size = 1000;
    assert_int_equal(rmk_comm_create(&options, &id, &comm, &why), RMK_EINVAL);
    assert_int_equal(rmk_comm_id_make("self", &id, &why), RMK_OK);
    options.size = 1;
    assert_int_equal(rmk_comm_create(&options, &id, &comm, &why),
                     RMK_EINVAL); /* not made for cpu */
    options.kind = "self";
    options.size = 2;
    assert_int_equal(rmk_comm_create(&options, &id, &comm, &why), RMK_EINVAL);
    assert_null(comm);
}

static void alone_every_collective_is_the_identity(void **state)
{
    struct rmk_comm_options options = {.kind = "self", .size = 1};
    struct rmk_comm *comm = NULL;
    float x[2] = {1, 2};
    float y[2] = {0, 0};

    (void)state;
    assert_int_equal(rmk_comm_id_make("self", &id, NULL), RMK_OK);
    assert_int_equal(rmk_comm_create(&options, &id, &comm, NULL), RMK_OK);
    assert_int_equal(rmk_comm_all_reduce(comm, x, 2, NULL), RMK_OK);
    assert_int_equal(rmk_comm_broadcast(comm, x, sizeof(x), 0, NULL), RMK_OK);
    assert_int_equal(rmk_comm_all_gather(comm, x, sizeof(x), y, NULL), RMK_OK);
    assert_int_equal(rmk_comm_barrier(comm, NULL), RMK_OK);
    assert_true(x[0] == 1 && x[1] == 2);
    assert_true(y[0] == 1 && y[1] == 2);
    rmk_comm_set_deadline(comm, now_us() - 1);
    assert_int_equal(rmk_comm_barrier(comm, NULL), RMK_EDEADLINE);
    rmk_comm_destroy(comm);
    assert_int_equal(rmk_comm_create(&options, &id, &comm, NULL), RMK_OK);
    rmk_comm_abort(comm);
    assert_int_equal(rmk_comm_barrier(comm, NULL), RMK_ECANCELLED);
    rmk_comm_destroy(comm);
    rmk_comm_destroy(NULL);
}

/* -- nothing stays
 * ---------------------------------------------------------------------------------- */

static unsigned count_entries(const char *folder, const char *prefix)
{
    DIR *dir = opendir(folder);
    unsigned count = 0;

    if (dir == NULL) {
        return 0;
    }
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        count += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    }
    (void)closedir(dir);
    return count;
}

static void open_and_close(uint32_t rank, uint32_t size)
{
    /* The first group may open what stays open (a sanitizer's files); the second must not. */
    unsigned before = 0;

    for (int i = 0; i < 2; i++) {
        before = count_entries("/proc/self/fd", "");
        struct rmk_comm *comm = join_with(rank, size, 64);
        CHECK(rmk_comm_barrier(comm, NULL) == RMK_OK, "barrier");
        CHECK(count_entries("/dev/shm", "remask") == 0, "a name in /dev/shm");
        rmk_comm_destroy(comm);
    }
    CHECK(count_entries("/proc/self/fd", "") == before, "descriptors leak");
}

static void no_descriptor_and_no_name_stays_behind(void **state)
{
    (void)state;
    run(3, open_and_close);
    assert_int_equal(count_entries("/dev/shm", "remask"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alone_every_collective_is_the_identity),
        cmocka_unit_test(all_reduce_is_the_sum_in_rank_order_to_the_last_bit),
        cmocka_unit_test(gather_and_broadcast_move_any_number_of_bytes),
        cmocka_unit_test(the_generation_may_wrap_around),
        cmocka_unit_test(ranks_may_be_threads_of_one_process),
        cmocka_unit_test(a_killed_rank_is_named_within_a_second),
        cmocka_unit_test(a_stopped_rank_runs_into_the_deadline),
        cmocka_unit_test(abort_ends_the_call_under_way_everywhere),
        cmocka_unit_test(a_rank_that_leaves_fails_the_others),
        cmocka_unit_test(ranks_that_call_different_things_are_told),
        cmocka_unit_test(ranks_that_do_not_come_are_named),
        cmocka_unit_test(strangers_and_stale_ranks_are_turned_away_and_the_group_still_forms),
        cmocka_unit_test(nobody_listening_ends_at_the_timeout),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(no_descriptor_and_no_name_stays_behind),
    };

    board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED) {
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
