#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/back/images.h"
#include "coordinator/front/ask.h"
#include "coordinator/front/intake.h"
#include "coordinator/front/profile.h"
#include "coordinator/served.h"
#include "model/tokenizer.h"

static struct rmk_model_data *model;
static struct rmk_images *images;

static int setup(void **state)
{
    struct rmk_why why = {0};

    (void)state;
    if (rmk_model_data_create("models/demo", NULL, NULL, "demo", false, &model, &why) != RMK_OK) {
        fail_msg("%s", why.text);
    }
    images = rmk_images_create(1 << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rmk_images_destroy(images);
    rmk_model_data_destroy(model);
    return 0;
}

/* A PNG as far as a header goes: signature, IHDR, IEND. */
static struct rmk_blob *png(uint32_t width, uint32_t height)
{
    static const uint8_t frame[45] =
        "\x89PNG\r\n\x1a\n\0\0\0\rIHDR........\x08\x02\0\0\0....\0\0\0\0IEND";
    uint8_t *data = malloc(sizeof(frame));
    struct rmk_blob *blob = NULL;

    assert_non_null(data);
    memcpy(data, frame, sizeof(frame));
    for (int i = 0; i < 4; i++) {
        data[16 + i] = (uint8_t)(width >> (24 - 8 * i));
        data[20 + i] = (uint8_t)(height >> (24 - 8 * i));
    }
    assert_int_equal(rmk_images_reserve(images, 0, data, sizeof(frame), &blob, NULL), RMK_OK);
    return blob;
}

static struct rmk_blob *not_a_picture(void)
{
    uint8_t *data = malloc(16);
    struct rmk_blob *blob = NULL;

    assert_non_null(data);
    memset(data, 'x', 16);
    assert_int_equal(rmk_images_reserve(images, 0, data, 16, &blob, NULL), RMK_OK);
    return blob;
}

/* One user message: `media_count` pictures of 100x60, then the text. */
static struct rmk_ask *make_ask(const char *text, uint32_t media_count)
{
    struct rmk_ask *ask = rmk_ask_create(1, media_count + 1, media_count, media_count);

    assert_non_null(ask);
    for (uint32_t i = 0; i < media_count; i++) {
        ask->frames_all[i] = png(100, 60);
        ask->media_all[i].frames = &ask->frames_all[i];
        ask->media_all[i].frame_count = 1;
        ask->parts_all[i].media = &ask->media_all[i];
    }
    ask->parts_all[media_count].text = rmk_bytes_text(text);
    ask->messages_all[0] = (struct rmk_ask_message){
        .role = "user",
        .parts = ask->parts_all,
        .part_count = media_count + 1,
    };
    return ask;
}

static struct rmk_intake *accept(struct rmk_ask *ask)
{
    struct rmk_intake *intake = NULL;
    struct rmk_why why = {0};

    if (rmk_intake_create(&model->served, ask, &intake, &why) != RMK_OK) {
        fail_msg("%s", why.text);
    }
    rmk_intake_adopt(intake);
    rmk_ask_destroy(ask);
    return intake;
}

static void refuse(struct rmk_ask *ask, enum rmk_err err, const char *part)
{
    struct rmk_intake *intake = NULL;
    struct rmk_why why = {0};

    assert_int_equal(rmk_intake_create(&model->served, ask, &intake, &why), err);
    assert_null(intake);
    if (strstr(why.text, part) == NULL) {
        fail_msg("\"%s\" lacks \"%s\"", why.text, part);
    }
    rmk_ask_destroy(ask);
}

/* ---- sampling
 * ------------------------------------------------------------------------------------------- */

static void sampling_defaults_are_filled_in(void **state)
{
    struct rmk_ask *ask = make_ask("Hello", 0);
    struct rmk_intake *intake = accept(ask);

    (void)state;
    assert_int_equal(intake->submit.gen_length, 128);
    assert_int_equal(intake->submit.block_length, 128);
    assert_int_equal(intake->submit.steps, 128);
    assert_int_equal(intake->submit.mask_id, model->spec.text.mask_id);
    assert_int_equal(intake->submit.stop_count, 1);
    assert_int_equal(intake->submit.stops[0].count, 1);
    assert_int_equal(intake->submit.stops[0].ids[0], model->spec.text.eot_id);
    rmk_intake_destroy(intake);
}

static void the_default_block_is_the_largest_divisor_up_to_128(void **state)
{
    static const uint32_t cases[][2] = {{1, 1},     {96, 96},   {129, 43},
                                        {200, 100}, {256, 128}, {131, 1}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rmk_ask *ask = make_ask("Hello", 0);
        struct rmk_intake *intake;

        ask->gen_length = cases[i][0];
        intake = accept(ask);
        assert_int_equal(intake->submit.block_length, cases[i][1]);
        rmk_intake_destroy(intake);
    }
}

static void every_bad_number_is_named(void **state)
{
    static const struct {
        uint32_t gen_length, block_length, steps;
        double temperature;
        float cfg_scale;
        int remasking, image_mode;
        const char *part;
    } cases[] = {
        {1025, 0, 0, 0, 0, 0, 0, "sampling.gen_length: is 1025, at most 1024"},
        {UINT32_MAX, 0, 0, 0, 0, 0, 0, "sampling.gen_length"},
        {64, 48, 0, 0, 0, 0, 0, "sampling.block_length: 48 does not divide gen_length 64"},
        {64, 128, 0, 0, 0, 0, 0, "sampling.block_length"},
        {64, 16, 6, 0, 0, 0, 0, "sampling.steps: 6 is not a multiple of the 4 blocks"},
        {64, 16, 1000000000, 0, 0, 0, 0, "sampling.steps: is 1000000000"},
        {64, 0, 0, -1, 0, 0, 0, "sampling.temperature: is -1"},
        {64, 0, 0, NAN, 0, 0, 0, "sampling.temperature"},
        {64, 0, 0, 1e308, 0, 0, 0, "sampling.temperature"},
        {64, 0, 0, 0, -1, 0, 0, "sampling.cfg_scale: is -1"},
        {64, 0, 0, 0, INFINITY, 0, 0, "sampling.cfg_scale"},
        {64, 0, 0, 0, NAN, 0, 0, "sampling.cfg_scale"},
        {64, 0, 0, 0, 0, 2, 0, "sampling.remasking: 2 is not known"},
        {64, 0, 0, 0, 0, 0, 6, "image_mode: 6 is not known"},
        {64, 0, 0, 0, 0, 0, -1, "image_mode: -1 is not known"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rmk_ask *ask = make_ask("Hello", 0);

        ask->gen_length = cases[i].gen_length;
        ask->block_length = cases[i].block_length;
        ask->steps = cases[i].steps;
        ask->temperature = cases[i].temperature;
        ask->cfg_scale = cases[i].cfg_scale;
        ask->remasking = cases[i].remasking;
        ask->image_mode = cases[i].image_mode;
        refuse(ask, RMK_EINVAL, cases[i].part);
    }
}

/* ---- rule and cache
 * --------------------------------------------------------------------------------------- */

static void a_request_without_a_profile_gets_the_servers(void **state)
{
    struct rmk_intake *intake = accept(make_ask("Hello", 0));

    (void)state;
    assert_string_equal(intake->profile, "exact");
    assert_int_equal(intake->submit.rule.rule, RMK_RULE_QUOTA);
    rmk_intake_destroy(intake);

    model->served.profile = &rmk_profiles[RMK_PROFILE_FAST];
    intake = accept(make_ask("Hello", 0));
    assert_string_equal(intake->profile, "fast");
    assert_int_equal(intake->submit.cache.cache, RMK_CACHE_DUAL);
    rmk_intake_destroy(intake);
    model->served.profile = NULL;
}

static void an_overridden_profile_is_custom_and_a_bad_field_is_named(void **state)
{
    struct rmk_ask *ask = make_ask("Hello", 0);
    struct rmk_intake *intake;

    (void)state;
    ask->decoding.profile = "balanced";
    ask->decoding.refresh_interval = 4;
    ask->lane = RMK_LANE_BATCH;
    intake = accept(ask);
    assert_string_equal(intake->profile, "custom");
    assert_int_equal(intake->submit.cache.refresh_interval, 4);
    assert_int_equal(intake->submit.lane, RMK_LANE_BATCH);
    rmk_intake_destroy(intake);

    ask = make_ask("Hello", 0);
    ask->decoding.threshold = 0.5;
    refuse(ask, RMK_EINVAL, "sampling.threshold");
}

static void a_kept_prompt_may_hold_no_mask_tokens(void **state)
{
    (void)state;
    for (int cache = RMK_CACHE_NONE; cache <= RMK_CACHE_FEATURE; cache++) {
        struct rmk_ask *ask = make_ask("say <|mdm_mask|> please", 0);

        ask->allow_special_tokens = true;
        ask->decoding.cache = 1 + cache;
        if (cache == RMK_CACHE_NONE || cache == RMK_CACHE_FEATURE) {
            rmk_intake_destroy(accept(ask));
        } else {
            refuse(ask, RMK_EINVAL, "sampling.cache: 1 mask tokens stand in the prompt");
        }
    }
}

/* ---- text
 * ----------------------------------------------------------------------------------------------------
 */

static void text_fields_are_checked_and_named(void **state)
{
    static char long_id[RMK_REQUEST_ID_BYTES_MAX + 2];
    char *long_text = malloc(RMK_TEXT_BYTES_MAX + 2);
    struct rmk_ask *ask;

    (void)state;
    memset(long_id, 'i', sizeof(long_id) - 1);
    ask = make_ask("Hello", 0);
    ask->request_id = long_id;
    refuse(ask, RMK_EINVAL, "request_id: is 129 bytes long, at most 128");

    ask = make_ask("Hello", 0);
    ask->request_id = "a\nb";
    refuse(ask, RMK_EINVAL, "request_id: holds a control character");

    ask = make_ask("Hello", 0);
    ask->model = "gpt";
    refuse(ask, RMK_ENOTFOUND, "model: gpt is not served here, demo is");

    ask = make_ask("Hello", 0);
    ask->messages_all[0].role = "tool";
    refuse(ask, RMK_EINVAL, "messages[0].role: is \"tool\"");

    ask = make_ask("Hello", 0);
    ask->message_count = 0;
    refuse(ask, RMK_EINVAL, "messages: there are none");

    ask = make_ask("Hello", 0);
    ask->raw_prompt = rmk_bytes_text("prompt");
    refuse(ask, RMK_EINVAL, "raw_prompt: stands instead of messages");

    ask = make_ask("Hello", 0);
    ask->message_count = 0;
    ask->raw_prompt = rmk_bytes_text("prompt");
    refuse(ask, RMK_EINVAL, "raw_prompt: needs allow_special_tokens");

    ask = make_ask("Hel\xffo", 0);
    refuse(ask, RMK_EINVAL, "UTF-8");

    memset(long_text, 'a', RMK_TEXT_BYTES_MAX + 1);
    long_text[RMK_TEXT_BYTES_MAX + 1] = '\0';
    ask = make_ask(long_text, 0);
    refuse(ask, RMK_EINVAL, "messages: 1048577 bytes of text in all");
    free(long_text);
}

static void a_prompt_longer_than_the_model_takes_is_refused_with_numbers(void **state)
{
    size_t size = (size_t)model->spec.text.prompt_rows_max * 2;
    char *text = malloc(size + 1);

    (void)state;
    for (size_t i = 0; i < size; i++) {
        text[i] = i % 2 == 0 ? '7' : '.';
    }
    text[size] = '\0';
    refuse(make_ask(text, 0), RMK_EINVAL, "the model takes at most 4096");
    free(text);
}

static void special_literals_in_messages_are_plain_text_unless_allowed(void **state)
{
    struct rmk_ask *plain = make_ask("say <|mdm_mask|> please", 0);
    struct rmk_ask *special = make_ask("say <|mdm_mask|> please", 0);
    struct rmk_intake *intake;

    (void)state;
    intake = accept(plain);
    assert_int_equal(intake->submit.prompt_mask_count, 0);
    rmk_intake_destroy(intake);

    special->allow_special_tokens = true;
    intake = accept(special);
    assert_int_equal(intake->submit.prompt_mask_count, 1);
    assert_int_equal(intake->ids[intake->submit.prompt_masks[0]], model->spec.text.mask_id);
    rmk_intake_destroy(intake);
}

static void a_prompt_mask_behind_a_picture_has_its_row_not_its_place_among_the_ids(void **state)
{
    struct rmk_ask *ask = make_ask("say <|mdm_mask|> please", 1);
    struct rmk_intake *intake;
    uint32_t place = 0;

    (void)state;
    ask->allow_special_tokens = true;
    intake = accept(ask);
    while (intake->ids[place] != model->spec.text.mask_id) {
        place++;
    }
    assert_int_equal(intake->submit.prompt_mask_count, 1);
    assert_int_equal(intake->submit.prompt_masks[0], place + intake->image_rows);
    rmk_intake_destroy(intake);
}

/* ---- stops, suffix
 * ------------------------------------------------------------------------------------------ */

static void stops_are_ids_in_the_order_given_with_the_default_last(void **state)
{
    static const char *const stops[] = {"red", ""};
    struct rmk_ask *ask = make_ask("Hello", 0);
    struct rmk_intake *intake;

    (void)state;
    ask->stops = stops;
    ask->stop_count = 2;
    intake = accept(ask);
    assert_int_equal(intake->submit.stop_count, 3);
    assert_true(intake->submit.stops[0].count > 0);
    assert_int_equal(intake->submit.stops[1].count,
                     0); /* the official program's: matches at once */
    assert_int_equal(intake->submit.stops[2].ids[0], model->spec.text.eot_id);
    assert_int_equal(intake->text_stop_count, 0);
    rmk_intake_destroy(intake);
}

static void the_default_stop_is_added_once_and_can_be_left_out(void **state)
{
    static const char *const stops[] = {"<|eot_id|>"};
    struct rmk_ask *ask = make_ask("Hello", 0);
    struct rmk_intake *intake;

    (void)state;
    ask->stops = stops;
    ask->stop_count = 1;
    intake = accept(ask);
    assert_int_equal(intake->submit.stop_count, 1);
    rmk_intake_destroy(intake);

    ask = make_ask("Hello", 0);
    ask->no_default_stop = true;
    intake = accept(ask);
    assert_int_equal(intake->submit.stop_count, 0);
    rmk_intake_destroy(intake);
}

static void text_level_stops_are_text_but_special_tokens_stay_ids(void **state)
{
    static const char *const stops[] = {"red", "<|endoftext|>"};
    static const char *const empty[] = {""};
    struct rmk_ask *ask = make_ask("Hello", 0);
    struct rmk_intake *intake;

    (void)state;
    ask->stops = stops;
    ask->stop_count = 2;
    ask->stop_in_text = true;
    intake = accept(ask);
    assert_int_equal(intake->text_stop_count, 1);
    assert_int_equal(intake->text_stops[0].size, 3);
    assert_int_equal(intake->submit.stop_count, 2);
    assert_int_equal(intake->submit.stops[0].ids[0],
                     rmk_tokenizer_find(model->tokenizer, "<|endoftext|>"));
    rmk_intake_destroy(intake);

    ask = make_ask("Hello", 0);
    ask->stops = empty;
    ask->stop_count = 1;
    ask->stop_in_text = true;
    refuse(ask, RMK_EINVAL, "sampling.stop[0]: is empty");
}

static void too_many_and_too_long_stops_are_refused(void **state)
{
    const char *stops[RMK_STOP_COUNT_MAX + 1];
    static char long_stop[4 * RMK_STOP_IDS_MAX];
    const char *const one[] = {long_stop};
    struct rmk_ask *ask;

    (void)state;
    for (int i = 0; i <= RMK_STOP_COUNT_MAX; i++) {
        stops[i] = "x";
    }
    ask = make_ask("Hello", 0);
    ask->stops = stops;
    ask->stop_count = RMK_STOP_COUNT_MAX + 1;
    refuse(ask, RMK_EINVAL, "sampling.stop: there are 17");

    ask = make_ask("Hello", 0);
    ask->stops = stops;
    ask->stop_count = RMK_STOP_COUNT_MAX;
    refuse(ask, RMK_EINVAL, "sampling.stop: more than 16");

    for (size_t i = 0; i < sizeof(long_stop) - 1; i++) {
        long_stop[i] = i % 2 == 0 ? '7' : '.';
    }
    ask = make_ask("Hello", 0);
    ask->stops = one;
    ask->stop_count = 1;
    refuse(ask, RMK_EINVAL, "sampling.stop[0]: is 255 tokens long, at most 64");
}

static void the_suffix_is_plain_text_unless_special_tokens_are_allowed(void **state)
{
    struct rmk_ask *ask = make_ask("Hello", 0);
    struct rmk_intake *intake;

    (void)state;
    ask->suffix = "<|eot_id|>";
    intake = accept(ask);
    assert_true(intake->submit.suffix_count > 1);
    rmk_intake_destroy(intake);

    ask = make_ask("Hello", 0);
    ask->suffix = "<|eot_id|>";
    ask->allow_special_tokens = true;
    intake = accept(ask);
    assert_int_equal(intake->submit.suffix_count, 1);
    assert_int_equal(intake->submit.suffix[0], model->spec.text.eot_id);
    rmk_intake_destroy(intake);
}

/* ---- media
 * -----------------------------------------------------------------------------------------------------
 */

static void a_picture_becomes_rows_between_runs_of_ids(void **state)
{
    struct rmk_intake *intake = accept(make_ask("What is this?", 1));
    struct rmk_grid grid;
    uint32_t rows = 0;

    (void)state;
    assert_int_equal(rmk_grid_plan(&model->spec.grid, (struct rmk_size){100, 60}, RMK_IMAGE_AUTO, 1,
                                   1, &grid, NULL),
                     RMK_OK);
    assert_int_equal(intake->submit.item_count, 1);
    assert_int_equal(intake->submit.items[0].rows, grid.rows);
    assert_int_equal(intake->submit.items[0].tile_count, grid.tile_count);
    assert_int_equal(intake->media[0].mode, RMK_IMAGE_ANYRES);
    assert_int_equal(intake->piece_count, 3);
    assert_true(intake->pieces[0].id_count > 0);
    assert_int_equal(intake->pieces[1].id_count, 0);
    assert_int_equal(intake->pieces[1].rows, grid.rows);
    for (uint32_t i = 0; i < intake->piece_count; i++) {
        rows += intake->pieces[i].rows;
    }
    assert_int_equal(rows, intake->submit.prompt_rows);
    assert_int_equal(rows, intake->id_count + intake->image_rows);
    assert_ptr_equal(rmk_images_find(images, intake->media[0].frames[0]->digest),
                     intake->media[0].frames[0]);
    rmk_intake_destroy(intake);
    assert_int_equal(rmk_images_count(images), 0);
}

static void several_pictures_are_padded_and_equal_ones_share_key_and_bytes(void **state)
{
    struct rmk_intake *intake = accept(make_ask("Compare.", 2));

    (void)state;
    assert_int_equal(intake->submit.item_count, 2);
    assert_int_equal(intake->media[0].mode, RMK_IMAGE_PAD);
    assert_memory_equal(intake->submit.items[0].key, intake->submit.items[1].key, 32);
    assert_ptr_equal(intake->media[0].frames[0], intake->media[1].frames[0]);
    assert_int_equal(rmk_images_count(images), 1);
    rmk_intake_destroy(intake);
}

static void the_key_depends_on_bytes_and_mode(void **state)
{
    struct rmk_ask *square = make_ask("What?", 1);
    struct rmk_intake *a = accept(make_ask("What?", 1));
    struct rmk_intake *b, *c;
    struct rmk_ask *other = make_ask("What?", 1);

    (void)state;
    square->image_mode = RMK_IMAGE_SQUARE;
    b = accept(square);
    rmk_blob_unref(other->frames_all[0]);
    other->frames_all[0] = png(60, 100);
    c = accept(other);
    assert_memory_not_equal(a->submit.items[0].key, b->submit.items[0].key, 32);
    assert_memory_not_equal(a->submit.items[0].key, c->submit.items[0].key, 32);
    rmk_intake_destroy(a);
    rmk_intake_destroy(b);
    rmk_intake_destroy(c);
}

static struct rmk_ask *make_video(uint32_t frame_count)
{
    struct rmk_ask *ask = rmk_ask_create(1, 2, 1, frame_count);

    for (uint32_t i = 0; i < frame_count; i++) {
        ask->frames_all[i] = png(100 + i, 60);
    }
    ask->media_all[0] = (struct rmk_ask_media){
        .video = true, .frames = ask->frames_all, .frame_count = frame_count};
    ask->parts_all[0].media = ask->media_all;
    ask->parts_all[1].text = rmk_bytes_text("What happens?");
    ask->messages_all[0] =
        (struct rmk_ask_message){.role = "user", .parts = ask->parts_all, .part_count = 2};
    return ask;
}

static void a_video_is_one_item_of_many_frames(void **state)
{
    struct rmk_intake *intake = accept(make_video(4));

    (void)state;
    assert_int_equal(intake->submit.item_count, 1);
    assert_int_equal(intake->media[0].mode, RMK_IMAGE_VIDEO);
    assert_int_equal(intake->media[0].frame_count, 4);
    assert_int_equal(intake->submit.items[0].tile_count, 4);
    rmk_intake_destroy(intake);
}

static void bad_media_are_named(void **state)
{
    struct rmk_ask *ask = make_ask("Hello", 2);

    (void)state;
    rmk_blob_unref(ask->frames_all[1]);
    ask->frames_all[1] = not_a_picture();
    refuse(ask, RMK_EINVAL, "media 1: ");

    ask = make_ask("Hello", 1);
    rmk_blob_unref(ask->frames_all[0]);
    ask->frames_all[0] = png(65535, 65535);
    refuse(ask, RMK_EINVAL, "media 0: ");

    ask = make_video(3);
    rmk_blob_unref(ask->frames_all[2]);
    ask->frames_all[2] = not_a_picture();
    refuse(ask, RMK_EINVAL, "media 0, frame 2: ");

    ask = make_video(1);
    ask->media_all[0].frame_count = 0;
    refuse(ask, RMK_EINVAL, "media 0: the video has no frames");
    assert_int_equal(rmk_images_count(images), 0);
}

/* `count` pictures in `media`, placeholders in the text. */
static struct rmk_ask *make_placeholders(const char *text, uint32_t count)
{
    struct rmk_ask *ask = rmk_ask_create(1, 1, count, count);

    for (uint32_t i = 0; i < count; i++) {
        ask->frames_all[i] = png(100, 60);
        ask->media_all[i].frames = &ask->frames_all[i];
        ask->media_all[i].frame_count = 1;
    }
    ask->media = ask->media_all;
    ask->media_count = count;
    ask->parts_all[0].text = rmk_bytes_text(text);
    ask->messages_all[0] =
        (struct rmk_ask_message){.role = "user", .parts = ask->parts_all, .part_count = 1};
    ask->placeholders_in_text = true;
    return ask;
}

static void placeholders_in_text_take_pictures_in_order(void **state)
{
    struct rmk_intake *intake = accept(make_placeholders("<image> and <image>: compare", 2));

    (void)state;
    assert_int_equal(intake->submit.item_count, 2);
    rmk_intake_destroy(intake);
}

static void pictures_that_differ_from_placeholders_are_refused_with_both_counts(void **state)
{
    struct rmk_ask *ask;

    (void)state;
    refuse(make_placeholders("<image> and <image>", 1), RMK_EINVAL,
           "the prompt has 2 placeholders, the request brings 1 ");
    refuse(make_placeholders("nothing here", 1), RMK_EINVAL,
           "the prompt has 0 placeholders, the request brings 1 ");

    ask = make_placeholders("<image>", 1);
    ask->placeholders_in_text = false;
    refuse(ask, RMK_EINVAL, "media: goes with raw_prompt or placeholders_in_text");
}

static void a_literal_placeholder_is_text_unless_asked(void **state)
{
    struct rmk_intake *intake = accept(make_ask("what does <image> mean?", 0));

    (void)state;
    assert_int_equal(intake->submit.item_count, 0);
    rmk_intake_destroy(intake);
}

static void a_raw_prompt_takes_its_pictures_from_media(void **state)
{
    struct rmk_ask *ask = make_placeholders("", 1);
    struct rmk_intake *intake;

    (void)state;
    ask->message_count = 0;
    ask->raw_prompt = rmk_bytes_text("<|startoftext|>Look: <image> Well?");
    ask->allow_special_tokens = true;
    intake = accept(ask);
    assert_int_equal(intake->submit.item_count, 1);
    assert_int_equal(intake->ids[0], rmk_tokenizer_find(model->tokenizer, "<|startoftext|>"));
    rmk_intake_destroy(intake);
}

/* ---- contents
 * ---------------------------------------------------------------------------------------------------
 */

static void contents_tell_requests_apart_but_not_by_their_id(void **state)
{
    struct rmk_ask *named = make_ask("Hello", 1);
    struct rmk_ask *seeded = make_ask("Hello", 1);
    struct rmk_intake *plain = accept(make_ask("Hello", 1));
    struct rmk_intake *same, *seed, *text;

    (void)state;
    named->request_id = "some-id";
    seeded->seed = 1;
    same = accept(named);
    seed = accept(seeded);
    text = accept(make_ask("Hello!", 1));
    assert_memory_equal(plain->contents, same->contents, RMK_DIGEST_BYTES);
    assert_memory_not_equal(plain->contents, seed->contents, RMK_DIGEST_BYTES);
    assert_memory_not_equal(plain->contents, text->contents, RMK_DIGEST_BYTES);
    rmk_intake_destroy(plain);
    rmk_intake_destroy(same);
    rmk_intake_destroy(seed);
    rmk_intake_destroy(text);
}

/* Every field that decides the answer tells two requests with one id apart. */
static void rule_and_cache_are_contents(void **state)
{
    static const struct rmk_ask_decoding others[] = {
        {.profile = "balanced"},
        {.profile = "fast"},
        {.rule = 2},
        {.rule = 2, .threshold = 0.5},
        {.rule = 3},
        {.rule = 3, .factor = 2},
        {.rule = 3, .factor_compat = true},
        {.rule = 4},
        {.rule = 4, .threshold_low = 0.5},
        {.rule = 5},
        {.rule = 5, .kappa = 0.5},
        {.rule = 5, .reach = 1},
        {.cache = 2},
        {.cache = 2, .refresh_interval = 3},
        {.cache = 3},
        {.cache = 4},
        {.cache = 5},
        {.cache = 5, .prompt_interval = 3},
        {.cache = 5, .gen_interval = 3},
        {.cache = 5, .transfer_ratio = 0.5},
        {.deadline_policy = 1},
    };
    enum { COUNT = sizeof(others) / sizeof(others[0]) };
    struct rmk_intake *intakes[COUNT + 1];

    (void)state;
    intakes[COUNT] = accept(make_ask("Hello", 0));
    for (size_t i = 0; i < COUNT; i++) {
        struct rmk_ask *ask = make_ask("Hello", 0);

        ask->decoding = others[i];
        intakes[i] = accept(ask);
    }
    for (size_t i = 0; i <= COUNT; i++) {
        for (size_t j = 0; j < i; j++) {
            assert_memory_not_equal(intakes[i]->contents, intakes[j]->contents, RMK_DIGEST_BYTES);
        }
    }
    for (size_t i = 0; i <= COUNT; i++) {
        rmk_intake_destroy(intakes[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sampling_defaults_are_filled_in),
        cmocka_unit_test(the_default_block_is_the_largest_divisor_up_to_128),
        cmocka_unit_test(every_bad_number_is_named),
        cmocka_unit_test(a_request_without_a_profile_gets_the_servers),
        cmocka_unit_test(an_overridden_profile_is_custom_and_a_bad_field_is_named),
        cmocka_unit_test(a_kept_prompt_may_hold_no_mask_tokens),
        cmocka_unit_test(text_fields_are_checked_and_named),
        cmocka_unit_test(a_prompt_longer_than_the_model_takes_is_refused_with_numbers),
        cmocka_unit_test(special_literals_in_messages_are_plain_text_unless_allowed),
        cmocka_unit_test(a_prompt_mask_behind_a_picture_has_its_row_not_its_place_among_the_ids),
        cmocka_unit_test(stops_are_ids_in_the_order_given_with_the_default_last),
        cmocka_unit_test(the_default_stop_is_added_once_and_can_be_left_out),
        cmocka_unit_test(text_level_stops_are_text_but_special_tokens_stay_ids),
        cmocka_unit_test(too_many_and_too_long_stops_are_refused),
        cmocka_unit_test(the_suffix_is_plain_text_unless_special_tokens_are_allowed),
        cmocka_unit_test(a_picture_becomes_rows_between_runs_of_ids),
        cmocka_unit_test(several_pictures_are_padded_and_equal_ones_share_key_and_bytes),
        cmocka_unit_test(the_key_depends_on_bytes_and_mode),
        cmocka_unit_test(a_video_is_one_item_of_many_frames),
        cmocka_unit_test(bad_media_are_named),
        cmocka_unit_test(placeholders_in_text_take_pictures_in_order),
        cmocka_unit_test(pictures_that_differ_from_placeholders_are_refused_with_both_counts),
        cmocka_unit_test(a_literal_placeholder_is_text_unless_asked),
        cmocka_unit_test(a_raw_prompt_takes_its_pictures_from_media),
        cmocka_unit_test(contents_tell_requests_apart_but_not_by_their_id),
        cmocka_unit_test(rule_and_cache_are_contents),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
