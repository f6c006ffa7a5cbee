#include "model/grid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "tests/support/golden_file.h"

static struct rmk_grid_spec spec384(void)
{
    struct rmk_grid_spec spec = {
        .tile = 384,
        .patch = 14,
        .side = 27,
        .max_factor = 4,
        .aspect = RMK_IMAGE_ANYRES,
        .newline = RMK_NEWLINE_GRID,
    };

    assert_int_equal(rmk_grid_parse_pinpoints("(1x1),...,(6x6)", &spec, NULL), RMK_OK);
    return spec;
}

static struct rmk_grid_spec spec56(void)
{
    struct rmk_grid_spec spec = {
        .tile = 56,
        .patch = 14,
        .side = 4,
        .max_factor = 4,
        .aspect = RMK_IMAGE_ANYRES,
        .newline = RMK_NEWLINE_GRID,
    };

    assert_int_equal(rmk_grid_parse_pinpoints("(1x1),...,(3x3)", &spec, NULL), RMK_OK);
    return spec;
}

static uint32_t number(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);

    assert_true(json_is_integer(value));
    return (uint32_t)json_integer_value(value);
}

/* One row of the table made by the official program. */
static void expect_row(const struct rmk_grid_spec *spec, const json_t *row)
{
    struct rmk_size size = {number(row, "W"), number(row, "H")};
    const json_t *box = json_object_get(row, "paste_box");
    struct rmk_grid grid;

    assert_int_equal(rmk_grid_plan(spec, size, RMK_IMAGE_AUTO, 1, 1, &grid, NULL), RMK_OK);
    assert_int_equal(grid.mode, RMK_IMAGE_ANYRES);
    assert_int_equal(grid.resolution.width, number(row, "res_w"));
    assert_int_equal(grid.resolution.height, number(row, "res_h"));
    assert_int_equal(grid.grid_width, number(row, "grid_w"));
    assert_int_equal(grid.grid_height, number(row, "grid_h"));
    assert_int_equal(grid.tile_count, 1 + grid.grid_width * grid.grid_height);
    assert_int_equal(grid.unpadded.width, number(row, "unpad_w"));
    assert_int_equal(grid.unpadded.height, number(row, "unpad_h"));
    assert_true(grid.times == json_number_value(json_object_get(row, "times")));
    assert_int_equal(grid.map.width, number(row, "out_w"));
    assert_int_equal(grid.map.height, number(row, "out_h"));
    assert_int_equal(grid.rows, number(row, "image_rows"));
    if (box != NULL) {
        uint32_t edges[4];
        for (size_t i = 0; i < 4; i++) {
            edges[i] = (uint32_t)json_integer_value(json_array_get(box, i));
        }
        assert_int_equal(grid.paste_x, edges[0]);
        assert_int_equal(grid.paste_y, edges[1]);
        assert_int_equal(grid.paste_x + grid.resized.width, edges[2]);
        assert_int_equal(grid.paste_y + grid.resized.height, edges[3]);
    }
}

static void expect_table(const char *path)
{
    struct rmk_grid_spec spec = spec384();
    json_t *table = json_load_file(path, 0, NULL);
    size_t index;
    json_t *row;

    assert_true(json_array_size(table) > 50);
    json_array_foreach(table, index, row)
    {
        expect_row(&spec, row);
    }
    json_decref(table);
}

static void the_committed_table_is_reproduced(void **state)
{
    (void)state;
    expect_table("tests/data/grid/grid384.json");
}

static void the_whole_golden_table_is_reproduced(void **state)
{
    (void)state;
    char path[4096];

    if (!golden_path(path, sizeof(path), "golden/tables/grid384.json")) {
        skip();
    }
    expect_table(path);
}

/* Everything of a model's config that the geometry needs. */
static struct rmk_grid_spec spec_of_model(const char *model, const json_t *overrides)
{
    struct rmk_grid_spec spec = {0};
    char name[256];
    char path[4096];

    (void)snprintf(name, sizeof(name), "golden/models/%s-siglip/config.json", model);
    assert_true(golden_path(path, sizeof(path), name));
    json_t *tower = json_load_file(path, 0, NULL);
    const json_t *vision = json_object_get(tower, "vision_config");
    spec.tile = number(vision, "image_size");
    spec.patch = number(vision, "patch_size");
    spec.side = spec.tile / spec.patch;
    json_decref(tower);

    (void)snprintf(name, sizeof(name), "golden/models/%s/config.json", model);
    assert_true(golden_path(path, sizeof(path), name));
    json_t *config = json_load_file(path, 0, NULL);
    if (json_is_object(overrides)) {
        assert_int_equal(json_object_update(config, (json_t *)overrides), 0);
    }
    const char *aspect = json_string_value(json_object_get(config, "image_aspect_ratio"));
    const char *merge = json_string_value(json_object_get(config, "mm_patch_merge_type"));
    const char *newline = json_string_value(json_object_get(config, "mm_newline_position"));
    const char *pool = json_string_value(json_object_get(config, "mm_spatial_pool_mode"));
    spec.aspect = RMK_IMAGE_ANYRES;
    if (strncmp(aspect, "anyres_max_", 11) == 0) {
        spec.max_factor = (uint32_t)strtoul(aspect + 11, NULL, 10);
    }
    spec.merge = strcmp(merge, "flat") == 0 ? RMK_MERGE_FLAT : RMK_MERGE_SPATIAL_UNPAD;
    spec.newline = strcmp(newline, "grid") == 0       ? RMK_NEWLINE_GRID
                   : strcmp(newline, "frame") == 0    ? RMK_NEWLINE_FRAME
                   : strcmp(newline, "no_token") == 0 ? RMK_NEWLINE_NONE
                                                      : RMK_NEWLINE_ONE_TOKEN;
    spec.pool = strcmp(pool, "average") == 0 ? RMK_POOL_AVERAGE
                : strcmp(pool, "max") == 0   ? RMK_POOL_MAX
                                             : RMK_POOL_BILINEAR;
    json_t *pinpoints = json_object_get(config, "image_grid_pinpoints");
    char *text =
        json_is_string(pinpoints) ? strdup(json_string_value(pinpoints)) : json_dumps(pinpoints, 0);
    assert_int_equal(rmk_grid_parse_pinpoints(text, &spec, NULL), RMK_OK);
    free(text);
    json_decref(config);
    return spec;
}

static const struct {
    const char *scene;
    uint32_t pictures; /* how many pictures take part: placeholders and pictures need not agree */
} scenes[] = {
    {"geo384_huge", 1},
    {"geo384_image", 1},
    {"geo384_odd", 1},
    {"geo384_video", 1},
    {"gqa_image", 1},
    {"gqa_interp", 1},
    {"mha_anyres_nomax", 1},
    {"mha_fewer_placeholders", 1},
    {"mha_flat", 1},
    {"mha_image", 1},
    {"mha_image_portrait", 1},
    {"mha_more_placeholders", 2},
    {"mha_no_placeholder", 0},
    {"mha_pad_list", 2},
    {"mha_pad_tensor", 2},
    {"mha_square", 1},
    {"mha_thin_h1", 1},
    {"mha_thin_w1", 1},
    {"mha_truncated", 1},
    {"mha_two_images", 2},
    {"mha_two_images_equal", 2},
    {"mha_video_frame", 1},
    {"mha_video_grid", 1},
    {"mha_video_no_token", 1},
    {"mha_video_one_token", 1},
    {"variant_image", 1},
    {"variant_video", 1},
    {"vocab126k_image", 1},
};

static enum rmk_image_mode mode_of(const char *how)
{
    return strcmp(how, "anyres") == 0        ? RMK_IMAGE_ANYRES
           : strcmp(how, "pad_list") == 0    ? RMK_IMAGE_PAD
           : strcmp(how, "pad_tensor") == 0  ? RMK_IMAGE_PAD_BARE
           : strcmp(how, "square_list") == 0 ? RMK_IMAGE_SQUARE
                                             : RMK_IMAGE_VIDEO;
}

static void expect_scene(const char *name, uint32_t picture_count)
{
    char relative[256];
    char path[4096];

    (void)snprintf(relative, sizeof(relative), "golden/scenes/%s/scene.json", name);
    assert_true(golden_path(path, sizeof(path), relative));
    json_t *scene = json_load_file(path, 0, NULL);
    const json_t *overrides = json_object_get(scene, "config_overrides");
    struct rmk_grid_spec spec =
        spec_of_model(json_string_value(json_object_get(scene, "model")), overrides);
    enum rmk_image_mode mode = mode_of(json_string_value(json_object_get(scene, "how")));
    const json_t *sizes = json_object_get(scene, "image_sizes");
    const json_t *ids = json_object_get(scene, "prompt_ids");
    uint32_t frame_count = 1;
    size_t rows = 0;

    if (mode == RMK_IMAGE_VIDEO) {
        frame_count = (uint32_t)json_array_size(json_object_get(scene, "images"));
    }
    for (size_t i = 0; i < json_array_size(ids); i++) {
        rows += json_integer_value(json_array_get(ids, i)) >= 0;
    }
    for (size_t i = 0; i < picture_count; i++) {
        size_t last = json_array_size(sizes) - 1; /* a placeholder too many gets the last picture */
        const json_t *pair = json_array_get(sizes, i < last ? i : last);
        struct rmk_size size = {(uint32_t)json_integer_value(json_array_get(pair, 0)),
                                (uint32_t)json_integer_value(json_array_get(pair, 1))};
        struct rmk_grid grid;
        assert_int_equal(rmk_grid_plan(&spec, size, mode, picture_count, frame_count, &grid, NULL),
                         RMK_OK);
        rows += grid.rows;
    }
    const json_t *limit = json_object_get(overrides, "tokenizer_model_max_length");
    if (limit != NULL && rows > (size_t)json_integer_value(limit)) {
        rows = (size_t)json_integer_value(limit);
    }
    if (rows != number(scene, "prompt_rows")) {
        fail_msg("%s: %zu rows, wanted %u", name, rows, number(scene, "prompt_rows"));
    }
    json_decref(scene);
}

static void every_golden_scene_has_its_prompt_rows(void **state)
{
    (void)state;
    char path[4096];

    if (!golden_path(path, sizeof(path), "golden/scenes")) {
        skip();
    }
    for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++) {
        expect_scene(scenes[i].scene, scenes[i].pictures);
    }
}

static uint32_t rows_of(const struct rmk_grid_spec *spec, uint32_t width, uint32_t height,
                        enum rmk_image_mode mode, uint32_t frame_count)
{
    struct rmk_grid grid;

    assert_int_equal(
        rmk_grid_plan(spec, (struct rmk_size){width, height}, mode, 1, frame_count, &grid, NULL),
        RMK_OK);
    return grid.rows;
}

static void rows_follow_mode_and_merge(void **state)
{
    (void)state;
    struct rmk_grid_spec spec = spec56();

    assert_int_equal(rows_of(&spec, 120, 80, RMK_IMAGE_ANYRES, 1), 76);
    assert_int_equal(rows_of(&spec, 120, 80, RMK_IMAGE_PAD, 1), 17);
    assert_int_equal(rows_of(&spec, 120, 80, RMK_IMAGE_PAD_BARE, 1), 16);
    assert_int_equal(rows_of(&spec, 120, 80, RMK_IMAGE_SQUARE, 1), 17);
    assert_int_equal(rows_of(&spec, 120, 80, RMK_IMAGE_SQUARE_BARE, 1), 16);
    spec.merge = RMK_MERGE_FLAT;
    assert_int_equal(rows_of(&spec, 120, 80, RMK_IMAGE_ANYRES, 1), 7 * 16);
    assert_int_equal(rows_of(&spec, 120, 80, RMK_IMAGE_PAD, 1), 16);
    spec.merge = RMK_MERGE_SPATIAL;
    assert_int_equal(rows_of(&spec, 120, 80, RMK_IMAGE_ANYRES, 1), 7 * 16);
    assert_int_equal(rows_of(&spec, 120, 80, RMK_IMAGE_PAD, 1), 16);
}

static void video_rows_follow_pooling_and_newline(void **state)
{
    (void)state;
    struct rmk_grid_spec spec = spec384();

    spec.newline = RMK_NEWLINE_GRID;
    assert_int_equal(rows_of(&spec, 48, 36, RMK_IMAGE_VIDEO, 3), 3 * 14 * 15);
    spec.newline = RMK_NEWLINE_FRAME;
    assert_int_equal(rows_of(&spec, 48, 36, RMK_IMAGE_VIDEO, 3), 3 * 197);
    spec.newline = RMK_NEWLINE_ONE_TOKEN;
    assert_int_equal(rows_of(&spec, 48, 36, RMK_IMAGE_VIDEO, 3), 3 * 196 + 1);
    spec.newline = RMK_NEWLINE_NONE;
    assert_int_equal(rows_of(&spec, 48, 36, RMK_IMAGE_VIDEO, 3), 3 * 196);
    spec.pool = RMK_POOL_AVERAGE;
    assert_int_equal(rows_of(&spec, 48, 36, RMK_IMAGE_VIDEO, 3), 3 * 169);
    spec.newline = RMK_NEWLINE_GRID;
    spec.merge = RMK_MERGE_FLAT;
    assert_int_equal(rows_of(&spec, 48, 36, RMK_IMAGE_VIDEO, 3), 3 * 169);
}

static void several_pictures_are_padded_unless_told_otherwise(void **state)
{
    (void)state;
    struct rmk_grid_spec spec = spec56();
    struct rmk_size size = {120, 80};
    struct rmk_grid grid;

    assert_int_equal(rmk_grid_plan(&spec, size, RMK_IMAGE_AUTO, 2, 1, &grid, NULL), RMK_OK);
    assert_int_equal(grid.mode, RMK_IMAGE_PAD);
    assert_int_equal(grid.paste_x, 0);
    assert_int_equal(grid.paste_y, 20);
    assert_int_equal(rmk_grid_plan(&spec, size, RMK_IMAGE_ANYRES, 2, 1, &grid, NULL), RMK_OK);
    assert_int_equal(grid.mode, RMK_IMAGE_ANYRES);
}

static void equal_candidates_go_to_the_first(void **state)
{
    (void)state;
    struct rmk_grid_spec spec = {.tile = 84, .side = 6};

    assert_int_equal(rmk_grid_parse_pinpoints("[(84,168),(168,84)]", &spec, NULL), RMK_OK);
    struct rmk_size best = rmk_grid_best(&spec, (struct rmk_size){50, 50});
    assert_int_equal(best.width, 84);
    assert_int_equal(rmk_grid_parse_pinpoints("[(168,84),(84,168)]", &spec, NULL), RMK_OK);
    best = rmk_grid_best(&spec, (struct rmk_size){50, 50});
    assert_int_equal(best.width, 168);
}

static void the_widest_pictures_have_a_grid(void **state)
{
    (void)state;
    static const struct rmk_size sizes[] = {
        {1, 1}, {1, 65535}, {65535, 1}, {65535, 65535}, {UINT32_MAX, 1}, {UINT32_MAX, UINT32_MAX}};
    struct rmk_grid_spec spec = spec384();

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct rmk_grid grid;
        assert_int_equal(rmk_grid_plan(&spec, sizes[i], RMK_IMAGE_ANYRES, 1, 1, &grid, NULL),
                         RMK_OK);
        assert_in_range(grid.tile_count, 2, 37);
        assert_in_range(grid.resized.width, 1, grid.resolution.width);
        assert_in_range(grid.resized.height, 1, grid.resolution.height);
        assert_in_range(grid.rows, 729, 729 + 2916 * 2);
    }
}

static void a_picture_without_pixels_is_refused(void **state)
{
    (void)state;
    struct rmk_grid_spec spec = spec56();
    struct rmk_size flat = {0, 5};
    struct rmk_size good = {5, 5};
    struct rmk_grid grid;
    struct rmk_why why = {0};

    assert_int_equal(rmk_grid_plan(&spec, flat, RMK_IMAGE_AUTO, 1, 1, &grid, &why), RMK_EINVAL);
    assert_string_equal(why.text, "picture is 0x5, it needs at least one pixel each way");
    assert_int_equal(rmk_grid_plan(&spec, good, RMK_IMAGE_VIDEO, 1, 0, &grid, &why), RMK_EINVAL);
    assert_string_equal(why.text, "video has no frames");
    assert_int_equal(rmk_grid_plan(&spec, good, RMK_IMAGE_VIDEO, 1, UINT32_MAX, &grid, &why),
                     RMK_EINVAL);
}

static void anyres_without_pinpoints_is_refused(void **state)
{
    (void)state;
    struct rmk_grid_spec spec = {.tile = 56, .side = 4, .aspect = RMK_IMAGE_ANYRES};
    struct rmk_grid grid;

    assert_int_equal(
        rmk_grid_plan(&spec, (struct rmk_size){5, 5}, RMK_IMAGE_AUTO, 1, 1, &grid, NULL),
        RMK_EUNSUPPORTED);
}

static void both_string_forms_of_pinpoints_are_read(void **state)
{
    (void)state;
    struct rmk_grid_spec spec = spec384();

    assert_int_equal(spec.pinpoint_count, 36);
    assert_int_equal(spec.pinpoints[1].width, 384);
    assert_int_equal(spec.pinpoints[1].height, 768);
    assert_int_equal(spec.pinpoints[35].width, 6 * 384);
    assert_int_equal(rmk_grid_parse_pinpoints("(2x1)", &spec, NULL), RMK_OK);
    assert_int_equal(spec.pinpoint_count, 1);
    assert_int_equal(spec.pinpoints[0].width, 768);
    assert_int_equal(rmk_grid_parse_pinpoints(" [ [384, 768] , (768,384), ] ", &spec, NULL),
                     RMK_OK);
    assert_int_equal(spec.pinpoint_count, 2);
    assert_int_equal(spec.pinpoints[0].height, 768);
    assert_int_equal(spec.pinpoints[1].height, 384);
    assert_int_equal(rmk_grid_parse_pinpoints("((384,768),)", &spec, NULL), RMK_OK);
    assert_int_equal(spec.pinpoint_count, 1);
}

static void bad_pinpoints_are_refused_and_leave_the_spec_alone(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "x",
        "(1x1",
        "(0x1)",
        "(1x1),(2y2)",
        "(2x2),(1x1)",
        "[]",
        "[(1)]",
        "[(384,768)",
        "[(384,768)] x",
        "[(384,768)](",
        "[(384,5)]",
        "(1x1),(99999999999999999999x2)",
        "(1x1),(40x40)",
        "[(-384,384)]",
        "[(384 384)]",
        "[384,384]",
        "(65535x1)",
    };
    struct rmk_grid_spec spec = spec384();
    struct rmk_why why;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        why.text[0] = '\0';
        if (rmk_grid_parse_pinpoints(texts[i], &spec, &why) != RMK_EINVAL) {
            fail_msg("accepted: %s", texts[i]);
        }
        assert_non_null(strstr(why.text, "image_grid_pinpoints"));
        assert_int_equal(spec.pinpoint_count, 36);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_committed_table_is_reproduced),
        cmocka_unit_test(the_whole_golden_table_is_reproduced),
        cmocka_unit_test(every_golden_scene_has_its_prompt_rows),
        cmocka_unit_test(rows_follow_mode_and_merge),
        cmocka_unit_test(video_rows_follow_pooling_and_newline),
        cmocka_unit_test(several_pictures_are_padded_unless_told_otherwise),
        cmocka_unit_test(equal_candidates_go_to_the_first),
        cmocka_unit_test(the_widest_pictures_have_a_grid),
        cmocka_unit_test(a_picture_without_pixels_is_refused),
        cmocka_unit_test(anyres_without_pinpoints_is_refused),
        cmocka_unit_test(both_string_forms_of_pinpoints_are_read),
        cmocka_unit_test(bad_pinpoints_are_refused_and_leave_the_spec_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
