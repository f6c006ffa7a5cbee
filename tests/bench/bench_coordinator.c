/* What the coordinator itself costs: everything between a client's request and the bytes of a plan,
 * and between the bytes of a result and a client's text, without sockets. Real: intake (on the
 * pool), the table of requests, the loop, the engine, packing and hashing of plans, checking of
 * results, text. Fake: workers, which answer any plan at once; their time does not count.
 *
 *     bench-coordinator [--requests N] [--open N] [--groups N] [--slots N] [--plan-rows N]
 *                       [--gen-length N] [--picture-bytes N] [--model DIR]
 *
 * Two parts, N requests of few rows and N / 8 of eight times as many, so that what a row costs and
 * what a request costs beside its rows can be told apart. The process's memory is looked at ten
 * times in each part, after as many requests first as are open and kept at once.
 */
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <uv.h>

#include "common/clock.h"
#include "common/digest.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/process.h"
#include "common/rpc/pack.h"
#include "common/rpc/rpc.h"
#include "coordinator/arena.h"
#include "coordinator/back/back.h"
#include "coordinator/back/flight.h"
#include "coordinator/back/images.h"
#include "coordinator/back/plan.h"
#include "coordinator/engine/engine.h"
#include "coordinator/front/ask.h"
#include "coordinator/front/intake.h"
#include "coordinator/loop.h"
#include "coordinator/metrics.h"
#include "coordinator/requests.h"
#include "coordinator/result.h"
#include "coordinator/served.h"
#include "model/tokenizer.h"
#include "remask/cluster/v1/cluster.pb-c.h"
#include "remask/v1/remask.pb-c.h"

static const char said[] =
    "There are two objects on a grey background: a small red circle and a large "
    "blue square. The circle is left of the square.";
static const char asked[] = "Please describe the image in detail.";

enum {
    WORDS_MAX = 256,
    RESULTS_KEPT = 256,
    VISIONS = 16,
    VISION_PARALLEL = 8,
    PNG_LEAST = 64,
    LOOKS = 10,
    MANY = 8, /* times the rows of the other part */
    HASHES = 1000,
};

struct options {
    const char *model;
    uint64_t request_count;
    uint32_t open_max;
    uint32_t group_count;
    uint32_t slot_count;
    uint32_t plan_rows;
    uint32_t gen_length;
    uint32_t picture_bytes;
};

struct group {
    struct rmk_flight flight;
    uint64_t epoch;
    uint64_t sequence;
    uint64_t hash;
    uint8_t *answer; /* packed, from the fake */
    size_t answer_size;
};

struct client {
    struct rmk_listener listener; /* first: a listener is a client */
    struct bench *bench;
    struct client *next; /* idle */
};

struct bench {
    const struct options *options;
    uv_loop_t uv;
    uv_idle_t idle;
    struct rmk_model_data *model;
    struct rmk_images *images;
    struct rmk_metrics *registry;
    struct rmk_coordinator_metrics metrics;
    struct rmk_requests *requests;
    void *engine_memory;
    struct rmk_engine *engine;
    struct rmk_loop *loop;
    struct rmk_arena scratch;
    struct rmk_arena answers; /* of one result, until it is posted */
    struct group *groups;
    uint32_t *pending; /* groups with a plan to answer */
    uint32_t pending_count;
    struct client *clients;
    struct client *idle_clients;
    int32_t words[WORDS_MAX];
    size_t word_count;
    uint8_t *picture;
    /* this part */
    uint32_t steps;
    uint64_t to_open;
    uint64_t to_end;
    uint64_t row_count;
    uint64_t plan_count;
    uint64_t plan_bytes;
    uint64_t fake_ns; /* of the loop's thread, in fakes */
    uint64_t failed;
    uint64_t count;
    uint64_t resident[LOOKS + 1]; /* before, and after each tenth */
    uint32_t look_count;
    bool closed;
};

static uint64_t cpu_ns(clockid_t clock)
{
    struct timespec now;

    (void)clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- clients
 * ---------------------------------------------------------------------------------------- */

/* What the gRPC front would pack. */
static void pack_event(const Remask__V1__GenerateEvent *event)
{
    size_t size;

    free(rmk_pack(&event->base, &size));
}

static void on_accepted(struct rmk_listener *listener, const char *request_id, uint32_t prompt_rows)
{
    Remask__V1__Accepted accepted = REMASK__V1__ACCEPTED__INIT;
    Remask__V1__GenerateEvent event = REMASK__V1__GENERATE_EVENT__INIT;

    (void)listener;
    accepted.request_id = (char *)(uintptr_t)request_id;
    accepted.prompt_rows = prompt_rows;
    event.kind_case = REMASK__V1__GENERATE_EVENT__KIND_ACCEPTED;
    event.accepted = &accepted;
    pack_event(&event);
}

static void on_text(struct rmk_listener *listener, struct rmk_bytes text, const int32_t *ids,
                    uint32_t id_count)
{
    Remask__V1__TextDelta delta = REMASK__V1__TEXT_DELTA__INIT;
    Remask__V1__GenerateEvent event = REMASK__V1__GENERATE_EVENT__INIT;
    char *copy = malloc(text.size + 1);

    (void)listener;
    (void)ids;
    (void)id_count;
    rmk_assert(copy != NULL);
    if (text.size > 0) {
        memcpy(copy, text.data, text.size);
    }
    copy[text.size] = '\0';
    delta.text = copy;
    event.kind_case = REMASK__V1__GENERATE_EVENT__KIND_TEXT;
    event.text = &delta;
    pack_event(&event);
    free(copy);
}

static void on_canvas(struct rmk_listener *listener, const struct rmk_canvas *canvas)
{
    (void)listener;
    (void)canvas;
}

static void on_ended(struct rmk_listener *listener, const struct rmk_outcome *outcome)
{
    struct client *client = (struct client *)listener;
    struct bench *bench = client->bench;

    if (outcome->result == NULL && bench->failed++ == 0) {
        (void)fprintf(stderr, "bench-coordinator: %s\n", outcome->why);
    }
    client->next = bench->idle_clients;
    bench->idle_clients = client;
    bench->to_end--;
}

static struct rmk_ask *make_ask(struct bench *bench)
{
    const uint32_t picture_count = bench->options->picture_bytes > 0 ? 1 : 0;
    struct rmk_ask *ask = rmk_ask_create(1, 1 + picture_count, picture_count, picture_count);
    struct rmk_why why = {0};

    rmk_assert(ask != NULL);
    if (picture_count > 0) {
        uint8_t *data = malloc(bench->options->picture_bytes);

        rmk_assert(data != NULL);
        memcpy(data, bench->picture, bench->options->picture_bytes);
        if (rmk_images_reserve(bench->images, 0, data, bench->options->picture_bytes,
                               &ask->frames_all[0], &why) != RMK_OK) {
            (void)fprintf(stderr, "bench-coordinator: %s\n", why.text);
            exit(1);
        }
        ask->media_all[0].frames = &ask->frames_all[0];
        ask->media_all[0].frame_count = 1;
        ask->parts_all[0].media = &ask->media_all[0];
    }
    ask->parts_all[picture_count].text = rmk_bytes_text(asked);
    ask->messages_all[0] = (struct rmk_ask_message){
        .role = "user", .parts = ask->parts_all, .part_count = 1 + picture_count};
    ask->gen_length = bench->options->gen_length;
    ask->steps = bench->steps;
    ask->no_default_stop = true;
    return ask;
}

static void open_clients(struct bench *bench)
{
    while (bench->to_open > 0 && bench->idle_clients != NULL) {
        struct client *client = bench->idle_clients;

        bench->idle_clients = client->next;
        bench->to_open--;
        rmk_requests_open(bench->requests, make_ask(bench), 0, &client->listener);
    }
}

/* ---- fake workers
 * ----------------------------------------------------------------------------------- */

/* Sure of every word, surest of the first, as far as anybody can tell. */
static void answer_plan(struct bench *bench, struct group *group)
{
    Remask__Cluster__V1__WorkerMessage message = REMASK__CLUSTER__V1__WORKER_MESSAGE__INIT;
    Remask__Cluster__V1__StepResult result = REMASK__CLUSTER__V1__STEP_RESULT__INIT;
    struct rmk_arena *arena = &bench->answers;

    result.epoch = group->epoch;
    result.sequence = group->sequence;
    result.hash = group->hash;
    result.compute_us = 1000;
    result.rows = rmk_arena_take(arena, group->flight.row_count * sizeof(*result.rows));
    for (uint32_t i = 0; i < group->flight.row_count; i++) {
        const struct rmk_flight_row *asked_row = &group->flight.rows[i];
        Remask__Cluster__V1__RowResult *row = rmk_arena_take(arena, sizeof(*row));

        remask__cluster__v1__row_result__init(row);
        row->request = rmk_wire_of_request(asked_row->request);
        row->n_tokens = asked_row->read_count;
        row->n_confidences = asked_row->read_count;
        row->tokens = rmk_arena_take(arena, asked_row->read_count * sizeof(*row->tokens));
        row->confidences = rmk_arena_take(arena, asked_row->read_count * sizeof(*row->confidences));
        for (uint32_t j = 0; j < asked_row->read_count; j++) {
            const uint32_t place = asked_row->reads[j] - asked_row->prompt_rows;

            row->tokens[j] = bench->words[place % bench->word_count];
            row->confidences[j] = 1.0 / (1.0 + place % 97);
        }
        result.rows[result.n_rows++] = row;
    }
    message.kind_case = REMASK__CLUSTER__V1__WORKER_MESSAGE__KIND_STEP_RESULT;
    message.step_result = &result;
    group->answer = rmk_pack(&message.base, &group->answer_size);
    rmk_assert(group->answer != NULL);
    rmk_arena_reset(arena);
}

/* ---- the coordinator's side of them
 * ----------------------------------------------------------------- */

static void run_step(struct bench *bench, const struct rmk_plan *plan)
{
    struct group *group = &bench->groups[plan->group];
    const struct rmk_intake **intakes =
        rmk_arena_take(&bench->scratch, plan->row_count * sizeof(*intakes));
    uint8_t *packed;
    size_t size;

    for (uint32_t i = 0; i < plan->row_count; i++) {
        intakes[i] = rmk_requests_find(bench->requests, plan->rows[i].request)->intake;
    }
    packed = rmk_plan_pack(plan, intakes, &bench->scratch, &size);
    rmk_assert(packed != NULL);
    group->sequence = plan->sequence;
    group->hash = rmk_plan_hash(packed, size);
    rmk_flight_begin(&group->flight, plan, intakes, group->hash, rmk_clock_us());
    free(packed);
    rmk_arena_reset(&bench->scratch);
    bench->pending[bench->pending_count++] = plan->group;
    bench->plan_count++;
    bench->plan_bytes += size;
    bench->row_count += plan->row_count;
}

static void take_answer(struct bench *bench, uint32_t index)
{
    struct group *group = &bench->groups[index];
    ProtobufCMessage *message = NULL;
    struct rmk_row_result *rows = NULL;
    const Remask__Cluster__V1__StepResult *result;
    struct rmk_why why = {0};

    if (rmk_unpack(&remask__cluster__v1__worker_message__descriptor,
                   rmk_bytes_of(group->answer, group->answer_size), &message, &why) != RMK_OK) {
        (void)fprintf(stderr, "bench-coordinator: %s\n", why.text);
        exit(1);
    }
    result = ((const Remask__Cluster__V1__WorkerMessage *)message)->step_result;
    rmk_assert(result->hash == group->flight.hash);
    if (rmk_flight_read(&group->flight, result, bench->model->spec.text.vocab, &bench->scratch,
                        &rows, &why) != RMK_OK) {
        (void)fprintf(stderr, "bench-coordinator: %s\n", why.text);
        exit(1);
    }
    rmk_loop_post(bench->loop, &(struct rmk_event){
                                   .kind = RMK_EVENT_STEP_DONE,
                                   .step =
                                       {
                                           .group = index,
                                           .epoch = result->epoch,
                                           .sequence = result->sequence,
                                           .rows = rows,
                                           .row_count = group->flight.row_count,
                                           .compute_us = result->compute_us,
                                       },
                               });
    rmk_arena_reset(&bench->scratch);
    protobuf_c_message_free_unpacked(message, NULL);
    free(group->answer);
    group->answer = NULL;
}

static void post_features(struct bench *bench, const struct rmk_action *action,
                          enum rmk_event_kind kind)
{
    rmk_loop_post(bench->loop, &(struct rmk_event){
                                   .kind = kind,
                                   .features =
                                       {
                                           .request = action->request,
                                           .item = action->place.item,
                                           .vision = action->place.vision,
                                           .vision_epoch = action->place.vision_epoch,
                                           .group = action->place.group,
                                           .epoch = action->place.epoch,
                                       },
                               });
}

static void perform(void *context, const struct rmk_action *action)
{
    struct bench *bench = context;

    switch (action->kind) {
    case RMK_ACTION_ACCEPTED:
        rmk_requests_accepted(bench->requests, action);
        break;
    case RMK_ACTION_ENCODE:
        post_features(bench, action, RMK_EVENT_FEATURES_READY);
        break;
    case RMK_ACTION_PREFETCH:
        post_features(bench, action, RMK_EVENT_FEATURES_RESIDENT);
        break;
    case RMK_ACTION_RUN_STEP:
        run_step(bench, &action->plan);
        break;
    case RMK_ACTION_EMIT:
        rmk_requests_emit(bench->requests, action);
        break;
    case RMK_ACTION_FINISH:
        rmk_requests_finish(bench->requests, action);
        break;
    default:
        break;
    }
}

static void flush(void *context)
{
    rmk_requests_flush(((struct bench *)context)->requests);
}

/* Bytes of this process in memory. */
static uint64_t resident_bytes(void)
{
    char text[128] = "";
    FILE *file = fopen("/proc/self/statm", "r");
    char *second;

    rmk_assert(file != NULL);
    (void)!fread(text, 1, sizeof(text) - 1, file);
    (void)fclose(file);
    second = strchr(text, ' ');
    rmk_assert(second != NULL);
    return strtoull(second, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void look(struct bench *bench)
{
    const uint64_t done = bench->count - bench->to_end;

    while (bench->look_count <= LOOKS && done >= bench->count * bench->look_count / LOOKS) {
        bench->resident[bench->look_count++] = resident_bytes();
    }
}

/* Once in every round of the loop, before its turn. */
static void on_idle(uv_idle_t *idle)
{
    struct bench *bench = idle->data;
    const uint32_t count = bench->pending_count;
    const uint64_t before_ns = cpu_ns(CLOCK_THREAD_CPUTIME_ID);

    for (uint32_t i = 0; i < count; i++) {
        answer_plan(bench, &bench->groups[bench->pending[i]]);
    }
    bench->fake_ns += cpu_ns(CLOCK_THREAD_CPUTIME_ID) - before_ns;
    for (uint32_t i = 0; i < count; i++) {
        take_answer(bench, bench->pending[i]);
    }
    bench->pending_count = 0;
    open_clients(bench);
    look(bench);
    if (bench->to_end == 0) {
        (void)uv_idle_stop(&bench->idle);
        uv_stop(&bench->uv);
    }
}

/* ---- a part
 * ----------------------------------------------------------------------------------------- */

struct part {
    double cpu_us;
    double requests;
    double rows;
    double plans;
    double bytes;
    size_t heap_before;
    size_t heap_after;
    uint64_t resident[LOOKS + 1];
};

static void run_requests(struct bench *bench, uint64_t count)
{
    bench->count = count;
    bench->to_open = count;
    bench->to_end = count;
    (void)uv_idle_start(&bench->idle, on_idle);
    (void)uv_run(&bench->uv, UV_RUN_DEFAULT);
}

static void print_resident(const struct part *part)
{
    (void)printf("  resident MiB, before and after each tenth:");
    for (unsigned i = 0; i <= LOOKS; i++) {
        (void)printf(" %.1f", (double)part->resident[i] / (1 << 20));
    }
    (void)printf("\n");
}

static struct part run_part(struct bench *bench, uint32_t steps, uint64_t count)
{
    struct part part = {.requests = (double)count};
    uint64_t before_ns;

    bench->steps = steps;
    run_requests(bench, 2 * bench->options->open_max + RESULTS_KEPT); /* fills what is kept */
    bench->row_count = 0;
    bench->plan_count = 0;
    bench->plan_bytes = 0;
    bench->fake_ns = 0;
    part.heap_before = mallinfo2().uordblks;
    bench->look_count = 0;
    before_ns = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
    run_requests(bench, count);
    part.cpu_us = (double)(cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - before_ns - bench->fake_ns) / 1e3;
    part.heap_after = mallinfo2().uordblks;
    memcpy(part.resident, bench->resident, sizeof(part.resident));
    part.rows = (double)bench->row_count;
    part.plans = (double)bench->plan_count;
    part.bytes = (double)bench->plan_bytes;
    (void)printf("%.0f requests of %.1f rows: %.1f us of CPU each, %.2f rows a plan, %.0f bytes a "
                 "row; heap %zu KiB before, %zu KiB after\n",
                 part.requests, part.rows / part.requests, part.cpu_us / part.requests,
                 part.rows / part.plans, part.bytes / part.rows, part.heap_before >> 10,
                 part.heap_after >> 10);
    print_resident(&part);
    return part;
}

/* ---- set up
 * ----------------------------------------------------------------------------------------- */

static enum rmk_err fits(void *context, const struct rmk_intake *intake, struct rmk_why *why)
{
    (void)context;
    (void)intake;
    (void)why;
    return RMK_OK;
}

static void learn_words(struct bench *bench)
{
    struct rmk_ids ids = {0};

    rmk_assert(rmk_tokenizer_encode(bench->model->tokenizer, rmk_bytes_text(said),
                                    RMK_SPECIAL_PLAIN, &ids, NULL) == RMK_OK);
    rmk_assert(ids.count > 0);
    bench->word_count = ids.count < WORDS_MAX ? ids.count : WORDS_MAX;
    memcpy(bench->words, ids.items, bench->word_count * sizeof(*bench->words));
    rmk_ids_deinit(&ids);
}

/* A PNG as far as its header and its end go; intake looks no further. */
static void draw_picture(struct bench *bench)
{
    static const uint8_t header[33] =
        "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x02\x80\0\0\x01\xe0\x08\x02\0\0\0....";

    static const uint8_t end[12] = "\0\0\0\0IEND....";
    const size_t size = bench->options->picture_bytes;

    bench->picture = calloc(1, size + 1);
    rmk_assert(bench->picture != NULL);
    if (size > 0) {
        memcpy(bench->picture, header, sizeof(header));
        memcpy(bench->picture + size - sizeof(end), end, sizeof(end));
        const uint32_t data_size = (uint32_t)(size - sizeof(header) - 2 * sizeof(end));
        for (int i = 0; i < 4; i++) {
            bench->picture[sizeof(header) + i] = (uint8_t)(data_size >> (24 - 8 * i));
        }
        memcpy(bench->picture + sizeof(header) + 4, "IDAT", 4);
    }
}

static void raise_workers(struct bench *bench)
{
    for (uint32_t i = 0; i < bench->options->group_count; i++) {
        bench->groups[i].epoch = i + 1;
        rmk_loop_post(bench->loop, &(struct rmk_event){
                                       .kind = RMK_EVENT_GROUP_UP,
                                       .group =
                                           {
                                               .group = i,
                                               .epoch = i + 1,
                                               .slot_count = bench->options->slot_count,
                                               .rows_max = 8192,
                                               .step_rows_max = 1u << 20,
                                               .numerics_class = 1,
                                               .kv_rows_max = 1u << 24,
                                               .reads_max = 1u << 20,
                                           },
                                   });
    }
    for (uint32_t i = 0; i < VISIONS; i++) {
        rmk_loop_post(bench->loop,
                      &(struct rmk_event){
                          .kind = RMK_EVENT_VISION_UP,
                          .vision = {.vision = i, .epoch = 1, .parallel_max = VISION_PARALLEL},
                      });
    }
}

static enum rmk_err create(struct bench *bench, struct rmk_why *why)
{
    static const struct rmk_listener_ops ops = {
        .accepted = on_accepted, .text = on_text, .canvas = on_canvas, .ended = on_ended};
    const struct options *options = bench->options;
    const struct rmk_engine_limits limits = {
        .requests_max = RMK_REQUESTS_MAX,
        .queued_max = RMK_REQUESTS_MAX,
        .groups_max = RMK_GROUPS_MAX,
        .visions_max = RMK_VISION_MAX,
        .rows_per_plan_max = options->plan_rows,
        .retries_max = RMK_RETRIES_MAX,
        .plan_timeout_us = 60000000,
        .encode_timeout_us = 60000000,
    };
    const struct rmk_requests_options table = {
        .requests_max = RMK_REQUESTS_MAX,
        .intakes_max = RMK_REQUESTS_MAX,
        .finished_max = RESULTS_KEPT,
        .fits = fits,
    };
    const struct rmk_loop_hooks hooks = {.perform = perform, .flush = flush, .context = bench};
    enum rmk_err err;

    RMK_TRY(rmk_model_data_create(options->model, NULL, NULL, "bench", false, &bench->model, why));
    bench->images = rmk_images_create((uint64_t)1 << 32);
    bench->registry = rmk_metrics_create();
    rmk_coordinator_metrics_init(&bench->metrics, bench->registry);
    RMK_TRY(rmk_requests_create(&bench->uv, &bench->model->served, &table, &bench->metrics,
                                &bench->requests, why));
    bench->engine_memory = aligned_alloc(64, (rmk_engine_bytes(&limits) + 63) & ~(size_t)63);
    bench->groups = calloc(options->group_count, sizeof(*bench->groups));
    bench->pending = calloc(options->group_count, sizeof(*bench->pending));
    bench->clients = calloc(options->open_max, sizeof(*bench->clients));
    rmk_assert(bench->engine_memory != NULL);
    rmk_assert(bench->groups != NULL);
    rmk_assert(bench->pending != NULL);
    rmk_assert(bench->clients != NULL);
    bench->engine = rmk_engine_init(bench->engine_memory, &limits);
    RMK_TRY(rmk_loop_create(&bench->uv, bench->engine, &hooks, &bench->loop, why));
    rmk_requests_connect(bench->requests, bench->loop);
    for (uint32_t i = 0; i < options->open_max; i++) {
        bench->clients[i] = (struct client){
            .listener = {.ops = &ops, .peer = "bench", .method = "Generate"},
            .bench = bench,
            .next = bench->idle_clients,
        };
        bench->idle_clients = &bench->clients[i];
    }
    (void)uv_idle_init(&bench->uv, &bench->idle);
    bench->idle.data = bench;
    learn_words(bench);
    draw_picture(bench);
    raise_workers(bench);
out:
    return err;
}

static void on_closed(void *context)
{
    ((struct bench *)context)->closed = true;
}

static void destroy(struct bench *bench)
{
    rmk_loop_close(bench->loop, on_closed, bench);
    uv_close((uv_handle_t *)&bench->idle, NULL);
    while (!bench->closed) {
        (void)uv_run(&bench->uv, UV_RUN_ONCE);
    }
    (void)uv_run(&bench->uv, UV_RUN_DEFAULT);
    rmk_requests_destroy(bench->requests);
    for (uint32_t i = 0; i < bench->options->group_count; i++) {
        rmk_flight_deinit(&bench->groups[i].flight);
    }
    rmk_arena_deinit(&bench->scratch);
    rmk_arena_deinit(&bench->answers);
    rmk_images_destroy(bench->images);
    rmk_metrics_destroy(bench->registry);
    rmk_model_data_destroy(bench->model);
    free(bench->engine_memory);
    free(bench->groups);
    free(bench->pending);
    free(bench->clients);
    free(bench->picture);
    (void)uv_loop_close(&bench->uv);
}

static void report(const struct part *few, const struct part *many)
{
    /* Two equations: requests and rows cost what they cost in both parts. */
    const double per_row = (many->cpu_us / many->requests - few->cpu_us / few->requests) /
                           (many->rows / many->requests - few->rows / few->requests);
    const double per_request = few->cpu_us / few->requests - per_row * few->rows / few->requests;

    (void)printf("%.1f us a row: %.0f rows per CPU-second; %.1f us per request beside its rows\n",
                 per_row, 1e6 / per_row, per_request);
}

/* The part of a request's cost that nothing here can lower: its picture's key is a SHA-256. */
static void report_hash(const struct bench *bench)
{
    const struct rmk_bytes picture = rmk_bytes_of(bench->picture, bench->options->picture_bytes);
    const uint64_t before_ns = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
    uint8_t digest[RMK_DIGEST_BYTES];

    for (unsigned i = 0; i < HASHES; i++) {
        rmk_assert(rmk_digest_of(picture, digest, NULL) == RMK_OK);
    }
    (void)printf("SHA-256 of a picture's %u bytes alone: %.1f us\n", bench->options->picture_bytes,
                 (double)(cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - before_ns) / 1e3 / HASHES);
}

static uint64_t number(const char *text, uint64_t most)
{
    char *end;
    const uint64_t value = strtoull(text, &end, 10);

    if (*text == '\0' || *end != '\0' || value > most) {
        (void)fprintf(stderr, "bench-coordinator: %s is no number up to %" PRIu64 "\n", text, most);
        exit(64);
    }
    return value;
}

static void parse(int argc, char **argv, struct options *options)
{
    static const struct option names[] = {
        {"model", required_argument, NULL, 'm'},
        {"requests", required_argument, NULL, 'n'},
        {"open", required_argument, NULL, 'o'},
        {"groups", required_argument, NULL, 'g'},
        {"slots", required_argument, NULL, 's'},
        {"plan-rows", required_argument, NULL, 'r'},
        {"gen-length", required_argument, NULL, 'l'},
        {"picture-bytes", required_argument, NULL, 'p'},
        {0},
    };
    int name;

    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (name) {
        case 'm':
            options->model = optarg;
            break;
        case 'n':
            options->request_count = number(optarg, UINT32_MAX);
            break;
        case 'o':
            options->open_max = (uint32_t)number(optarg, RMK_REQUESTS_MAX);
            break;
        case 'g':
            options->group_count = (uint32_t)number(optarg, RMK_GROUPS_MAX);
            break;
        case 's':
            options->slot_count = (uint32_t)number(optarg, RMK_GROUP_SLOTS_MAX);
            break;
        case 'r':
            options->plan_rows = (uint32_t)number(optarg, RMK_GROUP_SLOTS_MAX);
            break;
        case 'l':
            options->gen_length = (uint32_t)number(optarg, RMK_GEN_LENGTH_MAX);
            break;
        case 'p':
            options->picture_bytes = (uint32_t)number(optarg, RMK_BLOB_BYTES_MAX);
            options->picture_bytes =
                options->picture_bytes > 0 && options->picture_bytes < PNG_LEAST
                    ? PNG_LEAST
                    : options->picture_bytes;
            break;
        default:
            exit(64);
        }
    }
}

int main(int argc, char **argv)
{
    struct options options = {
        .model = "models/demo",
        .request_count = 20000,
        .open_max = 1024,
        .group_count = 256,
        .slot_count = 8,
        .plan_rows = 8,
        .gen_length = 64,
    };
    struct bench bench = {.options = &options};
    struct rmk_why why = {0};

    parse(argc, argv, &options);
    if (options.gen_length < MANY || options.slot_count == 0 || options.group_count == 0 ||
        options.open_max == 0 || options.request_count == 0) {
        (void)fprintf(stderr, "bench-coordinator: at least 8 tokens, and one of all else\n");
        return 64;
    }
    rmk_process_init();
    rmk_log_init(RMK_LOG_WARN, RMK_LOG_LOGFMT, "bench");
    (void)uv_loop_init(&bench.uv);
    if (create(&bench, &why) != RMK_OK) {
        (void)fprintf(stderr, "bench-coordinator: %s\n", why.text);
        return 1;
    }
    struct part few = run_part(&bench, options.gen_length / MANY, options.request_count);
    struct part many =
        run_part(&bench, options.gen_length, (options.request_count + MANY - 1) / MANY);
    report(&few, &many);
    if (options.picture_bytes > 0) {
        report_hash(&bench);
    }
    destroy(&bench);
    return bench.failed == 0 ? 0 : 1;
}
