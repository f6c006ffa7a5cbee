/* The inner loops of the cpu backend, one table per instruction set, chosen at run time. Every loop
 * handles one row or one tile; kernels/cpu/rows.c and its neighbours cut an op into them. A loop's
 * result depends on its arguments only.
 *
 * loops.inc and attend.inc are the code; loops_<isa>.c compiles them against simd_<isa>.h.
 */
#ifndef RMK_KERNELS_CPU_LOOPS_H
#define RMK_KERNELS_CPU_LOOPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

enum {
    RMK_PRODUCT_ROWS = 32,  /* rows of a product's tile */
    RMK_PRODUCT_PANEL = 16, /* columns of a packed weight's panel */
    RMK_ATTEND_ROWS = 48,   /* queries of a tile */
    RMK_ATTEND_KEYS = 128,  /* keys of a block */
    RMK_ATTEND_PANEL = 64,  /* columns of a packed panel */
};

/* Keys and values of one head, repacked so that the inner product reads them in order.
 *   fp32  k: panels of 64 keys, each [width][64];             v: [keys][value_width]
 *   bf16  k: panels of 64 keys, each [width / 2][64][2];      v: [keys / 2][value_width][2]
 * Everything is padded with zeros: keys to RMK_ATTEND_KEYS, width to even, value_width to the
 * panel's vectors. */
struct rmk_attend_pack {
    void *k;
    void *v;
};

/* One tile: up to RMK_ATTEND_ROWS queries of one key/value head. */
struct rmk_attend_tile {
    const void *q;         /* act; query r at q + r_offset[r] elements */
    void *y;               /* act; likewise */
    const size_t *offsets; /* [rows] */
    uint32_t rows;
    uint32_t head_width;
    uint32_t kv_count;
    float scale;
    const struct rmk_attend_pack *pack;
    void *scratch; /* rmk_attend_scratch_bytes() */
};

/* Scores, sums, queries and bf16 weights of a tile. */
static inline size_t rmk_attend_scratch_bytes(uint32_t head_width_max)
{
    size_t width = ((size_t)head_width_max + 15) / 16 * 16;

    return RMK_ATTEND_ROWS *
           (RMK_ATTEND_KEYS * (sizeof(float) + sizeof(uint16_t)) + 2 * width * sizeof(float));
}

/* Statistics of a run of logits. */
struct rmk_head_run {
    float max;      /* -inf when there is no finite logit */
    uint32_t first; /* index of the first logit equal to max */
    double sum;     /* sum of exp(logit - max) */
    bool nonfinite;
};

struct rmk_loops {
    const char *name;

    void (*add)(float *x, const float *y, size_t count);
    void (*to_bf16)(const float *x, uint16_t *y, size_t count);
    void (*from_bf16)(const uint16_t *x, float *y, size_t count);
    /* y = x + bias (bias may be NULL), to fp32 or bf16. */
    void (*bias_f32)(const float *x, const float *bias, float *y, size_t count);
    void (*bias_bf16)(const float *x, const float *bias, uint16_t *y, size_t count);

    /* One row of the norms; delta may be NULL. y is act. */
    void (*rmsnorm_f32)(float *x, const float *delta, const float *w, float eps, float *y,
                        size_t d);
    void (*rmsnorm_bf16)(float *x, const float *delta, const float *w, float eps, uint16_t *y,
                         size_t d);
    void (*layernorm_f32)(float *x, const float *delta, const float *w, const float *b, float eps,
                          float *y, size_t d);
    void (*layernorm_bf16)(float *x, const float *delta, const float *w, const float *b, float eps,
                           uint16_t *y, size_t d);

    void (*swiglu_f32)(const float *gate, const float *up, float *y, size_t count);
    void (*swiglu_bf16)(const uint16_t *gate, const uint16_t *up, uint16_t *y, size_t count);
    void (*gelu_f32)(float *x, size_t count, enum rmk_gelu kind);
    void (*gelu_bf16)(uint16_t *x, size_t count, enum rmk_gelu kind);

    /* One head: x and y [2 * half], may be the same. */
    void (*rope_f32)(const float *x, const float *cos, const float *sin, size_t half, float *y);
    void (*rope_bf16)(const uint16_t *x, const float *cos, const float *sin, size_t half,
                      uint16_t *y);

    /* y = (1-fy)((1-fx) a + fx b) + fy((1-fx) c + fx d) */
    void (*blend)(const float *const corners[4], float fx, float fy, float *y, size_t count);

    /* logits = un + scale * (logits - un) */
    void (*guide)(float *logits, const float *un, float scale, size_t count);
    void (*head_run)(const float *logits, size_t count, struct rmk_head_run *out);
    /* y = e^(scale (x - shift)) */
    void (*exp_scaled)(const float *x, float shift, float scale, float *y, size_t count);
    /* rmk_noise_uniform of ids [id, id + count). */
    void (*uniforms)(const struct rmk_head_row *row, uint32_t vocab_all, uint32_t id, size_t count,
                     double *u);

    /* y [RMK_PRODUCT_ROWS, columns] = x [RMK_PRODUCT_ROWS, k] times panels [columns / 16 rounded
     * up][k][16]. */
    void (*product)(const float *x, const float *panels, size_t k, size_t columns, float *y);

    void (*attend_f32)(const struct rmk_attend_tile *tile);
    void (*attend_bf16)(const struct rmk_attend_tile *tile);
    /* Whether attend_bf16 reads bf16 packs; else fp32 ones. */
    bool attend_bf16_packs;
};

extern const struct rmk_loops rmk_loops_scalar;
#if defined(__x86_64__)
extern const struct rmk_loops rmk_loops_avx2;
extern const struct rmk_loops rmk_loops_avx512;
extern const struct rmk_loops rmk_loops_avx512_bf16;
#endif

#endif
