/* Between fp32 and the two 16-bit formats: exact one way, round to nearest even the other. NaN
 * stays NaN. */
#ifndef RMK_KERNELS_CONVERT_H
#define RMK_KERNELS_CONVERT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/kernels.h"

static inline float rmk_convert_bits(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

static inline float rmk_convert_bf16(uint16_t bits)
{
    return rmk_convert_bits((uint32_t)bits << 16);
}

static inline uint16_t rmk_convert_to_bf16(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    if ((bits & 0x7FFFFFFFU) > 0x7F800000U) {
        return (uint16_t)(bits >> 16) | 0x40U; /* quiet, and never rounded up to an infinity */
    }
    return (uint16_t)((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

static inline float rmk_convert_f16(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000U) << 16;
    uint32_t exponent = (bits >> 10) & 0x1FU;
    uint32_t fraction = bits & 0x3FFU;

    if (exponent == 0) { /* zero or subnormal: fraction * 2^-24, exact in fp32 */
        float magnitude = (float)fraction * 0x1p-24F;
        return sign != 0 ? -magnitude : magnitude;
    }
    if (exponent == 31) {
        return rmk_convert_bits(sign | 0x7F800000U | (fraction << 13));
    }
    return rmk_convert_bits(sign | ((exponent + 112U) << 23) | (fraction << 13));
}

/* Too large is an infinity; too small is subnormal or zero. */
static inline uint16_t rmk_convert_to_f16(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000U);
    uint32_t magnitude = bits & 0x7FFFFFFFU;
    if (magnitude > 0x7F800000U) {
        return sign | 0x7E00U | (uint16_t)(magnitude >> 13 & 0x3FFU);
    }
    if (magnitude >= 0x477FF000U) { /* 65520 and more round to 2^16 */
        return sign | 0x7C00U;
    }
    if (magnitude < 0x38800000U) { /* below 2^-14: a multiple of 2^-24, which the sum rounds to */
        float shifted = rmk_convert_bits(magnitude) + 0.5F; /* ulp of [0.5, 1) is 2^-24 */
        memcpy(&bits, &shifted, sizeof(bits));
        return sign | (uint16_t)(bits - 0x3F000000U);
    }
    magnitude += 0xFFFU + (magnitude >> 13 & 1U);
    return sign | (uint16_t)((magnitude >> 13) - (112U << 10));
}

/* Bytes of one element of the types a device computes with or reads weights in. */
static inline size_t rmk_convert_bytes(enum rmk_dtype dtype)
{
    return dtype == RMK_F32 ? 4 : 2;
}

/* Element `index` of an array of F32, BF16 or F16, as fp32. The array may stand anywhere: a
 * checkpoint aligns nothing. */
static inline float rmk_convert_get(const void *data, enum rmk_dtype dtype, size_t index)
{
    uint16_t bits;
    float value;

    if (dtype == RMK_F32) {
        memcpy(&value, (const char *)data + index * sizeof(value), sizeof(value));
        return value;
    }
    memcpy(&bits, (const char *)data + index * sizeof(bits), sizeof(bits));
    return dtype == RMK_BF16 ? rmk_convert_bf16(bits) : rmk_convert_f16(bits);
}

#endif
