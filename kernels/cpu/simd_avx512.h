/* The vector vocabulary of loops.inc and attend.inc on AVX-512 (F, BW, DQ, VL). */
#ifndef RMK_KERNELS_CPU_SIMD_AVX512_H
#define RMK_KERNELS_CPU_SIMD_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

enum {
    VW = 16, /* floats in a vector */
    /* Sums that products keep in registers: vectors across, rows down (attention, layers). */
    BLOCK_VECTORS = 4,
    ATTEND_BLOCK = 6,
    PRODUCT_BLOCK = 8,
};

typedef __m512 vf;

static inline __mmask16 first_lanes(size_t n)
{
    return (__mmask16)((1U << n) - 1U);
}

static inline vf vf_set(float x)
{
    return _mm512_set1_ps(x);
}

static inline vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

static inline vf vf_load_n(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps(first_lanes(n), p);
}

static inline void vf_store(float *p, vf v)
{
    _mm512_storeu_ps(p, v);
}

static inline void vf_store_n(float *p, vf v, size_t n)
{
    _mm512_mask_storeu_ps(p, first_lanes(n), v);
}

static inline vf vf_of_bf16(__m256i bits)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

static inline vf vf_load_bf16(const uint16_t *p)
{
    return vf_of_bf16(_mm256_loadu_si256((const __m256i *)p));
}

static inline vf vf_load_bf16_n(const uint16_t *p, size_t n)
{
    return vf_of_bf16(_mm256_maskz_loadu_epi16(first_lanes(n), p));
}

/* Round to nearest even, as rmk_convert_to_bf16. Not vcvtneps2bf16, which drops subnormals. */
static inline __m256i vf_to_bf16(vf v)
{
    __m512i bits = _mm512_castps_si512(v);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
    __mmask16 is_nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    __m512i quiet = _mm512_mask_or_epi32(rounded, is_nan, bits, _mm512_set1_epi32(0x400000));

    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(quiet, 16));
}

static inline void vf_store_bf16(uint16_t *p, vf v)
{
    _mm256_storeu_si256((__m256i *)p, vf_to_bf16(v));
}

static inline void vf_store_bf16_n(uint16_t *p, vf v, size_t n)
{
    _mm256_mask_storeu_epi16(p, first_lanes(n), vf_to_bf16(v));
}

static inline vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

/* b where either is NaN */
static inline vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

static inline vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}

static inline vf vf_round(vf v)
{
    return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* v 2^n for a whole n; zero far below the normal range. */
static inline vf vf_scale2(vf v, vf n)
{
    return _mm512_scalef_ps(v, n);
}

static inline vf vf_where_negative(vf x, vf negative, vf other)
{
    __mmask16 below = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);

    return _mm512_mask_blend_ps(below, other, negative);
}

static inline uint32_t vf_equal_bits(vf a, vf b)
{
    return (uint32_t)_mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}

static inline float vf_sum(vf v)
{
    return _mm512_reduce_add_ps(v);
}

static inline float vf_largest(vf v)
{
    return _mm512_reduce_max_ps(v);
}

struct vd {
    __m512d low;
    __m512d high;
};

static inline struct vd vd_zero(void)
{
    return (struct vd){_mm512_setzero_pd(), _mm512_setzero_pd()};
}

static inline void vd_add(struct vd *acc, vf v)
{
    acc->low = _mm512_add_pd(acc->low, _mm512_cvtps_pd(_mm512_castps512_ps256(v)));
    acc->high = _mm512_add_pd(acc->high, _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)));
}

static inline double vd_sum(struct vd acc)
{
    return _mm512_reduce_add_pd(_mm512_add_pd(acc.low, acc.high));
}

#endif
