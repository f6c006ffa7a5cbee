#include "worker/vision/tensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/dummy.h"

enum { NAME_MAX_BYTES = 256 };

static uint64_t element_count(uint32_t rank, const uint64_t *shape)
{
    uint64_t count = 1;

    for (uint32_t i = 0; i < rank; i++) {
        count *= shape[i];
    }
    return count;
}

/* Norm weights must be near one, or nothing survives the stack. */
static void fill_dummy(uint64_t model_seed, const char *name, float *values, uint64_t count)
{
    const uint64_t seed = rmk_dummy_seed(model_seed, name);
    const float base = strstr(name, "norm") != NULL && strstr(name, "weight") != NULL ? 1.0f : 0.0f;

    for (uint64_t i = 0; i < count; i++) {
        values[i] = base + rmk_dummy_f32(seed, i);
    }
}

/* Host fp32 copy, malloc'ed. */
static enum rmk_err read_tensor(struct rmk_vision_source *source, const char *name, uint32_t rank,
                                const uint64_t *shape, float **out, struct rmk_why *why)
{
    const struct rmk_tensor *tensor = NULL;
    char full[NAME_MAX_BYTES];
    uint64_t count = element_count(rank, shape);
    enum rmk_err err;

    float *values = malloc(count * sizeof(float));
    if (values == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for tensor %s", name);
        goto out;
    }
    (void)snprintf(full, sizeof(full), "%s%s", source->prefix, name);
    if (source->checkpoint == NULL) {
        fill_dummy(source->dummy_seed, full, values, count);
    } else {
        RMK_TRY(rmk_checkpoint_expect(source->checkpoint, full, rank, shape, &tensor, why));
        rmk_tensor_to_f32(tensor, 0, count, values);
    }
    *out = values;
    values = NULL;
    err = RMK_OK;
out:
    free(values);
    return err;
}

enum rmk_err rmk_vision_vector(struct rmk_vision_source *source, const char *name, uint32_t rank,
                               const uint64_t *shape, float **out, struct rmk_why *why)
{
    struct rmk_device *device = source->device;
    size_t bytes = element_count(rank, shape) * sizeof(float);
    float *host = NULL;
    void *target = NULL;
    enum rmk_err err;

    RMK_TRY(read_tensor(source, name, rank, shape, &host, why));
    RMK_TRY(device->ops->alloc(device, bytes, &target, why));
    RMK_TRY(device->ops->upload(device, target, host, bytes));
    RMK_TRY(device->ops->synchronize(device, why));
    *out = target;
    target = NULL;
out:
    if (target != NULL) {
        device->ops->free(device, target);
    }
    free(host);
    return err;
}

enum rmk_err rmk_vision_linear(struct rmk_vision_source *source, const char *name, uint32_t rank,
                               const uint64_t *shape, struct rmk_linear **out, struct rmk_why *why)
{
    struct rmk_device *device = source->device;
    char member[NAME_MAX_BYTES];
    uint64_t n = shape[0];
    uint64_t k = element_count(rank, shape) / n;
    float *weight = NULL;
    float *bias = NULL;
    enum rmk_err err;

    (void)snprintf(member, sizeof(member), "%s.weight", name);
    RMK_TRY(read_tensor(source, member, rank, shape, &weight, why));
    (void)snprintf(member, sizeof(member), "%s.bias", name);
    RMK_TRY(read_tensor(source, member, 1, &n, &bias, why));
    struct rmk_linear_source linear = {
        .weight_host = weight,
        .dtype = RMK_F32,
        .ld = k,
        .n = (uint32_t)n,
        .k = (uint32_t)k,
        .bias_host = bias,
    };
    RMK_TRY(device->ops->linear_create(device, &linear, out, why));
out:
    free(weight);
    free(bias);
    return err;
}
