/* Attention on tensor cores, for fp16 and bf16 and head widths that are a multiple of 8 up to 128.
 *
 * A block has 64 queries of one head, 16 a warp, and goes over the keys 64 at a time from the first
 * up: scores of a tile by mma, running maximum and sum in fp32 (the output so far is scaled down
 * when the maximum grows), weights rounded to the compute type, output by mma. Queries and output
 * stay in registers; keys and values pass through shared memory. The width is padded with zeros to
 * the next width a kernel was made for.
 */
#include "kernels/cuda/mma.h"

constexpr uint32_t WARPS = 4;
constexpr uint32_t THREADS = WARPS * 32;
constexpr uint32_t WARP_QUERIES = 16;
constexpr uint32_t QUERIES = WARPS * WARP_QUERIES;
constexpr uint32_t KEYS = 64;
constexpr uint32_t CHUNK = 8; /* elements of one 16-byte load */

/* Rows of one head to shared memory, 16 bytes at a time; zeros beyond the last row and column. */
template <typename T, uint32_t WIDTH, uint32_t PITCH>
static __device__ __forceinline__ void load_tile(const T *source, size_t stride, uint32_t rows,
                                                 uint32_t width, T *target)
{
    struct alignas(16) chunk {
        uint32_t words[4];
    };
    const uint32_t chunks = WIDTH / CHUNK;

    for (uint32_t i = threadIdx.x; i < KEYS * chunks; i += THREADS) {
        uint32_t row = i / chunks;
        uint32_t column = i % chunks * CHUNK;
        chunk value = {{0, 0, 0, 0}};
        if (row < rows && column < width) {
            value = *(const chunk *)(source + row * stride + column);
        }
        *(chunk *)(target + row * PITCH + column) = value;
    }
}

/* Over the four lanes that share a row of D. */
static __device__ __forceinline__ float quad_max(float value)
{
    value = fmaxf(value, __shfl_xor_sync(0xffffffffU, value, 1));
    return fmaxf(value, __shfl_xor_sync(0xffffffffU, value, 2));
}

static __device__ __forceinline__ float quad_sum(float value)
{
    value += __shfl_xor_sync(0xffffffffU, value, 1);
    return value + __shfl_xor_sync(0xffffffffU, value, 2);
}

template <typename T, uint32_t WIDTH>
__global__ void __launch_bounds__(THREADS) mma_kernel(struct rmk_attend attend)
{
    constexpr uint32_t PITCH = WIDTH + CHUNK; /* rows of a matrix fall into different banks */
    constexpr uint32_t DEPTHS = WIDTH / 16;
    constexpr uint32_t COLUMNS = WIDTH / 8;
    __shared__ __align__(16) T k_tile[KEYS * PITCH];
    __shared__ __align__(16) T v_tile[KEYS * PITCH];
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t g = lane / 4;
    const uint32_t p = lane % 4 * 2;
    const uint32_t width = attend.head_width;
    uint32_t s = 0;

    while (s + 1 < attend.stretch_count && attend.stretches[s + 1].first_tile <= blockIdx.x) {
        s++;
    }
    const struct rmk_stretch stretch = attend.stretches[s];
    const uint32_t head = blockIdx.y;
    const uint32_t kv_head = head / (attend.heads / attend.kv_heads);
    const size_t q_width = (size_t)attend.heads * width;
    const size_t kv_width = (size_t)attend.kv_heads * width;
    const uint32_t first = (blockIdx.x - stretch.first_tile) * QUERIES +
                           threadIdx.x / 32 * WARP_QUERIES; /* of this warp, in the segment */
    const size_t head_place = (size_t)stretch.row_begin * q_width + (size_t)head * width;
    uint32_t q[DEPTHS][4];
    float out[COLUMNS][4] = {};
    float largest[2] = {-INFINITY, -INFINITY}; /* of rows g and g + 8 */
    float total[2] = {0.0F, 0.0F};             /* this lane's share */

    RMK_UNROLL
    for (uint32_t depth = 0; depth < DEPTHS; depth++) {
        RMK_UNROLL
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t row = first + g + i % 2 * 8;
            const uint32_t column = depth * 16 + p + i / 2 * 8;
            q[depth][i] = 0;
            if (row < stretch.row_count && column < width) {
                q[depth][i] =
                    *(const uint32_t *)((const T *)attend.q + head_place + row * q_width + column);
            }
        }
    }
    for (uint32_t key = 0; key < stretch.kv_count; key += KEYS) {
        const uint32_t rest = stretch.kv_count - key;
        const size_t kv_place = (size_t)key * kv_width + (size_t)kv_head * width;
        float scores[KEYS / 8][4] = {};

        __syncthreads(); /* the tile before has been used */
        load_tile<T, WIDTH, PITCH>((const T *)stretch.k + kv_place, kv_width, rest, width, k_tile);
        load_tile<T, WIDTH, PITCH>((const T *)stretch.v + kv_place, kv_width, rest, width, v_tile);
        __syncthreads();
        RMK_UNROLL
        for (uint32_t n = 0; n < KEYS / 8; n += 2) {
            RMK_UNROLL
            for (uint32_t depth = 0; depth < DEPTHS; depth++) {
                uint32_t b[4]; /* keys n and n + 1 (in eights), both halves of the depth */
                rmk_load_matrices(b, k_tile + (n * 8 + lane / 16 * 8 + lane % 8) * PITCH +
                                         depth * 16 + lane / 8 % 2 * 8);
                rmk_mma<T>(scores[n], q[depth], {b[0], b[1]});
                rmk_mma<T>(scores[n + 1], q[depth], {b[2], b[3]});
            }
        }
        float now[2] = {largest[0], largest[1]};
        RMK_UNROLL
        for (uint32_t n = 0; n < KEYS / 8; n++) {
            RMK_UNROLL
            for (uint32_t i = 0; i < 4; i++) {
                const bool inside = n * 8 + p + i % 2 < rest;
                scores[n][i] = inside ? scores[n][i] * attend.scale : -INFINITY;
                now[i / 2] = fmaxf(now[i / 2], scores[n][i]);
            }
        }
        float shrink[2];
        RMK_UNROLL
        for (uint32_t half = 0; half < 2; half++) {
            now[half] = quad_max(now[half]);
            shrink[half] = expf(largest[half] - now[half]);
            largest[half] = now[half];
            total[half] *= shrink[half];
        }
        RMK_UNROLL
        for (uint32_t n = 0; n < KEYS / 8; n++) {
            RMK_UNROLL
            for (uint32_t i = 0; i < 4; i++) {
                scores[n][i] = expf(scores[n][i] - now[i / 2]);
                total[i / 2] += scores[n][i];
            }
        }
        RMK_UNROLL
        for (uint32_t column = 0; column < COLUMNS; column++) {
            RMK_UNROLL
            for (uint32_t i = 0; i < 4; i++) {
                out[column][i] *= shrink[i / 2];
            }
        }
        RMK_UNROLL
        for (uint32_t depth = 0; depth < KEYS / 16; depth++) {
            /* A tile of D has the registers of half a tile of A. */
            const float(&low)[4] = scores[2 * depth];
            const float(&high)[4] = scores[2 * depth + 1];
            const uint32_t a[4] = {rmk_pack<T>(low[0], low[1]), rmk_pack<T>(low[2], low[3]),
                                   rmk_pack<T>(high[0], high[1]), rmk_pack<T>(high[2], high[3])};
            RMK_UNROLL
            for (uint32_t column = 0; column < COLUMNS; column += 2) {
                uint32_t b[4]; /* both halves of the depth, columns `column` and the next */
                rmk_load_transposed(b, v_tile + (depth * 16 + lane / 8 % 2 * 8 + lane % 8) * PITCH +
                                           column * 8 + lane / 16 * 8);
                rmk_mma<T>(out[column], a, {b[0], b[1]});
                rmk_mma<T>(out[column + 1], a, {b[2], b[3]});
            }
        }
    }
    total[0] = quad_sum(total[0]);
    total[1] = quad_sum(total[1]);
    RMK_UNROLL
    for (uint32_t column = 0; column < COLUMNS; column++) {
        RMK_UNROLL
        for (uint32_t half = 0; half < 2; half++) {
            const uint32_t row = first + g + half * 8;
            const uint32_t at = column * 8 + p;
            if (row < stretch.row_count && at < width) {
                *(uint32_t *)((T *)attend.y + head_place + row * q_width + at) = rmk_pack<T>(
                    out[column][2 * half] / total[half], out[column][2 * half + 1] / total[half]);
            }
        }
    }
}

uint32_t rmk_cuda_mma_tile_rows(enum rmk_dtype act, uint32_t head_width)
{
    return act != RMK_F32 && head_width % CHUNK == 0 && head_width <= 128 ? QUERIES : 0;
}

template <typename T, uint32_t WIDTH>
static enum rmk_err launch(struct rmk_cuda *cuda, const struct rmk_attend *attend,
                           uint32_t tile_count)
{
    RMK_CUDA(cuda, RMK_LAUNCH(cuda, (mma_kernel<T, WIDTH>), dim3(tile_count, attend->heads),
                              dim3(THREADS), 0, *attend));
    return RMK_OK;
}

template <typename T>
static enum rmk_err launch_width(struct rmk_cuda *cuda, const struct rmk_attend *attend,
                                 uint32_t tile_count)
{
    if (attend->head_width <= 32) {
        return launch<T, 32>(cuda, attend, tile_count);
    }
    if (attend->head_width <= 64) {
        return launch<T, 64>(cuda, attend, tile_count);
    }
    if (attend->head_width <= 80) {
        return launch<T, 80>(cuda, attend, tile_count); /* SigLIP's 72 */
    }
    return launch<T, 128>(cuda, attend, tile_count);
}

enum rmk_err rmk_cuda_mma_attention(struct rmk_cuda *cuda, const struct rmk_attend *attend,
                                    uint32_t tile_count)
{
    return cuda->device.info.act == RMK_F16 ? launch_width<rmk_f16>(cuda, attend, tile_count)
                                            : launch_width<rmk_bf16>(cuda, attend, tile_count);
}
