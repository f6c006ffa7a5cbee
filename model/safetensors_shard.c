#include "model/safetensors_parts.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "views are little-endian, as the files");

enum {
    PREFIX_BYTES = 8,
    HEADER_BYTES_MAX = 100 * 1000 * 1000, /* the format's own limit */
    /* A header of nothing but brackets costs the JSON tree some hundred times its size. 10^5
     * tensors need some 1.4 million of these characters. */
    STRUCTURE_MAX = 4 * 1000 * 1000,
};

enum rmk_err rmk_shard_no_memory(struct rmk_why *why)
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
    if (rmk_dtype_find(text, out)) {
        return RMK_OK;
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

int rmk_shard_compare_names(const void *a, const void *b)
{
    return strcmp(((const struct rmk_shard_entry *)a)->name,
                  ((const struct rmk_shard_entry *)b)->name);
}

static int compare_places(const void *a, const void *b)
{
    const struct rmk_tensor *left = &(*(const struct rmk_shard_entry *const *)a)->tensor;
    const struct rmk_tensor *right = &(*(const struct rmk_shard_entry *const *)b)->tensor;

    if (left->data != right->data) {
        return (uintptr_t)left->data < (uintptr_t)right->data ? -1 : 1;
    }
    return (left->bytes > right->bytes) - (left->bytes < right->bytes);
}

/* The format forbids holes: bytes that belong to no tensor could hide anything. The order of the
 * names says nothing, so tensors are looked at by place. */
static enum rmk_err check_cover(const struct rmk_shard *shard, const uint8_t *data,
                                uint64_t data_bytes, struct rmk_why *why)
{
    const struct rmk_shard_entry **order = calloc(shard->entry_count + 1, sizeof(*order));
    uint64_t reached = 0;
    enum rmk_err err = RMK_OK;

    if (order == NULL) {
        err = rmk_shard_no_memory(why);
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

static enum rmk_err parse_shard(struct rmk_shard *shard, struct rmk_why *why)
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
        err = rmk_shard_no_memory(why);
        goto out;
    }
    json_object_foreach(header, key, value)
    {
        if (strcmp(key, "__metadata__") == 0) {
            RMK_TRY(check_metadata(value, why));
            continue;
        }
        struct rmk_shard_entry *entry = &shard->entries[shard->entry_count];
        RMK_TRY(parse_tensor(key, value, data, data_bytes, &entry->tensor, why));
        entry->name = strdup(key);
        if (entry->name == NULL) {
            err = rmk_shard_no_memory(why);
            goto out;
        }
        shard->entry_count++;
    }
    RMK_TRY(check_cover(shard, data, data_bytes, why));
    qsort(shard->entries, shard->entry_count, sizeof(*shard->entries), rmk_shard_compare_names);
out:
    json_decref(header);
    return err;
}

enum rmk_err rmk_shard_map(const char *path, size_t bytes_max, void **out_map, size_t *out_size,
                           struct rmk_why *why)
{
    struct stat status;
    enum rmk_err err = RMK_OK;
    int fd = -1;

    RMK_TRY(rmk_file_open(path, RMK_FILE_REGULAR, &fd, why));
    if (fstat(fd, &status) != 0) {
        err = rmk_fail(why, RMK_EIO, "%s", strerror(errno));
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

enum rmk_err rmk_shard_open(const char *path, struct rmk_shard *shard, struct rmk_why *why)
{
    const char *slash = strrchr(path, '/');
    enum rmk_err err = RMK_OK;

    shard->path = strdup(path);
    shard->name = strdup(slash == NULL ? path : slash + 1);
    if (shard->path == NULL || shard->name == NULL) {
        err = rmk_shard_no_memory(why);
        goto out;
    }
    RMK_TRY(rmk_shard_map(path, SIZE_MAX / 2, &shard->map, &shard->size, why));
    RMK_TRY(parse_shard(shard, why));
out:
    if (err != RMK_OK) {
        rmk_why_context(why, "%.300s", path);
    }
    return err;
}

void rmk_shard_close(struct rmk_shard *shard)
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

const struct rmk_shard_entry *rmk_shard_find(const struct rmk_shard *shard, const char *name)
{
    struct rmk_shard_entry wanted = {.name = (char *)name};

    return bsearch(&wanted, shard->entries, shard->entry_count, sizeof(*shard->entries),
                   rmk_shard_compare_names);
}
