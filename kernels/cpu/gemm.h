/* Matrix tiles of one fixed height against prepacked weights, by oneDNN or by our own loop; oneDNN
 * is hidden in gemm.c.
 *
 *                 chunk 0        chunk 1     last chunk
 *     W^T [k, n]  columns        columns     the rest
 *     x tile [RMK_GEMM_ROWS, k]  times a chunk  =  y tile [RMK_GEMM_ROWS, columns], fp32, dense
 *
 * Every call has the same shape, whatever the number of rows in the step, so that a row's sums
 * never run in another order because of its neighbours. oneDNN keeps to that on AVX-512 (its brgemm
 * kernels); its AVX2 kernels give a row other bits at another place of the tile, so there our own
 * loop stands in (docs/internals/kernels-cpu.md has the figures). Each call runs on the calling
 * thread alone, and nothing is created or allocated after rmk_gemm_create.
 */
#ifndef RMK_KERNELS_CPU_GEMM_H
#define RMK_KERNELS_CPU_GEMM_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "kernels/cpu/loops.h"
#include "model/safetensors.h"

enum { RMK_GEMM_ROWS = RMK_PRODUCT_ROWS };

struct rmk_gemm_engine;
struct rmk_gemm;

/* `onednn` false: products by `loops`, fp32 only. */
enum rmk_err rmk_gemm_engine_create(uint32_t worker_count, bool onednn,
                                    const struct rmk_loops *loops,
                                    struct rmk_gemm_engine **out_engine, struct rmk_why *why);
void rmk_gemm_engine_destroy(struct rmk_gemm_engine *engine);

/* "oneDNN 2.6.3", "own products" */
const char *rmk_gemm_engine_name(const struct rmk_gemm_engine *engine);

/* Room for W [n, k] of `dtype` (F32 or BF16); fill every chunk before the first run. */
enum rmk_err rmk_gemm_create(struct rmk_gemm_engine *engine, uint32_t n, uint32_t k,
                             enum rmk_dtype dtype, struct rmk_gemm **out_gemm, struct rmk_why *why);
void rmk_gemm_destroy(struct rmk_gemm *gemm);

uint32_t rmk_gemm_chunk_count(const struct rmk_gemm *gemm);
uint32_t rmk_gemm_chunk_columns(const struct rmk_gemm *gemm, uint32_t chunk);

/* All chunks but the last have this many columns; at most RMK_GEMM_COLUMNS_MAX. */
uint32_t rmk_gemm_columns(const struct rmk_gemm *gemm);
enum { RMK_GEMM_COLUMNS_MAX = 256 };

/* Pack rows [chunk * columns, …) of W, given dense [columns of the chunk, k]; once a chunk. */
enum rmk_err rmk_gemm_pack(struct rmk_gemm *gemm, uint32_t worker, uint32_t chunk,
                           const void *rows);

/* y [RMK_GEMM_ROWS, columns of the chunk] = x [RMK_GEMM_ROWS, k] chunk. Two threads never share a
 * `worker`. */
enum rmk_err rmk_gemm_run(const struct rmk_gemm *gemm, uint32_t worker, uint32_t chunk,
                          const void *x, float *y);

#endif
