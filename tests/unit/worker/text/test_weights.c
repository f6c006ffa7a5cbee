/* worker/text/weights.c: the slices of 1, 2, 3, 5 ranks laid side by side are the whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/safetensors.h"
#include "tests/support/dummy_model.h"
#include "worker/text/weights.h"

static struct rmk_device *device;

static int make_device(void **state)
{
    struct rmk_device_options options = {.backend = "ref", .act = RMK_F32};

    (void)state;
    return rmk_device_create(&options, &device, NULL) != RMK_OK;
}

static int end_device(void **state)
{
    (void)state;
    rmk_device_destroy(device);
    return 0;
}

static float dummy(const char *name, uint64_t element)
{
    return rmk_dummy_f32(rmk_dummy_seed(DUMMY_SEED, name), element);
}

/* What a linear does to the unit vectors: out [k, n] holds W transposed, plus the bias in every
 * row. */
static void unroll(struct rmk_linear *linear, uint32_t n, uint32_t k, float *out)
{
    float *unit = calloc((size_t)k * k, sizeof(float));

    assert_non_null(unit);
    for (uint32_t i = 0; i < k; i++) {
        unit[(size_t)i * k + i] = 1.0f;
    }
    assert_int_equal(device->ops->linear(device, linear, unit, k, out, RMK_F32), RMK_OK);
    free(unit);
    (void)n;
}

/* linear must be rows x columns of the dummy tensor name.weight (+ name.bias). */
static void check_linear(struct rmk_linear *linear, const char *name, struct rmk_cut rows,
                         struct rmk_cut columns, uint32_t full_columns, bool bias)
{
    float *got = malloc((size_t)rows.count * columns.count * sizeof(float));
    char weight[128];
    char offset[128];

    assert_non_null(got);
    (void)snprintf(weight, sizeof(weight), "%s.weight", name);
    (void)snprintf(offset, sizeof(offset), "%s.bias", name);
    unroll(linear, rows.count, columns.count, got);
    for (uint32_t row = 0; row < rows.count; row++) {
        for (uint32_t column = 0; column < columns.count; column++) {
            uint64_t element = (uint64_t)(rows.begin + row) * full_columns + columns.begin + column;
            float wanted = (float)((double)dummy(weight, element) +
                                   (bias ? (double)dummy(offset, rows.begin + row) : 0.0));
            float found = got[(size_t)column * rows.count + row];
            if (found != wanted) {
                fail_msg("%s [%u, %u]: %g, not %g", name, row, column, (double)found,
                         (double)wanted);
            }
        }
    }
    free(got);
}

static void check_gate_up(struct rmk_linear *linear, const char *prefix, struct rmk_cut ff,
                          uint32_t d)
{
    float *got = malloc((size_t)2 * ff.count * d * sizeof(float));
    char names[2][128];

    assert_non_null(got);
    (void)snprintf(names[0], sizeof(names[0]), "%smlp.gate_proj.weight", prefix);
    (void)snprintf(names[1], sizeof(names[1]), "%smlp.up_proj.weight", prefix);
    unroll(linear, 2 * ff.count, d, got);
    for (uint32_t row = 0; row < 2 * ff.count; row++) {
        for (uint32_t column = 0; column < d; column++) {
            uint64_t element = (uint64_t)(ff.begin + row % ff.count) * d + column;
            assert_true(got[(size_t)column * 2 * ff.count + row] ==
                        dummy(names[row / ff.count], element));
        }
    }
    free(got);
}

static void check_rank(const struct rmk_weights *weights, const struct rmk_text_spec *text,
                       uint32_t rank)
{
    const uint32_t d = text->width;
    const uint32_t dh = text->head_width;
    const struct rmk_cut all = {0, d};
    const struct rmk_cut query = {weights->heads.begin * dh, weights->heads.count * dh};
    const struct rmk_cut key = {weights->kv_heads.begin * dh, weights->kv_heads.count * dh};
    char name[128];
    char prefix[64];

    for (uint32_t i = 0; i < text->layer_count; i++) {
        const struct rmk_layer_weights *layer = &weights->layers[i];
        (void)snprintf(prefix, sizeof(prefix), "model.layers.%u.", i);
#define NAME(suffix) ((void)snprintf(name, sizeof(name), "%s%s", prefix, suffix), name)
        check_linear(layer->q, NAME("self_attn.q_proj"), query, all, d, true);
        check_linear(layer->k, NAME("self_attn.k_proj"), key, all, d, true);
        check_linear(layer->v, NAME("self_attn.v_proj"), key, all, d, true);
        check_linear(layer->o, NAME("self_attn.o_proj"), all, query, text->head_count * dh,
                     rank == 0);
        check_gate_up(layer->gate_up, prefix, weights->ff, d);
        check_linear(layer->down, NAME("mlp.down_proj"), all, weights->ff, text->ff_width, false);
#undef NAME
        assert_true(layer->input_norm[0] == 1.0f && layer->post_norm[d - 1] == 1.0f);
    }
    check_linear(weights->head, text->tied_head ? "model.embed_tokens" : "lm_head", weights->vocab,
                 all, d, false);
    assert_int_equal(weights->embed_dtype, RMK_BF16);
    const uint64_t seed = rmk_dummy_seed(DUMMY_SEED, "model.embed_tokens.weight");
    for (uint32_t row = 0; row < weights->vocab.count; row++) {
        for (uint32_t column = 0; column < d; column++) {
            assert_int_equal(
                ((const uint16_t *)weights->embed)[(size_t)row * d + column],
                rmk_dummy_bits(seed, (uint64_t)(weights->vocab.begin + row) * d + column));
        }
    }
}

/* Every rank's slice is right, and together they cover everything once. */
static void check_ranks(const struct rmk_spec *spec, uint32_t size, bool load_dummy)
{
    uint32_t next[3] = {0};

    for (uint32_t rank = 0; rank < size; rank++) {
        struct rmk_weights_options options = {.spec = spec,
                                              .device = device,
                                              .rank = rank,
                                              .size = size,
                                              .load_dummy = load_dummy,
                                              .dummy_seed = DUMMY_SEED};
        struct rmk_weights *weights = NULL;
        struct rmk_why why = {0};
        if (rmk_weights_create(&options, &weights, &why) != RMK_OK) {
            fail_msg("%s", why.text);
        }
        check_rank(weights, &spec->text, rank);
        const struct rmk_cut cuts[3] = {weights->kv_heads, weights->ff, weights->vocab};
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(cuts[i].begin, next[i]);
            assert_true(cuts[i].count > 0);
            next[i] += cuts[i].count;
        }
        rmk_weights_destroy(weights);
    }
    assert_int_equal(next[0], spec->text.kv_head_count);
    assert_int_equal(next[1], spec->text.ff_width);
    assert_int_equal(next[2], spec->text.vocab);
}

static void five_heads_on_two_ranks_are_three_and_two(void **state)
{
    (void)state;
    assert_int_equal(rmk_weights_cut(5, 0, 2).count, 3);
    assert_int_equal(rmk_weights_cut(5, 1, 2).begin, 3);
    assert_int_equal(rmk_weights_cut(5, 1, 2).count, 2);
    assert_int_equal(rmk_weights_cut(6, 2, 3).begin, 4);
    assert_int_equal(rmk_weights_cut(7, 3, 4).begin, 6);
}

static void slices_of_dummy_weights_make_up_the_whole(void **state)
{
    struct rmk_spec spec = dummy_spec();

    (void)state;
    check_ranks(&spec, 1, true);
    check_ranks(&spec, 2, true);
    check_ranks(&spec, 3, true);
    check_ranks(&spec, 5, true);

    spec.text.tied_head = true;
    spec.text.head_count = 6; /* two query heads to each key/value head */
    spec.text.kv_head_count = 3;
    spec.text.width = 48;
    check_ranks(&spec, 2, true);
}

static void slices_of_a_file_do_too_wherever_its_tensors_begin(void **state)
{
    char dir[] = "/tmp/remask-weights-XXXXXX";
    struct rmk_spec spec = dummy_spec();
    char path[64];

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(spec.dir, sizeof(spec.dir), "%s", dir);
    for (int odd = 0; odd < 2; odd++) {
        assert_int_equal(dummy_checkpoint(dir, &spec.text, odd, NULL, 0), 0);
        check_ranks(&spec, 1, false);
        check_ranks(&spec, 2, false);
    }
    (void)snprintf(path, sizeof(path), "%s/model.safetensors", dir);
    (void)unlink(path);
    (void)rmdir(dir);
}

static void refuses(const struct rmk_spec *spec, uint32_t size, bool load_dummy,
                    enum rmk_err wanted, const char *sentence)
{
    struct rmk_weights_options options = {
        .spec = spec, .device = device, .size = size, .load_dummy = load_dummy};
    struct rmk_weights *weights = NULL;
    struct rmk_why why = {0};
    enum rmk_err err = rmk_weights_create(&options, &weights, &why);

    if (err != wanted || strstr(why.text, sentence) == NULL) {
        fail_msg("wanted %s with '%s', got %s with '%s'", rmk_err_name(wanted), sentence,
                 rmk_err_name(err), why.text);
    }
    assert_null(weights);
}

static void what_does_not_fit_is_named(void **state)
{
    char dir[] = "/tmp/remask-weights-XXXXXX";
    struct rmk_spec spec = dummy_spec();
    char path[64];

    (void)state;
    refuses(&spec, 6, true, RMK_EINVAL, "6 ranks are more than the model's 5 key/value heads");
    assert_non_null(mkdtemp(dir));
    (void)snprintf(spec.dir, sizeof(spec.dir), "%s", dir);
    refuses(&spec, 1, false, RMK_ENOTFOUND, "model.safetensors");
    assert_int_equal(dummy_checkpoint(dir, &spec.text, 0, NULL, 0), 0);
    spec.text.layer_count = 3;
    refuses(&spec, 2, false, RMK_ENOTFOUND,
            "tensor model.layers.2.input_layernorm.weight (40) is missing");
    spec.text.layer_count = 2;
    spec.text.ff_width = 26;
    refuses(&spec, 2, false, RMK_ECORRUPT,
            "mlp.gate_proj.weight has shape 27x40, the configuration wants 26x40");
    (void)snprintf(path, sizeof(path), "%s/model.safetensors", dir);
    (void)unlink(path);
    (void)rmdir(dir);
}

static void dummy_values_look_normal(void **state)
{
    enum { COUNT = 100000 };
    double sum = 0;
    double squares = 0;

    (void)state;
    for (uint64_t i = 0; i < COUNT; i++) {
        double value = (double)dummy("t", i);
        sum += value;
        squares += value * value;
    }
    assert_true(fabs(sum / COUNT) < 3e-4);                  /* five standard errors */
    assert_true(fabs(sqrt(squares / COUNT) - 0.02) < 3e-4); /* rounding to bf16 included */
    assert_true(dummy("t", 0) != dummy("u", 0) || dummy("t", 1) != dummy("u", 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(five_heads_on_two_ranks_are_three_and_two),
        cmocka_unit_test(slices_of_dummy_weights_make_up_the_whole),
        cmocka_unit_test(slices_of_a_file_do_too_wherever_its_tensors_begin),
        cmocka_unit_test(what_does_not_fit_is_named),
        cmocka_unit_test(dummy_values_look_normal),
    };
    return cmocka_run_group_tests(tests, make_device, end_device);
}
