/* The vocabulary head: products in stretches of columns that stay in scratch, each reduced into one
 * result a row. The stretches lie at fixed places and come in order, and a row has a block of its
 * own, so its result does not depend on other rows. */
#include "kernels/cuda/number.h"
#include "kernels/cuda/reduce.h"
#include "kernels/noise.h"

#include <string.h>

enum rmk_err rmk_cuda_head_reserve(struct rmk_cuda *cuda, const struct rmk_reserve *wanted)
{
    const uint32_t rows =
        wanted->head_rows_max < RMK_HEAD_ROWS ? wanted->head_rows_max : RMK_HEAD_ROWS;
    const uint32_t columns = wanted->vocab < RMK_HEAD_COLUMNS ? wanted->vocab : RMK_HEAD_COLUMNS;

    rmk_cuda_head_release(cuda);
    if (rows == 0 || columns == 0) {
        return RMK_OK;
    }
    for (int pass = 0; pass < 2; pass++) {
        RMK_CUDA(cuda,
                 cudaMalloc((void **)&cuda->logits[pass], (size_t)rows * columns * sizeof(float)));
    }
    RMK_CUDA(cuda, cudaMalloc((void **)&cuda->head_results,
                              wanted->head_rows_max * sizeof(*cuda->head_results)));
    return RMK_OK;
}

void rmk_cuda_head_release(struct rmk_cuda *cuda)
{
    for (int pass = 0; pass < 2; pass++) {
        (void)cudaFree(cuda->logits[pass]);
        cuda->logits[pass] = NULL;
    }
    (void)cudaFree(cuda->head_results);
    cuda->head_results = NULL;
}

struct stretch {
    const float *logits; /* [rows, count] */
    const float *uncond; /* the same, or NULL */
    uint32_t count;
    uint32_t first_id; /* vocabulary id of column 0 */
    uint32_t vocab_all;
    const int32_t *suppressed;
    uint32_t suppressed_count;
    bool first; /* nothing is known of the rows yet */
};

/* The one that wins so far. */
struct winner {
    double value;
    double logit;
    int32_t token; /* -1: none */
};

static __device__ inline void prefer(struct winner &a, const struct winner &b)
{
    if (b.token >= 0 &&
        (a.token < 0 || b.value > a.value || (b.value == a.value && b.token < a.token))) {
        a = b;
    }
}

/* Over the block; all threads get the result. */
static __device__ inline struct winner block_winner(struct winner mine)
{
    __shared__ double values[RMK_CUDA_BLOCK / 32];
    __shared__ double logits[RMK_CUDA_BLOCK / 32];
    __shared__ int32_t tokens[RMK_CUDA_BLOCK / 32];

    for (int mask = 16; mask > 0; mask /= 2) {
        struct winner other;
        other.value = __shfl_xor_sync(0xffffffffU, mine.value, mask);
        other.logit = __shfl_xor_sync(0xffffffffU, mine.logit, mask);
        other.token = __shfl_xor_sync(0xffffffffU, mine.token, mask);
        prefer(mine, other);
    }
    if (threadIdx.x % 32 == 0) {
        values[threadIdx.x / 32] = mine.value;
        logits[threadIdx.x / 32] = mine.logit;
        tokens[threadIdx.x / 32] = mine.token;
    }
    __syncthreads();
    for (uint32_t warp = 0; warp < RMK_CUDA_BLOCK / 32; warp++) {
        const struct winner other = {values[warp], logits[warp], tokens[warp]};
        prefer(mine, other);
    }
    return mine;
}

static __device__ inline double block_max(double value)
{
    __shared__ double warps[RMK_CUDA_BLOCK / 32];

    for (int mask = 16; mask > 0; mask /= 2) {
        value = fmax(value, __shfl_xor_sync(0xffffffffU, value, mask));
    }
    if (threadIdx.x % 32 == 0) {
        warps[threadIdx.x / 32] = value;
    }
    __syncthreads();
    for (uint32_t warp = 0; warp < RMK_CUDA_BLOCK / 32; warp++) {
        value = fmax(value, warps[warp]);
    }
    return value;
}

static __device__ inline bool is_suppressed(const struct stretch &stretch, uint32_t id)
{
    for (uint32_t i = 0; i < stretch.suppressed_count; i++) {
        if (stretch.suppressed[i] == (int64_t)id) {
            return true;
        }
    }
    return false;
}

static __device__ inline float logit_of(const struct stretch &stretch, uint32_t column,
                                        float cfg_scale)
{
    const size_t at = (size_t)blockIdx.x * stretch.count + column;
    const float cond = stretch.logits[at];

    if (stretch.uncond == NULL) {
        return cond;
    }
    const float un = stretch.uncond[at];
    return un + (cfg_scale + 1.0F) * (cond - un);
}

__global__ void __launch_bounds__(RMK_CUDA_BLOCK)
    head_kernel(struct stretch stretch, const struct rmk_head_row *rows,
                struct rmk_head_result *results)
{
    const struct rmk_head_row row = rows[blockIdx.x];
    const bool noisy = rmk_noise_wanted(&row);
    struct winner best = {-INFINITY, 0.0, -1};
    double largest = -INFINITY;
    int nonfinite = 0;
    double sum = 0.0;

    for (uint32_t i = threadIdx.x; i < stretch.count; i += RMK_CUDA_BLOCK) {
        const uint32_t id = stretch.first_id + i;
        const double logit = (double)logit_of(stretch, i, row.cfg_scale);
        if (is_suppressed(stretch, id)) {
            continue;
        }
        if (!isfinite(logit)) {
            nonfinite = 1;
            continue;
        }
        double value = logit;
        if (noisy) {
            value = rmk_noise_apply(logit, row.temperature,
                                    rmk_noise_uniform(&row, stretch.vocab_all, id));
        }
        const struct winner here = {value, logit, (int32_t)id};
        prefer(best, here);
        largest = fmax(largest, logit);
    }
    best = block_winner(best);
    largest = block_max(largest);
    nonfinite = rmk_block_sum(nonfinite);

    struct rmk_head_result before = {-INFINITY, -1, 0.0, -INFINITY, 0.0, false};
    if (!stretch.first) {
        before = results[blockIdx.x];
    }
    const double now = fmax(largest, before.max);
    for (uint32_t i = threadIdx.x; i < stretch.count; i += RMK_CUDA_BLOCK) {
        const double logit = (double)logit_of(stretch, i, row.cfg_scale);
        if (isfinite(logit) && !is_suppressed(stretch, stretch.first_id + i)) {
            sum += exp(logit - now);
        }
    }
    sum = rmk_block_sum(sum); /* all threads have read `before` when it returns */
    if (threadIdx.x == 0) {
        struct winner winner = {before.best, before.logit, before.token};
        prefer(winner, best);
        if (before.token >= 0) {
            sum += before.sum * exp(before.max - now);
        }
        struct rmk_head_result *result = &results[blockIdx.x];
        result->best = winner.value;
        result->token = winner.token;
        result->logit = winner.logit;
        result->max = now;
        result->sum = sum;
        result->nonfinite = before.nonfinite || nonfinite > 0;
    }
}

enum rmk_err rmk_cuda_head(struct rmk_device *device, const struct rmk_linear *head, const void *x,
                           const void *x_uncond, uint32_t m, uint32_t vocab_begin,
                           uint32_t vocab_all, const int32_t *suppressed_host,
                           uint32_t suppressed_count, const struct rmk_head_row *rows_host,
                           struct rmk_head_result *results_host)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);
    const size_t row_bytes = head->k * rmk_cuda_bytes(device->info.act);
    const void *suppressed = NULL;
    const void *rows = NULL;

    rmk_assert(m <= cuda->reserve.head_rows_max);
    rmk_assert(head->n <= cuda->reserve.vocab);
    RMK_PASS(rmk_cuda_enter(cuda));
    if (m == 0) {
        return RMK_OK;
    }
    if (suppressed_count > 0) {
        RMK_PASS(rmk_staging_list(cuda, suppressed_host,
                                  suppressed_count * sizeof(*suppressed_host), &suppressed));
    }
    for (uint32_t row = 0; row < m; row += RMK_HEAD_ROWS) {
        const uint32_t count = m - row < RMK_HEAD_ROWS ? m - row : RMK_HEAD_ROWS;
        const void *const inputs[2] = {
            (const unsigned char *)x + row * row_bytes,
            x_uncond != NULL ? (const unsigned char *)x_uncond + row * row_bytes : NULL,
        };
        RMK_PASS(rmk_staging_list(cuda, rows_host + row, count * sizeof(*rows_host), &rows));
        for (uint32_t begin = 0; begin < head->n; begin += RMK_HEAD_COLUMNS) {
            const uint32_t left = head->n - begin;
            const uint32_t width = left < RMK_HEAD_COLUMNS ? left : RMK_HEAD_COLUMNS;
            for (int pass = 0; pass < 2 && inputs[pass] != NULL; pass++) {
                RMK_PASS(rmk_cuda_columns(cuda, head, begin, width, inputs[pass], count,
                                          cuda->logits[pass]));
            }
            const struct stretch stretch = {
                .logits = cuda->logits[0],
                .uncond = x_uncond != NULL ? cuda->logits[1] : NULL,
                .count = width,
                .first_id = vocab_begin + begin,
                .vocab_all = vocab_all,
                .suppressed = (const int32_t *)suppressed,
                .suppressed_count = suppressed_count,
                .first = begin == 0,
            };
            RMK_CUDA(cuda,
                     RMK_LAUNCH(cuda, head_kernel, dim3(count), dim3(RMK_CUDA_BLOCK), 0, stretch,
                                (const struct rmk_head_row *)rows, cuda->head_results + row));
        }
    }
    return device->ops->download(device, results_host, cuda->head_results,
                                 m * sizeof(*results_host));
}
