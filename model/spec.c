#include "model/spec.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "model/tokenizer.h"

enum {
    CONFIG_BYTES_MAX = 4 << 20,
    LAYERS_MAX = 1024,
    WIDTH_MAX = 1 << 16,
    HEADS_MAX = 1 << 12,
    FF_WIDTH_MAX = 1 << 20,
    VOCAB_MAX = 1 << 24,
    POSITIONS_MAX = 1 << 30,
    TILE_MAX = 4096,
    PROJECTOR_DEPTH_MAX = 8,
    DOWN_FACTOR_MAX = 1024,
};

/* -- reading JSON
 * ---------------------------------------------------------------------------------- */

static enum rmk_err parse_object(const char *text, size_t size, json_t **out, struct rmk_why *why)
{
    json_error_t error;
    json_t *value = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);

    if (value == NULL) {
        return rmk_fail(why, RMK_ECORRUPT, "not JSON: line %d: %s", error.line, error.text);
    }
    if (!json_is_object(value)) {
        json_decref(value);
        return rmk_fail(why, RMK_ECORRUPT, "not a JSON object");
    }
    *out = value;
    return RMK_OK;
}

static enum rmk_err read_object(const char *path, json_t **out, struct rmk_why *why)
{
    uint8_t *text = NULL;
    size_t size = 0;
    enum rmk_err err;

    RMK_TRY(rmk_file_read(path, RMK_FILE_REGULAR, CONFIG_BYTES_MAX, &text, &size, why));
    RMK_TRY(parse_object((const char *)text, size, out, why));
out:
    free(text);
    if (err != RMK_OK) {
        rmk_why_context(why, "%.300s", path);
    }
    return err;
}

/* A field that is null counts as absent, as in the official configuration classes. */
static const json_t *field(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);

    return json_is_null(value) ? NULL : value;
}

static enum rmk_err get_count(const json_t *object, const char *name, uint32_t fallback,
                              uint32_t max, uint32_t *out, struct rmk_why *why)
{
    const json_t *value = field(object, name);

    if (value == NULL) {
        *out = fallback;
        return RMK_OK;
    }
    if (!json_is_integer(value)) {
        return rmk_fail(why, RMK_EINVAL, "%s is not a whole number", name);
    }
    if (json_integer_value(value) < 1 || json_integer_value(value) > (json_int_t)max) {
        return rmk_fail(why, RMK_EINVAL, "%s is %lld, but must be 1 to %u", name,
                        (long long)json_integer_value(value), max);
    }
    *out = (uint32_t)json_integer_value(value);
    return RMK_OK;
}

static enum rmk_err get_positive(const json_t *object, const char *name, double fallback,
                                 double max, double *out, struct rmk_why *why)
{
    const json_t *value = field(object, name);

    if (value == NULL) {
        *out = fallback;
        return RMK_OK;
    }
    double number = json_number_value(value);
    if (!json_is_number(value) || !(number > 0) || !(number <= max)) {
        return rmk_fail(why, RMK_EINVAL, "%s is not a number above 0 and up to %g", name, max);
    }
    *out = number;
    return RMK_OK;
}

static enum rmk_err get_flag(const json_t *object, const char *name, bool fallback, bool *out,
                             struct rmk_why *why)
{
    const json_t *value = field(object, name);

    if (value != NULL && !json_is_boolean(value)) {
        return rmk_fail(why, RMK_EINVAL, "%s is neither true nor false", name);
    }
    *out = value == NULL ? fallback : json_is_true(value);
    return RMK_OK;
}

static enum rmk_err get_text(const json_t *object, const char *name, const char *fallback,
                             const char **out, struct rmk_why *why)
{
    const json_t *value = field(object, name);

    if (value != NULL && !json_is_string(value)) {
        return rmk_fail(why, RMK_EINVAL, "%s is not a string", name);
    }
    *out = value == NULL ? fallback : json_string_value(value);
    return RMK_OK;
}

struct word {
    const char *text;
    int value;
};

/* The value of the word that the field holds; words end with a NULL text. */
static enum rmk_err get_word(const json_t *object, const char *name, const char *fallback,
                             const struct word *words, int *out, struct rmk_why *why)
{
    const char *text;
    enum rmk_err err;

    RMK_TRY(get_text(object, name, fallback, &text, why));
    for (; words->text != NULL; words++) {
        if (strcmp(words->text, text) == 0) {
            *out = words->value;
            goto out;
        }
    }
    err = rmk_fail(why, RMK_EUNSUPPORTED, "%s is \"%.60s\", which is not supported", name, text);
out:
    return err;
}

/* -- language model
 * -------------------------------------------------------------------------------- */

static enum rmk_err check_architecture(const json_t *config, struct rmk_why *why)
{
    static const struct word types[] = {{"llava_llada", 0}, {"llada", 0}, {NULL, 0}};
    const json_t *list = field(config, "architectures");
    int ignored;
    enum rmk_err err;

    RMK_TRY(get_word(config, "model_type", "llava_llada", types, &ignored, why));
    if (list == NULL) {
        goto out;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (name != NULL &&
            (strcmp(name, "LlavaLLaDAModelLM") == 0 || strcmp(name, "LLaDAModelLM") == 0)) {
            goto out;
        }
    }
    err = rmk_fail(why, RMK_EUNSUPPORTED, "architectures names no LlavaLLaDAModelLM");
out:
    return err;
}

/* Switches that the official program has and that would change the answer. */
static enum rmk_err check_switches(const json_t *config, bool vision, struct rmk_why *why)
{
    static const struct word activations[] = {{"silu", 0}, {NULL, 0}};
    int ignored;
    bool flag;
    enum rmk_err err;

    RMK_TRY(get_word(config, "hidden_act", "silu", activations, &ignored, why));
    RMK_TRY(get_flag(config, "use_cache", false, &flag, why));
    if (flag) {
        err = rmk_fail(why, RMK_EUNSUPPORTED, "use_cache is true, which the model does not have");
        goto out;
    }
    RMK_TRY(get_flag(config, "mm_use_im_start_end", false, &flag, why));
    if (flag) {
        err =
            rmk_fail(why, RMK_EUNSUPPORTED, "mm_use_im_start_end is true, which is not supported");
        goto out;
    }
    /* Absent means true to the official loader, which then adds a token to the vocabulary. */
    RMK_TRY(get_flag(config, "mm_use_im_patch_token", vision, &flag, why));
    if (flag) {
        err = rmk_fail(why, RMK_EUNSUPPORTED,
                       "mm_use_im_patch_token is true or absent, which is not supported");
        goto out;
    }
    if (field(config, "mm_resampler_type") != NULL) {
        err = rmk_fail(why, RMK_EUNSUPPORTED, "mm_resampler_type is set, which is not supported");
    }
out:
    return err;
}

static enum rmk_err read_rope(const json_t *config, struct rmk_text_spec *text, struct rmk_why *why)
{
    static const struct word types[] = {
        {"linear", RMK_ROPE_LINEAR}, {"dynamic", RMK_ROPE_DYNAMIC}, {NULL, 0}};
    const json_t *scaling = field(config, "rope_scaling");
    int type;
    enum rmk_err err;

    RMK_TRY(get_positive(config, "rope_theta", 10000.0, 1e18, &text->rope_theta, why));
    text->rope_scaling = RMK_ROPE_NONE;
    text->rope_factor = 1;
    if (scaling == NULL) {
        goto out;
    }
    if (!json_is_object(scaling)) {
        err = rmk_fail(why, RMK_EINVAL, "rope_scaling is neither null nor an object");
        goto out;
    }
    err = get_word(scaling, "type", "", types, &type, why);
    if (err == RMK_OK) {
        err = get_positive(scaling, "factor", 0, 1e6, &text->rope_factor, why);
    }
    if (err != RMK_OK) {
        rmk_why_context(why, "rope_scaling");
        goto out;
    }
    if (text->rope_factor <= 1) {
        err = rmk_fail(why, RMK_EINVAL, "rope_scaling: factor must be larger than 1");
        goto out;
    }
    text->rope_scaling = (enum rmk_rope_scaling)type;
out:
    return err;
}

static enum rmk_err read_heads(const json_t *config, struct rmk_text_spec *text,
                               struct rmk_why *why)
{
    uint32_t head_width;
    enum rmk_err err;

    RMK_TRY(get_count(config, "num_attention_heads", 32, HEADS_MAX, &text->head_count, why));
    RMK_TRY(get_count(config, "num_key_value_heads", text->head_count, HEADS_MAX,
                      &text->kv_head_count, why));
    if (text->width % text->head_count != 0) {
        err = rmk_fail(why, RMK_EINVAL,
                       "num_attention_heads is %u, which does not divide hidden_size %u",
                       text->head_count, text->width);
        goto out;
    }
    if (text->head_count % text->kv_head_count != 0) {
        err = rmk_fail(why, RMK_EINVAL,
                       "num_key_value_heads is %u, which does not divide num_attention_heads %u",
                       text->kv_head_count, text->head_count);
        goto out;
    }
    text->head_width = text->width / text->head_count;
    if (text->head_width % 2 != 0) {
        err = rmk_fail(why, RMK_EINVAL,
                       "hidden_size / num_attention_heads is %u, but rotation needs an even width",
                       text->head_width);
        goto out;
    }
    RMK_TRY(get_count(config, "head_dim", text->head_width, WIDTH_MAX, &head_width, why));
    if (head_width != text->head_width) {
        err =
            rmk_fail(why, RMK_EUNSUPPORTED,
                     "head_dim is %u, but only hidden_size / num_attention_heads (%u) is supported",
                     head_width, text->head_width);
    }
out:
    return err;
}

static enum rmk_err read_text(const json_t *config, struct rmk_text_spec *text, struct rmk_why *why)
{
    double eps;
    enum rmk_err err;

    RMK_TRY(get_count(config, "num_hidden_layers", 32, LAYERS_MAX, &text->layer_count, why));
    RMK_TRY(get_count(config, "hidden_size", 4096, WIDTH_MAX, &text->width, why));
    RMK_TRY(read_heads(config, text, why));
    RMK_TRY(get_count(config, "intermediate_size", 11008, FF_WIDTH_MAX, &text->ff_width, why));
    RMK_TRY(get_count(config, "vocab_size", 32000, VOCAB_MAX, &text->vocab_rows, why));
    RMK_TRY(get_count(config, "max_position_embeddings", 2048, POSITIONS_MAX, &text->max_positions,
                      why));
    RMK_TRY(get_count(config, "tokenizer_model_max_length", POSITIONS_MAX, POSITIONS_MAX,
                      &text->prompt_rows_max, why));
    RMK_TRY(get_positive(config, "rms_norm_eps", 1e-6, 1, &eps, why));
    text->rms_eps = (float)eps;
    RMK_TRY(get_flag(config, "attention_bias", false, &text->attention_bias, why));
    RMK_TRY(get_flag(config, "tie_word_embeddings", false, &text->tied_head, why));
    RMK_TRY(read_rope(config, text, why));

    /* Until a tokenizer is bound nothing is cut and nothing is special. */
    text->vocab = text->vocab_rows;
    text->mask_id = -1;
    text->eot_id = -1;
    for (unsigned i = 0; i < 4; i++) {
        text->suppressed[i] = -1;
    }
out:
    return err;
}

/* -- vision
 * ---------------------------------------------------------------------------------------- */

static enum rmk_err read_projector(const json_t *config, struct rmk_vision_spec *vision,
                                   struct rmk_why *why)
{
    const char *type;
    enum rmk_err err;

    RMK_TRY(get_text(config, "mm_projector_type", "linear", &type, why));
    if (strcmp(type, "linear") == 0) {
        vision->projector_plain = true;
        vision->projector_depth = 1;
        goto out;
    }
    if (strncmp(type, "mlp", 3) == 0 && type[3] >= '1' && type[3] <= '0' + PROJECTOR_DEPTH_MAX &&
        strcmp(type + 4, "x_gelu") == 0) {
        vision->projector_plain = false;
        vision->projector_depth = (uint32_t)(type[3] - '0');
        goto out;
    }
    err = rmk_fail(why, RMK_EUNSUPPORTED,
                   "mm_projector_type is \"%.60s\", but linear and mlpNx_gelu (N up to %d) are "
                   "supported",
                   type, PROJECTOR_DEPTH_MAX);
out:
    return err;
}

/* The numbers of the published tower stand for every field that is absent. */
static enum rmk_err read_tower(const json_t *config, struct rmk_vision_spec *vision,
                               struct rmk_why *why)
{
    static const struct word activations[] = {{"gelu_pytorch_tanh", 0}, {NULL, 0}};
    const json_t *nested = field(config, "vision_config");
    uint32_t announced;
    double eps;
    int ignored;
    enum rmk_err err;

    if (nested != NULL) {
        config = nested;
    }
    RMK_TRY(get_count(config, "num_hidden_layers", 27, LAYERS_MAX, &announced, why));
    if (announced < 2) {
        err = rmk_fail(why, RMK_EINVAL,
                       "num_hidden_layers is 1, and the tower's last layer never runs");
        goto out;
    }
    vision->layer_count = announced - 1;
    RMK_TRY(get_count(config, "hidden_size", 1152, WIDTH_MAX, &vision->width, why));
    RMK_TRY(get_count(config, "num_attention_heads", 16, HEADS_MAX, &vision->head_count, why));
    if (vision->width % vision->head_count != 0) {
        err = rmk_fail(why, RMK_EINVAL,
                       "num_attention_heads is %u, which does not divide hidden_size %u",
                       vision->head_count, vision->width);
        goto out;
    }
    RMK_TRY(get_count(config, "intermediate_size", 4304, FF_WIDTH_MAX, &vision->ff_width, why));
    RMK_TRY(get_count(config, "num_channels", 3, 4, &vision->channel_count, why));
    if (vision->channel_count != 3) {
        err = rmk_fail(why, RMK_EUNSUPPORTED, "num_channels is %u, but pictures have 3",
                       vision->channel_count);
        goto out;
    }
    RMK_TRY(get_count(config, "image_size", 384, TILE_MAX, &vision->tile, why));
    RMK_TRY(get_count(config, "patch_size", 14, TILE_MAX, &vision->patch, why));
    if (vision->patch > vision->tile) {
        err = rmk_fail(why, RMK_EINVAL, "patch_size %u is larger than image_size %u", vision->patch,
                       vision->tile);
        goto out;
    }
    vision->side = vision->tile / vision->patch;
    RMK_TRY(get_positive(config, "layer_norm_eps", 1e-6, 1, &eps, why));
    vision->layer_norm_eps = (float)eps;
    RMK_TRY(get_word(config, "hidden_act", "gelu_pytorch_tanh", activations, &ignored, why));
out:
    return err;
}

/* Where the tower's own configuration lies; "" when nowhere. */
static enum rmk_err find_vision_dir(struct rmk_spec *spec, const char *vision_dir,
                                    struct rmk_why *why)
{
    char dir[sizeof(spec->dir)];
    char path[sizeof(spec->dir) + 64];

    if (vision_dir != NULL) {
        if (strlen(vision_dir) >= sizeof(spec->vision_dir)) {
            return rmk_fail(why, RMK_EINVAL, "the vision directory's name is longer than %zu bytes",
                            sizeof(spec->vision_dir) - 1);
        }
        (void)strncpy(spec->vision_dir, vision_dir, sizeof(spec->vision_dir) - 1);
        return RMK_OK;
    }
    memcpy(dir, spec->dir, sizeof(dir));
    for (size_t length = strlen(dir); length > 1 && dir[length - 1] == '/'; length--) {
        dir[length - 1] = '\0';
    }
    static const char *const places[] = {"/vision", "-siglip"};
    for (unsigned i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof(path), "%s%s/config.json", dir, places[i]);
        if (access(path, F_OK) == 0) {
            int length =
                snprintf(spec->vision_dir, sizeof(spec->vision_dir), "%s%s", dir, places[i]);
            if (length >= (int)sizeof(spec->vision_dir)) {
                return rmk_fail(why, RMK_EINVAL, "%s%s: the name is too long", dir, places[i]);
            }
            return RMK_OK;
        }
    }
    return RMK_OK;
}

/* "anyres" and whatever contains "anyres_max" are tiled; a number must then follow at the very
 * front. */
static enum rmk_err read_aspect(const json_t *config, struct rmk_grid_spec *grid,
                                struct rmk_why *why)
{
    static const char prefix[] = "anyres_max_";
    const char *aspect;
    enum rmk_err err;

    RMK_TRY(get_text(config, "image_aspect_ratio", "square", &aspect, why));
    if (strcmp(aspect, "anyres") == 0) {
        grid->aspect = RMK_IMAGE_ANYRES;
    } else if (strstr(aspect, "anyres_max") != NULL) {
        char *end = NULL;
        const char *digits = aspect + sizeof(prefix) - 1;
        unsigned long factor = 0;
        if (strncmp(aspect, prefix, sizeof(prefix) - 1) == 0 && digits[0] >= '0' &&
            digits[0] <= '9') {
            factor = strtoul(digits, &end, 10);
        }
        if (end == NULL || *end != '\0' || factor < 1 || factor > DOWN_FACTOR_MAX) {
            err = rmk_fail(why, RMK_EINVAL,
                           "image_aspect_ratio is \"%.60s\", but anyres_max_N needs N from 1 to %d",
                           aspect, DOWN_FACTOR_MAX);
            goto out;
        }
        grid->aspect = RMK_IMAGE_ANYRES;
        grid->max_factor = (uint32_t)factor;
    } else if (strcmp(aspect, "pad") == 0) {
        grid->aspect = RMK_IMAGE_PAD;
    } else if (strcmp(aspect, "highres") == 0 || strcmp(aspect, "crop_split") == 0) {
        err = rmk_fail(why, RMK_EUNSUPPORTED,
                       "image_aspect_ratio is \"%s\", which is not supported", aspect);
    } else {
        grid->aspect = RMK_IMAGE_SQUARE;
    }
out:
    return err;
}

static enum rmk_err read_pinpoint_list(const json_t *list, struct rmk_grid_spec *grid,
                                       struct rmk_why *why)
{
    if (!json_is_array(list) || json_array_size(list) > RMK_PINPOINTS_MAX) {
        return rmk_fail(why, RMK_EINVAL, "image_grid_pinpoints is not a list of at most %d pairs",
                        RMK_PINPOINTS_MAX);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *pair = json_array_get(list, i);
        json_int_t width = json_integer_value(json_array_get(pair, 0));
        json_int_t height = json_integer_value(json_array_get(pair, 1));
        if (json_array_size(pair) != 2 || width < 1 || height < 1 || width > UINT16_MAX ||
            height > UINT16_MAX) {
            return rmk_fail(why, RMK_EINVAL,
                            "image_grid_pinpoints: entry %zu is not a pair of sizes", i);
        }
        grid->pinpoints[i] =
            (struct rmk_size){.width = (uint32_t)width, .height = (uint32_t)height};
    }
    grid->pinpoint_count = (uint32_t)json_array_size(list);
    return RMK_OK;
}

static enum rmk_err read_pinpoints(const json_t *config, struct rmk_grid_spec *grid,
                                   struct rmk_why *why)
{
    const json_t *value = field(config, "image_grid_pinpoints");
    enum rmk_err err = RMK_OK;

    if (json_is_string(value)) {
        RMK_TRY(rmk_grid_parse_pinpoints(json_string_value(value), grid, why));
    } else if (value != NULL) {
        RMK_TRY(read_pinpoint_list(value, grid, why));
    }
    for (uint32_t i = 0; i < grid->pinpoint_count; i++) {
        struct rmk_size size = grid->pinpoints[i];
        if (size.width % grid->tile != 0 || size.height % grid->tile != 0) {
            err = rmk_fail(why, RMK_EINVAL,
                           "image_grid_pinpoints: %ux%u is not made of tiles of %u pixels",
                           size.width, size.height, grid->tile);
            goto out;
        }
    }
    if (grid->aspect == RMK_IMAGE_ANYRES && grid->pinpoint_count == 0) {
        err = rmk_fail(why, RMK_EINVAL,
                       "image_grid_pinpoints is missing, which image_aspect_ratio needs");
    }
out:
    return err;
}

static enum rmk_err read_grid(const json_t *config, const struct rmk_vision_spec *vision,
                              struct rmk_grid_spec *grid, struct rmk_why *why)
{
    static const struct word merges[] = {{"spatial_unpad", RMK_MERGE_SPATIAL_UNPAD},
                                         {"spatial", RMK_MERGE_SPATIAL},
                                         {"flat", RMK_MERGE_FLAT},
                                         {NULL, 0}};
    static const struct word newlines[] = {{"one_token", RMK_NEWLINE_ONE_TOKEN},
                                           {"grid", RMK_NEWLINE_GRID},
                                           {"frame", RMK_NEWLINE_FRAME},
                                           {"no_token", RMK_NEWLINE_NONE},
                                           {NULL, 0}};
    static const struct word pools[] = {{"bilinear", RMK_POOL_BILINEAR},
                                        {"average", RMK_POOL_AVERAGE},
                                        {"max", RMK_POOL_MAX},
                                        {NULL, 0}};
    int word;
    enum rmk_err err;

    grid->tile = vision->tile;
    grid->patch = vision->patch;
    grid->side = vision->side;
    RMK_TRY(read_aspect(config, grid, why));
    RMK_TRY(get_word(config, "mm_patch_merge_type", "flat", merges, &word, why));
    grid->merge = (enum rmk_merge)word;
    RMK_TRY(get_word(config, "mm_newline_position", "one_token", newlines, &word, why));
    grid->newline = (enum rmk_newline)word;
    RMK_TRY(get_word(config, "mm_spatial_pool_mode", "bilinear", pools, &word, why));
    grid->pool = (enum rmk_pool)word;
    RMK_TRY(read_pinpoints(config, grid, why));
out:
    return err;
}

static enum rmk_err read_vision(const json_t *config, const char *vision_dir, struct rmk_spec *spec,
                                struct rmk_why *why)
{
    json_t *tower = NULL;
    char path[sizeof(spec->vision_dir) + 16];
    uint32_t width;
    enum rmk_err err;

    RMK_TRY(find_vision_dir(spec, vision_dir, why));
    if (spec->vision_dir[0] != '\0') {
        (void)snprintf(path, sizeof(path), "%s/config.json", spec->vision_dir);
        RMK_TRY(read_object(path, &tower, why));
        err = read_tower(tower, &spec->vision, why);
        if (err != RMK_OK) {
            rmk_why_context(why, "%.300s", path);
            goto out;
        }
    } else {
        RMK_TRY(read_tower(NULL, &spec->vision, why));
    }
    spec->vision.present = true;
    err = get_count(config, "mm_hidden_size", spec->vision.width, WIDTH_MAX, &width, why);
    if (err == RMK_OK && width != spec->vision.width) {
        err =
            rmk_fail(why, RMK_EINVAL, "mm_hidden_size is %u, but the vision tower is %u wide%s",
                     width, spec->vision.width,
                     spec->vision_dir[0] == '\0'
                         ? ", as the published one: no SigLIP2 folder says otherwise (--vision-dir)"
                         : "");
    }
    if (err == RMK_OK) {
        err = read_projector(config, &spec->vision, why);
    }
    if (err == RMK_OK) {
        err = read_grid(config, &spec->vision, &spec->grid, why);
    }
    if (err != RMK_OK) {
        rmk_why_context(why, "%.300s/config.json", spec->dir);
    }
out:
    json_decref(tower);
    return err;
}

/* -- the door -------------------------------------------------------------------------------------
 */

static enum rmk_err apply_overrides(json_t *config, const char *overrides_json, struct rmk_why *why)
{
    json_t *overrides = NULL;
    enum rmk_err err = RMK_OK;

    if (overrides_json == NULL) {
        goto out;
    }
    RMK_TRY(parse_object(overrides_json, strlen(overrides_json), &overrides, why));
    if (json_object_update(config, overrides) != 0) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory");
    }
out:
    json_decref(overrides);
    if (err != RMK_OK) {
        rmk_why_context(why, "overrides of the configuration");
    }
    return err;
}

enum rmk_err rmk_spec_read(const char *dir, const char *vision_dir, const char *overrides_json,
                           struct rmk_spec *out_spec, struct rmk_why *why)
{
    struct rmk_spec *spec = calloc(1, sizeof(*spec));
    json_t *config = NULL;
    char path[sizeof(spec->dir) + 16];
    const char *tower;
    enum rmk_err err;

    if (spec == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for a configuration");
        goto out;
    }
    if (strlen(dir) >= sizeof(spec->dir)) {
        err = rmk_fail(why, RMK_EINVAL, "the model directory's name is longer than %zu bytes",
                       sizeof(spec->dir) - 1);
        goto out;
    }
    memcpy(spec->dir, dir, strlen(dir) + 1);
    (void)snprintf(path, sizeof(path), "%s/config.json", dir);
    RMK_TRY(read_object(path, &config, why));
    RMK_TRY(apply_overrides(config, overrides_json, why));
    err = check_architecture(config, why);
    if (err == RMK_OK) {
        err = get_text(config, "mm_vision_tower", NULL, &tower, why);
    }
    if (err == RMK_OK) {
        err = check_switches(config, tower != NULL, why);
    }
    if (err == RMK_OK) {
        err = read_text(config, &spec->text, why);
    }
    if (err != RMK_OK) {
        rmk_why_context(why, "%.300s", path);
        goto out;
    }
    if (tower != NULL) {
        RMK_TRY(read_vision(config, vision_dir, spec, why));
    }

    *out_spec = *spec;
out:
    json_decref(config);
    free(spec);
    return err;
}

enum rmk_err rmk_spec_bind_tokenizer(struct rmk_spec *spec, const struct rmk_tokenizer *tokenizer,
                                     struct rmk_why *why)
{
    static const char *const suppressed[] = {"<|endoftext|>", "<|startoftext|>",
                                             "<|start_header_id|>", "<|end_header_id|>"};
    struct rmk_text_spec *text = &spec->text;
    uint32_t size = rmk_tokenizer_size(tokenizer);

    if (size > text->vocab_rows) {
        return rmk_fail(why, RMK_EINVAL, "the tokenizer has %u tokens, but vocab_size is %u", size,
                        text->vocab_rows);
    }
    int32_t mask_id = rmk_tokenizer_find(tokenizer, "<|mdm_mask|>");
    if (mask_id < 0 || (uint32_t)mask_id >= size) {
        return rmk_fail(why, RMK_EINVAL, "the tokenizer has no <|mdm_mask|>");
    }
    text->vocab = size;
    text->mask_id = mask_id;
    text->eot_id = rmk_tokenizer_find(tokenizer, "<|eot_id|>");
    for (unsigned i = 0; i < 4; i++) {
        text->suppressed[i] = rmk_tokenizer_find(tokenizer, suppressed[i]);
    }
    return RMK_OK;
}
