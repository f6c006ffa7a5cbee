#include "model/image_header.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static enum rmk_err read_literal(const char *bytes, size_t size, struct rmk_image_header *header,
                                 struct rmk_why *why)
{
    /* An exact copy, so that a sanitizer sees the first byte read past the end. */
    uint8_t *copy = malloc(size);
    enum rmk_err err;

    assert_true(copy != NULL || size == 0);
    if (size > 0) {
        memcpy(copy, bytes, size);
    }
    err = rmk_image_header_read(rmk_bytes_of(copy, size), NULL, header, why);
    free(copy);
    return err;
}

#define READ(literal, header, why) read_literal(literal, sizeof(literal) - 1, header, why)

/* Headers are written out by hand: what a parser accepts must not depend on an encoder. */
#define PNG_BEGIN   "\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
#define PNG_REST    "\x08\x02\0\0\0crc0"
#define PNG_END     "\0\0\0\0IENDcrc0"
#define EXIF_LITTLE "II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
#define EXIF_BIG    "MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0\0\0\0\0"
#define JPEG_FRAME  "\xff\xc0\0\x11\x08\0\x20\0\x30\x03\x01\x11\0\x02\x11\0\x03\x11\0"
#define JPEG_SCAN   "\xff\xda\0\x08\x01\x01\0\0\x3f\0"

static void png_size_is_read(void **state)
{
    (void)state;
    struct rmk_image_header header;

    assert_int_equal(READ(PNG_BEGIN "\0\0\x01\x02\0\0\0\x07" PNG_REST PNG_END, &header, NULL),
                     RMK_OK);
    assert_int_equal(header.format, RMK_FORMAT_PNG);
    assert_int_equal(header.size.width, 258);
    assert_int_equal(header.size.height, 7);
    assert_int_equal(header.orientation, 1);
}

static void png_orientation_may_follow_the_pixels(void **state)
{
    (void)state;
    struct rmk_image_header header;

    assert_int_equal(READ(PNG_BEGIN "\0\0\0\x02\0\0\0\x07" PNG_REST "\0\0\0\x01IDAT\0crc0"
                                    "\0\0\0\x1a"
                                    "eXIf" EXIF_LITTLE "crc0" PNG_END,
                          &header, NULL),
                     RMK_OK);
    assert_int_equal(header.orientation, 6);
    assert_int_equal(rmk_image_header_upright(&header).width, 7);
    assert_int_equal(rmk_image_header_upright(&header).height, 2);
}

static void jpeg_size_and_orientation_are_read(void **state)
{
    (void)state;
    struct rmk_image_header header;

    assert_int_equal(READ("\xff\xd8\xff\xe1\0\x22"
                          "Exif\0\0" EXIF_BIG JPEG_FRAME JPEG_SCAN,
                          &header, NULL),
                     RMK_OK);
    assert_int_equal(header.format, RMK_FORMAT_JPEG);
    assert_int_equal(header.size.width, 48);
    assert_int_equal(header.size.height, 32);
    assert_int_equal(header.orientation, 8);
}

static void jpeg_fill_bytes_and_junk_between_segments_are_skipped(void **state)
{
    (void)state;
    struct rmk_image_header header;

    assert_int_equal(READ("\xff\xd8\xff\xff\xff\xe0\0\x03x"
                          "junk\xff\0"
                          "\xff\x01\xff\xd0" JPEG_FRAME JPEG_SCAN,
                          &header, NULL),
                     RMK_OK);
    assert_int_equal(header.size.width, 48);
}

static void webp_sizes_of_all_three_kinds_are_read(void **state)
{
    (void)state;
    struct rmk_image_header header;

    assert_int_equal(
        READ("RIFF\x16\0\0\0WEBPVP8 \x0a\0\0\0\x10\0\0\x9d\x01\x2a\x40\x01\xf0\x40", &header, NULL),
        RMK_OK);
    assert_int_equal(header.format, RMK_FORMAT_WEBP);
    assert_int_equal(header.size.width, 320);
    assert_int_equal(header.size.height, 240); /* the upper two bits are a scale, not size */
    assert_int_equal(READ("RIFF\x12\0\0\0WEBPVP8L\x05\0\0\0\x2f\x02\xc0\0\0\0", &header, NULL),
                     RMK_OK);
    assert_int_equal(header.size.width, 3);
    assert_int_equal(header.size.height, 4);
    assert_int_equal(READ("RIFF\x38\0\0\0WEBPVP8X\x0a\0\0\0\x0a\0\0\0\x04\0\0\x05\0\0"
                          "EXIF\x1a\0\0\0" EXIF_LITTLE,
                          &header, NULL),
                     RMK_OK);
    assert_int_equal(header.size.width, 5);
    assert_int_equal(header.size.height, 6);
    assert_true(header.animated);
    assert_int_equal(header.orientation, 6);
}

static void an_enormous_picture_in_a_few_bytes_is_refused_by_its_header(void **state)
{
    (void)state;
    struct rmk_image_header header;
    struct rmk_why why = {0};

    assert_int_equal(READ(PNG_BEGIN "\0\0\xff\xff\0\0\xff\xff" PNG_REST, &header, &why),
                     RMK_ELIMIT);
    assert_string_equal(why.text,
                        "image is 65535x65535, that is 4294836225 pixels of at most 67108864");
    assert_int_equal(READ("\xff\xd8\xff\xc2\0\x11\x08\xff\xff\xff\xff\x03", &header, &why),
                     RMK_ECORRUPT); /* not even its frame header is whole */
    assert_int_equal(
        READ("\xff\xd8\xff\xc2\0\x11\x08\xff\xff\xff\xff\x03\x01\x11\0\x02\x11\0\x03\x11\0",
             &header, &why),
        RMK_ELIMIT);
    assert_int_equal(
        READ("RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xfe\xff\0\xfe\xff\0", &header, &why),
        RMK_ELIMIT);
    assert_int_equal(READ(PNG_BEGIN "\0\x01\0\0\0\0\0\x01" PNG_REST, &header, &why), RMK_ELIMIT);
    assert_string_equal(why.text, "image is 65536x1, a side may have at most 65535 pixels");
}

static void limits_of_the_caller_are_kept(void **state)
{
    (void)state;
    static const char png[] = PNG_BEGIN "\0\0\0\x0a\0\0\0\x0a" PNG_REST PNG_END;
    struct rmk_bytes bytes = rmk_bytes_of(png, sizeof(png) - 1);
    struct rmk_image_limits limits = {.pixels_max = 100, .bytes_max = bytes.size};
    struct rmk_image_header header;
    struct rmk_why why = {0};

    assert_int_equal(rmk_image_header_read(bytes, &limits, &header, &why), RMK_OK);
    limits.pixels_max = 99;
    assert_int_equal(rmk_image_header_read(bytes, &limits, &header, &why), RMK_ELIMIT);
    assert_string_equal(why.text, "image is 10x10, that is 100 pixels of at most 99");
    limits = (struct rmk_image_limits){.bytes_max = bytes.size - 1};
    assert_int_equal(rmk_image_header_read(bytes, &limits, &header, &why), RMK_ELIMIT);
    assert_string_equal(why.text, "image has 45 bytes, at most 44 are read");
}

static const struct {
    const char *bytes;
    size_t size;
    enum rmk_err err;
    const char *sentence;
} refused[] = {
#define CASE(bytes, err, sentence)                                                                 \
    {                                                                                              \
        bytes, sizeof(bytes) - 1, err, sentence                                                    \
    }
    CASE("", RMK_EINVAL, "image has no bytes"),
    CASE("x", RMK_EUNSUPPORTED, "image is no JPEG, PNG or WebP file"),
    CASE("GIF89a", RMK_EUNSUPPORTED, "image is a GIF file, only JPEG, PNG and WebP are read"),
    CASE("II*\0xxxx", RMK_EUNSUPPORTED, "image is a TIFF file, only JPEG, PNG and WebP are read"),
    CASE("BMxx", RMK_EUNSUPPORTED, "image is a BMP file, only JPEG, PNG and WebP are read"),
    CASE("%PDF-1.7", RMK_EUNSUPPORTED, "image is a PDF file, only JPEG, PNG and WebP are read"),
    CASE("\xef\xbb\xbf \n<svg ", RMK_EUNSUPPORTED,
         "image is an SVG file, only JPEG, PNG and WebP are read"),
    CASE("\0\0\0\x20"
         "ftypheic",
         RMK_EUNSUPPORTED, "image is a HEIC or MP4 file, only JPEG, PNG and WebP are read"),
    CASE("RIFF\0\0\0\0AVI ", RMK_EUNSUPPORTED,
         "image is an AVI or WAV file, only JPEG, PNG and WebP are read"),
    CASE("\xff\xd8\xff", RMK_ECORRUPT, "image is a JPEG cut short"),
    CASE("\xff\xd8\xff\xe0\0\xff", RMK_ECORRUPT, "image is a JPEG cut short"),
    CASE("\xff\xd8\xff\xe0\0\x01", RMK_ECORRUPT, "image is a JPEG with a damaged header"),
    CASE("\xff\xd8\xff\xd9", RMK_ECORRUPT, "image is a JPEG without a frame header"),
    CASE("\xff\xd8" JPEG_SCAN, RMK_ECORRUPT, "image is a JPEG without a frame header"),
    CASE("\xff\xd8" JPEG_FRAME JPEG_FRAME JPEG_SCAN, RMK_ECORRUPT,
         "image is a JPEG with a damaged header"),
    CASE("\xff\xd8\xff\xc0\0\x08\x08\0\x20\0\0\x03", RMK_ECORRUPT,
         "image is a JPEG with a damaged frame header"),
    CASE("\xff\xd8\xff\xc0\0\x08\x08\0\0\0\x20\x03", RMK_EUNSUPPORTED,
         "image is a JPEG that gives its height at the end, which is not read"),
    CASE("\xff\xd8\xff\xc1\0\x08\x0c\0\x20\0\x20\x03", RMK_EUNSUPPORTED,
         "image is a 12-bit JPEG, only 8-bit ones are read"),
    CASE("\xff\xd8\xff\xc3\0\x08\x08\0\x20\0\x20\x03", RMK_EUNSUPPORTED,
         "image is a lossless or hierarchical JPEG, which is not read"),
    CASE("\xff\xd8\xff\xc0\0\x08\x08\0\x20\0\x20\x02", RMK_EUNSUPPORTED,
         "image is a JPEG of 2 components, only 1, 3 and 4 are read"),
    CASE(PNG_BEGIN, RMK_ECORRUPT, "image is a PNG cut short"),
    CASE(PNG_BEGIN "\0\0\0\x01\0\0\0\x01" PNG_REST, RMK_ECORRUPT, "image is a PNG cut short"),
    CASE(PNG_BEGIN "\0\0\0\x01\0\0\0\x01" PNG_REST "\xff\xff\xff\xffIEND", RMK_ECORRUPT,
         "image is a PNG cut short"),
    CASE(PNG_BEGIN "\0\0\0\0\0\0\0\x01" PNG_REST PNG_END, RMK_ECORRUPT,
         "image is a PNG with a damaged header"),
    CASE("\x89PNG\r\n\x1a\n\0\0\0\rIDAT\0\0\0\x01\0\0\0\x01" PNG_REST, RMK_ECORRUPT,
         "image is a PNG with a damaged header"),
    CASE("RIFF\0\0\0\0WEBP", RMK_ECORRUPT, "image is a WebP with a damaged header"),
    CASE("RIFF\xff\0\0\0WEBPVP8L\x05\0\0\0\x2f\x02\xc0\0\0\0", RMK_ECORRUPT,
         "image is a WebP cut short"),
    CASE("RIFF\x04\0\0\0WEBPVP8L\x05\0\0\0\x2f\x02\xc0\0\0\0", RMK_ECORRUPT,
         "image is a WebP with a damaged header"),
    CASE("RIFF\x12\0\0\0WEBPVP8L\x05\0\0\0\x2e\x02\xc0\0\0\0", RMK_ECORRUPT,
         "image is a WebP with a damaged header"),
    CASE("RIFF\x16\0\0\0WEBPVP8 \x0a\0\0\0\x11\0\0\x9d\x01\x2a\x40\x01\xf0\0", RMK_ECORRUPT,
         "image is a WebP with a damaged header"),
#undef CASE
};

static void what_is_refused_is_named(void **state)
{
    (void)state;

    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        struct rmk_image_header header = {.orientation = 77};
        struct rmk_why why = {0};
        enum rmk_err err = read_literal(refused[i].bytes, refused[i].size, &header, &why);
        assert_string_equal(why.text, refused[i].sentence);
        assert_int_equal(err, refused[i].err);
        assert_int_equal(header.orientation, 77); /* untouched on failure */
    }
}

static void a_damaged_exif_block_means_upright(void **state)
{
    (void)state;
    static const char jpeg[] = "\xff\xd8\xff\xe1\0\x22"
                               "Exif\0\0" EXIF_BIG JPEG_FRAME JPEG_SCAN;
    struct rmk_image_header header;

    for (size_t at = 12; at < 12 + sizeof(EXIF_BIG) - 1; at++) {
        for (int value = 0; value < 256; value += 51) {
            uint8_t copy[sizeof(jpeg) - 1];
            memcpy(copy, jpeg, sizeof(copy));
            copy[at] = (uint8_t)value;
            assert_int_equal(
                rmk_image_header_read(rmk_bytes_of(copy, sizeof(copy)), NULL, &header, NULL),
                RMK_OK);
            assert_in_range(header.orientation, 1, 8);
        }
    }
    /* 9 is no orientation. */
    assert_int_equal(
        READ("\xff\xd8\xff\xe1\0\x22"
             "Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0\0\0\0\0" JPEG_FRAME
                 JPEG_SCAN,
             &header, NULL),
        RMK_OK);
    assert_int_equal(header.orientation, 1);
}

#define VP8X_ANIMATED "WEBPVP8X\x0a\0\0\0\x02\0\0\0\x3f\0\0\x31\0\0"

static void the_first_frame_of_an_animation_is_found(void **state)
{
    (void)state;
    static const char webp[] = "RIFF\x48\0\0\0" VP8X_ANIMATED "ANIM\x06\0\0\0\0\0\0\0\0\0"
                               "ANMF\x14\0\0\0\x04\0\0\x03\0\0\x1d\0\0\x13\0\0\0\0\0\0ABCD"
                               "junk\0\0\0\0after the container";
    struct rmk_bytes bytes = rmk_bytes_of(webp, sizeof(webp) - 1);
    struct rmk_image_header header;
    struct rmk_webp_frame frame = {0};

    assert_int_equal(rmk_image_header_read(bytes, NULL, &header, NULL), RMK_OK);
    assert_true(header.animated);
    assert_int_equal(rmk_image_header_webp_frame(bytes, &header, &frame, NULL), RMK_OK);
    assert_int_equal(frame.x, 8);
    assert_int_equal(frame.y, 6);
    assert_int_equal(frame.size.width, 30);
    assert_int_equal(frame.size.height, 20);
    assert_true(rmk_bytes_equal(frame.bytes, rmk_bytes_text("ABCD")));
}

static void a_frame_outside_its_canvas_is_refused(void **state)
{
    (void)state;
    static const char webp[] =
        "RIFF\x2e\0\0\0" VP8X_ANIMATED "ANMF\x10\0\0\0\x04\0\0\x10\0\0\x1d\0\0\x13\0\0\0\0\0\0";
    struct rmk_bytes bytes = rmk_bytes_of(webp, sizeof(webp) - 1);
    struct rmk_image_header header;
    struct rmk_webp_frame frame = {0};
    struct rmk_why why = {0};

    assert_int_equal(rmk_image_header_read(bytes, NULL, &header, NULL), RMK_OK);
    assert_int_equal(rmk_image_header_webp_frame(bytes, &header, &frame, &why), RMK_ECORRUPT);
    assert_string_equal(why.text, "image is an animated WebP without a good first frame");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(png_size_is_read),
        cmocka_unit_test(png_orientation_may_follow_the_pixels),
        cmocka_unit_test(jpeg_size_and_orientation_are_read),
        cmocka_unit_test(jpeg_fill_bytes_and_junk_between_segments_are_skipped),
        cmocka_unit_test(webp_sizes_of_all_three_kinds_are_read),
        cmocka_unit_test(an_enormous_picture_in_a_few_bytes_is_refused_by_its_header),
        cmocka_unit_test(limits_of_the_caller_are_kept),
        cmocka_unit_test(what_is_refused_is_named),
        cmocka_unit_test(a_damaged_exif_block_means_upright),
        cmocka_unit_test(the_first_frame_of_an_animation_is_found),
        cmocka_unit_test(a_frame_outside_its_canvas_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
