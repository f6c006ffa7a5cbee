/* An emulated device has no cublasLt: the tile kernel does every product. */
#include "kernels/cuda/gemm.h"

enum rmk_err rmk_gemm_create(struct rmk_cuda *, struct rmk_gemm **out, struct rmk_why *)
{
    *out = nullptr;
    return RMK_OK;
}

void rmk_gemm_destroy(struct rmk_gemm *)
{
}

void rmk_gemm_prepare(struct rmk_cuda *, const struct rmk_product *)
{
}

enum rmk_err rmk_gemm_run(struct rmk_cuda *, const struct rmk_product *, bool *out_done)
{
    *out_done = false;
    return RMK_OK;
}
