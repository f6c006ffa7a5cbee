#include "worker/vision/encoder.h"

#include <math.h>
#include <stdlib.h>

#include "worker/vision/features.h"
#include "worker/vision/projector.h"
#include "worker/vision/siglip.h"
#include "worker/vision/tensors.h"

struct rmk_encoder {
    struct rmk_spec spec;
    struct rmk_device *device;
    struct rmk_siglip *siglip;
    struct rmk_projector *projector;
    struct rmk_features *features;
    /* device fp32, grown to the largest item seen */
    float *tower;
    size_t tower_bytes;
    float *projected;
    size_t projected_bytes;
    float *rows;
    size_t rows_bytes;
};

/* The tower's own checkpoint: the model's when it holds one, else the configured SigLIP directory.
 */
static enum rmk_err open_tower(const struct rmk_spec *spec, const struct rmk_checkpoint *model,
                               struct rmk_checkpoint **out_separate, struct rmk_why *why)
{
    enum rmk_err err;

    if (rmk_siglip_present(model)) {
        return RMK_OK;
    }
    if (spec->vision_dir[0] == '\0') {
        return rmk_fail(why, RMK_ENOTFOUND,
                        "%s holds no vision tower (model.vision_tower.*) and no SigLIP directory "
                        "is configured (--vision-dir)",
                        spec->dir);
    }
    err = rmk_checkpoint_open(spec->vision_dir, out_separate, why);
    if (err != RMK_OK) {
        rmk_why_context(why, "%s holds no vision tower, and its SigLIP directory", spec->dir);
        return err;
    }
    if (!rmk_siglip_present(*out_separate)) {
        return rmk_fail(why, RMK_ENOTFOUND, "neither %s nor %s holds a vision tower", spec->dir,
                        spec->vision_dir);
    }
    return RMK_OK;
}

static enum rmk_err load_features(struct rmk_encoder *encoder, const struct rmk_checkpoint *model,
                                  struct rmk_why *why)
{
    const uint64_t width = encoder->spec.text.width;
    const struct rmk_tensor *tensor = NULL;
    enum rmk_err err;

    float *newline = calloc(width, sizeof(float));
    if (newline == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for model.image_newline");
        goto out;
    }
    if (model != NULL) {
        RMK_TRY(rmk_checkpoint_expect(model, "model.image_newline", 1, &width, &tensor, why));
        rmk_tensor_to_f32(tensor, 0, width, newline);
    }
    RMK_TRY(rmk_features_create(encoder->device, &encoder->spec.grid, (uint32_t)width, newline,
                                &encoder->features, why));
out:
    free(newline);
    return err;
}

static enum rmk_err reserve(struct rmk_encoder *encoder, uint32_t tile_batch, struct rmk_why *why)
{
    const struct rmk_vision_spec *vision = &encoder->spec.vision;
    const uint32_t patches = vision->side * vision->side;
    const uint32_t patch_width = vision->channel_count * vision->patch * vision->patch;
    uint32_t widest =
        vision->ff_width > encoder->spec.text.width ? vision->ff_width : encoder->spec.text.width;
    widest = vision->width > widest ? vision->width : widest;
    struct rmk_reserve sizes = {
        .rows_max = tile_batch * patches,
        .kv_rows_max = patches,
        .heads_max = vision->head_count,
        .head_width_max = vision->width / vision->head_count,
        .inner_max = patch_width > widest ? patch_width : widest,
        .outer_max = widest,
        .head_rows_max = 0,
        .vocab = 0,
    };

    return encoder->device->ops->reserve(encoder->device, &sizes, why);
}

enum rmk_err rmk_encoder_create(const struct rmk_encoder_options *options,
                                struct rmk_encoder **out_encoder, struct rmk_why *why)
{
    struct rmk_checkpoint *model = NULL;
    struct rmk_checkpoint *separate = NULL;
    enum rmk_err err;

    struct rmk_encoder *encoder = calloc(1, sizeof(*encoder));
    if (encoder == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for the encoder");
        goto out;
    }
    encoder->spec = *options->spec;
    encoder->device = options->device;
    if (!encoder->spec.vision.present) {
        err =
            rmk_fail(why, RMK_EUNSUPPORTED,
                     "%s is a text-only model: there is nothing to encode with", encoder->spec.dir);
        goto out;
    }
    if (!options->load_dummy) {
        RMK_TRY(rmk_checkpoint_open(encoder->spec.dir, &model, why));
        RMK_TRY(open_tower(&encoder->spec, model, &separate, why));
    }
    RMK_TRY(rmk_siglip_create(&encoder->spec.vision, encoder->device,
                              separate != NULL ? separate : model, options->dummy_seed,
                              options->tile_batch, &encoder->siglip, why));
    RMK_TRY(rmk_projector_create(&encoder->spec, encoder->device, model, options->dummy_seed,
                                 options->tile_batch * encoder->spec.vision.side *
                                     encoder->spec.vision.side,
                                 &encoder->projector, why));
    RMK_TRY(load_features(encoder, model, why));
    RMK_TRY(reserve(encoder, options->tile_batch, why));
    *out_encoder = encoder;
    encoder = NULL;
out:
    rmk_encoder_destroy(encoder);
    rmk_checkpoint_close(model);
    rmk_checkpoint_close(separate);
    return err;
}

void rmk_encoder_destroy(struct rmk_encoder *encoder)
{
    if (encoder == NULL) {
        return;
    }
    const struct rmk_ops *ops = encoder->device->ops;
    rmk_features_destroy(encoder->features);
    rmk_projector_destroy(encoder->projector);
    rmk_siglip_destroy(encoder->siglip);
    ops->free(encoder->device, encoder->tower);
    ops->free(encoder->device, encoder->projected);
    ops->free(encoder->device, encoder->rows);
    free(encoder);
}

static enum rmk_err grow(struct rmk_device *device, float **buffer, size_t *capacity, size_t bytes,
                         struct rmk_why *why)
{
    void *fresh = NULL;
    enum rmk_err err;

    if (bytes <= *capacity) {
        return RMK_OK;
    }
    device->ops->free(device, *buffer);
    *buffer = NULL;
    *capacity = 0;
    err = device->ops->alloc(device, bytes, &fresh, why);
    if (err == RMK_OK) {
        *buffer = fresh;
        *capacity = bytes;
    }
    return err;
}

static enum rmk_err download(struct rmk_encoder *encoder, float *target, const float *source,
                             size_t bytes, struct rmk_why *why)
{
    enum rmk_err err = encoder->device->ops->download(encoder->device, target, source, bytes);

    return err == RMK_OK ? err
                         : rmk_fail(why, err, "the %s device failed in a read-back",
                                    encoder->device->info.backend);
}

static bool all_finite(const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(values[i])) {
            return false;
        }
    }
    return true;
}

/* Device memory for this batch; it only grows. */
static enum rmk_err make_room(struct rmk_encoder *encoder, const struct rmk_encoder_item *items,
                              uint32_t item_count, uint32_t tile_rows, struct rmk_why *why)
{
    struct rmk_device *device = encoder->device;
    const size_t width = encoder->spec.text.width;
    size_t rows_most = 0;
    enum rmk_err err;

    for (uint32_t i = 0; i < item_count; i++) {
        const size_t rows = items[i].tiles->grid.rows;
        rows_most = rows > rows_most ? rows : rows_most;
    }
    RMK_TRY(grow(device, &encoder->tower, &encoder->tower_bytes,
                 (size_t)tile_rows * encoder->spec.vision.width * sizeof(float), why));
    RMK_TRY(grow(device, &encoder->projected, &encoder->projected_bytes,
                 tile_rows * width * sizeof(float), why));
    RMK_TRY(
        grow(device, &encoder->rows, &encoder->rows_bytes, rows_most * width * sizeof(float), why));
out:
    return err;
}

/* One item's features, from its rows of the projected tiles. */
static enum rmk_err finish_item(struct rmk_encoder *encoder, struct rmk_encoder_item *item,
                                size_t first_row, struct rmk_why *why)
{
    const size_t rows = (size_t)item->tiles->grid.tile_count * encoder->spec.vision.side *
                        encoder->spec.vision.side;
    const size_t width = encoder->spec.text.width;
    const size_t vision_width = encoder->spec.vision.width;
    const float *projected = encoder->projected + first_row * width;
    const size_t count = item->tiles->grid.rows * width;
    enum rmk_err err;

    RMK_TRY(rmk_features_assemble(encoder->features, &item->tiles->grid, projected, encoder->rows,
                                  why));
    RMK_TRY(download(encoder, item->features, encoder->rows, count * sizeof(float), why));
    if (item->tower != NULL) {
        RMK_TRY(download(encoder, item->tower, encoder->tower + first_row * vision_width,
                         rows * vision_width * sizeof(float), why));
    }
    if (item->projected != NULL) {
        RMK_TRY(download(encoder, item->projected, projected, rows * width * sizeof(float), why));
    }
    item->err = RMK_OK;
    if (!all_finite(item->features, count)) {
        item->err =
            rmk_fail(why, RMK_EINTERNAL, "the vision tower gave a value that is not finite");
    }
out:
    return err;
}

enum rmk_err rmk_encoder_encode(struct rmk_encoder *encoder, struct rmk_encoder_item *items,
                                uint32_t item_count, struct rmk_why *why)
{
    const uint32_t patches = encoder->spec.vision.side * encoder->spec.vision.side;
    struct rmk_siglip_tiles pictures[RMK_ENCODER_ITEMS_MAX];
    uint32_t tile_rows = 0;
    size_t first_row = 0;
    enum rmk_err err;

    rmk_assert(item_count > 0);
    rmk_assert(item_count <= RMK_ENCODER_ITEMS_MAX);
    for (uint32_t i = 0; i < item_count; i++) {
        const struct rmk_tiles *tiles = items[i].tiles;
        pictures[i] =
            (struct rmk_siglip_tiles){.pixels = tiles->pixels, .count = tiles->grid.tile_count};
        tile_rows += tiles->grid.tile_count * patches;
    }
    RMK_TRY(make_room(encoder, items, item_count, tile_rows, why));
    RMK_TRY(rmk_siglip_run(encoder->siglip, pictures, item_count, encoder->tower, why));
    RMK_TRY(
        rmk_projector_run(encoder->projector, encoder->tower, tile_rows, encoder->projected, why));
    for (uint32_t i = 0; i < item_count; i++) {
        RMK_TRY(finish_item(encoder, &items[i], first_row, why));
        first_row += (size_t)items[i].tiles->grid.tile_count * patches;
    }
out:
    if (err != RMK_OK) {
        rmk_device_explain(encoder->device, why);
    }
    return err;
}
