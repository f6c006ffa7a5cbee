#include "worker/text/sample.h"

#include <math.h>
#include <stddef.h>

bool rmk_sample_combine(const struct rmk_head_result *results, uint32_t rank_count, uint32_t stride,
                        struct rmk_read *out_read)
{
    const struct rmk_head_result *best = NULL;
    double max = -INFINITY;
    double sum = 0.0;

    for (uint32_t rank = 0; rank < rank_count; rank++) {
        const struct rmk_head_result *result = &results[(size_t)rank * stride];
        if (result->nonfinite) {
            return false;
        }
        if (result->token < 0) {
            continue; /* every column of this shard is suppressed */
        }
        if (best == NULL || result->best > best->best) {
            best = result;
        }
        max = fmax(max, result->max);
    }
    if (best == NULL) {
        return false;
    }
    for (uint32_t rank = 0; rank < rank_count; rank++) {
        const struct rmk_head_result *result = &results[(size_t)rank * stride];
        if (result->token >= 0) {
            sum += result->sum * exp(result->max - max);
        }
    }
    *out_read = (struct rmk_read){.token = best->token, .confidence = exp(best->logit - max) / sum};
    return true;
}
