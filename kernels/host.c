#include "kernels/host.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/mman.h>
#include <sys/sysinfo.h>

#include "kernels/convert.h"

enum {
    LINE_BYTES = 64,
    HUGE_BYTES = 2 << 20,
    MAPPED_BYTES = 64 << 20,
};

/* Blocks from MAPPED_BYTES on are mapped by themselves: zeros as they come, so that what nobody
 * touches takes no memory. Caches are sized for all slots at full length, which few fill. */
struct mapping {
    void *memory; /* within the mapping, aligned */
    void *base;
    size_t bytes;
    struct mapping *next;
};

static pthread_mutex_t mappings_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mapping *mappings;

static void *map_zeros(size_t bytes)
{
    struct mapping *mapping = calloc(1, sizeof(*mapping));

    if (mapping == NULL || bytes > SIZE_MAX - HUGE_BYTES) {
        free(mapping);
        return NULL;
    }
    mapping->bytes = bytes + HUGE_BYTES;
    mapping->base =
        mmap(NULL, mapping->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping->base == MAP_FAILED) {
        free(mapping);
        return NULL;
    }
    mapping->memory =
        (char *)mapping->base + (HUGE_BYTES - (uintptr_t)mapping->base % HUGE_BYTES) % HUGE_BYTES;
    (void)madvise(mapping->base, mapping->bytes, MADV_HUGEPAGE); /* only a hint */
    (void)pthread_mutex_lock(&mappings_lock);
    mapping->next = mappings;
    mappings = mapping;
    (void)pthread_mutex_unlock(&mappings_lock);
    return mapping->memory;
}

/* Whether it was mapped; then it is gone. */
static bool unmap(const void *memory)
{
    struct mapping **link = &mappings;
    struct mapping *mapping;

    (void)pthread_mutex_lock(&mappings_lock);
    while (*link != NULL && (*link)->memory != memory) {
        link = &(*link)->next;
    }
    mapping = *link;
    if (mapping != NULL) {
        *link = mapping->next;
        (void)munmap(mapping->base, mapping->bytes);
    }
    (void)pthread_mutex_unlock(&mappings_lock);
    free(mapping);
    return mapping != NULL;
}

enum rmk_err rmk_host_alloc(struct rmk_device *device, size_t bytes, void **out,
                            struct rmk_why *why)
{
    void *memory = NULL;
    size_t alignment = bytes >= HUGE_BYTES ? HUGE_BYTES : LINE_BYTES;

    (void)device;
    if (bytes > SIZE_MAX - LINE_BYTES) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for %zu bytes", bytes);
    }
    bytes = bytes == 0 ? LINE_BYTES : bytes;
    if (bytes >= MAPPED_BYTES) {
        memory = map_zeros(bytes);
        if (memory == NULL) {
            return rmk_fail(why, RMK_ELIMIT, "no memory for %zu bytes", bytes);
        }
        *out = memory;
        return RMK_OK;
    }
    if (posix_memalign(&memory, alignment, bytes) != 0) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for %zu bytes", bytes);
    }
    if (alignment == HUGE_BYTES) {
        (void)madvise(memory, bytes & ~(size_t)(HUGE_BYTES - 1), MADV_HUGEPAGE); /* only a hint */
    }
    memset(memory, 0, bytes);
    *out = memory;
    return RMK_OK;
}

void rmk_host_free(struct rmk_device *device, void *memory)
{
    (void)device;
    if (!unmap(memory)) {
        free(memory);
    }
}

enum rmk_err rmk_host_upload(struct rmk_device *device, void *target, const void *source_host,
                             size_t bytes)
{
    (void)device;
    if (bytes > 0) {
        memcpy(target, source_host, bytes);
    }
    return RMK_OK;
}

enum rmk_err rmk_host_download(struct rmk_device *device, void *target_host, const void *source,
                               size_t bytes)
{
    return rmk_host_upload(device, target_host, source, bytes);
}

enum rmk_err rmk_host_synchronize(struct rmk_device *device, struct rmk_why *why)
{
    (void)device;
    (void)why;
    return RMK_OK;
}

static void embed_row(const void *table, enum rmk_dtype dtype, size_t row, uint32_t d, float *y)
{
    size_t first = row * d;

    if (dtype == RMK_F32) {
        memcpy(y, (const float *)table + first, (size_t)d * sizeof(float));
        return;
    }
    for (uint32_t i = 0; i < d; i++) {
        y[i] = rmk_convert_get(table, dtype, first + i);
    }
}

enum rmk_err rmk_host_embed(struct rmk_device *device, const void *table, enum rmk_dtype dtype,
                            uint32_t row_begin, uint32_t row_count, uint32_t d,
                            const int32_t *ids_host, uint32_t count, float *y)
{
    (void)device;
    for (uint32_t i = 0; i < count; i++) {
        float *target = y + (size_t)i * d;
        int64_t row = (int64_t)ids_host[i] - row_begin;
        if (row < 0 || row >= row_count) {
            memset(target, 0, (size_t)d * sizeof(float));
        } else {
            embed_row(table, dtype, (size_t)row, d, target);
        }
    }
    return RMK_OK;
}

enum rmk_err rmk_host_copy_rows(struct rmk_device *device, const float *x,
                                const uint32_t *x_rows_host, float *y, const uint32_t *y_rows_host,
                                uint32_t count, uint32_t d)
{
    (void)device;
    for (uint32_t i = 0; i < count; i++) {
        size_t source = x_rows_host != NULL ? x_rows_host[i] : i;
        size_t target = y_rows_host != NULL ? y_rows_host[i] : i;
        memcpy(y + target * d, x + source * d, (size_t)d * sizeof(float));
    }
    return RMK_OK;
}

void rmk_host_memory(struct rmk_device_info *info)
{
    struct sysinfo system;
    unsigned long long available_kib = 0;
    char line[128];

    if (sysinfo(&system) == 0) {
        info->memory_bytes = (uint64_t)system.totalram * system.mem_unit;
        info->memory_free_bytes = (uint64_t)system.freeram * system.mem_unit;
    }
    /* "Available" counts the page cache that would be given up, which mapped checkpoints fill. */
    FILE *file = fopen("/proc/meminfo", "re");
    if (file == NULL) {
        return;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        static const char label[] = "MemAvailable:";
        if (strncmp(line, label, sizeof(label) - 1) == 0) {
            available_kib = strtoull(line + sizeof(label) - 1, NULL, 10);
            info->memory_free_bytes = available_kib * 1024;
            break;
        }
    }
    (void)fclose(file);
}

struct rmk_bilinear_tap rmk_host_bilinear_tap(uint32_t from, uint32_t to, uint32_t index)
{
    float scale = (float)from / (float)to;
    float source = fmaf((float)index + 0.5F, scale, -0.5F); /* one rounding, as in PyTorch */

    if (source < 0.0F) {
        source = 0.0F;
    }
    uint32_t low = (uint32_t)source;
    if (low > from - 1) {
        low = from - 1;
    }
    return (struct rmk_bilinear_tap){
        .low = low,
        .high = low + 1 < from ? low + 1 : low,
        .fraction = source - (float)low,
    };
}
