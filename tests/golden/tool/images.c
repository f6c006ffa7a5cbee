/* images/images.json: decoded pixels and tiles of every variant, byte for byte. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/digest.h"
#include "model/grid.h"
#include "tests/golden/tool/cases.h"
#include "tests/golden/tool/files.h"
#include "worker/vision/decode.h"
#include "worker/vision/encoder.h"
#include "worker/vision/preprocess.h"

static bool sha_equal(const void *bytes, size_t size, const json_t *want)
{
    uint8_t sum[RMK_DIGEST_BYTES];
    char text[RMK_DIGEST_HEX_BYTES];

    if (!json_is_string(want) || rmk_digest_of(rmk_bytes_of(bytes, size), sum, NULL) != RMK_OK) {
        return false;
    }
    rmk_digest_hex(sum, text);
    return strcmp(text, json_string_value(want)) == 0;
}

/* A variant's own little grid spec. */
static enum rmk_err variant_spec(const json_t *variant, struct rmk_grid_spec *spec,
                                 enum rmk_image_mode *mode, struct rmk_why *why)
{
    const char *aspect = json_string_value(json_object_get(variant, "aspect"));
    const json_t *pinpoints = json_object_get(variant, "pinpoints");

    memset(spec, 0, sizeof(*spec));
    spec->tile = (uint32_t)json_integer_value(json_object_get(variant, "tile"));
    spec->patch = 14;
    spec->side = spec->tile / spec->patch;
    spec->max_factor = 4;
    *mode = RMK_IMAGE_ANYRES;
    if (aspect != NULL && strcmp(aspect, "pad") == 0) {
        *mode = RMK_IMAGE_PAD;
    } else if (aspect == NULL || strncmp(aspect, "anyres", 6) != 0) {
        *mode = RMK_IMAGE_SQUARE;
    }
    spec->aspect = *mode;
    if (json_is_string(pinpoints)) {
        return rmk_grid_parse_pinpoints(json_string_value(pinpoints), spec, why);
    }
    for (size_t i = 0; i < json_array_size(pinpoints) && i < RMK_PINPOINTS_MAX; i++) {
        const json_t *pair = json_array_get(pinpoints, i);
        spec->pinpoints[spec->pinpoint_count++] = (struct rmk_size){
            .width = (uint32_t)json_integer_value(json_array_get(pair, 0)),
            .height = (uint32_t)json_integer_value(json_array_get(pair, 1)),
        };
    }
    return RMK_OK;
}

static void run_variant(struct report *report, const char *name, const char *variant_name,
                        const json_t *variant, struct rmk_bytes blob)
{
    struct rmk_grid_spec spec;
    struct rmk_tiles tiles = {0};
    struct rmk_why why = {0};
    enum rmk_image_mode mode;
    float *pixels = NULL;

    if (json_object_get(variant, "error") != NULL ||
        json_object_get(variant, "reference_bug") != NULL) {
        report_raised(report, name, variant_name,
                      "an error or misread picture of the reference, not imitated");
        return;
    }
    if (variant_spec(variant, &spec, &mode, &why) != RMK_OK ||
        rmk_tiles_make(&spec, &blob, 1, mode, &tiles, &why) != RMK_OK) {
        report_failed(report, name, variant_name, "%s", why.text);
        return;
    }
    const size_t bytes = (size_t)tiles.grid.tile_count * spec.tile * spec.tile * 3;
    bool same = sha_equal(tiles.pixels, bytes, json_object_get(variant, "tiles_u8_sha256"));
    if (mode == RMK_IMAGE_ANYRES) {
        same = same &&
               json_integer_value(json_object_get(variant, "grid_w")) == tiles.grid.grid_width &&
               json_integer_value(json_object_get(variant, "grid_h")) == tiles.grid.grid_height;
    }
    pixels = malloc(bytes * sizeof(float));
    rmk_assert(pixels != NULL);
    rmk_preprocess_normalize(tiles.pixels, tiles.grid.tile_count, spec.tile, pixels);
    same = same &&
           sha_equal(pixels, bytes * sizeof(float), json_object_get(variant, "pixels_f32_sha256"));
    report_exact(report, name, variant_name, same, "%u tiles, grid %u x %u", tiles.grid.tile_count,
                 tiles.grid.grid_width, tiles.grid.grid_height);
    free(pixels);
    rmk_tiles_deinit(&tiles);
}

static void run_image(struct report *report, const char *root, const json_t *item)
{
    const char *file = json_string_value(json_object_get(item, "file"));
    const json_t *variants = json_object_get(item, "variants");
    struct rmk_picture picture = {0};
    struct rmk_why why = {0};
    char path[2048];
    char name[256];
    uint8_t *bytes = NULL;
    size_t size = 0;
    const char *key;
    json_t *variant;

    (void)snprintf(path, sizeof(path), "%s/images/%s", root, file);
    (void)snprintf(name, sizeof(name), "images/%s", file);
    if (file_read(path, &bytes, &size, &why) != RMK_OK) {
        report_failed(report, name, "read", "%s", why.text);
        return;
    }
    if (rmk_decode(rmk_bytes_of(bytes, size), NULL, &picture, &why) != RMK_OK) {
        report_failed(report, name, "decode", "%s", why.text);
        free(bytes);
        return;
    }
    report_exact(report, name, "decode",
                 sha_equal(picture.pixels, (size_t)picture.size.width * picture.size.height * 3,
                           json_object_get(item, "rgb_sha256")),
                 "%u x %u", picture.size.width, picture.size.height);
    rmk_picture_deinit(&picture);
    json_object_foreach((json_t *)variants, key, variant)
    {
        if (strncmp(key, "raw_", 4) !=
            0) { /* information only: pictures not converted to RGB first */
            run_variant(report, name, key, variant, rmk_bytes_of(bytes, size));
        }
    }
    free(bytes);
}

void cases_images(struct report *report, const char *root)
{
    struct rmk_why why = {0};

    if (!file_exists("%s/images/images.json", root)) {
        return;
    }
    json_t *list = file_json(&why, "%s/images/images.json", root);
    if (list == NULL) {
        report_failed(report, "images", "list", "%s", why.text);
        return;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        run_image(report, root, json_array_get(list, i));
    }
    json_decref(list);
}
