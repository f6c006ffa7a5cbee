/* The forward of LLaDA over rows of any number of requests, packed without padding (reference
 * specification, section 8).
 *
 *     x [T, D] fp32      the residual stream, one for the whole step
 *
 *     for each layer:    n = rmsnorm(x)    x += sum over ranks of attention(rope(n Wq), rope(n Wk),
 * n Wv) Wo m = rmsnorm(x)    x += sum over ranks of (silu(m Wg) * m Wu) Wd
 *
 * Attention is bidirectional and stays within a segment: one request's rows. A segment whose keys
 * and values are kept attends to all of its extent, and may bring fewer rows than that: theirs are
 * replaced, the others are as an earlier forward left them. Scratch is sized at create; a forward
 * allocates nothing. Collective over the ranks of `exchange`.
 */
#ifndef RMK_WORKER_TEXT_LLADA_H
#define RMK_WORKER_TEXT_LLADA_H

#include <stdint.h>

#include "kernels/kernels.h"
#include "model/spec.h"
#include "worker/text/cache.h"
#include "worker/text/exchange.h"
#include "worker/text/weights.h"

struct rmk_llada;

/* Tables of a segment, in device memory: fp32 [positions, Dh/2]. */
struct rmk_rotation {
    const float *cos;
    const float *sin;
};

struct rmk_llada_step {
    uint32_t row_count;        /* T */
    const uint32_t *positions; /* [T] in the row's own sequence */
    struct rmk_segment
        *segments; /* row_begin, row_count and kv_count given; k and v are set here */
    const struct rmk_rotation *rotations; /* [segment_count] */
    const struct rmk_cache *cache;
    const struct rmk_kept *const *kept; /* [segment_count]; NULL: nothing is kept of that segment */
    uint32_t segment_count;
};

/* spec, weights and device are borrowed. */
enum rmk_err rmk_llada_create(const struct rmk_text_spec *spec, const struct rmk_weights *weights,
                              struct rmk_device *device, uint32_t rows_max,
                              struct rmk_llada **out_llada, struct rmk_why *why);
void rmk_llada_destroy(struct rmk_llada *llada);

/* Device bytes of the scratch. */
uint64_t rmk_llada_bytes(const struct rmk_llada *llada);

/* The residual stream: fill its first row_count rows before the forward. */
float *rmk_llada_stream(struct rmk_llada *llada);

enum rmk_err rmk_llada_forward(struct rmk_llada *llada, const struct rmk_llada_step *step,
                               struct rmk_exchange *exchange, struct rmk_why *why);

/* After a forward: rows `rows_host` of the stream through the last norm. gathered fp32 [2 * count,
 * D] is scratch; out act [count, D] is what the head reads. */
enum rmk_err rmk_llada_finish(struct rmk_llada *llada, const uint32_t *rows_host, uint32_t count,
                              float *gathered, void *out);

#endif
