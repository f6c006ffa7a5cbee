/* The vector vocabulary of loops.inc and attend.inc with vectors of one: works on any processor. */
#ifndef RMK_KERNELS_CPU_SIMD_SCALAR_H
#define RMK_KERNELS_CPU_SIMD_SCALAR_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/convert.h"

enum {
    VW = 1, /* floats in a vector */
    /* Sums that products keep in registers: vectors across, rows down (attention, layers). */
    BLOCK_VECTORS = 4,
    ATTEND_BLOCK = 2,
    PRODUCT_BLOCK = 2,
};

typedef float vf;

static inline vf vf_set(float x)
{
    return x;
}

static inline vf vf_load(const float *p)
{
    return *p;
}

static inline vf vf_load_n(const float *p, size_t n)
{
    (void)n;
    return *p;
}

static inline void vf_store(float *p, vf v)
{
    *p = v;
}

static inline void vf_store_n(float *p, vf v, size_t n)
{
    (void)n;
    *p = v;
}

static inline vf vf_load_bf16(const uint16_t *p)
{
    return rmk_convert_bf16(*p);
}

static inline vf vf_load_bf16_n(const uint16_t *p, size_t n)
{
    (void)n;
    return rmk_convert_bf16(*p);
}

static inline void vf_store_bf16(uint16_t *p, vf v)
{
    *p = rmk_convert_to_bf16(v);
}

static inline void vf_store_bf16_n(uint16_t *p, vf v, size_t n)
{
    (void)n;
    *p = rmk_convert_to_bf16(v);
}

static inline vf vf_fma(vf a, vf b, vf c)
{
    return a * b + c;
}

/* b where either is NaN */
static inline vf vf_max(vf a, vf b)
{
    return a > b ? a : b;
}

static inline vf vf_min(vf a, vf b)
{
    return a < b ? a : b;
}

static inline vf vf_round(vf v)
{
    return nearbyintf(v);
}

/* v 2^n for a whole n up to 127; zero below the normal range. */
static inline vf vf_scale2(vf v, vf n)
{
    int32_t whole = n > -127.0F && n <= 127.0F ? (int32_t)n : -127;

    return v * rmk_convert_bits((uint32_t)(whole + 127) << 23);
}

static inline vf vf_where_negative(vf x, vf negative, vf other)
{
    return x < 0.0F ? negative : other;
}

static inline uint32_t vf_equal_bits(vf a, vf b)
{
    return a == b;
}

static inline float vf_sum(vf v)
{
    return v;
}

static inline float vf_largest(vf v)
{
    return v;
}

struct vd {
    double sum;
};

static inline struct vd vd_zero(void)
{
    return (struct vd){0};
}

static inline void vd_add(struct vd *acc, vf v)
{
    acc->sum += (double)v;
}

static inline double vd_sum(struct vd acc)
{
    return acc.sum;
}

#endif
