/* Requests of clients: answers, refusals, joining, leaving, stopping. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/limits.h"
#include "tests/coordinator/world.h"

static struct world world;
static struct fake ranks[2];
static struct fake successor; /* of rank 0 */

static bool is_ready(void *context)
{
    return rmk_app_ready(((struct world *)context)->app);
}

static int setup(void **state)
{
    (void)state;
    world_init(&world);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_end(&world);
    return 0;
}

static void start(void)
{
    world_start(&world);
    for (uint32_t rank = 0; rank < 2; rank++) {
        fake_text(&ranks[rank], &world, rank, 2);
        fake_attach(&ranks[rank]);
    }
    world_wait(&world, is_ready, &world, "the group to be warm");
}

/* Rank 0 dies, and another process takes its place. */
static void succeed_rank_0(void)
{
    fake_kill(&ranks[0]);
    fake_text(&successor, &world, 0, 2);
    fake_attach(&successor);
}

static void expect_status(const struct client *client, int status, const char *part)
{
    if (client->status != status || strstr(client->message, part) == NULL) {
        fail_msg("status %d \"%s\", wanted %d and \"%s\"", client->status, client->message, status,
                 part);
    }
}

static void expect_answer(const struct client *client, uint32_t length)
{
    expect_status(client, RMK_STATUS_OK, "");
    assert_non_null(client->result);
    assert_string_equal(client->result->text, alphabet(length));
    assert_string_equal(client->text, client->result->text);
}

static void health_serves_only_after_the_warm_up(void **state)
{
    (void)state;
    world_start(&world);
    assert_false(is_healthy(&world));
    fake_text(&ranks[0], &world, 0, 1);
    ranks[0].on_plan = FAKE_HOLD;
    fake_attach(&ranks[0]);
    while (ranks[0].plan_count == 0) {
        world_run(&world, 10);
    }
    assert_false(is_healthy(&world));
    fake_kill(&ranks[0]);
    fake_text(&ranks[1], &world, 0, 1);
    fake_attach(&ranks[1]);
    world_wait(&world, is_ready, &world, "the group to be warm");
    assert_true(is_healthy(&world));
    fake_kill(&ranks[1]);
    while (rmk_app_ready(world.app)) {
        world_run(&world, 10);
    }
    assert_false(is_healthy(&world));
}

static void an_answer_streams_as_it_settles_and_equals_the_result(void **state)
{
    struct client client;
    struct ask ask;

    (void)state;
    start();
    ask_init(&ask, "Write letters.", 64);
    ask.sampling.block_length = 16;
    client_ask(&client, &world, &ask, 0);
    client_wait(&client);
    expect_answer(&client, 64);
    assert_int_equal(client.accepted_count, 1);
    assert_true(client.delta_count > 4);
    assert_string_equal(client.result->finish_reason, "length");
    assert_int_equal(client.result->n_ids, 64);
    assert_int_equal(client.result->usage->forwards, 64);
    assert_int_equal(client.result->usage->completion_tokens, 64);
    assert_string_equal(client.result->usage->numerics, "fake/f32/tp2");
    client_deinit(&client);
}

static void canvases_come_when_asked_for(void **state)
{
    struct client client;
    struct ask ask;

    (void)state;
    start();
    ask_init(&ask, "Write letters.", 8);
    ask.request.stream_canvas = true;
    client_ask(&client, &world, &ask, 0);
    client_wait(&client);
    expect_answer(&client, 8);
    assert_int_equal(client.canvas_count, 8);
    client_deinit(&client);
}

/* A request of so many canvases that the queue is soon full, of a client that does not read; until
 * no plan has come for a third of a second. */
static void ask_without_reading(struct client *client, struct ask *ask)
{
    uint32_t seen = 0;
    uint32_t quiet = 0;

    ask_init(ask, "Write letters.", 1024);
    ask->request.request_id = "unread";
    ask->request.stream_canvas = true; /* some 15 KB a round */
    client_ask(client, &world, ask, 0);
    rmk_rpc_call_pause(client->call);
    while (quiet < 10) {
        world_run(&world, 30);
        quiet = ranks[0].plan_count == seen && seen > 1 ? quiet + 1 : 0;
        seen = ranks[0].plan_count;
    }
    assert_true(seen < 1024);
    assert_false(client->ended);
}

static void a_client_that_does_not_read_stops_its_rounds_until_it_reads_again(void **state)
{
    struct client client;
    struct ask ask;

    (void)state;
    start();
    ask_without_reading(&client, &ask);
    rmk_rpc_call_resume(client.call);
    client_wait(&client);
    expect_answer(&client, 1024);
    client_deinit(&client);
}

static void one_who_reads_joins_one_who_does_not_and_the_request_goes_on(void **state)
{
    struct client stuck, reader;
    struct ask ask;

    (void)state;
    start();
    ask_without_reading(&stuck, &ask);
    client_ask(&reader, &world, &ask, 0);
    client_wait(&reader);
    expect_answer(&reader, 1024);
    assert_false(stuck.ended);
    client_deinit(&reader);
    rmk_rpc_call_cancel(stuck.call);
    client_wait(&stuck);
    client_deinit(&stuck);
}

static bool nothing_is_open(void *context)
{
    Remask__V1__StatusReply *status = get_status(context);
    bool none = status->open_requests == 0;

    remask__v1__status_reply__free_unpacked(status, NULL);
    return none;
}

static void a_client_that_never_reads_is_cut_off(void **state)
{
    struct client client;
    struct ask ask;

    (void)state;
    world.options.stall_timeout_ms = 1000;
    start();
    ask_without_reading(&client, &ask);
    assert_false(nothing_is_open(&world));
    world_wait(&world, nothing_is_open, &world, "the request to end");
    rmk_rpc_call_resume(client.call);
    client_wait(&client);
    expect_status(&client, RMK_STATUS_CANCELLED, "");
    client_deinit(&client);
}

static void a_stop_in_the_text_cuts_before_it_and_spares_rounds(void **state)
{
    char *stops[] = {"kl"};
    struct client client;
    struct ask ask;

    (void)state;
    start();
    ask_init(&ask, "Write letters.", 64);
    ask.sampling.stop_level = REMASK__V1__STOP_LEVEL__STOP_TEXT;
    ask.sampling.n_stop = 1;
    ask.sampling.stop = stops;
    client_ask(&client, &world, &ask, 0);
    client_wait(&client);
    expect_answer(&client, 10);
    assert_string_equal(client.result->finish_reason, "stop");
    assert_int_equal(client.result->n_ids, 10);
    assert_true(client.result->usage->forwards < 20);
    client_deinit(&client);
}

static void bad_requests_are_refused_in_words(void **state)
{
    static const uint8_t garbage[] = {0xff, 0xff, 0xff, 0xff};
    struct client client;
    struct ask ask;

    (void)state;
    start();
    ask_init(&ask, "Hello", 64);
    ask.sampling.block_length = 7;
    client_ask(&client, &world, &ask, 0);
    client_wait(&client);
    expect_status(&client, RMK_STATUS_INVALID_ARGUMENT, "sampling.block_length: 7");

    ask_init(&ask, "Hello", 64);
    ask.request.model = "other";
    client_ask(&client, &world, &ask, 0);
    client_wait(&client);
    expect_status(&client, RMK_STATUS_NOT_FOUND, "model: other");

    client_ask_bytes(&client, &world, rmk_bytes_of(garbage, sizeof(garbage)));
    client_wait(&client);
    assert_int_equal(client.status, RMK_STATUS_INVALID_ARGUMENT);

    client_ask_bytes(&client, &world, rmk_bytes_of(garbage, 0));
    client_wait(&client);
    expect_status(&client, RMK_STATUS_INVALID_ARGUMENT, "messages: there are none");
}

/* Whatever field it stands in: it would lie in memory until a thread has looked at the request. */
static void what_is_no_picture_is_bounded_before_it_is_kept(void **state)
{
    static char role[RMK_ASK_BYTES_MAX + 1];
    struct client client;
    struct ask ask;

    (void)state;
    start();
    memset(role, 'r', sizeof(role) - 1);
    ask_init(&ask, "Hello", 64);
    ask.message.role = role;
    client_ask(&client, &world, &ask, 0);
    client_wait(&client);
    expect_status(&client, RMK_STATUS_INVALID_ARGUMENT, "bytes besides its pictures");
}

static void a_request_larger_than_every_group_is_refused_with_numbers(void **state)
{
    struct client client;
    struct ask ask;

    (void)state;
    world_start(&world);
    fake_text(&ranks[0], &world, 0, 1);
    ranks[0].rows_max = 300;
    fake_attach(&ranks[0]);
    world_wait(&world, is_ready, &world, "the group to be warm");
    ask_init(&ask, "Hello", 512);
    client_ask(&client, &world, &ask, 0);
    client_wait(&client);
    expect_status(&client, RMK_STATUS_INVALID_ARGUMENT, "the text workers take at most 300");
}

/* The fake worker, like one without memory for it, keeps no keys and values. */
/* The group with the longest rows need not be the one with room for the request. */
static void a_request_goes_to_the_one_group_that_can_run_it(void **state)
{
    struct client client;
    struct ask ask;

    (void)state;
    world_start(&world);
    for (uint32_t i = 0; i < 2; i++) {
        fake_text(&ranks[i], &world, 0, 1);
        ranks[i].group = i == 0 ? "long" : "wide";
        ranks[i].rows_max = i == 0 ? 4096 : 500;
        ranks[i].reads_max = i == 0 ? 16 : 1024;
        fake_attach(&ranks[i]);
    }
    world_wait(&world, is_ready, &world, "a group to be warm");
    while (ranks[0].form_count == 0 || ranks[1].form_count == 0) {
        world_run(&world, 10);
    }
    ask_init(&ask, "Write letters.", 64);
    client_ask(&client, &world, &ask, 0);
    client_wait(&client);
    expect_answer(&client, 64);
    client_deinit(&client);
}

static void a_cache_that_no_group_has_room_for_is_a_failed_precondition(void **state)
{
    struct client client;
    struct ask ask;

    (void)state;
    start();
    ask_init(&ask, "Hello", 8);
    ask.sampling.profile = (char *)(uintptr_t) "balanced";
    client_ask(&client, &world, &ask, 0);
    client_wait(&client);
    expect_status(&client, RMK_STATUS_FAILED_PRECONDITION, "sampling.cache: the request needs");
    client_deinit(&client);

    ask.sampling.profile = (char *)(uintptr_t) "exact";
    client_ask(&client, &world, &ask, 0);
    client_wait(&client);
    expect_answer(&client, 8);
    assert_string_equal(client.result->usage->profile, "exact");
    assert_true(client.result->usage->tokens_per_forward == 1.0);
    client_deinit(&client);
}

static void the_same_request_id_joins_and_later_recalls_and_other_contents_are_refused(void **state)
{
    struct client first, second, third, fourth;
    struct ask ask, other;

    (void)state;
    start();
    ask_init(&ask, "Write letters.", 32);
    ask.request.request_id = "id-1";
    ask_init(&other, "Write numbers.", 32);
    other.request.request_id = "id-1";
    ranks[0].plans_left = 10;
    client_ask(&first, &world, &ask, 0);
    while (ranks[0].plans_left > 0) {
        world_run(&world, 10);
    }
    client_ask(&second, &world, &ask, 0);
    client_ask(&third, &world, &other, 0);
    client_wait(&third);
    expect_status(&third, RMK_STATUS_ALREADY_EXISTS, "request_id: ");
    while (strlen(second.text) == 0) {
        world_run(&world, 10); /* what had settled before it came */
    }
    assert_string_equal(second.text, first.text);
    /* Rank 0 does not answer its 11th plan. Its end is the epoch's, and the request goes on in the
     * next. */
    succeed_rank_0();
    client_wait(&first);
    client_wait(&second);
    expect_answer(&first, 32);
    expect_answer(&second, 32);
    client_ask(&fourth, &world, &ask, 0);
    client_wait(&fourth);
    expect_answer(&fourth, 32);
    assert_int_equal(fourth.result->usage->forwards, first.result->usage->forwards);
    client_ask(&third, &world, &other, 0);
    client_wait(&third);
    expect_status(&third, RMK_STATUS_ALREADY_EXISTS, "request_id: ");
    client_deinit(&first);
    client_deinit(&second);
    client_deinit(&fourth);
}

static bool rank_forgot(void *context)
{
    return ((struct fake *)context)->forget_count > 0;
}

static void a_request_goes_on_until_its_last_client_leaves(void **state)
{
    struct client first, second;
    struct ask ask;

    (void)state;
    start();
    world_wait(&world, rank_forgot, &ranks[0], "the warm-up to be forgotten");
    ranks[0].forget_count = 0;
    ask_init(&ask, "Write letters.", 32);
    ask.request.request_id = "id-2";
    ranks[0].plans_left = 3;
    client_ask(&first, &world, &ask, 0);
    while (ranks[0].plans_left > 0) {
        world_run(&world, 10);
    }
    client_ask(&second, &world, &ask, 0);
    while (second.accepted_count == 0) {
        world_run(&world, 10);
    }
    rmk_rpc_call_cancel(first.call);
    client_wait(&first);
    world_run(&world, 100);
    assert_int_equal(ranks[0].forget_count, 0);
    rmk_rpc_call_cancel(second.call);
    client_wait(&second);
    world_wait(&world, rank_forgot, &ranks[0], "the request to be forgotten");
    Remask__V1__StatusReply *status = get_status(&world);
    assert_int_equal(status->open_requests, 0);
    remask__v1__status_reply__free_unpacked(status, NULL);
}

static void a_deadline_ends_a_request(void **state)
{
    struct client client;
    struct ask ask;
    Remask__V1__StatusReply *status;

    (void)state;
    start();
    ranks[0].plans_left = 2;
    ask_init(&ask, "Write letters.", 32);
    client_ask(&client, &world, &ask, 300);
    client_wait(&client);
    assert_int_equal(client.status, RMK_STATUS_DEADLINE_EXCEEDED);
    world_run(&world, 50);
    status = get_status(&world);
    assert_int_equal(status->open_requests, 0);
    remask__v1__status_reply__free_unpacked(status, NULL);
}

static void a_full_queue_refuses_with_resource_exhausted(void **state)
{
    struct client clients[4];
    struct ask ask;
    int refused = 0;

    (void)state;
    world.options.queued_max = 1;
    world.options.requests_max = 8;
    world_start(&world); /* no group: everything queues */
    ask_init(&ask, "Write letters.", 8);
    for (int i = 0; i < 4; i++) {
        client_ask(&clients[i], &world, &ask, 1000);
    }
    for (int i = 0; i < 4; i++) {
        client_wait(&clients[i]);
        refused += clients[i].status == RMK_STATUS_RESOURCE_EXHAUSTED;
    }
    assert_int_equal(refused, 3);
}

static void status_tells_what_is_attached(void **state)
{
    Remask__V1__StatusReply *status;

    (void)state;
    start();
    status = get_status(&world);
    assert_string_equal(status->model, "demo");
    assert_string_equal(status->state, "ready");
    assert_int_equal(status->n_groups, 1);
    assert_string_equal(status->groups[0]->name, "g0");
    assert_string_equal(status->groups[0]->state, "up");
    assert_int_equal(status->groups[0]->n_ranks, 2);
    assert_int_equal(status->n_visions, 0);
    remask__v1__status_reply__free_unpacked(status, NULL);
}

static void on_drained(void *context)
{
    ((struct world *)context)->stopped = true;
}

static void draining_finishes_what_is_open_and_refuses_what_is_new(void **state)
{
    struct client open, late;
    struct ask ask;

    (void)state;
    start();
    ranks[0].plans_left = 4;
    ask_init(&ask, "Write letters.", 16);
    client_ask(&open, &world, &ask, 0);
    while (ranks[0].plans_left > 0) {
        world_run(&world, 10);
    }
    rmk_app_drain(world.app, on_drained, &world);
    assert_false(is_healthy(&world));
    client_ask(&late, &world, &ask, 0);
    client_wait(&late);
    expect_status(&late, RMK_STATUS_UNAVAILABLE, "shutting down");
    succeed_rank_0();
    client_wait(&open);
    expect_answer(&open, 16);
    world.app = NULL; /* drained already */
    client_deinit(&open);
}

static void a_drain_that_takes_too_long_ends_requests_with_unavailable(void **state)
{
    struct client open;
    struct ask ask;

    (void)state;
    world.options.drain_timeout_ms = 100;
    start();
    ranks[0].on_plan = FAKE_HOLD;
    ask_init(&ask, "Write letters.", 16);
    client_ask(&open, &world, &ask, 0);
    while (open.accepted_count == 0) {
        world_run(&world, 10);
    }
    rmk_app_drain(world.app, on_drained, &world);
    world.app = NULL;
    client_wait(&open);
    expect_status(&open, RMK_STATUS_UNAVAILABLE, "shutting down");
}

/* Nobody waits for it, and whoever holds it may be gone already. */
static void a_warm_up_does_not_hold_up_a_drain(void **state)
{
    (void)state;
    world_start(&world);
    fake_text(&ranks[0], &world, 0, 1);
    ranks[0].on_plan = FAKE_HOLD;
    fake_attach(&ranks[0]);
    while (ranks[0].plan_count == 0) {
        world_run(&world, 10);
    }
} /* the teardown drains, and does not wait as long as a drain may take */

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(health_serves_only_after_the_warm_up),
        TEST(an_answer_streams_as_it_settles_and_equals_the_result),
        TEST(canvases_come_when_asked_for),
        TEST(a_client_that_does_not_read_stops_its_rounds_until_it_reads_again),
        TEST(one_who_reads_joins_one_who_does_not_and_the_request_goes_on),
        TEST(a_client_that_never_reads_is_cut_off),
        TEST(a_stop_in_the_text_cuts_before_it_and_spares_rounds),
        TEST(bad_requests_are_refused_in_words),
        TEST(what_is_no_picture_is_bounded_before_it_is_kept),
        TEST(a_request_larger_than_every_group_is_refused_with_numbers),
        TEST(a_request_goes_to_the_one_group_that_can_run_it),
        TEST(a_cache_that_no_group_has_room_for_is_a_failed_precondition),
        TEST(the_same_request_id_joins_and_later_recalls_and_other_contents_are_refused),
        TEST(a_request_goes_on_until_its_last_client_leaves),
        TEST(a_deadline_ends_a_request),
        TEST(a_full_queue_refuses_with_resource_exhausted),
        TEST(status_tells_what_is_attached),
        TEST(draining_finishes_what_is_open_and_refuses_what_is_new),
        TEST(a_warm_up_does_not_hold_up_a_drain),
        TEST(a_drain_that_takes_too_long_ends_requests_with_unavailable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
