#include "worker/vision/decode.h"

#include "worker/vision/decode_format.h"

enum rmk_err rmk_decode(struct rmk_bytes bytes, const struct rmk_decode_options *options,
                        struct rmk_picture *out_picture, struct rmk_why *why)
{
    static const struct rmk_decode_options defaults = {0};
    struct rmk_image_header header;
    struct rmk_picture picture = {0};
    enum rmk_err err;

    if (options == NULL) {
        options = &defaults;
    }
    RMK_TRY(rmk_image_header_read(bytes, &options->limits, &header, why));
    RMK_TRY(rmk_picture_init(&picture, header.size, why));
    switch (header.format) {
    case RMK_FORMAT_JPEG:
        RMK_TRY(rmk_decode_jpeg(bytes, &header, &picture, why));
        break;
    case RMK_FORMAT_PNG:
        RMK_TRY(rmk_decode_png(bytes, &header, &picture, why));
        break;
    case RMK_FORMAT_WEBP:
        RMK_TRY(rmk_decode_webp(bytes, &header, &picture, why));
        break;
    }
    if (options->upright) {
        RMK_TRY(rmk_picture_orient(&picture, header.orientation, why));
    }

    *out_picture = picture;
    picture = (struct rmk_picture){0};
out:
    rmk_picture_deinit(&picture);
    return err;
}
