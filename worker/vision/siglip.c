#include "worker/vision/siglip.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "worker/vision/tensors.h"

static const char llava_prefix[] = "model.vision_tower.vision_tower.vision_model.";
static const char siglip_prefix[] = "vision_model.";

struct block {
    float *norm1_weight; /* [W] */
    float *norm1_bias;
    struct rmk_linear
        *q; /* [W, W], three of them: attention wants q, k and v as rows of their own */
    struct rmk_linear *k;
    struct rmk_linear *v;
    struct rmk_linear *out;
    float *norm2_weight;
    float *norm2_bias;
    struct rmk_linear *fc1; /* [F, W] */
    struct rmk_linear *fc2; /* [W, F] */
};

struct rmk_siglip {
    struct rmk_vision_spec spec;
    struct rmk_device *device;
    uint32_t tile_batch;
    struct rmk_linear *patch_embedding; /* [W, 3*patch*patch] */
    float *position_embedding;          /* [P, W] */
    struct block *blocks;
    struct rmk_segment *segments; /* [tile_batch] */
    /* scratch for tile_batch tiles; T = tile_batch * P */
    void *patches; /* act [T, 3*patch*patch] */
    void *normed;  /* act [T, W] */
    void *q;       /* act [T, W]; k, v likewise */
    void *k;
    void *v;
    void *attended; /* act [T, W] */
    void *hidden;   /* act [T, F] */
    float *delta;   /* [T, W] */
};

static const char *tower_prefix(const struct rmk_checkpoint *checkpoint)
{
    static const char *const prefixes[] = {llava_prefix, siglip_prefix};

    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        char name[128];
        (void)snprintf(name, sizeof(name), "%sembeddings.patch_embedding.weight", prefixes[i]);
        if (rmk_checkpoint_find(checkpoint, name) != NULL) {
            return prefixes[i];
        }
    }
    return NULL;
}

bool rmk_siglip_present(const struct rmk_checkpoint *checkpoint)
{
    return tower_prefix(checkpoint) != NULL;
}

static enum rmk_err load_block(struct rmk_vision_source *source, const struct rmk_vision_spec *spec,
                               uint32_t index, struct block *block, struct rmk_why *why)
{
    const uint64_t width = spec->width;
    const uint64_t square[2] = {width, width};
    const uint64_t up[2] = {spec->ff_width, width};
    const uint64_t down[2] = {width, spec->ff_width};
    const struct {
        const char *name;
        float **target;
    } vectors[] = {
        {"layer_norm1.weight", &block->norm1_weight},
        {"layer_norm1.bias", &block->norm1_bias},
        {"layer_norm2.weight", &block->norm2_weight},
        {"layer_norm2.bias", &block->norm2_bias},
    };
    const struct {
        const char *name;
        const uint64_t *shape;
        struct rmk_linear **target;
    } linears[] = {
        {"self_attn.q_proj", square, &block->q},
        {"self_attn.k_proj", square, &block->k},
        {"self_attn.v_proj", square, &block->v},
        {"self_attn.out_proj", square, &block->out},
        {"mlp.fc1", up, &block->fc1},
        {"mlp.fc2", down, &block->fc2},
    };
    char name[128];
    enum rmk_err err;

    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        (void)snprintf(name, sizeof(name), "encoder.layers.%u.%s", index, vectors[i].name);
        RMK_TRY(rmk_vision_vector(source, name, 1, &width, vectors[i].target, why));
    }
    for (size_t i = 0; i < sizeof(linears) / sizeof(linears[0]); i++) {
        (void)snprintf(name, sizeof(name), "encoder.layers.%u.%s", index, linears[i].name);
        RMK_TRY(rmk_vision_linear(source, name, 2, linears[i].shape, linears[i].target, why));
    }
    err = RMK_OK;
out:
    return err;
}

static enum rmk_err load_weights(struct rmk_siglip *siglip, struct rmk_vision_source *source,
                                 struct rmk_why *why)
{
    const struct rmk_vision_spec *spec = &siglip->spec;
    const uint64_t conv[4] = {spec->width, spec->channel_count, spec->patch, spec->patch};
    const uint64_t position[2] = {(uint64_t)spec->side * spec->side, spec->width};
    enum rmk_err err;

    RMK_TRY(rmk_vision_linear(source, "embeddings.patch_embedding", 4, conv,
                              &siglip->patch_embedding, why));
    RMK_TRY(rmk_vision_vector(source, "embeddings.position_embedding.weight", 2, position,
                              &siglip->position_embedding, why));
    for (uint32_t i = 0; i < spec->layer_count; i++) {
        RMK_TRY(load_block(source, spec, i, &siglip->blocks[i], why));
    }
    err = RMK_OK;
out:
    return err;
}

static enum rmk_err allocate_scratch(struct rmk_siglip *siglip, struct rmk_why *why)
{
    struct rmk_device *device = siglip->device;
    const struct rmk_vision_spec *spec = &siglip->spec;
    const size_t act = rmk_dtype_bytes(device->info.act);
    const size_t rows = (size_t)siglip->tile_batch * spec->side * spec->side;
    const size_t patch_width = (size_t)spec->channel_count * spec->patch * spec->patch;
    const struct {
        void **target;
        size_t bytes;
    } buffers[] = {
        {&siglip->patches, rows * patch_width * act},
        {&siglip->normed, rows * spec->width * act},
        {&siglip->q, rows * spec->width * act},
        {&siglip->k, rows * spec->width * act},
        {&siglip->v, rows * spec->width * act},
        {&siglip->attended, rows * spec->width * act},
        {&siglip->hidden, rows * spec->ff_width * act},
        {(void **)&siglip->delta, rows * spec->width * sizeof(float)},
    };
    enum rmk_err err;

    for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++) {
        RMK_TRY(device->ops->alloc(device, buffers[i].bytes, buffers[i].target, why));
    }
    err = RMK_OK;
out:
    return err;
}

enum rmk_err rmk_siglip_create(const struct rmk_vision_spec *spec, struct rmk_device *device,
                               const struct rmk_checkpoint *checkpoint, uint64_t dummy_seed,
                               uint32_t tile_batch, struct rmk_siglip **out_siglip,
                               struct rmk_why *why)
{
    struct rmk_vision_source source = {
        .device = device,
        .checkpoint = checkpoint,
        .prefix = llava_prefix,
        .dummy_seed = dummy_seed,
    };
    enum rmk_err err;

    rmk_assert(tile_batch > 0);
    struct rmk_siglip *siglip = calloc(1, sizeof(*siglip));
    if (siglip == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for the vision tower");
        goto out;
    }
    siglip->spec = *spec;
    siglip->device = device;
    siglip->tile_batch = tile_batch;
    siglip->blocks = calloc(spec->layer_count, sizeof(*siglip->blocks));
    siglip->segments = calloc(tile_batch, sizeof(*siglip->segments));
    if (siglip->blocks == NULL || siglip->segments == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for %u vision blocks", spec->layer_count);
        goto out;
    }
    if (checkpoint != NULL) {
        source.prefix = tower_prefix(checkpoint);
        if (source.prefix == NULL) {
            err = rmk_fail(why, RMK_ENOTFOUND,
                           "the checkpoint holds no vision tower (%sembeddings…)", llava_prefix);
            goto out;
        }
    }
    RMK_TRY(load_weights(siglip, &source, why));
    RMK_TRY(allocate_scratch(siglip, why));
    *out_siglip = siglip;
    siglip = NULL;
out:
    rmk_siglip_destroy(siglip);
    return err;
}

static void free_block(struct rmk_device *device, struct block *block)
{
    float *vectors[] = {block->norm1_weight, block->norm1_bias, block->norm2_weight,
                        block->norm2_bias};
    struct rmk_linear *linears[] = {block->q,   block->k,   block->v,
                                    block->out, block->fc1, block->fc2};

    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        device->ops->free(device, vectors[i]);
    }
    for (size_t i = 0; i < sizeof(linears) / sizeof(linears[0]); i++) {
        device->ops->linear_destroy(device, linears[i]);
    }
}

void rmk_siglip_destroy(struct rmk_siglip *siglip)
{
    if (siglip == NULL) {
        return;
    }
    struct rmk_device *device = siglip->device;
    void *buffers[] = {siglip->position_embedding,
                       siglip->patches,
                       siglip->normed,
                       siglip->q,
                       siglip->k,
                       siglip->v,
                       siglip->attended,
                       siglip->hidden,
                       siglip->delta};
    for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++) {
        device->ops->free(device, buffers[i]);
    }
    for (uint32_t i = 0; siglip->blocks != NULL && i < siglip->spec.layer_count; i++) {
        free_block(device, &siglip->blocks[i]);
    }
    device->ops->linear_destroy(device, siglip->patch_embedding);
    free(siglip->blocks);
    free(siglip->segments);
    free(siglip);
}

/* h += out_proj(attn(LN1(h))); h += fc2(gelu_tanh(fc1(LN2(h)))). `delta` carries one half's result
 * into the next norm, which adds it on the way. */
static enum rmk_err run_block(struct rmk_siglip *siglip, const struct block *block, float *h,
                              const float *delta_before, uint32_t tile_count)
{
    struct rmk_device *device = siglip->device;
    const struct rmk_ops *ops = device->ops;
    const struct rmk_vision_spec *spec = &siglip->spec;
    const enum rmk_dtype act = device->info.act;
    const uint32_t width = spec->width;
    const uint32_t rows = tile_count * spec->side * spec->side;
    const uint32_t head_width = width / spec->head_count;
    const float scale = 1.0f / sqrtf((float)head_width);
    enum rmk_err err;

    RMK_TRY(ops->layernorm(device, h, delta_before, block->norm1_weight, block->norm1_bias,
                           spec->layer_norm_eps, siglip->normed, rows, width));
    RMK_TRY(ops->linear(device, block->q, siglip->normed, rows, siglip->q, act));
    RMK_TRY(ops->linear(device, block->k, siglip->normed, rows, siglip->k, act));
    RMK_TRY(ops->linear(device, block->v, siglip->normed, rows, siglip->v, act));
    RMK_TRY(ops->attention(device, siglip->q, siglip->segments, tile_count, spec->head_count,
                           spec->head_count, head_width, scale, siglip->attended));
    RMK_TRY(ops->linear(device, block->out, siglip->attended, rows, siglip->delta, RMK_F32));

    RMK_TRY(ops->layernorm(device, h, siglip->delta, block->norm2_weight, block->norm2_bias,
                           spec->layer_norm_eps, siglip->normed, rows, width));
    RMK_TRY(ops->linear(device, block->fc1, siglip->normed, rows, siglip->hidden, act));
    RMK_TRY(ops->gelu(device, siglip->hidden, (size_t)rows * spec->ff_width, RMK_GELU_TANH));
    RMK_TRY(ops->linear(device, block->fc2, siglip->hidden, rows, siglip->delta, RMK_F32));
out:
    return err;
}

static void lay_out_segments(struct rmk_siglip *siglip, uint32_t tile_count)
{
    const uint32_t patch_count = siglip->spec.side * siglip->spec.side;
    const size_t stride =
        (size_t)patch_count * siglip->spec.width * rmk_dtype_bytes(siglip->device->info.act);

    for (uint32_t i = 0; i < tile_count; i++) {
        siglip->segments[i] = (struct rmk_segment){
            .row_begin = i * patch_count,
            .row_count = patch_count,
            .kv_count = patch_count,
            .k = (uint8_t *)siglip->k + i * stride,
            .v = (uint8_t *)siglip->v + i * stride,
        };
    }
}

/* How far the tiles of several pictures have been taken. */
struct cursor {
    const struct rmk_siglip_tiles *pictures;
    uint32_t tile; /* of *pictures */
};

/* The next `count` tiles, a stretch of each picture at a time. */
static enum rmk_err take_patches(struct rmk_siglip *siglip, struct cursor *cursor, uint32_t count)
{
    struct rmk_device *device = siglip->device;
    const struct rmk_vision_spec *spec = &siglip->spec;
    const size_t tile_bytes = (size_t)spec->tile * spec->tile * spec->channel_count;
    const size_t patches_bytes = (size_t)spec->side * spec->side * spec->channel_count *
                                 spec->patch * spec->patch * rmk_dtype_bytes(device->info.act);
    enum rmk_err err = RMK_OK;

    for (uint32_t done = 0; done < count;) {
        const uint32_t left = cursor->pictures->count - cursor->tile;
        const uint32_t taken = left < count - done ? left : count - done;
        RMK_TRY(device->ops->patches(device, cursor->pictures->pixels + cursor->tile * tile_bytes,
                                     taken, spec->tile, spec->patch,
                                     (uint8_t *)siglip->patches + done * patches_bytes));
        done += taken;
        cursor->tile += taken;
        if (cursor->tile == cursor->pictures->count) {
            cursor->pictures++;
            cursor->tile = 0;
        }
    }
out:
    return err;
}

static enum rmk_err run_batch(struct rmk_siglip *siglip, struct cursor *cursor, uint32_t count,
                              float *h)
{
    struct rmk_device *device = siglip->device;
    const struct rmk_ops *ops = device->ops;
    const struct rmk_vision_spec *spec = &siglip->spec;
    const uint32_t patch_count = spec->side * spec->side;
    const uint32_t rows = count * patch_count;
    enum rmk_err err;

    lay_out_segments(siglip, count);
    RMK_TRY(take_patches(siglip, cursor, count));
    RMK_TRY(ops->linear(device, siglip->patch_embedding, siglip->patches, rows, h, RMK_F32));
    RMK_TRY(ops->add_cyclic(device, h, siglip->position_embedding, rows, patch_count, spec->width));
    for (uint32_t i = 0; i < spec->layer_count; i++) {
        RMK_TRY(run_block(siglip, &siglip->blocks[i], h, i == 0 ? NULL : siglip->delta, count));
    }
    if (spec->layer_count > 0) {
        RMK_TRY(ops->add(device, h, siglip->delta, (size_t)rows * spec->width));
    }
    err = RMK_OK;
out:
    return err;
}

enum rmk_err rmk_siglip_run(struct rmk_siglip *siglip, const struct rmk_siglip_tiles *pictures,
                            uint32_t picture_count, float *rows_out, struct rmk_why *why)
{
    const struct rmk_vision_spec *spec = &siglip->spec;
    const size_t tile_rows = (size_t)spec->side * spec->side * spec->width;
    struct cursor cursor = {.pictures = pictures};
    uint32_t count = 0;
    enum rmk_err err = RMK_OK;

    for (uint32_t i = 0; i < picture_count; i++) {
        rmk_assert(pictures[i].count > 0);
        count += pictures[i].count;
    }
    for (uint32_t begin = 0; begin < count; begin += siglip->tile_batch) {
        uint32_t batch = count - begin < siglip->tile_batch ? count - begin : siglip->tile_batch;
        err = run_batch(siglip, &cursor, batch, rows_out + begin * tile_rows);
        if (err != RMK_OK) {
            return rmk_fail(why, err, "the %s device failed in the vision tower",
                            siglip->device->info.backend);
        }
    }
    return err;
}
