/* What the ranks know of a position, put together: the vocabulary is cut over ranks, and logits
 * never leave their shard.
 *
 * Pure. Every rank combines the same gathered bytes in the same order, so that all come to the same
 * guess.
 */
#ifndef RMK_WORKER_TEXT_SAMPLE_H
#define RMK_WORKER_TEXT_SAMPLE_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "worker/text/runner.h"

/* One position. results [rank * stride]: what rank 0, 1, … found.
 *
 * Token: the best (noisy) value of all; the lowest id among equals, since shards ascend with the
 * rank. Confidence: its softmax probability over all shards from clean logits.
 *
 * Returns false when the position is poisoned: a logit was not finite, or no token is left to
 * choose from. */
bool rmk_sample_combine(const struct rmk_head_result *results, uint32_t rank_count, uint32_t stride,
                        struct rmk_read *out_read);

#endif
