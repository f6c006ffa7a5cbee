#include "worker/vision/picture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Pixels of a 3x2 picture, numbered as they are stored, in the order in which an upright viewer
 * sees them. */
static const char *const upright[] = {
    [1] = "123456", [2] = "321654", [3] = "654321", [4] = "456123",
    [5] = "142536", [6] = "415263", [7] = "635241", [8] = "362514",
};

static void orientation_moves_pixels_as_exif_says(void **state)
{
    (void)state;

    for (uint8_t orientation = 1; orientation <= 8; orientation++) {
        struct rmk_picture picture = {0};
        char seen[7] = {0};
        assert_int_equal(rmk_picture_init(&picture, (struct rmk_size){3, 2}, NULL), RMK_OK);
        for (size_t i = 0; i < 6; i++) {
            memset(picture.pixels + 3 * i, (int)('1' + i), 3);
        }
        assert_int_equal(rmk_picture_orient(&picture, orientation, NULL), RMK_OK);
        assert_int_equal(picture.size.width, orientation < 5 ? 3 : 2);
        assert_int_equal(picture.size.height, orientation < 5 ? 2 : 3);
        for (size_t i = 0; i < 6; i++) {
            seen[i] = (char)picture.pixels[3 * i];
            assert_int_equal(picture.pixels[3 * i + 2], seen[i]);
        }
        assert_string_equal(seen, upright[orientation]);
        rmk_picture_deinit(&picture);
        assert_null(picture.pixels);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(orientation_moves_pixels_as_exif_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
