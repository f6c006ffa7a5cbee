/* From a decoded picture to what the tower reads (reference specification, sections 5.2 and 5.3).
 *
 *     picture ── rmk_grid_plan ──> grid
 *        └───── rmk_preprocess_tiles ──> u8 [tiles, S, S, 3] ── rmk_preprocess_normalize ──> f32
 * [tiles, 3, S, S]
 *
 * Tile 0 of an anyres picture is the base tile, the whole picture without regard to its aspect;
 * then the tiles of the grid, row by row. Every tile is computed from the picture alone, so tiles
 * may be shared out over threads or workers in any way. All bytes equal those of the official
 * program.
 */
#ifndef RMK_WORKER_VISION_PREPROCESS_H
#define RMK_WORKER_VISION_PREPROCESS_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "model/grid.h"
#include "worker/vision/picture.h"

/* Tiles first .. first+count-1 of `picture` into out_tiles [count, tile, tile, 3]. `grid` is the
 * picture's plan and `tile` its spec's tile size. For VIDEO, `picture` is one frame and every tile
 * of it is that frame. RMK_ELIMIT: no memory. */
enum rmk_err rmk_preprocess_tiles(const struct rmk_picture *picture, const struct rmk_grid *grid,
                                  uint32_t tile, uint32_t first, uint32_t count, uint8_t *out_tiles,
                                  struct rmk_why *why);

/* u8 [count, tile, tile, 3] to f32 [count, 3, tile, tile] in -1..1, with the reference's roundings.
 */
void rmk_preprocess_normalize(const uint8_t *tiles, uint32_t count, uint32_t tile, float *out);

#endif
