#include "model/image_header.h"

static const struct {
    uint8_t offset;
    uint8_t size;
    const char *magic;
    const char *name;
} others[] = {
    {0, 4, "GIF8", "a GIF"},
    {0, 4, "II*\0", "a TIFF"},
    {0, 4, "MM\0*", "a TIFF"},
    {0, 2, "BM", "a BMP"},
    {0, 4, "%PDF", "a PDF"},
    {0, 4, "<svg", "an SVG"},
    {0, 5, "<?xml", "an XML or SVG"},
    {0, 5, "<!DOC", "an HTML"},
    {0, 5, "<html", "an HTML"},
    {4, 8, "ftypavif", "an AVIF"},
    {4, 8, "ftypavis", "an AVIF"},
    {4, 4, "ftyp", "a HEIC or MP4"},
    {4, 8, "jP  \r\n\x87\n", "a JPEG 2000"},
    {0, 4, "\xff\x4f\xff\x51", "a JPEG 2000"},
    {0, 2, "\xff\x0a", "a JPEG XL"},
    {4, 4, "JXL ", "a JPEG XL"},
    {0, 4, "\0\0\1\0", "an icon"},
    {0, 4, "8BPS", "a Photoshop"},
    {0, 4, "RIFF", "an AVI or WAV"},
};

/* A reader that cannot run off its bytes: reads past the end give zeros and set `short_read`. */
struct cursor {
    struct rmk_bytes bytes;
    size_t at;
    bool short_read;
};

static size_t left(const struct cursor *cursor)
{
    return cursor->bytes.size - cursor->at;
}

static struct rmk_bytes take(struct cursor *cursor, size_t size)
{
    struct rmk_bytes taken = {0};

    if (size > left(cursor)) {
        cursor->short_read = true;
        cursor->at = cursor->bytes.size;
        return taken;
    }
    taken = rmk_bytes_of(cursor->bytes.data + cursor->at, size);
    cursor->at += size;
    return taken;
}

static uint32_t take_big(struct cursor *cursor, size_t size)
{
    struct rmk_bytes taken = take(cursor, size);
    uint32_t value = 0;

    for (size_t i = 0; i < taken.size; i++) {
        value = value << 8 | taken.data[i];
    }
    return value;
}

static uint32_t take_little(struct cursor *cursor, size_t size)
{
    struct rmk_bytes taken = take(cursor, size);
    uint32_t value = 0;

    for (size_t i = taken.size; i-- > 0;) {
        value = value << 8 | taken.data[i];
    }
    return value;
}

static bool begins(struct rmk_bytes bytes, size_t offset, const char *magic, size_t size)
{
    return bytes.size >= offset + size && memcmp(bytes.data + offset, magic, size) == 0;
}

static enum rmk_err cut_short(enum rmk_image_format format, struct rmk_why *why)
{
    return rmk_fail(why, RMK_ECORRUPT, "image is a %s cut short", rmk_image_format_name(format));
}

/* Asked as soon as a size is known, before anything else in the file is looked at. */
static enum rmk_err check_size(const struct rmk_image_header *header, uint64_t pixels_max,
                               struct rmk_why *why)
{
    struct rmk_size size = header->size;
    uint64_t pixels = (uint64_t)size.width * size.height;

    if (size.width > RMK_IMAGE_SIDE_MAX || size.height > RMK_IMAGE_SIDE_MAX) {
        return rmk_fail(why, RMK_ELIMIT, "image is %ux%u, a side may have at most %d pixels",
                        size.width, size.height, RMK_IMAGE_SIDE_MAX);
    }
    if (pixels > pixels_max) {
        return rmk_fail(why, RMK_ELIMIT, "image is %ux%u, that is %llu pixels of at most %llu",
                        size.width, size.height, (unsigned long long)pixels,
                        (unsigned long long)pixels_max);
    }
    return RMK_OK;
}

const char *rmk_image_format_name(enum rmk_image_format format)
{
    switch (format) {
    case RMK_FORMAT_JPEG:
        return "JPEG";
    case RMK_FORMAT_PNG:
        return "PNG";
    case RMK_FORMAT_WEBP:
        return "WebP";
    }
    return "unknown";
}

/* Tag 0x0112 of the first directory of a TIFF block. Damage means "upright": a picture is not
 * refused for it. */
static uint8_t exif_orientation(struct rmk_bytes block)
{
    if (begins(block, 0, "Exif\0\0", 6)) { /* JPEG always has it, WebP sometimes */
        block.data += 6;
        block.size -= 6;
    }
    struct cursor cursor = {.bytes = block};
    bool little = begins(block, 0, "II", 2);
    uint32_t (*number)(struct cursor *, size_t) = little ? take_little : take_big;

    if (!little && !begins(block, 0, "MM", 2)) {
        return 1;
    }
    (void)take(&cursor, 2);
    if (number(&cursor, 2) != 42) {
        return 1;
    }
    uint32_t directory = number(&cursor, 4);
    cursor.at = directory < block.size ? directory : block.size;
    uint32_t entry_count = number(&cursor, 2);
    for (uint32_t i = 0; i < entry_count && !cursor.short_read; i++) {
        uint32_t tag = number(&cursor, 2);
        uint32_t type = number(&cursor, 2);
        uint32_t value_count = number(&cursor, 4);
        uint32_t value = number(&cursor, 2);
        (void)take(&cursor, 2);
        if (tag == 0x0112) {
            bool good = type == 3 && value_count == 1 && value >= 1 && value <= 8;
            return good && !cursor.short_read ? (uint8_t)value : 1;
        }
    }
    return 1;
}

enum {
    JPEG_TEM = 0x01,
    JPEG_SOF0 = 0xc0,
    JPEG_SOF1 = 0xc1,
    JPEG_SOF2 = 0xc2,
    JPEG_DHT = 0xc4,
    JPEG_JPG = 0xc8,
    JPEG_SOF9 = 0xc9,
    JPEG_SOF10 = 0xca,
    JPEG_DAC = 0xcc,
    JPEG_SOF15 = 0xcf,
    JPEG_RST0 = 0xd0,
    JPEG_RST7 = 0xd7,
    JPEG_SOI = 0xd8,
    JPEG_EOI = 0xd9,
    JPEG_SOS = 0xda,
    JPEG_APP1 = 0xe1,
};

static bool is_frame(uint32_t marker)
{
    return marker >= JPEG_SOF0 && marker <= JPEG_SOF15 && marker != JPEG_DHT &&
           marker != JPEG_JPG && marker != JPEG_DAC;
}

/* Junk between segments and fill bytes before a marker are skipped, as every decoder does. */
static uint32_t take_marker(struct cursor *cursor)
{
    uint32_t byte;

    do {
        do {
            byte = take_big(cursor, 1);
        } while (byte != 0xff && !cursor->short_read);
        do {
            byte = take_big(cursor, 1);
        } while (byte == 0xff && !cursor->short_read);
    } while (byte == 0 && !cursor->short_read); /* ff 00 is data */
    return byte;
}

static enum rmk_err read_frame(uint32_t marker, struct rmk_bytes segment, uint64_t pixels_max,
                               struct rmk_image_header *header, struct rmk_why *why)
{
    struct cursor cursor = {.bytes = segment};
    uint32_t bits = take_big(&cursor, 1);
    bool known = marker == JPEG_SOF0 || marker == JPEG_SOF1 || marker == JPEG_SOF2 ||
                 marker == JPEG_SOF9 || marker == JPEG_SOF10;

    header->size.height = take_big(&cursor, 2);
    header->size.width = take_big(&cursor, 2);
    uint32_t component_count = take_big(&cursor, 1);
    if (cursor.short_read || header->size.width == 0) {
        return rmk_fail(why, RMK_ECORRUPT, "image is a JPEG with a damaged frame header");
    }
    if (!known) {
        return rmk_fail(why, RMK_EUNSUPPORTED,
                        "image is a lossless or hierarchical JPEG, which is not read");
    }
    if (bits != 8) {
        return rmk_fail(why, RMK_EUNSUPPORTED, "image is a %u-bit JPEG, only 8-bit ones are read",
                        bits);
    }
    if (header->size.height == 0) {
        return rmk_fail(why, RMK_EUNSUPPORTED,
                        "image is a JPEG that gives its height at the end, which is not read");
    }
    if (component_count != 1 && component_count != 3 && component_count != 4) {
        return rmk_fail(why, RMK_EUNSUPPORTED,
                        "image is a JPEG of %u components, only 1, 3 and 4 are read",
                        component_count);
    }
    return check_size(header, pixels_max, why);
}

static enum rmk_err read_jpeg(struct rmk_bytes bytes, uint64_t pixels_max,
                              struct rmk_image_header *header, struct rmk_why *why)
{
    struct cursor cursor = {.bytes = bytes, .at = 2};
    bool have_frame = false;
    bool have_exif = false;
    enum rmk_err err = RMK_OK;

    for (;;) {
        uint32_t marker = take_marker(&cursor);
        if (marker == JPEG_TEM || (marker >= JPEG_RST0 && marker <= JPEG_RST7)) {
            continue; /* these stand alone */
        }
        if (marker == JPEG_SOS && have_frame) {
            break;
        }
        if (marker == JPEG_SOI || marker == JPEG_EOI || marker == JPEG_SOS) {
            err = rmk_fail(why, RMK_ECORRUPT, "image is a JPEG without a frame header");
            goto out;
        }
        uint32_t length = take_big(&cursor, 2);
        struct rmk_bytes segment = take(&cursor, length < 2 ? 0 : length - 2);
        if (cursor.short_read) {
            err = cut_short(RMK_FORMAT_JPEG, why);
            goto out;
        }
        if (length < 2 || (is_frame(marker) && have_frame)) {
            err = rmk_fail(why, RMK_ECORRUPT, "image is a JPEG with a damaged header");
            goto out;
        }
        if (is_frame(marker)) {
            RMK_TRY(read_frame(marker, segment, pixels_max, header, why));
            have_frame = true;
        } else if (marker == JPEG_APP1 && !have_exif && begins(segment, 0, "Exif\0\0", 6)) {
            header->orientation = exif_orientation(segment);
            have_exif = true;
        }
    }
out:
    return err;
}

static enum rmk_err read_png(struct rmk_bytes bytes, uint64_t pixels_max,
                             struct rmk_image_header *header, struct rmk_why *why)
{
    struct cursor cursor = {.bytes = bytes, .at = 8};
    bool have_exif = false;
    enum rmk_err err = RMK_OK;

    if (left(&cursor) < 25) {
        err = cut_short(RMK_FORMAT_PNG, why);
        goto out;
    }
    struct rmk_bytes first = take(&cursor, 8);
    header->size.width = take_big(&cursor, 4);
    header->size.height = take_big(&cursor, 4);
    (void)take(&cursor,
               5 + 4); /* depth, colour, methods; the checksum is the decoder's to look at */
    if (!begins(first, 0, "\0\0\0\rIHDR", 8) || header->size.width == 0 ||
        header->size.height == 0) {
        err = rmk_fail(why, RMK_ECORRUPT, "image is a PNG with a damaged header");
        goto out;
    }
    RMK_TRY(check_size(header, pixels_max, why));

    struct rmk_bytes type;
    do {
        uint32_t length = take_big(&cursor, 4);
        type = take(&cursor, 4);
        struct rmk_bytes data = take(&cursor, length);
        (void)take(&cursor, 4);
        if (cursor.short_read) {
            err = cut_short(RMK_FORMAT_PNG, why);
            goto out;
        }
        if (!have_exif && begins(type, 0, "eXIf", 4)) {
            header->orientation = exif_orientation(data);
            have_exif = true;
        }
    } while (!begins(type, 0, "IEND", 4));
out:
    return err;
}

/* Cuts the cursor to the RIFF container, so that what follows the picture is not looked at. */
static enum rmk_err enter_riff(struct rmk_bytes bytes, struct cursor *cursor, struct rmk_why *why)
{
    struct cursor riff = {.bytes = bytes, .at = 4};
    uint32_t length = take_little(&riff, 4);

    if (riff.short_read || length > left(&riff)) {
        return cut_short(RMK_FORMAT_WEBP, why);
    }
    *cursor = (struct cursor){.bytes = rmk_bytes_of(bytes.data, 8 + (size_t)length), .at = 12};
    if (length < 4 + 8) {
        return rmk_fail(why, RMK_ECORRUPT, "image is a WebP with a damaged header");
    }
    return RMK_OK;
}

/* The next chunk, false at the end. A last chunk that is cut short ends the walk. */
static bool take_chunk(struct cursor *cursor, struct rmk_bytes *out_type,
                       struct rmk_bytes *out_data)
{
    *out_type = take(cursor, 4);
    uint32_t length = take_little(cursor, 4);
    *out_data = take(cursor, length);
    if (cursor->short_read) {
        return false;
    }
    if (length % 2 == 1 && left(cursor) > 0) {
        (void)take(cursor, 1);
    }
    return true;
}

static bool read_webp_size(struct rmk_bytes type, struct rmk_bytes data,
                           struct rmk_image_header *header)
{
    struct cursor cursor = {.bytes = data};
    uint32_t bits;
    bool good = false;

    if (begins(type, 0, "VP8 ", 4)) {
        bits = take_little(&cursor, 3);
        good = (bits & 1) == 0 && take_big(&cursor, 3) == 0x9d012a;
        header->size.width = take_little(&cursor, 2) & 0x3fff;
        header->size.height = take_little(&cursor, 2) & 0x3fff;
    } else if (begins(type, 0, "VP8L", 4)) {
        good = take_little(&cursor, 1) == 0x2f;
        bits = take_little(&cursor, 4);
        header->size.width = 1 + (bits & 0x3fff);
        header->size.height = 1 + (bits >> 14 & 0x3fff);
    } else if (begins(type, 0, "VP8X", 4)) {
        good = true;
        header->animated = (take_little(&cursor, 1) & 2) != 0;
        (void)take(&cursor, 3);
        header->size.width = 1 + take_little(&cursor, 3);
        header->size.height = 1 + take_little(&cursor, 3);
    }
    return good && !cursor.short_read && header->size.width > 0 && header->size.height > 0;
}

static enum rmk_err read_webp(struct rmk_bytes bytes, uint64_t pixels_max,
                              struct rmk_image_header *header, struct rmk_why *why)
{
    struct cursor cursor = {.bytes = bytes, .at = 12};
    struct rmk_bytes type = take(&cursor, 4);
    struct rmk_bytes data;
    enum rmk_err err;

    /* The size stands so early that even a file cut short is refused for it first. */
    (void)take(&cursor, 4);
    data = take(&cursor, left(&cursor) < 10 ? left(&cursor) : 10);
    if (!read_webp_size(type, data, header)) {
        err = rmk_fail(why, RMK_ECORRUPT, "image is a WebP with a damaged header");
        goto out;
    }
    RMK_TRY(check_size(header, pixels_max, why));
    RMK_TRY(enter_riff(bytes, &cursor, why));
    while (take_chunk(&cursor, &type, &data)) {
        if (begins(type, 0, "EXIF", 4)) {
            header->orientation = exif_orientation(data);
            break;
        }
    }
out:
    return err;
}

static enum rmk_err refuse(struct rmk_bytes bytes, struct rmk_why *why)
{
    size_t blank = 0;

    while (blank < bytes.size && blank < 256 &&
           memchr(" \t\r\n\xef\xbb\xbf", bytes.data[blank], 7)) {
        blank++; /* text formats may begin with blanks or a byte order mark */
    }
    struct rmk_bytes text = rmk_bytes_of(bytes.data + blank, bytes.size - blank);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (begins(bytes, others[i].offset, others[i].magic, others[i].size) ||
            begins(text, others[i].offset, others[i].magic, others[i].size)) {
            return rmk_fail(why, RMK_EUNSUPPORTED,
                            "image is %s file, only JPEG, PNG and WebP are read", others[i].name);
        }
    }
    return rmk_fail(why, RMK_EUNSUPPORTED, "image is no JPEG, PNG or WebP file");
}

enum rmk_err rmk_image_header_read(struct rmk_bytes bytes, const struct rmk_image_limits *limits,
                                   struct rmk_image_header *out_header, struct rmk_why *why)
{
    struct rmk_image_header header = {.orientation = 1};
    uint64_t pixels_max = RMK_IMAGE_PIXELS_MAX;
    uint64_t bytes_max = RMK_IMAGE_BYTES_MAX;
    enum rmk_err err = RMK_OK;

    if (limits != NULL && limits->pixels_max > 0) {
        pixels_max = limits->pixels_max;
    }
    if (limits != NULL && limits->bytes_max > 0) {
        bytes_max = limits->bytes_max;
    }
    if (bytes.size == 0) {
        err = rmk_fail(why, RMK_EINVAL, "image has no bytes");
        goto out;
    }
    if (bytes.size > bytes_max) {
        err = rmk_fail(why, RMK_ELIMIT, "image has %zu bytes, at most %llu are read", bytes.size,
                       (unsigned long long)bytes_max);
        goto out;
    }
    if (begins(bytes, 0, "\xff\xd8\xff", 3)) {
        header.format = RMK_FORMAT_JPEG;
        RMK_TRY(read_jpeg(bytes, pixels_max, &header, why));
    } else if (begins(bytes, 0, "\x89PNG\r\n\x1a\n", 8)) {
        header.format = RMK_FORMAT_PNG;
        RMK_TRY(read_png(bytes, pixels_max, &header, why));
    } else if (begins(bytes, 0, "RIFF", 4) && begins(bytes, 8, "WEBP", 4)) {
        header.format = RMK_FORMAT_WEBP;
        RMK_TRY(read_webp(bytes, pixels_max, &header, why));
    } else {
        RMK_TRY(refuse(bytes, why));
    }
    *out_header = header;
out:
    return err;
}

struct rmk_size rmk_image_header_upright(const struct rmk_image_header *header)
{
    struct rmk_size size = header->size;

    if (header->orientation >= 5) {
        size = (struct rmk_size){header->size.height, header->size.width};
    }
    return size;
}

enum rmk_err rmk_image_header_webp_frame(struct rmk_bytes bytes,
                                         const struct rmk_image_header *header,
                                         struct rmk_webp_frame *out_frame, struct rmk_why *why)
{
    struct cursor cursor;
    struct rmk_bytes type;
    struct rmk_bytes data;
    enum rmk_err err;

    rmk_assert(header->format == RMK_FORMAT_WEBP);
    RMK_TRY(enter_riff(bytes, &cursor, why));
    if (!header->animated) {
        *out_frame = (struct rmk_webp_frame){.bytes = cursor.bytes, .size = header->size};
        goto out;
    }
    while (take_chunk(&cursor, &type, &data)) {
        struct cursor inner = {.bytes = data};
        struct rmk_webp_frame frame = {0};
        if (!begins(type, 0, "ANMF", 4)) {
            continue;
        }
        frame.x = 2 * take_little(&inner, 3);
        frame.y = 2 * take_little(&inner, 3);
        frame.size.width = 1 + take_little(&inner, 3);
        frame.size.height = 1 + take_little(&inner, 3);
        (void)take(&inner, 4); /* duration, blending: nothing lies below the first frame */
        frame.bytes = take(&inner, left(&inner));
        if (inner.short_read || frame.x + frame.size.width > header->size.width ||
            frame.y + frame.size.height > header->size.height) {
            break;
        }
        *out_frame = frame;
        goto out;
    }
    err = rmk_fail(why, RMK_ECORRUPT, "image is an animated WebP without a good first frame");
out:
    return err;
}
