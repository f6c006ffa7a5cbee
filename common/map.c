#include "common/map.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

#include "common/clock.h"

struct rmk_map {
    struct rmk_map_node **buckets;
    size_t bucket_count; /* a power of two, at least count_max */
    size_t count;
    size_t count_max;
};

static uint64_t secret[2];
static pthread_once_t secret_once = PTHREAD_ONCE_INIT;

static void make_secret(void)
{
    if (getrandom(secret, sizeof(secret), GRND_NONBLOCK) != (ssize_t)sizeof(secret)) {
        /* Only very early at boot. Better a weak secret than none. */
        secret[0] = rmk_clock_wall_us();
        secret[1] = rmk_clock_us() * 0x9e3779b97f4a7c15u;
    }
}

static uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

/* SipHash-1-3: one round per word, three at the end. Enough to hide collisions, which is all we
 * ask. */
static uint64_t hash_of(struct rmk_bytes key)
{
    uint64_t v[4] = {secret[0] ^ 0x736f6d6570736575u, secret[1] ^ 0x646f72616e646f6du,
                     secret[0] ^ 0x6c7967656e657261u, secret[1] ^ 0x7465646279746573u};

    for (size_t at = 0; at <= key.size; at += 8) {
        uint64_t word = 0;
        size_t left = key.size - at;
        if (left > 0) {
            memcpy(&word, key.data + at, left < 8 ? left : 8);
        }
        if (left < 8) {
            word |= (uint64_t)(key.size & 0xff) << 56;
        }
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

struct rmk_map *rmk_map_create(size_t count_max)
{
    struct rmk_map *map = calloc(1, sizeof(*map));

    rmk_assert(count_max > 0);
    rmk_assert(count_max <= (size_t)1 << 32);
    (void)pthread_once(&secret_once, make_secret);
    if (map == NULL) {
        return NULL;
    }
    map->count_max = count_max;
    map->bucket_count = 1;
    while (map->bucket_count < count_max) {
        map->bucket_count *= 2;
    }
    map->buckets = calloc(map->bucket_count, sizeof(map->buckets[0]));
    if (map->buckets == NULL) {
        free(map);
        return NULL;
    }
    return map;
}

void rmk_map_destroy(struct rmk_map *map)
{
    if (map == NULL) {
        return;
    }
    free(map->buckets);
    free(map);
}

size_t rmk_map_count(const struct rmk_map *map)
{
    return map->count;
}

static struct rmk_map_node **bucket_of(const struct rmk_map *map, uint64_t hash)
{
    return &map->buckets[hash & (map->bucket_count - 1)];
}

static struct rmk_map_node *find(const struct rmk_map *map, struct rmk_bytes key, uint64_t hash)
{
    struct rmk_map_node *node = *bucket_of(map, hash);

    while (node != NULL && (node->hash != hash || !rmk_bytes_equal(node->key, key))) {
        node = node->next;
    }
    return node;
}

struct rmk_map_node *rmk_map_find(const struct rmk_map *map, struct rmk_bytes key)
{
    return find(map, key, hash_of(key));
}

enum rmk_err rmk_map_insert(struct rmk_map *map, struct rmk_map_node *node, struct rmk_bytes key)
{
    uint64_t hash = hash_of(key);

    if (find(map, key, hash) != NULL) {
        return RMK_EEXISTS;
    }
    if (map->count == map->count_max) {
        return RMK_ELIMIT;
    }
    struct rmk_map_node **bucket = bucket_of(map, hash);
    *node = (struct rmk_map_node){.next = *bucket, .hash = hash, .key = key};
    *bucket = node;
    map->count++;
    return RMK_OK;
}

void rmk_map_remove(struct rmk_map *map, struct rmk_map_node *node)
{
    struct rmk_map_node **link = bucket_of(map, node->hash);

    while (*link != node) {
        rmk_assert(*link != NULL);
        link = &(*link)->next;
    }
    *link = node->next;
    node->next = NULL;
    map->count--;
}

void rmk_map_each(struct rmk_map *map, void (*visit)(struct rmk_map_node *node, void *context),
                  void *context)
{
    for (size_t i = 0; i < map->bucket_count; i++) {
        struct rmk_map_node *following;
        for (struct rmk_map_node *node = map->buckets[i]; node != NULL; node = following) {
            following = node->next;
            visit(node, context);
        }
    }
}
