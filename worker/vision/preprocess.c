#include "worker/vision/preprocess.h"

#include <string.h>

#include "worker/vision/resample.h"

enum { PAD_GREY = 127 }; /* int(0.5 * 255): the mean colour, cut down */

static uint32_t at_least(uint32_t value, uint32_t floor)
{
    return value > floor ? value : floor;
}

static uint32_t at_most(uint32_t value, uint32_t ceiling)
{
    return value < ceiling ? value : ceiling;
}

/* The whole canvas as one tile. */
static enum rmk_err make_whole(const struct rmk_canvas *canvas, uint32_t tile, uint8_t *out,
                               struct rmk_why *why)
{
    struct rmk_size side = {tile, tile};
    struct rmk_window all = {.size = side};

    return rmk_resample(canvas, side, all, out, (size_t)tile * 3, why);
}

/* Tile (column, row) of the picture resized to grid->resized and laid on black at (paste_x,
 * paste_y). */
static enum rmk_err make_part(const struct rmk_canvas *canvas, const struct rmk_grid *grid,
                              uint32_t tile, uint32_t column, uint32_t row, uint8_t *out,
                              struct rmk_why *why)
{
    size_t stride = (size_t)tile * 3;
    uint32_t left = at_least(column * tile, grid->paste_x);
    uint32_t top = at_least(row * tile, grid->paste_y);
    uint32_t right = at_most((column + 1) * tile, grid->paste_x + grid->resized.width);
    uint32_t bottom = at_most((row + 1) * tile, grid->paste_y + grid->resized.height);

    if (left >= right || top >= bottom) {
        memset(out, 0, stride * tile);
        return RMK_OK;
    }
    struct rmk_window window = {
        .x = left - grid->paste_x,
        .y = top - grid->paste_y,
        .size = {right - left, bottom - top},
    };
    if (window.size.width < tile || window.size.height < tile) {
        memset(out, 0, stride * tile);
    }
    out += (top - row * tile) * stride + (left - column * tile) * (size_t)3;
    return rmk_resample(canvas, grid->resized, window, out, stride, why);
}

enum rmk_err rmk_preprocess_tiles(const struct rmk_picture *picture, const struct rmk_grid *grid,
                                  uint32_t tile, uint32_t first, uint32_t count, uint8_t *out_tiles,
                                  struct rmk_why *why)
{
    struct rmk_canvas canvas = {.picture = picture, .size = picture->size};
    size_t tile_bytes = (size_t)tile * tile * 3;
    enum rmk_err err = RMK_OK;

    rmk_assert(grid->mode != RMK_IMAGE_AUTO);
    rmk_assert(first <= grid->tile_count);
    rmk_assert(count <= grid->tile_count - first);
    if (grid->mode == RMK_IMAGE_PAD || grid->mode == RMK_IMAGE_PAD_BARE) {
        uint32_t side = at_least(picture->size.width, picture->size.height);
        canvas.size = (struct rmk_size){side, side};
        canvas.x = grid->paste_x;
        canvas.y = grid->paste_y;
        canvas.fill = PAD_GREY;
    }
    for (uint32_t i = first; i < first + count; i++) {
        uint8_t *out = out_tiles + (i - first) * tile_bytes;
        if (grid->mode == RMK_IMAGE_ANYRES && i > 0) {
            uint32_t column = (i - 1) % grid->grid_width;
            uint32_t row = (i - 1) / grid->grid_width;
            RMK_TRY(make_part(&canvas, grid, tile, column, row, out, why));
        } else {
            RMK_TRY(make_whole(&canvas, tile, out, why));
        }
    }
out:
    return err;
}

void rmk_preprocess_normalize(const uint8_t *tiles, uint32_t count, uint32_t tile, float *out)
{
    size_t pixel_count = (size_t)tile * tile;
    float values[256];

    for (int i = 0; i < 256; i++) {
        float scaled = (float)((double)i * (1.0 / 255.0));
        values[i] = (scaled - 0.5f) / 0.5f;
    }
    for (uint32_t n = 0; n < count; n++) {
        float *red = out + n * 3 * pixel_count;
        float *green = red + pixel_count;
        float *blue = green + pixel_count;
        const uint8_t *pixels = tiles + n * 3 * pixel_count;
        for (size_t i = 0; i < pixel_count; i++) {
            red[i] = values[pixels[3 * i]];
            green[i] = values[pixels[3 * i + 1]];
            blue[i] = values[pixels[3 * i + 2]];
        }
    }
}
