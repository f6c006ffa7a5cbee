#include "kernels/cpu/isa.h"

#include <stdlib.h>
#include <string.h>

enum level {
    SCALAR = 0,
    AVX2,
    AVX512,
    AVX512_BF16,
    LEVEL_COUNT,
};

static const char *const level_names[LEVEL_COUNT] = {
    [SCALAR] = "scalar",
    [AVX2] = "avx2",
    [AVX512] = "avx512",
    [AVX512_BF16] = "avx512bf16",
};

#if defined(__x86_64__)

static const struct rmk_loops *const level_loops[LEVEL_COUNT] = {
    [SCALAR] = &rmk_loops_scalar,
    [AVX2] = &rmk_loops_avx2,
    [AVX512] = &rmk_loops_avx512,
    [AVX512_BF16] = &rmk_loops_avx512_bf16,
};

static enum level best(void)
{
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
        return SCALAR;
    }
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl")) {
        return AVX2;
    }
    return __builtin_cpu_supports("avx512bf16") ? AVX512_BF16 : AVX512;
}

#else

static const struct rmk_loops *const level_loops[LEVEL_COUNT] = {&rmk_loops_scalar};

static enum level best(void)
{
    return SCALAR;
}

#endif

enum rmk_err rmk_isa_choose(struct rmk_isa *out_isa, struct rmk_why *why)
{
    enum level level = best();
    const char *wanted = getenv("RMK_CPU_ISA");

    if (wanted != NULL && wanted[0] != '\0') {
        int cap = 0;
        while (cap < LEVEL_COUNT && strcmp(level_names[cap], wanted) != 0) {
            cap++;
        }
        if (cap == LEVEL_COUNT) {
            return rmk_fail(why, RMK_EINVAL,
                            "RMK_CPU_ISA is '%s': use scalar, avx2, avx512 or avx512bf16", wanted);
        }
        level = (int)level < cap ? level : (enum level)cap;
    }
    *out_isa = (struct rmk_isa){
        .loops = level_loops[level],
        .onednn = level >= AVX512,
        .gemm_bf16 = level == AVX512_BF16,
    };
    return RMK_OK;
}
