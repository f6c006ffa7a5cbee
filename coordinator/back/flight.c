#include "coordinator/back/flight.h"

#include <string.h>

#include "coordinator/back/back.h"
#include "coordinator/front/intake.h"

void rmk_flight_begin(struct rmk_flight *flight, const struct rmk_plan *plan,
                      const struct rmk_intake *const *intakes, uint64_t hash, uint64_t now_us)
{
    rmk_arena_reset(&flight->arena);
    flight->under_way = true;
    flight->sequence = plan->sequence;
    flight->hash = hash;
    flight->sent_us = now_us;
    flight->row_count = plan->row_count;
    flight->rows = rmk_arena_take(&flight->arena, plan->row_count * sizeof(*flight->rows));
    for (uint32_t i = 0; i < plan->row_count; i++) {
        const struct rmk_plan_row *row = &plan->rows[i];
        uint32_t *reads = rmk_arena_take(&flight->arena, row->read_count * sizeof(*reads));

        if (row->read_count > 0) {
            memcpy(reads, row->reads, row->read_count * sizeof(*reads));
        }
        flight->rows[i] = (struct rmk_flight_row){
            .request = row->request,
            .prompt_rows = intakes[i]->submit.prompt_rows,
            .reads = reads,
            .read_count = row->read_count,
        };
    }
}

void rmk_flight_deinit(struct rmk_flight *flight)
{
    rmk_arena_deinit(&flight->arena);
}

static enum rmk_err read_row(const struct rmk_flight_row *asked,
                             const Remask__Cluster__V1__RowResult *answer, uint32_t vocab,
                             struct rmk_arena *scratch, struct rmk_row_result *out_row,
                             struct rmk_why *why)
{
    struct rmk_guess *guesses;

    if (answer->request != rmk_wire_of_request(asked->request)) {
        return rmk_fail(why, RMK_EINVAL, "a result is about request %llx where %llx was asked",
                        (unsigned long long)answer->request,
                        (unsigned long long)rmk_wire_of_request(asked->request));
    }
    *out_row = (struct rmk_row_result){.request = asked->request, .poisoned = answer->poisoned};
    if (answer->poisoned) {
        return RMK_OK; /* whatever it says is not looked at */
    }
    if (answer->n_tokens != asked->read_count || answer->n_confidences != asked->read_count) {
        return rmk_fail(why, RMK_EINVAL,
                        "a result has %zu tokens and %zu confidences for %u positions",
                        answer->n_tokens, answer->n_confidences, asked->read_count);
    }
    guesses = rmk_arena_take(scratch, asked->read_count * sizeof(*guesses));
    for (uint32_t i = 0; i < asked->read_count; i++) {
        if (answer->tokens[i] < 0 || (uint32_t)answer->tokens[i] >= vocab) {
            return rmk_fail(why, RMK_EINVAL, "a result has token %d, the vocabulary has %u",
                            answer->tokens[i], vocab);
        }
        guesses[i] = (struct rmk_guess){
            .position = (int32_t)((int64_t)asked->reads[i] - (int64_t)asked->prompt_rows),
            .token = answer->tokens[i],
            .confidence = answer->confidences[i],
        };
    }
    out_row->guesses = guesses;
    out_row->guess_count = asked->read_count;
    return RMK_OK;
}

enum rmk_err rmk_flight_read(const struct rmk_flight *flight,
                             const Remask__Cluster__V1__StepResult *result, uint32_t vocab,
                             struct rmk_arena *scratch, struct rmk_row_result **out_rows,
                             struct rmk_why *why)
{
    struct rmk_row_result *rows;
    enum rmk_err err = RMK_OK;

    if (result->n_rows != flight->row_count) {
        return rmk_fail(why, RMK_EINVAL, "a result has %zu rows, the plan had %u", result->n_rows,
                        flight->row_count);
    }
    rows = rmk_arena_take(scratch, flight->row_count * sizeof(*rows));
    for (uint32_t i = 0; i < flight->row_count; i++) {
        RMK_TRY(read_row(&flight->rows[i], result->rows[i], vocab, scratch, &rows[i], why));
    }
    *out_rows = rows;
out:
    return err;
}
