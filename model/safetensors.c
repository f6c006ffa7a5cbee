#include "model/safetensors.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/digest.h"
#include "model/safetensors_parts.h"

enum {
    INDEX_BYTES_MAX = 100 * 1000 * 1000,
    SHARDS_MAX = 4096,
};

static const char single_name[] = "model.safetensors";
static const char index_name[] = "model.safetensors.index.json";

/* Process lifetime, or until the worker has packed its slice. */
struct rmk_checkpoint {
    struct rmk_shard *shards;
    size_t shard_count;
    const struct rmk_shard_entry *
        *entries; /* what the index (or the single file) offers, ascending by name */
    size_t entry_count;
};

/* -- a directory
 * ----------------------------------------------------------------------------------- */

/* Join, and follow links only as far as one may.
 *
 * A link inside the directory is fine. A link that leaves it is refused, since a checkpoint that
 * was unpacked from somewhere could show us any file of this host; the one exception is the layout
 * of the Hugging Face cache, whose snapshots/REVISION/NAME are links into ../../blobs of the same
 * repository. */
static enum rmk_err resolve(const char *dir, const char *name, char out_path[PATH_MAX],
                            struct rmk_why *why)
{
    char root[PATH_MAX];
    char joined[PATH_MAX];

    if (realpath(dir, root) == NULL) {
        return rmk_fail(why, errno == ENOENT ? RMK_ENOTFOUND : RMK_EIO, "%.300s: %s", dir,
                        strerror(errno));
    }
    if (snprintf(joined, sizeof(joined), "%s/%s", root, name) >= (int)sizeof(joined)) {
        return rmk_fail(why, RMK_EINVAL, "%.300s: the path is too long", dir);
    }
    if (realpath(joined, out_path) == NULL) {
        return rmk_fail(why, errno == ENOENT ? RMK_ENOTFOUND : RMK_EIO, "%.150s/%.150s: %s", dir,
                        name, strerror(errno));
    }
    size_t length = strcmp(root, "/") == 0 ? 0 : strlen(root);
    if (strncmp(out_path, root, length) == 0 && out_path[length] == '/') {
        return RMK_OK;
    }
    char *revision = strrchr(root, '/');
    *revision = '\0';
    char *snapshots = strrchr(root, '/');
    if (snapshots != NULL && strcmp(snapshots, "/snapshots") == 0) {
        *snapshots = '\0';
        length = strlen(root);
        if (strncmp(out_path, root, length) == 0 && strncmp(out_path + length, "/blobs/", 7) == 0) {
            return RMK_OK;
        }
    }
    return rmk_fail(why, RMK_EINVAL, "%.150s/%.150s: is a link that leaves the directory", dir,
                    name);
}

static bool exists(const char *dir, const char *name)
{
    char path[PATH_MAX];

    return snprintf(path, sizeof(path), "%s/%s", dir, name) < (int)sizeof(path) &&
           access(path, F_OK) == 0;
}

/* Shards are plain names in the directory of the index: nothing published uses more. */
static bool is_plain_name(const char *name)
{
    return name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

static enum rmk_err shard_of(struct rmk_checkpoint *checkpoint, const char *dir, const char *name,
                             struct rmk_shard **out, struct rmk_why *why)
{
    char path[PATH_MAX];
    enum rmk_err err = RMK_OK;

    for (size_t i = 0; i < checkpoint->shard_count; i++) {
        if (strcmp(checkpoint->shards[i].name, name) == 0) {
            *out = &checkpoint->shards[i];
            goto out;
        }
    }
    if (!is_plain_name(name)) {
        err = rmk_fail(why, RMK_EINVAL,
                       "file %.200s is not a plain name in the checkpoint's directory", name);
        goto out;
    }
    if (checkpoint->shard_count == SHARDS_MAX) {
        err = rmk_fail(why, RMK_ELIMIT, "more than %d files", SHARDS_MAX);
        goto out;
    }
    RMK_TRY(resolve(dir, name, path, why));
    struct rmk_shard *shard = &checkpoint->shards[checkpoint->shard_count++];
    RMK_TRY(rmk_shard_open(path, shard, why));
    /* The name of the link, not of what it points to. */
    free(shard->name);
    shard->name = strdup(name);
    if (shard->name == NULL) {
        err = rmk_shard_no_memory(why);
        goto out;
    }
    *out = shard;
out:
    return err;
}

static int compare_entry_pointers(const void *a, const void *b)
{
    return rmk_shard_compare_names(*(const struct rmk_shard_entry *const *)a,
                                   *(const struct rmk_shard_entry *const *)b);
}

static enum rmk_err open_index(struct rmk_checkpoint *checkpoint, const char *dir, const char *path,
                               struct rmk_why *why)
{
    json_error_t error;
    json_t *index = NULL;
    void *map = NULL;
    size_t size = 0;
    const char *name;
    json_t *value;
    enum rmk_err err;

    RMK_TRY(rmk_shard_map(path, INDEX_BYTES_MAX, &map, &size, why));
    index = size == 0 ? NULL : json_loadb(map, size, JSON_REJECT_DUPLICATES, &error);
    json_t *weights = json_object_get(index, "weight_map");
    if (!json_is_object(weights)) {
        err = rmk_fail(why, RMK_ECORRUPT, "%s",
                       index != NULL ? "weight_map is missing or not an object"
                       : size == 0   ? "the file is empty"
                                     : error.text);
        goto out;
    }
    checkpoint->entries = calloc(json_object_size(weights) + 1, sizeof(checkpoint->entries[0]));
    if (checkpoint->entries == NULL) {
        err = rmk_shard_no_memory(why);
        goto out;
    }
    json_object_foreach(weights, name, value)
    {
        struct rmk_shard *shard = NULL;
        if (!json_is_string(value)) {
            err = rmk_fail(why, RMK_ECORRUPT, "weight_map: %.200s does not name a file", name);
            goto out;
        }
        RMK_TRY(shard_of(checkpoint, dir, json_string_value(value), &shard, why));
        const struct rmk_shard_entry *entry = rmk_shard_find(shard, name);
        if (entry == NULL) {
            err = rmk_fail(why, RMK_ECORRUPT,
                           "tensor %.200s is not in %.100s, where the index has it", name,
                           shard->name);
            goto out;
        }
        checkpoint->entries[checkpoint->entry_count++] = entry;
    }
out:
    json_decref(index);
    if (map != NULL) {
        (void)munmap(map, size);
    }
    if (err != RMK_OK) {
        rmk_why_context(why, "%s", index_name);
    }
    return err;
}

static enum rmk_err offer_single(struct rmk_checkpoint *checkpoint, struct rmk_why *why)
{
    const struct rmk_shard *shard = &checkpoint->shards[0];

    checkpoint->entries = calloc(shard->entry_count + 1, sizeof(checkpoint->entries[0]));
    if (checkpoint->entries == NULL) {
        return rmk_shard_no_memory(why);
    }
    for (size_t i = 0; i < shard->entry_count; i++) {
        checkpoint->entries[i] = &shard->entries[i];
    }
    checkpoint->entry_count = shard->entry_count;
    return RMK_OK;
}

static enum rmk_err checkpoint_alloc(size_t shard_max, struct rmk_checkpoint **out,
                                     struct rmk_why *why)
{
    struct rmk_checkpoint *checkpoint = calloc(1, sizeof(*checkpoint));

    if (checkpoint == NULL) {
        return rmk_shard_no_memory(why);
    }
    /* Its full size at once: entries hold pointers into it. */
    checkpoint->shards = calloc(shard_max, sizeof(checkpoint->shards[0]));
    if (checkpoint->shards == NULL) {
        free(checkpoint);
        return rmk_shard_no_memory(why);
    }
    *out = checkpoint;
    return RMK_OK;
}

enum rmk_err rmk_checkpoint_open(const char *dir, struct rmk_checkpoint **out_checkpoint,
                                 struct rmk_why *why)
{
    struct rmk_checkpoint *checkpoint = NULL;
    char path[PATH_MAX];
    enum rmk_err err;

    RMK_TRY(checkpoint_alloc(SHARDS_MAX, &checkpoint, why));
    /* The single file first, as the official loader looks for them. */
    if (exists(dir, single_name)) {
        struct rmk_shard *shard;
        RMK_TRY(shard_of(checkpoint, dir, single_name, &shard, why));
        RMK_TRY(offer_single(checkpoint, why));
    } else if (exists(dir, index_name)) {
        RMK_TRY(resolve(dir, index_name, path, why));
        RMK_TRY(open_index(checkpoint, dir, path, why));
    } else {
        err =
            rmk_fail(why, RMK_ENOTFOUND, "%.300s: neither %s nor %s is there%s", dir, single_name,
                     index_name,
                     exists(dir, "pytorch_model.bin") || exists(dir, "pytorch_model.bin.index.json")
                         ? "; pickled weights are never read"
                         : "");
        goto out;
    }
    qsort(checkpoint->entries, checkpoint->entry_count, sizeof(checkpoint->entries[0]),
          compare_entry_pointers);

    *out_checkpoint = checkpoint;
    checkpoint = NULL;
out:
    rmk_checkpoint_close(checkpoint);
    return err;
}

enum rmk_err rmk_checkpoint_open_file(const char *path, struct rmk_checkpoint **out_checkpoint,
                                      struct rmk_why *why)
{
    struct rmk_checkpoint *checkpoint = NULL;
    enum rmk_err err;

    RMK_TRY(checkpoint_alloc(1, &checkpoint, why));
    checkpoint->shard_count = 1;
    RMK_TRY(rmk_shard_open(path, &checkpoint->shards[0], why));
    RMK_TRY(offer_single(checkpoint, why));

    *out_checkpoint = checkpoint;
    checkpoint = NULL;
out:
    rmk_checkpoint_close(checkpoint);
    return err;
}

void rmk_checkpoint_close(struct rmk_checkpoint *checkpoint)
{
    if (checkpoint == NULL) {
        return;
    }
    for (size_t i = 0; i < checkpoint->shard_count; i++) {
        rmk_shard_close(&checkpoint->shards[i]);
    }
    free(checkpoint->entries);
    free(checkpoint->shards);
    free(checkpoint);
}

/* -- looking --------------------------------------------------------------------------------------
 */

const struct rmk_tensor *rmk_checkpoint_find(const struct rmk_checkpoint *checkpoint,
                                             const char *name)
{
    struct rmk_shard_entry wanted = {.name = (char *)name};
    const struct rmk_shard_entry *pointer = &wanted;
    const struct rmk_shard_entry **found =
        bsearch(&pointer, checkpoint->entries, checkpoint->entry_count,
                sizeof(checkpoint->entries[0]), compare_entry_pointers);

    return found == NULL ? NULL : &(*found)->tensor;
}

static void print_shape(uint32_t rank, const uint64_t *shape, char *out, size_t capacity)
{
    size_t used = 0;

    out[0] = '\0';
    for (uint32_t i = 0; i < rank && used < capacity; i++) {
        int wrote = snprintf(out + used, capacity - used, "%s%llu", i == 0 ? "" : "x",
                             (unsigned long long)shape[i]);
        used += (size_t)wrote;
    }
}

enum rmk_err rmk_checkpoint_expect(const struct rmk_checkpoint *checkpoint, const char *name,
                                   uint32_t rank, const uint64_t *shape,
                                   const struct rmk_tensor **out_tensor, struct rmk_why *why)
{
    const struct rmk_tensor *tensor = rmk_checkpoint_find(checkpoint, name);
    char wanted[100];
    char found[100];

    print_shape(rank, shape, wanted, sizeof(wanted));
    if (tensor == NULL) {
        return rmk_fail(why, RMK_ENOTFOUND, "tensor %.200s (%s) is missing", name, wanted);
    }
    if (tensor->rank != rank || memcmp(tensor->shape, shape, rank * sizeof(*shape)) != 0) {
        print_shape(tensor->rank, tensor->shape, found, sizeof(found));
        return rmk_fail(why, RMK_ECORRUPT, "tensor %.200s has shape %s, the configuration wants %s",
                        name, found, wanted);
    }
    *out_tensor = tensor;
    return RMK_OK;
}

void rmk_checkpoint_place(const struct rmk_checkpoint *checkpoint, const struct rmk_tensor *tensor,
                          const char **out_path, uint64_t *out_offset)
{
    const uintptr_t data = (uintptr_t)tensor->data;

    for (size_t i = 0; i < checkpoint->shard_count; i++) {
        const struct rmk_shard *shard = &checkpoint->shards[i];
        const uintptr_t begin = (uintptr_t)shard->map;
        if (data >= begin && data - begin <= shard->size) {
            *out_path = shard->path;
            *out_offset = data - begin;
            return;
        }
    }
    rmk_assert(!"the tensor is of another checkpoint");
}

size_t rmk_checkpoint_count(const struct rmk_checkpoint *checkpoint)
{
    return checkpoint->entry_count;
}

const char *rmk_checkpoint_name(const struct rmk_checkpoint *checkpoint, size_t index)
{
    rmk_assert(index < checkpoint->entry_count);
    return checkpoint->entries[index]->name;
}

/* -- digest
 * ---------------------------------------------------------------------------------------- */

static int compare_shard_names(const void *a, const void *b)
{
    return strcmp((*(const struct rmk_shard *const *)a)->name,
                  (*(const struct rmk_shard *const *)b)->name);
}

void rmk_checkpoint_digest(const struct rmk_checkpoint *checkpoint, uint8_t out_digest[32])
{
    struct rmk_digest *digest = NULL;
    const struct rmk_shard **shards = calloc(checkpoint->shard_count + 1, sizeof(*shards));

    rmk_assert(shards != NULL);
    rmk_assert(rmk_digest_create(&digest, NULL) == RMK_OK);
    for (size_t i = 0; i < checkpoint->entry_count; i++) {
        const struct rmk_tensor *tensor = &checkpoint->entries[i]->tensor;
        rmk_digest_part(digest, "tensor", rmk_bytes_text(checkpoint->entries[i]->name));
        rmk_digest_part(digest, "dtype", rmk_bytes_text(rmk_dtype_name(tensor->dtype)));
        rmk_digest_part(digest, "shape",
                        rmk_bytes_of(tensor->shape, tensor->rank * sizeof(tensor->shape[0])));
    }
    /* By name: the index may list files in any order. */
    for (size_t i = 0; i < checkpoint->shard_count; i++) {
        shards[i] = &checkpoint->shards[i];
    }
    qsort(shards, checkpoint->shard_count, sizeof(*shards), compare_shard_names);
    for (size_t i = 0; i < checkpoint->shard_count; i++) {
        rmk_digest_part(digest, "file", rmk_bytes_text(shards[i]->name));
        rmk_digest_part_u64(digest, "bytes", shards[i]->size);
    }
    rmk_digest_finish(digest, out_digest);
    rmk_digest_destroy(digest);
    free(shards);
}
