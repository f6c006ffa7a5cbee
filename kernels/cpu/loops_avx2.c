#if defined(__x86_64__)

#pragma GCC target("avx2,fma")

#include "kernels/cpu/loops.h"

#include "kernels/cpu/simd_avx2.h"

#include "kernels/cpu/loops.inc"

const struct rmk_loops rmk_loops_avx2 = RMK_LOOPS_TABLE("avx2");

#endif
