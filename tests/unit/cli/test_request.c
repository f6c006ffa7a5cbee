/* cli/request.c and cli/files.c: what is sent for a command line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/files.h"
#include "cli/request.h"
#include "common/limits.h"

static char picture[] = "tests/data/scenes/000.png";
static char other[] = "tests/data/scenes/001.jpg";

static Remask__V1__GenerateRequest *pack_and_unpack(const struct rmk_request_options *options,
                                                    char *const *paths, size_t path_count)
{
    struct rmk_why why = {0};
    uint8_t *packed = NULL;
    size_t size = 0;

    assert_int_equal(rmk_request_pack(options, paths, path_count, &packed, &size, &why), RMK_OK);
    Remask__V1__GenerateRequest *request = remask__v1__generate_request__unpack(NULL, size, packed);
    assert_non_null(request);
    free(packed);
    return request;
}

static void assert_is_file(ProtobufCBinaryData data, const char *path)
{
    struct rmk_why why = {0};
    uint8_t *bytes = NULL;
    size_t size = 0;

    assert_int_equal(rmk_files_read(path, RMK_BLOB_BYTES_MAX, &bytes, &size, &why), RMK_OK);
    assert_int_equal(data.len, size);
    assert_memory_equal(data.data, bytes, size);
    free(bytes);
}

static void pictures_stand_before_the_question(void **state)
{
    char *const paths[] = {picture, other};
    const struct rmk_request_options options = {.prompt = "What is it?",
                                                .sampling = {.default_stop = true}};
    Remask__V1__GenerateRequest *request =
        pack_and_unpack(&options, paths, sizeof(paths) / sizeof(paths[0]));

    (void)state;
    assert_int_equal(request->n_messages, 1);
    assert_string_equal(request->messages[0]->role, "user");
    assert_int_equal(request->messages[0]->n_parts, 3);
    assert_is_file(request->messages[0]->parts[0]->media->image, picture);
    assert_is_file(request->messages[0]->parts[1]->media->image, other);
    assert_string_equal(request->messages[0]->parts[2]->text, "What is it?");
    assert_false(request->sampling->no_default_stop);
    assert_false(request->placeholders_in_text);
    assert_false(request->allow_special_tokens);
    remask__v1__generate_request__free_unpacked(request, NULL);
}

static void frames_make_one_video(void **state)
{
    char *const paths[] = {picture, other};
    const struct rmk_request_options options = {
        .prompt = "What happens?", .system = "Be brief.", .video = true};
    Remask__V1__GenerateRequest *request =
        pack_and_unpack(&options, paths, sizeof(paths) / sizeof(paths[0]));

    (void)state;
    assert_int_equal(request->n_messages, 2);
    assert_string_equal(request->messages[0]->role, "system");
    assert_string_equal(request->messages[0]->parts[0]->text, "Be brief.");
    assert_int_equal(request->messages[1]->n_parts, 2);
    const Remask__V1__Media *media = request->messages[1]->parts[0]->media;
    assert_int_equal(media->kind_case, REMASK__V1__MEDIA__KIND_VIDEO);
    assert_int_equal(media->video->n_frames, 2);
    assert_is_file(media->video->frames[1], other);
    assert_true(request->sampling->no_default_stop);
    remask__v1__generate_request__free_unpacked(request, NULL);
}

static void sampling_goes_where_it_belongs(void **state)
{
    char *const paths[] = {picture};
    const struct rmk_request_options options = {
        .prompt = "x",
        .model = "demo",
        .request_id = "id-1",
        .image_mode = REMASK__V1__IMAGE_MODE__IMAGE_MODE_PAD,
        .sampling =
            {
                .gen_length = 64,
                .block_length = 32,
                .steps = 16,
                .temperature = 0.5,
                .cfg_scale = 1.5,
                .remasking = REMASK__V1__REMASKING__RANDOM,
                .seed = UINT64_MAX,
                .stops = {.items = {"a", ""}, .count = 2},
                .stop_level = REMASK__V1__STOP_LEVEL__STOP_TEXT,
                .suffix = " End.",
                .profile = "fast",
                .rule = REMASK__V1__COMMIT_RULE__RULE_LOCAL_LEAP,
                .threshold = 0.7,
                .factor = 1.25,
                .factor_compat = true,
                .threshold_low = 0.3,
                .kappa = 0.8,
                .reach = 5,
                .cache = REMASK__V1__CACHE_POLICY__CACHE_FEATURE,
                .refresh_interval = 6,
                .prompt_interval = 25,
                .gen_interval = 7,
                .transfer_ratio = 0.125,
                .deadline_policy = REMASK__V1__DEADLINE_POLICY__DEADLINE_BEST,
            },
    };
    Remask__V1__GenerateRequest *request =
        pack_and_unpack(&options, paths, sizeof(paths) / sizeof(paths[0]));
    const Remask__V1__Sampling *sampling = request->sampling;

    (void)state;
    assert_string_equal(request->model, "demo");
    assert_string_equal(request->request_id, "id-1");
    assert_int_equal(request->image_mode, REMASK__V1__IMAGE_MODE__IMAGE_MODE_PAD);
    assert_int_equal(sampling->gen_length, 64);
    assert_int_equal(sampling->block_length, 32);
    assert_int_equal(sampling->steps, 16);
    assert_true(sampling->temperature == 0.5);
    assert_true(sampling->cfg_scale == 1.5f);
    assert_int_equal(sampling->remasking, REMASK__V1__REMASKING__RANDOM);
    assert_true(sampling->seed == UINT64_MAX);
    assert_int_equal(sampling->n_stop, 2);
    assert_string_equal(sampling->stop[0], "a");
    assert_string_equal(sampling->stop[1], "");
    assert_int_equal(sampling->stop_level, REMASK__V1__STOP_LEVEL__STOP_TEXT);
    assert_string_equal(sampling->suffix, " End.");
    assert_string_equal(sampling->profile, "fast");
    assert_int_equal(sampling->rule, REMASK__V1__COMMIT_RULE__RULE_LOCAL_LEAP);
    assert_true(sampling->threshold == 0.7);
    assert_true(sampling->factor == 1.25);
    assert_true(sampling->factor_compat);
    assert_true(sampling->threshold_low == 0.3);
    assert_true(sampling->kappa == 0.8);
    assert_int_equal(sampling->reach, 5);
    assert_int_equal(sampling->cache, REMASK__V1__CACHE_POLICY__CACHE_FEATURE);
    assert_int_equal(sampling->refresh_interval, 6);
    assert_int_equal(sampling->prompt_interval, 25);
    assert_int_equal(sampling->gen_interval, 7);
    assert_true(sampling->transfer_ratio == 0.125);
    assert_int_equal(sampling->deadline_policy, REMASK__V1__DEADLINE_POLICY__DEADLINE_BEST);
    remask__v1__generate_request__free_unpacked(request, NULL);
}

static void without_files_the_request_is_text(void **state)
{
    const struct rmk_request_options options = {.prompt = "Hello"};
    Remask__V1__GenerateRequest *request = pack_and_unpack(&options, NULL, 0);

    (void)state;
    assert_int_equal(request->messages[0]->n_parts, 1);
    assert_string_equal(request->messages[0]->parts[0]->text, "Hello");
    assert_string_equal(request->sampling->profile, "");
    remask__v1__generate_request__free_unpacked(request, NULL);
}

static void a_reset_leaves_all_of_rule_and_cache_to_the_profile(void **state)
{
    struct rmk_sampling_options options;
    struct rmk_sampling_options untouched = {0};

    (void)state;
    memset(&options, 0, sizeof(options));
    options.gen_length = 64;
    options.rule = 2;
    options.threshold = options.factor = options.threshold_low = options.kappa = 0.5;
    options.factor_compat = true;
    options.reach = options.refresh_interval = options.prompt_interval = 3;
    options.gen_interval = 3;
    options.cache = 4;
    options.transfer_ratio = 0.5;
    options.deadline_policy = 1;
    rmk_sampling_reset_decoding(&options, "exact");
    assert_string_equal(options.profile, "exact");
    options.profile = NULL;
    untouched.gen_length = 64;
    assert_memory_equal(&options, &untouched, sizeof(options));
}

static void the_flags_fill_their_table_and_name_each_once(void **state)
{
    struct rmk_request_options options = {0};
    struct rmk_config_flag flags[RMK_REQUEST_FLAGS];

    (void)state;
    rmk_request_flags(&options, flags);
    for (size_t i = 0; i < RMK_REQUEST_FLAGS; i++) {
        assert_non_null(flags[i].name);
        assert_non_null(flags[i].help);
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(flags[i].name, flags[j].name);
            assert_ptr_not_equal(flags[i].target, flags[j].target);
        }
    }
}

static void the_batch_lane_travels_as_metadata(void **state)
{
    struct rmk_request_options options = {0};
    const char *const *metadata;

    (void)state;
    assert_null(rmk_request_metadata(&options));
    options.lane = 1;
    metadata = rmk_request_metadata(&options);
    assert_string_equal(metadata[0], "x-remask-lane");
    assert_string_equal(metadata[1], "batch");
    assert_null(metadata[2]);
}

static void a_file_that_cannot_be_read_is_named_among_several(void **state)
{
    static char missing[] = "/nonexistent.png";
    static char folder[] = "tests";
    char *const paths[] = {picture, missing, folder};
    const struct rmk_request_options options = {.prompt = "x"};
    struct rmk_why why = {0};
    uint8_t *packed = NULL;
    size_t size = 0;

    (void)state;
    assert_int_equal(rmk_request_pack(&options, paths, 3, &packed, &size, &why), RMK_ENOTFOUND);
    assert_non_null(strstr(why.text, missing));
    assert_int_equal(rmk_request_pack(&options, paths + 2, 1, &packed, &size, &why), RMK_EINVAL);
    assert_null(packed);
}

static void more_pictures_than_a_request_takes_are_refused(void **state)
{
    char *paths[RMK_FRAMES_MAX + 1];
    struct rmk_request_options options = {.prompt = "x"};
    struct rmk_why why = {0};
    uint8_t *packed = NULL;
    size_t size = 0;

    (void)state;
    for (size_t i = 0; i < RMK_FRAMES_MAX + 1; i++) {
        paths[i] = picture;
    }
    assert_int_equal(rmk_request_pack(&options, paths, RMK_ITEMS_MAX + 1, &packed, &size, &why),
                     RMK_EINVAL);
    options.video = true;
    assert_int_equal(rmk_request_pack(&options, paths, RMK_ITEMS_MAX + 1, &packed, &size, &why),
                     RMK_OK);
    free(packed);
    packed = NULL;
    assert_int_equal(rmk_request_pack(&options, paths, RMK_FRAMES_MAX + 1, &packed, &size, &why),
                     RMK_EINVAL);
    assert_null(packed);
}

static void a_file_larger_than_allowed_is_refused(void **state)
{
    struct rmk_why why = {0};
    uint8_t *bytes = NULL;
    size_t size = 0;

    (void)state;
    assert_int_equal(rmk_files_read(picture, 10, &bytes, &size, &why), RMK_ELIMIT);
    assert_int_equal(rmk_files_read("/dev/null", 10, &bytes, &size, &why), RMK_EINVAL);
    assert_int_equal(rmk_files_read("/dev/zero", 1 << 20, &bytes, &size, &why), RMK_ELIMIT);
    assert_null(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_stand_before_the_question),
        cmocka_unit_test(frames_make_one_video),
        cmocka_unit_test(sampling_goes_where_it_belongs),
        cmocka_unit_test(without_files_the_request_is_text),
        cmocka_unit_test(a_reset_leaves_all_of_rule_and_cache_to_the_profile),
        cmocka_unit_test(the_flags_fill_their_table_and_name_each_once),
        cmocka_unit_test(the_batch_lane_travels_as_metadata),
        cmocka_unit_test(a_file_that_cannot_be_read_is_named_among_several),
        cmocka_unit_test(more_pictures_than_a_request_takes_are_refused),
        cmocka_unit_test(a_file_larger_than_allowed_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
