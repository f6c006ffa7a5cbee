/* Calls of every kind, their sizes and their ends. */
#include "tests/unit/common/rpc/bench.h"

#include "common/clock.h"

/* ---- the four kinds of call --------------------------------------------------------- */

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

/* ---- sizes -------------------------------------------------------------------------- */

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

/* ---- ends --------------------------------------------------------------------------- */

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

    call_on(channel, &probe, "/t.T/Hold", 1000); /* the call arrives in time on a busy machine */
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

/* ---- codes -------------------------------------------------------------------------- */

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

int main(void)
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
        cmocka_unit_test(errors_survive_the_way_over_the_wire),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
