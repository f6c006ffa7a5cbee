/* Inside of worker/text/llada: what its files share. Nobody else includes this.
 *
 *     llada.c           forwards of whole and partial sequences, packed
 *     llada_feature.c   a forward of dLLM-Cache
 */
#ifndef RMK_WORKER_TEXT_LLADA_STATE_H
#define RMK_WORKER_TEXT_LLADA_STATE_H

#include "worker/text/llada.h"

struct rmk_llada {
    const struct rmk_text_spec *spec;
    const struct rmk_weights *weights;
    struct rmk_device *device;
    uint32_t rows_max; /* T */
    uint64_t bytes;
    /* Letters as in weights.h; H and Hk are this rank's. */
    float *x;      /* [T, D] the residual stream, without the last sum */
    float *delta;  /* [T, D] what the last sublayer adds to it */
    void *n;       /* act [T, D] normed */
    void *q;       /* act [T, H*Dh] */
    void *k;       /* act [T, Hk*Dh] as projected */
    void *v;       /* act [T, Hk*Dh] as projected */
    void *k_rows;  /* act [T, Hk*Dh] rotated, each segment's keys one after another by position */
    void *v_rows;  /* act [T, Hk*Dh] */
    void *a;       /* act [T, H*Dh] attention's result */
    void *gate_up; /* act [T, 2*F] */
    void *f;       /* act [T, F] */
};

/* delta = this rank's part of attention(n) Wo, of step->row_count rows */
enum rmk_err rmk_llada_attend(struct rmk_llada *llada, uint32_t layer_index,
                              const struct rmk_llada_step *step);

/* delta = this rank's part of (silu(n Wg) * n Wu) Wd */
enum rmk_err rmk_llada_feed_forward(struct rmk_llada *llada, uint32_t layer_index, uint32_t rows);

#endif
