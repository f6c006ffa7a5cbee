/* A hash map from byte keys to objects, with a bound. The node lives in the object, so nothing is
 * allocated after create; the key is borrowed and must live as long as the node is in. The hash is
 * keyed by a secret of the process (SipHash), so clients who choose keys cannot choose collisions.
 * One thread at a time.
 */
#ifndef RMK_COMMON_MAP_H
#define RMK_COMMON_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/err.h"

struct rmk_map;

struct rmk_map_node {
    struct rmk_map_node *next;
    uint64_t hash;
    struct rmk_bytes key;
};

#define rmk_map_entry(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

/* At most `count_max` nodes. NULL: no memory. */
struct rmk_map *rmk_map_create(size_t count_max);
/* The nodes belong to their objects and are left alone. */
void rmk_map_destroy(struct rmk_map *map);

size_t rmk_map_count(const struct rmk_map *map);
struct rmk_map_node *rmk_map_find(const struct rmk_map *map,
                                  struct rmk_bytes key); /* NULL: absent */

/* Errors: RMK_EEXISTS, RMK_ELIMIT. */
enum rmk_err rmk_map_insert(struct rmk_map *map, struct rmk_map_node *node, struct rmk_bytes key);
/* `node` must be in. */
void rmk_map_remove(struct rmk_map *map, struct rmk_map_node *node);

/* Calls `visit` for every node, in no order. `visit` may remove the node it was given, and no
 * other. */
void rmk_map_each(struct rmk_map *map, void (*visit)(struct rmk_map_node *node, void *context),
                  void *context);

#endif
