/* A forward of dLLM-Cache over one sequence (reference specification, section 10): most rows take
 * what attention and MLP gave them in an earlier forward, and only their residual stream is new.
 *
 *     for each layer:    todo  = the prompt's rows, when the prompt is refreshed
 *                              + the answer's rows, when the answer is refreshed, else the
 *                                select_count whose value is least like the kept one
 *                        k, v [todo] and attention [todo] anew       x += attention
 *                        mlp [todo] anew                             x += mlp
 *
 * "Answer" is everything behind the prompt: all blocks, and the suffix. Keys are kept rotated: a
 * row's position is the same in every forward. With everything refreshed this is the plain forward,
 * bit by bit. Collective over the ranks of `exchange`, which all choose the same rows.
 */
#ifndef RMK_WORKER_TEXT_LLADA_FEATURE_H
#define RMK_WORKER_TEXT_LLADA_FEATURE_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/text/cache.h"
#include "worker/text/llada.h"

struct rmk_llada_feature; /* scratch of the choice */

struct rmk_llada_feature_step {
    uint32_t prompt; /* P */
    uint32_t total;  /* L */
    uint32_t
        begin; /* first row of the stream: 0, or P when nothing before it is refreshed or read */
    bool refresh_prompt;
    bool refresh_gen;
    uint32_t select_count;         /* when the answer is not refreshed */
    const uint32_t *const *chosen; /* [layers][select_count] rows behind P; NULL: by similarity */
    struct rmk_rotation rotation;
    const struct rmk_cache *cache;
    const struct rmk_kept *kept; /* with room for features */
};

/* `rows_max`: longest sequence. `size`: ranks. llada is borrowed. */
enum rmk_err rmk_llada_feature_create(struct rmk_llada *llada, uint32_t rows_max, uint32_t size,
                                      struct rmk_llada_feature **out_feature, struct rmk_why *why);
void rmk_llada_feature_destroy(struct rmk_llada_feature *feature);

/* The stream holds rows [begin, L) before; after it rmk_llada_finish takes rows of it as usual. */
enum rmk_err rmk_llada_feature_forward(struct rmk_llada_feature *feature,
                                       const struct rmk_llada_feature_step *step,
                                       struct rmk_exchange *exchange, struct rmk_why *why);

#endif
