#if defined(__x86_64__)

#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")

#include "kernels/cpu/loops.h"

#include <string.h>

#include "kernels/cpu/simd_avx512.h"

/* Pairs of bf16: one dot step multiplies two and adds both to an fp32 lane. */
typedef __m512i vpairs;

static inline vpairs vpairs_load(const uint16_t *p)
{
    return _mm512_loadu_si512(p);
}

static inline vpairs vpairs_set(const uint16_t *p)
{
    int pair;

    memcpy(&pair, p, sizeof(pair));
    return _mm512_set1_epi32(pair);
}

/* Rounds as vf_store_bf16 but drops subnormals, which are no weights. */
static inline void store_weight(uint16_t *p, __m512 weight)
{
    _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh(weight));
}

#define ATTEND_STORE_WEIGHT        store_weight
#define ATTEND_BF16_PACKS          true
#define ATTEND_DOT_BF16(sum, a, b) _mm512_dpbf16_ps((sum), (__m512bh)(a), (__m512bh)(b))

#include "kernels/cpu/loops.inc"

const struct rmk_loops rmk_loops_avx512_bf16 = RMK_LOOPS_TABLE("avx512-bf16");

#endif
