/* Rotation, and attention for every compute type and head width; attention_mma.cu has the fast path
 * for 16-bit types. */
#include "kernels/cuda/number.h"

/* -- segments on the device
 * -------------------------------------------------------------------------- */

enum rmk_err rmk_cuda_stretches(struct rmk_cuda *cuda, const struct rmk_segment *segments_host,
                                uint32_t segment_count, uint32_t tile_rows,
                                const struct rmk_stretch **out_stretches, uint32_t *out_tile_count)
{
    const size_t bytes = segment_count * sizeof(struct rmk_stretch);
    void *host = NULL;
    void *target = NULL;
    uint32_t tiles = 0;

    RMK_PASS(rmk_staging_take(cuda, bytes, &host, &target));
    struct rmk_stretch *stretches = (struct rmk_stretch *)host;
    for (uint32_t i = 0; i < segment_count; i++) {
        const struct rmk_segment *segment = &segments_host[i];
        stretches[i] = {
            .row_begin = segment->row_begin,
            .row_count = segment->row_count,
            .kv_count = segment->kv_count,
            .first_tile = tiles,
            .k = segment->k,
            .v = segment->v,
        };
        tiles += rmk_cuda_blocks(segment->row_count, tile_rows);
    }
    RMK_PASS(rmk_staging_send(cuda, host, target, bytes));
    *out_stretches = (const struct rmk_stretch *)target;
    *out_tile_count = tiles;
    return RMK_OK;
}

/* -- rotation
 * ---------------------------------------------------------------------------------------- */

constexpr uint32_t ROPE_THREADS = 128;

struct rope {
    void *q;
    const void *k;
    const void *v;
    const float *cos;
    const float *sin;
    const uint32_t *positions; /* of rows from first_row on */
    uint32_t first_row;
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t head_width;
};

template <typename T>
static __device__ __forceinline__ void rotate(const T *from, T *to, float cosine, float sine,
                                              uint32_t half)
{
    float a = rmk_widen(from[0]);
    float b = rmk_widen(from[half]);

    to[0] = rmk_narrow<T>(a * cosine - b * sine);
    to[half] = rmk_narrow<T>(b * cosine + a * sine);
}

/* A block has one row: its queries in place, its keys and values to where they belong. */
template <typename T>
__global__ void __launch_bounds__(ROPE_THREADS)
    rope_kernel(struct rope rope, const struct rmk_stretch *stretches, uint32_t stretch_count)
{
    uint32_t s = 0;

    while (s + 1 < stretch_count && stretches[s + 1].first_tile <= blockIdx.x) {
        s++;
    }
    const struct rmk_stretch stretch = stretches[s];
    const size_t t = stretch.row_begin + (blockIdx.x - stretch.first_tile);
    const size_t position = rope.positions[t - rope.first_row];
    const uint32_t half = rope.head_width / 2;
    const size_t kv_width = (size_t)rope.kv_heads * rope.head_width;
    const float *cos = rope.cos + position * half;
    const float *sin = rope.sin + position * half;
    T *q = (T *)rope.q + t * rope.heads * rope.head_width;
    const T *k = (const T *)rope.k + t * kv_width;
    const T *v = (const T *)rope.v + t * kv_width;
    T *k_target = (T *)stretch.k + position * kv_width;
    T *v_target = (T *)stretch.v + position * kv_width;

    for (uint32_t i = threadIdx.x; i < rope.heads * half; i += ROPE_THREADS) {
        uint32_t at = i / half * rope.head_width + i % half;
        rotate(q + at, q + at, cos[i % half], sin[i % half], half);
    }
    for (uint32_t i = threadIdx.x; i < rope.kv_heads * half; i += ROPE_THREADS) {
        uint32_t at = i / half * rope.head_width + i % half;
        rotate(k + at, k_target + at, cos[i % half], sin[i % half], half);
    }
    for (uint32_t i = threadIdx.x; i < kv_width; i += ROPE_THREADS) {
        v_target[i] = v[i];
    }
}

template <typename T>
static enum rmk_err launch_rope(struct rmk_cuda *cuda, const struct rope *rope,
                                const struct rmk_stretch *stretches, uint32_t stretch_count,
                                uint32_t row_count)
{
    RMK_CUDA(cuda, RMK_LAUNCH(cuda, rope_kernel<T>, dim3(row_count), dim3(ROPE_THREADS), 0, *rope,
                              stretches, stretch_count));
    return RMK_OK;
}

enum rmk_err rmk_cuda_rope_kv(struct rmk_device *device, void *q, const void *k, const void *v,
                              const float *cos, const float *sin, const uint32_t *positions_host,
                              const struct rmk_segment *segments_host, uint32_t segment_count,
                              uint32_t heads, uint32_t kv_heads, uint32_t head_width)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);
    const struct rmk_stretch *stretches = NULL;
    const void *positions = NULL;
    uint32_t first = UINT32_MAX;
    uint32_t end = 0;
    uint32_t rows = 0;

    rmk_assert(head_width % 2 == 0);
    for (uint32_t i = 0; i < segment_count; i++) {
        const struct rmk_segment *segment = &segments_host[i];
        if (segment->row_count > 0) {
            first = segment->row_begin < first ? segment->row_begin : first;
            uint32_t last = segment->row_begin + segment->row_count;
            end = last > end ? last : end;
        }
    }
    if (first >= end) {
        return RMK_OK;
    }
    RMK_PASS(rmk_cuda_enter(cuda));
    RMK_PASS(rmk_staging_list(cuda, positions_host + first,
                              (size_t)(end - first) * sizeof(*positions_host), &positions));
    RMK_PASS(rmk_cuda_stretches(cuda, segments_host, segment_count, 1, &stretches, &rows));
    const struct rope rope = {
        .q = q,
        .k = k,
        .v = v,
        .cos = cos,
        .sin = sin,
        .positions = (const uint32_t *)positions,
        .first_row = first,
        .heads = heads,
        .kv_heads = kv_heads,
        .head_width = head_width,
    };
    return RMK_FOR_DTYPE(device->info.act, launch_rope)(cuda, &rope, stretches, segment_count,
                                                        rows);
}

/* -- the plain kernel
 * -------------------------------------------------------------------------------- */

/* A block has 16 queries of one head and goes over the keys 32 at a time, everything in fp32 in
 * shared memory: queries, then keys (and after them values in the same place), weights, running
 * maximum and sum, output. Keys run from the first up, whatever other rows there are. */
constexpr uint32_t QUERIES = 16;
constexpr uint32_t KEYS = 32;
constexpr uint32_t PLAIN_THREADS = 128;

static __host__ __device__ inline uint32_t plain_pitch(uint32_t head_width)
{
    return head_width + 1; /* one more, so that a column of threads does not meet in one bank */
}

static size_t plain_bytes(uint32_t head_width)
{
    return (size_t)(2 * QUERIES + KEYS) * plain_pitch(head_width) * sizeof(float) +
           (size_t)QUERIES * (KEYS + 1) * sizeof(float) + 3 * QUERIES * sizeof(float);
}

/* Rows of one head to fp32 in shared memory; zeros beyond the last. */
template <typename T>
static __device__ __forceinline__ void load_rows(const T *source, size_t stride, uint32_t rows,
                                                 uint32_t row_max, uint32_t width, float *target)
{
    const uint32_t pitch = plain_pitch(width);

    for (uint32_t i = threadIdx.x; i < row_max * width; i += PLAIN_THREADS) {
        uint32_t row = i / width;
        uint32_t column = i % width;
        target[row * pitch + column] = row < rows ? rmk_widen(source[row * stride + column]) : 0.0F;
    }
}

template <typename T>
__global__ void __launch_bounds__(PLAIN_THREADS) plain_kernel(struct rmk_attend attend)
{
    RMK_DYNAMIC_SHARED(memory);
    const uint32_t width = attend.head_width;
    const uint32_t pitch = plain_pitch(width);
    float *q = (float *)memory;
    float *kv = q + QUERIES * pitch;
    float *out = kv + KEYS * pitch;
    float *weights = out + QUERIES * pitch; /* [QUERIES][KEYS + 1] */
    float *largest = weights + QUERIES * (KEYS + 1);
    float *total = largest + QUERIES;
    float *shrink = total + QUERIES;
    uint32_t s = 0;

    while (s + 1 < attend.stretch_count && attend.stretches[s + 1].first_tile <= blockIdx.x) {
        s++;
    }
    const struct rmk_stretch stretch = attend.stretches[s];
    const uint32_t first_query = (blockIdx.x - stretch.first_tile) * QUERIES;
    const uint32_t left = stretch.row_count - first_query;
    const uint32_t queries = left < QUERIES ? left : QUERIES;
    const uint32_t head = blockIdx.y;
    const uint32_t kv_head = head / (attend.heads / attend.kv_heads);
    const size_t q_width = (size_t)attend.heads * width;
    const size_t kv_width = (size_t)attend.kv_heads * width;
    const size_t place = (stretch.row_begin + (size_t)first_query) * q_width + (size_t)head * width;

    load_rows((const T *)attend.q + place, q_width, queries, QUERIES, width, q);
    for (uint32_t i = threadIdx.x; i < QUERIES * pitch; i += PLAIN_THREADS) {
        out[i] = 0.0F;
    }
    if (threadIdx.x < QUERIES) {
        largest[threadIdx.x] = -INFINITY;
        total[threadIdx.x] = 0.0F;
    }
    for (uint32_t key = 0; key < stretch.kv_count; key += KEYS) {
        const uint32_t rest = stretch.kv_count - key;
        const uint32_t keys = rest < KEYS ? rest : KEYS;
        const size_t kv_place = (size_t)key * kv_width + (size_t)kv_head * width;
        __syncthreads(); /* the values before have been used, and the first time the queries are in
                          */
        load_rows((const T *)stretch.k + kv_place, kv_width, keys, KEYS, width, kv);
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < QUERIES * KEYS; i += PLAIN_THREADS) {
            const float *a = q + i / KEYS * pitch;
            const float *b = kv + i % KEYS * pitch;
            float score = 0.0F;
            for (uint32_t column = 0; column < width; column++) {
                score = fmaf(a[column], b[column], score);
            }
            weights[i / KEYS * (KEYS + 1) + i % KEYS] =
                i % KEYS < keys ? score * attend.scale : -INFINITY;
        }
        __syncthreads();
        if (threadIdx.x < QUERIES) {
            float *row = weights + threadIdx.x * (KEYS + 1);
            float before = largest[threadIdx.x];
            float now = before;
            float sum = 0.0F;
            for (uint32_t i = 0; i < keys; i++) {
                now = fmaxf(now, row[i]);
            }
            for (uint32_t i = 0; i < keys; i++) {
                row[i] = expf(row[i] - now);
                sum += row[i];
            }
            shrink[threadIdx.x] = expf(before - now);
            total[threadIdx.x] = fmaf(total[threadIdx.x], shrink[threadIdx.x], sum);
            largest[threadIdx.x] = now;
        }
        load_rows((const T *)stretch.v + kv_place, kv_width, keys, KEYS, width, kv);
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < QUERIES * width; i += PLAIN_THREADS) {
            const uint32_t row = i / width;
            const float *weight = weights + row * (KEYS + 1);
            float sum = out[row * pitch + i % width] * shrink[row];
            for (uint32_t j = 0; j < keys; j++) {
                sum = fmaf(weight[j], kv[j * pitch + i % width], sum);
            }
            out[row * pitch + i % width] = sum;
        }
    }
    __syncthreads();
    T *y = (T *)attend.y + place;
    for (uint32_t i = threadIdx.x; i < queries * width; i += PLAIN_THREADS) {
        const uint32_t row = i / width;
        y[row * q_width + i % width] = rmk_narrow<T>(out[row * pitch + i % width] / total[row]);
    }
}

template <typename T> static enum rmk_err prepare_plain(struct rmk_cuda *cuda)
{
    RMK_CUDA(cuda,
             cudaFuncSetAttribute(plain_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  (int)plain_bytes(cuda->head_width_max)));
    return RMK_OK;
}

/* 227 KiB on H100 and B200 and 163 on A100 hold the widest head; 99 on smaller ones of the same
 * generations do not. */
enum rmk_err rmk_cuda_attention_prepare(struct rmk_cuda *cuda, size_t shared_bytes)
{
    cuda->head_width_max = RMK_HEAD_WIDTH_MAX;
    while (cuda->head_width_max > 0 && plain_bytes(cuda->head_width_max) > shared_bytes) {
        cuda->head_width_max--;
    }
    return RMK_FOR_DTYPE(cuda->device.info.act, prepare_plain)(cuda);
}

template <typename T>
static enum rmk_err launch_plain(struct rmk_cuda *cuda, const struct rmk_attend *attend,
                                 uint32_t tile_count)
{
    RMK_CUDA(cuda, RMK_LAUNCH(cuda, plain_kernel<T>, dim3(tile_count, attend->heads),
                              dim3(PLAIN_THREADS), plain_bytes(attend->head_width), *attend));
    return RMK_OK;
}

enum rmk_err rmk_cuda_attention(struct rmk_device *device, const void *q,
                                const struct rmk_segment *segments_host, uint32_t segment_count,
                                uint32_t heads, uint32_t kv_heads, uint32_t head_width, float scale,
                                void *y)
{
    struct rmk_cuda *cuda = rmk_cuda_of(device);
    const uint32_t mma_rows = rmk_cuda_mma_tile_rows(device->info.act, head_width);
    struct rmk_attend attend = {
        .q = q,
        .y = y,
        .stretches = NULL,
        .stretch_count = segment_count,
        .heads = heads,
        .kv_heads = kv_heads,
        .head_width = head_width,
        .scale = scale,
    };
    uint32_t tiles = 0;

    rmk_assert(kv_heads > 0);
    rmk_assert(heads % kv_heads == 0);
    rmk_assert(head_width <= cuda->reserve.head_width_max);
    for (uint32_t i = 0; i < segment_count; i++) {
        rmk_assert(segments_host[i].row_count == 0 || segments_host[i].kv_count > 0);
    }
    RMK_PASS(rmk_cuda_enter(cuda));
    RMK_PASS(rmk_cuda_stretches(cuda, segments_host, segment_count,
                                mma_rows > 0 ? mma_rows : QUERIES, &attend.stretches, &tiles));
    if (tiles == 0) {
        return RMK_OK;
    }
    if (mma_rows > 0) {
        return rmk_cuda_mma_attention(cuda, &attend, tiles);
    }
    return RMK_FOR_DTYPE(device->info.act, launch_plain)(cuda, &attend, tiles);
}
