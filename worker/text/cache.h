/* What is kept of a sequence from one forward to the next, per layer: keys (rotated) and values,
 * and for feature rows also what attention and MLP gave. One per rank, sized at create.
 *
 *     k, v           act  [layers, kv_rows_max, Hk*Dh]       this rank's key/value heads
 *     attention, mlp fp32 [layers, feature_rows_max, D]      after the sum over ranks
 *
 * A sequence holds an extent of L rows, row = position. When free rows are enough but scattered,
 * taking an extent first slides the others together; all ranks take and give back in the same
 * order, and so all have the same extents.
 */
#ifndef RMK_WORKER_TEXT_CACHE_H
#define RMK_WORKER_TEXT_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "worker/text/extents.h"

struct rmk_cache_sizes {
    uint32_t layer_count;
    uint32_t key_width;        /* Hk*Dh of this rank */
    uint32_t width;            /* D */
    uint32_t kv_rows_max;      /* 0: nothing is kept */
    uint32_t feature_rows_max; /* 0: no attention and MLP outputs are kept */
    uint32_t sequence_count;   /* how many may hold extents at once */
};

struct rmk_cache {
    struct rmk_device *device;
    struct rmk_cache_sizes sizes;
    uint64_t bytes;
    struct rmk_extents kv;
    struct rmk_extents features;
    void *k;
    void *v;
    float *attention;
    float *mlp;
};

/* What one sequence holds. All-zero: nothing. */
struct rmk_kept {
    struct rmk_extent kv;
    struct rmk_extent features;
    bool prompt_valid; /* rows [0, P) were written */
    bool gen_valid;    /* rows [P, L) */
};

/* All-zero is a valid state for rmk_cache_deinit. */
enum rmk_err rmk_cache_init(struct rmk_cache *cache, struct rmk_device *device,
                            const struct rmk_cache_sizes *sizes, struct rmk_why *why);
void rmk_cache_deinit(struct rmk_cache *cache);

/* RMK_ELIMIT: not so many rows are free. `kept` stays where it is until it is given back. */
enum rmk_err rmk_cache_take(struct rmk_cache *cache, uint32_t rows, bool features,
                            struct rmk_kept *kept, struct rmk_why *why);
void rmk_cache_give_back(struct rmk_cache *cache, struct rmk_kept *kept);

/* Row 0 of an extent in a layer. */
void *rmk_cache_k(const struct rmk_cache *cache, uint32_t layer, const struct rmk_kept *kept);
void *rmk_cache_v(const struct rmk_cache *cache, uint32_t layer, const struct rmk_kept *kept);
float *rmk_cache_attention(const struct rmk_cache *cache, uint32_t layer,
                           const struct rmk_kept *kept);
float *rmk_cache_mlp(const struct rmk_cache *cache, uint32_t layer, const struct rmk_kept *kept);

/* Bytes that one row takes in all layers. */
uint64_t rmk_cache_kv_row_bytes(uint32_t layer_count, uint32_t key_width, enum rmk_dtype act);
uint64_t rmk_cache_feature_row_bytes(uint32_t layer_count, uint32_t width);

#endif
