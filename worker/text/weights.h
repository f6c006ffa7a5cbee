/* One rank's slice of the language model, packed for its device.
 *
 *     cut by             tensors
 *     key/value heads    q, k, v (rows), o (columns); a key/value head keeps its query heads
 *     F                  gate, up (rows), down (columns)
 *     V                  embed_tokens, lm_head (rows; rows beyond V do not exist)
 *     not at all         norms
 *
 * Cuts may be uneven: the first ranks get one more. A bias behind a column cut belongs to rank 0
 * alone, since the parts are summed. Letters: D width, H heads, Dh head width, F feed-forward, V
 * vocabulary, R ranks.
 */
#ifndef RMK_WORKER_TEXT_WEIGHTS_H
#define RMK_WORKER_TEXT_WEIGHTS_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "model/spec.h"

struct rmk_cut {
    uint32_t begin;
    uint32_t count;
};

/* Rank `rank`'s share of `total`. */
struct rmk_cut rmk_weights_cut(uint32_t total, uint32_t rank, uint32_t size);

struct rmk_layer_weights {
    float *input_norm;          /* [D] */
    struct rmk_linear *q;       /* [H*Dh / R, D] */
    struct rmk_linear *k;       /* [Hk*Dh / R, D] */
    struct rmk_linear *v;       /* [Hk*Dh / R, D] */
    struct rmk_linear *o;       /* [D, H*Dh / R] */
    float *post_norm;           /* [D] */
    struct rmk_linear *gate_up; /* [2*F / R, D]: gate above up */
    struct rmk_linear *down;    /* [D, F / R] */
};

struct rmk_weights {
    struct rmk_device *device;
    struct rmk_cut kv_heads;
    struct rmk_cut heads;
    struct rmk_cut ff;
    struct rmk_cut vocab;
    uint32_t layer_count;
    struct rmk_layer_weights *layers;
    void *embed; /* embed_dtype [V / R, D] */
    enum rmk_dtype embed_dtype;
    float *norm;             /* [D] */
    struct rmk_linear *head; /* [V / R, D] */
    uint64_t bytes;          /* of this slice in the checkpoint's types */
};

struct rmk_weights_options {
    const struct rmk_spec *spec;
    struct rmk_device *device; /* borrowed */
    uint32_t rank;
    uint32_t size;
    bool load_dummy;
    uint64_t dummy_seed;
};

/* Errors name the tensor: RMK_ENOTFOUND, RMK_ECORRUPT (another shape), RMK_EUNSUPPORTED (not F32,
 * BF16 or F16); RMK_EINVAL: more ranks than key/value heads.
 *
 * Dummy values are those of model/dummy.h; norms are 1. */
enum rmk_err rmk_weights_create(const struct rmk_weights_options *options,
                                struct rmk_weights **out_weights, struct rmk_why *why);
void rmk_weights_destroy(struct rmk_weights *weights);

#endif
