#include "worker/vision/resample.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/vision/resample_kernel.h"

static uint64_t noise = 1;

static uint8_t next_byte(void)
{
    noise = noise * 6364136223846793005u + 1442695040888963407u;
    return (uint8_t)(noise >> 56);
}

/* Noise with whole stretches of black and white, whose edges make bicubic overshoot and clip. */
static struct rmk_picture make_picture(uint32_t width, uint32_t height)
{
    struct rmk_picture picture = {0};

    assert_int_equal(rmk_picture_init(&picture, (struct rmk_size){width, height}, NULL), RMK_OK);
    for (size_t i = 0; i < rmk_picture_stride(&picture) * height; i++) {
        uint8_t byte = next_byte();
        picture.pixels[i] = byte < 40 ? 0 : byte > 215 ? 255 : next_byte();
    }
    return picture;
}

static uint8_t *resample(const struct rmk_resample_kernel *kernel, const struct rmk_canvas *canvas,
                         struct rmk_size target, struct rmk_window window)
{
    size_t stride = (size_t)window.size.width * 3;
    uint8_t *out = malloc(stride * window.size.height); /* exact: overruns must show */

    assert_non_null(out);
    assert_int_equal(rmk_resample_with(kernel, canvas, target, window, out, stride, NULL), RMK_OK);
    return out;
}

static struct rmk_canvas plain(const struct rmk_picture *picture)
{
    return (struct rmk_canvas){.picture = picture, .size = picture->size};
}

static const struct {
    struct rmk_size source;
    struct rmk_size target;
} sizes[] = {
    {{1, 1}, {7, 5}},     {{2, 2}, {1, 1}},      {{3, 2}, {56, 56}},    {{5, 9}, {5, 9}},
    {{97, 61}, {56, 56}}, {{97, 61}, {168, 40}}, {{400, 3}, {21, 64}},  {{31, 300}, {65, 17}},
    {{640, 4}, {11, 3}},  {{7, 640}, {22, 33}},  {{64, 64}, {63, 65}},  {{200, 1}, {84, 84}},
    {{1, 200}, {84, 84}}, {{33, 33}, {86, 11}},  {{128, 96}, {43, 32}}, {{1000, 2}, {2, 2}},
};

static void expect_same(const struct rmk_resample_kernel *kernel)
{
    const struct rmk_resample_kernel *scalar = rmk_resample_kernel_scalar();

    if (kernel == NULL) {
        skip();
    }
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct rmk_picture picture = make_picture(sizes[i].source.width, sizes[i].source.height);
        struct rmk_canvas canvas = plain(&picture);
        struct rmk_window all = {.size = sizes[i].target};
        uint8_t *wanted = resample(scalar, &canvas, sizes[i].target, all);
        uint8_t *got = resample(kernel, &canvas, sizes[i].target, all);
        for (size_t at = 0; at < (size_t)all.size.width * all.size.height * 3; at++) {
            if (got[at] != wanted[at]) {
                fail_msg("%s, case %zu: byte %zu is %u, wanted %u", kernel->name, i, at, got[at],
                         wanted[at]);
            }
        }
        free(wanted);
        free(got);
        rmk_picture_deinit(&picture);
    }
}

static void avx2_gives_the_scalar_bytes(void **state)
{
    (void)state;
    expect_same(rmk_resample_kernel_avx2());
}

static void avx512_gives_the_scalar_bytes(void **state)
{
    (void)state;
    expect_same(rmk_resample_kernel_avx512());
}

static void a_size_that_stays_is_copied(void **state)
{
    (void)state;
    struct rmk_picture picture = make_picture(37, 21);
    struct rmk_canvas canvas = plain(&picture);
    uint8_t out[37 * 21 * 3];

    assert_int_equal(rmk_resample(&canvas, picture.size, (struct rmk_window){.size = picture.size},
                                  out, 37 * 3, NULL),
                     RMK_OK);
    assert_memory_equal(out, picture.pixels, sizeof(out));
    rmk_picture_deinit(&picture);
}

static void a_window_shows_the_same_bytes_as_the_whole(void **state)
{
    (void)state;
    static const struct rmk_window windows[] = {
        {0, 0, {1, 1}}, {89, 49, {1, 1}}, {10, 7, {33, 20}}, {0, 49, {90, 1}}, {60, 0, {30, 50}}};
    const struct rmk_resample_kernel *scalar = rmk_resample_kernel_scalar();
    struct rmk_picture picture = make_picture(211, 130);
    struct rmk_canvas canvas = plain(&picture);
    struct rmk_size target = {90, 50};
    uint8_t *whole = resample(scalar, &canvas, target, (struct rmk_window){.size = target});

    for (size_t i = 0; i < sizeof(windows) / sizeof(windows[0]); i++) {
        struct rmk_window window = windows[i];
        size_t stride = (size_t)window.size.width * 3;
        uint8_t *part = malloc(stride * window.size.height);
        assert_non_null(part);
        assert_int_equal(rmk_resample(&canvas, target, window, part, stride, NULL), RMK_OK);
        for (uint32_t y = 0; y < window.size.height; y++) {
            assert_memory_equal(part + y * stride,
                                whole + ((window.y + y) * 90 + window.x) * (size_t)3, stride);
        }
        free(part);
    }
    free(whole);
    rmk_picture_deinit(&picture);
}

/* The canvas is imagined; here it is made, and must give the same. */
static void a_border_gives_what_a_real_canvas_gives(void **state)
{
    (void)state;
    static const struct {
        struct rmk_size picture;
        struct rmk_size canvas;
        uint32_t x;
        uint32_t y;
    } cases[] = {
        {{9, 90}, {90, 90}, 40, 0}, {{90, 9}, {90, 90}, 0, 40}, {{1, 77}, {77, 77}, 38, 0},
        {{5, 5}, {70, 30}, 64, 24}, {{30, 20}, {33, 50}, 1, 3},
    };
    struct rmk_size target = {31, 29};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rmk_picture picture = make_picture(cases[i].picture.width, cases[i].picture.height);
        struct rmk_picture real = {0};
        struct rmk_canvas imagined = {.picture = &picture,
                                      .size = cases[i].canvas,
                                      .x = cases[i].x,
                                      .y = cases[i].y,
                                      .fill = 127};
        assert_int_equal(rmk_picture_init(&real, cases[i].canvas, NULL), RMK_OK);
        memset(real.pixels, 127, rmk_picture_stride(&real) * real.size.height);
        for (uint32_t y = 0; y < picture.size.height; y++) {
            memcpy(rmk_picture_row(&real, cases[i].y + y) + 3 * cases[i].x,
                   rmk_picture_row(&picture, y), rmk_picture_stride(&picture));
        }
        struct rmk_canvas made = plain(&real);
        uint8_t wanted[31 * 29 * 3];
        uint8_t got[31 * 29 * 3];
        struct rmk_window all = {.size = target};
        assert_int_equal(rmk_resample(&made, target, all, wanted, 31 * 3, NULL), RMK_OK);
        assert_int_equal(rmk_resample(&imagined, target, all, got, 31 * 3, NULL), RMK_OK);
        assert_memory_equal(got, wanted, sizeof(got));
        rmk_picture_deinit(&picture);
        rmk_picture_deinit(&real);
    }
}

/* Four pixels to two, so the kernel is stretched by 2. Output 0 is centred at 1.0; the pixels left
 * of the border do not exist, pixels 0..3 lie at t = -0.25, 0.25, 0.75, 1.25 and weigh 0.8671875,
 * 0.8671875, 0.2265625, -0.0703125, in all 1.890625. Output 1 mirrors it. */
static void a_small_case_worked_by_hand_comes_out(void **state)
{
    (void)state;
    struct rmk_picture picture = {0};
    uint8_t out[2 * 3];

    assert_int_equal(rmk_picture_init(&picture, (struct rmk_size){4, 1}, NULL), RMK_OK);
    memset(picture.pixels + 3, 100, 3);
    memset(picture.pixels + 9, 200, 3);
    struct rmk_canvas canvas = plain(&picture);
    assert_int_equal(rmk_resample(&canvas, (struct rmk_size){2, 1},
                                  (struct rmk_window){.size = {2, 1}}, out, sizeof(out), NULL),
                     RMK_OK);
    /* (0.8671875 * 100 - 0.0703125 * 200) / 1.890625 = 38.4; (0.2265625 * 100 + 0.8671875 * 200)
     * / 1.890625 = 103.7 */
    assert_int_equal(out[0], 38);
    assert_int_equal(out[3], 104);
    rmk_picture_deinit(&picture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(avx2_gives_the_scalar_bytes),
        cmocka_unit_test(avx512_gives_the_scalar_bytes),
        cmocka_unit_test(a_size_that_stays_is_copied),
        cmocka_unit_test(a_window_shows_the_same_bytes_as_the_whole),
        cmocka_unit_test(a_border_gives_what_a_real_canvas_gives),
        cmocka_unit_test(a_small_case_worked_by_hand_comes_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
