#include "kernels/cpu/loops.h"

#include "kernels/cpu/simd_scalar.h"

#include "kernels/cpu/loops.inc"

const struct rmk_loops rmk_loops_scalar = RMK_LOOPS_TABLE("scalar");
