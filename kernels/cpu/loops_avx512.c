#if defined(__x86_64__)

#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")

#include "kernels/cpu/loops.h"

#include <string.h>

#include "kernels/cpu/simd_avx512.h"

#include "kernels/cpu/loops.inc"

const struct rmk_loops rmk_loops_avx512 = RMK_LOOPS_TABLE("avx512");

#endif
