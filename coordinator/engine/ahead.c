#include "coordinator/engine/ahead.h"

/* Forward numbers are kept in 16 bits (canvas.h). */
#define FORWARD_MAX (UINT16_MAX - RMK_AHEAD_MAX)

void rmk_ahead_describe(const struct rmk_canvas *canvas, struct rmk_ahead *out_ahead)
{
    uint32_t open = 0;

    *out_ahead = (struct rmk_ahead){
        .prompt_rows = canvas->prompt_rows,
        .total_rows = canvas->total_rows,
        .gen_length = canvas->gen_length,
        .block_length = canvas->block_length,
        .steps_per_block = canvas->steps_per_block,
        .mask_id = canvas->mask_id,
        .remasking = canvas->remasking,
        .rule = canvas->rule,
        .cache = canvas->cache,
        .seed = canvas->seed,
        .golden_noise = canvas->golden_noise,
        .stops = canvas->stops,
        .stop_count = canvas->stop_count,
        .forward = canvas->forward,
        .based = canvas->based,
        .base = canvas->base,
        .block = canvas->block,
        .step = canvas->step,
        .block_masks = canvas->block_masks,
        .found = canvas->found,
        .stop_position = canvas->stop_position,
        .ids = canvas->ids,
    };
    for (uint32_t i = 0; i < canvas->prompt_mask_count; i++) {
        if (canvas->prompt_open >> i & 1) {
            out_ahead->prompt_masks[open++] = canvas->prompt_masks[i];
        }
    }
    out_ahead->prompt_mask_count = open;
}

static enum rmk_err check_shape(const struct rmk_ahead *ahead, struct rmk_why *why)
{
    if (ahead->gen_length == 0 || ahead->gen_length > RMK_GEN_LENGTH_MAX ||
        ahead->block_length == 0 || ahead->gen_length % ahead->block_length != 0 ||
        ahead->steps_per_block == 0 ||
        (uint64_t)ahead->prompt_rows + ahead->gen_length > ahead->total_rows) {
        return rmk_fail(why, RMK_EINVAL,
                        "a canvas of %u positions in blocks of %u with %u steps, after %u rows of "
                        "%u, cannot be",
                        ahead->gen_length, ahead->block_length, ahead->steps_per_block,
                        ahead->prompt_rows, ahead->total_rows);
    }
    if ((uint32_t)ahead->rule.rule >= RMK_RULE_COUNT ||
        (uint32_t)ahead->cache.cache > RMK_CACHE_FEATURE ||
        (uint32_t)ahead->remasking > RMK_REMASK_RANDOM) {
        return rmk_fail(why, RMK_EUNSUPPORTED, "rule %u, cache %u or remasking %u is unknown here",
                        (unsigned)ahead->rule.rule, (unsigned)ahead->cache.cache,
                        (unsigned)ahead->remasking);
    }
    if (ahead->cache.cache == RMK_CACHE_FEATURE &&
        (ahead->cache.prompt_interval == 0 || ahead->cache.gen_interval == 0)) {
        return rmk_fail(why, RMK_EINVAL, "a feature cache with an interval of 0");
    }
    return RMK_OK;
}

static enum rmk_err check_place(const struct rmk_ahead *ahead, struct rmk_why *why)
{
    if (ahead->block >= ahead->gen_length / ahead->block_length || ahead->step > FORWARD_MAX ||
        ahead->block_masks > ahead->block_length || ahead->stop_position > ahead->gen_length ||
        ahead->forward > FORWARD_MAX || (ahead->based && ahead->base >= ahead->forward)) {
        return rmk_fail(why, RMK_EINVAL,
                        "a canvas before forward %llu, in step %u of block %u, cannot be",
                        (unsigned long long)ahead->forward, ahead->step, ahead->block);
    }
    for (uint32_t i = 0; i < ahead->prompt_mask_count; i++) {
        if (ahead->prompt_masks[i] >= ahead->prompt_rows ||
            (i > 0 && ahead->prompt_masks[i] <= ahead->prompt_masks[i - 1])) {
            return rmk_fail(why, RMK_EINVAL, "the prompt's mask tokens do not ascend");
        }
    }
    return RMK_OK;
}

static enum rmk_err check(const struct rmk_ahead *ahead, struct rmk_why *why)
{
    enum rmk_err err;

    RMK_TRY(check_shape(ahead, why));
    if (ahead->stop_count > RMK_STOP_COUNT_MAX || ahead->prompt_mask_count > RMK_PROMPT_MASKS_MAX) {
        err = rmk_fail(why, RMK_EINVAL, "a canvas with %u stops and %u mask tokens in the prompt",
                       ahead->stop_count, ahead->prompt_mask_count);
        goto out;
    }
    for (uint32_t i = 0; i < ahead->stop_count; i++) {
        if (ahead->stops[i].count > RMK_STOP_IDS_MAX) {
            err = rmk_fail(why, RMK_EINVAL, "a stop of %u ids", ahead->stops[i].count);
            goto out;
        }
    }
    RMK_TRY(check_place(ahead, why));
out:
    return err;
}

enum rmk_err rmk_ahead_begin(struct rmk_canvas *canvas, const struct rmk_ahead *ahead,
                             struct rmk_why *why)
{
    enum rmk_err err;

    RMK_TRY(check(ahead, why));
    *canvas = (struct rmk_canvas){
        .prompt_rows = ahead->prompt_rows,
        .total_rows = ahead->total_rows,
        .gen_length = ahead->gen_length,
        .block_length = ahead->block_length,
        .steps_per_block = ahead->steps_per_block,
        .stop_count = ahead->stop_count,
        .prompt_mask_count = ahead->prompt_mask_count,
        .mask_id = ahead->mask_id,
        .remasking = ahead->remasking,
        .rule = ahead->rule,
        .cache = ahead->cache,
        .seed = ahead->seed,
        .golden_noise = ahead->golden_noise,
        .block_entered = true,
        .found = ahead->found,
        .block = ahead->block,
        .step = ahead->step,
        .block_masks = ahead->block_masks,
        .stop_position = ahead->stop_position,
        .forward = ahead->forward,
        .based = ahead->based,
        .base = ahead->base,
    };
    for (uint32_t i = 0; i < ahead->prompt_mask_count; i++) {
        canvas->prompt_masks[i] = ahead->prompt_masks[i];
        canvas->prompt_open |= (uint64_t)1 << i;
    }
    for (uint32_t i = 0; i < ahead->gen_length; i++) {
        canvas->ids[i] = ahead->ids[i];
    }
    for (uint32_t i = 0; i < ahead->stop_count; i++) {
        for (uint32_t j = 0; j < ahead->stops[i].count; j++) {
            canvas->stop_ids[i][j] = ahead->stops[i].ids[j];
        }
        canvas->stops[i].ids = canvas->stop_ids[i];
        canvas->stops[i].count = ahead->stops[i].count;
    }
    if (!rmk_canvas_next(canvas) || canvas->block != ahead->block) {
        err = rmk_fail(why, RMK_EINVAL, "a canvas that has no forward left in block %u",
                       ahead->block);
    }
out:
    return err;
}

bool rmk_ahead_may(const struct rmk_canvas *canvas)
{
    return !canvas->pass.base;
}
