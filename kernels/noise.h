/* Gumbel noise of the head, in double; the one definition that every backend uses. */
#ifndef RMK_KERNELS_NOISE_H
#define RMK_KERNELS_NOISE_H

#include <math.h>
#include <stdbool.h>

#include "common/prng.h"
#include "kernels/kernels.h"

RMK_INLINE bool rmk_noise_wanted(const struct rmk_head_row *row)
{
    return row->noise != RMK_NOISE_NONE && row->temperature != 0.0;
}

/* Where the golden stream keeps the number of vocabulary id `id`. */
RMK_INLINE uint64_t rmk_noise_index(const struct rmk_head_row *row, uint32_t vocab_all, uint32_t id)
{
    return (row->forward * row->total_rows + row->position) * vocab_all + id;
}

/* The uniform number of vocabulary id `id`, in [0, 1). */
RMK_INLINE double rmk_noise_uniform(const struct rmk_head_row *row, uint32_t vocab_all, uint32_t id)
{
    if (row->noise == RMK_NOISE_PHILOX) {
        const uint32_t counter[4] = {id, row->position, (uint32_t)row->forward,
                                     (uint32_t)(row->forward >> 32)};
        struct rmk_philox block = rmk_prng_philox(row->seed, counter);
        return rmk_prng_unit53(((uint64_t)block.word[1] << 32) | block.word[0]);
    }
    return rmk_prng_unit53(rmk_prng_splitmix(row->seed, rmk_noise_index(row, vocab_all, id)));
}

/* logit - T ln(-ln u): the logarithm of the official exp(logit) / (-ln u)^T, so the order is the
 * same and nothing overflows. u = 0 gives -inf there as the official gives 0. */
RMK_INLINE double rmk_noise_apply(double logit, double temperature, double u)
{
    return logit - temperature * log(-log(u));
}

#endif
