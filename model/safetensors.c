#include "model/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/digest.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "views are little-endian, as the files");

enum {
    PREFIX_BYTES = 8,
    HEADER_BYTES_MAX = 100 * 1000 * 1000, /* the format's own limit */
    INDEX_BYTES_MAX = 100 * 1000 * 1000,
    /* A header of nothing but brackets costs the JSON tree some hundred times its size. 10^5
     * tensors need some 1.4 million of these characters. */
    STRUCTURE_MAX = 4 * 1000 * 1000,
    SHARDS_MAX = 4096,
};

static const char single_name[] = "model.safetensors";
static const char index_name[] = "model.safetensors.index.json";

struct entry {
    char *name;
    struct rmk_tensor tensor;
};

struct shard {
    char *path;
    char *name; /* the last part of the path */
    void *map;
    size_t size;
    struct entry *entries; /* ascending by name */
    size_t entry_count;
};

/* Process lifetime, or until the worker has packed its slice. */
struct rmk_checkpoint {
    struct shard *shards;
    size_t shard_count;
    const struct entry *
        *entries; /* what the index (or the single file) offers, ascending by name */
    size_t entry_count;
};

static const struct {
    const char *name;
    size_t bytes;
} dtypes[] = {
    [RMK_F32] = {"F32", 4}, [RMK_BF16] = {"BF16", 2}, [RMK_F16] = {"F16", 2},
    [RMK_F64] = {"F64", 8}, [RMK_I64] = {"I64", 8},   [RMK_I32] = {"I32", 4},
    [RMK_U8] = {"U8", 1},
};
enum { DTYPE_COUNT = sizeof(dtypes) / sizeof(dtypes[0]) };

size_t rmk_dtype_bytes(enum rmk_dtype dtype)
{
    rmk_assert((unsigned)dtype < DTYPE_COUNT);
    return dtypes[dtype].bytes;
}

const char *rmk_dtype_name(enum rmk_dtype dtype)
{
    rmk_assert((unsigned)dtype < DTYPE_COUNT);
    return dtypes[dtype].name;
}

static enum rmk_err no_memory(struct rmk_why *why)
{
    return rmk_fail(why, RMK_ELIMIT, "no memory for the checkpoint's list of tensors");
}

/* -- one tensor of a header
 * ------------------------------------------------------------------------ */

static enum rmk_err parse_dtype(const char *name, const json_t *value, enum rmk_dtype *out,
                                struct rmk_why *why)
{
    const char *text = json_string_value(value);

    if (text == NULL) {
        return rmk_fail(why, RMK_ECORRUPT, "tensor %.200s: dtype is missing or not a string", name);
    }
    for (unsigned i = 0; i < DTYPE_COUNT; i++) {
        if (strcmp(dtypes[i].name, text) == 0) {
            *out = (enum rmk_dtype)i;
            return RMK_OK;
        }
    }
    return rmk_fail(why, RMK_EUNSUPPORTED, "tensor %.200s: dtype %.40s is none that is read here",
                    name, text);
}

static enum rmk_err parse_shape(const char *name, const json_t *value, struct rmk_tensor *tensor,
                                struct rmk_why *why)
{
    uint64_t bytes = rmk_dtype_bytes(tensor->dtype);

    if (!json_is_array(value) || json_array_size(value) > RMK_TENSOR_RANK_MAX) {
        return rmk_fail(why, RMK_ECORRUPT,
                        "tensor %.200s: shape is not a list of at most %d numbers", name,
                        RMK_TENSOR_RANK_MAX);
    }
    tensor->rank = (uint32_t)json_array_size(value);
    for (uint32_t i = 0; i < tensor->rank; i++) {
        const json_t *item = json_array_get(value, i);
        if (!json_is_integer(item) || json_integer_value(item) < 0) {
            return rmk_fail(why, RMK_ECORRUPT,
                            "tensor %.200s: shape holds something else than sizes", name);
        }
        tensor->shape[i] = (uint64_t)json_integer_value(item);
        if (__builtin_mul_overflow(bytes, tensor->shape[i], &bytes)) {
            return rmk_fail(why, RMK_ECORRUPT, "tensor %.200s: shape overflows", name);
        }
    }
    tensor->bytes = bytes;
    return RMK_OK;
}

static enum rmk_err parse_offsets(const char *name, const json_t *value, const uint8_t *data,
                                  uint64_t data_bytes, struct rmk_tensor *tensor,
                                  struct rmk_why *why)
{
    const json_t *first = json_array_get(value, 0);
    const json_t *second = json_array_get(value, 1);

    if (json_array_size(value) != 2 || !json_is_integer(first) || !json_is_integer(second)) {
        return rmk_fail(why, RMK_ECORRUPT, "tensor %.200s: data_offsets is not a pair of numbers",
                        name);
    }
    int64_t begin = json_integer_value(first);
    int64_t end = json_integer_value(second);
    if (begin < 0 || end < begin || (uint64_t)end > data_bytes) {
        return rmk_fail(
            why, RMK_ECORRUPT,
            "tensor %.200s: data_offsets [%lld, %lld] do not lie in the file's %llu data bytes",
            name, (long long)begin, (long long)end, (unsigned long long)data_bytes);
    }
    if ((uint64_t)(end - begin) != tensor->bytes) {
        return rmk_fail(why, RMK_ECORRUPT,
                        "tensor %.200s: shape and dtype need %llu bytes, data_offsets have %llu",
                        name, (unsigned long long)tensor->bytes, (unsigned long long)(end - begin));
    }
    tensor->data = data + begin;
    return RMK_OK;
}

static enum rmk_err parse_tensor(const char *name, const json_t *value, const uint8_t *data,
                                 uint64_t data_bytes, struct rmk_tensor *out, struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;

    if (!json_is_object(value)) {
        err = rmk_fail(why, RMK_ECORRUPT, "tensor %.200s: its description is not an object", name);
        goto out;
    }
    RMK_TRY(parse_dtype(name, json_object_get(value, "dtype"), &out->dtype, why));
    RMK_TRY(parse_shape(name, json_object_get(value, "shape"), out, why));
    RMK_TRY(
        parse_offsets(name, json_object_get(value, "data_offsets"), data, data_bytes, out, why));
out:
    return err;
}

static enum rmk_err check_metadata(const json_t *metadata, struct rmk_why *why)
{
    const char *key;
    json_t *value;

    if (!json_is_object(metadata)) {
        return rmk_fail(why, RMK_ECORRUPT, "__metadata__ is not an object");
    }
    json_object_foreach((json_t *)metadata, key, value)
    {
        if (!json_is_string(value)) {
            return rmk_fail(why, RMK_ECORRUPT, "__metadata__: %.100s is not a string", key);
        }
    }
    return RMK_OK;
}

/* -- one file
 * -------------------------------------------------------------------------------------- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static int compare_places(const void *a, const void *b)
{
    const struct rmk_tensor *left = &(*(const struct entry *const *)a)->tensor;
    const struct rmk_tensor *right = &(*(const struct entry *const *)b)->tensor;

    if (left->data != right->data) {
        return (uintptr_t)left->data < (uintptr_t)right->data ? -1 : 1;
    }
    return (left->bytes > right->bytes) - (left->bytes < right->bytes);
}

/* The format forbids holes: bytes that belong to no tensor could hide anything. The order of the
 * names says nothing, so tensors are looked at by place. */
static enum rmk_err check_cover(const struct shard *shard, const uint8_t *data, uint64_t data_bytes,
                                struct rmk_why *why)
{
    const struct entry **order = calloc(shard->entry_count + 1, sizeof(*order));
    uint64_t reached = 0;
    enum rmk_err err = RMK_OK;

    if (order == NULL) {
        err = no_memory(why);
        goto out;
    }
    for (size_t i = 0; i < shard->entry_count; i++) {
        order[i] = &shard->entries[i];
    }
    qsort(order, shard->entry_count, sizeof(*order), compare_places);
    for (size_t i = 0; i < shard->entry_count; i++) {
        uint64_t begin = (uint64_t)((const uint8_t *)order[i]->tensor.data - data);
        if (begin != reached) {
            err = rmk_fail(why, RMK_ECORRUPT, "tensor %.200s: begins at byte %llu, %s byte %llu",
                           order[i]->name, (unsigned long long)begin,
                           begin < reached ? "overlapping a tensor that ends at"
                                           : "after a hole from",
                           (unsigned long long)reached);
            goto out;
        }
        reached = begin + order[i]->tensor.bytes;
    }
    if (reached != data_bytes) {
        err = rmk_fail(why, RMK_ECORRUPT, "tensors end at byte %llu of %llu data bytes",
                       (unsigned long long)reached, (unsigned long long)data_bytes);
    }
out:
    free(order);
    return err;
}

static enum rmk_err load_header(const uint8_t *text, uint64_t size, json_t **out,
                                struct rmk_why *why)
{
    json_error_t error;
    uint64_t structure = 0;

    if (size == 0 || text[0] != '{') {
        return rmk_fail(why, RMK_ECORRUPT, "the header does not begin with '{'");
    }
    for (uint64_t i = 0; i < size; i++) {
        structure += text[i] == '{' || text[i] == '[' || text[i] == ',' || text[i] == ':';
    }
    if (structure > STRUCTURE_MAX) {
        return rmk_fail(why, RMK_ELIMIT, "the header describes too many things (%llu, at most %d)",
                        (unsigned long long)structure, STRUCTURE_MAX);
    }
    json_t *header = json_loadb((const char *)text, size, JSON_REJECT_DUPLICATES, &error);
    if (header == NULL) {
        return rmk_fail(why, RMK_ECORRUPT, "the header is not JSON: %s (byte %d)", error.text,
                        error.position);
    }
    *out = header;
    return RMK_OK;
}

static enum rmk_err parse_shard(struct shard *shard, struct rmk_why *why)
{
    const uint8_t *bytes = shard->map;
    json_t *header = NULL;
    uint64_t header_bytes;
    enum rmk_err err = RMK_OK;
    const char *key;
    json_t *value;

    if (shard->size < PREFIX_BYTES) {
        err = rmk_fail(why, RMK_ECORRUPT, "file of %zu bytes has no header", shard->size);
        goto out;
    }
    memcpy(&header_bytes, bytes, sizeof(header_bytes));
    if (header_bytes > HEADER_BYTES_MAX) {
        err = rmk_fail(why, RMK_ECORRUPT,
                       "header of %llu bytes is larger than the format allows (%d)",
                       (unsigned long long)header_bytes, HEADER_BYTES_MAX);
        goto out;
    }
    if (header_bytes > shard->size - PREFIX_BYTES) {
        err = rmk_fail(why, RMK_ECORRUPT, "header is %llu bytes, file has %zu",
                       (unsigned long long)header_bytes, shard->size);
        goto out;
    }
    RMK_TRY(load_header(bytes + PREFIX_BYTES, header_bytes, &header, why));

    const uint8_t *data = bytes + PREFIX_BYTES + header_bytes;
    uint64_t data_bytes = shard->size - PREFIX_BYTES - header_bytes;
    shard->entries = calloc(json_object_size(header) + 1, sizeof(*shard->entries));
    if (shard->entries == NULL) {
        err = no_memory(why);
        goto out;
    }
    json_object_foreach(header, key, value)
    {
        if (strcmp(key, "__metadata__") == 0) {
            RMK_TRY(check_metadata(value, why));
            continue;
        }
        struct entry *entry = &shard->entries[shard->entry_count];
        RMK_TRY(parse_tensor(key, value, data, data_bytes, &entry->tensor, why));
        entry->name = strdup(key);
        if (entry->name == NULL) {
            err = no_memory(why);
            goto out;
        }
        shard->entry_count++;
    }
    RMK_TRY(check_cover(shard, data, data_bytes, why));
    qsort(shard->entries, shard->entry_count, sizeof(*shard->entries), compare_names);
out:
    json_decref(header);
    return err;
}

/* `map` may come back NULL with size 0 for an empty file. */
static enum rmk_err map_file(const char *path, size_t bytes_max, void **out_map, size_t *out_size,
                             struct rmk_why *why)
{
    struct stat status;
    enum rmk_err err = RMK_OK;
    /* Not blocking, because the name may be a pipe. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        err = rmk_fail(why, errno == ENOENT || errno == ENOTDIR ? RMK_ENOTFOUND : RMK_EIO, "%s",
                       errno == ENOENT ? "there is no such file" : strerror(errno));
        goto out;
    }
    if (fstat(fd, &status) != 0) {
        err = rmk_fail(why, RMK_EIO, "%s", strerror(errno));
        goto out;
    }
    if (!S_ISREG(status.st_mode)) {
        err = rmk_fail(why, RMK_EINVAL, "not a regular file");
        goto out;
    }
    if ((uint64_t)status.st_size > bytes_max) {
        err = rmk_fail(why, RMK_ELIMIT, "file of %lld bytes is larger than %zu",
                       (long long)status.st_size, bytes_max);
        goto out;
    }
    if (status.st_size == 0) {
        *out_map = NULL;
        *out_size = 0;
        goto out;
    }
    void *map = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) {
        err = rmk_fail(why, RMK_EIO, "cannot be mapped: %s", strerror(errno));
        goto out;
    }
    *out_map = map;
    *out_size = (size_t)status.st_size;
out:
    if (fd >= 0) {
        (void)close(fd);
    }
    return err;
}

static enum rmk_err open_shard(const char *path, struct shard *shard, struct rmk_why *why)
{
    const char *slash = strrchr(path, '/');
    enum rmk_err err = RMK_OK;

    shard->path = strdup(path);
    shard->name = strdup(slash == NULL ? path : slash + 1);
    if (shard->path == NULL || shard->name == NULL) {
        err = no_memory(why);
        goto out;
    }
    RMK_TRY(map_file(path, SIZE_MAX / 2, &shard->map, &shard->size, why));
    RMK_TRY(parse_shard(shard, why));
out:
    if (err != RMK_OK) {
        rmk_why_context(why, "%.300s", path);
    }
    return err;
}

static void close_shard(struct shard *shard)
{
    for (size_t i = 0; i < shard->entry_count; i++) {
        free(shard->entries[i].name);
    }
    free(shard->entries);
    free(shard->path);
    free(shard->name);
    if (shard->map != NULL) {
        (void)munmap(shard->map, shard->size);
    }
}

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
                             struct shard **out, struct rmk_why *why)
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
    struct shard *shard = &checkpoint->shards[checkpoint->shard_count++];
    RMK_TRY(open_shard(path, shard, why));
    /* The name of the link, not of what it points to. */
    free(shard->name);
    shard->name = strdup(name);
    if (shard->name == NULL) {
        err = no_memory(why);
        goto out;
    }
    *out = shard;
out:
    return err;
}

static const struct entry *find_in_shard(const struct shard *shard, const char *name)
{
    struct entry wanted = {.name = (char *)name};

    return bsearch(&wanted, shard->entries, shard->entry_count, sizeof(*shard->entries),
                   compare_names);
}

static int compare_entry_pointers(const void *a, const void *b)
{
    return compare_names(*(const struct entry *const *)a, *(const struct entry *const *)b);
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

    RMK_TRY(map_file(path, INDEX_BYTES_MAX, &map, &size, why));
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
        err = no_memory(why);
        goto out;
    }
    json_object_foreach(weights, name, value)
    {
        struct shard *shard = NULL;
        if (!json_is_string(value)) {
            err = rmk_fail(why, RMK_ECORRUPT, "weight_map: %.200s does not name a file", name);
            goto out;
        }
        RMK_TRY(shard_of(checkpoint, dir, json_string_value(value), &shard, why));
        const struct entry *entry = find_in_shard(shard, name);
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
    const struct shard *shard = &checkpoint->shards[0];

    checkpoint->entries = calloc(shard->entry_count + 1, sizeof(checkpoint->entries[0]));
    if (checkpoint->entries == NULL) {
        return no_memory(why);
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
        return no_memory(why);
    }
    /* Its full size at once: entries hold pointers into it. */
    checkpoint->shards = calloc(shard_max, sizeof(checkpoint->shards[0]));
    if (checkpoint->shards == NULL) {
        free(checkpoint);
        return no_memory(why);
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
        struct shard *shard;
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
    RMK_TRY(open_shard(path, &checkpoint->shards[0], why));
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
        close_shard(&checkpoint->shards[i]);
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
    struct entry wanted = {.name = (char *)name};
    const struct entry *pointer = &wanted;
    const struct entry **found = bsearch(&pointer, checkpoint->entries, checkpoint->entry_count,
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
        const struct shard *shard = &checkpoint->shards[i];
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
    return strcmp((*(const struct shard *const *)a)->name, (*(const struct shard *const *)b)->name);
}

void rmk_checkpoint_digest(const struct rmk_checkpoint *checkpoint, uint8_t out_digest[32])
{
    struct rmk_digest *digest = NULL;
    const struct shard **shards = calloc(checkpoint->shard_count + 1, sizeof(*shards));

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

/* -- numbers
 * --------------------------------------------------------------------------------------- */

static float f32_of_bits(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

static float f32_of_f16(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 0x1fu;
    uint32_t mantissa = half & 0x3ffu;

    if (exponent == 0) {
        float value = (float)mantissa * 0x1p-24f; /* zero or subnormal: exact */
        return sign != 0 ? -value : value;
    }
    if (exponent == 31) {
        return f32_of_bits(sign | 0x7f800000u | mantissa << 13);
    }
    return f32_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

void rmk_tensor_to_f32(const struct rmk_tensor *tensor, uint64_t first, uint64_t count, float *out)
{
    size_t width = rmk_dtype_bytes(tensor->dtype);

    rmk_assert(first + count <= tensor->bytes / width);
    const uint8_t *bytes = (const uint8_t *)tensor->data + first * width;
    switch (tensor->dtype) {
    case RMK_F32:
        memcpy(out, bytes, count * sizeof(float));
        return;
    case RMK_BF16:
    case RMK_F16:
        for (uint64_t i = 0; i < count; i++) {
            uint16_t half; /* copied: a file need not align its tensors */
            memcpy(&half, bytes + 2 * i, sizeof(half));
            out[i] =
                tensor->dtype == RMK_BF16 ? f32_of_bits((uint32_t)half << 16) : f32_of_f16(half);
        }
        return;
    default:
        rmk_assert(!"a floating-point tensor");
    }
}
