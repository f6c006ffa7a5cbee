#include "tests/coordinator/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <xxhash.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/rpc/pack.h"
#include "coordinator/served.h"
#include "grpc/health/v1/health.pb-c.h"
#include "model/tokenizer.h"

#define WAIT_US 10000000u

/* ---- the world
 * --------------------------------------------------------------------------------------------------
 */

static void read_model(struct world *world)
{
    struct rmk_model_data *model = NULL;
    struct rmk_why why = {0};

    if (rmk_model_data_create("models/demo", NULL, NULL, NULL, false, &model, &why) != RMK_OK) {
        fail_msg("%s", why.text);
    }
    memcpy(world->digest, model->served.digest, sizeof(world->digest));
    world->width = model->spec.text.width;
    for (int i = 0; i < 26; i++) {
        char letter[2] = {(char)('a' + i), '\0'};

        world->letters[i] = rmk_tokenizer_find(model->tokenizer, letter);
        assert_true(world->letters[i] >= 0);
    }
    rmk_model_data_destroy(model);
}

void world_init(struct world *world)
{
    memset(world, 0, sizeof(*world));
    rmk_log_init(getenv("RMK_TEST_LOG") != NULL ? RMK_LOG_DEBUG : RMK_LOG_ERROR, RMK_LOG_LOGFMT,
                 "test");
    assert_int_equal(uv_loop_init(&world->loop), 0);
    read_model(world);
    rmk_app_defaults(&world->options);
    world->options.model_dir = "models/demo";
    world->options.listen = "127.0.0.1:0";
    world->options.cluster_listen = "127.0.0.1:0";
    world->options.metrics_listen = "127.0.0.1:0";
    world->options.require_vision = RMK_VISION_NEED_NO;
    world->options.heartbeat_interval_ms = 100;
    world->options.heartbeat_timeout_ms = 5000;
    world->options.hello_timeout_ms = 300;
}

void world_start(struct world *world)
{
    struct rmk_why why = {0};
    char address[64];

    if (rmk_app_create(&world->loop, &world->options, &world->app, &why) != RMK_OK) {
        fail_msg("%s", why.text);
    }
    assert_int_equal(rmk_rpc_create(&world->loop, &world->rpc, &why), RMK_OK);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", rmk_app_port(world->app));
    assert_int_equal(rmk_rpc_channel_create(world->rpc, address, &(struct rmk_rpc_options){0},
                                            &world->api, &why),
                     RMK_OK);
}

static void on_stopped(void *context)
{
    ((struct world *)context)->stopped = true;
}

static void on_rpc_closed(void *context)
{
    ((struct world *)context)->rpc_closed = true;
}

static bool is_stopped(void *context)
{
    return ((struct world *)context)->stopped;
}

static bool is_closed(void *context)
{
    return ((struct world *)context)->rpc_closed;
}

void world_end(struct world *world)
{
    if (world->app != NULL) {
        rmk_app_drain(world->app, on_stopped, world);
        world->app = NULL;
    }
    world_wait(world, is_stopped, world, "the coordinator to stop");
    rmk_rpc_channel_destroy(world->api);
    rmk_rpc_close(world->rpc, on_rpc_closed, world);
    world_wait(world, is_closed, world, "the clients to close");
    (void)uv_run(&world->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&world->loop), 0);
}

static void on_alarm(uv_timer_t *timer)
{
    (void)timer; /* it wakes the loop, so that a wait can give up */
}

static void pump(struct world *world, bool (*done)(void *context), void *context, uint64_t limit_us)
{
    uint64_t begin_us = rmk_clock_us();
    uv_timer_t alarm;

    assert_int_equal(uv_timer_init(&world->loop, &alarm), 0);
    assert_int_equal(uv_timer_start(&alarm, on_alarm, 10, 10), 0);
    while ((done == NULL || !done(context)) && rmk_clock_us() - begin_us < limit_us) {
        (void)uv_run(&world->loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)&alarm, NULL);
    (void)uv_run(&world->loop, UV_RUN_NOWAIT);
}

void world_wait(struct world *world, bool (*done)(void *context), void *context, const char *what)
{
    pump(world, done, context, WAIT_US);
    if (!done(context)) {
        fail_msg("waited in vain for %s", what);
    }
}

void world_run(struct world *world, uint64_t milliseconds)
{
    pump(world, NULL, NULL, milliseconds * 1000);
}

/* ---- workers
 * -------------------------------------------------------------------------------------------------------
 */

void fake_text(struct fake *fake, struct world *world, uint32_t rank, uint32_t size)
{
    *fake = (struct fake){
        .world = world,
        .name = "fake text",
        .group = "g0",
        .rank = rank,
        .size = size,
        .protocol = 1,
        .rows_max = 4096,
        .reads_max = 1024,
        .plans_left = UINT32_MAX,
    };
}

void fake_vision(struct fake *fake, struct world *world, const char *name)
{
    *fake = (struct fake){
        .world = world, .vision = true, .name = name, .protocol = 1, .plans_left = UINT32_MAX};
}

static uint64_t chance(struct fake *fake, uint64_t bound)
{
    fake->garble = fake->garble * 6364136223846793005u + 1442695040888963407u;
    return (fake->garble >> 33) % bound;
}

/* Few changes, so that most of it still is what it was; at times it ends early. */
static void send_garbled(struct fake *fake, const Remask__Cluster__V1__WorkerMessage *message)
{
    size_t size = 0;
    uint8_t *bytes = rmk_pack(&message->base, &size);

    assert_non_null(bytes);
    for (uint64_t left = size == 0 ? 0 : 1 + chance(fake, 3); left > 0; left--) {
        bytes[chance(fake, size)] ^= (uint8_t)(1 << chance(fake, 8));
    }
    if (chance(fake, 8) == 0) {
        size = size / 2;
    }
    fake->garbled_count++;
    fake_send_bytes(fake, rmk_bytes_of(bytes, size));
    free(bytes);
}

void fake_send(struct fake *fake, const Remask__Cluster__V1__WorkerMessage *message)
{
    if (fake->ended) {
        return;
    }
    if (fake->garble != 0 && chance(fake, 4) == 0) {
        send_garbled(fake, message);
    } else {
        (void)rmk_pack_send(fake->call, &message->base);
    }
}

void fake_send_bytes(struct fake *fake, struct rmk_bytes bytes)
{
    (void)rmk_rpc_call_send(fake->call, bytes);
}

static void send_hello(struct fake *fake)
{
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;
    Remask__Cluster__V1__Hello hello = REMASK__CLUSTER__V1__HELLO__INIT;
    Remask__Cluster__V1__Numerics numerics = REMASK__CLUSTER__V1__NUMERICS__INIT;
    uint8_t digest[32];

    memcpy(digest, fake->world->digest, sizeof(digest));
    digest[0] ^= fake->wrong_digest;
    hello.protocol_min = fake->protocol;
    hello.protocol_max = fake->protocol;
    hello.role = fake->vision ? REMASK__CLUSTER__V1__ROLE__VISION : REMASK__CLUSTER__V1__ROLE__TEXT;
    hello.name = (char *)(uintptr_t)fake->name;
    hello.model_digest.data = digest;
    hello.model_digest.len = sizeof(digest);
    hello.width = fake->world->width;
    if (fake->vision) {
        hello.address = (char *)(uintptr_t) "127.0.0.1:1";
        hello.parallel_max = 2;
    } else {
        numerics.backend = (char *)(uintptr_t) "fake";
        numerics.dtype = (char *)(uintptr_t) "f32";
        numerics.tp = fake->size;
        hello.group = (char *)(uintptr_t)fake->group;
        hello.rank = fake->rank;
        hello.size = fake->size;
        hello.numerics = &numerics;
        hello.slot_count = 4;
        hello.rows_max = fake->rows_max;
        hello.step_rows_max = fake->rows_max;
        hello.reads_max = fake->reads_max;
    }
    message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_HELLO;
    message.hello = &hello;
    fake_send(fake, &message);
}

static void fake_form(struct fake *fake, const Remask__Cluster__V1__Form *form)
{
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;
    Remask__Cluster__V1__BootstrapId id = REMASK__CLUSTER__V1__BOOTSTRAP_ID__INIT;
    Remask__Cluster__V1__Formed formed = REMASK__CLUSTER__V1__FORMED__INIT;

    fake->form_count++;
    fake->epoch = form->epoch;
    if (fake->rank == 0) {
        id.epoch = form->epoch;
        id.id.data = (uint8_t *)(uintptr_t) "id";
        id.id.len = 2;
        message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_BOOTSTRAP_ID;
        message.bootstrap_id = &id;
        fake_send(fake, &message);
    }
    if (fake->rank == 0) {
        formed.epoch = form->epoch;
        message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_FORMED;
        message.formed = &formed;
        fake_send(fake, &message);
    }
}

/* Ranks other than 0 have formed when they have the id. */
static void fake_bootstrap(struct fake *fake, const Remask__Cluster__V1__Bootstrap *bootstrap)
{
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;
    Remask__Cluster__V1__Formed formed = REMASK__CLUSTER__V1__FORMED__INIT;

    assert_int_equal(bootstrap->id.len, 2);
    formed.epoch = bootstrap->epoch;
    message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_FORMED;
    message.formed = &formed;
    fake_send(fake, &message);
}

static void fill_row(struct fake *fake, const Remask__Cluster__V1__Row *row,
                     Remask__Cluster__V1__RowResult *result)
{
    remask__cluster__v1__row_result__init(result);
    result->request = row->request;
    result->n_tokens = row->n_reads;
    result->n_confidences = row->n_reads;
    result->tokens = calloc(row->n_reads, sizeof(*result->tokens));
    result->confidences = calloc(row->n_reads, sizeof(*result->confidences));
    for (size_t i = 0; i < row->n_reads; i++) {
        uint32_t position = row->reads[i] - fake->prompt_rows[row->slot];

        result->tokens[i] = fake->world->letters[position % 26];
        result->confidences[i] = 1.0 / (2.0 + position);
    }
    if (fake->on_plan == FAKE_BAD_TOKEN) {
        result->tokens[0] = 1 << 30;
    } else if (fake->on_plan == FAKE_SHORT) {
        result->n_tokens--;
    }
    result->poisoned = fake->on_plan == FAKE_POISON;
}

static void fake_plan(struct fake *fake, const Remask__Cluster__V1__StepPlan *plan, uint64_t hash)
{
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;
    Remask__Cluster__V1__StepResult result = REMASK__CLUSTER__V1__STEP_RESULT__INIT;
    Remask__Cluster__V1__RowResult rows[4];
    Remask__Cluster__V1__RowResult *pointers[4];

    fake->plan_count++;
    for (size_t i = 0; i < plan->n_opens; i++) {
        fake->open_count++;
        fake->prompt_rows[plan->opens[i]->slot] = plan->opens[i]->prompt_rows;
    }
    if (fake->on_plan == FAKE_HOLD || fake->plans_left == 0) {
        return;
    }
    fake->plans_left -= fake->plans_left != UINT32_MAX;
    assert_true(plan->n_rows <= 4);
    result.epoch = plan->epoch;
    result.sequence = plan->sequence;
    result.hash = hash ^ (fake->on_plan == FAKE_BAD_HASH);
    if (fake->on_plan == FAKE_REFUSE) {
        result.why = (char *)(uintptr_t) "the fake does not want to";
        result.error = RMK_EINTERNAL;
    } else if (fake->rank == 0) {
        result.n_rows = plan->n_rows;
        result.rows = pointers;
        for (size_t i = 0; i < plan->n_rows; i++) {
            fill_row(fake, plan->rows[i], &rows[i]);
            pointers[i] = &rows[i];
        }
    }
    message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_STEP_RESULT;
    message.step_result = &result;
    fake_send(fake, &message);
    for (size_t i = 0; i < result.n_rows; i++) {
        free(rows[i].tokens);
        free(rows[i].confidences);
    }
}

void fake_answer_encode(struct fake *fake)
{
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;
    Remask__Cluster__V1__Encoded encoded = REMASK__CLUSTER__V1__ENCODED__INIT;

    encoded.request = fake->held_request;
    encoded.item = fake->held_item;
    encoded.key.data = fake->held_key;
    encoded.key.len = sizeof(fake->held_key);
    encoded.rows = fake->held_rows + (fake->on_encode == FAKE_ENCODE_ROWS);
    encoded.width = fake->world->width;
    message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_ENCODED;
    message.encoded = &encoded;
    fake_send(fake, &message);
}

static void fake_encode(struct fake *fake, const Remask__Cluster__V1__Encode *encode)
{
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;
    Remask__Cluster__V1__EncodeFailed failed = REMASK__CLUSTER__V1__ENCODE_FAILED__INIT;

    fake->encode_count++;
    memcpy(fake->digest, encode->digests[0].data, 32);
    fake->held_request = encode->request;
    fake->held_item = encode->item;
    fake->held_rows = encode->rows;
    memcpy(fake->held_key, encode->key.data, 32);
    if (fake->on_encode == FAKE_ENCODE_CORRUPT) {
        failed.request = encode->request;
        failed.item = encode->item;
        failed.error = RMK_ECORRUPT;
        failed.why = (char *)(uintptr_t) "the picture ends too early";
        message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_ENCODE_FAILED;
        message.encode_failed = &failed;
        fake_send(fake, &message);
    } else if (fake->on_encode != FAKE_ENCODE_HOLD) {
        fake_answer_encode(fake);
    }
}

static void fake_prefetch(struct fake *fake, const Remask__Cluster__V1__Prefetch *prefetch)
{
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;
    Remask__Cluster__V1__FeaturesResident resident = REMASK__CLUSTER__V1__FEATURES_RESIDENT__INIT;
    Remask__Cluster__V1__FeaturesFailed failed = REMASK__CLUSTER__V1__FEATURES_FAILED__INIT;

    fake->prefetch_count++;
    if (fake->garble == 0) { /* else the Hello may have been garbled */
        assert_string_equal(prefetch->address, "127.0.0.1:1");
    }
    if (fake->refuse_features) {
        fake->refuse_features = false;
        failed.epoch = prefetch->epoch;
        failed.request = prefetch->request;
        failed.item = prefetch->item;
        failed.error = RMK_ENOTFOUND;
        failed.why = (char *)(uintptr_t) "evicted";
        message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_FEATURES_FAILED;
        message.features_failed = &failed;
    } else {
        resident.epoch = prefetch->epoch;
        resident.request = prefetch->request;
        resident.item = prefetch->item;
        message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_FEATURES_RESIDENT;
        message.features_resident = &resident;
    }
    fake_send(fake, &message);
}

static void fake_heartbeat(struct fake *fake, const Remask__Cluster__V1__Heartbeat *heartbeat)
{
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;
    Remask__Cluster__V1__Heartbeat answer = REMASK__CLUSTER__V1__HEARTBEAT__INIT;

    answer.echo_us = heartbeat->sent_us;
    message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_HEARTBEAT;
    message.heartbeat = &answer;
    fake_send(fake, &message);
}

static void on_fake_message(struct rmk_rpc_call *call, struct rmk_bytes bytes, void *context)
{
    struct fake *fake = context;
    ProtobufCMessage *unpacked = NULL;
    Remask__Cluster__V1__CoordinatorMessage *message;

    (void)call;
    if (fake->silent) {
        return;
    }
    assert_int_equal(
        rmk_unpack(&remask__cluster__v1__coordinator_message__descriptor, bytes, &unpacked, NULL),
        RMK_OK);
    message = (Remask__Cluster__V1__CoordinatorMessage *)unpacked;
    switch (message->kind_case) {
    case REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_WELCOME:
        fake->welcomed = true;
        break;
    case REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_HEARTBEAT:
        fake_heartbeat(fake, message->heartbeat);
        break;
    case REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_FORM:
        fake_form(fake, message->form);
        break;
    case REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_BOOTSTRAP:
        fake_bootstrap(fake, message->bootstrap);
        break;
    case REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_DISSOLVE:
        fake->dissolve_count++;
        break;
    case REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_STEP_PLAN:
        fake_plan(fake, message->step_plan, XXH64(bytes.data, bytes.size, 0));
        break;
    case REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_PREFETCH:
        fake_prefetch(fake, message->prefetch);
        break;
    case REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_FORGET:
        fake->forget_count++;
        break;
    case REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_ENCODE:
        fake_encode(fake, message->encode);
        break;
    default:
        fail_msg("unexpected message %d", (int)message->kind_case);
    }
    protobuf_c_message_free_unpacked(unpacked, NULL);
}

static void on_fake_done(struct rmk_rpc_call *call, int status, const char *message, void *context)
{
    struct fake *fake = context;

    (void)call;
    fake->ended = true;
    fake->status = status;
    (void)snprintf(fake->message, sizeof(fake->message), "%s", message != NULL ? message : "");
    rmk_rpc_channel_destroy(fake->channel);
}

void fake_attach(struct fake *fake)
{
    static const struct rmk_rpc_events events = {
        .on_message = on_fake_message,
        .on_done = on_fake_done,
    };
    char address[64];

    (void)snprintf(address, sizeof(address), "127.0.0.1:%u",
                   rmk_app_cluster_port(fake->world->app));
    assert_int_equal(rmk_rpc_channel_create(fake->world->rpc, address, &(struct rmk_rpc_options){0},
                                            &fake->channel, NULL),
                     RMK_OK);
    fake->call = rmk_rpc_channel_call(fake->channel, "/remask.cluster.v1.Cluster/Attach", 0, false,
                                      NULL, &events, fake);
    if (fake->protocol != 0) {
        send_hello(fake);
    }
}

void fake_kill(struct fake *fake)
{
    if (!fake->ended) {
        rmk_rpc_call_cancel(fake->call);
    }
}

/* ---- clients
 * ----------------------------------------------------------------------------------------------------------
 */

void ask_init(struct ask *ask, const char *text, uint32_t gen_length)
{
    remask__v1__generate_request__init(&ask->request);
    remask__v1__message__init(&ask->message);
    remask__v1__part__init(&ask->parts[0]);
    remask__v1__part__init(&ask->parts[1]);
    remask__v1__media__init(&ask->media);
    remask__v1__sampling__init(&ask->sampling);
    ask->parts[0].kind_case = REMASK__V1__PART__KIND_TEXT;
    ask->parts[0].text = (char *)(uintptr_t)text;
    ask->part_pointers[0] = &ask->parts[0];
    ask->message.role = (char *)(uintptr_t) "user";
    ask->message.n_parts = 1;
    ask->message.parts = ask->part_pointers;
    ask->messages[0] = &ask->message;
    ask->request.n_messages = 1;
    ask->request.messages = ask->messages;
    ask->sampling.gen_length = gen_length;
    ask->request.sampling = &ask->sampling;
}

void ask_picture(struct ask *ask, uint32_t width, uint32_t height)
{
    static uint8_t png[45] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR........\x08\x02\0\0\0....\0\0\0\0IEND";

    for (int i = 0; i < 4; i++) {
        png[16 + i] = (uint8_t)(width >> (24 - 8 * i));
        png[20 + i] = (uint8_t)(height >> (24 - 8 * i));
    }
    ask->media.kind_case = REMASK__V1__MEDIA__KIND_IMAGE;
    ask->media.image.data = png;
    ask->media.image.len = sizeof(png);
    ask->parts[1] = ask->parts[0];
    ask->parts[0].kind_case = REMASK__V1__PART__KIND_MEDIA;
    ask->parts[0].media = &ask->media;
    ask->part_pointers[1] = &ask->parts[1];
    ask->message.n_parts = 2;
}

static void on_client_message(struct rmk_rpc_call *call, struct rmk_bytes bytes, void *context)
{
    struct client *client = context;
    ProtobufCMessage *unpacked = NULL;
    Remask__V1__GenerateEvent *event;

    (void)call;
    assert_int_equal(rmk_unpack(&remask__v1__generate_event__descriptor, bytes, &unpacked, NULL),
                     RMK_OK);
    event = (Remask__V1__GenerateEvent *)unpacked;
    switch (event->kind_case) {
    case REMASK__V1__GENERATE_EVENT__KIND_ACCEPTED:
        assert_int_equal(client->delta_count + client->canvas_count, 0);
        client->accepted_count++;
        break;
    case REMASK__V1__GENERATE_EVENT__KIND_TEXT:
        client->delta_count++;
        assert_true(strlen(client->text) + strlen(event->text->text) < sizeof(client->text));
        (void)strcat(client->text, event->text->text); /* bounded just above */
        break;
    case REMASK__V1__GENERATE_EVENT__KIND_CANVAS:
        client->canvas_count++;
        break;
    case REMASK__V1__GENERATE_EVENT__KIND_RESULT:
        assert_null(client->result);
        client->result = event->result;
        event->kind_case = REMASK__V1__GENERATE_EVENT__KIND__NOT_SET; /* the client's now */
        event->result = NULL;
        break;
    default:
        fail_msg("an event without a kind");
    }
    protobuf_c_message_free_unpacked(unpacked, NULL);
}

static void on_client_done(struct rmk_rpc_call *call, int status, const char *message,
                           void *context)
{
    struct client *client = context;

    (void)call;
    client->ended = true;
    client->status = status;
    (void)snprintf(client->message, sizeof(client->message), "%s", message != NULL ? message : "");
}

static void client_call(struct client *client, struct world *world, uint64_t deadline_ms)
{
    static const struct rmk_rpc_events events = {
        .on_message = on_client_message,
        .on_done = on_client_done,
    };

    *client = (struct client){.world = world};
    client->call = rmk_rpc_channel_call(world->api, "/remask.v1.Remask/Generate", deadline_ms,
                                        false, NULL, &events, client);
}

void client_ask(struct client *client, struct world *world, const struct ask *ask,
                uint64_t deadline_ms)
{
    client_call(client, world, deadline_ms);
    (void)rmk_pack_send(client->call, &ask->request.base);
    rmk_rpc_call_half_close(client->call);
}

void client_ask_bytes(struct client *client, struct world *world, struct rmk_bytes bytes)
{
    client_call(client, world, 0);
    (void)rmk_rpc_call_send(client->call, bytes);
    rmk_rpc_call_half_close(client->call);
}

static bool client_ended(void *context)
{
    return ((struct client *)context)->ended;
}

void client_wait(struct client *client)
{
    world_wait(client->world, client_ended, client, "a client's call to end");
}

void client_deinit(struct client *client)
{
    if (client->result != NULL) {
        protobuf_c_message_free_unpacked(&client->result->base, NULL);
    }
}

const char *alphabet(uint32_t length)
{
    static char text[2048];

    assert_true(length < sizeof(text));
    for (uint32_t i = 0; i < length; i++) {
        text[i] = (char)('a' + i % 26);
    }
    text[length] = '\0';
    return text;
}

/* ---- one answer
 * ----------------------------------------------------------------------------------------------------------
 */

struct simple {
    ProtobufCMessage *message;
    const ProtobufCMessageDescriptor *descriptor;
    size_t bytes;
    bool ended;
    int status;
};

static void on_simple_message(struct rmk_rpc_call *call, struct rmk_bytes bytes, void *context)
{
    struct simple *simple = context;

    (void)call;
    if (simple->message != NULL) {
        protobuf_c_message_free_unpacked(simple->message, NULL);
        simple->message = NULL;
    }
    assert_int_equal(rmk_unpack(simple->descriptor, bytes, &simple->message, NULL), RMK_OK);
    if (simple->descriptor == &remask__cluster__v1__chunk__descriptor) {
        Remask__Cluster__V1__Chunk *chunk = (Remask__Cluster__V1__Chunk *)simple->message;

        assert_int_equal(chunk->offset, simple->bytes);
        simple->bytes += chunk->data.len;
    }
}

static void on_simple_done(struct rmk_rpc_call *call, int status, const char *message,
                           void *context)
{
    struct simple *simple = context;

    (void)call;
    (void)message;
    simple->ended = true;
    simple->status = status;
}

static bool simple_ended(void *context)
{
    return ((struct simple *)context)->ended;
}

static void call_simply(struct world *world, struct rmk_rpc_channel *channel, const char *path,
                        const ProtobufCMessage *request, struct simple *simple)
{
    static const struct rmk_rpc_events events = {
        .on_message = on_simple_message,
        .on_done = on_simple_done,
    };
    struct rmk_rpc_call *call =
        rmk_rpc_channel_call(channel, path, 5000, false, NULL, &events, simple);

    (void)rmk_pack_send(call, request);
    rmk_rpc_call_half_close(call);
    world_wait(world, simple_ended, simple, path);
}

bool is_healthy(struct world *world)
{
    struct simple simple = {.descriptor = &grpc__health__v1__health_check_response__descriptor};
    Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    bool healthy;

    call_simply(world, world->api, "/grpc.health.v1.Health/Check", &request.base, &simple);
    assert_int_equal(simple.status, RMK_STATUS_OK);
    healthy = ((Grpc__Health__V1__HealthCheckResponse *)simple.message)->status ==
              GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
    protobuf_c_message_free_unpacked(simple.message, NULL);
    return healthy;
}

Remask__V1__StatusReply *get_status(struct world *world)
{
    struct simple simple = {.descriptor = &remask__v1__status_reply__descriptor};
    Remask__V1__StatusRequest request = REMASK__V1__STATUS_REQUEST__INIT;

    call_simply(world, world->api, "/remask.v1.Remask/Status", &request.base, &simple);
    assert_int_equal(simple.status, RMK_STATUS_OK);
    return (Remask__V1__StatusReply *)simple.message;
}

int fetch(struct world *world, const uint8_t digest[32], size_t *out_size)
{
    struct simple simple = {.descriptor = &remask__cluster__v1__chunk__descriptor};
    Remask__Cluster__V1__FetchRequest request = REMASK__CLUSTER__V1__FETCH_REQUEST__INIT;
    struct rmk_rpc_channel *channel = NULL;
    char address[64];

    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", rmk_app_cluster_port(world->app));
    assert_int_equal(
        rmk_rpc_channel_create(world->rpc, address, &(struct rmk_rpc_options){0}, &channel, NULL),
        RMK_OK);
    request.digest.data = (uint8_t *)(uintptr_t)digest;
    request.digest.len = 32;
    call_simply(world, channel, "/remask.cluster.v1.Images/Fetch", &request.base, &simple);
    rmk_rpc_channel_destroy(channel);
    if (simple.message != NULL) {
        protobuf_c_message_free_unpacked(simple.message, NULL);
    }
    *out_size = simple.bytes;
    return simple.status;
}
