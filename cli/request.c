#include "cli/request.h"

#include <stdlib.h>

#include "cli/files.h"
#include "common/limits.h"
#include "common/rpc/pack.h"

enum { PARTS_MAX = RMK_ITEMS_MAX + 1 };

static void fill_sampling(const struct rmk_sampling_options *options,
                          Remask__V1__Sampling *sampling)
{
    sampling->gen_length = (uint32_t)options->gen_length;
    sampling->block_length = (uint32_t)options->block_length;
    sampling->steps = (uint32_t)options->steps;
    sampling->temperature = options->temperature;
    sampling->cfg_scale = (float)options->cfg_scale;
    sampling->remasking = (Remask__V1__Remasking)options->remasking;
    sampling->seed = options->seed;
    sampling->stop = (char **)(uintptr_t)options->stops.items;
    sampling->n_stop = options->stops.count;
    sampling->stop_level = (Remask__V1__StopLevel)options->stop_level;
    sampling->no_default_stop = !options->default_stop;
    if (options->suffix != NULL) {
        sampling->suffix = (char *)(uintptr_t)options->suffix;
    }
    if (options->profile != NULL) {
        sampling->profile = (char *)(uintptr_t)options->profile;
    }
    sampling->rule = (Remask__V1__CommitRule)options->rule;
    sampling->threshold = options->threshold;
    sampling->factor = options->factor;
    sampling->factor_compat = options->factor_compat;
    sampling->threshold_low = options->threshold_low;
    sampling->kappa = options->kappa;
    sampling->reach = (uint32_t)options->reach;
    sampling->cache = (Remask__V1__CachePolicy)options->cache;
    sampling->refresh_interval = (uint32_t)options->refresh_interval;
    sampling->prompt_interval = (uint32_t)options->prompt_interval;
    sampling->gen_interval = (uint32_t)options->gen_interval;
    sampling->transfer_ratio = options->transfer_ratio;
    sampling->deadline_policy = (Remask__V1__DeadlinePolicy)options->deadline_policy;
}

void rmk_sampling_reset_decoding(struct rmk_sampling_options *sampling, const char *profile)
{
    sampling->profile = profile;
    sampling->rule = REMASK__V1__COMMIT_RULE__RULE_PROFILE;
    sampling->threshold = 0;
    sampling->factor = 0;
    sampling->factor_compat = false;
    sampling->threshold_low = 0;
    sampling->kappa = 0;
    sampling->reach = 0;
    sampling->cache = REMASK__V1__CACHE_POLICY__CACHE_PROFILE;
    sampling->refresh_interval = 0;
    sampling->prompt_interval = 0;
    sampling->gen_interval = 0;
    sampling->transfer_ratio = 0;
    sampling->deadline_policy = REMASK__V1__DEADLINE_POLICY__DEADLINE_FAIL;
}

static enum rmk_err read_pictures(char *const *paths, size_t path_count,
                                  ProtobufCBinaryData *pictures, struct rmk_why *why)
{
    for (size_t i = 0; i < path_count; i++) {
        enum rmk_err err =
            rmk_files_read(paths[i], RMK_BLOB_BYTES_MAX, &pictures[i].data, &pictures[i].len, why);
        if (err != RMK_OK) {
            if (path_count > 1) {
                rmk_why_context(why, "%s", paths[i]);
            }
            return err;
        }
    }
    return RMK_OK;
}

/* The pictures stand before the question, as in the official prompt. */
static enum rmk_err pack(const struct rmk_request_options *options, size_t path_count,
                         ProtobufCBinaryData *pictures, uint8_t **out_packed, size_t *out_size,
                         struct rmk_why *why)
{
    Remask__V1__Media media[RMK_ITEMS_MAX];
    Remask__V1__Part parts[PARTS_MAX];
    Remask__V1__Part *part_list[PARTS_MAX];
    Remask__V1__Part system_part = REMASK__V1__PART__INIT;
    Remask__V1__Part *system_list[1] = {&system_part};
    Remask__V1__Video video = REMASK__V1__VIDEO__INIT;
    Remask__V1__Message system = REMASK__V1__MESSAGE__INIT;
    Remask__V1__Message user = REMASK__V1__MESSAGE__INIT;
    Remask__V1__Message *messages[2];
    Remask__V1__Sampling sampling = REMASK__V1__SAMPLING__INIT;
    Remask__V1__GenerateRequest request = REMASK__V1__GENERATE_REQUEST__INIT;
    const size_t item_count = options->video ? 1 : path_count;

    for (size_t i = 0; i < item_count; i++) {
        remask__v1__media__init(&media[i]);
        remask__v1__part__init(&parts[i]);
        parts[i].kind_case = REMASK__V1__PART__KIND_MEDIA;
        parts[i].media = &media[i];
        part_list[i] = &parts[i];
        if (options->video) {
            video.n_frames = path_count;
            video.frames = pictures;
            media[i].kind_case = REMASK__V1__MEDIA__KIND_VIDEO;
            media[i].video = &video;
        } else {
            media[i].kind_case = REMASK__V1__MEDIA__KIND_IMAGE;
            media[i].image = pictures[i];
        }
    }
    remask__v1__part__init(&parts[item_count]);
    parts[item_count].kind_case = REMASK__V1__PART__KIND_TEXT;
    parts[item_count].text = (char *)(uintptr_t)options->prompt;
    part_list[item_count] = &parts[item_count];
    user.role = (char *)(uintptr_t) "user";
    user.parts = part_list;
    user.n_parts = item_count + 1;
    if (options->system != NULL) {
        system.role = (char *)(uintptr_t) "system";
        system_part.kind_case = REMASK__V1__PART__KIND_TEXT;
        system_part.text = (char *)(uintptr_t)options->system;
        system.parts = system_list;
        system.n_parts = 1;
        messages[request.n_messages++] = &system;
    }
    messages[request.n_messages++] = &user;
    request.messages = messages;
    fill_sampling(&options->sampling, &sampling);
    request.sampling = &sampling;
    request.image_mode = (Remask__V1__ImageMode)options->image_mode;
    if (options->request_id != NULL) {
        request.request_id = (char *)(uintptr_t)options->request_id;
    }
    if (options->model != NULL) {
        request.model = (char *)(uintptr_t)options->model;
    }
    *out_packed = rmk_pack(&request.base, out_size);
    return *out_packed != NULL ? RMK_OK : rmk_fail(why, RMK_ELIMIT, "no memory for the request");
}

enum rmk_err rmk_request_pack(const struct rmk_request_options *options, char *const *paths,
                              size_t path_count, uint8_t **out_packed, size_t *out_size,
                              struct rmk_why *why)
{
    const size_t allowed = options->video ? RMK_FRAMES_MAX : RMK_ITEMS_MAX;
    ProtobufCBinaryData pictures[RMK_FRAMES_MAX] = {{0}};
    enum rmk_err err;

    if (path_count > allowed) {
        err = rmk_fail(why, RMK_EINVAL, "%zu pictures in one request, at most %zu are allowed",
                       path_count, allowed);
        goto out;
    }
    RMK_TRY(read_pictures(paths, path_count, pictures, why));
    RMK_TRY(pack(options, path_count, pictures, out_packed, out_size, why));
out:
    for (size_t i = 0; i < RMK_FRAMES_MAX; i++) {
        free(pictures[i].data);
    }
    return err;
}

const char *const *rmk_request_metadata(const struct rmk_request_options *options)
{
    static const char *const batch[] = {"x-remask-lane", "batch", NULL};

    return options->lane == 0 ? NULL : batch;
}

uint64_t rmk_request_deadline_ms(const struct rmk_request_options *options)
{
    return (options->timeout_us + 999) / 1000;
}
