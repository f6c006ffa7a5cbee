/* The cpu device: oneDNN products, vector loops and a thread pool. An op is cut into tasks whose
 * results do not depend on which thread runs them, on how many threads there are, or on the rows
 * beside them. */
#ifndef RMK_KERNELS_CPU_CPU_H
#define RMK_KERNELS_CPU_CPU_H

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/loops.h"
#include "kernels/cpu/pool.h"
#include "kernels/kernels.h"

/* Scratch of one thread. */
struct rmk_cpu_worker {
    void *x_tile;         /* act [RMK_GEMM_ROWS, K max]: rows of an incomplete or widened tile */
    float *y_tile;        /* [RMK_GEMM_ROWS, RMK_GEMM_COLUMNS_MAX] */
    float *y_tile_uncond; /* the head's second pass */
    void *attend_k;       /* packed keys of one head; see loops.h */
    void *attend_v;
    void *attend_scratch;
    uint32_t packed_segment; /* what attend_k and attend_v hold within one call */
    uint32_t packed_head;
};

struct rmk_cpu {
    struct rmk_device device; /* first: a struct rmk_device * is a struct rmk_cpu * */
    struct rmk_isa isa;
    const struct rmk_loops *loops;
    struct rmk_pool *pool;
    struct rmk_gemm_engine *engine;
    uint32_t worker_count;
    struct rmk_cpu_worker *workers;
    uint32_t x_tile_k; /* K that x_tile has room for */
    struct rmk_reserve reserve;
    struct rmk_head_result *partials; /* [chunks of the head, head_rows_max] */
    size_t partial_count;
};

struct rmk_linear {
    struct rmk_gemm *gemm;
    enum rmk_dtype dtype; /* of the packed weight */
    uint32_t n;
    uint32_t k;
    float *bias; /* [n] or NULL */
};

static inline struct rmk_cpu *rmk_cpu_of(struct rmk_device *device)
{
    return (struct rmk_cpu *)device;
}

/* Run tasks on the pool, or right here when all of them together (`work`: elements touched, or
 * multiplications / 16) take less time than waking a thread. */
void rmk_cpu_run(struct rmk_cpu *cpu, rmk_pool_task *function, void *context, uint32_t task_count,
                 double work);

/* Room for x tiles of K columns in every worker. */
enum rmk_err rmk_cpu_reserve_tiles(struct rmk_cpu *cpu, uint32_t k, struct rmk_why *why);

/* linear.c */
enum rmk_err rmk_cpu_linear_create(struct rmk_device *device,
                                   const struct rmk_linear_source *source, struct rmk_linear **out,
                                   struct rmk_why *why);
void rmk_cpu_linear_destroy(struct rmk_device *device, struct rmk_linear *linear);
enum rmk_err rmk_cpu_linear(struct rmk_device *device, const struct rmk_linear *linear,
                            const void *x, uint32_t m, void *y, enum rmk_dtype y_dtype);
/* Rows [row, row + RMK_GEMM_ROWS) of x [m, k], those that there are, times a chunk: y
 * [RMK_GEMM_ROWS, columns of the chunk] without bias. */
enum rmk_err rmk_cpu_linear_tile(const struct rmk_cpu *cpu, const struct rmk_linear *linear,
                                 const void *x, uint32_t m, uint32_t row, uint32_t chunk,
                                 uint32_t worker, float *y);

/* rows.c */
enum rmk_err rmk_cpu_add(struct rmk_device *device, float *x, const float *y, size_t count);
enum rmk_err rmk_cpu_add_cyclic(struct rmk_device *device, float *x, const float *rows,
                                uint32_t count, uint32_t row_count, uint32_t d);
enum rmk_err rmk_cpu_cast(struct rmk_device *device, const float *x, void *y, size_t count);
enum rmk_err rmk_cpu_rmsnorm(struct rmk_device *device, float *x, const float *delta,
                             const float *w, float eps, void *y, uint32_t rows, uint32_t d);
enum rmk_err rmk_cpu_layernorm(struct rmk_device *device, float *x, const float *delta,
                               const float *w, const float *b, float eps, void *y, uint32_t rows,
                               uint32_t d);
enum rmk_err rmk_cpu_swiglu(struct rmk_device *device, const void *gate_up, void *y, uint32_t rows,
                            uint32_t f);
enum rmk_err rmk_cpu_gelu(struct rmk_device *device, void *x, size_t count, enum rmk_gelu kind);

/* attention.c */
enum rmk_err rmk_cpu_rope_kv(struct rmk_device *device, void *q, const void *k, const void *v,
                             const float *cos, const float *sin, const uint32_t *positions_host,
                             const struct rmk_segment *segments_host, uint32_t segment_count,
                             uint32_t heads, uint32_t kv_heads, uint32_t head_width);
enum rmk_err rmk_cpu_attention(struct rmk_device *device, const void *q,
                               const struct rmk_segment *segments_host, uint32_t segment_count,
                               uint32_t heads, uint32_t kv_heads, uint32_t head_width, float scale,
                               void *y);

/* vision.c */
enum rmk_err rmk_cpu_patches(struct rmk_device *device, const uint8_t *tiles_host, uint32_t n,
                             uint32_t tile, uint32_t patch, void *y);
enum rmk_err rmk_cpu_bilinear(struct rmk_device *device, const float *x, uint32_t h, uint32_t w,
                              uint64_t x_ld, float *y, uint32_t oh, uint32_t ow, uint64_t y_ld,
                              uint32_t c);
enum rmk_err rmk_cpu_pool2x2(struct rmk_device *device, const float *x, uint32_t h, uint32_t w,
                             float *y, uint32_t c, bool maximum);

/* head.c */
enum rmk_err rmk_cpu_head(struct rmk_device *device, const struct rmk_linear *head, const void *x,
                          const void *x_uncond, uint32_t m, uint32_t vocab_begin,
                          uint32_t vocab_all, const int32_t *suppressed_host,
                          uint32_t suppressed_count, const struct rmk_head_row *rows_host,
                          struct rmk_head_result *results_host);

#endif
