/* A GEMM for every shape, type and alignment: what cublasLt declines, and all of it when emulated.
 *
 * A block makes a tile of y, 64 rows by 64 columns, 16 elements of k at a time; a thread has 4 x 4
 * of it. Sums are fp32 and run along k from 0, so a row's result is its own. */
#include "kernels/cuda/number.h"

constexpr uint32_t TILE = 64;
constexpr uint32_t DEPTH = 16;
constexpr uint32_t EACH = 4;
constexpr uint32_t ACROSS = TILE / EACH; /* threads along either side of the tile */

template <typename T, typename Y>
__global__ void __launch_bounds__(RMK_CUDA_BLOCK)
    tile_kernel(const T *x, const T *weight, const float *bias, Y *y, uint32_t m, uint32_t n,
                uint32_t k)
{
    /* One more than a tile, so that a column of threads does not meet in one bank. */
    __shared__ float rows[DEPTH][TILE + 1];
    __shared__ float columns[DEPTH][TILE + 1];
    const uint32_t row_begin = blockIdx.y * TILE;
    const uint32_t column_begin = blockIdx.x * TILE;
    const uint32_t my_row = threadIdx.x / ACROSS * EACH;
    const uint32_t my_column = threadIdx.x % ACROSS * EACH;
    float sums[EACH][EACH] = {};

    for (uint32_t depth = 0; depth < k; depth += DEPTH) {
        for (uint32_t i = threadIdx.x; i < TILE * DEPTH; i += RMK_CUDA_BLOCK) {
            uint32_t line = i / DEPTH;
            uint32_t at = i % DEPTH;
            bool inside = depth + at < k;
            size_t row = row_begin + line;
            size_t column = column_begin + line;
            rows[at][line] = inside && row < m ? rmk_widen(x[row * k + depth + at]) : 0.0F;
            columns[at][line] =
                inside && column < n ? rmk_widen(weight[column * k + depth + at]) : 0.0F;
        }
        __syncthreads();
        for (uint32_t at = 0; at < DEPTH; at++) {
            RMK_UNROLL
            for (uint32_t i = 0; i < EACH; i++) {
                RMK_UNROLL
                for (uint32_t j = 0; j < EACH; j++) {
                    sums[i][j] = fmaf(rows[at][my_row + i], columns[at][my_column + j], sums[i][j]);
                }
            }
        }
        __syncthreads();
    }
    for (uint32_t i = 0; i < EACH; i++) {
        size_t row = row_begin + my_row + i;
        for (uint32_t j = 0; j < EACH; j++) {
            uint32_t column = column_begin + my_column + j;
            if (row < m && column < n) {
                float sum = bias != NULL ? sums[i][j] + bias[column] : sums[i][j];
                y[row * n + column] = rmk_narrow<Y>(sum);
            }
        }
    }
}

template <typename T, typename Y>
static enum rmk_err launch(struct rmk_cuda *cuda, const struct rmk_product *product)
{
    /* More rows than the grid is high go in several launches; no sum crosses rows. */
    const uint32_t rows_at_once = 65535U * TILE;

    for (uint32_t row = 0; row < product->m; row += rows_at_once) {
        uint32_t m = product->m - row < rows_at_once ? product->m - row : rows_at_once;
        dim3 grid(rmk_cuda_blocks(product->n, TILE), rmk_cuda_blocks(m, TILE));
        RMK_CUDA(cuda,
                 RMK_LAUNCH(cuda, (tile_kernel<T, Y>), grid, dim3(RMK_CUDA_BLOCK), 0,
                            (const T *)product->x + (size_t)row * product->k,
                            (const T *)product->weight, product->bias,
                            (Y *)product->y + (size_t)row * product->n, m, product->n, product->k));
    }
    return RMK_OK;
}

template <typename T>
static enum rmk_err launch_any(struct rmk_cuda *cuda, const struct rmk_product *product)
{
    return product->y_dtype == RMK_F32 ? launch<T, float>(cuda, product)
                                       : launch<T, T>(cuda, product);
}

enum rmk_err rmk_cuda_tile(struct rmk_cuda *cuda, const struct rmk_product *product)
{
    return RMK_FOR_DTYPE(cuda->device.info.act, launch_any)(cuda, product);
}
