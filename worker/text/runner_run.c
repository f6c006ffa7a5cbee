#include "worker/text/runner.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "worker/text/runner_state.h"
#include "worker/text/sample.h"

/* -- checks
 * --------------------------------------------------------------------------------------- */

static enum rmk_err check_row(struct rmk_runner *runner, const struct rmk_row *row,
                              struct rmk_why *why)
{
    struct rmk_slot *slot =
        row->slot < runner->options.slot_count ? &runner->slots[row->slot] : NULL;
    enum rmk_err err = RMK_OK;

    if (slot == NULL || slot->total == 0 || slot->in_step) {
        err =
            rmk_fail(why, RMK_EINVAL, "slot %u is not open, or rides twice in one step", row->slot);
        goto out;
    }
    slot->in_step = true;
    if (row->kind != RMK_ROW_FULL) {
        err = rmk_fail(why, RMK_EUNSUPPORTED, "only full rows can be run");
        goto out;
    }
    if (!isfinite(row->cfg_scale) || !isfinite(row->temperature)) {
        err =
            rmk_fail(why, RMK_EINVAL, "slot %u: guidance or temperature is not finite", row->slot);
        goto out;
    }
    for (uint32_t i = 0; i < row->update_count; i++) {
        if (row->updates[i].position >= slot->total) {
            err = rmk_fail(why, RMK_EINVAL, "slot %u: update of position %u, but it has %u rows",
                           row->slot, row->updates[i].position, slot->total);
            goto out;
        }
        RMK_TRY(rmk_runner_check_id(runner, row->updates[i].id, why));
    }
    for (uint32_t i = 0; i < row->read_count; i++) {
        if (row->reads[i] >= slot->total || (i > 0 && row->reads[i] <= row->reads[i - 1])) {
            err = rmk_fail(why, RMK_EINVAL,
                           "slot %u: read of position %u is out of order or beyond %u rows",
                           row->slot, row->reads[i], slot->total);
            goto out;
        }
    }
out:
    return err;
}

static uint32_t passes_of(const struct rmk_row *row)
{
    return row->cfg_scale > 0 ? 2 : 1;
}

/* Nothing is changed before every row is known to be good. */
static enum rmk_err check_rows(struct rmk_runner *runner, const struct rmk_row *rows,
                               uint32_t row_count, struct rmk_why *why)
{
    uint64_t step_rows = 0;
    uint64_t reads = 0;
    enum rmk_err err;

    RMK_TRY(rmk_runner_check_group(runner, why));
    for (uint32_t i = 0; i < row_count; i++) {
        RMK_TRY(check_row(runner, &rows[i], why));
        step_rows += (uint64_t)passes_of(&rows[i]) * runner->slots[rows[i].slot].total;
        reads += rows[i].read_count;
    }
    if (step_rows > runner->options.step_rows_max) {
        err = rmk_fail(why, RMK_ELIMIT, "a step of %" PRIu64 " rows, at most %u fit", step_rows,
                       runner->options.step_rows_max);
        goto out;
    }
    if (reads > runner->options.reads_max) {
        err = rmk_fail(why, RMK_ELIMIT, "a step that reads %" PRIu64 " positions, at most %u fit",
                       reads, runner->options.reads_max);
    }
out:
    for (uint32_t i = 0; i < runner->options.slot_count; i++) {
        runner->slots[i].in_step = false;
    }
    return err;
}

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

/* What the head is asked: rows without guidance first, since a row's numbers must not depend on
 * whether a neighbour has it, and then those with guidance, conditional and unconditional. */
struct head_plan {
    uint32_t plain_count;
    uint32_t guided_count;
};

static void plan_head_row(struct rmk_runner *runner, const struct rmk_row *row, uint32_t position,
                          uint32_t place, uint32_t index)
{
    runner->head_rows[index] = (struct rmk_head_row){
        .cfg_scale = row->cfg_scale > 0 ? row->cfg_scale : 0,
        .noise = row->noise,
        .temperature = row->temperature,
        .seed = row->seed,
        .forward = row->forward,
        .position = position,
        .total_rows = runner->slots[row->slot].total,
    };
    runner->read_order[index] = place;
}

/* segments: of the rows' first passes, in the order of the rows. A second pass follows its first.
 */
static struct head_plan plan_head(struct rmk_runner *runner, const struct rmk_row *rows,
                                  uint32_t row_count)
{
    struct head_plan plan = {0};
    uint32_t guided_total = 0;
    uint32_t index = 0;

    for (uint32_t i = 0; i < row_count; i++) {
        guided_total += passes_of(&rows[i]) == 2 ? rows[i].read_count : 0;
    }
    for (unsigned guided = 0; guided < 2; guided++) {
        uint32_t place = 0;
        uint32_t segment = 0;
        for (uint32_t i = 0; i < row_count; i++) {
            uint32_t passes = passes_of(&rows[i]);
            for (uint32_t j = 0; passes == guided + 1 && j < rows[i].read_count; j++) {
                plan_head_row(runner, &rows[i], rows[i].reads[j], place + j, index);
                runner->head_positions[index] =
                    runner->segments[segment].row_begin + rows[i].reads[j];
                if (guided == 1) {
                    runner->head_positions[index + guided_total] =
                        runner->segments[segment + 1].row_begin + rows[i].reads[j];
                }
                index++;
            }
            place += rows[i].read_count;
            segment += passes;
        }
        if (guided == 0) {
            plan.plain_count = index;
        }
    }
    plan.guided_count = guided_total;
    return plan;
}

/* The last norm over the wanted rows, then this rank's shard of the head. */
static enum rmk_err read_shard(struct rmk_runner *runner, struct head_plan plan)
{
    struct rmk_device *device = runner->device;
    const struct rmk_weights *weights = runner->weights;
    const struct rmk_text_spec *text = &runner->spec.text;
    const size_t row_bytes = text->width * rmk_dtype_bytes(device->info.act);
    const uint32_t input_count = plan.plain_count + 2 * plan.guided_count;
    uint8_t *guided = (uint8_t *)runner->head_input + plan.plain_count * row_bytes;
    int32_t suppressed[4];
    uint32_t suppressed_count = 0;
    enum rmk_err err;

    for (unsigned i = 0; i < 4; i++) {
        if (text->suppressed[i] >= 0) {
            suppressed[suppressed_count++] = text->suppressed[i];
        }
    }
    RMK_TRY(rmk_llada_finish(runner->llada, runner->head_positions, input_count, runner->gathered,
                             runner->head_input));
    if (plan.plain_count > 0) {
        RMK_TRY(device->ops->head(device, weights->head, runner->head_input, NULL, plan.plain_count,
                                  weights->vocab.begin, text->vocab, suppressed, suppressed_count,
                                  runner->head_rows, runner->results));
    }
    if (plan.guided_count > 0) {
        RMK_TRY(device->ops->head(
            device, weights->head, guided, guided + plan.guided_count * row_bytes,
            plan.guided_count, weights->vocab.begin, text->vocab, suppressed, suppressed_count,
            runner->head_rows + plan.plain_count, runner->results + plan.plain_count));
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

enum rmk_err rmk_runner_run(struct rmk_runner *runner, const struct rmk_row *rows,
                            uint32_t row_count, struct rmk_read *reads_out, bool *poisoned,
                            struct rmk_why *why)
{
    enum rmk_err err;

    RMK_TRY(check_rows(runner, rows, row_count, why));
    memset(poisoned, 0, row_count * sizeof(*poisoned));
    RMK_TRY(update_slots(runner, rows, row_count, why));
    rmk_runner_begin(runner);
    for (uint32_t i = 0; i < row_count; i++) {
        struct rmk_slot *slot = &runner->slots[rows[i].slot];
        for (uint32_t pass = 0; pass < passes_of(&rows[i]); pass++) {
            RMK_TRY(rmk_runner_pack(runner, slot, pass == 1));
        }
    }
    if (runner->row_count == 0) {
        goto out; /* an empty plan */
    }
    RMK_TRY(rmk_runner_forward(runner, why));
    struct head_plan plan = plan_head(runner, rows, row_count);
    if (plan.plain_count + plan.guided_count == 0) {
        goto out;
    }
    RMK_TRY(read_shard(runner, plan));
    RMK_TRY(combine(runner, rows, row_count, plan.plain_count + plan.guided_count, reads_out,
                    poisoned, why));
out:
    return err;
}
