/* worker/text: rows that are gone on with, against the same requests asked forward by forward. */
#include "worker/text/run_ahead.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/engine/ahead.h"
#include "coordinator/engine/engine.h"
#include "tests/support/dummy_model.h"
#include "tests/support/text_runs.h"

enum {
    SLOTS = 4,
    PROMPT = 9,
    GEN = 12,
    ROWS_MAX = 48,
    MASK = 50,
    REQUESTS = 2, /* side by side, of different rules and caches */
    FORWARDS = 4,
};

static struct rmk_spec spec;

static int make_spec(void **state)
{
    (void)state;
    spec = dummy_spec();
    return 0;
}

static void create(struct text_group *group, const char *backend, uint32_t size)
{
    *group = (struct text_group){
        .device = {.backend = backend, .act = RMK_F32, .threads = 1},
        .runner = {.spec = &spec,
                   .slot_count = SLOTS,
                   .rows_max = ROWS_MAX,
                   .step_rows_max = SLOTS * ROWS_MAX,
                   .reads_max = RUNS_READS_MAX,
                   .kv_rows_max = SLOTS * 2 * ROWS_MAX,
                   .feature_rows_max = SLOTS * 2 * ROWS_MAX,
                   .load_dummy = true,
                   .dummy_seed = DUMMY_SEED},
    };
    if (text_group_create(group, size) != RMK_OK) {
        fail_msg("%s, %u ranks: %s", backend, size, text_group_why(group));
    }
}

/* ---- a request, as the engine has it
 * --------------------------------------------------------------------------------- */

static const int32_t stop_ids[] = {38, 39};
static const struct rmk_stop stops[] = {{stop_ids, 2}};

static struct rmk_submit submit_of(uint32_t number)
{
    const enum rmk_rule rule = (enum rmk_rule)(number % RMK_RULE_COUNT);
    const enum rmk_cache cache = (enum rmk_cache)(number % (RMK_CACHE_FEATURE + 1));

    return (struct rmk_submit){
        .prompt_rows = PROMPT,
        .mask_id = MASK,
        .gen_length = GEN,
        .block_length = number % 2 == 0 ? GEN : GEN / 3,
        .steps = GEN,
        .temperature = number % 3 == 0 ? 0.7 : 0,
        .cfg_scale = number % 4 == 1 ? 0.5f : 0,
        .remasking = number % 5 == 0 ? RMK_REMASK_RANDOM : RMK_REMASK_LOW_CONFIDENCE,
        .seed = number,
        .golden_noise = number % 2 == 0,
        .stops = stops,
        .stop_count = 1,
        .rule =
            {.rule = rule, .tau = 0.03, .factor = 2, .tau_low = 0.01, .kappa = 0.02, .reach = 2},
        .cache = {.cache = cache,
                  .refresh_interval = 5,
                  .prompt_interval = 6,
                  .gen_interval = 2,
                  .transfer_ratio = 0.25},
    };
}

static void open_request(struct text_group *group, uint32_t slot, const struct rmk_submit *submit)
{
    struct text_request request;
    struct rmk_open *open =
        text_request_of(&request, slot % REQUESTS, PROMPT, GEN, submit->cfg_scale > 0);

    open->slot = slot;
    open->kv = submit->cache.cache != RMK_CACHE_NONE;
    open->feature = submit->cache.cache == RMK_CACHE_FEATURE;
    if (text_group_call(group, text_open_on, open) != RMK_OK) {
        fail_msg("%s", text_group_why(group));
    }
}

static void close_request(struct text_group *group, uint32_t slot)
{
    assert_int_equal(text_group_call(group, text_close_on, &slot), RMK_OK);
}

/* One request by the canvas of the coordinator. */
struct request {
    struct rmk_submit submit;
    struct rmk_canvas canvas;
    uint32_t log_seen;
    struct rmk_update updates[RMK_READS_MAX];
    struct rmk_row row;
};

static void begin(struct request *request, uint32_t number)
{
    request->submit = submit_of(number);
    request->log_seen = 0;
    rmk_canvas_init(&request->canvas, &request->submit);
    assert_true(rmk_canvas_next(&request->canvas));
}

/* What the coordinator would order. */
static const struct rmk_row *order(struct request *request, uint32_t slot)
{
    const struct rmk_canvas *canvas = &request->canvas;
    const bool window = canvas->pass.kind == RMK_PLAN_WINDOW;
    uint32_t count = 0;

    for (; request->log_seen < canvas->log_count; request->log_seen++) {
        request->updates[count++] =
            (struct rmk_update){.position = canvas->log[request->log_seen].position,
                                .id = canvas->log[request->log_seen].id};
    }
    request->row = (struct rmk_row){
        .slot = slot,
        .kind = (enum rmk_row_kind)canvas->pass.kind,
        .keep = canvas->pass.keep,
        .window_begin = window ? canvas->pass.begin : 0,
        .window_end = window ? canvas->pass.end : 0,
        .refresh_prompt = canvas->pass.refresh_prompt,
        .refresh_gen = canvas->pass.refresh_gen,
        .transfer_ratio = request->submit.cache.transfer_ratio,
        .cfg_scale = request->submit.cfg_scale,
        .updates = request->updates,
        .update_count = count,
        .reads = canvas->reads,
        .read_count = canvas->read_count,
        .noise = request->submit.golden_noise ? RMK_NOISE_SPLITMIX : RMK_NOISE_PHILOX,
        .temperature = request->submit.temperature,
        .seed = request->submit.seed,
        .forward = canvas->forward,
    };
    return &request->row;
}

static bool commit(struct request *request, const struct rmk_read *reads)
{
    struct rmk_guess guesses[RMK_READS_MAX];
    const uint32_t count = request->canvas.read_count;

    for (uint32_t i = 0; i < count; i++) {
        guesses[i] = (struct rmk_guess){
            .position = (int32_t)request->canvas.reads[i] - PROMPT,
            .token = reads[i].token,
            .confidence = reads[i].confidence,
        };
    }
    (void)rmk_canvas_commit(&request->canvas, guesses, count);
    return rmk_canvas_next(&request->canvas);
}

/* ---- a plan with leave, on every rank
 * -------------------------------------------------------------------------------- */

struct leave {
    const struct rmk_row *rows;
    const struct rmk_ahead *aheads;
    uint32_t row_count;
    /* by rank */
    struct rmk_run_ahead *runs[TEXT_GROUP_MAX];
    struct rmk_read reads[TEXT_GROUP_MAX][RUNS_READS_MAX];
};

static enum rmk_err run_with_leave(struct text_rank *rank, void *argument)
{
    struct leave *leave = argument;
    struct rmk_run_ahead **run = &leave->runs[rank->rank];
    struct rmk_read *reads = leave->reads[rank->rank];
    bool poisoned[RUNS_ROWS_MAX];
    enum rmk_err err;

    RMK_TRY(rmk_run_ahead_create(leave->rows, leave->aheads, leave->row_count, FORWARDS, run,
                                 &rank->why));
    RMK_TRY(
        rmk_runner_run(rank->runner, leave->rows, leave->row_count, reads, poisoned, &rank->why));
    RMK_TRY(rmk_run_ahead_run(*run, rank->runner, reads, poisoned, &rank->why));
out:
    return err;
}

static void check_forward(const struct rmk_run_ahead_forward *forward,
                          const struct rmk_canvas *canvas, const struct rmk_read *reads)
{
    assert_int_equal(forward->count, canvas->read_count);
    assert_memory_equal(forward->positions, canvas->reads, forward->count * sizeof(uint32_t));
    for (uint32_t i = 0; i < forward->count; i++) {
        assert_int_equal(forward->reads[i].token, reads[i].token);
        assert_memory_equal(&forward->reads[i].confidence, &reads[i].confidence, sizeof(double));
    }
}

/* Slots 0 and 1 are asked forward by forward, 2 and 3 are run ahead. Returns the forwards saved. */
static uint32_t follow(struct text_group *group, uint32_t first)
{
    static struct request asked[REQUESTS];
    static struct request led[REQUESTS];
    uint32_t saved = 0;
    bool more = true;

    for (uint32_t i = 0; i < REQUESTS; i++) {
        begin(&asked[i], first + i);
        begin(&led[i], first + i);
        open_request(group, i, &asked[i].submit);
        open_request(group, REQUESTS + i, &led[i].submit);
    }
    while (more) {
        struct leave leave = {.row_count = REQUESTS};
        struct rmk_row rows[REQUESTS];
        struct rmk_ahead aheads[REQUESTS];
        for (uint32_t i = 0; i < REQUESTS; i++) {
            rows[i] = *order(&led[i], REQUESTS + i);
            rmk_ahead_describe(&led[i].canvas, &aheads[i]);
        }
        leave.rows = rows;
        leave.aheads = aheads;
        if (text_group_call(group, run_with_leave, &leave) != RMK_OK) {
            fail_msg("%s", text_group_why(group));
        }
        const uint32_t count = rmk_run_ahead_count(leave.runs[0], 0);
        for (uint32_t f = 0; f <= count; f++) {
            struct text_run run;
            struct rmk_row single[REQUESTS];
            assert_true(more);
            for (uint32_t i = 0; i < REQUESTS; i++) {
                single[i] = *order(&asked[i], i);
            }
            text_runs(group, &run, single, REQUESTS);
            const struct rmk_read *reads = run.reads[0];
            const struct rmk_read *first_reads = leave.reads[0];
            for (uint32_t i = 0; i < REQUESTS; i++) {
                const uint32_t read_count = asked[i].canvas.read_count;
                for (uint32_t rank = 0; f > 0 && rank < group->size; rank++) {
                    const struct rmk_run_ahead_forward forward =
                        rmk_run_ahead_at(leave.runs[rank], i, f - 1);
                    check_forward(&forward, &asked[i].canvas, reads);
                    assert_int_equal(forward.commit_count, single[i].update_count);
                    for (uint32_t k = 0; k < forward.commit_count; k++) {
                        assert_int_equal(forward.commits[k].position,
                                         single[i].updates[k].position);
                        assert_int_equal(forward.commits[k].id, single[i].updates[k].id);
                    }
                    assert_int_equal(rmk_run_ahead_count(leave.runs[rank], i), count);
                    assert_false(rmk_run_ahead_poisoned(leave.runs[rank], i));
                }
                const struct rmk_read *led_reads =
                    f == 0 ? first_reads : rmk_run_ahead_at(leave.runs[0], i, f - 1).reads;
                led[i].log_seen = led[i].canvas.log_count; /* the slot has these */
                more = commit(&led[i], led_reads) && more;
                (void)commit(&asked[i], reads);
                reads += read_count;
                first_reads += read_count;
            }
        }
        saved += count;
        for (uint32_t rank = 0; rank < group->size; rank++) {
            rmk_run_ahead_destroy(leave.runs[rank]);
        }
    }
    for (uint32_t i = 0; i < REQUESTS; i++) {
        assert_memory_equal(led[i].canvas.ids, asked[i].canvas.ids, GEN * sizeof(int32_t));
        assert_int_equal(led[i].canvas.forward, asked[i].canvas.forward);
        close_request(group, i);
        close_request(group, REQUESTS + i);
    }
    return saved;
}

static void what_is_run_ahead_is_what_would_have_been_asked(void **state)
{
    static const struct {
        const char *backend;
        uint32_t size;
    } groups[] = {{"ref", 1}, {"cpu", 1}, {"cpu", 2}};

    (void)state;
    for (unsigned g = 0; g < sizeof(groups) / sizeof(groups[0]); g++) {
        struct text_group group;
        uint32_t saved = 0;
        create(&group, groups[g].backend, groups[g].size);
        for (uint32_t number = 0; number < 10; number++) {
            saved += follow(&group, number);
        }
        assert_true(saved > 10);
        text_group_destroy(&group);
    }
}

static void a_leave_that_is_not_for_its_row_is_refused(void **state)
{
    static struct request request;
    struct rmk_ahead ahead;
    struct rmk_run_ahead *run = NULL;
    struct rmk_why why = {0};

    (void)state;
    begin(&request, 1);
    const struct rmk_row good = *order(&request, 0);
    rmk_ahead_describe(&request.canvas, &ahead);
    struct rmk_row row = good;
    row.forward++;
    assert_int_equal(rmk_run_ahead_create(&row, &ahead, 1, FORWARDS, &run, &why), RMK_EINVAL);
    row = good;
    row.read_count--;
    assert_int_equal(rmk_run_ahead_create(&row, &ahead, 1, FORWARDS, &run, &why), RMK_EINVAL);
    row = good;
    row.keep = !row.keep;
    assert_int_equal(rmk_run_ahead_create(&row, &ahead, 1, FORWARDS, &run, &why), RMK_EINVAL);
    assert_non_null(strstr(why.text, "does not ask for this row"));
    row = good;
    assert_int_equal(rmk_run_ahead_create(&row, &ahead, 1, 1, &run, &why), RMK_EINVAL);
    assert_int_equal(rmk_run_ahead_create(&row, &ahead, 1, RMK_AHEAD_MAX + 1, &run, &why),
                     RMK_EINVAL);
    assert_int_equal(rmk_run_ahead_create(&row, &ahead, 0, 2, &run, &why), RMK_EINVAL);
    ahead.gen_length = RMK_GEN_LENGTH_MAX * 4;
    assert_int_equal(rmk_run_ahead_create(&row, &ahead, 1, 2, &run, &why), RMK_ELIMIT);
    assert_null(run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_run_ahead_is_what_would_have_been_asked),
        cmocka_unit_test(a_leave_that_is_not_for_its_row_is_refused),
    };

    return cmocka_run_group_tests(tests, make_spec, NULL);
}
