/* The SigLIP2 tower without its last block and head (reference specification, section 6): u8 tiles
 * in, one fp32 row per patch out. Reads like the paper; backends differ below kernels.h only.
 */
#ifndef RMK_WORKER_VISION_SIGLIP_H
#define RMK_WORKER_VISION_SIGLIP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "kernels/kernels.h"
#include "model/safetensors.h"
#include "model/spec.h"

struct rmk_siglip;

/* `checkpoint` is searched for the LLaVA names first, then for a SigLIP directory's own names;
 * NULL: dummy weights from `dummy_seed`. Nothing of it is kept after create.
 *
 * Errors: RMK_ENOTFOUND (no tower under either name), RMK_ECORRUPT/RMK_EINVAL (a tensor's shape).
 */
enum rmk_err rmk_siglip_create(const struct rmk_vision_spec *spec, struct rmk_device *device,
                               const struct rmk_checkpoint *checkpoint, uint64_t dummy_seed,
                               uint32_t tile_batch, struct rmk_siglip **out_siglip,
                               struct rmk_why *why);
void rmk_siglip_destroy(struct rmk_siglip *siglip);

/* True when `checkpoint` holds a tower under one of the names. */
bool rmk_siglip_present(const struct rmk_checkpoint *checkpoint);

/* Tiles of one picture. */
struct rmk_siglip_tiles {
    const uint8_t *pixels; /* host u8 [count, S, S, 3] */
    uint32_t count;
};

/* The tiles of `picture_count` pictures one after another, tile_batch at a time whatever picture
 * they are of; rows_out device fp32 [tiles*side*side, width]. */
enum rmk_err rmk_siglip_run(struct rmk_siglip *siglip, const struct rmk_siglip_tiles *pictures,
                            uint32_t picture_count, float *rows_out, struct rmk_why *why);

#endif
