#include "worker/vision/decode_format.h"

#include <setjmp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

struct decoder {
    png_structp png;
    png_infop info;
    struct rmk_bytes input;
    size_t at;
    uint8_t **rows;
    enum rmk_err err;
    struct rmk_why *why;
};

/* libpng gives its reasons as text that may name its internals: none of it is passed on. */
static void on_error(png_structp png, png_const_charp text)
{
    struct decoder *decoder = png_get_error_ptr(png);

    (void)text;
    if (decoder->err == RMK_OK) {
        decoder->err = rmk_fail(decoder->why, RMK_ECORRUPT, "image is a damaged PNG");
    }
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void on_read(png_structp png, png_bytep out, size_t size)
{
    struct decoder *decoder = png_get_io_ptr(png);

    if (size > decoder->input.size - decoder->at) {
        decoder->err = rmk_fail(decoder->why, RMK_ECORRUPT, "image is a PNG cut short");
        png_error(png, "");
    }
    memcpy(out, decoder->input.data + decoder->at, size);
    decoder->at += size;
}

/* A row of big-endian 16-bit grey becomes RGB in place; from the end, since it grows. Pillow clips
 * such pictures rather than scaling them, so that most come out nearly white. */
static void row_from_grey16(uint8_t *row, uint32_t width)
{
    for (size_t x = width; x-- > 0;) {
        uint8_t value = row[2 * x] != 0 ? 255 : row[2 * x + 1];
        row[3 * x] = value;
        row[3 * x + 1] = value;
        row[3 * x + 2] = value;
    }
}

/* Everything between setjmp and the end lives here, so that no local of the caller changes
 * meanwhile. */
static void decode(struct decoder *decoder, struct rmk_picture *picture)
{
    png_structp png = decoder->png;
    png_infop info = decoder->info;

    png_set_read_fn(png, decoder, on_read);
    /* Profiles, texts and all else that is not pixels is passed over unread: nothing of it is
     * inflated. Transparency has to be named, the -1 leaves it in. */
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, (png_const_bytep) "tRNS", 1);
    png_set_check_for_invalid_index(png,
                                    0); /* beyond the palette is black, for Pillow as for libpng */
    png_set_user_limits(png, RMK_IMAGE_SIDE_MAX, RMK_IMAGE_SIDE_MAX);
    png_read_info(png, info);
    if (png_get_image_width(png, info) != picture->size.width ||
        png_get_image_height(png, info) != picture->size.height) {
        png_error(png, "");
    }
    bool grey16 =
        png_get_color_type(png, info) == PNG_COLOR_TYPE_GRAY && png_get_bit_depth(png, info) == 16;
    if (!grey16) {
        png_set_strip_16(png);
        png_set_expand_gray_1_2_4_to_8(png);
        if (png_get_color_type(png, info) == PNG_COLOR_TYPE_PALETTE) {
            png_set_palette_to_rgb(png);
        }
        png_set_gray_to_rgb(png);
        png_set_strip_alpha(png);
    }
    (void)png_set_interlace_handling(png);
    png_read_update_info(png, info);
    if (png_get_rowbytes(png, info) != (size_t)picture->size.width * (grey16 ? 2 : 3)) {
        png_error(png, "");
    }
    png_read_image(png, decoder->rows);
    png_read_end(png, NULL);
    for (uint32_t y = 0; grey16 && y < picture->size.height; y++) {
        row_from_grey16(decoder->rows[y], picture->size.width);
    }
}

enum rmk_err rmk_decode_png(struct rmk_bytes bytes, const struct rmk_image_header *header,
                            struct rmk_picture *picture, struct rmk_why *why)
{
    struct decoder decoder = {.input = bytes, .why = why};

    decoder.rows = malloc(header->size.height * sizeof(*decoder.rows));
    decoder.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &decoder, on_error, on_warning);
    if (decoder.png != NULL) {
        decoder.info = png_create_info_struct(decoder.png);
    }
    if (decoder.rows == NULL || decoder.info == NULL) {
        decoder.err = rmk_fail(why, RMK_ELIMIT, "no memory to decode a PNG");
        goto out;
    }
    for (uint32_t y = 0; y < header->size.height; y++) {
        decoder.rows[y] = rmk_picture_row(picture, y);
    }
    if (setjmp(png_jmpbuf(decoder.png)) == 0) {
        decode(&decoder, picture);
    }
out:
    png_destroy_read_struct(&decoder.png, &decoder.info, NULL);
    free(decoder.rows);
    return decoder.err;
}
