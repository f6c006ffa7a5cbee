/* The op table: what a backend can do, and nothing about what the model is.
 *
 *     ref   plain C, fp32 storage, every sum in double      the truth
 *     cpu   oneDNN prepacked GEMMs + AVX-512/AVX2 loops     the embedded default (scalar fallback
 * at run time) cuda  plugin libremask_cuda.so, dlopened              kernels/cuda
 *
 * Conventions
 *   Letters: T rows of all requests in the step, D width, H query heads, Hk key/value heads, Dh
 * head width, F feed- forward, V vocabulary columns of this rank, P patches of a tile. Row-major;
 * `ld` is a row stride in elements. `act` is the device's compute type (F32, BF16; F16 on cuda):
 * what GEMMs and attention read. Residual streams, norm weights, biases, features and logits are
 * fp32 always. GEMMs accumulate in fp32 (ref: double). Pointers named `*_host` are host memory,
 * read before the call returns; every other data pointer is device memory from `alloc` (on ref and
 * cpu the same thing). Nothing aliases unless the op says "in place". An op takes checked numbers,
 * neither allocates nor synchronises, and is in order with the ops before it. Its error is a fault
 * of the device, never of the input: inputs are asserted. Scratch comes from `reserve`, sized once.
 *   Results must not depend on what other rows ride along: every row's sums run in a fixed order of
 * its own. Tolerances against ref, relative to max|ref| of the tensor: fp32 2e-6 times sqrt(sum
 * length), bf16 1.6e-2, fp16 2e-3, unless the op states another; tests/kernels holds them in one
 * table with reasons.
 */
#ifndef RMK_KERNELS_KERNELS_H
#define RMK_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "model/safetensors.h" /* enum rmk_dtype */

struct rmk_device;
struct rmk_linear; /* a prepacked weight with its bias; layout is the backend's secret */

struct rmk_device_options {
    const char *backend;   /* "ref", "cpu", "cuda" */
    enum rmk_dtype act;    /* ref: F32 only */
    uint32_t threads;      /* cpu: worker threads of this process; 0: one per core */
    uint32_t device_index; /* cuda */
    const char *plugin;    /* cuda: path of the plugin; NULL: beside the executable */
    bool by_rows;          /* cuda, 16-bit types: a product's algorithm may depend on its number of
                              rows; false: batch invariant, a row's result is its own */
};

struct rmk_device_info {
    const char *backend;
    enum rmk_dtype act;
    char description[128]; /* "cpu avx512-bf16, oneDNN 2.6.3, 2 threads" */
    uint64_t memory_bytes; /* total and free now; host memory for ref and cpu */
    uint64_t memory_free_bytes;
    void *stream; /* cuda: the cudaStream_t that ops run in, for collectives; NULL elsewhere */
    uint32_t slow_products; /* cuda: shapes of products that cublasLt declined so far, and that are
                               an order of magnitude slower for it */
    const char *fault;      /* cuda: the first fault's sentence, empty while there is none; NULL
                               elsewhere */
};

/* Upper bounds of everything a step may ask for; the device allocates its scratch from it, once. */
struct rmk_reserve {
    uint32_t rows_max;    /* T */
    uint32_t kv_rows_max; /* longest key/value extent of one segment */
    uint32_t heads_max;   /* of this rank */
    uint32_t head_width_max;
    uint32_t inner_max;     /* longest GEMM K */
    uint32_t outer_max;     /* longest GEMM N but the head's */
    uint32_t head_rows_max; /* rows of one head call */
    uint32_t vocab;         /* V of this rank */
};

/* A source weight W [n, k] in a checkpoint's own type: y = x W^T + b. */
struct rmk_linear_source {
    const void *weight_host; /* first element of the slice wanted */
    enum rmk_dtype dtype;    /* F32, BF16, F16 */
    uint64_t ld; /* elements from one row to the next: column slices keep the full width here */
    uint32_t n;
    uint32_t k;
    const float *bias_host; /* [n] or NULL */
    /* Instead of weight_host, dense, on devices that have `dummy`: what it made. */
    const void *weight_device;
    /* Neither of the two, on devices that have `load_begin`: whatever is sent to `linear_weight`
     * before the first use. */
};

/* One request's stretch of rows: `row_count` query rows from `row_begin`, against `kv_count` keys
 * and values. */
struct rmk_segment {
    uint32_t row_begin;
    uint32_t row_count;
    uint32_t kv_count;
    void *k; /* act [kv_count, Hk*Dh], rotated */
    void *v; /* act [kv_count, Hk*Dh] */
};

enum rmk_gelu {
    RMK_GELU_TANH = 0, /* SigLIP's MLP */
    RMK_GELU_ERF,      /* the projector: exact */
};

enum rmk_noise {
    RMK_NOISE_NONE = 0,
    RMK_NOISE_PHILOX,   /* ours: Philox4x32-10, key = seed, counter = (vocabulary id, position,
                           forward) */
    RMK_NOISE_SPLITMIX, /* the golden stream (reference README, "Random numbers"): i = (f*L +
                           row)*V_all + id */
};

/* How one row of the head is sampled. */
struct rmk_head_row {
    float cfg_scale; /* used when the call has x_uncond: logits = un + (cfg_scale+1)*(cond-un), fp32
                      */
    enum rmk_noise noise;
    double temperature; /* 0: noise is not looked at. noisy = logit - T*ln(-ln u), double; same
                           order as the official exp(logit)/(-ln u)^T */
    uint64_t seed;
    uint64_t forward;    /* f: evaluation number of the request, from 0 */
    uint32_t position;   /* absolute row in the request's sequence */
    uint32_t total_rows; /* L of the request */
};

/* What one rank knows of one row. Combined over ranks by worker/text/sample.c in rank order.
 * Suppressed ids take no part in anything. Everything in double, from fp32 logits. */
struct rmk_head_result {
    double best;    /* the (noisy) value that won on this rank; lowest id among equals */
    int32_t token;  /* its vocabulary id, global; -1 when this rank has no column left */
    double logit;   /* clean logit of `token` */
    double max;     /* largest clean logit of this rank */
    double sum;     /* sum of exp(logit - max) over this rank */
    bool nonfinite; /* a NaN or Inf was met: the row is poisoned */
};

struct rmk_ops {
    /* -- memory and order
     * ---------------------------------------------------------------------------------- */
    enum rmk_err (*alloc)(struct rmk_device *, size_t bytes, void **out,
                          struct rmk_why *why); /* 64-byte aligned, zeroed */
    void (*free)(struct rmk_device *, void *);
    enum rmk_err (*upload)(struct rmk_device *, void *target, const void *source_host,
                           size_t bytes);
    enum rmk_err (*download)(struct rmk_device *, void *target_host, const void *source,
                             size_t bytes); /* synchronises */
    enum rmk_err (*reserve)(struct rmk_device *, const struct rmk_reserve *, struct rmk_why *why);
    enum rmk_err (*synchronize)(struct rmk_device *, struct rmk_why *why);

    /* -- GEMM
     * --------------------------------------------------------------------------------------------------
     */
    enum rmk_err (*linear_create)(struct rmk_device *, const struct rmk_linear_source *,
                                  struct rmk_linear **out, struct rmk_why *why);
    void (*linear_destroy)(struct rmk_device *, struct rmk_linear *);
    /* y[m, n] = x[m, k] W^T + b. x act, ld = k; y `y_dtype` (act or F32), ld = n. */
    enum rmk_err (*linear)(struct rmk_device *, const struct rmk_linear *, const void *x,
                           uint32_t m, void *y, enum rmk_dtype y_dtype);

    /* -- rows
     * --------------------------------------------------------------------------------------------------
     */
    /* y[i, :] = table[ids_host[i] - row_begin, :] as fp32, zeros where the id is outside
     * [row_begin, row_begin + row_count). table: `dtype` [row_count, d]. Exact. */
    enum rmk_err (*embed)(struct rmk_device *, const void *table, enum rmk_dtype dtype,
                          uint32_t row_begin, uint32_t row_count, uint32_t d,
                          const int32_t *ids_host, uint32_t count, float *y);
    /* y[y_rows_host[i], :] = x[x_rows_host[i], :]; a NULL index list is 0, 1, 2, …. fp32 rows of d.
     * Exact. */
    enum rmk_err (*copy_rows)(struct rmk_device *, const float *x, const uint32_t *x_rows_host,
                              float *y, const uint32_t *y_rows_host, uint32_t count, uint32_t d);
    /* x += y, fp32 [count], in place. */
    enum rmk_err (*add)(struct rmk_device *, float *x, const float *y, size_t count);
    /* x[i, :] += rows[i % row_count, :], fp32, in place: position embeddings. */
    enum rmk_err (*add_cyclic)(struct rmk_device *, float *x, const float *rows, uint32_t count,
                               uint32_t row_count, uint32_t d);
    /* fp32 [count] to act. */
    enum rmk_err (*cast)(struct rmk_device *, const float *x, void *y, size_t count);

    /* -- norms (fp32 in, act out; `delta` fp32 or NULL is added to x first, in place)
     * --------------------------- */
    /* y = w * act(x * rsqrt(mean(x^2) + eps)); rounded to act before and after the product, as the
     * official module. */
    enum rmk_err (*rmsnorm)(struct rmk_device *, float *x, const float *delta, const float *w,
                            float eps, void *y, uint32_t rows, uint32_t d);
    enum rmk_err (*layernorm)(struct rmk_device *, float *x, const float *delta, const float *w,
                              const float *b, float eps, void *y, uint32_t rows, uint32_t d);

    /* -- attention
     * -----------------------------------------------------------------------------------------------
     */
    /* Rotate q in place and write k (rotated) and v where they belong: row t of segment s, at
     * sequence position positions_host[t], goes to s.k/s.v row positions_host[t]. Half-split pairs
     * (i, i + Dh/2). q act [T, H*Dh], k and v act [T, Hk*Dh] (k is left as it was); cos, sin fp32
     * [*, Dh/2] by position, in device memory. */
    enum rmk_err (*rope_kv)(struct rmk_device *, void *q, const void *k, const void *v,
                            const float *cos, const float *sin, const uint32_t *positions_host,
                            const struct rmk_segment *segments_host, uint32_t segment_count,
                            uint32_t heads, uint32_t kv_heads, uint32_t head_width);
    /* y = softmax(scale * q k^T) v per segment, no mask, query head h reads key head h / (H/Hk);
     * softmax in fp32. q, y act [T, H*Dh]. */
    enum rmk_err (*attention)(struct rmk_device *, const void *q,
                              const struct rmk_segment *segments_host, uint32_t segment_count,
                              uint32_t heads, uint32_t kv_heads, uint32_t head_width, float scale,
                              void *y);

    /* -- activations
     * -----------------------------------------------------------------------------------------------
     */
    /* y[t, :] = silu(gate_up[t, :f]) * gate_up[t, f:2f]. act in (ld = 2f), act out (ld = f). */
    enum rmk_err (*swiglu)(struct rmk_device *, const void *gate_up, void *y, uint32_t rows,
                           uint32_t f);
    /* In place on act [count]. */
    enum rmk_err (*gelu)(struct rmk_device *, void *x, size_t count, enum rmk_gelu kind);

    /* -- vision
     * ------------------------------------------------------------------------------------------------------
     */
    /* u8 tiles [n, tile, tile, 3] to act patches [n*side*side, 3*patch*patch], column order
     * (channel, y, x) as the conv weight; value ((float)(u8 * (1/255.0)) - 0.5f) / 0.5f. side =
     * tile / patch; pixels beyond side*patch ignored. */
    enum rmk_err (*patches)(struct rmk_device *, const uint8_t *tiles_host, uint32_t n,
                            uint32_t tile, uint32_t patch, void *y);
    /* Channel-last fp32 maps: bilinear [h, w, c] to [oh, ow, c], align_corners = false, no
     * antialias (7, "Bilinear"). x_ld and y_ld: elements from one map row (of w columns) to the
     * next. */
    enum rmk_err (*bilinear)(struct rmk_device *, const float *x, uint32_t h, uint32_t w,
                             uint64_t x_ld, float *y, uint32_t oh, uint32_t ow, uint64_t y_ld,
                             uint32_t c);
    /* 2x2 pooling with stride 2, floor: average or maximum. */
    enum rmk_err (*pool2x2)(struct rmk_device *, const float *x, uint32_t h, uint32_t w, float *y,
                            uint32_t c, bool maximum);

    /* -- head
     * ----------------------------------------------------------------------------------------------------------
     */
    /* Logits of `m` rows against this rank's vocabulary shard [vocab_begin, vocab_begin + n), in
     * chunks that never leave scratch, reduced to one result a row. x act [m, D]; x_uncond act [m,
     * D] or NULL. suppressed_host: global ids. vocab_all: columns over all ranks (golden noise
     * index). results_host is written when the call returns (it synchronises: this is the step's
     * one read-back). */
    enum rmk_err (*head)(struct rmk_device *, const struct rmk_linear *head, const void *x,
                         const void *x_uncond, uint32_t m, uint32_t vocab_begin, uint32_t vocab_all,
                         const int32_t *suppressed_host, uint32_t suppressed_count,
                         const struct rmk_head_row *rows_host,
                         struct rmk_head_result *results_host);

    /* -- weights for benchmarks
     * ----------------------------------------------------------------------------------------------------------
     */
    /* y bf16 [rows, columns] = the dummy values (model/dummy.h) of `seed` number
     * first + row * stride + column. NULL on devices of the host, where the caller makes them. */
    enum rmk_err (*dummy)(struct rmk_device *, uint64_t seed, uint64_t first, uint64_t stride,
                          uint32_t rows, uint32_t columns, uint16_t *y);

    /* -- weights from files, for devices with memory of their own; NULL on the others
     * ----------------------------------------------------------------------------------------------------------
     */
    /* A ring of `part_count` parts of pinned host memory, until load_end, which waits for the
     * copies out of it. */
    enum rmk_err (*load_begin)(struct rmk_device *, uint32_t part_count, size_t part_bytes,
                               struct rmk_why *why);
    void (*load_end)(struct rmk_device *);
    /* The part, once what was sent from it has left it. */
    enum rmk_err (*load_room)(struct rmk_device *, uint32_t part, void **out_host);
    /* The first `count` elements of the part to device memory, converted on the device. */
    enum rmk_err (*load_send)(struct rmk_device *, uint32_t part, size_t count,
                              enum rmk_dtype dtype, void *target, enum rmk_dtype target_dtype);
    /* act [n, k], where a weight that was created without values is to be sent. */
    void *(*linear_weight)(struct rmk_device *, struct rmk_linear *);
};

/* Every backend's device begins with this; the rest is its own. */
struct rmk_device {
    const struct rmk_ops *ops;
    struct rmk_device_info info;
};

/* Errors: RMK_EINVAL (unknown backend, a type it has not), RMK_EUNAVAILABLE (no driver, no plugin:
 * the sentence says which). */
enum rmk_err rmk_device_create(const struct rmk_device_options *options,
                               struct rmk_device **out_device, struct rmk_why *why);
void rmk_device_destroy(struct rmk_device *device);

/* The first fault's sentence; NULL: there was none. What a device computes after a fault means
 * nothing, and a GPU's does not go away before the process does. Memory that is not there is no
 * fault. */
const char *rmk_device_fault(const struct rmk_device *device);

/* After a failure: the fault's sentence, when there was one, behind what `why` says. */
void rmk_device_explain(const struct rmk_device *device, struct rmk_why *why);

#endif
