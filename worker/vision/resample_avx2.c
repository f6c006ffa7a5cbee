/* AVX2 has no fast 32-bit multiply, but one that multiplies sixteen 16-bit numbers and adds them in
 * pairs. A weight is therefore cut in two, weight = high * 2^12 + low with 0 <= low < 2^12, both
 * sums are kept apart and joined at the end; integers, so nothing is lost. */
#include "worker/vision/resample_kernel.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2")))

enum {
    LOW_BITS = 12,
    PAIR_WORDS = 4, /* per four taps: high 0 1, high 2 3, low 0 1, low 2 3 */
};

static uint32_t pair(int32_t first, int32_t second)
{
    return (uint32_t)(uint16_t)first | (uint32_t)(uint16_t)second << 16;
}

static void pack(const int32_t weights[RMK_RESAMPLE_GROUP], uint32_t *out_words)
{
    const int32_t mask = (1 << LOW_BITS) - 1;

    for (size_t i = 0; i < RMK_RESAMPLE_GROUP; i += 4) {
        const int32_t *w = weights + i;
        out_words[i] = pair(w[0] >> LOW_BITS, w[1] >> LOW_BITS);
        out_words[i + 1] = pair(w[2] >> LOW_BITS, w[3] >> LOW_BITS);
        out_words[i + 2] = pair(w[0] & mask, w[1] & mask);
        out_words[i + 3] = pair(w[2] & mask, w[3] & mask);
    }
}

/* Both sums to whole values, still 32 bits wide. */
AVX2 static inline __m256i join(__m256i high, __m256i low)
{
    const __m256i half = _mm256_set1_epi32(1 << (RMK_RESAMPLE_BITS - 1));
    __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(high, LOW_BITS), low);

    return _mm256_srai_epi32(_mm256_add_epi32(sum, half), RMK_RESAMPLE_BITS);
}

AVX2 static void across(const struct rmk_resample_axis *axis, const uint8_t *row, uint32_t begin,
                        uint32_t end, uint8_t *out)
{
    /* Four pixels to pairs of 16-bit numbers: R0 R1 G0 G1 B0 B1 - - | R2 R3 G2 G3 B2 B3 - -. */
    const __m256i spread =
        _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, //
                         6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
    const __m256i take_high = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    const __m256i take_low = _mm256_setr_epi32(2, 2, 2, 2, 3, 3, 3, 3);

    for (size_t x = begin; x < end; x++) {
        const uint8_t *source = row + 3 * (size_t)axis->first[x];
        const uint32_t *words = axis->words + x * axis->word_stride;
        __m256i high = _mm256_setzero_si256();
        __m256i low = _mm256_setzero_si256();
        for (size_t t = 0; t < axis->tap_count[x]; t += 4) {
            __m256i pixels = _mm256_broadcastsi128_si256(
                _mm_loadu_si128((const __m128i *)(const void *)(source + 3 * t)));
            __m256 weights = _mm256_castsi256_ps(_mm256_broadcastsi128_si256(
                _mm_loadu_si128((const __m128i *)(const void *)(words + t))));
            pixels = _mm256_shuffle_epi8(pixels, spread);
            high = _mm256_add_epi32(
                high, _mm256_madd_epi16(
                          pixels, _mm256_castps_si256(_mm256_permutevar_ps(weights, take_high))));
            low = _mm256_add_epi32(
                low, _mm256_madd_epi16(
                         pixels, _mm256_castps_si256(_mm256_permutevar_ps(weights, take_low))));
        }
        high = _mm256_add_epi32(high, _mm256_permute2x128_si256(high, high, 1));
        low = _mm256_add_epi32(low, _mm256_permute2x128_si256(low, low, 1));
        __m256i whole = _mm256_packs_epi32(join(high, low), _mm256_setzero_si256());
        uint32_t rgb =
            (uint32_t)_mm_cvtsi128_si32(_mm256_castsi256_si128(_mm256_packus_epi16(whole, whole)));
        memcpy(out + 3 * x, &rgb, 3);
    }
}

/* 32 columns. Interleaving and packing stay within 128-bit lanes and undo each other. */
AVX2 static inline __m256i down32(const uint32_t *words, size_t tap_count,
                                  const uint8_t *const *rows, size_t at)
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i high[4] = {zero, zero, zero, zero};
    __m256i low[4] = {zero, zero, zero, zero};

    for (size_t t = 0; t < tap_count; t += 2) {
        const uint32_t *word = words + t / 4 * PAIR_WORDS + t % 4 / 2;
        __m256i weights_high = _mm256_set1_epi32((int32_t)word[0]);
        __m256i weights_low = _mm256_set1_epi32((int32_t)word[2]);
        __m256i first = _mm256_loadu_si256((const __m256i *)(const void *)(rows[t] + at));
        __m256i second = _mm256_loadu_si256((const __m256i *)(const void *)(rows[t + 1] + at));
        __m256i left = _mm256_unpacklo_epi8(first, second);
        __m256i right = _mm256_unpackhi_epi8(first, second);
        __m256i pairs[4] = {
            _mm256_unpacklo_epi8(left, zero),
            _mm256_unpackhi_epi8(left, zero),
            _mm256_unpacklo_epi8(right, zero),
            _mm256_unpackhi_epi8(right, zero),
        };
#pragma GCC unroll 4
        for (size_t i = 0; i < 4; i++) {
            high[i] = _mm256_add_epi32(high[i], _mm256_madd_epi16(pairs[i], weights_high));
            low[i] = _mm256_add_epi32(low[i], _mm256_madd_epi16(pairs[i], weights_low));
        }
    }
    return _mm256_packus_epi16(_mm256_packs_epi32(join(high[0], low[0]), join(high[1], low[1])),
                               _mm256_packs_epi32(join(high[2], low[2]), join(high[3], low[3])));
}

AVX2 static void down(const struct rmk_resample_axis *axis, uint32_t index,
                      const uint8_t *const *rows, size_t size, uint8_t *out)
{
    const uint32_t *words = axis->words + (size_t)index * axis->word_stride;
    size_t tap_count = axis->tap_count[index];

    for (size_t i = 0; i < size; i += 32) {
        uint8_t bytes[32];
        __m256i whole = down32(words, tap_count, rows, i);
        if (size - i >= 32) {
            _mm256_storeu_si256((__m256i *)(void *)(out + i), whole);
        } else {
            _mm256_storeu_si256((__m256i *)(void *)bytes, whole);
            memcpy(out + i, bytes, size - i);
        }
    }
}

const struct rmk_resample_kernel *rmk_resample_kernel_avx2(void)
{
    static const struct rmk_resample_kernel kernel = {
        .name = "avx2",
        .group_words = RMK_RESAMPLE_GROUP / 4 * PAIR_WORDS,
        .pack = pack,
        .across = across,
        .down = down,
    };

    return __builtin_cpu_supports("avx2") ? &kernel : NULL;
}

#else

const struct rmk_resample_kernel *rmk_resample_kernel_avx2(void)
{
    return NULL;
}

#endif
