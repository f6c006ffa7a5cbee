#include "coordinator/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/engine/engine.h"

enum { GEN = 4, PROMPT = 10, MASK = 99, FORWARDS = 3 };

static const struct rmk_engine_limits limits = {
    .requests_max = 2,
    .queued_max = 2,
    .groups_max = 1,
    .visions_max = 1,
    .rows_per_plan_max = 2,
    .retries_max = 2,
    .ahead_max = FORWARDS,
    .plan_timeout_us = 60000000,
    .encode_timeout_us = 60000000,
};

static uv_loop_t uv;
static struct rmk_loop *loop;
static void *memory;

/* What the engine last decided. */
static uint64_t sequence;
static uint32_t leave;
static struct rmk_request_id request;
static int32_t committed[GEN];
static uint32_t committed_count;

static void perform(void *context, const struct rmk_action *action)
{
    (void)context;
    if (action->kind == RMK_ACTION_RUN_STEP) {
        sequence = action->plan.sequence;
        leave = action->plan.rows[0].ahead;
        request = action->plan.rows[0].request;
    } else if (action->kind == RMK_ACTION_EMIT) {
        for (uint32_t i = 0; i < action->emit.commit_count; i++) {
            committed[action->emit.commits[i].position] = action->emit.commits[i].token;
            committed_count++;
        }
    }
}

static void flush(void *context)
{
    (void)context;
}

static void on_closed(void *context)
{
    (void)context;
}

static int begin(void **state)
{
    const struct rmk_loop_hooks hooks = {.perform = perform, .flush = flush};
    size_t bytes = (rmk_engine_bytes(&limits) + 63) & ~(size_t)63;

    (void)state;
    memory = aligned_alloc(64, bytes);
    assert_non_null(memory);
    assert_int_equal(uv_loop_init(&uv), 0);
    assert_int_equal(rmk_loop_create(&uv, rmk_engine_init(memory, &limits), &hooks, &loop, NULL),
                     RMK_OK);
    committed_count = 0;
    return 0;
}

static int end(void **state)
{
    (void)state;
    rmk_loop_close(loop, on_closed, NULL);
    (void)uv_run(&uv, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&uv), 0);
    free(memory);
    return 0;
}

/* Everything that an answer points to, and no more: what the loop keeps must not be here. */
struct answer {
    struct rmk_row_result row;
    struct rmk_row_forward ahead[FORWARDS - 1];
    struct rmk_plan_update commits[FORWARDS - 1];
    struct rmk_guess guesses[FORWARDS][GEN];
};

/* Position p becomes token p + 1, the first open one first. */
static void post_answer(uint32_t begin_at, uint32_t forwards)
{
    struct answer *answer = calloc(1, sizeof(*answer));

    assert_non_null(answer);
    for (uint32_t f = 0; f < forwards; f++) {
        uint32_t first = begin_at + f;
        for (uint32_t p = first; p < GEN; p++) {
            answer->guesses[f][p - first] = (struct rmk_guess){
                .position = (int32_t)p, .token = (int32_t)p + 1, .confidence = 1.0 - p / 16.0};
        }
        if (f > 0) {
            answer->commits[f - 1] = (struct rmk_plan_update){PROMPT + first - 1, (int32_t)first};
            answer->ahead[f - 1] = (struct rmk_row_forward){
                .commits = &answer->commits[f - 1],
                .commit_count = 1,
                .guesses = answer->guesses[f],
                .guess_count = GEN - first,
            };
        }
    }
    answer->row = (struct rmk_row_result){
        .request = request,
        .guesses = answer->guesses[0],
        .guess_count = GEN - begin_at,
        .ahead = answer->ahead,
        .ahead_count = forwards - 1,
    };
    rmk_loop_post(loop, &(struct rmk_event){.kind = RMK_EVENT_STEP_DONE,
                                            .step = {.epoch = 1,
                                                     .sequence = sequence,
                                                     .rows = &answer->row,
                                                     .row_count = 1,
                                                     .compute_us = 7}});
    memset(answer, 0xa5, sizeof(*answer)); /* as whoever reads the next answer would */
    free(answer);
    (void)uv_run(&uv, UV_RUN_NOWAIT);
}

static void an_event_is_kept_whole_until_its_turn(void **state)
{
    const struct rmk_submit submit = {.prompt_rows = PROMPT,
                                      .mask_id = MASK,
                                      .gen_length = GEN,
                                      .block_length = GEN,
                                      .steps = GEN};

    (void)state;
    rmk_loop_post(loop, &(struct rmk_event){.kind = RMK_EVENT_GROUP_UP,
                                            .group = {.epoch = 1,
                                                      .slot_count = 1,
                                                      .rows_max = 100,
                                                      .step_rows_max = 100,
                                                      .ahead_max = FORWARDS}});
    rmk_loop_post(loop, &(struct rmk_event){.kind = RMK_EVENT_SUBMIT, .submit = &submit});
    (void)uv_run(&uv, UV_RUN_NOWAIT);
    post_answer(0, 1);
    assert_int_equal(leave, FORWARDS);
    post_answer(1, FORWARDS);
    assert_int_equal(committed_count, GEN);
    for (int32_t p = 0; p < GEN; p++) {
        assert_int_equal(committed[p], p + 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_event_is_kept_whole_until_its_turn, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
