/* cli/caption_request.c and cli/files.c: what is sent for the files of a job. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/caption.h"
#include "cli/files.h"
#include "common/limits.h"

static char picture[] = "tests/data/scenes/000.png";
static char other[] = "tests/data/scenes/001.jpg";

static Remask__V1__GenerateRequest *pack_and_unpack(const struct rmk_caption_options *options,
                                                    const struct rmk_caption_job *job)
{
    struct rmk_why why = {0};
    uint8_t *packed = NULL;
    size_t size = 0;

    assert_int_equal(rmk_caption_request(options, job, &packed, &size, &why), RMK_OK);
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
    const struct rmk_caption_options options = {.prompt = "What is it?", .default_stop = true};
    const struct rmk_caption_job job = {.paths = paths, .path_count = 2};
    Remask__V1__GenerateRequest *request = pack_and_unpack(&options, &job);

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
    const struct rmk_caption_options options = {
        .prompt = "What happens?", .system = "Be brief.", .video = true, .default_stop = false};
    const struct rmk_caption_job job = {.paths = paths, .path_count = 2};
    Remask__V1__GenerateRequest *request = pack_and_unpack(&options, &job);

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
    const struct rmk_caption_options options = {
        .prompt = "x",
        .model = "demo",
        .request_id = "id-1",
        .image_mode = REMASK__V1__IMAGE_MODE__IMAGE_MODE_PAD,
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
    };
    const struct rmk_caption_job job = {.paths = paths, .path_count = 1};
    Remask__V1__GenerateRequest *request = pack_and_unpack(&options, &job);
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
    remask__v1__generate_request__free_unpacked(request, NULL);
}

static void a_file_that_cannot_be_read_is_named_among_several(void **state)
{
    static char missing[] = "/nonexistent.png";
    static char folder[] = "tests";
    char *const paths[] = {picture, missing, folder};
    const struct rmk_caption_options options = {.prompt = "x"};
    struct rmk_caption_job job = {.paths = paths, .path_count = 3};
    struct rmk_why why = {0};
    uint8_t *packed = NULL;
    size_t size = 0;

    (void)state;
    assert_int_equal(rmk_caption_request(&options, &job, &packed, &size, &why), RMK_ENOTFOUND);
    assert_non_null(strstr(why.text, missing));
    job.paths = paths + 2;
    job.path_count = 1;
    assert_int_equal(rmk_caption_request(&options, &job, &packed, &size, &why), RMK_EINVAL);
    assert_null(packed);
}

static void more_pictures_than_a_request_takes_are_refused(void **state)
{
    char *paths[RMK_FRAMES_MAX + 1];
    struct rmk_caption_options options = {.prompt = "x"};
    struct rmk_caption_job job = {.paths = paths, .path_count = RMK_ITEMS_MAX + 1};
    struct rmk_why why = {0};
    uint8_t *packed = NULL;
    size_t size = 0;

    (void)state;
    for (size_t i = 0; i < RMK_FRAMES_MAX + 1; i++) {
        paths[i] = picture;
    }
    assert_int_equal(rmk_caption_request(&options, &job, &packed, &size, &why), RMK_EINVAL);
    options.video = true;
    assert_int_equal(rmk_caption_request(&options, &job, &packed, &size, &why), RMK_OK);
    free(packed);
    packed = NULL;
    job.path_count = RMK_FRAMES_MAX + 1;
    assert_int_equal(rmk_caption_request(&options, &job, &packed, &size, &why), RMK_EINVAL);
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
        cmocka_unit_test(a_file_that_cannot_be_read_is_named_among_several),
        cmocka_unit_test(more_pictures_than_a_request_takes_are_refused),
        cmocka_unit_test(a_file_larger_than_allowed_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
