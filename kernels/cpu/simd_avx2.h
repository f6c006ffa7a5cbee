/* The vector vocabulary of loops.inc and attend.inc on AVX2 + FMA. */
#ifndef RMK_KERNELS_CPU_SIMD_AVX2_H
#define RMK_KERNELS_CPU_SIMD_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    VW = 8, /* floats in a vector */
    /* Sums that products keep in registers: vectors across, rows down (attention, layers). */
    BLOCK_VECTORS = 2,
    ATTEND_BLOCK = 6,
    PRODUCT_BLOCK = 4,
};

typedef __m256 vf;

static inline vf vf_set(float x)
{
    return _mm256_set1_ps(x);
}

static inline vf vf_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

static inline vf vf_load_n(const float *p, size_t n)
{
    float whole[8] = {0};

    memcpy(whole, p, n * sizeof(float));
    return _mm256_loadu_ps(whole);
}

static inline void vf_store(float *p, vf v)
{
    _mm256_storeu_ps(p, v);
}

static inline void vf_store_n(float *p, vf v, size_t n)
{
    float whole[8];

    _mm256_storeu_ps(whole, v);
    memcpy(p, whole, n * sizeof(float));
}

static inline vf vf_load_bf16(const uint16_t *p)
{
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));

    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

static inline vf vf_load_bf16_n(const uint16_t *p, size_t n)
{
    uint16_t whole[8] = {0};

    memcpy(whole, p, n * sizeof(uint16_t));
    return vf_load_bf16(whole);
}

/* Round to nearest even, as rmk_convert_to_bf16. */
static inline void vf_store_bf16(uint16_t *p, vf v)
{
    __m256i bits = _mm256_castps_si256(v);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, is_nan), 16);
    __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0x08);

    _mm_storeu_si128((__m128i *)p, _mm256_castsi256_si128(packed));
}

static inline void vf_store_bf16_n(uint16_t *p, vf v, size_t n)
{
    uint16_t whole[8];

    vf_store_bf16(whole, v);
    memcpy(p, whole, n * sizeof(uint16_t));
}

static inline vf vf_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

/* b where either is NaN */
static inline vf vf_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}

static inline vf vf_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}

static inline vf vf_round(vf v)
{
    return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* v 2^n for a whole n up to 127; zero below the normal range. */
static inline vf vf_scale2(vf v, vf n)
{
    __m256i whole = _mm256_cvtps_epi32(_mm256_max_ps(_mm256_set1_ps(-127.0F), n));
    __m256i power = _mm256_slli_epi32(_mm256_add_epi32(whole, _mm256_set1_epi32(127)), 23);

    return _mm256_mul_ps(v, _mm256_castsi256_ps(power));
}

static inline vf vf_where_negative(vf x, vf negative, vf other)
{
    return _mm256_blendv_ps(other, negative, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ));
}

static inline uint32_t vf_equal_bits(vf a, vf b)
{
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ));
}

static inline float vf_sum(vf v)
{
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 pair = _mm_add_ps(half, _mm_movehl_ps(half, half));

    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}

static inline float vf_largest(vf v)
{
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 pair = _mm_max_ps(half, _mm_movehl_ps(half, half));

    return _mm_cvtss_f32(_mm_max_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}

struct vd {
    __m256d low;
    __m256d high;
};

static inline struct vd vd_zero(void)
{
    return (struct vd){_mm256_setzero_pd(), _mm256_setzero_pd()};
}

static inline void vd_add(struct vd *acc, vf v)
{
    acc->low = _mm256_add_pd(acc->low, _mm256_cvtps_pd(_mm256_castps256_ps128(v)));
    acc->high = _mm256_add_pd(acc->high, _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)));
}

static inline double vd_sum(struct vd acc)
{
    __m256d quad = _mm256_add_pd(acc.low, acc.high);
    __m128d pair = _mm_add_pd(_mm256_castpd256_pd128(quad), _mm256_extractf128_pd(quad, 1));

    return _mm_cvtsd_f64(_mm_add_sd(pair, _mm_unpackhi_pd(pair, pair)));
}

#endif
