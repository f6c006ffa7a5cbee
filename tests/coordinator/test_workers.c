/* Workers that fail, lie, fall silent or do not fit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/coordinator/world.h"

enum { RANKS = 8 };

static struct world world;
static struct fake fakes[RANKS];

static bool is_ready(void *context)
{
    return rmk_app_ready(((struct world *)context)->app);
}

static bool has_ended(void *context)
{
    return ((struct fake *)context)->ended;
}

static bool is_welcome(void *context)
{
    return ((struct fake *)context)->welcomed;
}

static bool has_plan(void *context)
{
    return ((struct fake *)context)->plan_count > 1; /* the first is the warm-up's */
}

static bool has_encode(void *context)
{
    return ((struct fake *)context)->encode_count > 0;
}

static int setup(void **state)
{
    (void)state;
    world_init(&world);
    memset(fakes, 0, sizeof(fakes));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_end(&world);
    return 0;
}

/* Two ranks of one group, warm. */
static void start(void)
{
    world_start(&world);
    for (uint32_t rank = 0; rank < 2; rank++) {
        fake_text(&fakes[rank], &world, rank, 2);
        fake_attach(&fakes[rank]);
    }
    world_wait(&world, is_ready, &world, "the group to be warm");
}

static void expect_answer(struct client *client, uint32_t length)
{
    if (client->status != RMK_STATUS_OK) {
        fail_msg("status %d: %s", client->status, client->message);
    }
    assert_string_equal(client->result->text, alphabet(length));
    assert_string_equal(client->text, client->result->text);
}

static void expect_refusal(struct fake *fake, int status, const char *part)
{
    fake_attach(fake);
    world_wait(&world, has_ended, fake, "the worker to be refused");
    if (fake->status != status || strstr(fake->message, part) == NULL) {
        fail_msg("status %d \"%s\", wanted %d and \"%s\"", fake->status, fake->message, status,
                 part);
    }
    assert_false(fake->welcomed);
}

/* ---- Hello
 * --------------------------------------------------------------------------------------------------
 */

static void workers_that_do_not_fit_are_refused_in_words(void **state)
{
    (void)state;
    world_start(&world);
    fake_text(&fakes[0], &world, 0, 2);
    fakes[0].name = "first";
    fake_attach(&fakes[0]);
    world_wait(&world, is_welcome, &fakes[0], "the first rank to be welcome");

    fake_text(&fakes[1], &world, 1, 2);
    fakes[1].wrong_digest = true;
    expect_refusal(&fakes[1], RMK_STATUS_FAILED_PRECONDITION, "another model");

    fake_text(&fakes[2], &world, 1, 2);
    fakes[2].protocol = 9;
    expect_refusal(&fakes[2], RMK_STATUS_FAILED_PRECONDITION, "speaks protocol 9 to 9");

    fake_text(&fakes[3], &world, 0, 2);
    expect_refusal(&fakes[3], RMK_STATUS_ALREADY_EXISTS, "rank: 0 of group g0 is taken by first");

    fake_text(&fakes[4], &world, 1, 3);
    expect_refusal(&fakes[4], RMK_STATUS_FAILED_PRECONDITION, "has 3 ranks, others said 2");

    fake_text(&fakes[5], &world, 2, 2);
    expect_refusal(&fakes[5], RMK_STATUS_INVALID_ARGUMENT, "rank: 2 of 2");

    fake_text(&fakes[6], &world, 1, 2);
    fakes[6].rows_max = 0;
    expect_refusal(&fakes[6], RMK_STATUS_INVALID_ARGUMENT, "rows_max 0");

    fake_vision(&fakes[7], &world, "vision");
    world.width++;
    expect_refusal(&fakes[7], RMK_STATUS_FAILED_PRECONDITION, "vision has width 257");
    world.width--;
    assert_false(fakes[0].ended);
}

static void a_stream_without_a_hello_is_ended(void **state)
{
    static const uint8_t garbage[] = {0xff, 0xff, 0xff};
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;
    Remask__Cluster__V1__Formed formed = REMASK__CLUSTER__V1__FORMED__INIT;

    (void)state;
    world_start(&world);
    for (int i = 0; i < 3; i++) {
        fake_text(&fakes[i], &world, 0, 1);
        fakes[i].protocol = 0; /* says nothing by itself */
        fake_attach(&fakes[i]);
    }
    message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_FORMED;
    message.formed = &formed;
    fake_send(&fakes[0], &message);
    fake_send_bytes(&fakes[1], rmk_bytes_of(garbage, sizeof(garbage)));
    for (int i = 0; i < 3; i++) {
        world_wait(&world, has_ended, &fakes[i], "the stream to be ended");
    }
    assert_int_equal(fakes[0].status, RMK_STATUS_INVALID_ARGUMENT);
    assert_int_equal(fakes[1].status, RMK_STATUS_INVALID_ARGUMENT);
    assert_int_equal(fakes[2].status, RMK_STATUS_DEADLINE_EXCEEDED);
}

/* ---- text ranks
 * -----------------------------------------------------------------------------------------------
 */

/* A request that has met fakes[rank] doing `what`; `fault` then makes it end. The answer must not
 * show it. */
static void goes_on_after(enum fake_plan what, uint32_t rank, void (*fault)(void))
{
    struct client client;
    struct ask ask;
    uint64_t epoch;

    start();
    epoch = fakes[0].epoch;
    fakes[0].plans_left = 5;
    ask_init(&ask, "Write letters.", 32);
    client_ask(&client, &world, &ask, 0);
    while (fakes[0].plans_left > 0) {
        world_run(&world, 10);
    }
    fakes[rank].on_plan = what;
    if (what != FAKE_ANSWER && what != FAKE_HOLD) {
        fakes[0].plans_left = UINT32_MAX;
    }
    fault();
    client_wait(&client);
    expect_answer(&client, 32);
    assert_true(client.result->usage->recoveries >= 1);
    assert_false(client.result->usage->restarted);
    assert_true(fakes[1].epoch > epoch || fakes[0].epoch > epoch);
    client_deinit(&client);
}

static void kill_rank_0(void)
{
    fake_kill(&fakes[0]);
    fake_text(&fakes[2], &world, 0, 2);
    fake_attach(&fakes[2]);
}

static void kill_rank_1(void)
{
    fakes[0].plans_left = UINT32_MAX;
    fake_kill(&fakes[1]);
    fake_text(&fakes[2], &world, 1, 2);
    fake_attach(&fakes[2]);
}

static void a_request_survives_the_loss_of_rank_0(void **state)
{
    (void)state;
    goes_on_after(FAKE_ANSWER, 0, kill_rank_0);
    assert_true(fakes[1].dissolve_count >= 1);
    assert_false(fakes[1].ended); /* the survivor keeps its stream */
}

static void a_request_survives_the_loss_of_another_rank(void **state)
{
    (void)state;
    goes_on_after(FAKE_ANSWER, 0, kill_rank_1);
    assert_false(fakes[0].ended);
}

static bool is_dissolved(void *context)
{
    return ((struct fake *)context)->dissolve_count > 0;
}

static void heal(void)
{
    world_wait(&world, is_dissolved, &fakes[0], "the epoch to end");
    fakes[0].on_plan = FAKE_ANSWER;
    fakes[0].plans_left = UINT32_MAX;
    fakes[1].on_plan = FAKE_ANSWER;
}

static void a_plan_that_is_not_answered_dissolves_the_group_and_the_request_goes_on(void **state)
{
    (void)state;
    world.options.plan_timeout_ms = 300;
    goes_on_after(FAKE_HOLD, 0, heal);
    assert_false(fakes[0].ended);
    assert_false(fakes[1].ended);
}

static void fault_of_rank_1(void)
{
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;
    Remask__Cluster__V1__GroupFault fault = REMASK__CLUSTER__V1__GROUP_FAULT__INIT;

    fault.epoch = fakes[1].epoch;
    fault.lost_rank = UINT32_MAX;
    fault.why = "the communicator broke";
    message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_FAULT;
    message.fault = &fault;
    fake_send(&fakes[1], &message);
    fakes[0].plans_left = UINT32_MAX;
}

static void a_group_fault_ends_the_epoch_for_all_ranks(void **state)
{
    (void)state;
    goes_on_after(FAKE_ANSWER, 0, fault_of_rank_1);
    assert_int_equal(fakes[0].dissolve_count, 1);
    assert_int_equal(fakes[1].dissolve_count, 1);
}

static void a_rank_that_falls_silent_is_given_up(void **state)
{
    (void)state;
    world.options.heartbeat_timeout_ms = 400;
    start();
    fakes[1].silent = true;
    world_wait(&world, has_ended, &fakes[1], "the silent rank to be given up");
    assert_int_equal(fakes[1].status, RMK_STATUS_UNAVAILABLE);
    assert_non_null(strstr(fakes[1].message, "was not heard of"));
}

static void wait_for_rank_0(void)
{
    world_wait(&world, has_ended, &fakes[0], "the liar to be shown the door");
    assert_int_equal(fakes[0].status, RMK_STATUS_INVALID_ARGUMENT);
    fake_text(&fakes[2], &world, 0, 2);
    fake_attach(&fakes[2]);
}

/* Rank 0 breaks the protocol in its first answer to the request. */
static void breach(enum fake_plan what, const char *part)
{
    struct client client;
    struct ask ask;

    start();
    fakes[0].on_plan = what;
    ask_init(&ask, "Write letters.", 32);
    client_ask(&client, &world, &ask, 0);
    wait_for_rank_0();
    if (strstr(fakes[0].message, part) == NULL) {
        fail_msg("\"%s\" lacks \"%s\"", fakes[0].message, part);
    }
    client_wait(&client);
    expect_answer(&client, 32);
    client_deinit(&client);
}

static void a_token_outside_the_vocabulary_ends_the_stream_not_the_request(void **state)
{
    (void)state;
    breach(FAKE_BAD_TOKEN, "a result has token 1073741824");
}

static void a_result_that_is_too_short_ends_the_stream_not_the_request(void **state)
{
    (void)state;
    breach(FAKE_SHORT, "a result has 31 tokens");
}

static void a_rank_that_read_another_plan_ends_the_epoch(void **state)
{
    struct client client;
    struct ask ask;

    (void)state;
    world.options.plan_timeout_ms = 3600000; /* it is not the clock that notices */
    start();
    fakes[1].on_plan = FAKE_BAD_HASH;
    fakes[0].plans_left = 0; /* rank 1 answers first */
    ask_init(&ask, "Write letters.", 32);
    client_ask(&client, &world, &ask, 0);
    heal();
    client_wait(&client);
    expect_answer(&client, 32);
    client_deinit(&client);
}

static void a_poisoned_request_fails_and_the_next_is_answered(void **state)
{
    struct client client;
    struct ask ask;

    (void)state;
    start();
    fakes[0].on_plan = FAKE_POISON;
    ask_init(&ask, "Write letters.", 32);
    client_ask(&client, &world, &ask, 0);
    client_wait(&client);
    assert_int_equal(client.status, RMK_STATUS_INTERNAL);
    fakes[0].on_plan = FAKE_ANSWER;
    client_ask(&client, &world, &ask, 0);
    client_wait(&client);
    expect_answer(&client, 32);
    client_deinit(&client);
}

static void a_plan_that_is_refused_for_ever_ends_with_unavailable(void **state)
{
    struct client client;
    struct ask ask;

    (void)state;
    world.options.retries_max = 1;
    start();
    fakes[0].on_plan = FAKE_REFUSE;
    ask_init(&ask, "Write letters.", 32);
    client_ask(&client, &world, &ask, 0);
    client_wait(&client);
    assert_int_equal(client.status, RMK_STATUS_UNAVAILABLE);
    assert_non_null(strstr(client.message, "the fake does not want to"));
}

static void messages_that_are_not_a_workers_to_send_end_its_stream(void **state)
{
    static const uint8_t garbage[] = {0xff, 0xff, 0xff};
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;
    Remask__Cluster__V1__Encoded encoded = REMASK__CLUSTER__V1__ENCODED__INIT;
    Remask__Cluster__V1__StepResult result = REMASK__CLUSTER__V1__STEP_RESULT__INIT;

    (void)state;
    start();
    fake_vision(&fakes[4], &world, "v0");
    fake_attach(&fakes[4]);
    world_wait(&world, is_welcome, &fakes[4], "the vision worker");
    message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_ENCODED;
    message.encoded = &encoded;
    fake_send(&fakes[0], &message);
    message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_STEP_RESULT;
    message.step_result = &result;
    fake_send(&fakes[4], &message);
    fake_send_bytes(&fakes[1], rmk_bytes_of(garbage, sizeof(garbage)));
    for (int i = 0; i < RANKS; i++) {
        if (i == 0 || i == 1 || i == 4) {
            world_wait(&world, has_ended, &fakes[i], "the stream to end");
            assert_int_equal(fakes[i].status, RMK_STATUS_INVALID_ARGUMENT);
        }
    }
    assert_non_null(strstr(fakes[0].message, "a vision worker's"));
    assert_non_null(strstr(fakes[4].message, "a text rank's"));
}

static void answers_about_nothing_that_was_asked_change_nothing(void **state)
{
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;
    Remask__Cluster__V1__StepResult result = REMASK__CLUSTER__V1__STEP_RESULT__INIT;
    Remask__Cluster__V1__FeaturesResident resident = REMASK__CLUSTER__V1__FEATURES_RESIDENT__INIT;
    Remask__Cluster__V1__GroupFault fault = REMASK__CLUSTER__V1__GROUP_FAULT__INIT;
    struct client client;
    struct ask ask;

    (void)state;
    start();
    message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_STEP_RESULT;
    message.step_result = &result;
    result.epoch = fakes[0].epoch;
    result.sequence = 12345;
    fake_send(&fakes[0], &message);
    message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_FEATURES_RESIDENT;
    message.features_resident = &resident;
    resident.epoch = fakes[0].epoch;
    resident.request = UINT64_MAX;
    resident.item = UINT32_MAX;
    fake_send(&fakes[0], &message);
    message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_FAULT;
    message.fault = &fault;
    fault.epoch = fakes[0].epoch - 1;
    fake_send(&fakes[0], &message);
    ask_init(&ask, "Write letters.", 16);
    client_ask(&client, &world, &ask, 0);
    client_wait(&client);
    expect_answer(&client, 16);
    assert_int_equal(client.result->usage->recoveries, 0);
    assert_int_equal(fakes[0].dissolve_count, 0);
    client_deinit(&client);
}

static void a_goodbye_ends_the_stream_kindly(void **state)
{
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;
    Remask__Cluster__V1__Goodbye goodbye = REMASK__CLUSTER__V1__GOODBYE__INIT;

    (void)state;
    start();
    message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_GOODBYE;
    message.goodbye = &goodbye;
    fake_send(&fakes[1], &message);
    world_wait(&world, has_ended, &fakes[1], "the stream to end");
    assert_int_equal(fakes[1].status, RMK_STATUS_OK);
}

static void requests_of_one_group_go_on_in_another_when_it_is_lost(void **state)
{
    struct client client;
    struct ask ask;

    (void)state;
    start();
    fakes[0].plans_left = 5;
    ask_init(&ask, "Write letters.", 32);
    client_ask(&client, &world, &ask, 0);
    while (fakes[0].plans_left > 0) {
        world_run(&world, 10);
    }
    fake_text(&fakes[2], &world, 0, 2);
    fake_text(&fakes[3], &world, 1, 2);
    fakes[2].group = "g1";
    fakes[3].group = "g1";
    fake_attach(&fakes[2]);
    fake_attach(&fakes[3]);
    world_wait(&world, is_welcome, &fakes[3], "the second group");
    fake_kill(&fakes[0]);
    client_wait(&client);
    expect_answer(&client, 32);
    assert_int_equal(fakes[2].open_count, 1);
    client_deinit(&client);
}

/* ---- vision
 * -----------------------------------------------------------------------------------------------------
 */

static void start_vision(enum fake_encode first)
{
    start();
    fake_vision(&fakes[4], &world, "v0");
    fakes[4].on_encode = first;
    fake_attach(&fakes[4]);
    world_wait(&world, is_welcome, &fakes[4], "the vision worker");
}

static void a_picture_is_encoded_fetched_pulled_and_forgotten(void **state)
{
    struct client client;
    struct ask ask;
    size_t size;

    (void)state;
    start_vision(FAKE_ENCODE);
    ask_init(&ask, "What is this?", 16);
    ask_picture(&ask, 100, 60);
    fakes[0].plans_left = 4;
    client_ask(&client, &world, &ask, 0);
    while (fakes[0].plans_left > 0) {
        world_run(&world, 10);
    }
    assert_int_equal(fakes[4].encode_count, 1);
    assert_int_equal(fakes[0].prefetch_count, 1);
    assert_int_equal(fakes[1].prefetch_count, 0); /* rank 0 only */
    assert_int_equal(fetch(&world, fakes[4].digest, &size), RMK_STATUS_OK);
    assert_int_equal(size, 45);
    kill_rank_1();
    client_wait(&client);
    expect_answer(&client, 16);
    assert_true(client.result->usage->image_rows > 0);
    assert_int_equal(fetch(&world, fakes[4].digest, &size), RMK_STATUS_NOT_FOUND);
    client_deinit(&client);
}

static void a_picture_that_cannot_be_decoded_is_the_clients_fault(void **state)
{
    struct client client;
    struct ask ask;

    (void)state;
    start_vision(FAKE_ENCODE_CORRUPT);
    ask_init(&ask, "What is this?", 16);
    ask_picture(&ask, 100, 60);
    client_ask(&client, &world, &ask, 0);
    client_wait(&client);
    assert_int_equal(client.status, RMK_STATUS_INVALID_ARGUMENT);
    assert_non_null(strstr(client.message, "ends too early"));
}

static void a_lost_vision_worker_is_replaced_by_another(void **state)
{
    struct client client;
    struct ask ask;

    (void)state;
    start_vision(FAKE_ENCODE_HOLD);
    ask_init(&ask, "What is this?", 16);
    ask_picture(&ask, 100, 60);
    client_ask(&client, &world, &ask, 0);
    world_wait(&world, has_encode, &fakes[4], "the order");
    fake_vision(&fakes[5], &world, "v1");
    fake_attach(&fakes[5]);
    world_wait(&world, is_welcome, &fakes[5], "the second vision worker");
    fake_kill(&fakes[4]);
    client_wait(&client);
    expect_answer(&client, 16);
    assert_int_equal(fakes[5].encode_count, 1);
    client_deinit(&client);
}

static void a_vision_worker_that_counts_otherwise_is_not_believed(void **state)
{
    struct client client;
    struct ask ask;

    (void)state;
    start_vision(FAKE_ENCODE_ROWS);
    fake_vision(&fakes[5], &world, "v1");
    fake_attach(&fakes[5]);
    world_wait(&world, is_welcome, &fakes[5], "the second vision worker");
    ask_init(&ask, "What is this?", 16);
    ask_picture(&ask, 100, 60);
    client_ask(&client, &world, &ask, 0);
    client_wait(&client);
    expect_answer(&client, 16);
    assert_int_equal(fakes[5].encode_count, 1);
    client_deinit(&client);
}

static void features_that_were_evicted_are_encoded_again(void **state)
{
    struct client client;
    struct ask ask;

    (void)state;
    start_vision(FAKE_ENCODE);
    fakes[0].refuse_features = true;
    ask_init(&ask, "What is this?", 16);
    ask_picture(&ask, 100, 60);
    client_ask(&client, &world, &ask, 0);
    client_wait(&client);
    expect_answer(&client, 16);
    assert_int_equal(fakes[0].prefetch_count, 2);
    assert_int_equal(fakes[4].encode_count, 2);
    client_deinit(&client);
}

/* The engine encodes equal pictures once; the one who asked first may leave before the answer
 * comes. */
static void a_shared_encode_outlives_the_request_that_ordered_it(void **state)
{
    struct client first, second;
    struct ask ask;

    (void)state;
    start_vision(FAKE_ENCODE_HOLD);
    ask_init(&ask, "What is this?", 16);
    ask_picture(&ask, 100, 60);
    client_ask(&first, &world, &ask, 0);
    world_wait(&world, has_encode, &fakes[4], "the order");
    ask.parts[1].text = "What else?";
    client_ask(&second, &world, &ask, 0);
    while (second.accepted_count == 0) {
        world_run(&world, 10);
    }
    rmk_rpc_call_cancel(first.call);
    client_wait(&first);
    world_run(&world, 50);
    assert_int_equal(fakes[4].encode_count, 1);
    fake_answer_encode(&fakes[4]);
    client_wait(&second);
    expect_answer(&second, 16);
    assert_int_equal(fakes[4].encode_count, 1);
    client_deinit(&second);
}

static void readiness_can_ask_for_a_vision_worker(void **state)
{
    (void)state;
    world.options.require_vision = RMK_VISION_NEED_AUTO; /* the demo model has a tower */
    world_start(&world);
    fake_text(&fakes[0], &world, 0, 1);
    fake_attach(&fakes[0]);
    fakes[0].plan_count = 1; /* has_plan means: the warm-up's */
    world_wait(&world, has_plan, &fakes[0], "the warm-up");
    world_run(&world, 100);
    assert_false(rmk_app_ready(world.app));
    fake_vision(&fakes[4], &world, "v0");
    fake_attach(&fakes[4]);
    world_wait(&world, is_ready, &world, "readiness");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(workers_that_do_not_fit_are_refused_in_words),
        TEST(a_stream_without_a_hello_is_ended),
        TEST(a_request_survives_the_loss_of_rank_0),
        TEST(a_request_survives_the_loss_of_another_rank),
        TEST(a_plan_that_is_not_answered_dissolves_the_group_and_the_request_goes_on),
        TEST(a_group_fault_ends_the_epoch_for_all_ranks),
        TEST(a_rank_that_falls_silent_is_given_up),
        TEST(a_token_outside_the_vocabulary_ends_the_stream_not_the_request),
        TEST(a_result_that_is_too_short_ends_the_stream_not_the_request),
        TEST(a_rank_that_read_another_plan_ends_the_epoch),
        TEST(a_poisoned_request_fails_and_the_next_is_answered),
        TEST(a_plan_that_is_refused_for_ever_ends_with_unavailable),
        TEST(messages_that_are_not_a_workers_to_send_end_its_stream),
        TEST(answers_about_nothing_that_was_asked_change_nothing),
        TEST(a_goodbye_ends_the_stream_kindly),
        TEST(requests_of_one_group_go_on_in_another_when_it_is_lost),
        TEST(a_picture_is_encoded_fetched_pulled_and_forgotten),
        TEST(a_picture_that_cannot_be_decoded_is_the_clients_fault),
        TEST(a_lost_vision_worker_is_replaced_by_another),
        TEST(a_vision_worker_that_counts_otherwise_is_not_believed),
        TEST(features_that_were_evicted_are_encoded_again),
        TEST(a_shared_encode_outlives_the_request_that_ordered_it),
        TEST(readiness_can_ask_for_a_vision_worker),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
