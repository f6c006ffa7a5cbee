/* Which loops this processor runs: the best it has, or less if $RMK_CPU_ISA (scalar, avx2, avx512,
 * avx512bf16) says so. */
#ifndef RMK_KERNELS_CPU_ISA_H
#define RMK_KERNELS_CPU_ISA_H

#include "kernels/cpu/loops.h"

struct rmk_isa {
    const struct rmk_loops *loops;
    bool onednn; /* its AVX-512 products keep a row's bits wherever the row stands; others do not */
    bool gemm_bf16; /* products of bf16; else bf16 is widened and multiplied as fp32 */
};

/* RMK_EINVAL: the variable names no instruction set. */
enum rmk_err rmk_isa_choose(struct rmk_isa *out_isa, struct rmk_why *why);

#endif
