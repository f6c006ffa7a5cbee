#include "coordinator/front/intake_media.h"

#include "common/digest.h"
#include "common/limits.h"
#include "coordinator/back/images.h"
#include "coordinator/front/ask.h"
#include "coordinator/front/intake.h"
#include "model/image_header.h"
#include "model/spec.h"

/* The features of an item depend on the weights, the bytes, and on how they become tiles and rows.
 * All of it goes into the key, framed, so that two different items never share one. */
static enum rmk_err item_key(const struct rmk_served *served, const struct rmk_ask_media *media,
                             const struct rmk_grid *grid, uint8_t out_key[RMK_DIGEST_BYTES],
                             struct rmk_why *why)
{
    const struct rmk_grid_spec *spec = &served->spec->grid;
    struct rmk_digest *digest;
    enum rmk_err err;

    RMK_TRY(rmk_digest_create(&digest, why));
    rmk_digest_part(digest, "model", rmk_bytes_of(served->digest, sizeof(served->digest)));
    rmk_digest_part_u64(digest, "mode", grid->mode);
    rmk_digest_part_u64(digest, "tile", spec->tile);
    rmk_digest_part_u64(digest, "patch", spec->patch);
    rmk_digest_part_u64(digest, "merge", spec->merge);
    rmk_digest_part_u64(digest, "newline", spec->newline);
    rmk_digest_part_u64(digest, "pool", spec->pool);
    rmk_digest_part_u64(digest, "grid_width", grid->grid_width);
    rmk_digest_part_u64(digest, "grid_height", grid->grid_height);
    rmk_digest_part_u64(digest, "map_width", grid->map.width);
    rmk_digest_part_u64(digest, "map_height", grid->map.height);
    rmk_digest_part_u64(digest, "rows", grid->rows);
    for (uint32_t i = 0; i < media->frame_count; i++) {
        rmk_digest_part(digest, "image", rmk_bytes_of(media->frames[i]->digest, RMK_DIGEST_BYTES));
    }
    rmk_digest_finish(digest, out_key);
    rmk_digest_destroy(digest);
out:
    return err;
}

/* Too large and not understood are as final as damaged: the client has to send something else. */
static enum rmk_err check_frame(const struct rmk_blob *blob, struct rmk_size *out_size,
                                struct rmk_why *why)
{
    struct rmk_image_limits limits = {.pixels_max = RMK_PIXELS_MAX,
                                      .bytes_max = RMK_BLOB_BYTES_MAX};
    struct rmk_image_header header;

    if (rmk_image_header_read(blob->bytes, &limits, &header, why) != RMK_OK) {
        return RMK_EINVAL;
    }
    *out_size = header.size;
    return RMK_OK;
}

enum rmk_err rmk_intake_media_plan(const struct rmk_served *served,
                                   const struct rmk_ask_media *media, uint32_t index,
                                   uint32_t picture_count, enum rmk_image_mode mode,
                                   struct rmk_item *out_item, enum rmk_image_mode *out_mode,
                                   struct rmk_why *why)
{
    struct rmk_size first = {0};
    struct rmk_grid grid;
    enum rmk_err err;

    if (media->frame_count == 0) {
        return rmk_fail(why, RMK_EINVAL, "media %u: the video has no frames", index);
    }
    for (uint32_t i = 0; i < media->frame_count; i++) {
        struct rmk_size size;

        err = check_frame(media->frames[i], &size, why);
        if (err != RMK_OK) {
            if (media->video) {
                rmk_why_context(why, "media %u, frame %u", index, i);
            } else {
                rmk_why_context(why, "media %u", index);
            }
            goto out;
        }
        if (i == 0) {
            first = size;
        }
    }
    err = rmk_grid_plan(&served->spec->grid, first, media->video ? RMK_IMAGE_VIDEO : mode,
                        picture_count, media->video ? media->frame_count : 1, &grid, why);
    if (err != RMK_OK) {
        rmk_why_context(why, "media %u", index);
        err = RMK_EINVAL;
        goto out;
    }
    for (uint32_t i = 0; i < media->frame_count; i++) {
        RMK_TRY(rmk_digest_of(media->frames[i]->bytes, media->frames[i]->digest, why));
    }
    out_item->rows = grid.rows;
    out_item->tile_count = grid.tile_count;
    RMK_TRY(item_key(served, media, &grid, out_item->key, why));
    *out_mode = grid.mode;
out:
    return err;
}
