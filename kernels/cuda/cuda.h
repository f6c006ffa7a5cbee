/* The CUDA device: one GPU, one stream; every op is enqueued there and returns.
 *
 *     device.cu      life, memory, the op table, the plugin's door
 *     staging.cu     index lists on their way to the GPU, through pinned memory
 *     load.cu        weights on their way, through a ring of their own
 *     linear.cu      GEMMs: cublasLt where it has an algorithm, tile.cu's kernel where not
 *     gemm.h         what cublasLt is asked (lt.cu); an emulated device answers "nothing"
 *     rows.cu  attention.cu  attention_mma.cu  vision.cu  head.cu
 *
 * C++ because nvcc is; nothing here is seen outside this folder but the plugin's one symbol. There
 * is no `goto out` in these files (C++ does not let it cross initialisations): a function that
 * holds something releases it before it returns.
 */
#ifndef RMK_KERNELS_CUDA_CUDA_H
#define RMK_KERNELS_CUDA_CUDA_H

#define _Noreturn [[noreturn]]
extern "C" {
#include "kernels/backend.h"
}
#undef _Noreturn

#include "kernels/cuda/shim.h"
#include "kernels/cuda/sizes.h"

struct rmk_gemm; /* cublasLt's handle, workspace and plans */

constexpr uint32_t RMK_CUDA_BLOCK = 256; /* threads of a block where nothing else is said */

constexpr uint32_t RMK_STAGING_PARTS = RMK_CUDA_STAGING_PARTS;
constexpr size_t RMK_STAGING_PART_BYTES = RMK_CUDA_STAGING_PART_BYTES;
constexpr uint32_t RMK_HEAD_ROWS = RMK_CUDA_HEAD_ROWS;
constexpr uint32_t RMK_HEAD_COLUMNS = RMK_CUDA_HEAD_COLUMNS;
constexpr uint32_t RMK_HEAD_WIDTH_MAX = 512; /* of attention, where shared memory holds it */

struct rmk_cuda {
    struct rmk_device device; /* first: a struct rmk_device * is a struct rmk_cuda * */
    int index;
    uint32_t head_width_max; /* of attention on this GPU */
    cudaStream_t stream;
    struct rmk_why failed;  /* the first fault's sentence: info.fault */
    struct rmk_why refused; /* the last refusal of memory: no fault, the device goes on */
    struct rmk_reserve reserve;
    struct rmk_gemm *gemm; /* NULL: only the tile kernel */
    bool by_rows;          /* row_class.h; never in fp32, which the goldens are held to */

    /* staging.cu */
    unsigned char *staging_host; /* pinned */
    unsigned char *staging_device;
    cudaEvent_t staging_free[RMK_STAGING_PARTS]; /* the part's copies are done */
    uint32_t staging_part;
    size_t staging_used; /* of the part */

    /* load.cu, while weights come in */
    uint32_t load_parts;
    size_t load_part_bytes;
    unsigned char *load_host;   /* pinned */
    unsigned char *load_device; /* its twin: what is converted passes through */
    cudaEvent_t *load_free;     /* [load_parts] */

    /* head.cu, sized by reserve */
    float *logits[2];                     /* [head rows, head columns]; the second under guidance */
    struct rmk_head_result *head_results; /* [head_rows_max] */
};

struct rmk_linear {
    uint32_t n;
    uint32_t k;
    void *weight;   /* act [n, k] */
    float *bias;    /* [n] or NULL */
    void *bias_act; /* act [n] or NULL: cublasLt adds a bias of the result's own type */
};

static inline struct rmk_cuda *rmk_cuda_of(struct rmk_device *device)
{
    return (struct rmk_cuda *)device;
}

/* Make the device the calling thread's: any thread may call ops, one at a time. */
enum rmk_err rmk_cuda_enter(struct rmk_cuda *cuda);

/* Keep the sentence and hand back RMK_ELIMIT for memory, RMK_EINTERNAL for the rest. */
enum rmk_err rmk_cuda_failed(struct rmk_cuda *cuda, cudaError_t error, const char *what);

/* The sentence that belongs to what rmk_cuda_failed handed back. */
static inline const char *rmk_cuda_sentence(const struct rmk_cuda *cuda, enum rmk_err err)
{
    return err == RMK_ELIMIT ? cuda->refused.text : cuda->failed.text;
}

#define RMK_CUDA(cuda, call)                                                                       \
    do {                                                                                           \
        cudaError_t rmk_status = (call);                                                           \
        if (rmk_status != cudaSuccess) {                                                           \
            return rmk_cuda_failed((cuda), rmk_status, #call);                                     \
        }                                                                                          \
    } while (0)

#define RMK_PASS(call)                                                                             \
    do {                                                                                           \
        enum rmk_err rmk_passed = (call);                                                          \
        if (rmk_passed != RMK_OK) {                                                                \
            return rmk_passed;                                                                     \
        }                                                                                          \
    } while (0)

static inline size_t rmk_cuda_bytes(enum rmk_dtype dtype)
{
    return dtype == RMK_F32 ? 4 : 2;
}

static inline unsigned rmk_cuda_blocks(size_t count, unsigned per_block)
{
    return (unsigned)((count + per_block - 1) / per_block);
}

/* -- staging
 * ----------------------------------------------------------------------------------------- */

enum rmk_err rmk_staging_init(struct rmk_cuda *cuda, struct rmk_why *why);
void rmk_staging_deinit(struct rmk_cuda *cuda);

/* Room for `bytes` (at most RMK_STAGING_PART_BYTES) on both sides: fill *out_host, then send. What
 * lies at *out_device stays until the ops enqueued by this op have read it. Waits only when the GPU
 * is a whole ring behind. */
enum rmk_err rmk_staging_take(struct rmk_cuda *cuda, size_t bytes, void **out_host,
                              void **out_device);
/* Copy to `target`: the room's own device side, or any device memory. */
enum rmk_err rmk_staging_send(struct rmk_cuda *cuda, const void *host, void *target, size_t bytes);

/* The two together, for a list that lies on the host. */
enum rmk_err rmk_staging_list(struct rmk_cuda *cuda, const void *list_host, size_t bytes,
                              const void **out_device);

/* -- load.cu
 * ----------------------------------------------------------------------------------------- */

enum rmk_err rmk_cuda_load_begin(struct rmk_device *device, uint32_t part_count, size_t part_bytes,
                                 struct rmk_why *why);
void rmk_cuda_load_end(struct rmk_device *device);
enum rmk_err rmk_cuda_load_room(struct rmk_device *device, uint32_t part, void **out_host);
enum rmk_err rmk_cuda_load_send(struct rmk_device *device, uint32_t part, size_t count,
                                enum rmk_dtype dtype, void *target, enum rmk_dtype target_dtype);

/* -- linear.cu, tile.cu, lt.cu
 * --------------------------------------------------------------------------- */

enum rmk_err rmk_cuda_linear_create(struct rmk_device *device,
                                    const struct rmk_linear_source *source, struct rmk_linear **out,
                                    struct rmk_why *why);
void rmk_cuda_linear_destroy(struct rmk_device *device, struct rmk_linear *linear);
enum rmk_err rmk_cuda_linear(struct rmk_device *device, const struct rmk_linear *linear,
                             const void *x, uint32_t m, void *y, enum rmk_dtype y_dtype);

void *rmk_cuda_linear_weight(struct rmk_device *device, struct rmk_linear *linear);

/* `count` elements from one type to another, on the device. */
enum rmk_err rmk_cuda_convert(struct rmk_cuda *cuda, enum rmk_dtype from_dtype, const void *from,
                              enum rmk_dtype to_dtype, void *to, size_t count);
enum rmk_err rmk_cuda_dummy(struct rmk_device *device, uint64_t seed, uint64_t first,
                            uint64_t stride, uint32_t rows, uint32_t columns, uint16_t *y);

/* y[m, count] fp32 = x W[begin, begin + count)^T + b: a stretch of a head's columns. */
enum rmk_err rmk_cuda_columns(struct rmk_cuda *cuda, const struct rmk_linear *linear,
                              uint32_t begin, uint32_t count, const void *x, uint32_t m, float *y);

/* One product; every pointer is device memory. */
struct rmk_product {
    const void *x;      /* act [m, k] */
    const void *weight; /* act [n, k] */
    const float *bias;  /* [n] or NULL */
    const void *bias_act;
    void *y; /* [m, n] */
    enum rmk_dtype y_dtype;
    uint32_t m;
    uint32_t n;
    uint32_t k;
};
enum rmk_err rmk_cuda_tile(struct rmk_cuda *cuda, const struct rmk_product *product);

/* -- rows.cu
 * ----------------------------------------------------------------------------------------- */

enum rmk_err rmk_cuda_embed(struct rmk_device *device, const void *table, enum rmk_dtype dtype,
                            uint32_t row_begin, uint32_t row_count, uint32_t d,
                            const int32_t *ids_host, uint32_t count, float *y);
enum rmk_err rmk_cuda_copy_rows(struct rmk_device *device, const float *x,
                                const uint32_t *x_rows_host, float *y, const uint32_t *y_rows_host,
                                uint32_t count, uint32_t d);
enum rmk_err rmk_cuda_add(struct rmk_device *device, float *x, const float *y, size_t count);
enum rmk_err rmk_cuda_add_cyclic(struct rmk_device *device, float *x, const float *rows,
                                 uint32_t count, uint32_t row_count, uint32_t d);
enum rmk_err rmk_cuda_cast(struct rmk_device *device, const float *x, void *y, size_t count);
enum rmk_err rmk_cuda_rmsnorm(struct rmk_device *device, float *x, const float *delta,
                              const float *w, float eps, void *y, uint32_t rows, uint32_t d);
enum rmk_err rmk_cuda_layernorm(struct rmk_device *device, float *x, const float *delta,
                                const float *w, const float *b, float eps, void *y, uint32_t rows,
                                uint32_t d);
enum rmk_err rmk_cuda_swiglu(struct rmk_device *device, const void *gate_up, void *y, uint32_t rows,
                             uint32_t f);
enum rmk_err rmk_cuda_gelu(struct rmk_device *device, void *x, size_t count, enum rmk_gelu kind);

/* -- attention.cu, attention_mma.cu
 * ------------------------------------------------------------------ */

enum rmk_err rmk_cuda_rope_kv(struct rmk_device *device, void *q, const void *k, const void *v,
                              const float *cos, const float *sin, const uint32_t *positions_host,
                              const struct rmk_segment *segments_host, uint32_t segment_count,
                              uint32_t heads, uint32_t kv_heads, uint32_t head_width);
enum rmk_err rmk_cuda_attention(struct rmk_device *device, const void *q,
                                const struct rmk_segment *segments_host, uint32_t segment_count,
                                uint32_t heads, uint32_t kv_heads, uint32_t head_width, float scale,
                                void *y);

/* A segment on the device, and where its tiles begin among all segments' tiles. */
struct rmk_stretch {
    uint32_t row_begin;
    uint32_t row_count;
    uint32_t kv_count;
    uint32_t first_tile;
    void *k;
    void *v;
};

/* One call of attention, as kernels take it. */
struct rmk_attend {
    const void *q;
    void *y;
    const struct rmk_stretch *stretches;
    uint32_t stretch_count;
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t head_width;
    float scale;
};

/* Cut segments into tiles of `tile_rows` rows and stage them. */
enum rmk_err rmk_cuda_stretches(struct rmk_cuda *cuda, const struct rmk_segment *segments_host,
                                uint32_t segment_count, uint32_t tile_rows,
                                const struct rmk_stretch **out_stretches, uint32_t *out_tile_count);

/* Rows of a tile of the tensor-core kernel; 0: it cannot, and the plain kernel must. */
uint32_t rmk_cuda_mma_tile_rows(enum rmk_dtype act, uint32_t head_width);
enum rmk_err rmk_cuda_mma_attention(struct rmk_cuda *cuda, const struct rmk_attend *attend,
                                    uint32_t tile_count);

/* Once a device: shared memory beyond 48 KiB must be asked for; `shared_bytes` are there. */
enum rmk_err rmk_cuda_attention_prepare(struct rmk_cuda *cuda, size_t shared_bytes);

/* -- vision.cu
 * --------------------------------------------------------------------------------------- */

enum rmk_err rmk_cuda_patches(struct rmk_device *device, const uint8_t *tiles_host, uint32_t n,
                              uint32_t tile, uint32_t patch, void *y);
enum rmk_err rmk_cuda_bilinear(struct rmk_device *device, const float *x, uint32_t h, uint32_t w,
                               uint64_t x_ld, float *y, uint32_t oh, uint32_t ow, uint64_t y_ld,
                               uint32_t c);
enum rmk_err rmk_cuda_pool2x2(struct rmk_device *device, const float *x, uint32_t h, uint32_t w,
                              float *y, uint32_t c, bool maximum);

/* -- head.cu
 * ----------------------------------------------------------------------------------------- */

enum rmk_err rmk_cuda_head_reserve(struct rmk_cuda *cuda, const struct rmk_reserve *wanted);
void rmk_cuda_head_release(struct rmk_cuda *cuda);
enum rmk_err rmk_cuda_head(struct rmk_device *device, const struct rmk_linear *head, const void *x,
                           const void *x_uncond, uint32_t m, uint32_t vocab_begin,
                           uint32_t vocab_all, const int32_t *suppressed_host,
                           uint32_t suppressed_count, const struct rmk_head_row *rows_host,
                           struct rmk_head_result *results_host);

#endif
