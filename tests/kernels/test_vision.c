#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness.h"
#include "kernels/convert.h"

static void patches_body(struct pair *pair)
{
    static const uint32_t tiles[][2] = {{56, 14}, {72, 14}, {28, 28}, {5, 1}, {9, 4}};

    for (size_t i = 0; i < sizeof(tiles) / sizeof(tiles[0]); i++) {
        uint32_t tile = tiles[i][0];
        uint32_t patch = tiles[i][1];
        uint32_t side = tile / patch;
        uint8_t *pixels = malloc((size_t)3 * tile * tile * 3);
        assert_non_null(pixels);
        for (size_t p = 0; p < (size_t)3 * tile * tile * 3; p++) {
            pixels[p] = (uint8_t)random_bits(pair);
        }
        struct array y = array_zero(pair, pair->act, (size_t)3 * side * side * 3 * patch * patch);
        CHECK(pair->ref->ops->patches(pair->ref, pixels, 3, tile, patch, y.ref));
        CHECK(pair->device->ops->patches(pair->device, pixels, 3, tile, patch, y.device));
        for (size_t e = 0; e < y.count; e++) {
            y.ref[e] = rounded(pair->act, y.ref[e]);
        }
        expect_close(pair, "patches", &y, EXACT, 0);
        free(pixels);
    }
}

static void patches_are_exact_and_ignore_pixels_beyond_the_grid(void **state)
{
    (void)state;
    for_each_act(patches_body);
}

/* One coloured pixel must come out at its (channel, y, x) column of its patch's row. */
static void place_body(struct pair *pair)
{
    enum { TILE = 6, PATCH = 2, SIDE = 3 };
    uint8_t pixels[TILE * TILE * 3] = {0};

    pixels[(3 * TILE + 4) * 3 + 1] = 255; /* y 3, x 4, green */
    struct array y = array_zero(pair, pair->act, SIDE * SIDE * 3 * PATCH * PATCH);
    CHECK(pair->device->ops->patches(pair->device, pixels, 1, TILE, PATCH, y.device));
    float *got = array_download(pair, &y);
    for (size_t i = 0; i < y.count; i++) {
        bool here = i == (size_t)(1 * SIDE + 2) * 12 + 1 * 4 + 1 * 2 + 0;
        assert_true(got[i] == (here ? 1.0F : -1.0F));
    }
    free(got);
}

static void a_pixel_lands_in_its_patch_and_column(void **state)
{
    (void)state;
    for_each_act(place_body);
}

static void bilinear_body(struct pair *pair)
{
    static const uint32_t sizes[][5] = {{27, 27, 14, 14, 40},
                                        {1, 1, 3, 2, 5},
                                        {54, 81, 40, 60, 17},
                                        {5, 4, 2, 1, 3},
                                        {3, 13, 9, 20, 16}};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint32_t h = sizes[i][0];
        uint32_t w = sizes[i][1];
        uint32_t oh = sizes[i][2];
        uint32_t ow = sizes[i][3];
        uint32_t c = sizes[i][4];
        uint64_t x_ld = (uint64_t)(w + 2) * c; /* a window of a wider map, into rows with a gap */
        uint64_t y_ld = (uint64_t)(ow + 1) * c;
        struct array x = array_f32(pair, h * x_ld, 2.0F);
        struct array y = array_f32(pair, oh * y_ld, 0.0F);
        CHECK(pair->ref->ops->bilinear(pair->ref, x.ref, h, w, x_ld, y.ref, oh, ow, y_ld, c));
        CHECK(pair->device->ops->bilinear(pair->device, x.device, h, w, x_ld, y.device, oh, ow,
                                          y_ld, c));
        expect_close(pair, "bilinear", &y, POINTWISE, 0);
    }
}

static void bilinear_equals_ref_and_leaves_the_gap_alone(void **state)
{
    (void)state;
    for_each_act(bilinear_body);
}

static void pool_body(struct pair *pair)
{
    static const uint32_t sizes[][3] = {{27, 27, 9}, {2, 2, 1}, {5, 8, 33}, {1, 4, 3}};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint32_t h = sizes[i][0];
        uint32_t w = sizes[i][1];
        uint32_t c = sizes[i][2];
        for (int maximum = 0; maximum < 2; maximum++) {
            struct array x = array_f32(pair, (size_t)h * w * c, 2.0F);
            struct array y = array_zero(pair, RMK_F32, (size_t)(h / 2) * (w / 2) * c);
            CHECK(pair->ref->ops->pool2x2(pair->ref, x.ref, h, w, y.ref, c, maximum == 1));
            CHECK(pair->device->ops->pool2x2(pair->device, x.device, h, w, y.device, c,
                                             maximum == 1));
            expect_close(pair, "pool2x2", &y, maximum == 1 ? EXACT : POINTWISE, 0);
        }
    }
}

static void pool2x2_equals_ref_and_drops_odd_edges(void **state)
{
    (void)state;
    for_each_act(pool_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patches_are_exact_and_ignore_pixels_beyond_the_grid),
        cmocka_unit_test(a_pixel_lands_in_its_patch_and_column),
        cmocka_unit_test(bilinear_equals_ref_and_leaves_the_gap_alone),
        cmocka_unit_test(pool2x2_equals_ref_and_drops_odd_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
