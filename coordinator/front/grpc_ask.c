#include "coordinator/front/grpc_ask.h"

#include <string.h>

#include "common/limits.h"
#include "coordinator/back/images.h"
#include "coordinator/front/ask.h"

static void release(void *holder)
{
    remask__v1__generate_request__free_unpacked(holder, NULL);
}

struct counts {
    size_t parts;
    size_t media;
    size_t frames;
    size_t picture_bytes;
};

static enum rmk_err count_media(struct counts *counts, const Remask__V1__Media *media,
                                const char *field, struct rmk_why *why)
{
    counts->media++;
    if (counts->media > RMK_ITEMS_MAX) {
        return rmk_fail(why, RMK_EINVAL, "%s: at most %d pictures and videos are allowed", field,
                        RMK_ITEMS_MAX);
    }
    if (media->kind_case == REMASK__V1__MEDIA__KIND_VIDEO) {
        if (media->video->n_frames > RMK_FRAMES_MAX) {
            return rmk_fail(why, RMK_EINVAL,
                            "%s.video.frames: there are %zu, at most %d are allowed", field,
                            media->video->n_frames, RMK_FRAMES_MAX);
        }
        counts->frames += media->video->n_frames;
        for (size_t i = 0; i < media->video->n_frames; i++) {
            counts->picture_bytes += media->video->frames[i].len;
        }
        return RMK_OK;
    }
    if (media->kind_case != REMASK__V1__MEDIA__KIND_IMAGE) {
        return rmk_fail(why, RMK_EINVAL, "%s: media %zu is neither an image nor a video", field,
                        counts->media - 1);
    }
    counts->frames++;
    counts->picture_bytes += media->image.len;
    return RMK_OK;
}

static enum rmk_err count(const Remask__V1__GenerateRequest *request, struct counts *counts,
                          struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;

    if (request->n_messages > RMK_MESSAGES_MAX) {
        return rmk_fail(why, RMK_EINVAL, "messages: there are %zu, at most %d are allowed",
                        request->n_messages, RMK_MESSAGES_MAX);
    }
    if (request->sampling != NULL && request->sampling->n_stop > RMK_STOP_COUNT_MAX) {
        return rmk_fail(why, RMK_EINVAL,
                        "sampling.stop: there are %zu stop strings, at most %d are allowed",
                        request->sampling->n_stop, RMK_STOP_COUNT_MAX);
    }
    for (size_t i = 0; i < request->n_messages; i++) {
        const Remask__V1__Message *message = request->messages[i];

        if (message->n_parts > RMK_PARTS_MAX) {
            return rmk_fail(why, RMK_EINVAL,
                            "messages[%zu].parts: there are %zu, at most %d are allowed", i,
                            message->n_parts, RMK_PARTS_MAX);
        }
        counts->parts += message->n_parts;
        for (size_t j = 0; j < message->n_parts; j++) {
            if (message->parts[j]->kind_case == REMASK__V1__PART__KIND_MEDIA) {
                RMK_TRY(count_media(counts, message->parts[j]->media, "messages", why));
            } else if (message->parts[j]->kind_case != REMASK__V1__PART__KIND_TEXT) {
                return rmk_fail(why, RMK_EINVAL,
                                "messages[%zu].parts[%zu]: is neither text nor media", i, j);
            }
        }
    }
    for (size_t i = 0; i < request->n_media; i++) {
        RMK_TRY(count_media(counts, request->media[i], "media", why));
    }
out:
    return err;
}

/* Where the next of each goes. */
struct cursor {
    struct rmk_images *images;
    uint32_t tenant;
    struct rmk_ask_part *part;
    struct rmk_ask_media *media;
    struct rmk_blob **frame;
};

/* The bytes leave the message: they outlive it, and must not be freed with it. */
static enum rmk_err take_bytes(struct cursor *cursor, ProtobufCBinaryData *bytes,
                               struct rmk_why *why)
{
    uint8_t *data = bytes->data;
    size_t size = bytes->len;

    bytes->data = NULL;
    bytes->len = 0;
    return rmk_images_reserve(cursor->images, cursor->tenant, data, size, cursor->frame++, why);
}

static enum rmk_err take_media(struct cursor *cursor, Remask__V1__Media *from, struct rmk_why *why)
{
    struct rmk_ask_media *media = cursor->media++;
    enum rmk_err err = RMK_OK;

    media->frames = cursor->frame;
    media->video = from->kind_case == REMASK__V1__MEDIA__KIND_VIDEO;
    if (!media->video) {
        media->frame_count = 1;
        return take_bytes(cursor, &from->image, why);
    }
    media->frame_count = (uint32_t)from->video->n_frames;
    for (size_t i = 0; i < from->video->n_frames; i++) {
        RMK_TRY(take_bytes(cursor, &from->video->frames[i], why));
    }
out:
    return err;
}

static enum rmk_err take_messages(struct rmk_ask *ask, struct cursor *cursor,
                                  Remask__V1__GenerateRequest *request, struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;

    for (size_t i = 0; i < request->n_messages; i++) {
        Remask__V1__Message *from = request->messages[i];
        struct rmk_ask_message *message = &ask->messages_all[i];

        message->role = from->role;
        message->parts = cursor->part;
        message->part_count = (uint32_t)from->n_parts;
        for (size_t j = 0; j < from->n_parts; j++) {
            struct rmk_ask_part *part = cursor->part++;

            if (from->parts[j]->kind_case == REMASK__V1__PART__KIND_TEXT) {
                part->text = rmk_bytes_text(from->parts[j]->text);
            } else {
                part->media = cursor->media;
                RMK_TRY(take_media(cursor, from->parts[j]->media, why));
            }
        }
    }
    ask->media = cursor->media;
    ask->media_count = (uint32_t)request->n_media;
    for (size_t i = 0; i < request->n_media; i++) {
        RMK_TRY(take_media(cursor, request->media[i], why));
    }
out:
    return err;
}

static enum rmk_err take_sampling(struct rmk_ask *ask, const Remask__V1__Sampling *sampling,
                                  struct rmk_why *why)
{
    if (sampling == NULL) {
        return RMK_OK; /* all defaults */
    }
    if (sampling->stop_level != REMASK__V1__STOP_LEVEL__STOP_TOKENS &&
        sampling->stop_level != REMASK__V1__STOP_LEVEL__STOP_TEXT) {
        return rmk_fail(why, RMK_EINVAL, "sampling.stop_level: %d is not known",
                        (int)sampling->stop_level);
    }
    if (sampling->noise != REMASK__V1__NOISE_STREAM__NOISE_PHILOX &&
        sampling->noise != REMASK__V1__NOISE_STREAM__NOISE_REFERENCE) {
        return rmk_fail(why, RMK_EINVAL, "sampling.noise: %d is not known", (int)sampling->noise);
    }
    ask->gen_length = sampling->gen_length;
    ask->block_length = sampling->block_length;
    ask->steps = sampling->steps;
    ask->temperature = sampling->temperature;
    ask->cfg_scale = sampling->cfg_scale;
    ask->remasking = (int)sampling->remasking;
    ask->seed = sampling->seed;
    ask->stops = (const char *const *)sampling->stop;
    ask->stop_count = (uint32_t)sampling->n_stop;
    ask->stop_in_text = sampling->stop_level == REMASK__V1__STOP_LEVEL__STOP_TEXT;
    ask->no_default_stop = sampling->no_default_stop;
    ask->suffix = sampling->suffix;
    ask->golden_noise = sampling->noise == REMASK__V1__NOISE_STREAM__NOISE_REFERENCE;
    ask->decoding = (struct rmk_ask_decoding){
        .profile = sampling->profile,
        .rule = (int)sampling->rule,
        .threshold = sampling->threshold,
        .factor = sampling->factor,
        .factor_compat = sampling->factor_compat,
        .threshold_low = sampling->threshold_low,
        .kappa = sampling->kappa,
        .reach = sampling->reach,
        .cache = (int)sampling->cache,
        .refresh_interval = sampling->refresh_interval,
        .prompt_interval = sampling->prompt_interval,
        .gen_interval = sampling->gen_interval,
        .transfer_ratio = sampling->transfer_ratio,
        .deadline_policy = (int)sampling->deadline_policy,
    };
    return RMK_OK;
}

/* Strings of any field, and fields that nobody knows. Of a field that is there twice the last one
 * counts, and the pictures of the others are only in `wire_bytes`. */
static enum rmk_err check_rest(size_t wire_bytes, const struct counts *counts, struct rmk_why *why)
{
    if (wire_bytes > counts->picture_bytes &&
        wire_bytes - counts->picture_bytes > RMK_ASK_BYTES_MAX) {
        return rmk_fail(why, RMK_EINVAL,
                        "message: %zu bytes besides its pictures, at most %u are allowed",
                        wire_bytes - counts->picture_bytes, RMK_ASK_BYTES_MAX);
    }
    return RMK_OK;
}

enum rmk_err rmk_grpc_ask(struct rmk_images *images, uint32_t tenant,
                          Remask__V1__GenerateRequest *request, size_t wire_bytes,
                          struct rmk_ask **out_ask, struct rmk_why *why)
{
    struct rmk_ask *ask = NULL;
    struct counts counts = {0};
    struct cursor cursor;
    enum rmk_err err;

    RMK_TRY(count(request, &counts, why));
    RMK_TRY(check_rest(wire_bytes, &counts, why));
    ask = rmk_ask_create((uint32_t)request->n_messages, (uint32_t)counts.parts,
                         (uint32_t)counts.media, (uint32_t)counts.frames);
    if (ask == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for a request");
        goto out;
    }
    cursor = (struct cursor){
        .images = images,
        .tenant = tenant,
        .part = ask->parts_all,
        .media = ask->media_all,
        .frame = ask->frames_all,
    };
    RMK_TRY(take_messages(ask, &cursor, request, why));
    RMK_TRY(take_sampling(ask, request->sampling, why));
    ask->request_id = request->request_id;
    ask->model = request->model;
    ask->raw_prompt = rmk_bytes_text(request->raw_prompt);
    ask->image_mode = (int)request->image_mode;
    ask->allow_special_tokens = request->allow_special_tokens;
    ask->placeholders_in_text = request->placeholders_in_text;
    ask->keep_token_after_image = request->keep_token_after_image;
    ask->holder = request;
    ask->release = release;
    request = NULL;
    *out_ask = ask;
    ask = NULL;
out:
    rmk_ask_destroy(ask);
    if (request != NULL) {
        release(request);
    }
    return err;
}
