/* From projected tile rows to prompt rows: unpad, down-interpolation, newlines, video pooling
 * (reference specification, section 7). The geometry was decided by model/grid; this moves rows.
 */
#ifndef RMK_WORKER_VISION_FEATURES_H
#define RMK_WORKER_VISION_FEATURES_H

#include <stdint.h>

#include "common/err.h"
#include "kernels/kernels.h"
#include "model/grid.h"

struct rmk_features;

/* `newline_host`: model.image_newline, fp32 [width]. */
enum rmk_err rmk_features_create(struct rmk_device *device, const struct rmk_grid_spec *spec,
                                 uint32_t width, const float *newline_host,
                                 struct rmk_features **out_features, struct rmk_why *why);
void rmk_features_destroy(struct rmk_features *features);

/* projected device fp32 [grid->tile_count, side*side, width]; rows_out device fp32 [grid->rows,
 * width]. */
enum rmk_err rmk_features_assemble(struct rmk_features *features, const struct rmk_grid *grid,
                                   const float *projected, float *rows_out, struct rmk_why *why);

#endif
