#include "worker/vision/features.h"

#include <stdlib.h>

struct rmk_features {
    struct rmk_device *device;
    const struct rmk_grid_spec *spec; /* borrowed from the encoder */
    uint32_t width;
    float *newline; /* device [width] */
    /* grows to the largest item seen; index lists are host memory, `map` device fp32 */
    uint32_t *source_rows;
    uint32_t *target_rows;
    uint32_t index_capacity;
    float *map;
    size_t map_bytes;
};

enum rmk_err rmk_features_create(struct rmk_device *device, const struct rmk_grid_spec *spec,
                                 uint32_t width, const float *newline_host,
                                 struct rmk_features **out_features, struct rmk_why *why)
{
    void *newline = NULL;
    enum rmk_err err;

    struct rmk_features *features = calloc(1, sizeof(*features));
    if (features == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for feature assembly");
        goto out;
    }
    features->device = device;
    features->spec = spec;
    features->width = width;
    RMK_TRY(device->ops->alloc(device, width * sizeof(float), &newline, why));
    features->newline = newline;
    RMK_TRY(device->ops->upload(device, newline, newline_host, width * sizeof(float)));
    RMK_TRY(device->ops->synchronize(device, why));
    *out_features = features;
    features = NULL;
out:
    rmk_features_destroy(features);
    return err;
}

void rmk_features_destroy(struct rmk_features *features)
{
    if (features == NULL) {
        return;
    }
    features->device->ops->free(features->device, features->newline);
    features->device->ops->free(features->device, features->map);
    free(features->source_rows);
    free(features->target_rows);
    free(features);
}

static enum rmk_err grow(struct rmk_features *features, uint32_t index_count, size_t map_bytes,
                         struct rmk_why *why)
{
    struct rmk_device *device = features->device;
    void *map = NULL;
    enum rmk_err err = RMK_OK;

    if (index_count > features->index_capacity) {
        free(features->source_rows);
        free(features->target_rows);
        features->source_rows = malloc(index_count * sizeof(uint32_t));
        features->target_rows = malloc(index_count * sizeof(uint32_t));
        features->index_capacity = index_count;
        if (features->source_rows == NULL || features->target_rows == NULL) {
            features->index_capacity = 0;
            err = rmk_fail(why, RMK_ELIMIT, "no memory for %u feature rows", index_count);
            goto out;
        }
    }
    if (map_bytes > features->map_bytes) {
        device->ops->free(device, features->map);
        features->map = NULL;
        features->map_bytes = 0;
        RMK_TRY(device->ops->alloc(device, map_bytes, &map, why));
        features->map = map;
        features->map_bytes = map_bytes;
    }
out:
    return err;
}

/* The newline vector at `count` rows of `rows_out`: first, first + stride, … */
static enum rmk_err put_newlines(struct rmk_features *features, float *rows_out, uint32_t first,
                                 uint32_t stride, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        features->source_rows[i] = 0;
        features->target_rows[i] = first + i * stride;
    }
    return features->device->ops->copy_rows(features->device, features->newline,
                                            features->source_rows, rows_out, features->target_rows,
                                            count, features->width);
}

/* Row of the projected tiles that holds cell (x, y) of the stitched grid map; tile 0 is the base.
 */
static uint32_t grid_row(const struct rmk_grid *grid, uint32_t side, uint32_t x, uint32_t y)
{
    uint32_t tile = 1 + (y / side) * grid->grid_width + x / side;

    return tile * side * side + (y % side) * side + x % side;
}

/* Case A: base rows, then the unpadded map, each map row closed by a newline unless the merge type
 * has no unpad. */
static enum rmk_err assemble_anyres(struct rmk_features *features, const struct rmk_grid *grid,
                                    const float *projected, float *rows_out)
{
    struct rmk_device *device = features->device;
    const struct rmk_ops *ops = device->ops;
    const uint32_t side = features->spec->side;
    const uint32_t base_rows = side * side;
    const struct rmk_size from = grid->unpadded;
    const struct rmk_size to = grid->map;
    const bool newline = features->spec->merge == RMK_MERGE_SPATIAL_UNPAD;
    const bool resize = from.width != to.width || from.height != to.height;
    const uint32_t line = to.width + (newline ? 1 : 0);
    float *grid_out = rows_out + (size_t)base_rows * features->width;
    uint32_t count = 0;
    enum rmk_err err;

    RMK_TRY(ops->copy_rows(device, projected, NULL, rows_out, NULL, base_rows, features->width));
    if (grid->rows == base_rows) {
        return RMK_OK; /* a picture so thin that unpad left nothing */
    }
    for (uint32_t y = 0; y < from.height; y++) {
        for (uint32_t x = 0; x < from.width; x++) {
            features->source_rows[count] =
                grid_row(grid, side, grid->unpad_x + x, grid->unpad_y + y);
            features->target_rows[count] = resize ? count : y * line + x;
            count++;
        }
    }
    RMK_TRY(ops->copy_rows(device, projected, features->source_rows,
                           resize ? features->map : grid_out, features->target_rows, count,
                           features->width));
    if (resize) {
        RMK_TRY(ops->bilinear(device, features->map, from.height, from.width,
                              (uint64_t)from.width * features->width, grid_out, to.height, to.width,
                              (uint64_t)line * features->width, features->width));
    }
    if (newline) {
        RMK_TRY(put_newlines(features, grid_out, to.width, line, to.height));
    }
out:
    return err;
}

/* One tile and perhaps one newline row (cases B and C), or all tiles one after another (flat). */
static enum rmk_err assemble_plain(struct rmk_features *features, const struct rmk_grid *grid,
                                   const float *projected, float *rows_out)
{
    const uint32_t rows = grid->tile_count * features->spec->side * features->spec->side;
    enum rmk_err err;

    rmk_assert(grid->rows == rows || grid->rows == rows + 1);
    RMK_TRY(features->device->ops->copy_rows(features->device, projected, NULL, rows_out, NULL,
                                             rows, features->width));
    if (grid->rows > rows) {
        RMK_TRY(put_newlines(features, rows_out, rows, 1, 1));
    }
out:
    return err;
}

static enum rmk_err pool_frame(struct rmk_features *features, const float *frame,
                               struct rmk_size to, float *out)
{
    struct rmk_device *device = features->device;
    const uint32_t side = features->spec->side;
    const uint64_t width = features->width;

    if (features->spec->pool == RMK_POOL_BILINEAR) {
        return device->ops->bilinear(device, frame, side, side, side * width, out, to.height,
                                     to.width, to.width * width, features->width);
    }
    return device->ops->pool2x2(device, frame, side, side, out, features->width,
                                features->spec->pool == RMK_POOL_MAX);
}

/* Case E: every frame pooled, then newlines per map row, per frame, once, or nowhere. */
static enum rmk_err assemble_video(struct rmk_features *features, const struct rmk_grid *grid,
                                   const float *projected, float *rows_out)
{
    const struct rmk_ops *ops = features->device->ops;
    const uint32_t width = features->width;
    const uint32_t frame_rows = grid->map.width * grid->map.height;
    const size_t tile = (size_t)features->spec->side * features->spec->side * width;
    const bool per_line = features->spec->newline == RMK_NEWLINE_GRID;
    const uint32_t line = grid->map.width + (per_line ? 1 : 0);
    const uint32_t newline_total = grid->rows - grid->tile_count * frame_rows;
    uint32_t stride = frame_rows;
    enum rmk_err err;

    if (per_line) {
        stride = line * grid->map.height;
    } else if (features->spec->newline == RMK_NEWLINE_FRAME) {
        stride = frame_rows + 1;
    }
    for (uint32_t frame = 0; frame < grid->tile_count; frame++) {
        float *target = rows_out + (size_t)frame * stride * width;
        RMK_TRY(pool_frame(features, projected + frame * tile, grid->map, features->map));
        for (uint32_t i = 0; i < frame_rows; i++) {
            features->target_rows[i] = i / grid->map.width * line + i % grid->map.width;
        }
        RMK_TRY(ops->copy_rows(features->device, features->map, NULL, target, features->target_rows,
                               frame_rows, width));
    }
    err = RMK_OK;
    if (per_line) {
        err = put_newlines(features, rows_out, grid->map.width, line, newline_total);
    } else if (features->spec->newline == RMK_NEWLINE_FRAME) {
        err = put_newlines(features, rows_out, frame_rows, stride, newline_total);
    } else if (newline_total > 0) {
        err = put_newlines(features, rows_out, grid->rows - 1, 1, newline_total);
    }
out:
    return err;
}

enum rmk_err rmk_features_assemble(struct rmk_features *features, const struct rmk_grid *grid,
                                   const float *projected, float *rows_out, struct rmk_why *why)
{
    const uint32_t side = features->spec->side;
    /* At most: all cells of the stitched grid, or the newlines of all rows. */
    const uint32_t index_count = grid->tile_count * side * side + grid->rows;
    const size_t map_bytes =
        (size_t)grid->tile_count * side * side * features->width * sizeof(float);
    enum rmk_err err;

    RMK_TRY(grow(features, index_count, map_bytes, why));
    switch (grid->mode) {
    case RMK_IMAGE_VIDEO:
        err = assemble_video(features, grid, projected, rows_out);
        break;
    case RMK_IMAGE_ANYRES:
        err = features->spec->merge == RMK_MERGE_FLAT
                  ? assemble_plain(features, grid, projected, rows_out)
                  : assemble_anyres(features, grid, projected, rows_out);
        break;
    default:
        err = assemble_plain(features, grid, projected, rows_out);
        break;
    }
    if (err != RMK_OK) {
        err = rmk_fail(why, err, "the %s device failed while assembling features",
                       features->device->info.backend);
    }
out:
    return err;
}
