#include "model/bpe.h"

#include <stdbool.h>
#include <stdlib.h>

struct rmk_bpe_symbol {
    int32_t id; /* -1: swallowed by the symbol before it */
    int32_t previous;
    int32_t next; /* -1: none */
};

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* The finaliser of splitmix64. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

enum rmk_err rmk_bpe_init(struct rmk_bpe *bpe, uint32_t merge_count)
{
    uint64_t places = 16;

    while (places < 2 * (uint64_t)merge_count) {
        places *= 2;
    }
    bpe->places = malloc(places * sizeof(*bpe->places));
    bpe->rank_ids = malloc((merge_count + (size_t)1) * sizeof(*bpe->rank_ids));
    if (bpe->places == NULL || bpe->rank_ids == NULL) {
        rmk_bpe_deinit(bpe);
        return RMK_ELIMIT;
    }
    for (uint64_t i = 0; i < places; i++) {
        bpe->places[i].id = -1;
    }
    bpe->mask = places - 1;
    return RMK_OK;
}

void rmk_bpe_deinit(struct rmk_bpe *bpe)
{
    free(bpe->places);
    free(bpe->rank_ids);
    *bpe = (struct rmk_bpe){0};
}

/* The place of a pair, or the empty one where it would go. */
static struct rmk_merge *place_of(const struct rmk_bpe *bpe, uint64_t pair)
{
    uint64_t at = mix(pair) & bpe->mask;

    while (bpe->places[at].id >= 0 && bpe->places[at].pair != pair) {
        at = (at + 1) & bpe->mask;
    }
    return &bpe->places[at];
}

void rmk_bpe_add(struct rmk_bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t id)
{
    uint64_t pair = pair_of(left, right);

    *place_of(bpe, pair) = (struct rmk_merge){.pair = pair, .rank = rank, .id = id};
    bpe->rank_ids[rank] = id;
}

void rmk_bpe_scratch_deinit(struct rmk_bpe_scratch *scratch)
{
    free(scratch->symbols);
    free(scratch->heap);
    *scratch = (struct rmk_bpe_scratch){0};
}

static enum rmk_err reserve(struct rmk_bpe_scratch *scratch, size_t count)
{
    if (count <= scratch->capacity) {
        return RMK_OK;
    }
    size_t capacity = count < 64 ? 64 : count + count / 2;
    /* n - 1 pairs at first; each of at most n - 1 merges takes one out and puts at most two in. */
    size_t heap_capacity = 2 * capacity;
    rmk_bpe_scratch_deinit(scratch);
    scratch->symbols = malloc(capacity * sizeof(*scratch->symbols));
    scratch->heap = malloc(heap_capacity * sizeof(*scratch->heap));
    if (scratch->symbols == NULL || scratch->heap == NULL) {
        rmk_bpe_scratch_deinit(scratch);
        return RMK_ELIMIT;
    }
    scratch->capacity = capacity;
    scratch->heap_capacity = heap_capacity;
    return RMK_OK;
}

/* ---- a binary heap, smallest first, of rank << 32 | position of the left symbol ---- */

static void sink(uint64_t *heap, size_t count, size_t at)
{
    uint64_t item = heap[at];

    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= count) {
            break;
        }
        if (child + 1 < count && heap[child + 1] < heap[child]) {
            child++;
        }
        if (heap[child] >= item) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = item;
}

static void rise(uint64_t *heap, size_t at)
{
    uint64_t item = heap[at];

    while (at > 0 && heap[(at - 1) / 2] > item) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = item;
}

/* ---- merging ---- */

/* The merge of the symbol at `left` with the next one, NULL when there is none. */
static const struct rmk_merge *merge_at(const struct rmk_bpe *bpe,
                                        const struct rmk_bpe_symbol *symbols, int32_t left)
{
    if (left < 0 || symbols[left].id < 0 || symbols[left].next < 0) {
        return NULL;
    }
    const struct rmk_merge *merge =
        place_of(bpe, pair_of(symbols[left].id, symbols[symbols[left].next].id));
    return merge->id >= 0 ? merge : NULL;
}

static bool heap_item(const struct rmk_bpe *bpe, const struct rmk_bpe_symbol *symbols, int32_t left,
                      uint64_t *out_item)
{
    const struct rmk_merge *merge = merge_at(bpe, symbols, left);

    if (merge == NULL) {
        return false;
    }
    *out_item = (uint64_t)merge->rank << 32 | (uint32_t)left;
    return true;
}

static void join_with_next(struct rmk_bpe_symbol *symbols, int32_t left, int32_t id)
{
    int32_t right = symbols[left].next;
    int32_t after = symbols[right].next;

    symbols[left].id = id;
    symbols[left].next = after;
    symbols[right].id = -1;
    if (after >= 0) {
        symbols[after].previous = left;
    }
}

enum rmk_err rmk_bpe_merge(const struct rmk_bpe *bpe, struct rmk_bpe_scratch *scratch, int32_t *ids,
                           size_t count, size_t *out_count)
{
    enum rmk_err err = RMK_OK;
    size_t heap_count = 0;

    if (count < 2 || bpe->places == NULL) {
        *out_count = count;
        return RMK_OK;
    }
    RMK_TRY(reserve(scratch, count));
    struct rmk_bpe_symbol *symbols = scratch->symbols;
    uint64_t *heap = scratch->heap;
    for (size_t i = 0; i < count; i++) {
        symbols[i] = (struct rmk_bpe_symbol){
            .id = ids[i],
            .previous = (int32_t)i - 1,
            .next = i + 1 < count ? (int32_t)i + 1 : -1,
        };
    }
    for (size_t i = 0; i + 1 < count; i++) {
        heap_count += heap_item(bpe, symbols, (int32_t)i, &heap[heap_count]);
    }
    for (size_t i = heap_count / 2; i-- > 0;) {
        sink(heap, heap_count, i);
    }
    while (heap_count > 0) {
        uint64_t top = heap[0];
        int32_t left = (int32_t)(uint32_t)top;
        heap[0] = heap[--heap_count];
        sink(heap, heap_count, 0);
        /* Stale unless the pair there now gives the same token. The rank may differ: the reference
         * merges then too. */
        const struct rmk_merge *merge = merge_at(bpe, symbols, left);
        if (merge == NULL || merge->id != bpe->rank_ids[top >> 32]) {
            continue;
        }
        join_with_next(symbols, left, merge->id);
        const int32_t neighbours[] = {symbols[left].previous, left};
        for (size_t i = 0; i < 2; i++) {
            rmk_assert(heap_count < scratch->heap_capacity);
            if (heap_item(bpe, symbols, neighbours[i], &heap[heap_count])) {
                rise(heap, heap_count++);
            }
        }
    }
    size_t kept = 0;
    for (int32_t i = 0; i >= 0; i = symbols[i].next) {
        ids[kept++] = symbols[i].id;
    }
    *out_count = kept;
out:
    return err;
}
