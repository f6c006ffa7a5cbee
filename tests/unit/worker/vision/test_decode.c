#include "worker/vision/decode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "tests/support/golden_hash.h"

static void expect_rgb(const char *folder, const json_t *entry)
{
    const char *file = json_string_value(json_object_get(entry, "file"));
    struct rmk_bytes bytes = golden_image(folder, file);
    struct rmk_picture picture = {0};
    struct rmk_why why = {0};

    if (rmk_decode(bytes, NULL, &picture, &why) != RMK_OK) {
        fail_msg("%s: %s", file, why.text);
    }
    assert_int_equal(picture.size.width, json_integer_value(json_object_get(entry, "width")));
    assert_int_equal(picture.size.height, json_integer_value(json_object_get(entry, "height")));
    golden_expect_hash(
        rmk_bytes_of(picture.pixels, rmk_picture_stride(&picture) * picture.size.height),
        json_object_get(entry, "rgb_sha256"), file, "rgb_sha256");
    rmk_picture_deinit(&picture);
    golden_image_free(bytes);
}

static void committed_pictures_decode_as_pillow_decodes_them(void **state)
{
    (void)state;
    golden_each_image(golden_committed, expect_rgb);
}

static void golden_pictures_decode_as_pillow_decodes_them(void **state)
{
    (void)state;
    char folder[4096];

    if (!golden_path(folder, sizeof(folder), "golden/images")) {
        skip();
    }
    golden_each_image(folder, expect_rgb);
}

static void orientation_is_applied_only_when_asked(void **state)
{
    (void)state;
    static const char *const files[] = {"exif6.jpg", "exif6.png", "exif6.webp"};
    struct rmk_decode_options options = {.upright = true};

    for (size_t i = 0; i < 3; i++) {
        struct rmk_bytes bytes = golden_image(golden_committed, files[i]);
        struct rmk_picture stored = {0};
        struct rmk_picture upright = {0};
        assert_int_equal(rmk_decode(bytes, NULL, &stored, NULL), RMK_OK);
        assert_int_equal(rmk_decode(bytes, &options, &upright, NULL), RMK_OK);
        assert_int_equal(stored.size.width, 21);
        assert_int_equal(upright.size.width, 13);
        assert_int_equal(upright.size.height, 21);
        /* Orientation 6: the stored picture's first column becomes the first row, read from below.
         */
        for (uint32_t x = 0; x < 13; x++) {
            assert_memory_equal(rmk_picture_row(&upright, 0) + 3 * x,
                                rmk_picture_row(&stored, 12 - x), 3);
        }
        rmk_picture_deinit(&stored);
        rmk_picture_deinit(&upright);
        golden_image_free(bytes);
    }
}

/* A copy of exactly `size` bytes, so that a sanitizer sees a read past the end. */
static enum rmk_err decode_copy(const uint8_t *data, size_t size, struct rmk_why *why)
{
    uint8_t *copy = malloc(size);
    struct rmk_picture picture = {0};
    enum rmk_err err;

    assert_true(copy != NULL || size == 0);
    if (size > 0) {
        memcpy(copy, data, size);
    }
    err = rmk_decode(rmk_bytes_of(copy, size), NULL, &picture, why);
    if (err != RMK_OK) {
        assert_null(picture.pixels);
    }
    rmk_picture_deinit(&picture);
    free(copy);
    return err;
}

static const char *const small[] = {
    "rgb16_interlaced.png", "palette2.png",  "one.png",       "exif6.jpg", "ycck.jpg",
    "exif6.webp",           "lossless.webp", "animated.webp",
};

static void a_file_cut_short_anywhere_is_refused(void **state)
{
    (void)state;

    for (size_t i = 0; i < sizeof(small) / sizeof(small[0]); i++) {
        struct rmk_bytes bytes = golden_image(golden_committed, small[i]);
        size_t step = bytes.size > 1600 ? 3 : 1;
        for (size_t size = 0; size < bytes.size; size += step) {
            struct rmk_why why = {0};
            if (decode_copy(bytes.data, size, &why) == RMK_OK) {
                fail_msg("%s: its first %zu bytes make a picture", small[i], size);
            }
            assert_memory_equal(why.text, "image ", 6);
        }
        golden_image_free(bytes);
    }
}

static void a_flipped_byte_anywhere_is_survived(void **state)
{
    (void)state;
    size_t refused = 0;

    for (size_t i = 0; i < sizeof(small) / sizeof(small[0]); i++) {
        struct rmk_bytes bytes = golden_image(golden_committed, small[i]);
        uint8_t *copy = malloc(bytes.size);
        assert_non_null(copy);
        size_t step = bytes.size > 1600 ? 5 : 1;
        for (size_t at = 0; at < bytes.size; at += step) {
            struct rmk_why why = {0};
            memcpy(copy, bytes.data, bytes.size);
            copy[at] ^= 0xff;
            if (decode_copy(copy, bytes.size, &why) != RMK_OK) {
                refused++;
                assert_true(why.text[0] != '\0');
            }
        }
        free(copy);
        golden_image_free(bytes);
    }
    assert_true(refused > 1000);
}

static void pixels_with_a_bad_checksum_are_refused(void **state)
{
    (void)state;
    struct rmk_bytes bytes = golden_image(golden_committed, "rgb.png");
    uint8_t *data = (uint8_t *)bytes.data;
    struct rmk_why why = {0};

    data[bytes.size - 13] ^= 1; /* the last byte before IEND's twelve: IDAT's checksum */
    assert_int_equal(decode_copy(data, bytes.size, &why), RMK_ECORRUPT);
    assert_string_equal(why.text, "image is a damaged PNG");
    golden_image_free(bytes);
}

static void limits_are_asked_before_memory_is_taken(void **state)
{
    (void)state;
    static const uint8_t png[200] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xff\xff\0\0\xff\xff\x08\2";
    struct rmk_bytes bytes = golden_image(golden_committed, "rgb.png");
    struct rmk_decode_options options = {.limits.pixels_max = 97 * 61 - 1};
    struct rmk_picture picture = {0};
    struct rmk_why why = {0};

    assert_int_equal(decode_copy(png, sizeof(png), &why), RMK_ELIMIT);
    assert_string_equal(why.text,
                        "image is 65535x65535, that is 4294836225 pixels of at most 67108864");
    assert_int_equal(rmk_decode(bytes, &options, &picture, &why), RMK_ELIMIT);
    assert_null(picture.pixels);
    options.limits.pixels_max = 97 * 61;
    assert_int_equal(rmk_decode(bytes, &options, &picture, &why), RMK_OK);
    rmk_picture_deinit(&picture);
    golden_image_free(bytes);
}

struct buffer {
    uint8_t *data;
    size_t size;
};

static void append(struct buffer *buffer, const void *data, size_t size)
{
    buffer->data = realloc(buffer->data, buffer->size + size);
    assert_non_null(buffer->data);
    memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
}

static void append_big(struct buffer *buffer, uint32_t value)
{
    uint8_t bytes[4] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8),
                        (uint8_t)value};

    append(buffer, bytes, 4);
}

/* The checksum of the PNG specification, annex D. */
static uint32_t crc(const uint8_t *data, size_t size)
{
    uint32_t value = UINT32_MAX;

    for (size_t i = 0; i < size; i++) {
        value ^= data[i];
        for (int bit = 0; bit < 8; bit++) {
            value = value & 1 ? value >> 1 ^ 0xedb88320u : value >> 1;
        }
    }
    return ~value;
}

static void append_chunk(struct buffer *buffer, const char *type, const uint8_t *data, size_t size)
{
    append_big(buffer, (uint32_t)size);
    size_t begin = buffer->size;
    append(buffer, type, 4);
    append(buffer, data, size);
    append_big(buffer, crc(buffer->data + begin, 4 + size));
}

/* Data that no inflate accepts stands for data that inflates to gigabytes: whoever touched it would
 * complain. */
static void compressed_chunks_beside_the_pixels_are_not_inflated(void **state)
{
    (void)state;
    static const uint8_t profile[] = "name\0\0not compressed at all";
    static const char *const types[] = {"iCCP", "zTXt", "iTXt", "tRNS", "sPLT", "acTL", "fcTL"};
    struct rmk_bytes bytes = golden_image(golden_committed, "rgb.png");
    struct rmk_picture plain = {0};
    struct rmk_picture laden = {0};
    struct buffer buffer = {0};

    append(&buffer, bytes.data, 8 + 25);
    for (size_t i = 0; i < 700; i++) {
        append_chunk(&buffer, types[i % 7], profile, sizeof(profile));
    }
    append(&buffer, bytes.data + 8 + 25, bytes.size - 8 - 25);
    assert_int_equal(rmk_decode(bytes, NULL, &plain, NULL), RMK_OK);
    assert_int_equal(rmk_decode(rmk_bytes_of(buffer.data, buffer.size), NULL, &laden, NULL),
                     RMK_OK);
    assert_memory_equal(plain.pixels, laden.pixels, rmk_picture_stride(&plain) * 61);
    rmk_picture_deinit(&plain);
    rmk_picture_deinit(&laden);
    free(buffer.data);
    golden_image_free(bytes);
}

static size_t find_marker(struct rmk_bytes bytes, size_t from, uint8_t marker)
{
    for (size_t i = from; i + 1 < bytes.size; i++) {
        if (bytes.data[i] == 0xff && bytes.data[i + 1] == marker) {
            return i;
        }
    }
    fail_msg("no marker %02x", marker);
    return 0;
}

static void a_progressive_jpeg_of_many_scans_is_refused(void **state)
{
    (void)state;
    struct rmk_bytes bytes = golden_image(golden_committed, "444_progressive.jpg");
    size_t begin = find_marker(bytes, 0, 0xda);
    size_t end = find_marker(bytes, begin, 0xc4); /* the next scan's table ends the first scan */
    struct rmk_why why = {0};

    for (size_t copies = 2; copies <= 200; copies *= 10) {
        struct buffer buffer = {0};
        append(&buffer, bytes.data, begin);
        for (size_t i = 0; i < copies; i++) {
            append(&buffer, bytes.data + begin, end - begin);
        }
        append(&buffer, bytes.data + end, bytes.size - end);
        enum rmk_err err = decode_copy(buffer.data, buffer.size, &why);
        assert_int_equal(err, copies < 50 ? RMK_OK : RMK_ELIMIT);
        free(buffer.data);
    }
    assert_string_equal(why.text, "image is a JPEG of more than 64 scans at 53x120");
    golden_image_free(bytes);
}

static void bytes_after_the_picture_are_ignored(void **state)
{
    (void)state;
    static const char *const files[] = {"grey.png", "grey.jpg", "lossy.webp"};

    for (size_t i = 0; i < 3; i++) {
        struct rmk_bytes bytes = golden_image(golden_committed, files[i]);
        struct buffer buffer = {0};
        append(&buffer, bytes.data, bytes.size);
        append(&buffer, "trailing", 8);
        assert_int_equal(decode_copy(buffer.data, buffer.size, NULL), RMK_OK);
        free(buffer.data);
        golden_image_free(bytes);
    }
}

static void other_formats_are_refused_by_their_first_bytes(void **state)
{
    (void)state;
    struct rmk_why why = {0};

    assert_int_equal(decode_copy((const uint8_t *)"GIF89a\1\0\1\0", 10, &why), RMK_EUNSUPPORTED);
    assert_string_equal(why.text, "image is a GIF file, only JPEG, PNG and WebP are read");
    assert_int_equal(decode_copy((const uint8_t *)"hello", 5, &why), RMK_EUNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(committed_pictures_decode_as_pillow_decodes_them),
        cmocka_unit_test(golden_pictures_decode_as_pillow_decodes_them),
        cmocka_unit_test(orientation_is_applied_only_when_asked),
        cmocka_unit_test(a_file_cut_short_anywhere_is_refused),
        cmocka_unit_test(a_flipped_byte_anywhere_is_survived),
        cmocka_unit_test(pixels_with_a_bad_checksum_are_refused),
        cmocka_unit_test(limits_are_asked_before_memory_is_taken),
        cmocka_unit_test(compressed_chunks_beside_the_pixels_are_not_inflated),
        cmocka_unit_test(a_progressive_jpeg_of_many_scans_is_refused),
        cmocka_unit_test(bytes_after_the_picture_are_ignored),
        cmocka_unit_test(other_formats_are_refused_by_their_first_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
