/* Whether a plan can be run: nothing is changed before every row is known to be good, and every
 * rank comes to the same sentence. */
#include "worker/text/runner.h"

#include <inttypes.h>
#include <math.h>

#include "worker/text/runner_state.h"

static enum rmk_err check_updates(const struct rmk_runner *runner, const struct rmk_slot *slot,
                                  const struct rmk_row *row, struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;

    for (uint32_t i = 0; i < row->update_count; i++) {
        if (row->updates[i].position >= slot->total) {
            err = rmk_fail(why, RMK_EINVAL, "slot %u: update of position %u, but it has %u rows",
                           row->slot, row->updates[i].position, slot->total);
            goto out;
        }
        RMK_TRY(rmk_runner_check_id(runner, row->updates[i].id, why));
    }
out:
    return err;
}

static enum rmk_err check_reads(const struct rmk_slot *slot, const struct rmk_row *row,
                                struct rmk_why *why)
{
    const bool window = row->kind == RMK_ROW_WINDOW;

    for (uint32_t i = 0; i < row->read_count; i++) {
        uint32_t position = row->reads[i];
        if (position >= slot->total || (i > 0 && position <= row->reads[i - 1])) {
            return rmk_fail(why, RMK_EINVAL,
                            "slot %u: read of position %u is out of order or beyond %u rows",
                            row->slot, position, slot->total);
        }
        if (window && (position < row->window_begin || position >= row->window_end)) {
            return rmk_fail(why, RMK_EINVAL,
                            "slot %u: read of position %u, but the window is [%u, %u)", row->slot,
                            position, row->window_begin, row->window_end);
        }
    }
    return RMK_OK;
}

static enum rmk_err check_window(const struct rmk_slot *slot, const struct rmk_row *row,
                                 struct rmk_why *why)
{
    if (row->window_begin >= row->window_end || row->window_end > slot->total) {
        return rmk_fail(why, RMK_EINVAL, "slot %u: window [%u, %u) of %u rows", row->slot,
                        row->window_begin, row->window_end, slot->total);
    }
    return RMK_OK;
}

static enum rmk_err check_replay(const struct rmk_runner *runner, const struct rmk_slot *slot,
                                 const struct rmk_row *row, struct rmk_why *why)
{
    const uint32_t gen = slot->total - slot->prompt;

    for (uint32_t pass = 0; row->replay != NULL && pass < rmk_runner_passes(row); pass++) {
        const struct rmk_feature_choice *choice = &row->replay[pass];
        for (uint32_t layer = 0; layer < runner->spec.text.layer_count; layer++) {
            for (uint32_t i = 0; i < choice->count; i++) {
                if (choice->rows[layer][i] >= gen) {
                    return rmk_fail(why, RMK_EINVAL,
                                    "slot %u: recorded row %u lies beyond the answer's %u",
                                    row->slot, choice->rows[layer][i], gen);
                }
            }
        }
    }
    return RMK_OK;
}

/* What a row takes from earlier forwards must be there, for each of its passes. */
static enum rmk_err check_kept(const struct rmk_slot *slot, const struct rmk_row *row,
                               struct rmk_why *why)
{
    const bool feature = row->kind == RMK_ROW_FEATURE;

    for (uint32_t pass = 0; pass < rmk_runner_passes(row); pass++) {
        const struct rmk_kept *kept = &slot->kept[pass];
        if (kept->kv.count == 0 || (kept->features.count > 0) != feature) {
            return rmk_fail(why, RMK_EINVAL, "slot %u was not opened to keep what this row needs%s",
                            row->slot, pass == 1 ? " for its guidance pass" : "");
        }
        bool prompt = kept->prompt_valid || (feature && row->refresh_prompt);
        bool gen = kept->gen_valid || (feature && row->refresh_gen);
        if (row->kind != RMK_ROW_FULL && !(prompt && gen)) {
            return rmk_fail(why, RMK_EINVAL, "slot %u: nothing is kept yet for this row to use",
                            row->slot);
        }
    }
    return RMK_OK;
}

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
    if (!isfinite(row->cfg_scale) || !isfinite(row->temperature)) {
        err =
            rmk_fail(why, RMK_EINVAL, "slot %u: guidance or temperature is not finite", row->slot);
        goto out;
    }
    if (row->kind == RMK_ROW_WINDOW) {
        RMK_TRY(check_window(slot, row, why));
    } else if (row->kind == RMK_ROW_FEATURE) {
        if (!(row->transfer_ratio >= 0 && row->transfer_ratio <= 1)) {
            err = rmk_fail(why, RMK_EINVAL, "slot %u: a transfer ratio of %g", row->slot,
                           row->transfer_ratio);
            goto out;
        }
        RMK_TRY(check_replay(runner, slot, row, why));
    } else if (row->kind != RMK_ROW_FULL) {
        err = rmk_fail(why, RMK_EINVAL, "slot %u: a row of unknown kind %d", row->slot,
                       (int)row->kind);
        goto out;
    }
    if (row->kind != RMK_ROW_FULL || row->keep) {
        RMK_TRY(check_kept(slot, row, why));
    }
    RMK_TRY(check_updates(runner, slot, row, why));
    RMK_TRY(check_reads(slot, row, why));
out:
    return err;
}

/* Rows of the packed forward. Feature rows run one after another, and each fits. */
static uint64_t rows_of(const struct rmk_runner *runner, const struct rmk_row *row)
{
    switch (row->kind) {
    case RMK_ROW_WINDOW:
        return (uint64_t)rmk_runner_passes(row) * (row->window_end - row->window_begin);
    case RMK_ROW_FEATURE:
        return 0;
    default:
        return (uint64_t)rmk_runner_passes(row) * runner->slots[row->slot].total;
    }
}

enum rmk_err rmk_runner_check_rows(struct rmk_runner *runner, const struct rmk_row *rows,
                                   uint32_t row_count, struct rmk_why *why)
{
    uint64_t step_rows = 0;
    uint64_t reads = 0;
    enum rmk_err err;

    RMK_TRY(rmk_runner_check_group(runner, why));
    for (uint32_t i = 0; i < row_count; i++) {
        RMK_TRY(check_row(runner, &rows[i], why));
        step_rows += rows_of(runner, &rows[i]);
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
