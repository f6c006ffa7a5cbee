/* Projected features by content key, bounded in bytes; least recently used goes first. An entry
 * that is being sent is pinned and outlives its eviction.
 */
#ifndef RMK_WORKER_VISION_CACHE_H
#define RMK_WORKER_VISION_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct rmk_feature_cache;

struct rmk_feature_entry {
    uint8_t key[32];
    float *rows; /* [row_count, width] */
    uint32_t row_count;
    uint32_t width;
    uint32_t tile_count;
    uint64_t xxh64; /* of the bytes */
};

enum rmk_err rmk_feature_cache_create(uint64_t bytes_max, struct rmk_feature_cache **out_cache,
                                      struct rmk_why *why);
/* Nothing may be pinned any more. Takes NULL. */
void rmk_feature_cache_destroy(struct rmk_feature_cache *cache);

/* NULL when it is not here. What is found becomes the most recently used. */
const struct rmk_feature_entry *rmk_feature_cache_find(struct rmk_feature_cache *cache,
                                                       const uint8_t key[32]);

/* Takes over `rows` (malloc'ed), also on failure. An entry of that key is replaced. One item larger
 * than the whole cache is RMK_ELIMIT. */
enum rmk_err rmk_feature_cache_put(struct rmk_feature_cache *cache,
                                   const struct rmk_feature_entry *entry, struct rmk_why *why);

void rmk_feature_cache_pin(struct rmk_feature_cache *cache, const struct rmk_feature_entry *entry);
void rmk_feature_cache_unpin(struct rmk_feature_cache *cache,
                             const struct rmk_feature_entry *entry);

uint64_t rmk_feature_cache_bytes(const struct rmk_feature_cache *cache);
uint32_t rmk_feature_cache_count(const struct rmk_feature_cache *cache);

#endif
