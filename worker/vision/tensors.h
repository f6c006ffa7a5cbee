/* Small helpers that put checkpoint tensors of the vision side on the device. A NULL checkpoint
 * gives the values of model/dummy.h. */
#ifndef RMK_WORKER_VISION_TENSORS_H
#define RMK_WORKER_VISION_TENSORS_H

#include <stdint.h>

#include "common/err.h"
#include "kernels/kernels.h"
#include "model/safetensors.h"

struct rmk_vision_source {
    struct rmk_device *device;
    const struct rmk_checkpoint *checkpoint; /* NULL: dummy */
    const char *prefix;
    uint64_t dummy_seed;
};

/* fp32 vector or matrix of `count` elements on the device; the tensor must have exactly this shape.
 */
enum rmk_err rmk_vision_vector(struct rmk_vision_source *source, const char *name, uint32_t rank,
                               const uint64_t *shape, float **out, struct rmk_why *why);

/* `name`.weight of `rank` dimensions [n, …] with k elements a row, and `name`.bias [n]. */
enum rmk_err rmk_vision_linear(struct rmk_vision_source *source, const char *name, uint32_t rank,
                               const uint64_t *shape, struct rmk_linear **out, struct rmk_why *why);

#endif
