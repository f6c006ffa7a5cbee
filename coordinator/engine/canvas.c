#include "coordinator/engine/canvas.h"

#include <string.h>

#include "coordinator/engine/engine.h"

_Static_assert(RMK_PROMPT_MASKS_MAX <= 64, "prompt_open is one word");

void rmk_canvas_init(struct rmk_canvas *canvas, const struct rmk_submit *submit)
{
    uint32_t block_count = submit->gen_length / submit->block_length;

    canvas->prompt_rows = submit->prompt_rows;
    canvas->total_rows = submit->prompt_rows + submit->gen_length + submit->suffix_count;
    canvas->gen_length = submit->gen_length;
    canvas->block_length = submit->block_length;
    canvas->steps_per_block = submit->steps / block_count;
    canvas->suffix_count = submit->suffix_count;
    canvas->stop_count = submit->stop_count;
    canvas->prompt_mask_count = submit->prompt_mask_count;
    canvas->mask_id = submit->mask_id;
    canvas->remasking = submit->remasking;
    canvas->rule = submit->rule;
    canvas->cache = submit->cache;
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
    canvas->stalled = false;
    canvas->block = 0;
    canvas->step = 0;
    canvas->block_masks = 0;
    canvas->stop_position = canvas->gen_length;
    canvas->log_count = 0;
    canvas->read_count = 0;
    canvas->forward = 0;
    canvas->refreshes = 0;
    canvas->based = false;
    canvas->base = 0;
    canvas->pass = (struct rmk_cache_pass){0};
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
 * end while no stop is known (leftovers of earlier blocks included; the suffix never). Of these,
 * what the pass computes. */
static void list_reads(struct rmk_canvas *canvas)
{
    const struct rmk_cache_pass *pass = &canvas->pass;
    uint32_t block_end = (canvas->block + 1) * canvas->block_length;
    uint32_t end = canvas->found ? canvas->stop_position : block_end;
    uint32_t count = 0;

    for (uint32_t i = 0; i < canvas->prompt_mask_count; i++) {
        uint32_t row = canvas->prompt_masks[i];
        if ((canvas->prompt_open >> i & 1) && row >= pass->begin && row < pass->end) {
            canvas->reads[count++] = row;
        }
    }
    for (uint32_t i = 0; i < end; i++) {
        uint32_t row = canvas->prompt_rows + i;
        if (canvas->ids[i] == canvas->mask_id && row >= pass->begin && row < pass->end) {
            canvas->reads[count++] = row;
        }
    }
    canvas->read_count = count;
}

/* The pass of forward `forward`, if the block stands where it stands. */
static struct rmk_cache_pass choose_pass(const struct rmk_canvas *canvas, uint64_t forward)
{
    uint32_t block_begin = canvas->prompt_rows + canvas->block * canvas->block_length;
    const struct rmk_cache_place place = {
        .prompt_rows = canvas->prompt_rows,
        .total_rows = canvas->total_rows,
        .block_begin = block_begin,
        .block_end = block_begin + canvas->block_length,
        .block_starts = canvas->step == 0,
        .based = canvas->based,
        .base = canvas->base,
        .forward = forward,
    };

    return rmk_cache_next(&canvas->cache, &place);
}

/* A window in which nothing may be committed (all that is open lies left of it, in leftovers or
 * the prompt) would be a forward for nothing: then everything is computed. */
static void prepare(struct rmk_canvas *canvas)
{
    canvas->pass = choose_pass(canvas, canvas->forward);
    list_reads(canvas);
    if (canvas->read_count == 0) {
        rmk_assert(canvas->pass.kind == RMK_PLAN_WINDOW);
        canvas->pass = rmk_cache_full(&canvas->cache, canvas->total_rows);
        list_reads(canvas);
    }
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
            canvas->stalled = false;
            canvas->block_entered = true;
        }
        bool steps_left = rmk_rules[canvas->rule.rule].scheduled
                              ? canvas->step < canvas->steps_per_block
                              : !canvas->stalled;
        bool stop_open = !canvas->found || count_masks(canvas, 0, canvas->stop_position) > 0;
        if (steps_left && stop_open && count_masks(canvas, block_begin, block_end) > 0) {
            prepare(canvas);
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
    rmk_assert(canvas->log_count < RMK_READS_MAX);
    canvas->log_forward[canvas->log_count] = (uint16_t)canvas->forward;
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

struct rmk_cache_pass rmk_canvas_replay(const struct rmk_canvas *canvas, uint64_t forward,
                                        uint32_t *out_log_count)
{
    uint32_t count = 0;

    rmk_assert(canvas->based && forward >= canvas->base && forward < canvas->forward);
    while (count < canvas->log_count && canvas->log_forward[count] < forward) {
        count++;
    }
    *out_log_count = count;
    return canvas->cache.cache == RMK_CACHE_FEATURE
               ? choose_pass(canvas, forward)
               : rmk_cache_full(&canvas->cache, canvas->total_rows);
}

/* What a confidence becomes before the rule sees it. */
static void weigh(const struct rmk_canvas *canvas, struct rmk_guess *guesses, uint32_t count)
{
    bool scheduled = rmk_rules[canvas->rule.rule].scheduled;

    for (uint32_t i = 0; i < count; i++) {
        bool finite = guesses[i].confidence - guesses[i].confidence == 0;
        if (!scheduled && guesses[i].token == canvas->mask_id) {
            /* No slots to use up: a mask that stays one would only bar others, or go on for ever.
             */
            guesses[i].confidence = -__builtin_inf();
        } else if (canvas->remasking == RMK_REMASK_RANDOM && finite) {
            /* What was not finite stays so: it must not be committed under any rule. */
            guesses[i].confidence =
                rmk_denoise_random(canvas->seed, canvas->forward, canvas->total_rows,
                                   canvas->reads[i], canvas->golden_noise);
        }
    }
}

uint32_t rmk_canvas_commit(struct rmk_canvas *canvas, struct rmk_guess *guesses, uint32_t count)
{
    const struct rmk_rule_step step = {
        .block_masks = canvas->block_masks,
        .steps_per_block = canvas->steps_per_block,
        .step = canvas->step,
    };
    uint32_t log_count = canvas->log_count;

    rmk_assert(canvas->block_entered);
    rmk_assert(count == canvas->read_count);
    weigh(canvas, guesses, count);
    uint32_t picked = rmk_rules[canvas->rule.rule].commit(guesses, count, &canvas->rule, &step);
    for (uint32_t i = 0; i < picked; i++) {
        commit_one(canvas, &guesses[i]);
    }
    rmk_denoise_scan_stops(canvas->ids, canvas->gen_length, canvas->stops, canvas->stop_count,
                           &canvas->found, &canvas->stop_position);
    if (canvas->pass.base) {
        canvas->based = true;
        canvas->base = canvas->forward;
    }
    canvas->refreshes += canvas->pass.base || canvas->pass.kind == RMK_PLAN_FULL;
    canvas->stalled = canvas->log_count == log_count;
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

uint32_t rmk_canvas_decided(const struct rmk_canvas *canvas)
{
    uint32_t leading = 0;

    while (leading < canvas->stop_position && canvas->ids[leading] != canvas->mask_id) {
        leading++;
    }
    return leading;
}

uint32_t rmk_canvas_settled(const struct rmk_canvas *canvas)
{
    uint32_t leading = rmk_canvas_decided(canvas);
    uint32_t longest = 0;
    /* Once a stop was found the scan looks at the first string only (denoise.h). */
    uint32_t live = canvas->found && canvas->stop_count > 1 ? 1 : canvas->stop_count;

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
