/* worker/vision/encoder.c with the demo model's geometry and dummy weights: company changes
 * nothing, and a device that makes dummy weights itself makes the same tower. The official
 * program's numbers are remask-golden's. */
#include "worker/vision/encoder.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PICTURES = 4 };

static struct rmk_spec spec;
static struct rmk_tiles pictures[PICTURES];

/* Tiles of different number, with pixels of a pattern: 1 tile (square), 3 or more (anyres). */
static int make_pictures(void **state)
{
    static const struct rmk_size sizes[PICTURES] = {{84, 84}, {200, 90}, {90, 200}, {170, 160}};

    (void)state;
    if (rmk_spec_read("models/demo", NULL, NULL, &spec, NULL) != RMK_OK) {
        return 1;
    }
    for (uint32_t i = 0; i < PICTURES; i++) {
        struct rmk_tiles *tiles = &pictures[i];
        const enum rmk_image_mode mode = i == 0 ? RMK_IMAGE_SQUARE : RMK_IMAGE_ANYRES;
        tiles->size = sizes[i];
        if (rmk_grid_plan(&spec.grid, sizes[i], mode, 1, PICTURES, &tiles->grid, NULL) != RMK_OK) {
            return 1;
        }
        const size_t bytes =
            (size_t)tiles->grid.tile_count * spec.vision.tile * spec.vision.tile * 3;
        tiles->pixels = malloc(bytes);
        for (size_t at = 0; at < bytes; at++) {
            tiles->pixels[at] = (uint8_t)((at * (31 + i) >> 5) ^ (at / 251));
        }
    }
    return 0;
}

static int free_pictures(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < PICTURES; i++) {
        rmk_tiles_deinit(&pictures[i]);
    }
    return 0;
}

struct side {
    struct rmk_device *device;
    struct rmk_encoder *encoder;
};

static void open_side(struct side *side, const char *backend, enum rmk_dtype act,
                      uint32_t tile_batch)
{
    const struct rmk_device_options options = {
        .backend = backend, .act = act, .threads = 1, .plugin = getenv("RMK_TEST_EMULATED_PLUGIN")};
    struct rmk_why why = {0};

    assert_int_equal(rmk_device_create(&options, &side->device, NULL), RMK_OK);
    const struct rmk_encoder_options wanted = {.spec = &spec,
                                               .device = side->device,
                                               .tile_batch = tile_batch,
                                               .load_dummy = true,
                                               .dummy_seed = 5};
    if (rmk_encoder_create(&wanted, &side->encoder, &why) != RMK_OK) {
        fail_msg("%s", why.text);
    }
}

static void close_side(struct side *side)
{
    rmk_encoder_destroy(side->encoder);
    rmk_device_destroy(side->device);
}

static size_t values_of(uint32_t picture)
{
    return (size_t)pictures[picture].grid.rows * spec.text.width;
}

static struct rmk_encoder_item item_of(uint32_t picture)
{
    float *features = malloc(values_of(picture) * sizeof(float));

    assert_non_null(features);
    return (struct rmk_encoder_item){.tiles = &pictures[picture], .features = features};
}

static void encodes(struct side *side, struct rmk_encoder_item *items, uint32_t count)
{
    struct rmk_why why = {0};

    if (rmk_encoder_encode(side->encoder, items, count, &why) != RMK_OK) {
        fail_msg("%s", why.text);
    }
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(items[i].err, RMK_OK);
    }
}

static void a_pictures_features_are_the_same_alone_and_in_company(void **state)
{
    static const struct {
        const char *backend;
        enum rmk_dtype act;
    } backends[] = {{"ref", RMK_F32}, {"cpu", RMK_F32}, {"cpu", RMK_BF16}};

    (void)state;
    for (size_t b = 0; b < sizeof(backends) / sizeof(backends[0]); b++) {
        /* Batches of three tiles begin and end within pictures. */
        struct side side;
        struct rmk_encoder_item together[PICTURES];
        open_side(&side, backends[b].backend, backends[b].act, 3);
        for (uint32_t i = 0; i < PICTURES; i++) {
            together[i] = item_of(PICTURES - 1 - i);
        }
        encodes(&side, together, PICTURES);
        for (uint32_t i = 0; i < PICTURES; i++) {
            struct rmk_encoder_item alone = item_of(PICTURES - 1 - i);
            encodes(&side, &alone, 1);
            assert_memory_equal(alone.features, together[i].features,
                                values_of(PICTURES - 1 - i) * sizeof(float));
            free(alone.features);
        }
        for (uint32_t i = 0; i < PICTURES; i++) {
            free(together[i].features);
        }
        close_side(&side);
    }
}

static void a_device_that_makes_dummy_weights_makes_the_same_tower(void **state)
{
    struct side sides[2];
    struct rmk_encoder_item items[2];
    double largest = 0;
    double apart = 0;

    (void)state;
    if (getenv("RMK_TEST_EMULATED_PLUGIN") == NULL) {
        skip(); /* a build without a C++ compiler, or under a sanitizer */
    }
    open_side(&sides[0], "ref", RMK_F32, 2);
    open_side(&sides[1], "cuda", RMK_F32, 2);
    assert_non_null(sides[1].device->ops->dummy);
    for (uint32_t s = 0; s < 2; s++) {
        items[s] = item_of(0);
        encodes(&sides[s], &items[s], 1);
    }
    for (size_t i = 0; i < values_of(0); i++) {
        const double a = (double)items[0].features[i];
        const double b = (double)items[1].features[i];
        largest = fabs(a) > largest ? fabs(a) : largest;
        apart = fabs(a - b) > apart ? fabs(a - b) : apart;
    }
    /* fp32 sums in another order: 4e-7 of the largest was seen; another weight would be of the
     * order of one. */
    assert_true(largest > 1e-3);
    assert_true(apart < 1e-5 * largest);
    for (uint32_t s = 0; s < 2; s++) {
        free(items[s].features);
        close_side(&sides[s]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pictures_features_are_the_same_alone_and_in_company),
        cmocka_unit_test(a_device_that_makes_dummy_weights_makes_the_same_tower),
    };
    return cmocka_run_group_tests(tests, make_pictures, free_pictures);
}
