#include "worker/text/runner.h"

#include <math.h>
#include <string.h>

#include "worker/text/runner_state.h"
#include "worker/text/sample.h"

/* -- updates
 * --------------------------------------------------------------------------------------- */

/* Embeddings of many updates come in one sum over the ranks. */
struct update_batch {
    struct rmk_slot *slots[RMK_UPDATES_AT_ONCE];
    uint32_t positions[RMK_UPDATES_AT_ONCE];
    uint32_t count;
};

static enum rmk_err apply_updates(struct rmk_runner *runner, struct update_batch *batch,
                                  struct rmk_why *why)
{
    struct rmk_device *device = runner->device;
    const uint32_t d = runner->spec.text.width;
    enum rmk_err err;

    RMK_TRY(rmk_runner_embed(runner, runner->ids, batch->count, runner->updated, why));
    for (uint32_t begin = 0, end; begin < batch->count; begin = end) {
        for (end = begin + 1; end < batch->count && batch->slots[end] == batch->slots[begin];) {
            end++;
        }
        RMK_TRY(device->ops->copy_rows(device, runner->updated + (size_t)begin * d, NULL,
                                       batch->slots[begin]->rows, batch->positions + begin,
                                       end - begin, d));
    }
    batch->count = 0;
out:
    return err;
}

static enum rmk_err update_slots(struct rmk_runner *runner, const struct rmk_row *rows,
                                 uint32_t row_count, struct rmk_why *why)
{
    struct update_batch batch = {0};
    enum rmk_err err = RMK_OK;

    for (uint32_t i = 0; i < row_count; i++) {
        for (uint32_t j = 0; j < rows[i].update_count; j++) {
            batch.slots[batch.count] = &runner->slots[rows[i].slot];
            batch.positions[batch.count] = rows[i].updates[j].position;
            runner->ids[batch.count] = rows[i].updates[j].id;
            batch.count++;
            if (batch.count == RMK_UPDATES_AT_ONCE) {
                RMK_TRY(apply_updates(runner, &batch, why));
            }
        }
    }
    if (batch.count > 0) {
        RMK_TRY(apply_updates(runner, &batch, why));
    }
out:
    return err;
}

/* -- reads
 * ----------------------------------------------------------------------------------------- */

/* What the head is asked after one forward: rows without guidance first, since a row's numbers must
 * not depend on whether a neighbour has it, and then those with guidance, conditional and
 * unconditional. Results of a step's forwards follow each other. */
struct head_plan {
    uint32_t begin; /* first result */
    uint32_t plain_count;
    uint32_t guided_count;
};

static void plan_head_row(struct rmk_runner *runner, const struct rmk_row *row, uint32_t position,
                          uint32_t place, uint32_t result)
{
    runner->head_rows[result] = (struct rmk_head_row){
        .cfg_scale = row->cfg_scale > 0 ? row->cfg_scale : 0,
        .noise = row->noise,
        .temperature = row->temperature,
        .seed = row->seed,
        .forward = row->forward,
        .position = position,
        .total_rows = runner->slots[row->slot].total,
    };
    runner->read_order[result] = place;
}

/* Where a position of a pass is in the packed rows. */
static uint32_t packed_row(const struct rmk_runner *runner, uint32_t pass,
                           const struct rmk_row *row, uint32_t position)
{
    uint32_t begin = row->kind == RMK_ROW_WINDOW ? row->window_begin : 0;

    return runner->segments[pass].row_begin + position - begin;
}

/* Of the packed rows; passes are in the order of the rows, and a second pass follows its first. */
static struct head_plan plan_head(struct rmk_runner *runner, const struct rmk_row *rows,
                                  uint32_t row_count)
{
    struct head_plan plan = {0};
    uint32_t index = 0;

    for (uint32_t i = 0; i < row_count; i++) {
        if (rows[i].kind != RMK_ROW_FEATURE && rmk_runner_passes(&rows[i]) == 2) {
            plan.guided_count += rows[i].read_count;
        }
    }
    for (unsigned guided = 0; guided < 2; guided++) {
        uint32_t place = 0;
        uint32_t pass = 0;
        for (uint32_t i = 0; i < row_count; place += rows[i].read_count, i++) {
            if (rows[i].kind == RMK_ROW_FEATURE) {
                continue;
            }
            uint32_t passes = rmk_runner_passes(&rows[i]);
            for (uint32_t j = 0; passes == guided + 1 && j < rows[i].read_count; j++) {
                uint32_t position = rows[i].reads[j];
                plan_head_row(runner, &rows[i], position, place + j, index);
                runner->head_positions[index] = packed_row(runner, pass, &rows[i], position);
                if (guided == 1) {
                    runner->head_positions[index + plan.guided_count] =
                        packed_row(runner, pass + 1, &rows[i], position);
                }
                index++;
            }
            pass += passes;
        }
        if (guided == 0) {
            plan.plain_count = index;
        }
    }
    return plan;
}

static uint8_t *head_input_at(struct rmk_runner *runner, uint32_t row)
{
    return (uint8_t *)runner->head_input +
           (size_t)row * runner->spec.text.width * rmk_dtype_bytes(runner->device->info.act);
}

/* This rank's shard of the head over the rows in head_input. */
static enum rmk_err read_shard(struct rmk_runner *runner, struct head_plan plan)
{
    struct rmk_device *device = runner->device;
    const struct rmk_weights *weights = runner->weights;
    const struct rmk_text_spec *text = &runner->spec.text;
    const uint32_t guided = plan.begin + plan.plain_count;
    int32_t suppressed[4];
    uint32_t suppressed_count = 0;
    enum rmk_err err = RMK_OK;

    for (unsigned i = 0; i < 4; i++) {
        if (text->suppressed[i] >= 0) {
            suppressed[suppressed_count++] = text->suppressed[i];
        }
    }
    if (plan.plain_count > 0) {
        RMK_TRY(device->ops->head(device, weights->head, runner->head_input, NULL, plan.plain_count,
                                  weights->vocab.begin, text->vocab, suppressed, suppressed_count,
                                  runner->head_rows + plan.begin, runner->results + plan.begin));
    }
    if (plan.guided_count > 0) {
        RMK_TRY(device->ops->head(device, weights->head, head_input_at(runner, plan.plain_count),
                                  head_input_at(runner, plan.plain_count + plan.guided_count),
                                  plan.guided_count, weights->vocab.begin, text->vocab, suppressed,
                                  suppressed_count, runner->head_rows + guided,
                                  runner->results + guided));
    }
out:
    return err;
}

/* Put the ranks' results together, and back into the order of the rows. */
static enum rmk_err combine(struct rmk_runner *runner, const struct rmk_row *rows,
                            uint32_t row_count, uint32_t read_count, struct rmk_read *reads_out,
                            bool *poisoned, struct rmk_why *why)
{
    const struct rmk_head_result *everybodys = runner->results;
    enum rmk_err err = RMK_OK;

    if (runner->exchange.comm != NULL) {
        RMK_TRY(rmk_comm_all_gather(runner->exchange.comm, runner->results,
                                    read_count * sizeof(*runner->results), runner->everybodys,
                                    why));
        everybodys = runner->everybodys;
    }
    for (uint32_t i = 0; i < read_count; i++) {
        uint32_t place = runner->read_order[i];
        reads_out[place] = (struct rmk_read){.token = -1};
        if (rmk_sample_combine(everybodys + i, runner->options.size, read_count,
                               &reads_out[place])) {
            continue;
        }
        uint32_t row = 0;
        for (uint32_t first = 0; place >= first + rows[row].read_count; row++) {
            first += rows[row].read_count;
        }
        rmk_assert(row < row_count);
        poisoned[row] = true;
    }
out:
    return err;
}

/* -- forwards
 * -------------------------------------------------------------------------------------- */

/* After a forward: which parts of the slot's extents later rows may use. */
static void mark_kept(struct rmk_runner *runner, const struct rmk_row *row)
{
    const bool whole = row->kind == RMK_ROW_FULL && row->keep;
    const bool feature = row->kind == RMK_ROW_FEATURE;

    for (uint32_t pass = 0; pass < rmk_runner_passes(row); pass++) {
        struct rmk_kept *kept = &runner->slots[row->slot].kept[pass];
        kept->prompt_valid |= whole || (feature && row->refresh_prompt);
        kept->gen_valid |= whole || (feature && row->refresh_gen);
    }
}

static enum rmk_err pack_row(struct rmk_runner *runner, const struct rmk_row *row)
{
    struct rmk_slot *slot = &runner->slots[row->slot];
    const bool window = row->kind == RMK_ROW_WINDOW;
    enum rmk_err err = RMK_OK;

    for (uint32_t i = 0; i < rmk_runner_passes(row); i++) {
        const struct rmk_pass pass = {
            .slot = slot,
            .uncond = i == 1,
            .keep = window || row->keep,
            .begin = window ? row->window_begin : 0,
            .end = window ? row->window_end : slot->total,
        };
        RMK_TRY(rmk_runner_pack(runner, &pass));
    }
out:
    return err;
}

/* Full and window rows in one forward. */
static enum rmk_err run_packed(struct rmk_runner *runner, const struct rmk_row *rows,
                               uint32_t row_count, uint32_t *result_count, struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;

    rmk_runner_begin(runner);
    for (uint32_t i = 0; i < row_count; i++) {
        if (rows[i].kind != RMK_ROW_FEATURE) {
            RMK_TRY(pack_row(runner, &rows[i]));
        }
    }
    if (runner->row_count == 0) {
        goto out;
    }
    RMK_TRY(rmk_runner_forward(runner, why));
    for (uint32_t i = 0; i < row_count; i++) {
        if (rows[i].kind != RMK_ROW_FEATURE) {
            mark_kept(runner, &rows[i]);
        }
    }
    struct head_plan plan = plan_head(runner, rows, row_count);
    uint32_t input_count = plan.plain_count + 2 * plan.guided_count;
    if (input_count > 0) {
        RMK_TRY(rmk_llada_finish(runner->llada, runner->head_positions, input_count,
                                 runner->gathered, runner->head_input));
        RMK_TRY(read_shard(runner, plan));
    }
    *result_count += plan.plain_count + plan.guided_count;
out:
    return err;
}

static enum rmk_err run_feature_pass(struct rmk_runner *runner, const struct rmk_row *row,
                                     uint32_t index, struct rmk_why *why)
{
    const struct rmk_slot *slot = &runner->slots[row->slot];
    const struct rmk_feature_choice *choice = row->replay != NULL ? &row->replay[index] : NULL;
    const bool with_prompt =
        row->refresh_prompt || (row->read_count > 0 && row->reads[0] < slot->prompt);
    const uint32_t begin = with_prompt ? 0 : slot->prompt;
    const struct rmk_pass pass = {
        .slot = slot, .uncond = index == 1, .keep = true, .begin = begin, .end = slot->total};
    const struct rmk_llada_feature_step step = {
        .prompt = slot->prompt,
        .total = slot->total,
        .begin = begin,
        .refresh_prompt = row->refresh_prompt,
        .refresh_gen = row->refresh_gen,
        .select_count = choice != NULL
                            ? choice->count
                            : (uint32_t)floor((slot->total - slot->prompt) * row->transfer_ratio),
        .chosen = choice != NULL ? choice->rows : NULL,
        .rotation = slot->rotation,
        .cache = &runner->cache,
        .kept = &slot->kept[index],
    };
    enum rmk_err err;

    RMK_TRY(rmk_runner_gather(runner, &pass, rmk_llada_stream(runner->llada)));
    RMK_TRY(rmk_llada_feature_forward(runner->feature, &step, &runner->exchange, why));
    for (uint32_t i = 0; i < row->read_count; i++) {
        runner->head_positions[i] = row->reads[i] - begin;
    }
    if (row->read_count > 0) {
        RMK_TRY(rmk_llada_finish(runner->llada, runner->head_positions, row->read_count,
                                 runner->gathered, head_input_at(runner, index * row->read_count)));
    }
out:
    return err;
}

/* A feature row by itself: its layers choose their rows as they go. `place`: of its first read. */
static enum rmk_err run_feature(struct rmk_runner *runner, const struct rmk_row *row,
                                uint32_t place, uint32_t *result_count, struct rmk_why *why)
{
    const bool guided = rmk_runner_passes(row) == 2;
    const struct head_plan plan = {.begin = *result_count,
                                   .plain_count = guided ? 0 : row->read_count,
                                   .guided_count = guided ? row->read_count : 0};
    enum rmk_err err;

    for (uint32_t pass = 0; pass < rmk_runner_passes(row); pass++) {
        RMK_TRY(run_feature_pass(runner, row, pass, why));
    }
    mark_kept(runner, row);
    for (uint32_t i = 0; i < row->read_count; i++) {
        plan_head_row(runner, row, row->reads[i], place + i, *result_count + i);
    }
    RMK_TRY(read_shard(runner, plan));
    *result_count += row->read_count;
out:
    return err;
}

enum rmk_err rmk_runner_run(struct rmk_runner *runner, const struct rmk_row *rows,
                            uint32_t row_count, struct rmk_read *reads_out, bool *poisoned,
                            struct rmk_why *why)
{
    uint32_t result_count = 0;
    enum rmk_err err;

    RMK_TRY(rmk_runner_check_rows(runner, rows, row_count, why));
    memset(poisoned, 0, row_count * sizeof(*poisoned));
    RMK_TRY(update_slots(runner, rows, row_count, why));
    RMK_TRY(run_packed(runner, rows, row_count, &result_count, why));
    for (uint32_t i = 0, place = 0; i < row_count; place += rows[i].read_count, i++) {
        if (rows[i].kind == RMK_ROW_FEATURE) {
            RMK_TRY(run_feature(runner, &rows[i], place, &result_count, why));
        }
    }
    if (result_count > 0) {
        RMK_TRY(combine(runner, rows, row_count, result_count, reads_out, poisoned, why));
    }
out:
    if (err != RMK_OK) {
        rmk_device_explain(runner->device, why);
    }
    return err;
}
