/* Features on their way into a group, from a real server of features: what waits for room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/loop.h"
#include "worker/text/staging.h"
#include "worker/vision/pull.h"

enum {
    WIDTH = 4,
    ROWS = 10,
    BYTES = ROWS * WIDTH * sizeof(float),
    PICTURES = 4,
    EVENTS_MAX = 16,
};

static struct test_loop test;
static struct rmk_rpc *rpc;
static struct rmk_rpc_server *server;
static struct rmk_feature_cache *cache;
static struct rmk_staging *staging;
static char address[32];
static struct {
    uint32_t resident_count;
    uint64_t residents[EVENTS_MAX]; /* request * 10 + item */
    uint32_t failed_count;
    uint64_t failed;
    char why[256];
} seen;

static void on_resident(void *context, const struct rmk_staging_item *item, uint64_t pull_us)
{
    (void)context;
    (void)pull_us;
    assert_true(seen.resident_count < EVENTS_MAX);
    seen.residents[seen.resident_count++] = item->request * 10 + item->item;
}

static void on_failed(void *context, const struct rmk_staging_item *item, enum rmk_err err,
                      const char *why)
{
    (void)context;
    assert_int_not_equal(err, RMK_OK);
    seen.failed_count++;
    seen.failed = item->request * 10 + item->item;
    (void)snprintf(seen.why, sizeof(seen.why), "%s", why);
}

/* Picture i has rows full of i; the room is for two. */
static int begin(void **state)
{
    static const struct rmk_staging_events events = {.on_resident = on_resident,
                                                     .on_failed = on_failed};
    static const struct rmk_rpc_options options = {0};

    (void)state;
    memset(&seen, 0, sizeof(seen));
    test_loop_init(&test);
    assert_int_equal(rmk_rpc_create(&test.loop, &rpc, NULL), RMK_OK);
    assert_int_equal(rmk_feature_cache_create((uint64_t)PICTURES * BYTES, &cache, NULL), RMK_OK);
    const struct rmk_rpc_method method = {"/remask.cluster.v1.Features/Pull", rmk_pull_serve,
                                          cache};
    assert_int_equal(rmk_rpc_server_create(rpc, "127.0.0.1:0", &options, &method, 1, &server, NULL),
                     RMK_OK);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", rmk_rpc_server_port(server));
    for (uint8_t picture = 0; picture < PICTURES; picture++) {
        struct rmk_feature_entry entry = {.key = {picture}, .row_count = ROWS, .width = WIDTH};
        entry.rows = malloc(BYTES);
        assert_non_null(entry.rows);
        for (uint32_t i = 0; i < ROWS * WIDTH; i++) {
            entry.rows[i] = picture;
        }
        assert_int_equal(rmk_feature_cache_put(cache, &entry, NULL), RMK_OK);
    }
    assert_int_equal(
        rmk_staging_create(rpc, &options, WIDTH, 2 * BYTES, &events, NULL, &staging, NULL), RMK_OK);
    return 0;
}

static int end(void **state)
{
    bool closed = false;

    (void)state;
    rmk_staging_destroy(staging);
    rmk_rpc_close(rpc, test_loop_set, &closed);
    test_loop_while(&test, !closed);
    rmk_feature_cache_destroy(cache);
    return test_loop_close(&test);
}

static void prefetch(uint64_t request, uint32_t item, uint8_t picture, uint32_t rows)
{
    const struct rmk_staging_item what = {
        .request = request, .item = item, .key = {picture}, .rows = rows, .width = WIDTH};

    rmk_staging_prefetch(staging, &what, address);
}

static void expect_residents(uint32_t count, const uint64_t *wanted)
{
    test_loop_while(&test, seen.resident_count < count);
    test_loop_for_ms(&test, 50); /* and no more */
    assert_int_equal(seen.resident_count, count);
    for (uint32_t i = 0; i < count; i++) {
        bool found = false;
        for (uint32_t j = 0; j < count; j++) {
            found |= seen.residents[j] == wanted[i];
        }
        assert_true(found);
    }
}

static void pulls_wait_for_room_in_the_order_of_their_announcements(void **state)
{
    (void)state;
    for (uint8_t request = 1; request <= 4; request++) {
        prefetch(request, 0, request - 1, ROWS);
    }
    expect_residents(2, (uint64_t[]){10, 20});
    float *rows = rmk_staging_take(staging, 1, 0, ROWS);
    assert_non_null(rows);
    assert_true(rows[ROWS * WIDTH - 1] == 0.0F);
    free(rows);
    expect_residents(3, (uint64_t[]){10, 20, 30});
    assert_null(rmk_staging_take(staging, 4, 0, ROWS));
    rmk_staging_forget(staging, 2);
    expect_residents(4, (uint64_t[]){10, 20, 30, 40});
    rows = rmk_staging_take(staging, 4, 0, ROWS);
    assert_non_null(rows);
    assert_true(rows[0] == 3.0F);
    free(rows);
    assert_int_equal(seen.failed_count, 0);
}

static void who_waits_may_be_forgotten(void **state)
{
    (void)state;
    for (uint8_t request = 1; request <= 4; request++) {
        prefetch(request, 0, request - 1, ROWS);
    }
    expect_residents(2, (uint64_t[]){10, 20});
    rmk_staging_forget(staging, 3);
    rmk_staging_forget(staging, 1);
    expect_residents(3, (uint64_t[]){10, 20, 40});
    rmk_staging_clear(staging);
    prefetch(5, 0, 0, ROWS);
    expect_residents(4, (uint64_t[]){10, 20, 40, 50});
}

/* Two requests of two pictures each: half of both would wait for ever. */
static void all_of_a_request_comes_before_the_next(void **state)
{
    (void)state;
    for (uint8_t i = 0; i < 4; i++) {
        prefetch(1 + i / 2, i % 2, i, ROWS);
    }
    expect_residents(2, (uint64_t[]){10, 11});
    rmk_staging_forget(staging, 1);
    expect_residents(4, (uint64_t[]){10, 11, 20, 21});
    assert_int_equal(seen.failed_count, 0);
}

static void what_never_fits_fails_in_words_and_lets_others_pass(void **state)
{
    (void)state;
    for (uint8_t item = 0; item < 3; item++) {
        prefetch(1, item, item, ROWS);
    }
    prefetch(2, 0, 3, ROWS);
    expect_residents(2, (uint64_t[]){10, 11});
    assert_int_equal(seen.failed_count, 1);
    assert_int_equal(seen.failed, 12);
    assert_non_null(strstr(seen.why, "--staging-bytes"));
    rmk_staging_forget(staging, 1);
    expect_residents(3, (uint64_t[]){10, 11, 20});
    prefetch(3, 0, 0, 3 * ROWS);
    assert_int_equal(seen.failed_count, 2);
    assert_int_equal(seen.failed, 30);
}

static void features_that_are_not_there_or_otherwise_than_announced_fail(void **state)
{
    (void)state;
    prefetch(1, 0, 99, ROWS);
    test_loop_while(&test, seen.failed_count < 1);
    assert_non_null(strstr(seen.why, "not here"));
    prefetch(2, 0, 0, ROWS + 1);
    test_loop_while(&test, seen.failed_count < 2);
    assert_non_null(strstr(seen.why, "announced 11 x 4"));
    assert_int_equal(seen.resident_count, 0);
    prefetch(3, 0, 1, ROWS);
    prefetch(3, 1, 2, ROWS);
    expect_residents(2, (uint64_t[]){30, 31}); /* nothing is taken up by those that failed */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pulls_wait_for_room_in_the_order_of_their_announcements,
                                        begin, end),
        cmocka_unit_test_setup_teardown(who_waits_may_be_forgotten, begin, end),
        cmocka_unit_test_setup_teardown(all_of_a_request_comes_before_the_next, begin, end),
        cmocka_unit_test_setup_teardown(what_never_fits_fails_in_words_and_lets_others_pass, begin,
                                        end),
        cmocka_unit_test_setup_teardown(
            features_that_are_not_there_or_otherwise_than_announced_fail, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
