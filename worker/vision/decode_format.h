/* One function per format behind rmk_decode. Each fills a picture that already has the size its
 * header gave; pixels are undefined after a failure. */
#ifndef RMK_WORKER_VISION_DECODE_FORMAT_H
#define RMK_WORKER_VISION_DECODE_FORMAT_H

#include "common/bytes.h"
#include "common/err.h"
#include "model/image_header.h"
#include "worker/vision/picture.h"

enum rmk_err rmk_decode_jpeg(struct rmk_bytes bytes, const struct rmk_image_header *header,
                             struct rmk_picture *picture, struct rmk_why *why);

enum rmk_err rmk_decode_png(struct rmk_bytes bytes, const struct rmk_image_header *header,
                            struct rmk_picture *picture, struct rmk_why *why);

enum rmk_err rmk_decode_webp(struct rmk_bytes bytes, const struct rmk_image_header *header,
                             struct rmk_picture *picture, struct rmk_why *why);

#endif
