/* model/spec.c: the defaults of the reference specification (section 3), and one clear refusal for
 * each lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/spec.h"
#include "model/tokenizer.h"
#include "tests/support/golden_file.h"

/* A tokenizer of a few words, so that only model/spec.c is tested here. */
struct rmk_tokenizer {
    uint32_t size;
    bool without_mask;
};

uint32_t rmk_tokenizer_size(const struct rmk_tokenizer *tokenizer)
{
    return tokenizer->size;
}

int32_t rmk_tokenizer_find(const struct rmk_tokenizer *tokenizer, const char *content)
{
    static const char *const words[] = {"<|startoftext|>", "<|endoftext|>", "<|mdm_mask|>",
                                        "<|eot_id|>", "<|start_header_id|>"};

    for (int32_t i = 0; i < 5; i++) {
        if (strcmp(words[i], content) == 0 && !(i == 2 && tokenizer->without_mask)) {
            return i;
        }
    }
    return -1;
}

static char dir[64];
static struct rmk_spec spec;

static void write_text(const char *name, const char *text)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

static int make_dir(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/remask-spec-XXXXXX");
    return mkdtemp(dir) == NULL;
}

static int remove_dir(void **state)
{
    char command[160];

    (void)state;
    (void)snprintf(command, sizeof(command), "rm -rf '%s' '%s-siglip'", dir, dir);
    return system(command);
}

static void make_subdir(const char *suffix)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "%s%s", dir, suffix);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void reads(const char *config)
{
    struct rmk_why why = {0};

    write_text("config.json", config);
    if (rmk_spec_read(dir, NULL, NULL, &spec, &why) != RMK_OK) {
        fail_msg("%s: %s", config, why.text);
    }
}

static void refuses(const char *config, enum rmk_err wanted, const char *sentence)
{
    struct rmk_why why = {0};

    write_text("config.json", config);
    enum rmk_err err = rmk_spec_read(dir, NULL, NULL, &spec, &why);
    if (err != wanted || strstr(why.text, sentence) == NULL ||
        strstr(why.text, "config.json: ") == NULL) {
        fail_msg("%s: wanted %s with '%s', got %s with '%s'", config, rmk_err_name(wanted),
                 sentence, rmk_err_name(err), why.text);
    }
}

static void what_is_absent_has_the_official_default(void **state)
{
    (void)state;
    reads("{}");
    assert_int_equal(spec.text.layer_count, 32);
    assert_int_equal(spec.text.width, 4096);
    assert_int_equal(spec.text.head_count, 32);
    assert_int_equal(spec.text.kv_head_count, 32);
    assert_int_equal(spec.text.head_width, 128);
    assert_int_equal(spec.text.ff_width, 11008);
    assert_int_equal(spec.text.vocab_rows, 32000);
    assert_int_equal(spec.text.max_positions, 2048);
    assert_true(spec.text.rms_eps == 1e-6f);
    assert_true(spec.text.rope_theta == 10000.0);
    assert_int_equal(spec.text.rope_scaling, RMK_ROPE_NONE);
    assert_false(spec.text.attention_bias);
    assert_false(spec.text.tied_head);
    assert_int_equal(spec.text.mask_id, -1);
    assert_false(spec.vision.present);
}

#define VISION                                                                                     \
    "\"mm_vision_tower\":\"google/siglip2-so400m-patch14-384\",\"mm_use_im_patch_token\":false,"   \
    "\"mm_projector_type\":\"mlp2x_gelu\",\"mm_patch_merge_type\":\"spatial_unpad\","

static void the_published_tower_stands_where_no_other_is_named(void **state)
{
    (void)state;
    reads("{" VISION "\"mm_hidden_size\":1152,\"image_aspect_ratio\":\"anyres_max_4\","
          "\"image_grid_pinpoints\":\"(1x1),...,(6x6)\",\"mm_newline_position\":\"grid\"}");
    assert_true(spec.vision.present);
    assert_int_equal(spec.vision.layer_count, 26);
    assert_int_equal(spec.vision.width, 1152);
    assert_int_equal(spec.vision.head_count, 16);
    assert_int_equal(spec.vision.ff_width, 4304);
    assert_int_equal(spec.vision.tile, 384);
    assert_int_equal(spec.vision.side, 27);
    assert_int_equal(spec.vision.projector_depth, 2);
    assert_false(spec.vision.projector_plain);
    assert_string_equal(spec.vision_dir, "");
    assert_int_equal(spec.grid.aspect, RMK_IMAGE_ANYRES);
    assert_int_equal(spec.grid.max_factor, 4);
    assert_int_equal(spec.grid.merge, RMK_MERGE_SPATIAL_UNPAD);
    assert_int_equal(spec.grid.newline, RMK_NEWLINE_GRID);
    assert_int_equal(spec.grid.pinpoint_count, 36);
    assert_int_equal(spec.grid.pinpoints[1].width, 384);
    assert_int_equal(spec.grid.pinpoints[1].height, 768);
}

#define TOWER(width)                                                                               \
    "{\"model_type\":\"siglip\",\"vision_config\":{\"hidden_size\":" width                         \
    ",\"num_attention_heads\":2,\"num_hidden_layers\":3,\"intermediate_size\":6,"                  \
    "\"image_size\":30,\"patch_size\":14}}"

static void the_tower_s_own_configuration_is_looked_for_in_order(void **state)
{
    struct rmk_why why = {0};
    char path[128];

    (void)state;
    make_subdir("-siglip");
    (void)snprintf(path, sizeof(path), "%s-siglip", dir);
    FILE *file = fopen(strcat(path, "/config.json"), "w");
    assert_non_null(file);
    assert_true(fputs(TOWER("8"), file) >= 0);
    assert_int_equal(fclose(file), 0);
    reads("{" VISION "\"image_aspect_ratio\":\"pad\"}");
    assert_int_equal(spec.vision.width, 8);
    assert_int_equal(spec.vision.layer_count, 2);
    assert_int_equal(spec.vision.side, 2);
    assert_int_equal(spec.grid.side, 2);
    assert_int_equal(spec.grid.aspect, RMK_IMAGE_PAD);
    assert_non_null(strstr(spec.vision_dir, "-siglip"));

    make_subdir("/vision");
    write_text("vision/config.json", TOWER("12"));
    reads("{" VISION "\"image_aspect_ratio\":\"pad\"}");
    assert_int_equal(spec.vision.width, 12);

    make_subdir("/mine");
    write_text("mine/config.json", "{\"hidden_size\":16}"); /* a bare vision configuration */
    (void)snprintf(path, sizeof(path), "%s/mine", dir);
    assert_int_equal(rmk_spec_read(dir, path, NULL, &spec, &why), RMK_OK);
    assert_int_equal(spec.vision.width, 16);
    assert_string_equal(spec.vision_dir, path);

    assert_int_equal(rmk_spec_read(dir, "/nowhere", NULL, &spec, &why), RMK_ENOTFOUND);
    assert_string_equal(why.text, "/nowhere/config.json: there is no such file");

    write_text("mine/config.json", "{\"hidden_size\":15}");
    assert_int_equal(rmk_spec_read(dir, path, NULL, &spec, &why), RMK_EINVAL);
    assert_non_null(
        strstr(why.text, "mine/config.json: num_attention_heads is 16, which does not divide"));
    write_text("mine/config.json", "{\"num_hidden_layers\":1}");
    assert_int_equal(rmk_spec_read(dir, path, NULL, &spec, &why), RMK_EINVAL);
    write_text("mine/config.json", "{\"patch_size\":400}");
    assert_int_equal(rmk_spec_read(dir, path, NULL, &spec, &why), RMK_EINVAL);
    write_text("mine/config.json", "{\"hidden_act\":\"relu\"}");
    assert_int_equal(rmk_spec_read(dir, path, NULL, &spec, &why), RMK_EUNSUPPORTED);
    write_text("mine/config.json", "{\"num_channels\":4}");
    assert_int_equal(rmk_spec_read(dir, path, NULL, &spec, &why), RMK_EUNSUPPORTED);
}

static void overrides_replace_fields(void **state)
{
    struct rmk_why why = {0};

    (void)state;
    write_text("config.json", "{\"num_hidden_layers\":3,\"rope_theta\":5e5}");
    assert_int_equal(rmk_spec_read(dir, NULL, "{\"num_hidden_layers\":4}", &spec, &why), RMK_OK);
    assert_int_equal(spec.text.layer_count, 4);
    assert_true(spec.text.rope_theta == 500000.0);
    assert_int_equal(rmk_spec_read(dir, NULL, "[]", &spec, &why), RMK_ECORRUPT);
    assert_non_null(strstr(why.text, "overrides"));
}

static void a_file_that_is_no_configuration_is_refused(void **state)
{
    struct rmk_why why = {0};

    (void)state;
    assert_int_equal(rmk_spec_read(dir, NULL, NULL, &spec, &why), RMK_ENOTFOUND);
    refuses("", RMK_ECORRUPT, "not JSON");
    refuses("[]", RMK_ECORRUPT, "not a JSON object");
    refuses("{\"a\":1,\"a\":2}", RMK_ECORRUPT, "duplicate");
    refuses("{\"rope_theta\":1e999999}", RMK_ECORRUPT, "not JSON");
    refuses("{\"rms_norm_eps\":NaN}", RMK_ECORRUPT, "not JSON");

    char *deep = malloc(200001);
    assert_non_null(deep);
    memset(deep, '[', 200000);
    deep[200000] = '\0';
    refuses(deep, RMK_ECORRUPT, "not JSON");
    free(deep);
}

static void numbers_out_of_range_name_their_field(void **state)
{
    (void)state;
    refuses("{\"num_hidden_layers\":1000000}", RMK_EINVAL,
            "num_hidden_layers is 1000000, but must be 1 to 1024");
    refuses("{\"num_hidden_layers\":0}", RMK_EINVAL, "num_hidden_layers is 0");
    refuses("{\"hidden_size\":-4096}", RMK_EINVAL, "hidden_size is -4096");
    refuses("{\"hidden_size\":4096.5}", RMK_EINVAL, "hidden_size is not a whole number");
    refuses("{\"hidden_size\":\"4096\"}", RMK_EINVAL, "hidden_size is not a whole number");
    refuses("{\"intermediate_size\":4294967296}", RMK_EINVAL, "intermediate_size is 4294967296");
    refuses("{\"vocab_size\":99999999}", RMK_EINVAL, "vocab_size");
    refuses("{\"rms_norm_eps\":0}", RMK_EINVAL, "rms_norm_eps");
    refuses("{\"rope_theta\":-1}", RMK_EINVAL, "rope_theta");
    refuses("{\"attention_bias\":\"no\"}", RMK_EINVAL, "attention_bias is neither true nor false");
    refuses("{\"num_attention_heads\":30}", RMK_EINVAL,
            "num_attention_heads is 30, which does not divide hidden_size 4096");
    refuses("{\"num_key_value_heads\":5}", RMK_EINVAL,
            "num_key_value_heads is 5, which does not divide");
    refuses("{\"hidden_size\":96,\"num_attention_heads\":32}", RMK_EINVAL, "even width");
}

static void rope_scaling_is_linear_dynamic_or_refused(void **state)
{
    (void)state;
    reads("{\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.0}}");
    assert_int_equal(spec.text.rope_scaling, RMK_ROPE_LINEAR);
    assert_true(spec.text.rope_factor == 2.0);
    reads("{\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":4}}");
    assert_int_equal(spec.text.rope_scaling, RMK_ROPE_DYNAMIC);
    refuses("{\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4}}", RMK_EUNSUPPORTED,
            "rope_scaling: type is \"yarn\"");
    refuses("{\"rope_scaling\":{\"type\":\"linear\",\"factor\":1}}", RMK_EINVAL,
            "rope_scaling: factor");
    refuses("{\"rope_scaling\":{\"type\":\"linear\"}}", RMK_EINVAL, "rope_scaling: factor");
    refuses("{\"rope_scaling\":2}", RMK_EINVAL, "rope_scaling");
}

static void what_would_change_the_answer_is_refused(void **state)
{
    (void)state;
    refuses("{\"architectures\":[\"LlamaForCausalLM\"]}", RMK_EUNSUPPORTED, "architectures");
    refuses("{\"model_type\":\"llama\"}", RMK_EUNSUPPORTED, "model_type is \"llama\"");
    refuses("{\"use_cache\":true}", RMK_EUNSUPPORTED, "use_cache");
    refuses("{\"hidden_act\":\"gelu\"}", RMK_EUNSUPPORTED, "hidden_act");
    refuses("{\"head_dim\":64}", RMK_EUNSUPPORTED, "head_dim");
    refuses("{\"mm_use_im_start_end\":true}", RMK_EUNSUPPORTED, "mm_use_im_start_end");
    refuses("{\"mm_use_im_patch_token\":true}", RMK_EUNSUPPORTED, "mm_use_im_patch_token");
    refuses("{\"mm_vision_tower\":\"x\"}", RMK_EUNSUPPORTED,
            "mm_use_im_patch_token is true or absent");
    refuses("{" VISION "\"mm_resampler_type\":\"perceiver\"}", RMK_EUNSUPPORTED,
            "mm_resampler_type");
    refuses("{\"mm_vision_tower\":\"x\",\"mm_use_im_patch_token\":false,\"mm_projector_type\":"
            "\"mlp9x_gelu\"}",
            RMK_EUNSUPPORTED, "mm_projector_type");
    refuses("{\"mm_vision_tower\":\"x\",\"mm_use_im_patch_token\":false,\"mm_patch_merge_type\":"
            "\"spatial_nobase\"}",
            RMK_EUNSUPPORTED, "mm_patch_merge_type");
    refuses("{" VISION "\"mm_newline_position\":\"diagonal\"}", RMK_EUNSUPPORTED,
            "mm_newline_position");
    refuses("{" VISION "\"mm_hidden_size\":48}", RMK_EINVAL,
            "mm_hidden_size is 48, but the vision tower is 1152 wide");
}

static void aspect_and_grid_must_make_sense(void **state)
{
    (void)state;
    reads("{" VISION
          "\"image_aspect_ratio\":\"anyres\",\"image_grid_pinpoints\":[[384,768],[768,384]]}");
    assert_int_equal(spec.grid.max_factor, 0);
    assert_int_equal(spec.grid.pinpoint_count, 2);
    assert_int_equal(spec.grid.pinpoints[0].height, 768);
    reads("{" VISION "\"image_aspect_ratio\":\"square\"}");
    assert_int_equal(spec.grid.aspect, RMK_IMAGE_SQUARE);
    refuses("{" VISION "\"image_aspect_ratio\":\"anyres\"}", RMK_EINVAL,
            "image_grid_pinpoints is missing");
    refuses("{" VISION "\"image_aspect_ratio\":\"anyres_max_0\"}", RMK_EINVAL,
            "image_aspect_ratio");
    refuses("{" VISION "\"image_aspect_ratio\":\"anyres_max_x\"}", RMK_EINVAL,
            "image_aspect_ratio");
    refuses("{" VISION "\"image_aspect_ratio\":\"anyres_max_-4\"}", RMK_EINVAL,
            "image_aspect_ratio");
    refuses("{" VISION "\"image_aspect_ratio\":\"highres\"}", RMK_EUNSUPPORTED,
            "image_aspect_ratio");
    refuses("{" VISION "\"image_grid_pinpoints\":[[384,100]]}", RMK_EINVAL,
            "384x100 is not made of tiles");
    refuses("{" VISION "\"image_grid_pinpoints\":[[384]]}", RMK_EINVAL, "entry 0 is not a pair");
    refuses("{" VISION "\"image_grid_pinpoints\":[[384,-384]]}", RMK_EINVAL,
            "entry 0 is not a pair");
    refuses("{" VISION "\"image_grid_pinpoints\":7}", RMK_EINVAL, "image_grid_pinpoints");
    refuses("{" VISION "\"image_grid_pinpoints\":\"__import__('os')\"}", RMK_EINVAL, "");
}

static void binding_cuts_the_vocabulary_and_finds_special_ids(void **state)
{
    struct rmk_tokenizer tokenizer = {.size = 100};
    struct rmk_why why = {0};

    (void)state;
    reads("{\"vocab_size\":100}");
    assert_int_equal(rmk_spec_bind_tokenizer(&spec, &tokenizer, &why), RMK_OK);
    assert_int_equal(spec.text.vocab, 100);
    assert_int_equal(spec.text.mask_id, 2);
    assert_int_equal(spec.text.eot_id, 3);
    assert_int_equal(spec.text.suppressed[0], 1);
    assert_int_equal(spec.text.suppressed[1], 0);
    assert_int_equal(spec.text.suppressed[2], 4);
    assert_int_equal(spec.text.suppressed[3], -1); /* this tokenizer has none */

    tokenizer.size = 101;
    assert_int_equal(rmk_spec_bind_tokenizer(&spec, &tokenizer, &why), RMK_EINVAL);
    assert_string_equal(why.text, "the tokenizer has 101 tokens, but vocab_size is 100");
    tokenizer = (struct rmk_tokenizer){.size = 90, .without_mask = true};
    assert_int_equal(rmk_spec_bind_tokenizer(&spec, &tokenizer, &why), RMK_EINVAL);
    assert_string_equal(why.text, "the tokenizer has no <|mdm_mask|>");
    assert_int_equal(spec.text.vocab, 100);
}

static void golden_configurations_are_read(void **state)
{
    struct rmk_why why = {0};
    char path[512];

    (void)state;
    if (!golden_path(path, sizeof(path), "golden/models/variant")) {
        skip();
    }
    if (rmk_spec_read(path, NULL, NULL, &spec, &why) != RMK_OK) {
        fail_msg("%s", why.text);
    }
    assert_int_equal(spec.text.head_count, 5);
    assert_true(spec.text.attention_bias);
    assert_int_equal(spec.text.rope_scaling, RMK_ROPE_LINEAR);
    assert_int_equal(spec.vision.projector_depth, 3);
    assert_int_equal(spec.vision.layer_count, 2);
    assert_int_equal(spec.vision.side, 5);
    assert_int_equal(spec.grid.max_factor, 0);
    assert_int_equal(spec.grid.pinpoint_count, 8);
    assert_true(golden_path(path, sizeof(path), "golden/models/geo384"));
    assert_int_equal(rmk_spec_read(path, NULL, NULL, &spec, &why), RMK_OK);
    assert_int_equal(spec.grid.pinpoint_count, 36);
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIR(what_is_absent_has_the_official_default),
        IN_DIR(the_published_tower_stands_where_no_other_is_named),
        IN_DIR(the_tower_s_own_configuration_is_looked_for_in_order),
        IN_DIR(overrides_replace_fields),
        IN_DIR(a_file_that_is_no_configuration_is_refused),
        IN_DIR(numbers_out_of_range_name_their_field),
        IN_DIR(rope_scaling_is_linear_dynamic_or_refused),
        IN_DIR(what_would_change_the_answer_is_refused),
        IN_DIR(aspect_and_grid_must_make_sense),
        IN_DIR(binding_cuts_the_vocabulary_and_finds_special_ids),
        cmocka_unit_test(golden_configurations_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
