/* The compute types in a kernel: fp32, and the two 16-bit formats as their bits. */
#ifndef RMK_KERNELS_CUDA_NUMBER_H
#define RMK_KERNELS_CUDA_NUMBER_H

#include "kernels/cuda/cuda.h"

#ifdef RMK_CUDA_EMULATED
extern "C" {
#include "kernels/convert.h"
}
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

struct rmk_f16 {
    uint16_t bits;
};

struct rmk_bf16 {
    uint16_t bits;
};

static __device__ __forceinline__ float rmk_widen(float value)
{
    return value;
}

template <typename T> static __device__ __forceinline__ T rmk_narrow(float value);

template <> __device__ __forceinline__ float rmk_narrow<float>(float value)
{
    return value;
}

#ifdef RMK_CUDA_EMULATED

static inline float rmk_widen(rmk_f16 value)
{
    return rmk_convert_f16(value.bits);
}

static inline float rmk_widen(rmk_bf16 value)
{
    return rmk_convert_bf16(value.bits);
}

template <> inline rmk_f16 rmk_narrow<rmk_f16>(float value)
{
    return {rmk_convert_to_f16(value)};
}

template <> inline rmk_bf16 rmk_narrow<rmk_bf16>(float value)
{
    return {rmk_convert_to_bf16(value)};
}

#else

static __device__ __forceinline__ float rmk_widen(rmk_f16 value)
{
    return __half2float(__ushort_as_half(value.bits));
}

static __device__ __forceinline__ float rmk_widen(rmk_bf16 value)
{
    return __uint_as_float((uint32_t)value.bits << 16);
}

template <> __device__ __forceinline__ rmk_f16 rmk_narrow<rmk_f16>(float value)
{
    return {__half_as_ushort(__float2half_rn(value))};
}

template <> __device__ __forceinline__ rmk_bf16 rmk_narrow<rmk_bf16>(float value)
{
    return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
}

#endif

/* Run `body<T>` for a type chosen at run time. */
#define RMK_FOR_DTYPE(dtype, body)                                                                 \
    ((dtype) == RMK_F32 ? body<float> : (dtype) == RMK_F16 ? body<rmk_f16> : body<rmk_bf16>)

#endif
