/* Weights on a device with memory of its own ($RMK_TEST_EMULATED_PLUGIN), made there or read from a
 * file in pieces, are those that the host makes: products with one-hot rows give them back, to the
 * bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/dummy_model.h"
#include "worker/text/weights.h"

enum { WIDEST = 64, TALLEST = 64 };

struct side {
    struct rmk_device *device;
    struct rmk_weights *weights;
};

static void open_side(struct side *side, const char *backend, const struct rmk_spec *spec,
                      uint32_t rank, uint32_t size, bool load_dummy)
{
    const struct rmk_device_options options = {
        .backend = backend, .act = RMK_F32, .plugin = getenv("RMK_TEST_EMULATED_PLUGIN")};
    const struct rmk_reserve reserve = {.rows_max = WIDEST, .head_width_max = 8};

    assert_int_equal(rmk_device_create(&options, &side->device, NULL), RMK_OK);
    assert_int_equal(side->device->ops->reserve(side->device, &reserve, NULL), RMK_OK);
    const struct rmk_weights_options wanted = {.spec = spec,
                                               .device = side->device,
                                               .rank = rank,
                                               .size = size,
                                               .load_dummy = load_dummy,
                                               .dummy_seed = DUMMY_SEED};
    struct rmk_why why = {0};
    if (rmk_weights_create(&wanted, &side->weights, &why) != RMK_OK) {
        fail_msg("%s: %s", backend, why.text);
    }
}

static void close_side(struct side *side)
{
    rmk_weights_destroy(side->weights);
    rmk_device_destroy(side->device);
}

/* y [k, n] = one-hot [k, k] W^T */
static void read_linear(const struct side *side, const struct rmk_linear *linear, uint32_t n,
                        uint32_t k, float *out)
{
    const struct rmk_ops *ops = side->device->ops;
    float hot[WIDEST * WIDEST] = {0};
    void *x = NULL;
    void *y = NULL;

    assert_true(k <= WIDEST);
    assert_true(n <= TALLEST);
    for (uint32_t i = 0; i < k; i++) {
        hot[i * k + i] = 1.0f;
    }
    assert_int_equal(ops->alloc(side->device, sizeof(hot), &x, NULL), RMK_OK);
    assert_int_equal(ops->alloc(side->device, k * n * sizeof(float), &y, NULL), RMK_OK);
    assert_int_equal(ops->upload(side->device, x, hot, k * k * sizeof(float)), RMK_OK);
    assert_int_equal(ops->linear(side->device, linear, x, k, y, RMK_F32), RMK_OK);
    assert_int_equal(ops->download(side->device, out, y, k * n * sizeof(float)), RMK_OK);
    ops->free(side->device, x);
    ops->free(side->device, y);
}

static void compare(const struct side sides[2], const struct rmk_linear *a,
                    const struct rmk_linear *b, uint32_t n, uint32_t k)
{
    static float values[2][WIDEST * TALLEST];

    read_linear(&sides[0], a, n, k, values[0]);
    read_linear(&sides[1], b, n, k, values[1]);
    assert_memory_equal(values[0], values[1], k * n * sizeof(float));
}

static void compare_embeddings(const struct side sides[2], uint32_t rows, uint32_t d)
{
    static float values[2][WIDEST * TALLEST];
    int32_t ids[TALLEST];

    for (uint32_t i = 0; i < rows; i++) {
        ids[i] = (int32_t)(sides[0].weights->vocab.begin + i);
    }
    for (int s = 0; s < 2; s++) {
        const struct rmk_weights *weights = sides[s].weights;
        struct rmk_device *device = sides[s].device;
        void *y = NULL;
        assert_int_equal(weights->embed_dtype, RMK_BF16);
        assert_int_equal(device->ops->alloc(device, rows * d * sizeof(float), &y, NULL), RMK_OK);
        assert_int_equal(device->ops->embed(device, weights->embed, RMK_BF16, weights->vocab.begin,
                                            weights->vocab.count, d, ids, rows, y),
                         RMK_OK);
        assert_int_equal(device->ops->download(device, values[s], y, rows * d * sizeof(float)),
                         RMK_OK);
        device->ops->free(device, y);
    }
    assert_memory_equal(values[0], values[1], rows * d * sizeof(float));
}

/* The last rank's slice on a device, made there or read from the file of spec->dir, against the
 * host's dummy values. */
static void check_last_rank(const struct rmk_spec *spec, uint32_t size, bool load_dummy)
{
    const uint32_t d = spec->text.width;
    const uint32_t rank = size - 1;
    struct side sides[2];

    open_side(&sides[0], "ref", spec, rank, size, true);
    open_side(&sides[1], "cuda", spec, rank, size, load_dummy);
    assert_null(sides[0].device->ops->dummy);
    assert_non_null(sides[1].device->ops->dummy);
    assert_non_null(sides[1].device->ops->load_begin);
    const struct rmk_weights *a = sides[0].weights;
    const struct rmk_weights *b = sides[1].weights;
    const uint32_t query = a->heads.count * spec->text.head_width;
    const uint32_t ff = a->ff.count;
    assert_true(a->bytes == b->bytes);
    for (uint32_t l = 0; l < a->layer_count; l++) {
        compare(sides, a->layers[l].q, b->layers[l].q, query, d);
        compare(sides, a->layers[l].o, b->layers[l].o, d, query);
        compare(sides, a->layers[l].gate_up, b->layers[l].gate_up, 2 * ff, d);
        compare(sides, a->layers[l].down, b->layers[l].down, d, ff);
    }
    compare(sides, a->head, b->head, a->vocab.count, d);
    compare_embeddings(sides, a->vocab.count, d);
    close_side(&sides[0]);
    close_side(&sides[1]);
}

static const uint32_t sizes[] = {1, 2, 5};

static void the_device_makes_the_same_dummy_weights_as_the_host(void **state)
{
    const struct rmk_spec spec = dummy_spec();

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        check_last_rank(&spec, sizes[i], true);
    }
}

static void the_device_takes_the_same_weights_from_a_file(void **state)
{
    char dir[] = "/tmp/remask-weights-XXXXXX";
    struct rmk_spec spec = dummy_spec();
    char path[64];

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(spec.dir, sizeof(spec.dir), "%s", dir);
    for (int odd = 0; odd < 2; odd++) {
        assert_int_equal(dummy_checkpoint(dir, &spec.text, odd, NULL, 0), 0);
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            check_last_rank(&spec, sizes[i], false);
        }
    }
    (void)snprintf(path, sizeof(path), "%s/model.safetensors", dir);
    (void)unlink(path);
    (void)rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_device_makes_the_same_dummy_weights_as_the_host),
        cmocka_unit_test(the_device_takes_the_same_weights_from_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
