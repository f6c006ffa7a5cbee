/* JPEG, PNG and WebP bytes to RGB pixels, exactly as Pillow 11's `Image.open(…).convert("RGB")`
 * (reference specification, section 5.1).
 *
 * Alpha is dropped and the colour below it kept; palettes are looked up, their transparency
 * ignored; 16-bit grey is clipped at 255, other 16-bit pictures keep their high bytes; CMYK and
 * YCCK are taken as Adobe writes them (inverted). Of an animation the first frame is decoded. EXIF
 * orientation is ignored unless asked for.
 *
 * The input is hostile: its header is read first (model/image_header.h) and held against the
 * limits, nothing in it is inflated but the pixels, and damage of any kind gives an error, never
 * half a picture. Nothing here is shared between calls: any number of threads may decode.
 */
#ifndef RMK_WORKER_VISION_DECODE_H
#define RMK_WORKER_VISION_DECODE_H

#include <stdbool.h>

#include "common/bytes.h"
#include "common/err.h"
#include "model/image_header.h"
#include "worker/vision/picture.h"

struct rmk_decode_options {
    struct rmk_image_limits limits;
    bool upright; /* apply EXIF orientation */
};

/* `options` may be NULL. The picture is the caller's; free it with rmk_picture_deinit.
 *
 * Errors: those of rmk_image_header_read, and
 *   RMK_ECORRUPT      the pixels are cut short or damaged
 *   RMK_EUNSUPPORTED  a form of the format that is not read
 *   RMK_ELIMIT        no memory, or a JPEG with absurdly many scans
 */
enum rmk_err rmk_decode(struct rmk_bytes bytes, const struct rmk_decode_options *options,
                        struct rmk_picture *out_picture, struct rmk_why *why);

#endif
