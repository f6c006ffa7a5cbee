#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <xxhash.h>

#include "common/rpc/pack.h"
#include "coordinator/back/back.h"
#include "coordinator/back/flight.h"
#include "coordinator/back/plan.h"
#include "coordinator/engine/canvas.h"
#include "coordinator/front/intake.h"

enum { PROMPT_ROWS = 12, VOCAB = 100 };

/* One request: three ids, a picture of seven rows, two ids; eight positions, suffix of one. */
static struct rmk_intake intake;
static struct rmk_piece pieces[] = {
    {.id_first = 0, .id_count = 3, .rows = 3},
    {.item = 0, .rows = 7},
    {.id_first = 3, .id_count = 2, .rows = 2},
};
static int32_t ids[] = {1, 2, 3, 4, 5};
static const int32_t suffix[] = {9};
static const uint32_t reads[] = {4, 12, 14};
static const struct rmk_plan_update updates[] = {{.position = 13, .id = 42}};
static const uint32_t closes[] = {3};
static struct rmk_plan_row row;
static struct rmk_plan plan;
static const struct rmk_intake *const intakes[] = {&intake};

static int setup(void **state)
{
    (void)state;
    intake = (struct rmk_intake){
        .submit = {.prompt_rows = PROMPT_ROWS,
                   .gen_length = 8,
                   .suffix = suffix,
                   .suffix_count = 1},
        .pieces = pieces,
        .piece_count = 3,
        .ids = ids,
        .id_count = 5,
    };
    row = (struct rmk_plan_row){
        .request = {.index = 5, .generation = 2},
        .slot = 1,
        .open = true,
        .updates = updates,
        .update_count = 1,
        .reads = reads,
        .read_count = 3,
        .forward = 6,
        .temperature = 0.5,
        .cfg_scale = 1.5f,
        .seed = 77,
        .golden_noise = true,
    };
    plan = (struct rmk_plan){
        .group = 0,
        .epoch = 30,
        .sequence = 4,
        .closes = closes,
        .close_count = 1,
        .rows = &row,
        .row_count = 1,
    };
    return 0;
}

static void a_packed_plan_says_everything_a_worker_needs(void **state)
{
    struct rmk_arena scratch = {0};
    ProtobufCMessage *message = NULL;
    const Remask__Cluster__V1__StepPlan *read;
    size_t size;
    uint8_t *packed = rmk_plan_pack(&plan, intakes, &scratch, &size);

    (void)state;
    assert_non_null(packed);
    assert_int_equal(rmk_plan_hash(packed, size), XXH64(packed, size, 0));
    assert_int_equal(rmk_unpack(&remask__cluster__v1__coordinator_message__descriptor,
                                rmk_bytes_of(packed, size), &message, NULL),
                     RMK_OK);
    read = ((Remask__Cluster__V1__CoordinatorMessage *)message)->step_plan;
    assert_int_equal(read->epoch, 30);
    assert_int_equal(read->sequence, 4);
    assert_int_equal(read->n_closes, 1);
    assert_int_equal(read->closes[0], 3);

    assert_int_equal(read->n_opens, 1);
    assert_int_equal(read->opens[0]->slot, 1);
    assert_int_equal(read->opens[0]->request, (uint64_t)2 << 32 | 5);
    assert_int_equal(read->opens[0]->prompt_rows, PROMPT_ROWS);
    assert_int_equal(read->opens[0]->gen_length, 8);
    assert_int_equal(read->opens[0]->n_suffix, 1);
    assert_int_equal(read->opens[0]->n_layout, 3);
    assert_int_equal(read->opens[0]->layout[0]->n_ids, 3);
    assert_int_equal(read->opens[0]->layout[1]->n_ids, 0);
    assert_int_equal(read->opens[0]->layout[1]->rows, 7);
    assert_int_equal(read->opens[0]->layout[2]->ids[1], 5);

    assert_int_equal(read->n_rows, 1);
    assert_int_equal(read->rows[0]->request, read->opens[0]->request);
    assert_int_equal(read->rows[0]->update_positions[0], 13);
    assert_int_equal(read->rows[0]->update_ids[0], 42);
    assert_int_equal(read->rows[0]->n_reads, 3);
    assert_int_equal(read->rows[0]->reads[2], 14);
    assert_int_equal(read->rows[0]->forward, 6);
    assert_int_equal(read->rows[0]->seed, 77);
    assert_true(read->rows[0]->temperature == 0.5);
    assert_true(read->rows[0]->cfg_scale == 1.5f);
    assert_int_equal(read->rows[0]->noise, REMASK__CLUSTER__V1__NOISE_KIND__SPLITMIX_REFERENCE);
    protobuf_c_message_free_unpacked(message, NULL);
    free(packed);
    rmk_arena_deinit(&scratch);
}

static void only_opened_rows_bring_their_prompt(void **state)
{
    struct rmk_arena scratch = {0};
    ProtobufCMessage *message = NULL;
    uint8_t *packed;
    size_t size;

    (void)state;
    row.open = false;
    packed = rmk_plan_pack(&plan, intakes, &scratch, &size);
    assert_int_equal(rmk_unpack(&remask__cluster__v1__coordinator_message__descriptor,
                                rmk_bytes_of(packed, size), &message, NULL),
                     RMK_OK);
    assert_int_equal(((Remask__Cluster__V1__CoordinatorMessage *)message)->step_plan->n_opens, 0);
    assert_int_equal(((Remask__Cluster__V1__CoordinatorMessage *)message)->step_plan->n_rows, 1);
    protobuf_c_message_free_unpacked(message, NULL);
    free(packed);
    rmk_arena_deinit(&scratch);
}

static Remask__Cluster__V1__CoordinatorMessage *pack_and_unpack(void)
{
    struct rmk_arena scratch = {0};
    ProtobufCMessage *message = NULL;
    size_t size;
    uint8_t *packed = rmk_plan_pack(&plan, intakes, &scratch, &size);

    assert_int_equal(rmk_unpack(&remask__cluster__v1__coordinator_message__descriptor,
                                rmk_bytes_of(packed, size), &message, NULL),
                     RMK_OK);
    free(packed);
    rmk_arena_deinit(&scratch);
    return (Remask__Cluster__V1__CoordinatorMessage *)message;
}

static void rows_of_every_kind_carry_what_they_compute(void **state)
{
    static const struct {
        enum rmk_plan_kind kind;
        Remask__Cluster__V1__RowKind on_wire;
    } kinds[] = {
        {RMK_PLAN_FULL, REMASK__CLUSTER__V1__ROW_KIND__FULL},
        {RMK_PLAN_WINDOW, REMASK__CLUSTER__V1__ROW_KIND__WINDOW},
        {RMK_PLAN_FEATURE, REMASK__CLUSTER__V1__ROW_KIND__FEATURE},
    };

    (void)state;
    row.keep = true;
    row.window_begin = 12;
    row.window_end = 20;
    row.refresh_prompt = true;
    row.transfer_ratio = 0.25;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        Remask__Cluster__V1__CoordinatorMessage *message;
        const Remask__Cluster__V1__Row *read;

        row.kind = kinds[i].kind;
        row.refresh_gen = i % 2 == 0;
        message = pack_and_unpack();
        read = message->step_plan->rows[0];
        assert_int_equal(read->kind, kinds[i].on_wire);
        assert_true(read->keep);
        assert_int_equal(read->window_begin, 12);
        assert_int_equal(read->window_end, 20);
        assert_true(read->refresh_prompt);
        assert_int_equal(read->refresh_gen, i % 2 == 0);
        assert_true(read->transfer_ratio == 0.25);
        protobuf_c_message_free_unpacked(&message->base, NULL);
    }
}

static void an_open_says_what_has_to_be_kept(void **state)
{
    Remask__Cluster__V1__CoordinatorMessage *message = pack_and_unpack();

    (void)state;
    assert_false(message->step_plan->opens[0]->kv);
    assert_false(message->step_plan->opens[0]->cfg);
    assert_false(message->step_plan->opens[0]->feature);
    protobuf_c_message_free_unpacked(&message->base, NULL);

    row.kv = true;
    intake.submit.cfg_scale = 0.5f;
    intake.submit.cache.cache = RMK_CACHE_FEATURE;
    message = pack_and_unpack();
    assert_true(message->step_plan->opens[0]->kv);
    assert_true(message->step_plan->opens[0]->cfg);
    assert_true(message->step_plan->opens[0]->feature);
    protobuf_c_message_free_unpacked(&message->base, NULL);
}

static void leave_says_where_the_canvas_stands(void **state)
{
    static const int32_t stop_ids[] = {7, 8};
    static const struct rmk_stop stops[] = {{stop_ids, 2}};
    static const uint32_t prompt_masks[] = {4, 6};
    static struct rmk_canvas canvas;
    const struct rmk_submit submit = {
        .prompt_rows = PROMPT_ROWS,
        .prompt_masks = prompt_masks,
        .prompt_mask_count = 2,
        .mask_id = 99,
        .gen_length = 8,
        .block_length = 4,
        .steps = 6,
        .remasking = RMK_REMASK_RANDOM,
        .stops = stops,
        .stop_count = 1,
        .suffix = suffix,
        .suffix_count = 1,
        .rule = {RMK_RULE_LOCAL_LEAP, 0.1, 2, true, 0.3, 0.4, 5},
        .cache = {.cache = RMK_CACHE_DUAL, .refresh_interval = 6},
    };
    struct rmk_guess guesses[RMK_READS_MAX];

    (void)state;
    rmk_canvas_init(&canvas, &submit);
    assert_true(rmk_canvas_next(&canvas));
    for (uint32_t i = 0; i < canvas.read_count; i++) {
        guesses[i] = (struct rmk_guess){
            .position = (int32_t)canvas.reads[i] - PROMPT_ROWS, .token = 3, .confidence = 0.01};
    }
    (void)rmk_canvas_commit(&canvas, guesses, canvas.read_count);
    assert_true(rmk_canvas_next(&canvas));
    row.canvas = &canvas;
    Remask__Cluster__V1__CoordinatorMessage *message = pack_and_unpack();
    assert_null(message->step_plan->rows[0]->ahead);
    protobuf_c_message_free_unpacked(&message->base, NULL);

    row.ahead = 5;
    message = pack_and_unpack();
    const Remask__Cluster__V1__RunAhead *read = message->step_plan->rows[0]->ahead;
    assert_non_null(read);
    assert_int_equal(read->forwards, 5);
    assert_int_equal(read->prompt_rows, PROMPT_ROWS);
    assert_int_equal(read->total_rows, PROMPT_ROWS + 9);
    assert_int_equal(read->block_length, 4);
    assert_int_equal(read->steps_per_block, 3);
    assert_int_equal(read->mask_id, 99);
    assert_true(read->random_remasking);
    assert_int_equal(read->rule, REMASK__CLUSTER__V1__COMMIT_RULE__RULE_LOCAL_LEAP);
    assert_true(read->tau == 0.1);
    assert_true(read->factor == 2);
    assert_true(read->factor_compat);
    assert_true(read->tau_low == 0.3);
    assert_true(read->kappa == 0.4);
    assert_int_equal(read->reach, 5);
    assert_int_equal(read->cache, REMASK__CLUSTER__V1__CACHE_POLICY__CACHE_DUAL);
    assert_int_equal(read->refresh_interval, 6);
    assert_int_equal(read->n_stops, 1);
    assert_int_equal(read->stops[0]->n_ids, 2);
    assert_int_equal(read->stops[0]->ids[1], 8);
    assert_true(read->based);
    assert_int_equal(read->base_forward, 0);
    assert_int_equal(read->block, 0);
    assert_int_equal(read->step, 1);
    assert_int_equal(read->block_masks, 4);
    assert_false(read->found);
    assert_int_equal(read->stop_position, 8);
    assert_int_equal(read->n_ids, 8);
    assert_memory_equal(read->ids, canvas.ids, 8 * sizeof(int32_t));
    assert_int_equal(read->n_prompt_masks, __builtin_popcountll(canvas.prompt_open));
    assert_true(canvas.log_count > 0);
    protobuf_c_message_free_unpacked(&message->base, NULL);
}

/* A row that only rebuilds a cache reads nothing. */
static void a_row_without_reads_is_answered_without_guesses(void **state)
{
    Remask__Cluster__V1__StepResult result = REMASK__CLUSTER__V1__STEP_RESULT__INIT;
    Remask__Cluster__V1__RowResult answer = REMASK__CLUSTER__V1__ROW_RESULT__INIT;
    Remask__Cluster__V1__RowResult *answers[] = {&answer};
    struct rmk_flight flight = {0};
    struct rmk_arena scratch = {0};
    struct rmk_row_result *rows = NULL;

    (void)state;
    row.reads = NULL;
    row.read_count = 0;
    rmk_flight_begin(&flight, &plan, intakes, 1, 0);
    answer.request = (uint64_t)2 << 32 | 5;
    result.n_rows = 1;
    result.rows = answers;
    assert_int_equal(rmk_flight_read(&flight, &result, VOCAB, &scratch, &rows, NULL), RMK_OK);
    assert_int_equal(rows[0].guess_count, 0);
    assert_false(rows[0].poisoned);
    rmk_flight_deinit(&flight);
    rmk_arena_deinit(&scratch);
}

/* A right answer, for tests to spoil. */
struct answer {
    Remask__Cluster__V1__StepResult result;
    Remask__Cluster__V1__RowResult row;
    Remask__Cluster__V1__RowResult *rows[1];
    int32_t tokens[3];
    double confidences[3];
};

static void answer_init(struct answer *answer)
{
    remask__cluster__v1__step_result__init(&answer->result);
    remask__cluster__v1__row_result__init(&answer->row);
    answer->row.request = (uint64_t)2 << 32 | 5;
    for (int i = 0; i < 3; i++) {
        answer->tokens[i] = 10 + i;
        answer->confidences[i] = 0.25 * (i + 1);
    }
    answer->row.n_tokens = 3;
    answer->row.tokens = answer->tokens;
    answer->row.n_confidences = 3;
    answer->row.confidences = answer->confidences;
    answer->rows[0] = &answer->row;
    answer->result.n_rows = 1;
    answer->result.rows = answer->rows;
}

static void a_right_answer_becomes_guesses_relative_to_the_prompts_end(void **state)
{
    struct rmk_flight flight = {0};
    struct rmk_arena scratch = {0};
    struct rmk_row_result *rows = NULL;
    struct answer answer;

    (void)state;
    rmk_flight_begin(&flight, &plan, intakes, 1, 0);
    row.reads = NULL; /* the engine's memory may be gone by now */
    answer_init(&answer);
    assert_int_equal(rmk_flight_read(&flight, &answer.result, VOCAB, &scratch, &rows, NULL),
                     RMK_OK);
    assert_int_equal(rows[0].request.index, 5);
    assert_int_equal(rows[0].guess_count, 3);
    assert_int_equal(rows[0].guesses[0].position, 4 - PROMPT_ROWS); /* a mask in the prompt */
    assert_int_equal(rows[0].guesses[1].position, 0);
    assert_int_equal(rows[0].guesses[2].position, 2);
    assert_int_equal(rows[0].guesses[2].token, 12);
    assert_true(rows[0].guesses[2].confidence == 0.75);
    rmk_flight_deinit(&flight);
    rmk_arena_deinit(&scratch);
}

static void a_poisoned_row_is_passed_on_unread(void **state)
{
    struct rmk_flight flight = {0};
    struct rmk_arena scratch = {0};
    struct rmk_row_result *rows = NULL;
    struct answer answer;

    (void)state;
    rmk_flight_begin(&flight, &plan, intakes, 1, 0);
    answer_init(&answer);
    answer.row.poisoned = true;
    answer.row.n_tokens = 0;
    assert_int_equal(rmk_flight_read(&flight, &answer.result, VOCAB, &scratch, &rows, NULL),
                     RMK_OK);
    assert_true(rows[0].poisoned);
    assert_int_equal(rows[0].guess_count, 0);
    rmk_flight_deinit(&flight);
    rmk_arena_deinit(&scratch);
}

static void spoil_rows(struct answer *answer)
{
    answer->result.n_rows = 0;
}

static void spoil_request(struct answer *answer)
{
    answer->row.request++;
}

static void spoil_token_count(struct answer *answer)
{
    answer->row.n_tokens = 2;
}

static void spoil_confidence_count(struct answer *answer)
{
    answer->row.n_confidences = 2;
}

static void spoil_token_negative(struct answer *answer)
{
    answer->tokens[1] = -1;
}

static void spoil_token_large(struct answer *answer)
{
    answer->tokens[2] = VOCAB;
}

static void answers_to_something_else_are_refused_in_words(void **state)
{
    static const struct {
        void (*spoil)(struct answer *answer);
        const char *part;
    } cases[] = {
        {spoil_rows, "0 rows, the plan had 1"},
        {spoil_request, "about request 200000006"},
        {spoil_token_count, "2 tokens and 3 confidences for 3 positions"},
        {spoil_confidence_count, "3 tokens and 2 confidences for 3 positions"},
        {spoil_token_negative, "token -1"},
        {spoil_token_large, "token 100, the vocabulary has 100"},
    };
    struct rmk_flight flight = {0};
    struct rmk_arena scratch = {0};

    (void)state;
    rmk_flight_begin(&flight, &plan, intakes, 1, 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rmk_row_result *rows = NULL;
        struct rmk_why why = {0};
        struct answer answer;

        answer_init(&answer);
        cases[i].spoil(&answer);
        assert_int_equal(rmk_flight_read(&flight, &answer.result, VOCAB, &scratch, &rows, &why),
                         RMK_EINVAL);
        assert_null(rows);
        if (strstr(why.text, cases[i].part) == NULL) {
            fail_msg("\"%s\" lacks \"%s\"", why.text, cases[i].part);
        }
    }
    rmk_flight_deinit(&flight);
    rmk_arena_deinit(&scratch);
}

/* A row's answer with one forward run ahead, which read two positions. */
struct ahead_answer {
    struct answer answer;
    Remask__Cluster__V1__ForwardResult forward;
    Remask__Cluster__V1__ForwardResult *forwards[2];
    uint32_t reads[2];
    uint32_t committed_position;
    int32_t committed_id;
    int32_t tokens[2];
    double confidences[2];
};

static void ahead_init(struct ahead_answer *ahead)
{
    answer_init(&ahead->answer);
    remask__cluster__v1__forward_result__init(&ahead->forward);
    for (uint32_t i = 0; i < 2; i++) {
        ahead->reads[i] = PROMPT_ROWS + 3 * i;
        ahead->tokens[i] = 20 + (int32_t)i;
        ahead->confidences[i] = 0.5;
        ahead->forwards[i] = &ahead->forward;
    }
    ahead->committed_position = PROMPT_ROWS + 1;
    ahead->committed_id = 11;
    ahead->forward.n_committed_positions = 1;
    ahead->forward.committed_positions = &ahead->committed_position;
    ahead->forward.n_committed_ids = 1;
    ahead->forward.committed_ids = &ahead->committed_id;
    ahead->forward.n_reads = 2;
    ahead->forward.reads = ahead->reads;
    ahead->forward.n_tokens = 2;
    ahead->forward.tokens = ahead->tokens;
    ahead->forward.n_confidences = 2;
    ahead->forward.confidences = ahead->confidences;
    ahead->answer.row.n_ahead = 1;
    ahead->answer.row.ahead = ahead->forwards;
}

static void what_was_run_ahead_comes_after_what_was_asked(void **state)
{
    struct rmk_flight flight = {0};
    struct rmk_arena scratch = {0};
    struct rmk_row_result *rows = NULL;
    struct ahead_answer ahead;

    (void)state;
    row.ahead = 2;
    rmk_flight_begin(&flight, &plan, intakes, 1, 0);
    ahead_init(&ahead);
    ahead.answer.row.poisoned_ahead = true;
    assert_int_equal(rmk_flight_read(&flight, &ahead.answer.result, VOCAB, &scratch, &rows, NULL),
                     RMK_OK);
    assert_int_equal(rows[0].guess_count, 3);
    assert_int_equal(rows[0].ahead_count, 1);
    assert_int_equal(rows[0].ahead[0].guess_count, 2);
    assert_int_equal(rows[0].ahead[0].guesses[1].position, 3);
    assert_int_equal(rows[0].ahead[0].guesses[1].token, 21);
    assert_int_equal(rows[0].ahead[0].commit_count, 1);
    assert_int_equal(rows[0].ahead[0].commits[0].position, PROMPT_ROWS + 1);
    assert_int_equal(rows[0].ahead[0].commits[0].id, 11);
    assert_true(rows[0].poisoned_ahead);
    rmk_flight_deinit(&flight);
    rmk_arena_deinit(&scratch);
}

static void expect_ahead_refused(struct rmk_flight *flight, struct ahead_answer *ahead,
                                 const char *part)
{
    struct rmk_arena scratch = {0};
    struct rmk_row_result *rows = NULL;
    struct rmk_why why = {0};

    assert_int_equal(rmk_flight_read(flight, &ahead->answer.result, VOCAB, &scratch, &rows, &why),
                     RMK_EINVAL);
    if (strstr(why.text, part) == NULL) {
        fail_msg("\"%s\" lacks \"%s\"", why.text, part);
    }
    rmk_arena_deinit(&scratch);
}

static void forwards_that_nobody_gave_leave_for_are_refused(void **state)
{
    struct rmk_flight flight = {0};
    struct ahead_answer ahead;

    (void)state;
    rmk_flight_begin(&flight, &plan, intakes, 1, 0); /* no leave at all */
    ahead_init(&ahead);
    expect_ahead_refused(&flight, &ahead, "1 forwards run ahead");

    row.ahead = 2;
    rmk_flight_begin(&flight, &plan, intakes, 1, 0);
    ahead.answer.row.n_ahead = 2;
    expect_ahead_refused(&flight, &ahead, "2 forwards run ahead, of 2 in all");

    ahead_init(&ahead);
    ahead.forward.n_tokens = 1;
    expect_ahead_refused(&flight, &ahead, "1 tokens and 2 confidences for 2 positions");

    ahead_init(&ahead);
    ahead.forward.n_committed_ids = 0;
    expect_ahead_refused(&flight, &ahead, "0 ids for 1 commits");

    ahead_init(&ahead);
    ahead.tokens[1] = VOCAB;
    expect_ahead_refused(&flight, &ahead, "token 100");

    ahead_init(&ahead);
    ahead.reads[1] = UINT32_MAX;
    expect_ahead_refused(&flight, &ahead, "about row 4294967295");
    rmk_flight_deinit(&flight);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_packed_plan_says_everything_a_worker_needs, setup),
        cmocka_unit_test_setup(only_opened_rows_bring_their_prompt, setup),
        cmocka_unit_test_setup(rows_of_every_kind_carry_what_they_compute, setup),
        cmocka_unit_test_setup(an_open_says_what_has_to_be_kept, setup),
        cmocka_unit_test_setup(a_row_without_reads_is_answered_without_guesses, setup),
        cmocka_unit_test_setup(a_right_answer_becomes_guesses_relative_to_the_prompts_end, setup),
        cmocka_unit_test_setup(a_poisoned_row_is_passed_on_unread, setup),
        cmocka_unit_test_setup(answers_to_something_else_are_refused_in_words, setup),
        cmocka_unit_test_setup(leave_says_where_the_canvas_stands, setup),
        cmocka_unit_test_setup(what_was_run_ahead_comes_after_what_was_asked, setup),
        cmocka_unit_test_setup(forwards_that_nobody_gave_leave_for_are_refused, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
