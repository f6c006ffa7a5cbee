/* What cublasLt is asked, apart from linear.cu because an emulated device has none.
 *
 * One algorithm serves every number of rows of a weight's row class (row_class.h; there is one
 * class unless the device was made `by_rows`). It is the heuristic's first choice for the class's
 * rows; in the highest class, the only one of a batch-invariant device, among those that add up a
 * product in one go (no split of k, whose parts would be summed in an order that depends on the
 * rows). A row then goes through the same instructions in the same order whatever rides along.
 */
#ifndef RMK_KERNELS_CUDA_GEMM_H
#define RMK_KERNELS_CUDA_GEMM_H

#include "kernels/cuda/cuda.h"

/* NULL in *out where there is no cublasLt: then the tile kernel does everything. */
enum rmk_err rmk_gemm_create(struct rmk_cuda *cuda, struct rmk_gemm **out, struct rmk_why *why);
void rmk_gemm_destroy(struct rmk_gemm *gemm);

/* Choose the algorithm ahead for the class of product->m, so that no step pays for it. A shape it
 * has none for is not an error. */
void rmk_gemm_prepare(struct rmk_cuda *cuda, const struct rmk_product *product);

/* Enqueue; *out_done is false when cublasLt has no algorithm for this, and nothing was enqueued. */
enum rmk_err rmk_gemm_run(struct rmk_cuda *cuda, const struct rmk_product *product, bool *out_done);

#endif
