#include "worker/vision/decode_format.h"

#include <webp/decode.h>

enum rmk_err rmk_decode_webp(struct rmk_bytes bytes, const struct rmk_image_header *header,
                             struct rmk_picture *picture, struct rmk_why *why)
{
    struct rmk_webp_frame frame;
    WebPDecoderConfig config;
    enum rmk_err err;

    RMK_TRY(rmk_image_header_webp_frame(bytes, header, &frame, why));
    if (!WebPInitDecoderConfig(&config)) {
        err = rmk_fail(why, RMK_EUNSUPPORTED, "this libwebp is older than its header");
        goto out;
    }
    if (WebPGetFeatures(frame.bytes.data, frame.bytes.size, &config.input) != VP8_STATUS_OK ||
        config.input.has_animation || config.input.width != (int)frame.size.width ||
        config.input.height != (int)frame.size.height) {
        err = rmk_fail(why, RMK_ECORRUPT, "image is a WebP with a damaged header");
        goto out;
    }
    /* Straight into place. Around a first frame that does not cover the canvas stays transparent
     * black, whose colour is kept like that of any transparent pixel. */
    config.output.colorspace = MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = rmk_picture_row(picture, frame.y) + 3 * (size_t)frame.x;
    config.output.u.RGBA.stride = (int)rmk_picture_stride(picture);
    config.output.u.RGBA.size =
        (frame.size.height - 1) * rmk_picture_stride(picture) + 3 * (size_t)frame.size.width;
    switch (WebPDecode(frame.bytes.data, frame.bytes.size, &config)) {
    case VP8_STATUS_OK:
        break;
    case VP8_STATUS_OUT_OF_MEMORY:
        err = rmk_fail(why, RMK_ELIMIT, "no memory to decode a WebP");
        break;
    default:
        err = rmk_fail(why, RMK_ECORRUPT, "image is a damaged WebP");
        break;
    }
    WebPFreeDecBuffer(&config.output);
out:
    return err;
}
