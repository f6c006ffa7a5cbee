/* Byte-pair merging of one piece of text, in n log n whatever the piece.
 *
 * Always the pair with the lowest rank is merged, of equal pairs the leftmost, as Hugging Face's
 * tokenizers do it: a linked list of symbols and a heap of the pairs that may merge. A heap entry
 * is never taken out when its pair goes away; it is recognised as stale when it comes up.
 */
#ifndef RMK_MODEL_BPE_H
#define RMK_MODEL_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct rmk_merge {
    uint64_t pair; /* left id << 32 | right id */
    uint32_t rank;
    int32_t id; /* what the pair becomes, -1 in an empty place */
};

/* The merges of a tokenizer: a hash table, at most half full. Zero-initialised means none. */
struct rmk_bpe {
    struct rmk_merge *places;
    uint64_t mask;     /* places - 1, a power of two less one */
    int32_t *rank_ids; /* [merges] what the merge of a rank gives */
};

enum rmk_err rmk_bpe_init(struct rmk_bpe *bpe, uint32_t merge_count);
void rmk_bpe_deinit(struct rmk_bpe *bpe);

/* `rank` counts from 0 and is below merge_count. A pair that is there already takes the new rank.
 */
void rmk_bpe_add(struct rmk_bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t id);

/* Scratch memory of one caller, grown as needed. Zero-initialised means none. */
struct rmk_bpe_scratch {
    struct rmk_bpe_symbol *symbols;
    uint64_t *heap;
    size_t capacity;      /* of symbols */
    size_t heap_capacity; /* of heap */
};

void rmk_bpe_scratch_deinit(struct rmk_bpe_scratch *scratch);

/* Merge ids [count] in place; *out_count is how many remain. `count` is below 2^31. Errors:
 * RMK_ELIMIT. */
enum rmk_err rmk_bpe_merge(const struct rmk_bpe *bpe, struct rmk_bpe_scratch *scratch, int32_t *ids,
                           size_t count, size_t *out_count);

#endif
