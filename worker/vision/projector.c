#include "worker/vision/projector.h"

#include <stdio.h>
#include <stdlib.h>

#include "worker/vision/tensors.h"

enum { DEPTH_MAX = 8 };

struct rmk_projector {
    struct rmk_device *device;
    uint32_t depth;
    uint32_t input_width;
    uint32_t width;
    uint32_t rows_max;
    struct rmk_linear *linears[DEPTH_MAX];
    void *hidden[2]; /* act [rows_max, max(input_width, D)], used in turn */
};

static enum rmk_err load(struct rmk_projector *projector, const struct rmk_spec *spec,
                         struct rmk_vision_source *source, struct rmk_why *why)
{
    char name[64];
    enum rmk_err err;

    for (uint32_t i = 0; i < projector->depth; i++) {
        uint64_t shape[2] = {projector->width, i == 0 ? projector->input_width : projector->width};
        if (spec->vision.projector_plain) {
            (void)snprintf(name, sizeof(name), "model.mm_projector");
        } else {
            (void)snprintf(name, sizeof(name), "model.mm_projector.%u",
                           2 * i); /* the GELUs between take the odd numbers */
        }
        RMK_TRY(rmk_vision_linear(source, name, 2, shape, &projector->linears[i], why));
    }
    err = RMK_OK;
out:
    return err;
}

enum rmk_err rmk_projector_create(const struct rmk_spec *spec, struct rmk_device *device,
                                  const struct rmk_checkpoint *checkpoint, uint64_t dummy_seed,
                                  uint32_t rows_max, struct rmk_projector **out_projector,
                                  struct rmk_why *why)
{
    struct rmk_vision_source source = {
        .device = device, .checkpoint = checkpoint, .prefix = "", .dummy_seed = dummy_seed};
    enum rmk_err err;

    struct rmk_projector *projector = calloc(1, sizeof(*projector));
    if (projector == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for the projector");
        goto out;
    }
    projector->device = device;
    projector->depth = spec->vision.projector_depth;
    projector->input_width = spec->vision.width;
    projector->width = spec->text.width;
    projector->rows_max = rows_max;
    if (projector->depth == 0 || projector->depth > DEPTH_MAX) {
        err = rmk_fail(why, RMK_EUNSUPPORTED,
                       "mm_projector_type has %u linears; 1 to %d are supported",
                       spec->vision.projector_depth, DEPTH_MAX);
        goto out;
    }
    RMK_TRY(load(projector, spec, &source, why));
    uint32_t widest =
        projector->input_width > projector->width ? projector->input_width : projector->width;
    size_t bytes = (size_t)rows_max * widest * rmk_dtype_bytes(device->info.act);
    RMK_TRY(device->ops->alloc(device, bytes, &projector->hidden[0], why));
    RMK_TRY(device->ops->alloc(device, bytes, &projector->hidden[1], why));
    *out_projector = projector;
    projector = NULL;
out:
    rmk_projector_destroy(projector);
    return err;
}

void rmk_projector_destroy(struct rmk_projector *projector)
{
    if (projector == NULL) {
        return;
    }
    struct rmk_device *device = projector->device;
    for (int i = 0; i < DEPTH_MAX; i++) {
        device->ops->linear_destroy(device, projector->linears[i]);
    }
    device->ops->free(device, projector->hidden[0]);
    device->ops->free(device, projector->hidden[1]);
    free(projector);
}

static enum rmk_err run_batch(struct rmk_projector *projector, const float *x, uint32_t rows,
                              float *y)
{
    struct rmk_device *device = projector->device;
    const struct rmk_ops *ops = device->ops;
    uint32_t side = 0;
    enum rmk_err err;

    RMK_TRY(ops->cast(device, x, projector->hidden[0], (size_t)rows * projector->input_width));
    for (uint32_t i = 0; i + 1 < projector->depth; i++) {
        void *input = projector->hidden[side];
        void *output = projector->hidden[side ^ 1];
        RMK_TRY(ops->linear(device, projector->linears[i], input, rows, output, device->info.act));
        RMK_TRY(ops->gelu(device, output, (size_t)rows * projector->width, RMK_GELU_ERF));
        side ^= 1;
    }
    RMK_TRY(ops->linear(device, projector->linears[projector->depth - 1], projector->hidden[side],
                        rows, y, RMK_F32));
out:
    return err;
}

enum rmk_err rmk_projector_run(struct rmk_projector *projector, const float *x, uint32_t rows,
                               float *y, struct rmk_why *why)
{
    for (uint32_t begin = 0; begin < rows; begin += projector->rows_max) {
        uint32_t count = rows - begin < projector->rows_max ? rows - begin : projector->rows_max;
        enum rmk_err err = run_batch(projector, x + (size_t)begin * projector->input_width, count,
                                     y + (size_t)begin * projector->width);
        if (err != RMK_OK) {
            return rmk_fail(why, err, "the %s device failed in the projector",
                            projector->device->info.backend);
        }
    }
    return RMK_OK;
}
