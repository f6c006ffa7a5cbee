/* Picture geometry: which grid of tiles a picture gets, and how many prompt rows come of it.
 *
 * Pure arithmetic on sizes, bit-compatible with the official program (reference specification,
 * sections 5.2, 5.3 and 7): doubles, truncations and comparisons in the same order, because a
 * different rounding is a different prompt length.
 */
#ifndef RMK_MODEL_GRID_H
#define RMK_MODEL_GRID_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

enum { RMK_PINPOINTS_MAX = 256 };

struct rmk_size {
    uint32_t width;
    uint32_t height;
};

/* How the pictures of one request become tiles. */
enum rmk_image_mode {
    RMK_IMAGE_AUTO = 0,    /* one picture: the model's own aspect mode; several: PAD */
    RMK_IMAGE_ANYRES,      /* base tile and grid tiles, unpadded, newline per row (case A) */
    RMK_IMAGE_PAD,         /* square on grey 127, one tile, one newline row (case B) */
    RMK_IMAGE_PAD_BARE,    /* as PAD without the newline row (case C: one 4-D tensor) */
    RMK_IMAGE_SQUARE,      /* resized without regard to aspect, one tile, one newline row */
    RMK_IMAGE_SQUARE_BARE, /* as SQUARE without the newline row */
    RMK_IMAGE_VIDEO,       /* every frame one SQUARE tile, pooled 2x (case E) */
};

enum rmk_merge {
    RMK_MERGE_SPATIAL_UNPAD = 0,
    RMK_MERGE_FLAT,
    RMK_MERGE_SPATIAL, /* no unpad in the name: no newline, grid order */
};

enum rmk_newline {
    RMK_NEWLINE_ONE_TOKEN = 0,
    RMK_NEWLINE_GRID,
    RMK_NEWLINE_FRAME,
    RMK_NEWLINE_NONE,
};

enum rmk_pool {
    RMK_POOL_BILINEAR = 0,
    RMK_POOL_AVERAGE,
    RMK_POOL_MAX,
};

/* What the arithmetic needs to know of a model; part of struct rmk_spec. */
struct rmk_grid_spec {
    uint32_t tile;              /* pixels on a side: 384 */
    uint32_t patch;             /* 14 */
    uint32_t side;              /* patches on a side: tile / patch = 27 */
    uint32_t max_factor;        /* N of anyres_max_N; 0: plain anyres, no down-interpolation */
    enum rmk_image_mode aspect; /* ANYRES, PAD or SQUARE, from image_aspect_ratio */
    enum rmk_merge merge;
    enum rmk_newline newline;
    enum rmk_pool pool;
    uint32_t pinpoint_count;
    struct rmk_size
        pinpoints[RMK_PINPOINTS_MAX]; /* in the order of the config: ties go to the first */
};

/* What becomes of one picture (or one video of `frame_count` frames). */
struct rmk_grid {
    enum rmk_image_mode mode;   /* never AUTO */
    struct rmk_size resolution; /* anyres: the chosen pinpoint */
    uint32_t grid_width;        /* anyres: tiles across, without the base tile */
    uint32_t grid_height;
    uint32_t tile_count;     /* tiles through the tower, base included; video: frames */
    struct rmk_size resized; /* anyres: size after the resize that keeps the aspect */
    uint32_t paste_x;        /* anyres, pad: where the picture sits in its canvas */
    uint32_t paste_y;
    struct rmk_size
        unpadded;     /* anyres: feature map left by unpad, in patches; may be 0 wide or high */
    uint32_t unpad_x; /* first column / row of the map that is kept */
    uint32_t unpad_y;
    double times;        /* anyres_max_N: sqrt(h*w / (N*side*side)); 0 for plain anyres */
    struct rmk_size map; /* feature map after down-interpolation; video: after pooling */
    uint32_t rows;       /* prompt rows this picture or video takes */
};

/* Fill `out_grid` for one picture of `size`, or for `frame_count` frames when mode is VIDEO (else
 * pass 1). `mode` AUTO is resolved by `picture_count`.
 *
 * Errors:
 *   RMK_EINVAL        a side of 0, or no frames
 *   RMK_EUNSUPPORTED  the model has no pinpoints and mode is ANYRES
 */
enum rmk_err rmk_grid_plan(const struct rmk_grid_spec *spec, struct rmk_size size,
                           enum rmk_image_mode mode, uint32_t picture_count, uint32_t frame_count,
                           struct rmk_grid *out_grid, struct rmk_why *why);

/* The pinpoint with most effective resolution and least waste for `size` (5.2 step 1). */
struct rmk_size rmk_grid_best(const struct rmk_grid_spec *spec, struct rmk_size size);

/* Parse the config's string forms: "(1x1),...,(6x6)" times `tile`, or a Python literal list
 * "[(384,768),…]". */
enum rmk_err rmk_grid_parse_pinpoints(const char *text, struct rmk_grid_spec *spec,
                                      struct rmk_why *why);

#endif
