/* The MLP connector: tower rows to the text model's width (reference specification, section 6).
 * `mlpNx_gelu` alternates Linear and exact (erf) GELU; "linear" is one Linear. */
#ifndef RMK_WORKER_VISION_PROJECTOR_H
#define RMK_WORKER_VISION_PROJECTOR_H

#include <stdint.h>

#include "common/err.h"
#include "kernels/kernels.h"
#include "model/safetensors.h"
#include "model/spec.h"

struct rmk_projector;

/* `checkpoint` NULL: dummy weights. rows_max: rows of one call, scratch is sized for it. */
enum rmk_err rmk_projector_create(const struct rmk_spec *spec, struct rmk_device *device,
                                  const struct rmk_checkpoint *checkpoint, uint64_t dummy_seed,
                                  uint32_t rows_max, struct rmk_projector **out_projector,
                                  struct rmk_why *why);
void rmk_projector_destroy(struct rmk_projector *projector);

/* x device fp32 [rows, vision width], y device fp32 [rows, D]; any number of rows. */
enum rmk_err rmk_projector_run(struct rmk_projector *projector, const float *x, uint32_t rows,
                               float *y, struct rmk_why *why);

#endif
