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
            .ahead = row->ahead,
        };
    }
}

void rmk_flight_deinit(struct rmk_flight *flight)
{
    rmk_arena_deinit(&flight->arena);
}

/* One forward's guesses. Whether a forward that was run ahead read the right positions is the
 * engine's to say. */
static enum rmk_err read_guesses(const uint32_t *reads, uint32_t read_count, const int32_t *tokens,
                                 size_t token_count, const double *confidences,
                                 size_t confidence_count, uint32_t prompt_rows, uint32_t vocab,
                                 struct rmk_arena *scratch, const struct rmk_guess **out_guesses,
                                 struct rmk_why *why)
{
    struct rmk_guess *guesses;

    if (token_count != read_count || confidence_count != read_count) {
        return rmk_fail(why, RMK_EINVAL,
                        "a result has %zu tokens and %zu confidences for %u positions", token_count,
                        confidence_count, read_count);
    }
    guesses = rmk_arena_take(scratch, read_count * sizeof(*guesses));
    for (uint32_t i = 0; i < read_count; i++) {
        int64_t position = (int64_t)reads[i] - (int64_t)prompt_rows;

        if (tokens[i] < 0 || (uint32_t)tokens[i] >= vocab) {
            return rmk_fail(why, RMK_EINVAL, "a result has token %d, the vocabulary has %u",
                            tokens[i], vocab);
        }
        if (position != (int32_t)position) {
            return rmk_fail(why, RMK_EINVAL, "a result is about row %u, which no request has",
                            reads[i]);
        }
        guesses[i] = (struct rmk_guess){
            .position = (int32_t)position, .token = tokens[i], .confidence = confidences[i]};
    }
    *out_guesses = guesses;
    return RMK_OK;
}

static enum rmk_err read_commits(const Remask__Cluster__V1__ForwardResult *forward,
                                 struct rmk_arena *scratch, struct rmk_row_forward *out_forward,
                                 struct rmk_why *why)
{
    const size_t count = forward->n_committed_positions;
    struct rmk_plan_update *commits;

    if (count != forward->n_committed_ids || count > RMK_AHEAD_READS_MAX) {
        return rmk_fail(why, RMK_EINVAL, "a result has %zu ids for %zu commits",
                        forward->n_committed_ids, count);
    }
    commits = rmk_arena_take(scratch, count * sizeof(*commits));
    for (size_t i = 0; i < count; i++) {
        commits[i] = (struct rmk_plan_update){.position = forward->committed_positions[i],
                                              .id = forward->committed_ids[i]};
    }
    out_forward->commits = commits;
    out_forward->commit_count = (uint32_t)count;
    return RMK_OK;
}

static enum rmk_err read_ahead(const struct rmk_flight_row *asked,
                               const Remask__Cluster__V1__RowResult *answer, uint32_t vocab,
                               struct rmk_arena *scratch, struct rmk_row_result *out_row,
                               struct rmk_why *why)
{
    struct rmk_row_forward *ahead;
    enum rmk_err err = RMK_OK;

    if (answer->n_ahead > 0 && answer->n_ahead >= asked->ahead) {
        return rmk_fail(why, RMK_EINVAL, "a result has %zu forwards run ahead, of %u in all",
                        answer->n_ahead, asked->ahead);
    }
    ahead = rmk_arena_take(scratch, answer->n_ahead * sizeof(*ahead));
    for (size_t i = 0; i < answer->n_ahead; i++) {
        const Remask__Cluster__V1__ForwardResult *forward = answer->ahead[i];

        if (forward->n_reads > RMK_AHEAD_READS_MAX) {
            return rmk_fail(why, RMK_EINVAL, "a result is about %zu positions", forward->n_reads);
        }
        ahead[i].guess_count = (uint32_t)forward->n_reads;
        RMK_TRY(read_commits(forward, scratch, &ahead[i], why));
        RMK_TRY(read_guesses(forward->reads, ahead[i].guess_count, forward->tokens,
                             forward->n_tokens, forward->confidences, forward->n_confidences,
                             asked->prompt_rows, vocab, scratch, &ahead[i].guesses, why));
    }
    out_row->ahead = ahead;
    out_row->ahead_count = (uint32_t)answer->n_ahead;
    out_row->poisoned_ahead = answer->poisoned_ahead;
out:
    return err;
}

static enum rmk_err read_row(const struct rmk_flight_row *asked,
                             const Remask__Cluster__V1__RowResult *answer, uint32_t vocab,
                             struct rmk_arena *scratch, struct rmk_row_result *out_row,
                             struct rmk_why *why)
{
    enum rmk_err err;

    if (answer->request != rmk_wire_of_request(asked->request)) {
        return rmk_fail(why, RMK_EINVAL, "a result is about request %llx where %llx was asked",
                        (unsigned long long)answer->request,
                        (unsigned long long)rmk_wire_of_request(asked->request));
    }
    *out_row = (struct rmk_row_result){.request = asked->request, .poisoned = answer->poisoned};
    if (answer->poisoned) {
        return RMK_OK; /* whatever it says is not looked at */
    }
    RMK_TRY(read_guesses(asked->reads, asked->read_count, answer->tokens, answer->n_tokens,
                         answer->confidences, answer->n_confidences, asked->prompt_rows, vocab,
                         scratch, &out_row->guesses, why));
    out_row->guess_count = asked->read_count;
    RMK_TRY(read_ahead(asked, answer, vocab, scratch, out_row, why));
out:
    return err;
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
