/* The reference device: plain C, fp32 storage, every sum in double, one thread. Slow and right. */
#ifndef RMK_KERNELS_REF_REF_H
#define RMK_KERNELS_REF_REF_H

#include "kernels/kernels.h"

struct rmk_ref {
    struct rmk_device device;   /* first: a struct rmk_device * is a struct rmk_ref * */
    struct rmk_reserve reserve; /* what the scratch below was sized for */
    double *scores;             /* [kv_rows_max] one query's attention weights */
    double *sums;               /* [head_width_max] one query's output */
    float *logits;              /* [vocab] one row of the head */
};

struct rmk_linear {
    uint32_t n;
    uint32_t k;
    float *weight; /* [n, k] */
    float *bias;   /* [n] or NULL */
};

static inline struct rmk_ref *rmk_ref_of(struct rmk_device *device)
{
    return (struct rmk_ref *)device;
}

/* Sum of a[i] * b[i] in double. Eight running sums instead of one, added in a fixed order: the same
 * result every time, and the adds do not wait for each other. */
double rmk_ref_dot(const float *a, const float *b, size_t count);

/* linear.c */
enum rmk_err rmk_ref_linear_create(struct rmk_device *device,
                                   const struct rmk_linear_source *source, struct rmk_linear **out,
                                   struct rmk_why *why);
void rmk_ref_linear_destroy(struct rmk_device *device, struct rmk_linear *linear);
enum rmk_err rmk_ref_linear(struct rmk_device *device, const struct rmk_linear *linear,
                            const void *x, uint32_t m, void *y, enum rmk_dtype y_dtype);

/* rows.c */
enum rmk_err rmk_ref_add(struct rmk_device *device, float *x, const float *y, size_t count);
enum rmk_err rmk_ref_add_cyclic(struct rmk_device *device, float *x, const float *rows,
                                uint32_t count, uint32_t row_count, uint32_t d);
enum rmk_err rmk_ref_cast(struct rmk_device *device, const float *x, void *y, size_t count);
enum rmk_err rmk_ref_rmsnorm(struct rmk_device *device, float *x, const float *delta,
                             const float *w, float eps, void *y, uint32_t rows, uint32_t d);
enum rmk_err rmk_ref_layernorm(struct rmk_device *device, float *x, const float *delta,
                               const float *w, const float *b, float eps, void *y, uint32_t rows,
                               uint32_t d);
enum rmk_err rmk_ref_swiglu(struct rmk_device *device, const void *gate_up, void *y, uint32_t rows,
                            uint32_t f);
enum rmk_err rmk_ref_gelu(struct rmk_device *device, void *x, size_t count, enum rmk_gelu kind);

/* attention.c */
enum rmk_err rmk_ref_rope_kv(struct rmk_device *device, void *q, const void *k, const void *v,
                             const float *cos, const float *sin, const uint32_t *positions_host,
                             const struct rmk_segment *segments_host, uint32_t segment_count,
                             uint32_t heads, uint32_t kv_heads, uint32_t head_width);
enum rmk_err rmk_ref_attention(struct rmk_device *device, const void *q,
                               const struct rmk_segment *segments_host, uint32_t segment_count,
                               uint32_t heads, uint32_t kv_heads, uint32_t head_width, float scale,
                               void *y);

/* vision.c */
enum rmk_err rmk_ref_patches(struct rmk_device *device, const uint8_t *tiles_host, uint32_t n,
                             uint32_t tile, uint32_t patch, void *y);
enum rmk_err rmk_ref_bilinear(struct rmk_device *device, const float *x, uint32_t h, uint32_t w,
                              uint64_t x_ld, float *y, uint32_t oh, uint32_t ow, uint64_t y_ld,
                              uint32_t c);
enum rmk_err rmk_ref_pool2x2(struct rmk_device *device, const float *x, uint32_t h, uint32_t w,
                             float *y, uint32_t c, bool maximum);

/* head.c */
enum rmk_err rmk_ref_head(struct rmk_device *device, const struct rmk_linear *head, const void *x,
                          const void *x_uncond, uint32_t m, uint32_t vocab_begin,
                          uint32_t vocab_all, const int32_t *suppressed_host,
                          uint32_t suppressed_count, const struct rmk_head_row *rows_host,
                          struct rmk_head_result *results_host);

#endif
