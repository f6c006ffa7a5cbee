/* What a text rank takes of its device's memory, by arithmetic alone: known before anything is
 * loaded, printed at start and by --dry-run, and held to what is really taken by its test.
 *
 *     weights       this rank's slice: products in the compute type, embedding as stored, norms
 * fp32 slots         rows of open requests, rotation tables, the step's own buffers activations
 * scratch of a forward of step_rows_max rows kv, features  what caches keep between forwards
 *     kernels       the device's own: staging, workspace, logits in flight, the driver's share
 */
#ifndef RMK_WORKER_TEXT_MEMORY_PLAN_H
#define RMK_WORKER_TEXT_MEMORY_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "model/spec.h"

struct rmk_memory_ask {
    const struct rmk_text_spec *text;
    enum rmk_dtype act;
    enum rmk_dtype stored; /* the checkpoint's type of weights */
    bool cuda;             /* the device has scratch of its own */
    uint32_t rank;
    uint32_t size;
    uint32_t slot_count;
    uint32_t rows_max;
    uint32_t step_rows_max;
    uint32_t reads_max;
    uint32_t kv_rows_max;
    uint32_t feature_rows_max;
    uint64_t free_bytes;   /* of the device, before anything is loaded */
    uint64_t memory_bytes; /* of the device altogether; with sharers */
    uint32_t sharers;      /* ranks on the device: no more than an equal share is ours; 0: one */
};

struct rmk_memory_plan {
    uint64_t weights_bytes;
    uint64_t slots_bytes;
    uint64_t activations_bytes;
    uint64_t kv_bytes;
    uint64_t features_bytes;
    uint64_t kernels_bytes;
    uint64_t total_bytes;
    uint64_t free_bytes; /* at most our share */
    uint32_t sharers;
    /* With everything else as asked: how many slots would fit, each with keys and values of
     * rows_max rows. */
    uint64_t slots_that_fit;
};

/* What a cache may take when nobody says how much: a quarter of the device's memory, which
 * `sharers` ranks divide among them. */
uint64_t rmk_memory_plan_cache_bytes(uint64_t memory_bytes, uint32_t sharers);

struct rmk_memory_plan rmk_memory_plan_make(const struct rmk_memory_ask *ask);

/* One line a person can read. */
void rmk_memory_plan_describe(const struct rmk_memory_plan *plan, char *out, size_t capacity);

#endif
