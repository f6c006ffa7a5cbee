#include "coordinator/front/intake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"
#include "coordinator/back/images.h"
#include "coordinator/front/ask.h"
#include "coordinator/front/decoding.h"
#include "coordinator/front/intake_media.h"
#include "coordinator/front/profile.h"
#include "model/chat.h"
#include "model/spec.h"
#include "model/tokenizer.h"

static const char placeholder[] = "<image>";

/* ---- what stands in the request's fields -------------------------------------------------------
 */

static enum rmk_err check_identity(const struct rmk_served *served, const struct rmk_ask *ask,
                                   struct rmk_why *why)
{
    size_t length = strlen(ask->request_id);

    if (length > RMK_REQUEST_ID_BYTES_MAX) {
        return rmk_fail(why, RMK_EINVAL, "request_id: is %zu bytes long, at most %d are allowed",
                        length, RMK_REQUEST_ID_BYTES_MAX);
    }
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)ask->request_id[i] < 0x20 || ask->request_id[i] == 0x7f) {
            return rmk_fail(why, RMK_EINVAL, "request_id: holds a control character");
        }
    }
    if (ask->model[0] != '\0' && strcmp(ask->model, served->name) != 0) {
        return rmk_fail(why, RMK_ENOTFOUND, "model: %.100s is not served here, %s is", ask->model,
                        served->name);
    }
    return RMK_OK;
}

/* A megabyte of text in all, wherever it stands: tokenizing costs time in proportion. */
static enum rmk_err check_text(const struct rmk_ask *ask, struct rmk_why *why)
{
    uint64_t bytes = ask->raw_prompt.size + strlen(ask->suffix);

    if (ask->message_count == 0 && ask->raw_prompt.size == 0) {
        return rmk_fail(why, RMK_EINVAL, "messages: there are none, and no raw_prompt");
    }
    if (ask->message_count > 0 && ask->raw_prompt.size > 0) {
        return rmk_fail(why, RMK_EINVAL, "raw_prompt: stands instead of messages, not beside them");
    }
    if (ask->raw_prompt.size > 0 && !ask->allow_special_tokens) {
        return rmk_fail(why, RMK_EINVAL, "raw_prompt: needs allow_special_tokens");
    }
    if (ask->message_count > RMK_MESSAGES_MAX) {
        return rmk_fail(why, RMK_EINVAL, "messages: there are %u, at most %d are allowed",
                        ask->message_count, RMK_MESSAGES_MAX);
    }
    for (uint32_t i = 0; i < ask->message_count; i++) {
        if (ask->messages[i].part_count > RMK_PARTS_MAX) {
            return rmk_fail(why, RMK_EINVAL,
                            "messages[%u].parts: there are %u, at most %d are allowed", i,
                            ask->messages[i].part_count, RMK_PARTS_MAX);
        }
        for (uint32_t j = 0; j < ask->messages[i].part_count; j++) {
            bytes += ask->messages[i].parts[j].text.size;
        }
    }
    if (ask->stop_count > RMK_STOP_COUNT_MAX) {
        return rmk_fail(why, RMK_EINVAL,
                        "sampling.stop: there are %u stop strings, at most %d are allowed",
                        ask->stop_count, RMK_STOP_COUNT_MAX);
    }
    for (uint32_t i = 0; i < ask->stop_count; i++) {
        bytes += strlen(ask->stops[i]);
    }
    if (bytes > RMK_TEXT_BYTES_MAX) {
        return rmk_fail(why, RMK_EINVAL,
                        "messages: %llu bytes of text in all, at most %u are allowed",
                        (unsigned long long)bytes, RMK_TEXT_BYTES_MAX);
    }
    return RMK_OK;
}

static uint32_t default_block(uint32_t gen_length)
{
    uint32_t block = gen_length < RMK_BLOCK_LENGTH_DEFAULT ? gen_length : RMK_BLOCK_LENGTH_DEFAULT;

    while (gen_length % block != 0) {
        block--;
    }
    return block;
}

static enum rmk_err check_sampling(const struct rmk_ask *ask, struct rmk_submit *submit,
                                   struct rmk_why *why)
{
    uint32_t block_count;

    submit->gen_length = ask->gen_length == 0 ? RMK_GEN_LENGTH_DEFAULT : ask->gen_length;
    if (submit->gen_length > RMK_GEN_LENGTH_MAX) {
        return rmk_fail(why, RMK_EINVAL, "sampling.gen_length: is %u, at most %d is allowed",
                        submit->gen_length, RMK_GEN_LENGTH_MAX);
    }
    submit->block_length =
        ask->block_length == 0 ? default_block(submit->gen_length) : ask->block_length;
    if (submit->gen_length % submit->block_length != 0) {
        return rmk_fail(why, RMK_EINVAL, "sampling.block_length: %u does not divide gen_length %u",
                        submit->block_length, submit->gen_length);
    }
    block_count = submit->gen_length / submit->block_length;
    submit->steps = ask->steps == 0 ? submit->gen_length : ask->steps;
    if (submit->steps > RMK_STEPS_MAX) {
        return rmk_fail(why, RMK_EINVAL, "sampling.steps: is %u, at most %d are allowed",
                        submit->steps, RMK_STEPS_MAX);
    }
    if (submit->steps % block_count != 0) {
        return rmk_fail(why, RMK_EINVAL,
                        "sampling.steps: %u is not a multiple of the %u blocks (gen_length %u / "
                        "block_length %u)",
                        submit->steps, block_count, submit->gen_length, submit->block_length);
    }
    /* Written so that NaN fails. */
    if (!(ask->temperature >= 0 && ask->temperature <= RMK_TEMPERATURE_MAX)) {
        return rmk_fail(why, RMK_EINVAL, "sampling.temperature: is %g, must be from 0 to %g",
                        ask->temperature, RMK_TEMPERATURE_MAX);
    }
    if (!(ask->cfg_scale >= 0 && ask->cfg_scale <= RMK_CFG_SCALE_MAX)) {
        return rmk_fail(why, RMK_EINVAL, "sampling.cfg_scale: is %g, must be from 0 to %g",
                        (double)ask->cfg_scale, (double)RMK_CFG_SCALE_MAX);
    }
    if (ask->remasking != RMK_REMASK_LOW_CONFIDENCE && ask->remasking != RMK_REMASK_RANDOM) {
        return rmk_fail(why, RMK_EINVAL, "sampling.remasking: %d is not known", ask->remasking);
    }
    if (ask->image_mode < RMK_IMAGE_AUTO || ask->image_mode > RMK_IMAGE_SQUARE_BARE) {
        return rmk_fail(why, RMK_EINVAL, "image_mode: %d is not known", ask->image_mode);
    }
    submit->temperature = ask->temperature;
    submit->cfg_scale = ask->cfg_scale;
    submit->remasking = (enum rmk_remasking)ask->remasking;
    submit->seed = ask->seed;
    submit->golden_noise = ask->golden_noise;
    submit->lane = ask->lane;
    return RMK_OK;
}

static enum rmk_err check_decoding(const struct rmk_served *served, const struct rmk_ask *ask,
                                   struct rmk_intake *intake, struct rmk_why *why)
{
    const struct rmk_profile *otherwise =
        served->profile != NULL ? served->profile : &rmk_profiles[RMK_PROFILE_EXACT];
    struct rmk_submit *submit = &intake->submit;
    enum rmk_err err;

    RMK_TRY(rmk_decoding_resolve(&ask->decoding, otherwise, submit, why));
    intake->profile = rmk_profile_name_of(&submit->rule, &submit->cache);
out:
    return err;
}

/* Mask tokens inside the prompt are guessed like all others and use up commits, so they must be
 * read at every step, which a window does not do. */
static enum rmk_err check_prompt_masks(const struct rmk_submit *submit, struct rmk_why *why)
{
    const bool reads_prompt =
        submit->cache.cache == RMK_CACHE_NONE || submit->cache.cache == RMK_CACHE_FEATURE;

    if (submit->prompt_mask_count > 0 && !reads_prompt) {
        return rmk_fail(why, RMK_EINVAL,
                        "sampling.cache: %u mask tokens stand in the prompt, which this cache does "
                        "not read at every step; use NONE",
                        submit->prompt_mask_count);
    }
    return RMK_OK;
}

/* ---- media in the order of their placeholders
 * ---------------------------------------------------- */

static uint32_t count_placeholders(struct rmk_bytes text)
{
    uint32_t count = 0;

    while (text.size >= sizeof(placeholder) - 1) {
        const uint8_t *hit = memmem(text.data, text.size, placeholder, sizeof(placeholder) - 1);

        if (hit == NULL) {
            break;
        }
        count++;
        hit += sizeof(placeholder) - 1;
        text.size -= (size_t)(hit - text.data);
        text.data = hit;
    }
    return count;
}

struct media_order {
    const struct rmk_ask_media *items[RMK_ITEMS_MAX];
    uint32_t count;
    uint32_t picture_count;
};

static enum rmk_err order_add(struct media_order *order, const struct rmk_ask_media *media,
                              struct rmk_why *why)
{
    if (order->count == RMK_ITEMS_MAX) {
        return rmk_fail(why, RMK_EINVAL, "media: at most %d pictures and videos are allowed",
                        RMK_ITEMS_MAX);
    }
    if (media->frame_count > RMK_FRAMES_MAX) {
        return rmk_fail(why, RMK_EINVAL,
                        "media %u: the video has %u frames, at most %d are allowed", order->count,
                        media->frame_count, RMK_FRAMES_MAX);
    }
    order->items[order->count++] = media;
    order->picture_count += media->video ? 0 : 1;
    return RMK_OK;
}

/* Parts bring their media themselves; a literal placeholder in a text takes the next of
 * `ask->media`. A ready prompt takes them all in order. */
static enum rmk_err order_media(const struct rmk_ask *ask, struct media_order *order,
                                struct rmk_why *why)
{
    uint32_t used = 0;
    enum rmk_err err = RMK_OK;

    for (uint32_t i = 0; i < ask->message_count; i++) {
        for (uint32_t j = 0; j < ask->messages[i].part_count; j++) {
            const struct rmk_ask_part *part = &ask->messages[i].parts[j];
            uint32_t here;

            if (part->media != NULL) {
                RMK_TRY(order_add(order, part->media, why));
                continue;
            }
            here = ask->placeholders_in_text ? count_placeholders(part->text) : 0;
            for (; here > 0 && used < ask->media_count; here--) {
                RMK_TRY(order_add(order, &ask->media[used++], why));
            }
        }
    }
    if (ask->message_count > 0 && ask->media_count > 0 && !ask->placeholders_in_text) {
        err = rmk_fail(why, RMK_EINVAL,
                       "media: goes with raw_prompt or placeholders_in_text; put pictures into the "
                       "messages' parts");
        goto out;
    }
    /* What no placeholder has asked for is added all the same, so that the count is found wrong. */
    while (used < ask->media_count) {
        RMK_TRY(order_add(order, &ask->media[used++], why));
    }
out:
    return err;
}

/* ---- prompt
 * ---------------------------------------------------------------------------------------- */

static enum rmk_err role_of(const char *name, uint32_t index, enum rmk_role *out_role,
                            struct rmk_why *why)
{
    static const char *const names[] = {"system", "user", "assistant"};

    for (uint32_t i = 0; i < 3; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out_role = (enum rmk_role)i;
            return RMK_OK;
        }
    }
    return rmk_fail(why, RMK_EINVAL,
                    "messages[%u].role: is \"%.40s\", must be system, user or assistant", index,
                    name);
}

static enum rmk_err encode_messages(const struct rmk_served *served, const struct rmk_ask *ask,
                                    struct rmk_ids *ids, struct rmk_why *why)
{
    struct rmk_chat_options options = {
        .parse_special = ask->allow_special_tokens,
        .parse_placeholders = ask->placeholders_in_text,
        .keep_token_after_image = ask->keep_token_after_image,
    };
    struct rmk_message *messages = calloc(ask->message_count, sizeof(*messages));
    struct rmk_part *parts = NULL;
    size_t part_count = 0;
    enum rmk_err err;

    for (uint32_t i = 0; i < ask->message_count; i++) {
        part_count += ask->messages[i].part_count;
    }
    parts = calloc(part_count + 1, sizeof(*parts));
    if (messages == NULL || parts == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for %u messages", ask->message_count);
        goto out;
    }
    part_count = 0;
    for (uint32_t i = 0; i < ask->message_count; i++) {
        const struct rmk_ask_message *from = &ask->messages[i];

        RMK_TRY(role_of(from->role, i, &messages[i].role, why));
        messages[i].parts = parts + part_count;
        messages[i].part_count = from->part_count;
        for (uint32_t j = 0; j < from->part_count; j++) {
            parts[part_count].kind = from->parts[j].media != NULL ? RMK_PART_MEDIA : RMK_PART_TEXT;
            parts[part_count].text = from->parts[j].text;
            part_count++;
        }
    }
    RMK_TRY(
        rmk_chat_encode(served->tokenizer, messages, ask->message_count, &options, ids, NULL, why));
out:
    free(messages);
    free(parts);
    return err;
}

static enum rmk_err encode_prompt(const struct rmk_served *served, const struct rmk_ask *ask,
                                  struct rmk_ids *ids, struct rmk_why *why)
{
    if (ask->message_count > 0) {
        return encode_messages(served, ask, ids, why);
    }
    return rmk_chat_encode_prompt(served->tokenizer, ask->raw_prompt, ask->keep_token_after_image,
                                  ids, why);
}

/* Cut the ids at the placeholders into pieces, and note where masks stand. */
static enum rmk_err lay_out(struct rmk_intake *intake, const struct rmk_ids *ids, int32_t mask_id,
                            struct rmk_why *why)
{
    uint32_t row = 0;
    uint32_t item = 0;

    for (size_t i = 0; i < ids->count; i++) {
        struct rmk_piece *last =
            intake->piece_count > 0 ? &intake->pieces[intake->piece_count - 1] : NULL;

        if (ids->items[i] == RMK_IMAGE_ID) {
            uint32_t rows = intake->items[item].rows;

            intake->pieces[intake->piece_count++] = (struct rmk_piece){.item = item, .rows = rows};
            intake->image_rows += rows;
            intake->image_tiles += intake->items[item].tile_count;
            row += rows;
            item++;
            continue;
        }
        if (ids->items[i] == mask_id) {
            if (intake->submit.prompt_mask_count == RMK_PROMPT_MASKS_MAX) {
                return rmk_fail(why, RMK_EINVAL,
                                "messages: more than %d mask tokens stand in the prompt",
                                RMK_PROMPT_MASKS_MAX);
            }
            intake->prompt_masks[intake->submit.prompt_mask_count++] = row;
        }
        if (last == NULL || last->id_count == 0) {
            last = &intake->pieces[intake->piece_count++];
            *last = (struct rmk_piece){.id_first = intake->id_count};
        }
        last->id_count++;
        last->rows++;
        intake->ids[intake->id_count++] = ids->items[i];
        row++;
    }
    intake->submit.prompt_rows = row;
    return RMK_OK;
}

static enum rmk_err check_media(const struct rmk_served *served, const struct rmk_ask *ask,
                                const struct media_order *order, const struct rmk_ids *ids,
                                struct rmk_intake *intake, struct rmk_why *why)
{
    uint32_t placeholder_count = 0;
    uint64_t rows = 0;
    enum rmk_err err = RMK_OK;

    for (size_t i = 0; i < ids->count; i++) {
        placeholder_count += ids->items[i] == RMK_IMAGE_ID;
    }
    if (placeholder_count != order->count) {
        err = rmk_fail(
            why, RMK_EINVAL,
            "media: the prompt has %u placeholders, the request brings %u pictures and videos",
            placeholder_count, order->count);
        goto out;
    }
    if (order->count > 0 && !served->spec->vision.present) {
        err = rmk_fail(why, RMK_EINVAL, "media: the model %s has no vision tower", served->name);
        goto out;
    }
    for (uint32_t i = 0; i < order->count; i++) {
        RMK_TRY(rmk_intake_media_plan(served, order->items[i], i, order->picture_count,
                                      (enum rmk_image_mode)ask->image_mode, &intake->items[i],
                                      &intake->media[i].mode, why));
        intake->media[i].frame_count = order->items[i]->frame_count;
        memcpy(intake->media[i].frames, order->items[i]->frames,
               order->items[i]->frame_count * sizeof(struct rmk_blob *));
        rows += intake->items[i].rows;
    }
    rows += ids->count - placeholder_count;
    if (rows > served->spec->text.prompt_rows_max || rows > RMK_PROMPT_ROWS_MAX) {
        uint32_t rows_max = served->spec->text.prompt_rows_max;

        err = rmk_fail(
            why, RMK_EINVAL,
            "messages: the prompt has %llu rows (%zu tokens and %llu picture rows), the model "
            "takes at most %u",
            (unsigned long long)rows, ids->count - placeholder_count,
            (unsigned long long)(rows - (ids->count - placeholder_count)),
            rows_max < RMK_PROMPT_ROWS_MAX ? rows_max : RMK_PROMPT_ROWS_MAX);
        goto out;
    }
    intake->submit.item_count = order->count;
out:
    return err;
}

/* ---- stops and suffix
 * --------------------------------------------------------------------------------- */

static enum rmk_err add_stop(struct rmk_intake *intake, const int32_t *ids, size_t count,
                             const char *field, struct rmk_why *why)
{
    uint32_t index = intake->submit.stop_count;

    if (index == RMK_STOP_COUNT_MAX) {
        return rmk_fail(why, RMK_EINVAL,
                        "sampling.stop: more than %d stop strings, the default one included",
                        RMK_STOP_COUNT_MAX);
    }
    if (count > RMK_STOP_IDS_MAX) {
        return rmk_fail(why, RMK_EINVAL, "%s: is %zu tokens long, at most %d are allowed", field,
                        count, RMK_STOP_IDS_MAX);
    }
    if (count > 0) {
        memcpy(intake->stop_ids[index], ids, count * sizeof(*ids));
    }
    intake->stops[index] =
        (struct rmk_stop){.ids = intake->stop_ids[index], .count = (uint32_t)count};
    intake->submit.stop_count = index + 1;
    return RMK_OK;
}

/* Stop strings are looked for among ids as the official program does, special literals included:
 * what is generated is not user text. Looked for in the text, special tokens have vanished there,
 * so a stop that is one stays a matter of ids. */
static enum rmk_err prepare_stops(const struct rmk_served *served, const struct rmk_ask *ask,
                                  struct rmk_intake *intake, struct rmk_why *why)
{
    int32_t eot = served->spec->text.eot_id;
    bool has_eot = eot < 0 || ask->no_default_stop;
    struct rmk_ids ids = {0};
    enum rmk_err err = RMK_OK;

    for (uint32_t i = 0; i < ask->stop_count; i++) {
        struct rmk_bytes text = rmk_bytes_text(ask->stops[i]);
        char field[32];
        bool special;

        (void)snprintf(field, sizeof(field), "sampling.stop[%u]", i);
        ids.count = 0;
        err = rmk_tokenizer_encode(served->tokenizer, text, RMK_SPECIAL_PARSE, &ids, why);
        if (err != RMK_OK) {
            rmk_why_context(why, "%s", field);
            goto out;
        }
        special = false;
        if (ask->stop_in_text && ids.count == 1) {
            char *shown = NULL;
            size_t size = 0;

            RMK_TRY(
                rmk_tokenizer_decode(served->tokenizer, ids.items, 1, true, &shown, &size, why));
            special = size == 0;
            free(shown);
        }
        if (ask->stop_in_text && !special) {
            if (text.size == 0) {
                err = rmk_fail(why, RMK_EINVAL, "%s: is empty", field);
                goto out;
            }
            intake->text_stops[intake->text_stop_count].data = malloc(text.size);
            if (intake->text_stops[intake->text_stop_count].data == NULL) {
                err = rmk_fail(why, RMK_ELIMIT, "no memory for a stop string");
                goto out;
            }
            memcpy((uint8_t *)(uintptr_t)intake->text_stops[intake->text_stop_count].data,
                   text.data, text.size);
            intake->text_stops[intake->text_stop_count].size = text.size;
            intake->text_stop_count++;
            continue;
        }
        has_eot = has_eot || (ids.count == 1 && ids.items[0] == eot);
        RMK_TRY(add_stop(intake, ids.items, ids.count, field, why));
    }
    if (!has_eot) {
        RMK_TRY(add_stop(intake, &eot, 1, "sampling.stop", why));
    }
out:
    rmk_ids_deinit(&ids);
    return err;
}

static enum rmk_err prepare_suffix(const struct rmk_served *served, const struct rmk_ask *ask,
                                   struct rmk_intake *intake, struct rmk_why *why)
{
    struct rmk_ids ids = {0};
    enum rmk_err err = rmk_tokenizer_encode(
        served->tokenizer, rmk_bytes_text(ask->suffix),
        ask->allow_special_tokens ? RMK_SPECIAL_PARSE : RMK_SPECIAL_PLAIN, &ids, why);

    if (err != RMK_OK) {
        rmk_why_context(why, "sampling.suffix");
        goto out;
    }
    if (ids.count > RMK_SUFFIX_MAX) {
        err =
            rmk_fail(why, RMK_EINVAL, "sampling.suffix: is %zu tokens long, at most %d are allowed",
                     ids.count, RMK_SUFFIX_MAX);
        goto out;
    }
    if (ids.count > 0) {
        memcpy(intake->suffix, ids.items, ids.count * sizeof(*ids.items));
    }
    intake->submit.suffix_count = (uint32_t)ids.count;
out:
    rmk_ids_deinit(&ids);
    return err;
}

/* ---- all of it
 * ------------------------------------------------------------------------------------------ */

static uint64_t bits_of(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static void digest_decoding(struct rmk_digest *digest, const struct rmk_submit *submit)
{
    const struct rmk_rule_options *rule = &submit->rule;
    const struct rmk_cache_options *cache = &submit->cache;

    rmk_digest_part_u64(digest, "rule", rule->rule);
    rmk_digest_part_u64(digest, "tau", bits_of(rule->tau));
    rmk_digest_part_u64(digest, "factor", bits_of(rule->factor));
    rmk_digest_part_u64(digest, "factor_compat", rule->factor_compat);
    rmk_digest_part_u64(digest, "tau_low", bits_of(rule->tau_low));
    rmk_digest_part_u64(digest, "kappa", bits_of(rule->kappa));
    rmk_digest_part_u64(digest, "reach", rule->reach);
    rmk_digest_part_u64(digest, "cache", cache->cache);
    rmk_digest_part_u64(digest, "refresh_interval", cache->refresh_interval);
    rmk_digest_part_u64(digest, "prompt_interval", cache->prompt_interval);
    rmk_digest_part_u64(digest, "gen_interval", cache->gen_interval);
    rmk_digest_part_u64(digest, "transfer_ratio", bits_of(cache->transfer_ratio));
    rmk_digest_part_u64(digest, "best_at_deadline", submit->best_at_deadline);
}

/* Two requests with one id are the same if this is. Ids and item keys say what the prompt is; how
 * the client wants to hear of it (canvas, ids) does not count. */
static enum rmk_err digest_contents(struct rmk_intake *intake, struct rmk_why *why)
{
    const struct rmk_submit *submit = &intake->submit;
    struct rmk_digest *digest;
    enum rmk_err err;

    RMK_TRY(rmk_digest_create(&digest, why));
    rmk_digest_part(digest, "ids", rmk_bytes_of(intake->ids, intake->id_count * sizeof(int32_t)));
    for (uint32_t i = 0; i < intake->piece_count; i++) {
        rmk_digest_part_u64(digest, "piece", intake->pieces[i].id_count);
    }
    for (uint32_t i = 0; i < submit->item_count; i++) {
        rmk_digest_part(digest, "item", rmk_bytes_of(intake->items[i].key, RMK_DIGEST_BYTES));
    }
    rmk_digest_part_u64(digest, "gen_length", submit->gen_length);
    rmk_digest_part_u64(digest, "block_length", submit->block_length);
    rmk_digest_part_u64(digest, "steps", submit->steps);
    rmk_digest_part_u64(digest, "temperature", bits_of(submit->temperature));
    rmk_digest_part_u64(digest, "cfg_scale", bits_of((double)submit->cfg_scale));
    rmk_digest_part_u64(digest, "remasking", submit->remasking);
    rmk_digest_part_u64(digest, "seed", submit->seed);
    rmk_digest_part_u64(digest, "noise", submit->golden_noise);
    digest_decoding(digest, submit);
    for (uint32_t i = 0; i < submit->stop_count; i++) {
        rmk_digest_part(
            digest, "stop",
            rmk_bytes_of(intake->stop_ids[i], intake->stops[i].count * sizeof(int32_t)));
    }
    for (uint32_t i = 0; i < intake->text_stop_count; i++) {
        rmk_digest_part(digest, "text_stop", intake->text_stops[i]);
    }
    rmk_digest_part(digest, "suffix",
                    rmk_bytes_of(intake->suffix, submit->suffix_count * sizeof(int32_t)));
    rmk_digest_finish(digest, intake->contents);
    rmk_digest_destroy(digest);
out:
    return err;
}

/* Arrays whose size is known once the ids are. */
static enum rmk_err allocate(struct rmk_intake *intake, const struct media_order *order,
                             const struct rmk_ids *ids, struct rmk_why *why)
{
    intake->ids = calloc(ids->count + 1, sizeof(*intake->ids));
    intake->pieces = calloc(2 * (size_t)order->count + 1, sizeof(*intake->pieces));
    intake->media = calloc((size_t)order->count + 1, sizeof(*intake->media));
    intake->text_stops = calloc(RMK_STOP_COUNT_MAX, sizeof(*intake->text_stops));
    if (intake->ids == NULL || intake->pieces == NULL || intake->media == NULL ||
        intake->text_stops == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for a request of %zu tokens", ids->count);
    }
    intake->media_count = order->count;
    for (uint32_t i = 0; i < order->count; i++) {
        intake->media[i].frames =
            calloc((size_t)order->items[i]->frame_count + 1, sizeof(struct rmk_blob *));
        if (intake->media[i].frames == NULL) {
            return rmk_fail(why, RMK_ELIMIT, "no memory for a request's pictures");
        }
    }
    return RMK_OK;
}

enum rmk_err rmk_intake_create(const struct rmk_served *served, const struct rmk_ask *ask,
                               struct rmk_intake **out_intake, struct rmk_why *why)
{
    struct rmk_intake *intake = calloc(1, sizeof(*intake));
    struct media_order order = {0};
    struct rmk_ids ids = {0};
    enum rmk_err err;

    if (intake == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for a request");
        goto out;
    }
    RMK_TRY(check_identity(served, ask, why));
    RMK_TRY(check_text(ask, why));
    RMK_TRY(check_sampling(ask, &intake->submit, why));
    RMK_TRY(check_decoding(served, ask, intake, why));
    RMK_TRY(order_media(ask, &order, why));
    RMK_TRY(encode_prompt(served, ask, &ids, why));
    intake->submit.mask_id = served->spec->text.mask_id;
    intake->submit.prompt_masks = intake->prompt_masks;
    intake->submit.items = intake->items;
    intake->submit.stops = intake->stops;
    intake->submit.suffix = intake->suffix;
    RMK_TRY(allocate(intake, &order, &ids, why));
    RMK_TRY(check_media(served, ask, &order, &ids, intake, why));
    RMK_TRY(lay_out(intake, &ids, served->spec->text.mask_id, why));
    RMK_TRY(check_prompt_masks(&intake->submit, why));
    RMK_TRY(prepare_stops(served, ask, intake, why));
    RMK_TRY(prepare_suffix(served, ask, intake, why));
    /* A stop in the text ends it after the very step that shows it. */
    intake->submit.stepwise = ask->watched || intake->text_stop_count > 0;
    RMK_TRY(digest_contents(intake, why));
    *out_intake = intake;
    intake = NULL;
out:
    rmk_intake_destroy(intake);
    rmk_ids_deinit(&ids);
    return err;
}

void rmk_intake_adopt(struct rmk_intake *intake)
{
    for (uint32_t i = 0; i < intake->submit.item_count; i++) {
        for (uint32_t j = 0; j < intake->media[i].frame_count; j++) {
            intake->media[i].frames[j] =
                rmk_images_publish(rmk_blob_ref(intake->media[i].frames[j]));
        }
    }
    intake->adopted = true;
}

void rmk_intake_destroy(struct rmk_intake *intake)
{
    if (intake == NULL) {
        return;
    }
    for (uint32_t i = 0; i < intake->media_count; i++) {
        for (uint32_t j = 0; intake->adopted && j < intake->media[i].frame_count; j++) {
            rmk_blob_unref(intake->media[i].frames[j]);
        }
        free(intake->media[i].frames);
    }
    for (uint32_t i = 0; i < intake->text_stop_count; i++) {
        free((void *)(uintptr_t)intake->text_stops[i].data);
    }
    free(intake->text_stops);
    free(intake->media);
    free(intake->pieces);
    free(intake->ids);
    free(intake);
}
