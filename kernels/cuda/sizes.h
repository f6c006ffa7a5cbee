/* What the CUDA device takes of a GPU's memory for itself; for C and C++, since worker/text's
 * memory plan counts it too. */
#ifndef RMK_KERNELS_CUDA_SIZES_H
#define RMK_KERNELS_CUDA_SIZES_H

#define RMK_CUDA_STAGING_PARTS      8
#define RMK_CUDA_STAGING_PART_BYTES (4 << 20)
#define RMK_CUDA_WORKSPACE_BYTES    (32 << 20)  /* of cublasLt */
#define RMK_CUDA_CONTEXT_BYTES      (512 << 20) /* the driver's and the libraries' own: a guess */

/* Logits of so many rows and columns exist at once, twice under guidance. The cuts lie at fixed
 * places of the vocabulary, so that a row's sums do not depend on how many rows ride along. */
#define RMK_CUDA_HEAD_ROWS    256
#define RMK_CUDA_HEAD_COLUMNS 16384

#endif
