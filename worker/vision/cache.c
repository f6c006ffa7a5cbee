#include "worker/vision/cache.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "common/list.h"
#include "common/map.h"

enum { ENTRIES_MAX = 1 << 16 };

struct slot {
    struct rmk_feature_entry entry; /* first: what callers hold */
    struct rmk_list link;           /* least recently used first */
    struct rmk_map_node node;
    uint32_t pins;
    bool evicted;
};

struct rmk_feature_cache {
    struct rmk_map *map;
    struct rmk_list recency;
    uint64_t bytes;
    uint64_t bytes_max;
};

static uint64_t bytes_of(const struct slot *slot)
{
    return (uint64_t)slot->entry.row_count * slot->entry.width * sizeof(float);
}

enum rmk_err rmk_feature_cache_create(uint64_t bytes_max, struct rmk_feature_cache **out_cache,
                                      struct rmk_why *why)
{
    struct rmk_feature_cache *cache = calloc(1, sizeof(*cache));
    struct rmk_map *map = rmk_map_create(ENTRIES_MAX);

    if (cache == NULL || map == NULL) {
        free(cache);
        rmk_map_destroy(map);
        return rmk_fail(why, RMK_ELIMIT, "no memory for the feature cache");
    }
    cache->map = map;
    cache->bytes_max = bytes_max;
    rmk_list_init(&cache->recency);
    *out_cache = cache;
    return RMK_OK;
}

static void free_slot(struct slot *slot)
{
    free(slot->entry.rows);
    free(slot);
}

static void evict(struct rmk_feature_cache *cache, struct slot *slot)
{
    cache->bytes -= bytes_of(slot);
    rmk_list_remove(&slot->link);
    rmk_map_remove(cache->map, &slot->node);
    slot->evicted = true;
    if (slot->pins == 0) {
        free_slot(slot);
    }
}

void rmk_feature_cache_destroy(struct rmk_feature_cache *cache)
{
    if (cache == NULL) {
        return;
    }
    while (!rmk_list_empty(&cache->recency)) {
        struct slot *slot = rmk_list_entry(cache->recency.next, struct slot, link);
        rmk_assert(slot->pins == 0);
        evict(cache, slot);
    }
    rmk_map_destroy(cache->map);
    free(cache);
}

static struct slot *find(struct rmk_feature_cache *cache, const uint8_t key[32])
{
    struct rmk_map_node *node = rmk_map_find(cache->map, rmk_bytes_of(key, 32));

    return node == NULL ? NULL : rmk_map_entry(node, struct slot, node);
}

const struct rmk_feature_entry *rmk_feature_cache_find(struct rmk_feature_cache *cache,
                                                       const uint8_t key[32])
{
    struct slot *slot = find(cache, key);

    if (slot == NULL) {
        return NULL;
    }
    rmk_list_remove(&slot->link);
    rmk_list_append(&cache->recency, &slot->link);
    return &slot->entry;
}

enum rmk_err rmk_feature_cache_put(struct rmk_feature_cache *cache,
                                   const struct rmk_feature_entry *entry, struct rmk_why *why)
{
    enum rmk_err err;

    struct slot *slot = calloc(1, sizeof(*slot));
    if (slot == NULL) {
        free(entry->rows);
        return rmk_fail(why, RMK_ELIMIT, "no memory for a feature cache entry");
    }
    slot->entry = *entry;
    rmk_list_init(&slot->link);
    const uint64_t bytes = bytes_of(slot);
    if (bytes > cache->bytes_max) {
        err = rmk_fail(why, RMK_ELIMIT,
                       "features of %llu bytes are larger than the whole cache (%llu)",
                       (unsigned long long)bytes, (unsigned long long)cache->bytes_max);
        goto out;
    }
    struct slot *old = find(cache, entry->key);
    if (old != NULL) {
        evict(cache, old);
    }
    while (cache->bytes + bytes > cache->bytes_max || rmk_map_count(cache->map) == ENTRIES_MAX) {
        evict(cache, rmk_list_entry(cache->recency.next, struct slot, link));
    }
    slot->entry.xxh64 = XXH64(slot->entry.rows, bytes, 0);
    RMK_TRY(rmk_map_insert(cache->map, &slot->node,
                           rmk_bytes_of(slot->entry.key, sizeof(slot->entry.key))));
    rmk_list_append(&cache->recency, &slot->link);
    cache->bytes += bytes;
    slot = NULL;
out:
    if (slot != NULL) {
        free_slot(slot);
    }
    return err;
}

void rmk_feature_cache_pin(struct rmk_feature_cache *cache, const struct rmk_feature_entry *entry)
{
    (void)cache;
    ((struct slot *)entry)->pins++;
}

void rmk_feature_cache_unpin(struct rmk_feature_cache *cache, const struct rmk_feature_entry *entry)
{
    struct slot *slot = (struct slot *)entry;

    (void)cache;
    rmk_assert(slot->pins > 0);
    slot->pins--;
    if (slot->pins == 0 && slot->evicted) {
        free_slot(slot);
    }
}

uint64_t rmk_feature_cache_bytes(const struct rmk_feature_cache *cache)
{
    return cache->bytes;
}

uint32_t rmk_feature_cache_count(const struct rmk_feature_cache *cache)
{
    return (uint32_t)rmk_map_count(cache->map);
}
