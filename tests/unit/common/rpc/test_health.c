#include "common/rpc/health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/rpc/pack.h"
#include "grpc/health/v1/health.pb-c.h"
#include "tests/support/loop.h"

#define CHECK "/grpc.health.v1.Health/Check"
#define WATCH "/grpc.health.v1.Health/Watch"

enum { UNKNOWN = 0, SERVING = 1, NOT_SERVING = 2, SERVICE_UNKNOWN = 3 };

struct bench {
    struct test_loop loop;
    struct rmk_rpc *rpc;
    struct rmk_rpc_server *server;
    struct rmk_rpc_channel *channel;
    struct rmk_health *health;
    bool closed;
};

struct probe {
    struct rmk_rpc_call *call;
    unsigned answers;
    int answer; /* the latest */
    bool done;
    int status;
};

static int set_up(void **state)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    struct rmk_rpc_method methods[RMK_HEALTH_METHOD_COUNT];
    char address[64];

    assert_non_null(bench);
    test_loop_init(&bench->loop);
    bench->health = rmk_health_create();
    rmk_health_methods(bench->health, methods);
    assert_int_equal(rmk_rpc_create(&bench->loop.loop, &bench->rpc, NULL), RMK_OK);
    assert_int_equal(rmk_rpc_server_create(bench->rpc, "127.0.0.1:0", NULL, methods,
                                           RMK_HEALTH_METHOD_COUNT, &bench->server, NULL),
                     RMK_OK);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", rmk_rpc_server_port(bench->server));
    assert_int_equal(rmk_rpc_channel_create(bench->rpc, address, NULL, &bench->channel, NULL),
                     RMK_OK);
    rmk_health_set(bench->health, "", true);
    rmk_health_set(bench->health, "remask.v1.Remask", false);
    *state = bench;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;

    rmk_rpc_close(bench->rpc, test_loop_set, &bench->closed);
    test_loop_while(&bench->loop, !bench->closed);
    rmk_health_destroy(bench->health);
    int status = test_loop_close(&bench->loop);
    free(bench);
    return status;
}

static void on_message(struct rmk_rpc_call *call, struct rmk_bytes bytes, void *context)
{
    struct probe *probe = context;
    ProtobufCMessage *message = NULL;

    (void)call;
    assert_int_equal(
        rmk_unpack(&grpc__health__v1__health_check_response__descriptor, bytes, &message, NULL),
        RMK_OK);
    probe->answers++;
    probe->answer = (int)((Grpc__Health__V1__HealthCheckResponse *)message)->status;
    protobuf_c_message_free_unpacked(message, NULL);
}

static void on_done(struct rmk_rpc_call *call, int status, const char *message, void *context)
{
    struct probe *probe = context;

    (void)call;
    (void)message;
    probe->done = true;
    probe->status = status;
}

static void ask(struct bench *bench, struct probe *probe, const char *path, const char *service)
{
    static const struct rmk_rpc_events events = {.on_message = on_message, .on_done = on_done};
    Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;

    request.service = (char *)(uintptr_t)service;
    *probe = (struct probe){0};
    probe->call = rmk_rpc_channel_call(bench->channel, path, 0, false, NULL, &events, probe);
    (void)rmk_pack_send(probe->call, &request.base);
    rmk_rpc_call_half_close(probe->call);
}

static void check_answers_what_was_set(void **state)
{
    struct bench *bench = *state;
    struct probe probe;

    ask(bench, &probe, CHECK, "");
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_OK);
    assert_int_equal(probe.answer, SERVING);
    ask(bench, &probe, CHECK, "remask.v1.Remask");
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.answer, NOT_SERVING);
    ask(bench, &probe, CHECK, "nobody");
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_NOT_FOUND);
    assert_int_equal(probe.answers, 0);
}

static void watch_tells_the_present_and_every_change(void **state)
{
    struct bench *bench = *state;
    struct probe probe;
    struct probe stranger;

    ask(bench, &probe, WATCH, "remask.v1.Remask");
    ask(bench, &stranger, WATCH, "later");
    test_loop_while(&bench->loop, probe.answers + stranger.answers < 2);
    assert_int_equal(probe.answer, NOT_SERVING);
    assert_int_equal(stranger.answer, SERVICE_UNKNOWN);

    rmk_health_set(bench->health, "remask.v1.Remask", true);
    rmk_health_set(bench->health, "remask.v1.Remask", true); /* no change, no word */
    rmk_health_set(bench->health, "later", true);
    test_loop_while(&bench->loop, probe.answers + stranger.answers < 4);
    assert_int_equal(probe.answer, SERVING);
    assert_int_equal(stranger.answer, SERVING);
    test_loop_for_ms(&bench->loop, 30);
    assert_int_equal(probe.answers, 2);

    rmk_rpc_call_cancel(probe.call);
    rmk_health_shutdown(bench->health);
    test_loop_while(&bench->loop, !probe.done || !stranger.done);
    assert_int_equal(probe.status, RMK_STATUS_CANCELLED);
    assert_int_equal(stranger.status, RMK_STATUS_UNAVAILABLE);
}

static void bad_requests_are_refused(void **state)
{
    struct bench *bench = *state;
    static const struct rmk_rpc_events events = {.on_message = on_message, .on_done = on_done};
    static const struct rmk_bytes bad[] = {{(const uint8_t *)"\x0a\x01\xff", 3},
                                           {(const uint8_t *)"\x0a\x7f", 2}};
    char name[500];
    struct probe probe;

    for (int i = 0; i < 3; i++) { /* the third says nothing at all */
        probe = (struct probe){0};
        probe.call = rmk_rpc_channel_call(bench->channel, CHECK, 0, false, NULL, &events, &probe);
        if (i < 2) {
            (void)rmk_rpc_call_send(probe.call, bad[i]);
        }
        rmk_rpc_call_half_close(probe.call);
        test_loop_while(&bench->loop, !probe.done);
        assert_int_equal(probe.status, RMK_STATUS_INVALID_ARGUMENT);
    }
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    ask(bench, &probe, WATCH, name);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_INVALID_ARGUMENT);
}

static void watchers_have_a_limit(void **state)
{
    struct bench *bench = *state;
    static struct probe probes[RMK_HEALTH_WATCHERS_MAX + 1];
    unsigned refused = 0;

    for (int i = 0; i <= RMK_HEALTH_WATCHERS_MAX; i++) {
        ask(bench, &probes[i], WATCH, "");
    }
    for (int i = 0; i <= RMK_HEALTH_WATCHERS_MAX; i++) {
        test_loop_while(&bench->loop, probes[i].answers == 0 && !probes[i].done);
        if (probes[i].done) {
            assert_int_equal(probes[i].status, RMK_STATUS_RESOURCE_EXHAUSTED);
            refused++;
        }
    }
    assert_int_equal(refused, 1);
}

#define bench_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        bench_test(check_answers_what_was_set),
        bench_test(watch_tells_the_present_and_every_change),
        bench_test(bad_requests_are_refused),
        bench_test(watchers_have_a_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
