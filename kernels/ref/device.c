#include "kernels/ref/ref.h"

#include <stdio.h>
#include <stdlib.h>

#include "kernels/backend.h"
#include "kernels/host.h"

static void release_scratch(struct rmk_ref *ref)
{
    free(ref->scores);
    free(ref->sums);
    free(ref->logits);
    ref->scores = NULL;
    ref->sums = NULL;
    ref->logits = NULL;
    ref->reserve = (struct rmk_reserve){0};
}

static enum rmk_err reserve(struct rmk_device *device, const struct rmk_reserve *wanted,
                            struct rmk_why *why)
{
    struct rmk_ref *ref = rmk_ref_of(device);

    release_scratch(ref);
    ref->scores = calloc((size_t)wanted->kv_rows_max + 1, sizeof(*ref->scores));
    ref->sums = calloc((size_t)wanted->head_width_max + 1, sizeof(*ref->sums));
    ref->logits = calloc((size_t)wanted->vocab + 1, sizeof(*ref->logits));
    if (ref->scores == NULL || ref->sums == NULL || ref->logits == NULL) {
        release_scratch(ref);
        return rmk_fail(why, RMK_ELIMIT, "no memory for the ref device's scratch");
    }
    ref->reserve = *wanted;
    return RMK_OK;
}

static const struct rmk_ops ops = {
    .alloc = rmk_host_alloc,
    .free = rmk_host_free,
    .upload = rmk_host_upload,
    .download = rmk_host_download,
    .reserve = reserve,
    .synchronize = rmk_host_synchronize,
    .linear_create = rmk_ref_linear_create,
    .linear_destroy = rmk_ref_linear_destroy,
    .linear = rmk_ref_linear,
    .embed = rmk_host_embed,
    .copy_rows = rmk_host_copy_rows,
    .add = rmk_ref_add,
    .add_cyclic = rmk_ref_add_cyclic,
    .cast = rmk_ref_cast,
    .rmsnorm = rmk_ref_rmsnorm,
    .layernorm = rmk_ref_layernorm,
    .rope_kv = rmk_ref_rope_kv,
    .attention = rmk_ref_attention,
    .swiglu = rmk_ref_swiglu,
    .gelu = rmk_ref_gelu,
    .patches = rmk_ref_patches,
    .bilinear = rmk_ref_bilinear,
    .pool2x2 = rmk_ref_pool2x2,
    .head = rmk_ref_head,
};

static void destroy(struct rmk_device *device)
{
    release_scratch(rmk_ref_of(device));
    free(device);
}

static enum rmk_err create(const struct rmk_device_options *options, struct rmk_device **out_device,
                           struct rmk_why *why)
{
    if (options->act != RMK_F32) {
        return rmk_fail(why, RMK_EINVAL, "backend ref computes in f32 only");
    }
    struct rmk_ref *ref = calloc(1, sizeof(*ref));
    if (ref == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for a device");
    }
    ref->device.ops = &ops;
    ref->device.info.backend = rmk_backend_ref.name;
    ref->device.info.act = RMK_F32;
    (void)snprintf(ref->device.info.description, sizeof(ref->device.info.description),
                   "ref plain C, sums in double, 1 thread");
    rmk_host_memory(&ref->device.info);
    *out_device = &ref->device;
    return RMK_OK;
}

const struct rmk_backend rmk_backend_ref = {
    .name = "ref",
    .create = create,
    .destroy = destroy,
};
