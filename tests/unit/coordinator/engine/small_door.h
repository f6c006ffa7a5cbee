/* For tests of the engine's own ways: small limits, one engine a test, requests for two tokens
 * after three rows of prompt. */
#ifndef RMK_TESTS_ENGINE_SMALL_DOOR_H
#define RMK_TESTS_ENGINE_SMALL_DOOR_H

#include "tests/unit/coordinator/engine/door.h"

static const struct rmk_engine_limits limits = {
    .requests_max = 4,
    .queued_max = 2,
    .groups_max = 2,
    .visions_max = 1,
    .rows_per_plan_max = 1,
    .retries_max = 1,
    .plan_timeout_us = 1000000,
    .encode_timeout_us = 1000000,
};

static struct door door;

static int begin(void **state)
{
    (void)state;
    door_open(&door, &limits);
    return 0;
}

static int end(void **state)
{
    (void)state;
    door_close(&door);
    return 0;
}

static struct rmk_submit ask(uint64_t tag)
{
    return (struct rmk_submit){
        .tag = tag,
        .prompt_rows = 3,
        .mask_id = 99,
        .gen_length = 2,
        .block_length = 2,
        .steps = 2,
    };
}

static struct rmk_request_id submit(uint64_t tag)
{
    struct rmk_submit asked = ask(tag);

    door_submit(&door, &asked);
    const struct rmk_action *accepted = door_find(&door, RMK_ACTION_ACCEPTED);
    assert_non_null(accepted);
    assert_int_equal(accepted->tag, tag);
    return accepted->request;
}

/* Answer the plan of the last step: token 5 everywhere. */
static void answer(uint32_t group, uint64_t epoch, uint64_t sequence,
                   const struct rmk_plan_row *row)
{
    struct rmk_guess guesses[8];
    struct rmk_row_result result = {
        .request = row->request,
        .guesses = guesses,
        .guess_count = row->read_count,
    };

    for (uint32_t i = 0; i < row->read_count; i++) {
        guesses[i] = (struct rmk_guess){(int32_t)row->reads[i] - 3, 5, 0.5};
    }
    door_step(&door, (struct rmk_event){
                         .kind = RMK_EVENT_STEP_DONE,
                         .step = {.group = group,
                                  .epoch = epoch,
                                  .sequence = sequence,
                                  .rows = &result,
                                  .row_count = 1,
                                  .compute_us = 10},
                     });
}

#endif
