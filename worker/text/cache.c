#include "worker/text/cache.h"

#include <stddef.h>

uint64_t rmk_cache_kv_row_bytes(uint32_t layer_count, uint32_t key_width, enum rmk_dtype act)
{
    return (uint64_t)2 * layer_count * key_width * rmk_dtype_bytes(act);
}

uint64_t rmk_cache_feature_row_bytes(uint32_t layer_count, uint32_t width)
{
    return (uint64_t)2 * layer_count * width * sizeof(float);
}

static enum rmk_err take_memory(struct rmk_cache *cache, uint64_t bytes, void **out,
                                struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;

    if (bytes > 0) {
        RMK_TRY(cache->device->ops->alloc(cache->device, bytes, out, why));
        cache->bytes += bytes;
    }
out:
    return err;
}

enum rmk_err rmk_cache_init(struct rmk_cache *cache, struct rmk_device *device,
                            const struct rmk_cache_sizes *sizes, struct rmk_why *why)
{
    const uint64_t kv =
        (uint64_t)sizes->kv_rows_max *
        rmk_cache_kv_row_bytes(sizes->layer_count, sizes->key_width, device->info.act) / 2;
    const uint64_t features = (uint64_t)sizes->feature_rows_max *
                              rmk_cache_feature_row_bytes(sizes->layer_count, sizes->width) / 2;
    enum rmk_err err;

    *cache = (struct rmk_cache){.device = device, .sizes = *sizes};
    RMK_TRY(rmk_extents_init(&cache->kv, sizes->kv_rows_max, sizes->sequence_count, why));
    RMK_TRY(
        rmk_extents_init(&cache->features, sizes->feature_rows_max, sizes->sequence_count, why));
    RMK_TRY(take_memory(cache, kv, &cache->k, why));
    RMK_TRY(take_memory(cache, kv, &cache->v, why));
    RMK_TRY(take_memory(cache, features, (void **)&cache->attention, why));
    RMK_TRY(take_memory(cache, features, (void **)&cache->mlp, why));
out:
    return err;
}

void rmk_cache_deinit(struct rmk_cache *cache)
{
    void *const memory[] = {cache->k, cache->v, cache->attention, cache->mlp};

    for (unsigned i = 0; i < sizeof(memory) / sizeof(memory[0]); i++) {
        if (memory[i] != NULL) {
            cache->device->ops->free(cache->device, memory[i]);
        }
    }
    rmk_extents_deinit(&cache->kv);
    rmk_extents_deinit(&cache->features);
    *cache = (struct rmk_cache){0};
}

/* `store` [layers, rows, width] fp32: rows [begin, begin + count) go `gap` rows down, in pieces
 * that do not overlap what they are written to. */
static enum rmk_err slide(struct rmk_cache *cache, float *store, uint32_t store_rows,
                          uint32_t width, struct rmk_extent extent, uint32_t gap)
{
    struct rmk_device *device = cache->device;
    enum rmk_err err = RMK_OK;

    for (uint32_t layer = 0; layer < cache->sizes.layer_count; layer++) {
        float *source = store + ((size_t)layer * store_rows + extent.begin) * width;
        for (uint32_t done = 0; done < extent.count; done += gap) {
            uint32_t count = extent.count - done < gap ? extent.count - done : gap;
            RMK_TRY(device->ops->copy_rows(device, source + (size_t)done * width, NULL,
                                           source + ((size_t)done - gap) * width, NULL, count,
                                           width));
        }
    }
out:
    return err;
}

/* Whatever the type, a row of keys is moved as words of four bytes: a head's width is even. */
static uint32_t key_words(const struct rmk_cache *cache)
{
    return cache->sizes.key_width * (uint32_t)rmk_dtype_bytes(cache->device->info.act) /
           (uint32_t)sizeof(float);
}

static enum rmk_err close_gaps(struct rmk_cache *cache, struct rmk_extents *extents)
{
    const bool is_kv = extents == &cache->kv;
    float *const stores[2] = {is_kv ? cache->k : cache->attention, is_kv ? cache->v : cache->mlp};
    const uint32_t width = is_kv ? key_words(cache) : cache->sizes.width;
    struct rmk_extent *extent;
    uint32_t gap;
    enum rmk_err err = RMK_OK;

    while ((extent = rmk_extents_loose(extents, &gap)) != NULL) {
        RMK_TRY(slide(cache, stores[0], extents->row_count, width, *extent, gap));
        RMK_TRY(slide(cache, stores[1], extents->row_count, width, *extent, gap));
        extent->begin -= gap;
    }
out:
    return err;
}

static enum rmk_err take_extent(struct rmk_cache *cache, struct rmk_extents *extents, uint32_t rows,
                                struct rmk_extent *extent, const char *what, struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;

    if (rows > extents->row_count - extents->used) {
        err = rmk_fail(why, RMK_ELIMIT, "no room to keep %s of %u rows: %u of %u are taken", what,
                       rows, extents->used, extents->row_count);
        goto out;
    }
    if (!rmk_extents_take(extents, rows, extent)) {
        RMK_TRY(close_gaps(cache, extents));
        bool taken = rmk_extents_take(extents, rows, extent);
        rmk_assert(taken);
    }
out:
    return err;
}

enum rmk_err rmk_cache_take(struct rmk_cache *cache, uint32_t rows, bool features,
                            struct rmk_kept *kept, struct rmk_why *why)
{
    enum rmk_err err;

    *kept = (struct rmk_kept){0};
    RMK_TRY(take_extent(cache, &cache->kv, rows, &kept->kv, "keys and values", why));
    if (features) {
        RMK_TRY(take_extent(cache, &cache->features, rows, &kept->features,
                            "attention and MLP outputs", why));
    }
out:
    if (err != RMK_OK) {
        rmk_cache_give_back(cache, kept);
    }
    return err;
}

void rmk_cache_give_back(struct rmk_cache *cache, struct rmk_kept *kept)
{
    rmk_extents_give_back(&cache->kv, &kept->kv);
    rmk_extents_give_back(&cache->features, &kept->features);
    *kept = (struct rmk_kept){0};
}

static size_t key_bytes(const struct rmk_cache *cache, uint32_t layer, const struct rmk_kept *kept)
{
    return ((size_t)layer * cache->sizes.kv_rows_max + kept->kv.begin) * cache->sizes.key_width *
           rmk_dtype_bytes(cache->device->info.act);
}

void *rmk_cache_k(const struct rmk_cache *cache, uint32_t layer, const struct rmk_kept *kept)
{
    return (uint8_t *)cache->k + key_bytes(cache, layer, kept);
}

void *rmk_cache_v(const struct rmk_cache *cache, uint32_t layer, const struct rmk_kept *kept)
{
    return (uint8_t *)cache->v + key_bytes(cache, layer, kept);
}

static size_t feature_floats(const struct rmk_cache *cache, uint32_t layer,
                             const struct rmk_kept *kept)
{
    return ((size_t)layer * cache->sizes.feature_rows_max + kept->features.begin) *
           cache->sizes.width;
}

float *rmk_cache_attention(const struct rmk_cache *cache, uint32_t layer,
                           const struct rmk_kept *kept)
{
    return cache->attention + feature_floats(cache, layer, kept);
}

float *rmk_cache_mlp(const struct rmk_cache *cache, uint32_t layer, const struct rmk_kept *kept)
{
    return cache->mlp + feature_floats(cache, layer, kept);
}
