/* Pillow 11's bicubic resize of 8-bit RGB, bit for bit (reference specification, section 5.4).
 *
 * Separable: across first, then down, each pass rounding to bytes, with weights in 22-bit fixed
 * point. Integer arithmetic, so scalar and vector code give the same bytes and the fastest one the
 * machine has is taken.
 *
 * Any window of the result can be made alone: a pass reads only the rows and columns the window
 * needs, and of the middle picture only as many rows are kept as one output row reads.
 */
#ifndef RMK_WORKER_VISION_RESAMPLE_H
#define RMK_WORKER_VISION_RESAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "model/grid.h"
#include "worker/vision/picture.h"

/* What is resized: a picture, or a picture on a larger canvas of one grey. The canvas is never
 * made: it may be far larger than the picture. */
struct rmk_canvas {
    const struct rmk_picture *picture;
    struct rmk_size size; /* at least the picture's */
    uint32_t x;           /* where the picture's corner sits */
    uint32_t y;
    uint8_t fill;
};

struct rmk_window {
    uint32_t x;
    uint32_t y;
    struct rmk_size size;
};

/* Resize `canvas` to `target` and write what `window` shows of the result, rows `out_stride` bytes
 * apart. Sides are at most RMK_IMAGE_SIDE_MAX. RMK_ELIMIT: no memory. */
enum rmk_err rmk_resample(const struct rmk_canvas *canvas, struct rmk_size target,
                          struct rmk_window window, uint8_t *out, size_t out_stride,
                          struct rmk_why *why);

#endif
