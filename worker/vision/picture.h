/* A decoded picture: RGB, one byte each, rows without gaps. */
#ifndef RMK_WORKER_VISION_PICTURE_H
#define RMK_WORKER_VISION_PICTURE_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "model/grid.h"

/* Bytes that may be read (never used) past the last pixel: vector loads reach over a row's end. */
enum { RMK_PICTURE_SLACK = 64 };

struct rmk_picture {
    uint8_t *pixels; /* [height, width, 3], then RMK_PICTURE_SLACK bytes; owned */
    struct rmk_size size;
};

/* Black pixels. RMK_ELIMIT when there is no memory. */
enum rmk_err rmk_picture_init(struct rmk_picture *picture, struct rmk_size size,
                              struct rmk_why *why);

/* Takes zeroed ones; leaves it zeroed. */
void rmk_picture_deinit(struct rmk_picture *picture);

/* Turn and mirror `picture` as EXIF orientation 1..8 asks, so that it stands upright. */
enum rmk_err rmk_picture_orient(struct rmk_picture *picture, uint8_t orientation,
                                struct rmk_why *why);

static inline size_t rmk_picture_stride(const struct rmk_picture *picture)
{
    return (size_t)picture->size.width * 3;
}

static inline uint8_t *rmk_picture_row(const struct rmk_picture *picture, uint32_t y)
{
    return picture->pixels + y * rmk_picture_stride(picture);
}

#endif
