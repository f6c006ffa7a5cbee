#include "cli/check_tensors.h"

#include <stdarg.h>
#include <stdio.h>

#include "model/safetensors.h"
#include "model/spec.h"

enum { NAME_SIZE = 192 };

/* A weight of `rank` dimensions; a dimension of 0 ends the shape. */
static void expect(struct rmk_tensor_faults *faults, const struct rmk_checkpoint *checkpoint,
                   const uint64_t shape[4], const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void expect(struct rmk_tensor_faults *faults, const struct rmk_checkpoint *checkpoint,
                   const uint64_t shape[4], const char *format, ...)
{
    const struct rmk_tensor *tensor = NULL;
    struct rmk_why why = {0};
    char name[NAME_SIZE];
    uint32_t rank = 0;
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(name, sizeof(name), format, arguments);
    va_end(arguments);
    while (rank < 4 && shape[rank] > 0) {
        rank++;
    }
    faults->checked++;
    enum rmk_err err = rmk_checkpoint_expect(checkpoint, name, rank, shape, &tensor, &why);
    if (err == RMK_OK && tensor->dtype != RMK_F32 && tensor->dtype != RMK_BF16 &&
        tensor->dtype != RMK_F16) {
        err = rmk_fail(&why, RMK_EUNSUPPORTED, "tensor %s is %s; weights must be F32, BF16 or F16",
                       name, rmk_dtype_name(tensor->dtype));
    }
    if (err != RMK_OK) {
        if (faults->count < RMK_TENSOR_FAULTS_MAX) {
            faults->sentences[faults->count] = why;
        }
        faults->count++;
    }
}

#define SHAPE(...) ((const uint64_t[4]){__VA_ARGS__})

static void expect_linear(struct rmk_tensor_faults *faults, const struct rmk_checkpoint *checkpoint,
                          const char *prefix, const char *name, uint64_t rows, uint64_t columns,
                          bool bias)
{
    expect(faults, checkpoint, SHAPE(rows, columns), "%s%s.weight", prefix, name);
    if (bias) {
        expect(faults, checkpoint, SHAPE(rows), "%s%s.bias", prefix, name);
    }
}

void rmk_check_language(const struct rmk_spec *spec, const struct rmk_checkpoint *checkpoint,
                        struct rmk_tensor_faults *faults)
{
    const struct rmk_text_spec *text = &spec->text;
    const uint64_t width = text->width;
    const uint64_t kv_width = (uint64_t)text->kv_head_count * text->head_width;
    const uint64_t q_width = (uint64_t)text->head_count * text->head_width;
    const bool bias = text->attention_bias;
    char layer[64];

    expect(faults, checkpoint, SHAPE(text->vocab_rows, width), "model.embed_tokens.weight");
    for (uint32_t i = 0; i < text->layer_count; i++) {
        (void)snprintf(layer, sizeof(layer), "model.layers.%u.", i);
        expect(faults, checkpoint, SHAPE(width), "%sinput_layernorm.weight", layer);
        expect_linear(faults, checkpoint, layer, "self_attn.q_proj", q_width, width, bias);
        expect_linear(faults, checkpoint, layer, "self_attn.k_proj", kv_width, width, bias);
        expect_linear(faults, checkpoint, layer, "self_attn.v_proj", kv_width, width, bias);
        expect_linear(faults, checkpoint, layer, "self_attn.o_proj", width, q_width, bias);
        expect(faults, checkpoint, SHAPE(width), "%spost_attention_layernorm.weight", layer);
        expect_linear(faults, checkpoint, layer, "mlp.gate_proj", text->ff_width, width, false);
        expect_linear(faults, checkpoint, layer, "mlp.up_proj", text->ff_width, width, false);
        expect_linear(faults, checkpoint, layer, "mlp.down_proj", width, text->ff_width, false);
    }
    expect(faults, checkpoint, SHAPE(width), "model.norm.weight");
    if (!text->tied_head) {
        expect(faults, checkpoint, SHAPE(text->vocab_rows, width), "lm_head.weight");
    }
}

const char *rmk_check_tower_prefix(const struct rmk_checkpoint *checkpoint)
{
    static const char *const prefixes[] = {"model.vision_tower.vision_tower.vision_model.",
                                           "vision_model."};
    char name[NAME_SIZE];

    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(name, sizeof(name), "%sembeddings.patch_embedding.weight", prefixes[i]);
        if (rmk_checkpoint_find(checkpoint, name) != NULL) {
            return prefixes[i];
        }
    }
    return NULL;
}

void rmk_check_tower(const struct rmk_spec *spec, const struct rmk_checkpoint *checkpoint,
                     struct rmk_tensor_faults *faults)
{
    const struct rmk_vision_spec *vision = &spec->vision;
    const uint64_t width = vision->width;
    const char *prefix = rmk_check_tower_prefix(checkpoint);
    char layer[128];

    if (prefix == NULL) {
        prefix = "model.vision_tower.vision_tower.vision_model.";
    }
    expect(faults, checkpoint, SHAPE(width, vision->channel_count, vision->patch, vision->patch),
           "%sembeddings.patch_embedding.weight", prefix);
    expect(faults, checkpoint, SHAPE(width), "%sembeddings.patch_embedding.bias", prefix);
    expect(faults, checkpoint, SHAPE((uint64_t)vision->side * vision->side, width),
           "%sembeddings.position_embedding.weight", prefix);
    for (uint32_t i = 0; i < vision->layer_count; i++) {
        (void)snprintf(layer, sizeof(layer), "%sencoder.layers.%u.", prefix, i);
        for (int j = 1; j <= 2; j++) {
            expect(faults, checkpoint, SHAPE(width), "%slayer_norm%d.weight", layer, j);
            expect(faults, checkpoint, SHAPE(width), "%slayer_norm%d.bias", layer, j);
        }
        expect_linear(faults, checkpoint, layer, "self_attn.q_proj", width, width, true);
        expect_linear(faults, checkpoint, layer, "self_attn.k_proj", width, width, true);
        expect_linear(faults, checkpoint, layer, "self_attn.v_proj", width, width, true);
        expect_linear(faults, checkpoint, layer, "self_attn.out_proj", width, width, true);
        expect_linear(faults, checkpoint, layer, "mlp.fc1", vision->ff_width, width, true);
        expect_linear(faults, checkpoint, layer, "mlp.fc2", width, vision->ff_width, true);
    }
}

void rmk_check_projector(const struct rmk_spec *spec, const struct rmk_checkpoint *checkpoint,
                         struct rmk_tensor_faults *faults)
{
    const uint64_t width = spec->text.width;
    char name[64];

    for (uint32_t i = 0; i < spec->vision.projector_depth; i++) {
        if (spec->vision.projector_plain) {
            (void)snprintf(name, sizeof(name), "mm_projector");
        } else {
            (void)snprintf(name, sizeof(name), "mm_projector.%u", 2 * i);
        }
        expect_linear(faults, checkpoint, "model.", name, width,
                      i == 0 ? spec->vision.width : width, true);
    }
    expect(faults, checkpoint, SHAPE(width), "model.image_newline");
}
