/* The bridge over real loopback sockets, server and client in one process and one loop. For the
 * tests of calls and of connections. */
#ifndef TESTS_UNIT_COMMON_RPC_BENCH_H
#define TESTS_UNIT_COMMON_RPC_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/rpc/rpc.h"
#include "tests/support/loop.h"

/* ---- the bench: a loop, a bridge, a server that does what a path says ---------------------- */

struct bench {
    struct test_loop loop;
    struct rmk_rpc *rpc;
    struct rmk_rpc_server *server;
    char address[64];
    bool closed;
    /* what the server saw last */
    struct rmk_rpc_call *held; /* a call that the server keeps open */
    unsigned served;
    unsigned server_done;
    int server_status;
    unsigned half_closes;
    size_t server_bytes;
    unsigned server_messages;
    bool writable;
    char seen[128];
    uint64_t deadline_us;
};

/* A client's call and what came of it. */
struct probe {
    struct rmk_rpc_call *call;
    unsigned messages;
    size_t bytes;
    char first[64];
    char last[64];
    bool done;
    int status;
    char text[256];
    unsigned *countdown;
};

/* ---- the server's side --------------------------------------------------------------------- */

static void note_done(struct rmk_rpc_call *call, int status, const char *message, void *context)
{
    struct bench *bench = context;

    (void)message;
    bench->server_done++;
    bench->server_status = status;
    if (bench->held == call) {
        bench->held = NULL;
    }
}

static void note_half_close(struct rmk_rpc_call *call, void *context)
{
    struct bench *bench = context;

    (void)call;
    bench->half_closes++;
}

static void note_message(struct rmk_rpc_call *call, struct rmk_bytes message, void *context)
{
    struct bench *bench = context;

    (void)call;
    bench->server_messages++;
    bench->server_bytes += message.size;
}

static void note_writable(struct rmk_rpc_call *call, void *context)
{
    (void)call;
    ((struct bench *)context)->writable = true;
}

static void echo_message(struct rmk_rpc_call *call, struct rmk_bytes message, void *context)
{
    note_message(call, message, context);
    (void)rmk_rpc_call_send(call, message);
}

static void echo_half_close(struct rmk_rpc_call *call, void *context)
{
    note_half_close(call, context);
    rmk_rpc_call_finish(call, RMK_STATUS_OK, NULL);
}

static const struct rmk_rpc_events echo_events = {
    .on_message = echo_message, .on_half_close = echo_half_close, .on_done = note_done};
static const struct rmk_rpc_events hold_events = {.on_message = note_message,
                                                  .on_half_close = note_half_close,
                                                  .on_writable = note_writable,
                                                  .on_done = note_done};

/* Unary and bidi: answer every message with itself. */
static void serve_echo(struct rmk_rpc_call *call, void *context)
{
    struct bench *bench = context;
    const char *token = rmk_rpc_call_metadata(call, "x-token");

    bench->served++;
    bench->deadline_us = rmk_rpc_call_deadline_us(call);
    (void)snprintf(bench->seen, sizeof(bench->seen), "%s %s", rmk_rpc_call_peer(call),
                   token != NULL ? token : "-");
    rmk_rpc_call_listen(call, &echo_events, bench);
}

static void stream_three(struct rmk_rpc_call *call, struct rmk_bytes message, void *context)
{
    note_message(call, message, context);
    for (int i = 0; i < 3; i++) {
        char text[32];
        (void)snprintf(text, sizeof(text), "part %d", i);
        (void)rmk_rpc_call_send(call, rmk_bytes_text(text));
    }
    rmk_rpc_call_finish(call, RMK_STATUS_OK, "all three");
}

static void serve_stream(struct rmk_rpc_call *call, void *context)
{
    static const struct rmk_rpc_events events = {
        .on_message = stream_three, .on_half_close = note_half_close, .on_done = note_done};

    rmk_rpc_call_listen(call, &events, context);
}

/* Keeps the call open; the test does the rest. */
static void serve_hold(struct rmk_rpc_call *call, void *context)
{
    struct bench *bench = context;

    bench->held = call;
    rmk_rpc_call_listen(call, &hold_events, bench);
}

static void serve_paused(struct rmk_rpc_call *call, void *context)
{
    serve_hold(call, context);
    rmk_rpc_call_pause(call);
}

static void serve_refusal(struct rmk_rpc_call *call, void *context)
{
    rmk_rpc_call_listen(call, &hold_events, context);
    rmk_rpc_call_finish(call, RMK_STATUS_FAILED_PRECONDITION, "not today: caf\xc3\xa9 100%");
}

static enum rmk_err start_server(struct bench *bench, const char *address,
                                 const struct rmk_rpc_options *options, struct rmk_rpc_server **out,
                                 struct rmk_why *why)
{
    const struct rmk_rpc_method methods[] = {
        {.path = "/t.T/Echo", .on_call = serve_echo, .context = bench},
        {.path = "/t.T/Stream", .on_call = serve_stream, .context = bench},
        {.path = "/t.T/Hold", .on_call = serve_hold, .context = bench},
        {.path = "/t.T/Paused", .on_call = serve_paused, .context = bench},
        {.path = "/t.T/Refuse", .on_call = serve_refusal, .context = bench},
    };

    return rmk_rpc_server_create(bench->rpc, address, options, methods,
                                 sizeof(methods) / sizeof(methods[0]), out, why);
}

static const struct rmk_rpc_options big = {.message_bytes_max = 64u << 20};

static int set_up(void **state)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    struct rmk_why why = {0};

    assert_non_null(bench);
    test_loop_init(&bench->loop);
    assert_int_equal(rmk_rpc_create(&bench->loop.loop, &bench->rpc, &why), RMK_OK);
    assert_int_equal(start_server(bench, "127.0.0.1:0", &big, &bench->server, &why), RMK_OK);
    assert_int_not_equal(rmk_rpc_server_port(bench->server), 0);
    (void)snprintf(bench->address, sizeof(bench->address), "127.0.0.1:%u",
                   rmk_rpc_server_port(bench->server));
    *state = bench;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;

    rmk_rpc_close(bench->rpc, test_loop_set, &bench->closed);
    test_loop_while(&bench->loop, !bench->closed);
    int status = test_loop_close(&bench->loop);
    free(bench);
    return status;
}

/* ---- the client's side --------------------------------------------------------------------- */

static void probe_message(struct rmk_rpc_call *call, struct rmk_bytes message, void *context)
{
    struct probe *probe = context;
    char *text = probe->messages == 0 ? probe->first : probe->last;

    (void)call;
    probe->messages++;
    probe->bytes += message.size;
    size_t size = message.size < sizeof(probe->last) - 1 ? message.size : sizeof(probe->last) - 1;
    if (size > 0) {
        memcpy(text, message.data, size);
    }
    text[size] = '\0';
}

static void probe_done(struct rmk_rpc_call *call, int status, const char *message, void *context)
{
    struct probe *probe = context;

    (void)call;
    assert_false(probe->done); /* exactly once */
    probe->done = true;
    probe->call = NULL;
    probe->status = status;
    (void)snprintf(probe->text, sizeof(probe->text), "%s", message);
    if (probe->countdown != NULL) {
        (*probe->countdown)--;
    }
}

static const struct rmk_rpc_events probe_events = {.on_message = probe_message,
                                                   .on_done = probe_done};

static struct rmk_rpc_channel *dial_with(struct bench *bench, const struct rmk_rpc_options *options)
{
    struct rmk_rpc_channel *channel = NULL;
    struct rmk_why why = {0};

    assert_int_equal(rmk_rpc_channel_create(bench->rpc, bench->address, options, &channel, &why),
                     RMK_OK);
    return channel;
}

static void call_on(struct rmk_rpc_channel *channel, struct probe *probe, const char *path,
                    uint64_t deadline_ms)
{
    probe->call =
        rmk_rpc_channel_call(channel, path, deadline_ms, false, NULL, &probe_events, probe);
}

static void say(struct probe *probe, const char *text)
{
    (void)rmk_rpc_call_send(probe->call, rmk_bytes_text(text));
}

#define bench_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
