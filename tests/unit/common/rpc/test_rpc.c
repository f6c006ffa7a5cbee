/* The bridge over real loopback sockets: server and client in one process and one loop. */
#include "common/rpc/rpc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "tests/support/loop.h"

/* ---- the bench: a loop, a bridge, a server that does what a path says
 * ----------------------------- */

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

/* ---- the server's side
 * ----------------------------------------------------------------------------- */

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

/* ---- the client's side
 * ------------------------------------------------------------------------------ */

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

/* ---- tests: the four kinds of call
 * --------------------------------------------------------------------- */

static void unary_call_is_answered(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = dial_with(bench, &big);
    struct probe probe = {0};
    const char *const metadata[] = {"x-token", "secret 7", NULL};

    probe.call =
        rmk_rpc_channel_call(channel, "/t.T/Echo", 30000, false, metadata, &probe_events, &probe);
    assert_ptr_equal(rmk_rpc_call_context(probe.call), &probe);
    say(&probe, "hello");
    rmk_rpc_call_half_close(probe.call);
    test_loop_while(&bench->loop, !probe.done);

    assert_int_equal(probe.status, RMK_STATUS_OK);
    assert_int_equal(probe.messages, 1);
    assert_string_equal(probe.first, "hello");
    assert_memory_equal(bench->seen, "ipv4:127.0.0.1:", 15);
    assert_non_null(strstr(bench->seen, " secret 7"));
    uint64_t now_us = rmk_clock_us();
    assert_in_range(bench->deadline_us, now_us, now_us + 30000000u);
    test_loop_while(&bench->loop, bench->server_done == 0);
    assert_int_equal(bench->server_status, RMK_STATUS_OK);
    assert_int_equal(bench->half_closes, 1);
}

static void server_stream_arrives_in_order_with_its_status(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = dial_with(bench, &big);
    struct probe probe = {0};

    call_on(channel, &probe, "/t.T/Stream", 0);
    say(&probe, "go");
    rmk_rpc_call_half_close(probe.call);
    test_loop_while(&bench->loop, !probe.done);

    assert_int_equal(probe.messages, 3);
    assert_string_equal(probe.first, "part 0");
    assert_string_equal(probe.last, "part 2");
    assert_int_equal(probe.status, RMK_STATUS_OK);
    test_loop_while(&bench->loop, bench->server_done == 0);
    assert_int_equal(bench->server_status, RMK_STATUS_OK);
}

static void bidi_messages_go_back_and_forth(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = dial_with(bench, &big);
    struct probe probe = {0};

    call_on(channel, &probe, "/t.T/Echo", 0);
    for (unsigned i = 1; i <= 200; i++) {
        char text[32];
        (void)snprintf(text, sizeof(text), "ping %u", i);
        say(&probe, text);
        test_loop_while(&bench->loop, probe.messages < i);
        assert_string_equal(i == 1 ? probe.first : probe.last, text);
    }
    rmk_rpc_call_half_close(probe.call);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_OK);
    assert_int_equal(probe.messages, 200);
    assert_int_equal(bench->deadline_us, 0);
}

static void many_messages_queued_at_once_keep_their_order(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = dial_with(bench, &big);
    struct probe probe = {0};

    call_on(channel, &probe, "/t.T/Echo", 0);
    for (unsigned i = 0; i < 1000; i++) {
        char text[32];
        (void)snprintf(text, sizeof(text), "number %u", i);
        say(&probe, text);
    }
    rmk_rpc_call_half_close(probe.call);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.messages, 1000);
    assert_string_equal(probe.first, "number 0");
    assert_string_equal(probe.last, "number 999");
    assert_int_equal(bench->server_messages, 1000);
}

static void status_and_sentence_of_a_refusal_reach_the_client(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = dial_with(bench, &big);
    struct probe probe = {0};

    call_on(channel, &probe, "/t.T/Refuse", 0);
    say(&probe, "please");
    rmk_rpc_call_half_close(probe.call);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_FAILED_PRECONDITION);
    assert_string_equal(probe.text, "not today: caf\xc3\xa9 100%");
    assert_int_equal(probe.messages, 0);
    test_loop_while(&bench->loop, bench->server_done == 0);
    assert_int_equal(bench->server_status, RMK_STATUS_FAILED_PRECONDITION);
}

static void unknown_method_is_named(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = dial_with(bench, &big);
    struct probe probe = {0};

    call_on(channel, &probe, "/t.T/Nothing", 0);
    say(&probe, "?");
    rmk_rpc_call_half_close(probe.call);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_UNIMPLEMENTED);
    assert_non_null(strstr(probe.text, "/t.T/Nothing"));
}

static void empty_message_is_a_message(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = dial_with(bench, &big);
    struct probe probe = {0};

    call_on(channel, &probe, "/t.T/Echo", 0);
    (void)rmk_rpc_call_send(probe.call, rmk_bytes_of(NULL, 0));
    rmk_rpc_call_half_close(probe.call);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_OK);
    assert_int_equal(probe.messages, 1);
    assert_int_equal(probe.bytes, 0);
}

static void thousand_calls_at_once_all_end(void **state)
{
    struct bench *bench = *state;
    enum { COUNT = 1000 };
    struct rmk_rpc_channel *channel = dial_with(bench, &big);
    struct probe *probes = calloc(COUNT, sizeof(*probes));
    unsigned left = COUNT;

    assert_non_null(probes);
    for (unsigned i = 0; i < COUNT; i++) {
        char text[32];
        (void)snprintf(text, sizeof(text), "call %u", i);
        probes[i].countdown = &left;
        call_on(channel, &probes[i], "/t.T/Echo", 0);
        say(&probes[i], text);
        rmk_rpc_call_half_close(probes[i].call);
    }
    test_loop_while(&bench->loop, left > 0);
    for (unsigned i = 0; i < COUNT; i++) {
        char text[32];
        (void)snprintf(text, sizeof(text), "call %u", i);
        assert_int_equal(probes[i].status, RMK_STATUS_OK);
        assert_string_equal(probes[i].first, text);
    }
    assert_int_equal(bench->served, COUNT);
    free(probes);
}

/* ---- tests: sizes
 * -------------------------------------------------------------------------------------- */

static void thirty_megabytes_arrive_whole(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = dial_with(bench, &big);
    struct probe probe = {0};
    size_t size = 30u << 20;
    uint8_t *data = malloc(size);

    assert_non_null(data);
    memset(data, 'x', size);
    call_on(channel, &probe, "/t.T/Echo", 0);
    assert_false(rmk_rpc_call_send(probe.call, rmk_bytes_of(data, size)));
    free(data); /* the bytes were copied */
    rmk_rpc_call_half_close(probe.call);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_OK);
    assert_int_equal(probe.bytes, size);
    assert_int_equal(bench->server_bytes, size);
}

static void
message_over_the_servers_limit_is_resource_exhausted_and_the_connection_lives(void **state)
{
    struct bench *bench = *state;
    static const struct rmk_rpc_options bigger = {.message_bytes_max = 100u << 20};
    struct rmk_rpc_channel *channel = dial_with(bench, &bigger);
    struct probe big_probe = {0};
    struct probe small_probe = {0};
    size_t size = (64u << 20) + 1;
    uint8_t *data = calloc(1, size);

    assert_non_null(data);
    call_on(channel, &big_probe, "/t.T/Echo", 0);
    call_on(channel, &small_probe, "/t.T/Echo", 0);
    (void)rmk_rpc_call_send(big_probe.call, rmk_bytes_of(data, size));
    free(data);
    rmk_rpc_call_half_close(big_probe.call);
    test_loop_while(&bench->loop, !big_probe.done);
    assert_int_equal(big_probe.status, RMK_STATUS_RESOURCE_EXHAUSTED);
    assert_int_equal(bench->server_messages, 0);
    assert_int_equal(bench->half_closes, 0); /* a broken call is not "all was said" */

    say(&small_probe, "still here");
    rmk_rpc_call_half_close(small_probe.call);
    test_loop_while(&bench->loop, !small_probe.done);
    assert_int_equal(small_probe.status, RMK_STATUS_OK);
}

static void message_over_the_senders_own_limit_ends_only_that_call(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = dial_with(bench, NULL); /* 4 MiB */
    struct probe probe = {0};
    struct probe next = {0};
    size_t size = (4u << 20) + 1;
    uint8_t *data = calloc(1, size);

    assert_non_null(data);
    call_on(channel, &probe, "/t.T/Echo", 0);
    (void)rmk_rpc_call_send(probe.call, rmk_bytes_of(data, size));
    free(data);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_RESOURCE_EXHAUSTED);

    call_on(channel, &next, "/t.T/Echo", 0);
    say(&next, "small");
    rmk_rpc_call_half_close(next.call);
    test_loop_while(&bench->loop, !next.done);
    assert_int_equal(next.status, RMK_STATUS_OK);
}

static void paused_reader_stops_the_sender_and_resume_goes_on(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = dial_with(bench, &big);
    struct probe probe = {0};
    enum { CHUNK = 1 << 20, COUNT = 48 };
    uint8_t *chunk = calloc(1, CHUNK);
    unsigned sent = 0;

    assert_non_null(chunk);
    call_on(channel, &probe, "/t.T/Paused", 0);
    test_loop_while(&bench->loop, bench->held == NULL);
    while (rmk_rpc_call_send(probe.call, rmk_bytes_of(chunk, CHUNK))) {
        sent++;
    }
    assert_int_equal(sent, RMK_RPC_QUEUE_BYTES / CHUNK); /* the next one passed the mark */
    for (sent++; sent < COUNT; sent++) {
        (void)rmk_rpc_call_send(probe.call, rmk_bytes_of(chunk, CHUNK));
    }
    test_loop_for_ms(&bench->loop, 300);
    assert_int_equal(bench->server_messages, 0);
    /* Flow control lets some of it go, but a sender cannot pour everything into a silent peer. */
    assert_in_range(rmk_rpc_call_queued_bytes(probe.call), CHUNK, CHUNK * COUNT);

    rmk_rpc_call_resume(bench->held);
    rmk_rpc_call_half_close(probe.call);
    test_loop_while(&bench->loop, bench->half_closes == 0);
    assert_int_equal(bench->server_bytes, (size_t)CHUNK * COUNT);
    rmk_rpc_call_finish(bench->held, RMK_STATUS_OK, NULL);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_OK);
    free(chunk);
}

static void writable_is_told_once_the_queue_has_drained(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = dial_with(bench, &big);
    struct probe probe = {0};
    enum { COUNT = 48 };
    uint8_t *chunk = calloc(1, 1 << 20);

    assert_non_null(chunk);
    call_on(channel, &probe, "/t.T/Hold", 0);
    test_loop_while(&bench->loop, bench->held == NULL);
    rmk_rpc_call_pause(probe.call);
    for (int i = 0; i < COUNT; i++) { /* much more than flow control lets through unread */
        (void)rmk_rpc_call_send(bench->held, rmk_bytes_of(chunk, 1 << 20));
    }
    test_loop_for_ms(&bench->loop, 200);
    assert_false(bench->writable);
    rmk_rpc_call_resume(probe.call);
    test_loop_while(&bench->loop, !bench->writable);
    assert_true(rmk_rpc_call_queued_bytes(bench->held) < RMK_RPC_QUEUE_BYTES / 2);
    rmk_rpc_call_finish(bench->held, RMK_STATUS_OK, NULL);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_OK);
    assert_int_equal(probe.messages, COUNT);
    free(chunk);
}

/* ---- tests: ends
 * ----------------------------------------------------------------------------------------- */

static void client_cancel_reaches_the_server_and_is_no_half_close(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = dial_with(bench, &big);
    struct probe probe = {0};

    call_on(channel, &probe, "/t.T/Hold", 0);
    say(&probe, "begin");
    test_loop_while(&bench->loop, bench->server_messages == 0);
    rmk_rpc_call_cancel(probe.call);
    rmk_rpc_call_cancel(probe.call); /* twice is once */
    assert_false(probe.done);        /* never inside the call */
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_CANCELLED);
    test_loop_while(&bench->loop, bench->server_done == 0);
    assert_int_equal(bench->server_status, RMK_STATUS_CANCELLED);
    assert_int_equal(bench->half_closes, 0);
}

static void cancel_before_anything_was_sent_ends_the_call(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = dial_with(bench, &big);
    struct probe probe = {0};

    call_on(channel, &probe, "/t.T/Hold", 0);
    rmk_rpc_call_cancel(probe.call);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_CANCELLED);
}

static void server_cancel_reaches_the_client(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = dial_with(bench, &big);
    struct probe probe = {0};

    call_on(channel, &probe, "/t.T/Hold", 0);
    test_loop_while(&bench->loop, bench->held == NULL);
    rmk_rpc_call_cancel(bench->held);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_not_equal(probe.status, RMK_STATUS_OK);
    test_loop_while(&bench->loop, bench->server_done == 0);
    assert_int_equal(bench->server_status, RMK_STATUS_CANCELLED);
}

static void deadline_ends_the_call_at_both_ends(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = dial_with(bench, &big);
    struct probe probe = {0};

    call_on(channel, &probe, "/t.T/Hold", 200);
    say(&probe, "slow");
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_DEADLINE_EXCEEDED);
    test_loop_while(&bench->loop, bench->server_done == 0);
    assert_int_equal(bench->server_status, RMK_STATUS_CANCELLED);
    assert_int_equal(bench->half_closes, 0);
}

static void what_is_sent_after_the_end_is_ignored(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = dial_with(bench, &big);
    struct probe probe = {0};

    call_on(channel, &probe, "/t.T/Hold", 0);
    test_loop_while(&bench->loop, bench->held == NULL);
    (void)rmk_rpc_call_send(bench->held, rmk_bytes_text("before"));
    rmk_rpc_call_finish(bench->held, RMK_STATUS_OK, NULL);
    (void)rmk_rpc_call_send(bench->held, rmk_bytes_text("after"));
    rmk_rpc_call_finish(bench->held, RMK_STATUS_INTERNAL, "again");
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_OK);
    assert_int_equal(probe.messages, 1);
    assert_string_equal(probe.first, "before");
}

static void metadata_that_cannot_be_sent_is_named(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = dial_with(bench, &big);
    struct probe probe = {0};
    const char *const metadata[] = {"x-token", "two\nlines", NULL};

    probe.call =
        rmk_rpc_channel_call(channel, "/t.T/Echo", 0, false, metadata, &probe_events, &probe);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_INVALID_ARGUMENT);
    assert_non_null(strstr(probe.text, "x-token"));
    assert_int_equal(bench->served, 0);
}

static void channel_destroyed_during_a_call_waits_for_it(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = dial_with(bench, &big);
    struct probe probe = {0};

    call_on(channel, &probe, "/t.T/Echo", 0);
    rmk_rpc_channel_destroy(channel);
    say(&probe, "late");
    rmk_rpc_call_half_close(probe.call);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_OK);
    assert_string_equal(probe.first, "late");
}

static void draining_server_finishes_open_calls_and_refuses_new_ones(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = dial_with(bench, &big);
    struct rmk_rpc_channel *other = dial_with(bench, &big);
    struct probe open = {0};
    struct probe late = {0};

    call_on(channel, &open, "/t.T/Hold", 0);
    test_loop_while(&bench->loop, bench->held == NULL);
    rmk_rpc_server_drain(bench->server);
    rmk_rpc_server_drain(bench->server); /* twice is once */
    call_on(other, &late, "/t.T/Echo", 0);
    test_loop_while(&bench->loop, !late.done);
    assert_int_equal(late.status, RMK_STATUS_UNAVAILABLE);
    (void)rmk_rpc_call_send(bench->held, rmk_bytes_text("to the end"));
    rmk_rpc_call_finish(bench->held, RMK_STATUS_OK, NULL);
    test_loop_while(&bench->loop, !open.done);
    assert_int_equal(open.status, RMK_STATUS_OK);
    assert_string_equal(open.first, "to the end");
}

static void close_with_everything_open_tells_every_call(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = dial_with(bench, &big);
    struct probe probes[8] = {0};
    struct probe unsent = {0};

    for (int i = 0; i < 8; i++) {
        call_on(channel, &probes[i], "/t.T/Hold", 0);
        say(&probes[i], "x");
    }
    test_loop_while(&bench->loop, bench->server_messages < 8);
    call_on(channel, &unsent, "/t.T/Hold", 0);
    rmk_rpc_close(bench->rpc, test_loop_set, &bench->closed);
    test_loop_while(&bench->loop, !bench->closed);
    for (int i = 0; i < 8; i++) {
        assert_true(probes[i].done);
        assert_int_not_equal(probes[i].status, RMK_STATUS_OK);
    }
    assert_true(unsent.done);
    assert_true(bench->server_done >= 8);

    /* For the tear-down. */
    struct rmk_why why = {0};
    bench->closed = false;
    assert_int_equal(rmk_rpc_create(&bench->loop.loop, &bench->rpc, &why), RMK_OK);
}

/* ---- tests: connections
 * ------------------------------------------------------------------------------- */

static void nothing_listening_is_unavailable_at_once(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = NULL;
    struct probe probe = {0};
    struct rmk_why why = {0};

    assert_int_equal(rmk_rpc_channel_create(bench->rpc, "127.0.0.1:1", NULL, &channel, &why),
                     RMK_OK);
    call_on(channel, &probe, "/t.T/Echo", 0);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_UNAVAILABLE);
}

static void wait_for_ready_uses_a_server_that_comes_later(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = NULL;
    struct rmk_rpc_server *server = NULL;
    struct probe probe = {0};
    struct rmk_why why = {0};
    char address[64];

    /* A port that is free now: bound and let go by a server of ours. */
    assert_int_equal(start_server(bench, "127.0.0.1:0", &big, &server, &why), RMK_OK);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", rmk_rpc_server_port(server));
    rmk_rpc_server_drain(server);
    test_loop_for_ms(&bench->loop, 50);

    assert_int_equal(rmk_rpc_channel_create(bench->rpc, address, &big, &channel, &why), RMK_OK);
    probe.call = rmk_rpc_channel_call(channel, "/t.T/Echo", TEST_LOOP_PATIENCE_MS / 2, true, NULL,
                                      &probe_events, &probe);
    say(&probe, "patient");
    rmk_rpc_call_half_close(probe.call);
    test_loop_for_ms(&bench->loop, 300);
    assert_false(probe.done);
    assert_int_equal(start_server(bench, address, &big, &server, &why), RMK_OK);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_OK);
    assert_string_equal(probe.first, "patient");
}

static void port_in_use_is_named(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_server *server = NULL;
    struct rmk_why why = {0};

    assert_int_equal(start_server(bench, bench->address, &big, &server, &why), RMK_EUNAVAILABLE);
    assert_null(server);
    assert_non_null(strstr(why.text, bench->address));
    assert_non_null(strstr(why.text, "in use"));
}

static void malformed_addresses_are_named(void **state)
{
    struct bench *bench = *state;
    static const char *const bad[] = {"", "localhost", "127.0.0.1:", ":80", "h:99999", "h:8x"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct rmk_rpc_server *server = NULL;
        struct rmk_rpc_channel *channel = NULL;
        struct rmk_why why = {0};
        assert_int_equal(start_server(bench, bad[i], NULL, &server, &why), RMK_EINVAL);
        assert_non_null(strstr(why.text, "HOST:PORT"));
        assert_int_equal(rmk_rpc_channel_create(bench->rpc, bad[i], NULL, &channel, &why),
                         RMK_EINVAL);
    }
}

/* The peer is this program again, as a child that serves until it is killed. */
static pid_t start_child(char *address, size_t address_size)
{
    char program[4096];
    int out[2];
    ssize_t size = readlink("/proc/self/exe", program, sizeof(program) - 1);

    assert_true(size > 0);
    program[size] = '\0';
    assert_int_equal(pipe(out), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) { /* nothing but exec: a fork of a gRPC process is not usable otherwise */
        (void)dup2(out[1], STDOUT_FILENO);
        (void)close(out[0]);
        (void)close(out[1]);
        (void)execl(program, program, "--serve", (char *)NULL);
        _exit(127);
    }
    (void)close(out[1]);
    size = read(out[0], address, address_size - 1);
    (void)close(out[0]);
    assert_true(size > 1);
    address[size - 1] = '\0'; /* the newline */
    return child;
}

static int serve_until_killed(void)
{
    struct bench bench = {0};
    struct rmk_why why = {0};

    if (uv_loop_init(&bench.loop.loop) != 0 ||
        rmk_rpc_create(&bench.loop.loop, &bench.rpc, &why) != RMK_OK ||
        start_server(&bench, "127.0.0.1:0", &big, &bench.server, &why) != RMK_OK) {
        return 1;
    }
    (void)printf("127.0.0.1:%u\n", rmk_rpc_server_port(bench.server));
    (void)fflush(stdout);
    return uv_run(&bench.loop.loop, UV_RUN_DEFAULT);
}

static void killed_peer_is_unavailable_soon(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = NULL;
    struct probe probe = {0};
    struct probe next = {0};
    struct rmk_why why = {0};
    char address[64];
    pid_t child = start_child(address, sizeof(address));

    assert_int_equal(rmk_rpc_channel_create(bench->rpc, address, &big, &channel, &why), RMK_OK);
    call_on(channel, &probe, "/t.T/Echo", 0);
    say(&probe, "alive?");
    test_loop_while(&bench->loop, probe.messages == 0 && !probe.done);
    assert_int_equal(probe.messages, 1);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_UNAVAILABLE);

    call_on(channel, &next, "/t.T/Echo", 0);
    test_loop_while(&bench->loop, !next.done);
    assert_int_equal(next.status, RMK_STATUS_UNAVAILABLE);
}

static void stopped_peer_is_noticed_by_keepalive(void **state)
{
    struct bench *bench = *state;
    static const struct rmk_rpc_options eager = {.keepalive_ms = 200, .keepalive_timeout_ms = 300};
    struct rmk_rpc_channel *channel = NULL;
    struct probe probe = {0};
    struct rmk_why why = {0};
    char address[64];
    pid_t child = start_child(address, sizeof(address));

    assert_int_equal(rmk_rpc_channel_create(bench->rpc, address, &eager, &channel, &why), RMK_OK);
    call_on(channel, &probe, "/t.T/Hold", 0);
    test_loop_for_ms(&bench->loop, 100);
    assert_false(probe.done);
    assert_int_equal(kill(child, SIGSTOP), 0);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_UNAVAILABLE);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

static void quiet_stream_outlives_many_keepalive_pings(void **state)
{
    struct bench *bench = *state;
    static const struct rmk_rpc_options eager = {
        .message_bytes_max = 1 << 20, .keepalive_ms = 20, .keepalive_timeout_ms = 5000};
    struct rmk_rpc_server *server = NULL;
    struct rmk_rpc_channel *channel = NULL;
    struct probe probe = {0};
    struct rmk_why why = {0};
    char address[64];

    assert_int_equal(start_server(bench, "127.0.0.1:0", &eager, &server, &why), RMK_OK);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", rmk_rpc_server_port(server));
    assert_int_equal(rmk_rpc_channel_create(bench->rpc, address, &eager, &channel, &why), RMK_OK);
    call_on(channel, &probe, "/t.T/Echo", 0);
    test_loop_for_ms(&bench->loop, 600); /* some thirty pings: more than any strike count */
    assert_false(probe.done);
    say(&probe, "still connected");
    rmk_rpc_call_half_close(probe.call);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_OK);
}

/* ---- tests: TLS
 * ------------------------------------------------------------------------------------------ */

struct pki {
    char *ca, *other_ca, *cert, *key, *other_cert, *other_key;
};

static char *read_text(const char *folder, const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    char *text = calloc(1, 16384);

    assert_non_null(file);
    assert_non_null(text);
    assert_true(fread(text, 1, 16383, file) > 0);
    (void)fclose(file);
    return text;
}

static void make_pki(struct pki *pki)
{
    char folder[] = "/tmp/rmk-test-rpc-XXXXXX";
    char command[4096];

    assert_non_null(mkdtemp(folder));
    (void)snprintf(
        command, sizeof(command),
        "cd %s && exec 2>/dev/null; for ca in ca other; do "
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $ca.key"
        " -out $ca.pem -subj /CN=$ca -days 2 && "
        "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $ca-leaf.key"
        " -out $ca-leaf.csr -subj /CN=leaf && "
        "printf 'subjectAltName=DNS:remask.test,IP:127.0.0.1\\n' > ext && "
        "openssl x509 -req -in $ca-leaf.csr -CA $ca.pem -CAkey $ca.key -CAcreateserial"
        " -out $ca-leaf.pem -days 2 -extfile ext || exit 1; done",
        folder);
    assert_int_equal(system(command), 0);
    pki->ca = read_text(folder, "ca.pem");
    pki->other_ca = read_text(folder, "other.pem");
    pki->cert = read_text(folder, "ca-leaf.pem");
    pki->key = read_text(folder, "ca-leaf.key");
    pki->other_cert = read_text(folder, "other-leaf.pem");
    pki->other_key = read_text(folder, "other-leaf.key");
    (void)snprintf(command, sizeof(command), "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

static void free_pki(struct pki *pki)
{
    free(pki->ca);
    free(pki->other_ca);
    free(pki->cert);
    free(pki->key);
    free(pki->other_cert);
    free(pki->other_key);
}

static int call_with(struct bench *bench, const char *address,
                     const struct rmk_rpc_options *options)
{
    struct rmk_rpc_channel *channel = NULL;
    struct probe probe = {0};
    struct rmk_why why = {0};

    assert_int_equal(rmk_rpc_channel_create(bench->rpc, address, options, &channel, &why), RMK_OK);
    call_on(channel, &probe, "/t.T/Echo", 10000);
    say(&probe, "tls");
    rmk_rpc_call_half_close(probe.call);
    test_loop_while(&bench->loop, !probe.done);
    rmk_rpc_channel_destroy(channel);
    return probe.status;
}

static void mutual_tls_lets_in_only_our_certificates(void **state)
{
    struct bench *bench = *state;
    struct pki pki;
    struct rmk_rpc_server *server = NULL;
    struct rmk_why why = {0};
    char address[64];

    make_pki(&pki);
    struct rmk_rpc_options server_options = {
        .tls_ca = pki.ca, .tls_cert = pki.cert, .tls_key = pki.key};
    struct rmk_rpc_options good = server_options;
    struct rmk_rpc_options named = good;
    struct rmk_rpc_options misnamed = good;
    struct rmk_rpc_options bare = {.tls_ca = pki.ca};
    struct rmk_rpc_options stranger = {
        .tls_ca = pki.ca, .tls_cert = pki.other_cert, .tls_key = pki.other_key};
    struct rmk_rpc_options distrustful = {
        .tls_ca = pki.other_ca, .tls_cert = pki.cert, .tls_key = pki.key};
    named.tls_target_name = "remask.test";
    misnamed.tls_target_name = "elsewhere.test";

    assert_int_equal(start_server(bench, "127.0.0.1:0", &server_options, &server, &why), RMK_OK);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", rmk_rpc_server_port(server));
    assert_int_equal(call_with(bench, address, &good), RMK_STATUS_OK);
    assert_int_equal(call_with(bench, address, &named), RMK_STATUS_OK);
    assert_int_equal(bench->served, 2);
    assert_int_equal(call_with(bench, address, &misnamed), RMK_STATUS_UNAVAILABLE);
    assert_int_equal(call_with(bench, address, &bare), RMK_STATUS_UNAVAILABLE);
    assert_int_equal(call_with(bench, address, &stranger), RMK_STATUS_UNAVAILABLE);
    assert_int_equal(call_with(bench, address, &distrustful), RMK_STATUS_UNAVAILABLE);
    assert_int_equal(call_with(bench, address, NULL), RMK_STATUS_UNAVAILABLE); /* plaintext */
    assert_int_equal(bench->served, 2);
    free_pki(&pki);
}

static void tls_material_that_cannot_work_is_named(void **state)
{
    struct bench *bench = *state;
    struct pki pki;
    struct rmk_rpc_server *server = NULL;
    struct rmk_rpc_channel *channel = NULL;
    struct rmk_why why = {0};

    make_pki(&pki);
    struct rmk_rpc_options mixed = {.tls_cert = pki.cert, .tls_key = pki.other_key};
    struct rmk_rpc_options half = {.tls_cert = pki.cert};
    struct rmk_rpc_options rubbish = {.tls_cert = "hello", .tls_key = pki.key};
    struct rmk_rpc_options bad_ca = {.tls_ca = "hello"};

    assert_int_equal(start_server(bench, "127.0.0.1:0", &mixed, &server, &why), RMK_EINVAL);
    assert_non_null(strstr(why.text, "key does not belong"));
    assert_int_equal(start_server(bench, "127.0.0.1:0", &half, &server, &why), RMK_EINVAL);
    assert_non_null(strstr(why.text, "together"));
    assert_int_equal(start_server(bench, "127.0.0.1:0", &rubbish, &server, &why), RMK_EINVAL);
    assert_non_null(strstr(why.text, "certificate is no PEM"));
    assert_int_equal(rmk_rpc_channel_create(bench->rpc, "127.0.0.1:1", &bad_ca, &channel, &why),
                     RMK_EINVAL);
    assert_non_null(strstr(why.text, "CA is no PEM"));
    free_pki(&pki);
}

/* ---- tests: codes
 * ---------------------------------------------------------------------------------------- */

static void errors_survive_the_way_over_the_wire(void **state)
{
    static const enum rmk_err same[] = {
        RMK_OK,           RMK_EINVAL,       RMK_ENOTFOUND,  RMK_ELIMIT,  RMK_EDEADLINE,
        RMK_EUNSUPPORTED, RMK_EUNAVAILABLE, RMK_ECANCELLED, RMK_EEXISTS, RMK_EINTERNAL};

    (void)state;
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        assert_int_equal(rmk_err_of_status((int)rmk_status_of(same[i])), same[i]);
    }
    assert_int_equal(rmk_status_of(RMK_ECORRUPT), RMK_STATUS_INVALID_ARGUMENT);
    assert_int_equal(rmk_err_of_status(99), RMK_EINTERNAL);
}

#define bench_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        bench_test(unary_call_is_answered),
        bench_test(server_stream_arrives_in_order_with_its_status),
        bench_test(bidi_messages_go_back_and_forth),
        bench_test(many_messages_queued_at_once_keep_their_order),
        bench_test(status_and_sentence_of_a_refusal_reach_the_client),
        bench_test(unknown_method_is_named),
        bench_test(empty_message_is_a_message),
        bench_test(thousand_calls_at_once_all_end),
        bench_test(thirty_megabytes_arrive_whole),
        bench_test(message_over_the_servers_limit_is_resource_exhausted_and_the_connection_lives),
        bench_test(message_over_the_senders_own_limit_ends_only_that_call),
        bench_test(paused_reader_stops_the_sender_and_resume_goes_on),
        bench_test(writable_is_told_once_the_queue_has_drained),
        bench_test(client_cancel_reaches_the_server_and_is_no_half_close),
        bench_test(cancel_before_anything_was_sent_ends_the_call),
        bench_test(server_cancel_reaches_the_client),
        bench_test(deadline_ends_the_call_at_both_ends),
        bench_test(what_is_sent_after_the_end_is_ignored),
        bench_test(metadata_that_cannot_be_sent_is_named),
        bench_test(channel_destroyed_during_a_call_waits_for_it),
        bench_test(draining_server_finishes_open_calls_and_refuses_new_ones),
        bench_test(close_with_everything_open_tells_every_call),
        bench_test(nothing_listening_is_unavailable_at_once),
        bench_test(wait_for_ready_uses_a_server_that_comes_later),
        bench_test(port_in_use_is_named),
        bench_test(malformed_addresses_are_named),
        bench_test(killed_peer_is_unavailable_soon),
        bench_test(stopped_peer_is_noticed_by_keepalive),
        bench_test(quiet_stream_outlives_many_keepalive_pings),
        bench_test(mutual_tls_lets_in_only_our_certificates),
        bench_test(tls_material_that_cannot_work_is_named),
        cmocka_unit_test(errors_survive_the_way_over_the_wire),
    };

    if (argc == 2 && strcmp(argv[1], "--serve") == 0) {
        return serve_until_killed();
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
