#include <string.h>

#include "model/safetensors_parts.h"

static const struct {
    const char *name;
    size_t bytes;
} dtypes[] = {
    [RMK_F32] = {"F32", 4}, [RMK_BF16] = {"BF16", 2}, [RMK_F16] = {"F16", 2},
    [RMK_F64] = {"F64", 8}, [RMK_I64] = {"I64", 8},   [RMK_I32] = {"I32", 4},
    [RMK_U8] = {"U8", 1},
};
enum { DTYPE_COUNT = sizeof(dtypes) / sizeof(dtypes[0]) };

size_t rmk_dtype_bytes(enum rmk_dtype dtype)
{
    rmk_assert((unsigned)dtype < DTYPE_COUNT);
    return dtypes[dtype].bytes;
}

const char *rmk_dtype_name(enum rmk_dtype dtype)
{
    rmk_assert((unsigned)dtype < DTYPE_COUNT);
    return dtypes[dtype].name;
}

bool rmk_dtype_find(const char *name, enum rmk_dtype *out_dtype)
{
    for (unsigned i = 0; i < DTYPE_COUNT; i++) {
        if (strcmp(dtypes[i].name, name) == 0) {
            *out_dtype = (enum rmk_dtype)i;
            return true;
        }
    }
    return false;
}

static float f32_of_bits(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

static float f32_of_f16(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 0x1fu;
    uint32_t mantissa = half & 0x3ffu;

    if (exponent == 0) {
        float value = (float)mantissa * 0x1p-24f; /* zero or subnormal: exact */
        return sign != 0 ? -value : value;
    }
    if (exponent == 31) {
        return f32_of_bits(sign | 0x7f800000u | mantissa << 13);
    }
    return f32_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

void rmk_tensor_to_f32(const struct rmk_tensor *tensor, uint64_t first, uint64_t count, float *out)
{
    size_t width = rmk_dtype_bytes(tensor->dtype);

    rmk_assert(first + count <= tensor->bytes / width);
    const uint8_t *bytes = (const uint8_t *)tensor->data + first * width;
    switch (tensor->dtype) {
    case RMK_F32:
        memcpy(out, bytes, count * sizeof(float));
        return;
    case RMK_BF16:
    case RMK_F16:
        for (uint64_t i = 0; i < count; i++) {
            uint16_t half; /* copied: a file need not align its tensors */
            memcpy(&half, bytes + 2 * i, sizeof(half));
            out[i] =
                tensor->dtype == RMK_BF16 ? f32_of_bits((uint32_t)half << 16) : f32_of_f16(half);
        }
        return;
    default:
        rmk_assert(!"a floating-point tensor");
    }
}
