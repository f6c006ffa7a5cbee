/* Plans as ranks run them: two threads are the two ranks of a group with dummy weights. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/limits.h"
#include "tests/support/dummy_model.h"
#include "worker/text/plan.h"

enum { RANKS = 2, PROMPT = 3, GEN = 4, FEATURE_ROWS = 2, SLOTS = 2, ROWS_MAX = 64 };

static const struct rmk_plan_limits limits = {.slot_count = SLOTS,
                                              .rows_max = ROWS_MAX,
                                              .step_rows_max = 2 * ROWS_MAX,
                                              .reads_max = 64,
                                              .vocab = 51,
                                              .kv_rows_max = 2 * ROWS_MAX};

/* ---- a plan as it comes off the wire
 * ---------------------------------------------------------------------------------- */

static uint32_t *numbers(const uint32_t *values, size_t count)
{
    uint32_t *copy = malloc((count + 1) * sizeof(*copy));

    assert_non_null(copy);
    memcpy(copy, values, count * sizeof(*copy));
    return copy;
}

/* Opens slot 0 with two ids, and FEATURE_ROWS rows of features when asked; reads the first two
 * masks. Allocated piece by piece, since it is freed as an unpacked message. */
static Remask__Cluster__V1__CoordinatorMessage *make_plan(bool features)
{
    Remask__Cluster__V1__CoordinatorMessage *message = malloc(sizeof(*message));
    Remask__Cluster__V1__StepPlan *plan = malloc(sizeof(*plan));
    Remask__Cluster__V1__Open *open = malloc(sizeof(*open));
    Remask__Cluster__V1__Row *row = malloc(sizeof(*row));
    const uint32_t prompt = PROMPT + (features ? FEATURE_ROWS : 0);
    const int32_t ids[PROMPT] = {5, 6, 7};

    assert_non_null(message);
    assert_non_null(plan);
    assert_non_null(open);
    assert_non_null(row);
    remask__cluster__v1__coordinator_message__init(message);
    remask__cluster__v1__step_plan__init(plan);
    remask__cluster__v1__open__init(open);
    remask__cluster__v1__row__init(row);
    message->kind_case = REMASK__CLUSTER__V1__COORDINATOR_MESSAGE__KIND_STEP_PLAN;
    message->step_plan = plan;
    plan->epoch = 1;
    plan->sequence = 1;
    plan->n_opens = 1;
    plan->opens = malloc(sizeof(*plan->opens));
    assert_non_null(plan->opens);
    plan->opens[0] = open;
    plan->n_rows = 1;
    plan->rows = malloc(sizeof(*plan->rows));
    assert_non_null(plan->rows);
    plan->rows[0] = row;
    open->request = 77;
    open->prompt_rows = prompt;
    open->gen_length = GEN;
    open->n_layout = features ? 2 : 1;
    open->layout = malloc(2 * sizeof(*open->layout));
    assert_non_null(open->layout);
    for (size_t i = 0; i < open->n_layout; i++) {
        open->layout[i] = malloc(sizeof(*open->layout[i]));
        assert_non_null(open->layout[i]);
        remask__cluster__v1__layout__init(open->layout[i]);
    }
    open->layout[0]->n_ids = PROMPT;
    open->layout[0]->ids = malloc(sizeof(ids));
    assert_non_null(open->layout[0]->ids);
    memcpy(open->layout[0]->ids, ids, sizeof(ids));
    if (features) {
        open->layout[1]->rows = FEATURE_ROWS;
    }
    row->request = 77;
    row->n_reads = 2;
    row->reads = numbers((const uint32_t[]){prompt, prompt + 1}, 2);
    return message;
}

/* The request's first plan keeps keys and values of every row; a later one is a window against
 * them. */
static void keep_or_go_on(Remask__Cluster__V1__CoordinatorMessage *message, bool first)
{
    Remask__Cluster__V1__StepPlan *plan = message->step_plan;

    plan->opens[0]->kv = true;
    plan->rows[0]->keep = first;
    if (!first) {
        remask__cluster__v1__open__free_unpacked(plan->opens[0], NULL);
        plan->n_opens = 0;
        plan->n_closes = 0;
        plan->rows[0]->kind = REMASK__CLUSTER__V1__ROW_KIND__WINDOW;
        plan->rows[0]->window_begin = PROMPT;
        plan->rows[0]->window_end = PROMPT + GEN;
    }
}

/* Leave for the plan's row to go on to its end: two blocks of two positions, one a forward. */
static Remask__Cluster__V1__RunAhead *lead(Remask__Cluster__V1__CoordinatorMessage *message)
{
    Remask__Cluster__V1__RunAhead *ahead = malloc(sizeof(*ahead));

    assert_non_null(ahead);
    remask__cluster__v1__run_ahead__init(ahead);
    ahead->forwards = RMK_AHEAD_MAX;
    ahead->prompt_rows = PROMPT;
    ahead->total_rows = PROMPT + GEN;
    ahead->block_length = 2;
    ahead->steps_per_block = 2;
    ahead->mask_id = 50;
    ahead->block_masks = 2;
    ahead->stop_position = GEN;
    ahead->n_ids = GEN;
    ahead->ids = (int32_t *)numbers((const uint32_t[]){50, 50, 50, 50}, GEN);
    message->step_plan->rows[0]->ahead = ahead;
    return ahead;
}

/* ---- two ranks
 * ------------------------------------------------------------------------------------------------------------
 */

struct rank {
    pthread_t thread;
    uint32_t number;
    uint64_t hash;
    bool features;     /* the plan wants them */
    bool has_features; /* rank 0 has them */
    bool leads;        /* the plan's row has leave */
    bool newer;        /* for a rule that is not known here */
    bool windows;      /* the first plan keeps, the others are windows of the same request */
    unsigned plans;    /* how often to run it */
    /* what came of the last */
    enum rmk_err err;
    struct rmk_why why;
    uint32_t result_error;
    uint64_t culprit;
    size_t row_count;
    int32_t token;
    size_t ahead_count;
    size_t ahead_reads[RMK_AHEAD_MAX];
    uint32_t ahead_first[RMK_AHEAD_MAX]; /* the first position that each read */
    bool ahead_whole;                    /* each has as many tokens and confidences as reads */
    struct rmk_comm_id *id;
};

static float *take(void *context, uint64_t request, uint32_t item, uint32_t rows)
{
    const struct rank *rank = context;

    if (!rank->has_features || request != 77 || item != 0 || rows != FEATURE_ROWS) {
        return NULL;
    }
    return calloc(FEATURE_ROWS * 40, sizeof(float));
}

static void keep_ahead(struct rank *rank, const Remask__Cluster__V1__RowResult *row)
{
    rank->ahead_count = row->n_ahead;
    rank->ahead_whole = true;
    for (size_t i = 0; i < row->n_ahead && i < RMK_AHEAD_MAX; i++) {
        const Remask__Cluster__V1__ForwardResult *forward = row->ahead[i];
        rank->ahead_reads[i] = forward->n_reads;
        rank->ahead_first[i] = forward->n_reads > 0 ? forward->reads[0] : 0;
        rank->ahead_whole &=
            forward->n_tokens == forward->n_reads && forward->n_confidences == forward->n_reads;
        rank->ahead_whole &= forward->n_committed_positions == 1 && forward->n_committed_ids == 1;
        for (size_t k = 0; k < forward->n_tokens && k < forward->n_confidences; k++) {
            rank->ahead_whole &= forward->tokens[k] >= 0 && forward->tokens[k] < 51 &&
                                 forward->confidences[k] > 0 && forward->confidences[k] <= 1;
        }
    }
}

/* No asserts here: cmocka's belong to the main thread. */
static void run_plans(struct rank *rank, struct rmk_runner *runner, struct rmk_comm *comm)
{
    for (unsigned i = 0; i < rank->plans; i++) {
        struct rmk_plan_job *job = NULL;
        Remask__Cluster__V1__CoordinatorMessage *message = make_plan(rank->features);
        message->step_plan->n_closes = 1;
        message->step_plan->closes = numbers((const uint32_t[]){0}, 1);
        if (rank->windows) {
            keep_or_go_on(message, i == 0);
        }
        if (rank->leads) {
            Remask__Cluster__V1__RunAhead *ahead = lead(message);
            ahead->rule = rank->newer ? (Remask__Cluster__V1__CommitRule)77 : ahead->rule;
        }
        rank->err = rmk_plan_create(message, rank->hash, &limits, &job, &rank->why);
        if (rank->err != RMK_OK) {
            return;
        }
        if (rank->number == 0) {
            rmk_plan_take_features(job, take, rank);
        }
        rank->err = rmk_plan_run(job, runner, comm, &rank->why);
        if (rank->err == RMK_OK) {
            const Remask__Cluster__V1__StepResult *result = rmk_plan_result(job);
            rank->result_error = result->error;
            rank->culprit = result->culprit;
            rank->row_count = result->n_rows;
            rank->token = result->n_rows > 0 ? result->rows[0]->tokens[0] : -1;
            if (result->n_rows > 0) {
                keep_ahead(rank, result->rows[0]);
            }
        }
        rmk_plan_destroy(job);
        if (rank->err != RMK_OK) {
            return;
        }
    }
}

static void *rank_main(void *context)
{
    struct rank *rank = context;
    const struct rmk_spec spec = dummy_spec();
    const struct rmk_device_options device_options = {
        .backend = "ref", .act = RMK_F32, .threads = 1};
    const struct rmk_comm_options comm_options = {.kind = "cpu",
                                                  .rank = rank->number,
                                                  .size = RANKS,
                                                  .epoch = 1,
                                                  .message_bytes_max = 1 << 16,
                                                  .form_timeout_ms = 10000};
    struct rmk_device *device = NULL;
    struct rmk_runner *runner = NULL;
    struct rmk_comm *comm = NULL;

    rank->err = rmk_device_create(&device_options, &device, &rank->why);
    const struct rmk_runner_options options = {.spec = &spec,
                                               .device = device,
                                               .rank = rank->number,
                                               .size = RANKS,
                                               .slot_count = SLOTS,
                                               .rows_max = ROWS_MAX,
                                               .step_rows_max = 2 * ROWS_MAX,
                                               .reads_max = 64,
                                               .kv_rows_max = 2 * ROWS_MAX,
                                               .load_dummy = true,
                                               .dummy_seed = DUMMY_SEED};
    if (rank->err == RMK_OK) {
        rank->err = rmk_runner_create(&options, &runner, &rank->why);
    }
    if (rank->err == RMK_OK) {
        rank->err = rmk_comm_create(&comm_options, rank->id, &comm, &rank->why);
    }
    if (rank->err == RMK_OK) {
        rmk_runner_set_comm(runner, comm);
        run_plans(rank, runner, comm);
    }
    rmk_runner_destroy(runner);
    rmk_comm_destroy(comm);
    rmk_device_destroy(device);
    return NULL;
}

static void run_ranks(struct rank ranks[RANKS])
{
    struct rmk_comm_id id;

    assert_int_equal(rmk_comm_id_make("cpu", &id, NULL), RMK_OK);
    for (uint32_t i = 0; i < RANKS; i++) {
        ranks[i].number = i;
        ranks[i].id = &id;
        ranks[i].plans = ranks[i].plans > 0 ? ranks[i].plans : 1;
        assert_int_equal(pthread_create(&ranks[i].thread, NULL, rank_main, &ranks[i]), 0);
    }
    for (uint32_t i = 0; i < RANKS; i++) {
        (void)pthread_join(ranks[i].thread, NULL);
    }
}

/* ---- tests
 * --------------------------------------------------------------------------------------------------------------------
 */

static void rank_0_answers_with_one_guess_per_read(void **state)
{
    struct rank ranks[RANKS] = {{.hash = 9, .features = true, .has_features = true},
                                {.hash = 9, .features = true}};

    (void)state;
    run_ranks(ranks);
    assert_int_equal(ranks[0].err, RMK_OK);
    assert_int_equal(ranks[1].err, RMK_OK);
    assert_int_equal(ranks[0].result_error, RMK_OK);
    assert_int_equal(ranks[0].row_count, 1);
    assert_in_range(ranks[0].token, 0, 50);
    assert_int_equal(ranks[1].row_count, 0);
}

static void missing_features_refuse_the_plan_on_every_rank_and_the_group_lives(void **state)
{
    /* Twice: were one rank left waiting in a collective, the second plan would never end. */
    struct rank ranks[RANKS] = {{.hash = 9, .features = true, .plans = 2},
                                {.hash = 9, .features = true, .plans = 2}};

    (void)state;
    run_ranks(ranks);
    for (int i = 0; i < RANKS; i++) {
        assert_int_equal(ranks[i].err, RMK_OK);
        assert_int_equal(ranks[i].result_error, RMK_EUNAVAILABLE);
        assert_int_equal(ranks[i].culprit, 77);
    }
}

static void different_plans_end_the_epoch_on_every_rank(void **state)
{
    struct rank ranks[RANKS] = {{.hash = 9}, {.hash = 10}};

    (void)state;
    run_ranks(ranks);
    assert_int_equal(ranks[0].err, RMK_EINTERNAL);
    assert_int_equal(ranks[1].err, RMK_EINTERNAL);
    assert_non_null(strstr(ranks[0].why.text, "different plans"));
}

static void a_window_goes_on_from_what_the_first_plan_kept(void **state)
{
    struct rank full[RANKS] = {{.hash = 9}, {.hash = 9}};
    struct rank ranks[RANKS] = {{.hash = 9, .windows = true, .plans = 3},
                                {.hash = 9, .windows = true, .plans = 3}};

    (void)state;
    run_ranks(full);
    run_ranks(ranks);
    for (int i = 0; i < RANKS; i++) {
        assert_int_equal(ranks[i].err, RMK_OK);
        assert_int_equal(ranks[i].result_error, RMK_OK);
    }
    assert_int_equal(ranks[0].row_count, 1);
    assert_int_equal(ranks[0].token, full[0].token); /* nothing was committed in between */
}

static void a_row_with_leave_is_gone_on_with_to_its_end(void **state)
{
    struct rank plain[RANKS] = {{.hash = 9}, {.hash = 9}};
    /* Twice: both ranks must have stopped at the same forward. */
    struct rank ranks[RANKS] = {{.hash = 9, .leads = true, .plans = 2},
                                {.hash = 9, .leads = true, .plans = 2}};

    (void)state;
    run_ranks(plain);
    run_ranks(ranks);
    assert_int_equal(plain[0].ahead_count, 0);
    assert_int_equal(ranks[0].result_error, RMK_OK);
    assert_int_equal(ranks[1].result_error, RMK_OK);
    assert_int_equal(ranks[0].token, plain[0].token);
    assert_int_equal(ranks[0].ahead_count, 3);
    assert_int_equal(ranks[0].ahead_reads[0], 1);
    assert_in_range(ranks[0].ahead_first[0], PROMPT, PROMPT + 1);
    assert_int_equal(ranks[0].ahead_reads[1], 2);
    assert_int_equal(ranks[0].ahead_first[1], PROMPT + 2);
    assert_int_equal(ranks[0].ahead_reads[2], 1);
    assert_true(ranks[0].ahead_whole);
    assert_int_equal(ranks[1].row_count, 0);
}

/* What is wrong in a plan's numbers is found when it is made, and refused when it is run. */
static void expect_refused(Remask__Cluster__V1__CoordinatorMessage *message, const char *sentence)
{
    const struct rmk_spec spec = dummy_spec();
    const struct rmk_device_options device_options = {
        .backend = "ref", .act = RMK_F32, .threads = 1};
    const struct rmk_comm_options comm_options = {.kind = "self", .size = 1, .epoch = 1};
    struct rmk_comm_id id;
    struct rmk_device *device = NULL;
    struct rmk_runner *runner = NULL;
    struct rmk_comm *comm = NULL;
    struct rmk_plan_job *job = NULL;
    struct rmk_why why = {0};

    assert_int_equal(rmk_device_create(&device_options, &device, NULL), RMK_OK);
    const struct rmk_runner_options options = {.spec = &spec,
                                               .device = device,
                                               .size = 1,
                                               .slot_count = SLOTS,
                                               .rows_max = ROWS_MAX,
                                               .step_rows_max = 2 * ROWS_MAX,
                                               .reads_max = 64,
                                               .load_dummy = true,
                                               .dummy_seed = DUMMY_SEED};
    assert_int_equal(rmk_runner_create(&options, &runner, NULL), RMK_OK);
    assert_int_equal(rmk_comm_id_make("self", &id, NULL), RMK_OK);
    assert_int_equal(rmk_comm_create(&comm_options, &id, &comm, NULL), RMK_OK);
    rmk_runner_set_comm(runner, comm);
    assert_int_equal(rmk_plan_create(message, 1, &limits, &job, &why), RMK_OK);
    assert_int_equal(rmk_plan_run(job, runner, comm, &why), RMK_OK);
    const Remask__Cluster__V1__StepResult *result = rmk_plan_result(job);
    assert_int_not_equal(result->error, RMK_OK);
    if (strstr(result->why, sentence) == NULL) {
        fail_msg("\"%s\" lacks \"%s\"", result->why, sentence);
    }
    rmk_plan_destroy(job);
    rmk_runner_destroy(runner);
    rmk_comm_destroy(comm);
    rmk_device_destroy(device);
}

static void numbers_outside_the_group_are_refused_with_a_sentence(void **state)
{
    Remask__Cluster__V1__CoordinatorMessage *message = make_plan(false);

    (void)state;
    message->step_plan->opens[0]->slot = SLOTS;
    expect_refused(message, "this group has 2 slots");

    message = make_plan(false);
    message->step_plan->opens[0]->gen_length = ROWS_MAX;
    expect_refused(message, "of 64 rows");

    message = make_plan(false);
    message->step_plan->opens[0]->prompt_rows = PROMPT + 1;
    expect_refused(message, "were announced");

    message = make_plan(false);
    message->step_plan->rows[0]->slot = SLOTS;
    expect_refused(message, "cannot be run");

    message = make_plan(false);
    message->step_plan->rows[0]->reads[1] = message->step_plan->rows[0]->reads[0];
    expect_refused(message, "do not ascend");

    message = make_plan(false);
    message->step_plan->rows[0]->n_update_positions = 1;
    message->step_plan->rows[0]->update_positions = numbers((const uint32_t[]){4}, 1);
    message->step_plan->rows[0]->n_update_ids = 1;
    message->step_plan->rows[0]->update_ids = (int32_t *)numbers((const uint32_t[]){51}, 1);
    expect_refused(message, "outside the model");

    message = make_plan(false);
    message->step_plan->rows[0]->kind = (Remask__Cluster__V1__RowKind)9;
    expect_refused(message, "of kind 9 cannot be run");

    message = make_plan(false);
    message->step_plan->rows[0]->kind = REMASK__CLUSTER__V1__ROW_KIND__WINDOW;
    message->step_plan->rows[0]->window_begin = 5;
    message->step_plan->rows[0]->window_end = 5;
    expect_refused(message, "a window of rows [5, 5) is empty");

    message = make_plan(false);
    message->step_plan->rows[0]->kind = REMASK__CLUSTER__V1__ROW_KIND__WINDOW;
    message->step_plan->rows[0]->window_end = ROWS_MAX + 1;
    expect_refused(message, "a window of rows [0, 65) is empty or outside the model");

    message = make_plan(false);
    message->step_plan->rows[0]->kind = REMASK__CLUSTER__V1__ROW_KIND__FEATURE;
    message->step_plan->rows[0]->transfer_ratio = (double)NAN;
    expect_refused(message, "is not from 0 to 1");

    message = make_plan(false);
    message->step_plan->opens[0]->feature = true;
    expect_refused(message, "wants to keep features from step to step");

    message = make_plan(false);
    message->step_plan->rows[0]->keep = true; /* the open does not say kv */
    expect_refused(message, "was not opened to keep");
}

static void leave_for_a_rule_of_the_future_is_not_used(void **state)
{
    struct rank ranks[RANKS] = {{.hash = 9, .leads = true, .newer = true},
                                {.hash = 9, .leads = true, .newer = true}};

    (void)state;
    run_ranks(ranks);
    assert_int_equal(ranks[0].result_error, RMK_OK);
    assert_int_equal(ranks[0].row_count, 1);
    assert_int_equal(ranks[0].ahead_count, 0);
}

static void a_leave_that_makes_no_sense_is_refused_with_a_sentence(void **state)
{
    Remask__Cluster__V1__CoordinatorMessage *message = make_plan(false);

    (void)state;
    lead(message)->forwards = 1;
    expect_refused(message, "leave for 1 forwards");

    message = make_plan(false);
    lead(message)->block_length = 3;
    expect_refused(message, "in blocks of 3");

    message = make_plan(false);
    lead(message)->block = 1;
    expect_refused(message, "does not ask for this row");

    message = make_plan(false);
    lead(message)->ids[0] = 4; /* committed already, but to be read */
    expect_refused(message, "does not ask for this row");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rank_0_answers_with_one_guess_per_read),
        cmocka_unit_test(missing_features_refuse_the_plan_on_every_rank_and_the_group_lives),
        cmocka_unit_test(different_plans_end_the_epoch_on_every_rank),
        cmocka_unit_test(a_window_goes_on_from_what_the_first_plan_kept),
        cmocka_unit_test(numbers_outside_the_group_are_refused_with_a_sentence),
        cmocka_unit_test(a_row_with_leave_is_gone_on_with_to_its_end),
        cmocka_unit_test(leave_for_a_rule_of_the_future_is_not_used),
        cmocka_unit_test(a_leave_that_makes_no_sense_is_refused_with_a_sentence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
