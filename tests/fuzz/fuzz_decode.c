/* Any bytes: a picture of the size its header gave, or a sentence. Small limits keep one input
 * short. */
#include "worker/vision/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rmk_decode_options options = {
        .limits.pixels_max = 1 << 18,
        .upright = size % 2 == 1,
    };
    struct rmk_bytes bytes = rmk_bytes_of(data, size);
    struct rmk_image_header header;
    struct rmk_picture picture = {0};
    struct rmk_why why = {0};

    if (rmk_decode(bytes, &options, &picture, &why) != RMK_OK) {
        rmk_assert(why.text[0] != '\0');
        rmk_assert(picture.pixels == NULL);
        return 0;
    }
    rmk_assert(rmk_image_header_read(bytes, &options.limits, &header, NULL) == RMK_OK);
    rmk_assert((uint64_t)picture.size.width * picture.size.height ==
               (uint64_t)header.size.width * header.size.height);
    rmk_picture_deinit(&picture);
    return 0;
}
