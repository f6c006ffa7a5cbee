/* With VNNI one instruction multiplies sixty-four unsigned bytes by signed bytes and adds them in
 * fours. A weight is cut into three signed bytes, weight = high * 2^16 + middle * 2^8 + low; the
 * three sums are kept apart and joined at the end. */
#include "worker/vision/resample_kernel.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define AVX512 __attribute__((target("avx2,avx512f,avx512bw,avx512vl,avx512vnni")))

enum {
    GROUP_WORDS = 6
}; /* per eight taps: high 0-3, high 4-7, middle 0-3, middle 4-7, low 0-3, low 4-7 */

static void pack(const int32_t weights[RMK_RESAMPLE_GROUP], uint32_t *out_words)
{
    memset(out_words, 0, GROUP_WORDS * sizeof(*out_words));
    for (size_t i = 0; i < RMK_RESAMPLE_GROUP; i++) {
        int32_t low = (int8_t)weights[i];
        int32_t rest = (weights[i] - low) >> 8;
        int32_t middle = (int8_t)rest;
        int32_t high = (rest - middle) >> 8;
        uint32_t *word = out_words + i / 4;
        word[0] |= (uint32_t)(uint8_t)high << (8 * (i % 4));
        word[2] |= (uint32_t)(uint8_t)middle << (8 * (i % 4));
        word[4] |= (uint32_t)(uint8_t)low << (8 * (i % 4));
    }
}

AVX512 static void across(const struct rmk_resample_axis *axis, const uint8_t *row, uint32_t begin,
                          uint32_t end, uint8_t *out)
{
    /* Four pixels to fours of bytes: R0..R3 G0..G3 B0..B3 - - - -. */
    const __m256i spread = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1));
    const __m256i halves = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    const __m128i round = _mm_set1_epi32(1 << (RMK_RESAMPLE_BITS - 1));

    for (size_t x = begin; x < end; x++) {
        const uint8_t *source = row + 3 * (size_t)axis->first[x];
        const uint32_t *words = axis->words + x * axis->word_stride;
        __m256i high = _mm256_setzero_si256();
        __m256i middle = _mm256_setzero_si256();
        __m256i low = _mm256_setzero_si256();
        for (size_t t = 0; t < axis->tap_count[x]; t += 8, words += GROUP_WORDS) {
            const void *left = source + 3 * t;
            const void *right = source + 3 * t + 12;
            __m256i pixels = _mm256_shuffle_epi8(_mm256_loadu2_m128i(right, left), spread);
            const void *w = words;
            __m256i w_high =
                _mm256_permutevar8x32_epi32(_mm256_castsi128_si256(_mm_loadl_epi64(w)), halves);
            __m256i w_middle = _mm256_permutevar8x32_epi32(
                _mm256_castsi128_si256(_mm_loadl_epi64((const __m128i *)(const void *)(words + 2))),
                halves);
            __m256i w_low = _mm256_permutevar8x32_epi32(
                _mm256_castsi128_si256(_mm_loadl_epi64((const __m128i *)(const void *)(words + 4))),
                halves);
            high = _mm256_dpbusd_epi32(high, pixels, w_high);
            middle = _mm256_dpbusd_epi32(middle, pixels, w_middle);
            low = _mm256_dpbusd_epi32(low, pixels, w_low);
        }
        __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(high, 16),
                                       _mm256_add_epi32(_mm256_slli_epi32(middle, 8), low));
        __m128i whole =
            _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
        whole = _mm_srai_epi32(_mm_add_epi32(whole, round), RMK_RESAMPLE_BITS);
        whole = _mm_packs_epi32(whole, whole);
        uint32_t rgb = (uint32_t)_mm_cvtsi128_si32(_mm_packus_epi16(whole, whole));
        memcpy(out + 3 * x, &rgb, 3);
    }
}

/* 64 columns. Interleaving and packing stay within 128-bit lanes and undo each other. */
AVX512 static inline __m512i down64(const uint32_t *words, size_t tap_count,
                                    const uint8_t *const *rows, size_t at)
{
    const __m512i round = _mm512_set1_epi32(1 << (RMK_RESAMPLE_BITS - 1));
    __m512i high[4];
    __m512i middle[4];
    __m512i low[4];

#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++) {
        high[i] = middle[i] = low[i] = _mm512_setzero_si512();
    }
    for (size_t t = 0; t < tap_count; t += 4) {
        const uint32_t *word = words + t / 8 * GROUP_WORDS + t % 8 / 4;
        __m512i w_high = _mm512_set1_epi32((int32_t)word[0]);
        __m512i w_middle = _mm512_set1_epi32((int32_t)word[2]);
        __m512i w_low = _mm512_set1_epi32((int32_t)word[4]);
        __m512i row0 = _mm512_loadu_si512(rows[t] + at);
        __m512i row1 = _mm512_loadu_si512(rows[t + 1] + at);
        __m512i row2 = _mm512_loadu_si512(rows[t + 2] + at);
        __m512i row3 = _mm512_loadu_si512(rows[t + 3] + at);
        __m512i left01 = _mm512_unpacklo_epi8(row0, row1);
        __m512i right01 = _mm512_unpackhi_epi8(row0, row1);
        __m512i left23 = _mm512_unpacklo_epi8(row2, row3);
        __m512i right23 = _mm512_unpackhi_epi8(row2, row3);
        __m512i fours[4] = {
            _mm512_unpacklo_epi16(left01, left23),
            _mm512_unpackhi_epi16(left01, left23),
            _mm512_unpacklo_epi16(right01, right23),
            _mm512_unpackhi_epi16(right01, right23),
        };
#pragma GCC unroll 4
        for (size_t i = 0; i < 4; i++) {
            high[i] = _mm512_dpbusd_epi32(high[i], fours[i], w_high);
            middle[i] = _mm512_dpbusd_epi32(middle[i], fours[i], w_middle);
            low[i] = _mm512_dpbusd_epi32(low[i], fours[i], w_low);
        }
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++) {
        __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(high[i], 16),
                                       _mm512_add_epi32(_mm512_slli_epi32(middle[i], 8), low[i]));
        low[i] = _mm512_srai_epi32(_mm512_add_epi32(sum, round), RMK_RESAMPLE_BITS);
    }
    return _mm512_packus_epi16(_mm512_packs_epi32(low[0], low[1]),
                               _mm512_packs_epi32(low[2], low[3]));
}

AVX512 static void down(const struct rmk_resample_axis *axis, uint32_t index,
                        const uint8_t *const *rows, size_t size, uint8_t *out)
{
    const uint32_t *words = axis->words + (size_t)index * axis->word_stride;
    size_t tap_count = axis->tap_count[index];

    for (size_t i = 0; i < size; i += 64) {
        size_t count = size - i < 64 ? size - i : 64;
        __mmask64 mask = UINT64_MAX >> (64 - count);
        _mm512_mask_storeu_epi8(out + i, mask, down64(words, tap_count, rows, i));
    }
}

const struct rmk_resample_kernel *rmk_resample_kernel_avx512(void)
{
    static const struct rmk_resample_kernel kernel = {
        .name = "avx512",
        .group_words = GROUP_WORDS,
        .pack = pack,
        .across = across,
        .down = down,
    };
    int supported = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");

    return supported ? &kernel : NULL;
}

#else

const struct rmk_resample_kernel *rmk_resample_kernel_avx512(void)
{
    return NULL;
}

#endif
