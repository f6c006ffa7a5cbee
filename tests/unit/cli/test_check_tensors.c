/* cli/check_tensors.c: a good checkpoint has everything, and what is missing or misshapen is named.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/check_tensors.h"
#include "model/safetensors.h"
#include "model/spec.h"

struct opened {
    struct rmk_spec spec;
    struct rmk_checkpoint *checkpoint;
};

static const char *const models[] = {"models/demo", "tests/data/golden/models/tiny",
                                     "tests/data/golden/models/tinygqa"};

static void open_model(const char *dir, struct opened *opened)
{
    struct rmk_why why = {0};

    assert_int_equal(rmk_spec_read(dir, NULL, NULL, &opened->spec, &why), RMK_OK);
    assert_int_equal(rmk_checkpoint_open(dir, &opened->checkpoint, &why), RMK_OK);
}

static void good_models_have_every_tensor(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        struct rmk_tensor_faults faults = {0};
        struct opened opened;

        open_model(models[i], &opened);
        rmk_check_language(&opened.spec, opened.checkpoint, &faults);
        rmk_check_tower(&opened.spec, opened.checkpoint, &faults);
        rmk_check_projector(&opened.spec, opened.checkpoint, &faults);
        assert_int_equal(faults.count, 0);
        /* Only post_layernorm and the last block of the tower are there and not needed. */
        assert_true(faults.checked <= rmk_checkpoint_count(opened.checkpoint));
        assert_true(faults.checked + 18 >= rmk_checkpoint_count(opened.checkpoint));
        rmk_checkpoint_close(opened.checkpoint);
    }
}

static void a_missing_layer_is_named_tensor_by_tensor(void **state)
{
    struct rmk_tensor_faults faults = {0};
    struct opened opened;

    (void)state;
    open_model(models[0], &opened);
    opened.spec.text.layer_count++;
    rmk_check_language(&opened.spec, opened.checkpoint, &faults);
    assert_int_equal(faults.count, 9);
    assert_non_null(strstr(faults.sentences[0].text, "model.layers.5.input_layernorm.weight"));
    assert_non_null(strstr(faults.sentences[8].text, "model.layers.5.mlp.down_proj.weight"));
    rmk_checkpoint_close(opened.checkpoint);
}

static void a_wrong_shape_is_told_with_both_shapes(void **state)
{
    struct rmk_tensor_faults faults = {0};
    struct opened opened;

    (void)state;
    open_model(models[0], &opened);
    opened.spec.vision.width = 64;
    rmk_check_projector(&opened.spec, opened.checkpoint, &faults);
    assert_int_equal(faults.count, 1);
    assert_non_null(strstr(faults.sentences[0].text, "model.mm_projector.0.weight"));
    assert_non_null(strstr(faults.sentences[0].text, "256x128"));
    assert_non_null(strstr(faults.sentences[0].text, "256x64"));
    rmk_checkpoint_close(opened.checkpoint);
}

static void faults_are_counted_beyond_those_that_are_told(void **state)
{
    struct rmk_tensor_faults faults = {0};
    struct opened opened;

    (void)state;
    open_model(models[0], &opened);
    opened.spec.vision.layer_count += 10;
    rmk_check_tower(&opened.spec, opened.checkpoint, &faults);
    assert_true(faults.count > RMK_TENSOR_FAULTS_MAX);
    assert_true(faults.sentences[RMK_TENSOR_FAULTS_MAX - 1].text[0] != '\0');
    rmk_checkpoint_close(opened.checkpoint);
}

static void a_checkpoint_without_a_tower_says_which_tensors_it_wants(void **state)
{
    struct rmk_tensor_faults faults = {0};
    struct rmk_checkpoint *other = NULL;
    struct rmk_why why = {0};
    struct opened opened;

    (void)state;
    open_model(models[0], &opened);
    assert_int_equal(
        rmk_checkpoint_open_file("tests/data/golden/tables/ops.safetensors", &other, &why), RMK_OK);
    assert_null(rmk_check_tower_prefix(other));
    assert_non_null(rmk_check_tower_prefix(opened.checkpoint));
    rmk_check_tower(&opened.spec, other, &faults);
    assert_int_equal(faults.count, faults.checked);
    assert_non_null(
        strstr(faults.sentences[0].text,
               "model.vision_tower.vision_tower.vision_model.embeddings.patch_embedding.weight"));
    rmk_checkpoint_close(other);
    rmk_checkpoint_close(opened.checkpoint);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_models_have_every_tensor),
        cmocka_unit_test(a_missing_layer_is_named_tensor_by_tensor),
        cmocka_unit_test(a_wrong_shape_is_told_with_both_shapes),
        cmocka_unit_test(faults_are_counted_beyond_those_that_are_told),
        cmocka_unit_test(a_checkpoint_without_a_tower_says_which_tensors_it_wants),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
