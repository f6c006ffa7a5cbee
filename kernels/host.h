/* Ops that are the same on every backend whose device memory is host memory: moving bytes, exactly.
 */
#ifndef RMK_KERNELS_HOST_H
#define RMK_KERNELS_HOST_H

#include "kernels/kernels.h"

enum rmk_err rmk_host_alloc(struct rmk_device *device, size_t bytes, void **out,
                            struct rmk_why *why);
void rmk_host_free(struct rmk_device *device, void *memory);
enum rmk_err rmk_host_upload(struct rmk_device *device, void *target, const void *source_host,
                             size_t bytes);
enum rmk_err rmk_host_download(struct rmk_device *device, void *target_host, const void *source,
                               size_t bytes);
enum rmk_err rmk_host_synchronize(struct rmk_device *device, struct rmk_why *why);

enum rmk_err rmk_host_embed(struct rmk_device *device, const void *table, enum rmk_dtype dtype,
                            uint32_t row_begin, uint32_t row_count, uint32_t d,
                            const int32_t *ids_host, uint32_t count, float *y);
enum rmk_err rmk_host_copy_rows(struct rmk_device *device, const float *x,
                                const uint32_t *x_rows_host, float *y, const uint32_t *y_rows_host,
                                uint32_t count, uint32_t d);

/* Fill info's memory figures from the operating system. */
void rmk_host_memory(struct rmk_device_info *info);

/* Where a bilinear resize of `from` points to `to` reads for output `index`: points `low` and
 * `high` with weight `fraction` on `high`. The arithmetic is fp32, as the reference's. */
struct rmk_bilinear_tap {
    uint32_t low;
    uint32_t high;
    float fraction;
};

struct rmk_bilinear_tap rmk_host_bilinear_tap(uint32_t from, uint32_t to, uint32_t index);

#endif
