#include "coordinator/engine/canvas.h"

#include <string.h>

_Static_assert(RMK_PROMPT_MASKS_MAX <= 64, "prompt_open is one word");

void rmk_canvas_init(struct rmk_canvas *canvas, const struct rmk_submit *submit)
{
    uint32_t block_count = submit->gen_length / submit->block_length;

    canvas->prompt_rows = submit->prompt_rows;
    canvas->gen_length = submit->gen_length;
    canvas->block_length = submit->block_length;
    canvas->steps_per_block = submit->steps / block_count;
    canvas->suffix_count = submit->suffix_count;
    canvas->stop_count = submit->stop_count;
    canvas->prompt_mask_count = submit->prompt_mask_count;
    canvas->mask_id = submit->mask_id;
    canvas->remasking = submit->remasking;
    canvas->rule = RMK_COMMIT_QUOTA;
    canvas->seed = submit->seed;
    canvas->golden_noise = submit->golden_noise;
    for (uint32_t i = 0; i < submit->prompt_mask_count; i++) {
        canvas->prompt_masks[i] = submit->prompt_masks[i];
    }
    for (uint32_t i = 0; i < submit->suffix_count; i++) {
        canvas->suffix[i] = submit->suffix[i];
    }
    for (uint32_t i = 0; i < submit->stop_count; i++) {
        for (uint32_t j = 0; j < submit->stops[i].count; j++) {
            canvas->stop_ids[i][j] = submit->stops[i].ids[j];
        }
        canvas->stops[i].ids = canvas->stop_ids[i];
        canvas->stops[i].count = submit->stops[i].count;
    }
    rmk_canvas_restart(canvas);
}

void rmk_canvas_restart(struct rmk_canvas *canvas)
{
    canvas->block_entered = false;
    canvas->found = false;
    canvas->block = 0;
    canvas->step = 0;
    canvas->block_masks = 0;
    canvas->stop_position = canvas->gen_length;
    canvas->log_count = 0;
    canvas->read_count = 0;
    canvas->forward = 0;
    canvas->prompt_open = 0;
    for (uint32_t i = 0; i < canvas->prompt_mask_count; i++) {
        canvas->prompt_open |= (uint64_t)1 << i;
    }
    for (uint32_t i = 0; i < canvas->gen_length; i++) {
        canvas->ids[i] = canvas->mask_id;
    }
}

static uint32_t count_masks(const struct rmk_canvas *canvas, uint32_t begin, uint32_t end)
{
    uint32_t count = 0;

    for (uint32_t i = begin; i < end; i++) {
        count += canvas->ids[i] == canvas->mask_id;
    }
    return count;
}

/* Eligible rows in ascending order: prompt masks, then masks left of the stop, or of the block's
 * end while no stop is known (leftovers of earlier blocks included; the suffix never). */
static void list_reads(struct rmk_canvas *canvas)
{
    uint32_t block_end = (canvas->block + 1) * canvas->block_length;
    uint32_t end = canvas->found ? canvas->stop_position : block_end;
    uint32_t count = 0;

    for (uint32_t i = 0; i < canvas->prompt_mask_count; i++) {
        if (canvas->prompt_open >> i & 1) {
            canvas->reads[count++] = canvas->prompt_masks[i];
        }
    }
    for (uint32_t i = 0; i < end; i++) {
        if (canvas->ids[i] == canvas->mask_id) {
            canvas->reads[count++] = canvas->prompt_rows + i;
        }
    }
    canvas->read_count = count;
}

bool rmk_canvas_next(struct rmk_canvas *canvas)
{
    for (; canvas->block * canvas->block_length < canvas->gen_length; canvas->block++) {
        uint32_t block_begin = canvas->block * canvas->block_length;
        uint32_t block_end = block_begin + canvas->block_length;
        if (!canvas->block_entered) {
            if (canvas->found && canvas->stop_position <= block_begin) {
                return false;
            }
            canvas->block_masks = count_masks(canvas, block_begin, block_end);
            canvas->step = 0;
            canvas->block_entered = true;
        }
        bool steps_left = canvas->step < canvas->steps_per_block;
        bool stop_open = !canvas->found || count_masks(canvas, 0, canvas->stop_position) > 0;
        if (steps_left && stop_open && count_masks(canvas, block_begin, block_end) > 0) {
            list_reads(canvas);
            return true;
        }
        canvas->block_entered = false;
    }
    return false;
}

static void commit_one(struct rmk_canvas *canvas, const struct rmk_guess *guess)
{
    uint32_t row = (uint32_t)((int64_t)canvas->prompt_rows + guess->position);

    if (guess->token == canvas->mask_id) {
        return; /* it has used a slot and stays a mask */
    }
    rmk_assert(canvas->log_count < canvas->gen_length);
    canvas->log[canvas->log_count++] =
        (struct rmk_plan_update){.position = row, .id = guess->token};
    if (guess->position >= 0) {
        canvas->ids[guess->position] = guess->token;
        return;
    }
    for (uint32_t i = 0; i < canvas->prompt_mask_count; i++) {
        if (canvas->prompt_masks[i] == row) {
            canvas->prompt_open &= ~((uint64_t)1 << i);
        }
    }
}

uint32_t rmk_canvas_commit(struct rmk_canvas *canvas, struct rmk_guess *guesses, uint32_t count)
{
    struct rmk_commit_step step = {
        .block_masks = canvas->block_masks,
        .steps_per_block = canvas->steps_per_block,
        .step = canvas->step,
    };

    rmk_assert(canvas->block_entered);
    rmk_assert(count == canvas->read_count);
    if (canvas->remasking == RMK_REMASK_RANDOM) {
        uint32_t total_rows = canvas->prompt_rows + canvas->gen_length + canvas->suffix_count;
        for (uint32_t i = 0; i < count; i++) {
            /* What was not finite stays so: it must not be committed under any rule. */
            if (guesses[i].confidence - guesses[i].confidence == 0) {
                guesses[i].confidence =
                    rmk_denoise_random(canvas->seed, canvas->forward, total_rows, canvas->reads[i],
                                       canvas->golden_noise);
            }
        }
    }
    uint32_t picked = rmk_policy_commit_rules[canvas->rule].commit(guesses, count, &step);
    for (uint32_t i = 0; i < picked; i++) {
        commit_one(canvas, &guesses[i]);
    }
    rmk_denoise_scan_stops(canvas->ids, canvas->gen_length, canvas->stops, canvas->stop_count,
                           &canvas->found, &canvas->stop_position);
    canvas->forward++;
    canvas->step++;
    return picked;
}

/* Could `stop` come to match at `start`? Masks that may still be committed stand for anything. */
static bool may_match(const struct rmk_canvas *canvas, uint32_t start, const struct rmk_stop *stop)
{
    if (stop->count == 0 || start + stop->count > canvas->gen_length) {
        return false;
    }
    for (uint32_t i = 0; i < stop->count; i++) {
        int32_t id = canvas->ids[start + i];
        bool open = id == canvas->mask_id && start + i < canvas->stop_position;
        if (id != stop->ids[i] && !open) {
            return false;
        }
    }
    return true;
}

uint32_t rmk_canvas_settled(const struct rmk_canvas *canvas)
{
    uint32_t leading = 0;
    uint32_t longest = 0;
    /* Once a stop was found the scan looks at the first string only (denoise.h). */
    uint32_t live = canvas->found && canvas->stop_count > 1 ? 1 : canvas->stop_count;

    while (leading < canvas->stop_position && canvas->ids[leading] != canvas->mask_id) {
        leading++;
    }
    for (uint32_t i = 0; i < live; i++) {
        longest = canvas->stops[i].count > longest ? canvas->stops[i].count : longest;
    }
    for (uint32_t start = leading > longest ? leading - longest : 0; start < leading; start++) {
        for (uint32_t i = 0; i < live; i++) {
            if (may_match(canvas, start, &canvas->stops[i])) {
                return start;
            }
        }
    }
    return leading;
}

uint32_t rmk_canvas_answer(const struct rmk_canvas *canvas, uint32_t count, int32_t *out)
{
    rmk_assert(count <= canvas->gen_length);
    memcpy(out, canvas->ids, count * sizeof(*out));
    memcpy(out + count, canvas->suffix, canvas->suffix_count * sizeof(*out));
    return count + canvas->suffix_count;
}

uint32_t rmk_canvas_masks(const struct rmk_canvas *canvas)
{
    return count_masks(canvas, 0, canvas->gen_length);
}
