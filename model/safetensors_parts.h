/* One mapped file of tensors, for the files safetensors_*.c. Others use model/safetensors.h. */
#ifndef RMK_MODEL_SAFETENSORS_PARTS_H
#define RMK_MODEL_SAFETENSORS_PARTS_H

#include <stdbool.h>
#include <stddef.h>

#include "model/safetensors.h"

struct rmk_shard_entry {
    char *name;
    struct rmk_tensor tensor;
};

struct rmk_shard {
    char *path;
    char *name; /* the last part of the path */
    void *map;
    size_t size;
    struct rmk_shard_entry *entries; /* ascending by name */
    size_t entry_count;
};

/* Map the file and check its header whole. To be closed also after an error. */
enum rmk_err rmk_shard_open(const char *path, struct rmk_shard *shard, struct rmk_why *why);
void rmk_shard_close(struct rmk_shard *shard);
/* NULL when there is no tensor of that name. */
const struct rmk_shard_entry *rmk_shard_find(const struct rmk_shard *shard, const char *name);

/* Of two entries: by name. */
int rmk_shard_compare_names(const void *a, const void *b);

/* Any ordinary file of at most `bytes_max`; NULL with size 0 when it is empty. */
enum rmk_err rmk_shard_map(const char *path, size_t bytes_max, void **out_map, size_t *out_size,
                           struct rmk_why *why);

enum rmk_err rmk_shard_no_memory(struct rmk_why *why);

/* The dtype that a header calls `name`. */
bool rmk_dtype_find(const char *name, enum rmk_dtype *out_dtype);

#endif
