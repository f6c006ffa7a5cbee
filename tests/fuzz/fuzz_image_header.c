/* Any bytes: a header that is accepted keeps the limits, and a WebP frame lies inside its file and
 * canvas. */
#include "model/image_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rmk_bytes bytes = rmk_bytes_of(data, size);
    struct rmk_image_header header;
    struct rmk_webp_frame frame;
    struct rmk_why why = {0};

    if (rmk_image_header_read(bytes, NULL, &header, &why) != RMK_OK) {
        rmk_assert(why.text[0] != '\0');
        return 0;
    }
    rmk_assert(header.size.width > 0);
    rmk_assert(header.size.height > 0);
    rmk_assert((uint64_t)header.size.width * header.size.height <= RMK_IMAGE_PIXELS_MAX);
    rmk_assert(header.orientation >= 1);
    rmk_assert(header.orientation <= 8);
    if (header.format == RMK_FORMAT_WEBP &&
        rmk_image_header_webp_frame(bytes, &header, &frame, &why) == RMK_OK) {
        rmk_assert(frame.bytes.data >= data);
        rmk_assert(frame.bytes.data + frame.bytes.size <= data + size);
        rmk_assert(frame.x + frame.size.width <= header.size.width);
        rmk_assert(frame.y + frame.size.height <= header.size.height);
    }
    return 0;
}
