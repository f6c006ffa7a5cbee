/* rmk_tiles_make: the part of the encoder that needs no device. */
#include <stdlib.h>

#include "worker/vision/decode.h"
#include "worker/vision/encoder.h"
#include "worker/vision/preprocess.h"

/* A video's frames may differ in size: every one becomes a square tile. The grid is the first
 * frame's. */
static enum rmk_err make_frame(const struct rmk_tiles *tiles, const struct rmk_picture *picture,
                               uint32_t tile, uint32_t frame, struct rmk_why *why)
{
    const size_t bytes = (size_t)tile * tile * 3;

    return rmk_preprocess_tiles(picture, &tiles->grid, tile, 0, 1, tiles->pixels + frame * bytes,
                                why);
}

static enum rmk_err add_blob(const struct rmk_grid_spec *spec, struct rmk_bytes blob,
                             uint32_t index, uint32_t blob_count, enum rmk_image_mode mode,
                             struct rmk_tiles *tiles, struct rmk_why *why)
{
    struct rmk_picture picture = {0};
    enum rmk_err err;

    RMK_TRY(rmk_decode(blob, NULL, &picture, why));
    if (index == 0) {
        tiles->size = picture.size;
        RMK_TRY(rmk_grid_plan(spec, tiles->size, mode, 1, blob_count, &tiles->grid, why));
        tiles->pixels = malloc((size_t)tiles->grid.tile_count * spec->tile * spec->tile * 3);
        if (tiles->pixels == NULL) {
            err = rmk_fail(why, RMK_EUNAVAILABLE, "no memory for %u tiles", tiles->grid.tile_count);
            goto out;
        }
    }
    if (mode == RMK_IMAGE_VIDEO) {
        RMK_TRY(make_frame(tiles, &picture, spec->tile, index, why));
    } else {
        RMK_TRY(rmk_preprocess_tiles(&picture, &tiles->grid, spec->tile, 0, tiles->grid.tile_count,
                                     tiles->pixels, why));
    }
out:
    rmk_picture_deinit(&picture);
    return err;
}

enum rmk_err rmk_tiles_make(const struct rmk_grid_spec *grid, const struct rmk_bytes *blobs,
                            uint32_t blob_count, enum rmk_image_mode mode,
                            struct rmk_tiles *out_tiles, struct rmk_why *why)
{
    struct rmk_tiles tiles = {0};
    enum rmk_err err = RMK_OK;

    rmk_assert(blob_count > 0);
    rmk_assert(mode != RMK_IMAGE_AUTO);
    if (mode != RMK_IMAGE_VIDEO && blob_count != 1) {
        err = rmk_fail(why, RMK_EINVAL, "%u pictures were given where one belongs", blob_count);
        goto out;
    }
    for (uint32_t i = 0; i < blob_count; i++) {
        err = add_blob(grid, blobs[i], i, blob_count, mode, &tiles, why);
        if (err != RMK_OK && mode == RMK_IMAGE_VIDEO) {
            rmk_why_context(why, "frame %u", i);
        }
        if (err != RMK_OK) {
            goto out;
        }
    }
    *out_tiles = tiles;
    tiles.pixels = NULL;
out:
    rmk_tiles_deinit(&tiles);
    return err;
}

void rmk_tiles_deinit(struct rmk_tiles *tiles)
{
    free(tiles->pixels);
    tiles->pixels = NULL;
}
