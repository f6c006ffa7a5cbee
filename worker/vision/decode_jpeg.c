#include "worker/vision/decode_format.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

#include <jerror.h> /* after jpeglib.h, which says what this build of it supports */

/* A progressive file may announce any number of scans, each costing a walk over the whole picture
 * and a few bytes of file. Encoders in use write about ten. The walks are counted in pixels, so
 * that large pictures may have fewer. */
enum {
    SCANS_SURE = 16,
    SCANS_MAX = 64,
};
static const uint64_t scan_pixels_max = UINT64_C(1) << 30;

struct decoder {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf failed;
    enum rmk_err err;
    struct rmk_why *why;
    int scans_max;
    uint8_t *cmyk; /* one row of four components, or NULL */
};

/* Leaves libjpeg, which has no other way back from its depth. Only this file's frames and libjpeg's
 * are crossed, and everything that must be freed hangs on the decoder. */
static _Noreturn void leave(struct decoder *decoder)
{
    longjmp(decoder->failed, 1);
}

static void on_error(j_common_ptr jpeg)
{
    struct decoder *decoder = jpeg->client_data;

    if (jpeg->err->msg_code == JERR_OUT_OF_MEMORY) {
        decoder->err = rmk_fail(decoder->why, RMK_ELIMIT, "no memory to decode a JPEG");
    } else if (jpeg->err->msg_code == JERR_ARITH_NOTIMPL) {
        decoder->err =
            rmk_fail(decoder->why, RMK_EUNSUPPORTED, "image is an arithmetic-coded JPEG");
    } else {
        decoder->err = rmk_fail(decoder->why, RMK_ECORRUPT, "image is a damaged JPEG");
    }
    leave(decoder);
}

/* libjpeg paints over holes in the data and only warns. Such a picture is not what was sent: it is
 * refused. Warnings about things that leave every pixel in place (odd version numbers, junk between
 * segments) are passed over, since every viewer shows such files. */
static void on_message(j_common_ptr jpeg, int level)
{
    struct decoder *decoder = jpeg->client_data;

    if (level >= 0) {
        return;
    }
    switch (jpeg->err->msg_code) {
    case JWRN_HIT_MARKER:
    case JWRN_JPEG_EOF:
        decoder->err = rmk_fail(decoder->why, RMK_ECORRUPT, "image is a JPEG cut short");
        leave(decoder);
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
    case JWRN_MUST_RESYNC:
        decoder->err = rmk_fail(decoder->why, RMK_ECORRUPT, "image is a damaged JPEG");
        leave(decoder);
    default:
        break;
    }
}

static void on_progress(j_common_ptr jpeg)
{
    struct decoder *decoder = jpeg->client_data;

    if (decoder->jpeg.input_scan_number > decoder->scans_max) {
        decoder->err =
            rmk_fail(decoder->why, RMK_ELIMIT, "image is a JPEG of more than %d scans at %ux%u",
                     decoder->scans_max, decoder->jpeg.image_width, decoder->jpeg.image_height);
        leave(decoder);
    }
}

/* a*b/255, rounded, as Pillow computes it. */
static int scale255(int a, int b)
{
    int product = a * b + 128;

    return ((product >> 8) + product) >> 8;
}

/* The file holds inverted ink, as Adobe writes it: 255 is none. */
static void row_from_cmyk(const uint8_t *cmyk, uint8_t *rgb, uint32_t width)
{
    for (size_t x = 0; x < width; x++) {
        int white = cmyk[4 * x + 3]; /* 255 - K */
        for (size_t c = 0; c < 3; c++) {
            int ink = 255 - cmyk[4 * x + c];
            int value = white - scale255(ink, white);
            rgb[3 * x + c] = (uint8_t)(value < 0 ? 0 : value);
        }
    }
}

static int scans_allowed(struct rmk_size size)
{
    uint64_t scans = scan_pixels_max / ((uint64_t)size.width * size.height);

    return scans < SCANS_SURE ? SCANS_SURE : scans > SCANS_MAX ? SCANS_MAX : (int)scans;
}

/* Everything between setjmp and the end lives here, so that no local of the caller changes
 * meanwhile. */
static void decode(struct decoder *decoder, struct rmk_bytes bytes, struct rmk_picture *picture)
{
    struct jpeg_decompress_struct *jpeg = &decoder->jpeg;

    jpeg_create_decompress(jpeg);
    jpeg->progress = &decoder->progress;
    jpeg_mem_src(jpeg, bytes.data, bytes.size);
    (void)jpeg_read_header(jpeg, TRUE);
    if (jpeg->image_width != picture->size.width || jpeg->image_height != picture->size.height) {
        decoder->err = rmk_fail(decoder->why, RMK_ECORRUPT, "image is a JPEG with two sizes");
        leave(decoder);
    }
    jpeg->dct_method = JDCT_ISLOW;
    jpeg->do_fancy_upsampling = TRUE;
    jpeg->out_color_space = jpeg->num_components == 4 ? JCS_CMYK : JCS_RGB;
    (void)jpeg_start_decompress(jpeg);
    if (jpeg->num_components == 4) {
        decoder->cmyk = malloc(4 * (size_t)jpeg->output_width);
        if (decoder->cmyk == NULL) {
            decoder->err = rmk_fail(decoder->why, RMK_ELIMIT, "no memory to decode a JPEG");
            leave(decoder);
        }
    }
    while (jpeg->output_scanline < jpeg->output_height) {
        uint8_t *rgb = rmk_picture_row(picture, jpeg->output_scanline);
        JSAMPROW row = decoder->cmyk != NULL ? decoder->cmyk : rgb;
        (void)jpeg_read_scanlines(jpeg, &row, 1);
        if (decoder->cmyk != NULL) {
            row_from_cmyk(decoder->cmyk, rgb, picture->size.width);
        }
    }
    (void)jpeg_finish_decompress(jpeg);
}

enum rmk_err rmk_decode_jpeg(struct rmk_bytes bytes, const struct rmk_image_header *header,
                             struct rmk_picture *picture, struct rmk_why *why)
{
    struct decoder decoder = {
        .progress.progress_monitor = on_progress,
        .scans_max = scans_allowed(header->size),
        .why = why,
    };

    decoder.jpeg.err = jpeg_std_error(&decoder.errors);
    decoder.jpeg.client_data = &decoder;
    decoder.errors.error_exit = on_error;
    decoder.errors.emit_message = on_message;
    if (setjmp(decoder.failed) == 0) {
        decode(&decoder, bytes, picture);
    }
    jpeg_destroy_decompress(&decoder.jpeg);
    free(decoder.cmyk);
    return decoder.err;
}
