/* Pictures to prompt rows: decode, tile, SigLIP tower, projector, unpad/pool, newline (reference
 * specification 5-7).
 *
 * An item is one picture, or one video as a list of frames. Its features are fp32 [rows, D] in
 * prompt order.
 */
#ifndef RMK_WORKER_VISION_ENCODER_H
#define RMK_WORKER_VISION_ENCODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/err.h"
#include "kernels/kernels.h"
#include "model/grid.h"
#include "model/spec.h"

struct rmk_encoder;

struct rmk_encoder_options {
    const struct rmk_spec *spec; /* copied */
    struct rmk_device *device;   /* borrowed */
    uint32_t tile_batch;         /* tiles through the tower at once */
    bool load_dummy;
    uint64_t dummy_seed;
};

/* Tower weights come from the checkpoint, else from spec.vision_dir, else RMK_ENOTFOUND: never
 * uninitialised. */
enum rmk_err rmk_encoder_create(const struct rmk_encoder_options *options,
                                struct rmk_encoder **out_encoder, struct rmk_why *why);
void rmk_encoder_destroy(struct rmk_encoder *encoder);

/* One decoded and tiled item; made on any thread (no device needed), consumed by the device thread.
 */
struct rmk_tiles {
    struct rmk_grid grid;
    struct rmk_size size; /* of the picture, or of the first frame */
    uint8_t *pixels;      /* u8 [grid.tile_count, S, S, 3], malloc'ed */
};

/* Decode `blobs` (one picture; several: frames of a video) and tile them. `mode` is never AUTO
 * here. Errors as worker/vision/decode.h: RMK_EUNSUPPORTED, RMK_ECORRUPT, RMK_ELIMIT; the sentence
 * names the blob's index. */
enum rmk_err rmk_tiles_make(const struct rmk_grid_spec *grid, const struct rmk_bytes *blobs,
                            uint32_t blob_count, enum rmk_image_mode mode,
                            struct rmk_tiles *out_tiles, struct rmk_why *why);
void rmk_tiles_deinit(struct rmk_tiles *tiles);

/* One item of a batch. */
struct rmk_encoder_item {
    const struct rmk_tiles *tiles;
    float *features; /* out: host fp32 [tiles->grid.rows, D] */
    float *tower; /* out, or NULL: host fp32 [tile_count, side*side, vision width], as compared */
    float *projected; /* out, or NULL: [.., D] */
    enum rmk_err err; /* out: RMK_EINTERNAL: a NaN or Inf in this item's features */
};

enum { RMK_ENCODER_ITEMS_MAX = 64 };

/* Items whose tiles go through the tower together: an item's features are the same in any company.
 * An error is the device's, and none of the items is good; `why` is of whichever went wrong. */
enum rmk_err rmk_encoder_encode(struct rmk_encoder *encoder, struct rmk_encoder_item *items,
                                uint32_t item_count, struct rmk_why *why);

#endif
