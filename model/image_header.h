/* What a picture file says about itself, read from its first bytes without any decoder.
 *
 * The coordinator needs a picture's size to count prompt rows, and both sides need it to refuse
 * what is too large before memory is touched. Only the container is looked at (JPEG segments, PNG
 * chunks, RIFF chunks); nothing is decompressed, nothing is allocated. That a header is good does
 * not mean that the pixels are.
 */
#ifndef RMK_MODEL_IMAGE_HEADER_H
#define RMK_MODEL_IMAGE_HEADER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/err.h"
#include "model/grid.h"

enum rmk_image_format {
    RMK_FORMAT_JPEG = 1,
    RMK_FORMAT_PNG,
    RMK_FORMAT_WEBP,
};

enum {
    RMK_IMAGE_SIDE_MAX = 65535, /* pixels; what JPEG can say. Longer ones are only attacks */
    RMK_IMAGE_PIXELS_MAX = 64 * 1024 * 1024, /* default of rmk_image_limits */
    RMK_IMAGE_BYTES_MAX = 64 * 1024 * 1024,  /* default of rmk_image_limits */
};

/* 0 means the default above. */
struct rmk_image_limits {
    uint64_t pixels_max;
    uint64_t bytes_max;
};

struct rmk_image_header {
    enum rmk_image_format format;
    struct rmk_size size; /* as stored: EXIF orientation is not applied */
    uint8_t orientation;  /* EXIF, 1..8; 1 when there is none or it is damaged */
    bool animated;        /* WebP only; an APNG is its still picture to every PNG reader */
};

/* Read the header of `bytes`. `limits` may be NULL.
 *
 * Errors:
 *   RMK_EINVAL        no bytes
 *   RMK_ELIMIT        more bytes, pixels or pixels on a side than allowed; the sentence has both
 * numbers RMK_EUNSUPPORTED  another format (named where it is a known one), or a kind of JPEG
 * nobody decodes RMK_ECORRUPT      the header is cut short or contradicts itself
 */
enum rmk_err rmk_image_header_read(struct rmk_bytes bytes, const struct rmk_image_limits *limits,
                                   struct rmk_image_header *out_header, struct rmk_why *why);

/* The size after EXIF orientation: orientations 5 to 8 swap the sides. */
struct rmk_size rmk_image_header_upright(const struct rmk_image_header *header);

/* "JPEG", "PNG" or "WebP". */
const char *rmk_image_format_name(enum rmk_image_format format);

/* Where the pixels of a WebP file's first frame are: the chunks to decode and their place on the
 * canvas. For a still picture that is the whole file at (0, 0). `bytes` must have passed
 * rmk_image_header_read. */
struct rmk_webp_frame {
    struct rmk_bytes bytes;
    uint32_t x;
    uint32_t y;
    struct rmk_size size;
};

enum rmk_err rmk_image_header_webp_frame(struct rmk_bytes bytes,
                                         const struct rmk_image_header *header,
                                         struct rmk_webp_frame *out_frame, struct rmk_why *why);

#endif
