/* Which loops this processor runs: the best it has, or less if $RMK_CPU_ISA (scalar, avx2, avx512,
 * avx512bf16) says so. */
#ifndef RMK_KERNELS_CPU_ISA_H
#define RMK_KERNELS_CPU_ISA_H

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/loops.h"

struct rmk_isa {
    const struct rmk_loops *loops;
    enum rmk_gemm_isa gemm; /* the same cap for oneDNN */
    bool gemm_bf16; /* oneDNN multiplies bf16 here; else bf16 is widened and multiplied as fp32 */
};

/* RMK_EINVAL: the variable names no instruction set. */
enum rmk_err rmk_isa_choose(struct rmk_isa *out_isa, struct rmk_why *why);

#endif
