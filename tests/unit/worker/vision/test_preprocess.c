#include "worker/vision/preprocess.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "tests/support/golden_hash.h"
#include "worker/vision/decode.h"

static struct rmk_grid_spec spec_of(const json_t *variant, const char *name)
{
    const char *aspect = json_string_value(json_object_get(variant, "aspect"));
    json_t *pinpoints = json_object_get(variant, "pinpoints");
    struct rmk_grid_spec spec = {
        .tile = (uint32_t)json_integer_value(json_object_get(variant, "tile")),
        .patch = 14,
        .max_factor = 4,
    };

    if (aspect == NULL) { /* the official program raised: only the name is there */
        aspect = strncmp(name, "pad", 3) == 0 ? "pad" : "square";
        spec.tile = 56;
    }
    spec.side = spec.tile / spec.patch;
    spec.aspect = strcmp(aspect, "pad") == 0      ? RMK_IMAGE_PAD
                  : strcmp(aspect, "square") == 0 ? RMK_IMAGE_SQUARE
                                                  : RMK_IMAGE_ANYRES;
    if (pinpoints != NULL) {
        char *text = json_is_string(pinpoints) ? strdup(json_string_value(pinpoints))
                                               : json_dumps(pinpoints, 0);
        assert_int_equal(rmk_grid_parse_pinpoints(text, &spec, NULL), RMK_OK);
        free(text);
    }
    return spec;
}

static void expect_variant(const struct rmk_picture *picture, const char *file, const char *name,
                           const json_t *variant)
{
    struct rmk_grid_spec spec = spec_of(variant, name);
    struct rmk_grid grid;

    assert_int_equal(rmk_grid_plan(&spec, picture->size, RMK_IMAGE_AUTO, 1, 1, &grid, NULL),
                     RMK_OK);
    size_t value_count = (size_t)grid.tile_count * spec.tile * spec.tile * 3;
    uint8_t *tiles = malloc(value_count);
    float *pixels = malloc(value_count * sizeof(*pixels));
    assert_non_null(tiles);
    assert_non_null(pixels);
    assert_int_equal(
        rmk_preprocess_tiles(picture, &grid, spec.tile, 0, grid.tile_count, tiles, NULL), RMK_OK);
    rmk_preprocess_normalize(tiles, grid.tile_count, spec.tile, pixels);

    /* Where the official program raises or mixes up channels, that it works is all that golden data
     * can ask; the committed pictures of the same sizes say what it has to be. */
    if (json_object_get(variant, "error") == NULL &&
        json_object_get(variant, "reference_bug") == NULL) {
        if (json_object_get(variant, "grid_w") != NULL) {
            assert_int_equal(grid.grid_width,
                             json_integer_value(json_object_get(variant, "grid_w")));
            assert_int_equal(grid.grid_height,
                             json_integer_value(json_object_get(variant, "grid_h")));
        }
        assert_int_equal(grid.tile_count, json_integer_value(json_object_get(variant, "tiles")));
        golden_expect_hash(rmk_bytes_of(tiles, value_count),
                           json_object_get(variant, "tiles_u8_sha256"), file, name);
        golden_expect_hash(rmk_bytes_of(pixels, value_count * sizeof(*pixels)),
                           json_object_get(variant, "pixels_f32_sha256"), file, name);
    }
    free(tiles);
    free(pixels);
}

static void expect_variants(const char *folder, const json_t *entry)
{
    const char *file = json_string_value(json_object_get(entry, "file"));
    struct rmk_bytes bytes = golden_image(folder, file);
    struct rmk_picture picture = {0};
    const char *name;
    json_t *variant;

    assert_int_equal(rmk_decode(bytes, NULL, &picture, NULL), RMK_OK);
    json_object_foreach(json_object_get(entry, "variants"), name, variant)
    {
        if (strncmp(name, "raw_", 4) != 0) { /* without conversion to RGB: for information */
            expect_variant(&picture, file, name, variant);
        }
    }
    rmk_picture_deinit(&picture);
    golden_image_free(bytes);
}

static void committed_pictures_give_the_tiles_of_pillow(void **state)
{
    (void)state;
    golden_each_image(golden_committed, expect_variants);
}

static void golden_pictures_give_the_tiles_of_the_official_program(void **state)
{
    (void)state;
    char folder[4096];

    if (!golden_path(folder, sizeof(folder), "golden/images")) {
        skip();
    }
    golden_each_image(folder, expect_variants);
}

static struct rmk_grid_spec spec56(void)
{
    struct rmk_grid_spec spec = {.tile = 56, .side = 4, .max_factor = 4};

    assert_int_equal(rmk_grid_parse_pinpoints("(1x1),...,(3x3)", &spec, NULL), RMK_OK);
    return spec;
}

static void plan(const struct rmk_grid_spec *spec, const struct rmk_picture *picture,
                 enum rmk_image_mode mode, uint32_t frame_count, struct rmk_grid *grid)
{
    assert_int_equal(rmk_grid_plan(spec, picture->size, mode, 1, frame_count, grid, NULL), RMK_OK);
}

static void tiles_made_one_by_one_equal_tiles_made_together(void **state)
{
    (void)state;
    enum { TILE_BYTES = 56 * 56 * 3 };
    struct rmk_bytes bytes = golden_image(golden_committed, "420.jpg");
    struct rmk_grid_spec spec = spec56();
    struct rmk_picture picture = {0};
    struct rmk_grid grid;
    uint8_t one[TILE_BYTES];

    assert_int_equal(rmk_decode(bytes, NULL, &picture, NULL), RMK_OK);
    plan(&spec, &picture, RMK_IMAGE_ANYRES, 1, &grid);
    assert_int_equal(grid.tile_count, 5);
    uint8_t *all = malloc((size_t)5 * TILE_BYTES);
    assert_non_null(all);
    assert_int_equal(rmk_preprocess_tiles(&picture, &grid, 56, 0, 5, all, NULL), RMK_OK);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(rmk_preprocess_tiles(&picture, &grid, 56, i, 1, one, NULL), RMK_OK);
        assert_memory_equal(one, all + i * TILE_BYTES, TILE_BYTES);
    }
    assert_int_equal(rmk_preprocess_tiles(&picture, &grid, 56, 5, 0, one, NULL), RMK_OK);
    free(all);
    rmk_picture_deinit(&picture);
    golden_image_free(bytes);
}

static void a_video_frame_is_one_square_tile(void **state)
{
    (void)state;
    struct rmk_bytes bytes = golden_image(golden_committed, "420.jpg");
    struct rmk_grid_spec spec = spec56();
    struct rmk_picture picture = {0};
    struct rmk_grid video;
    struct rmk_grid square;
    uint8_t frame[56 * 56 * 3];
    uint8_t tile[56 * 56 * 3];

    assert_int_equal(rmk_decode(bytes, NULL, &picture, NULL), RMK_OK);
    plan(&spec, &picture, RMK_IMAGE_VIDEO, 9, &video);
    plan(&spec, &picture, RMK_IMAGE_SQUARE, 1, &square);
    assert_int_equal(rmk_preprocess_tiles(&picture, &video, 56, 7, 1, frame, NULL), RMK_OK);
    assert_int_equal(rmk_preprocess_tiles(&picture, &square, 56, 0, 1, tile, NULL), RMK_OK);
    assert_memory_equal(frame, tile, sizeof(tile));
    rmk_picture_deinit(&picture);
    golden_image_free(bytes);
}

/* On a real canvas the longest thin picture would take 13 gigabytes. */
static void the_longest_thin_pictures_take_no_canvas(void **state)
{
    (void)state;
    static const struct rmk_size sizes[] = {{1, 65535}, {65535, 1}};
    static const enum rmk_image_mode modes[] = {RMK_IMAGE_ANYRES, RMK_IMAGE_PAD, RMK_IMAGE_SQUARE};
    struct rmk_grid_spec spec = spec56();
    uint8_t tiles[10 * 56 * 56 * 3];

    for (size_t i = 0; i < 6; i++) {
        struct rmk_picture picture = {0};
        struct rmk_grid grid;
        assert_int_equal(rmk_picture_init(&picture, sizes[i % 2], NULL), RMK_OK);
        plan(&spec, &picture, modes[i / 2], 1, &grid);
        assert_int_equal(rmk_preprocess_tiles(&picture, &grid, 56, 0, grid.tile_count, tiles, NULL),
                         RMK_OK);
        /* The corner is border in PAD and picture in the other modes' first tile. */
        assert_int_equal(tiles[0], modes[i / 2] == RMK_IMAGE_PAD ? 127 : 0);
        rmk_picture_deinit(&picture);
    }
}

static void values_are_those_of_the_reference(void **state)
{
    (void)state;
    static const uint8_t tile[3 * 4] = {0, 127, 255, 1, 128, 254, 2, 3, 4, 5, 6, 7};
    float out[3 * 4];

    rmk_preprocess_normalize(tile, 1, 2, out);
    assert_true(out[0] == -1.0f);
    assert_true(out[4] == -0.0039215684f);
    assert_true(out[8] == 1.0f);
    assert_true(out[1] == -0.99215686f);
    assert_true(out[5] == 0.003921628f);
    assert_true(out[9] == 0.99215686f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(committed_pictures_give_the_tiles_of_pillow),
        cmocka_unit_test(golden_pictures_give_the_tiles_of_the_official_program),
        cmocka_unit_test(tiles_made_one_by_one_equal_tiles_made_together),
        cmocka_unit_test(a_video_frame_is_one_square_tile),
        cmocka_unit_test(the_longest_thin_pictures_take_no_canvas),
        cmocka_unit_test(values_are_those_of_the_reference),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
