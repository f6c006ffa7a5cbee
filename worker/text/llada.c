#include "worker/text/llada.h"

#include <math.h>
#include <stdlib.h>

#include "worker/text/llada_state.h"

static enum rmk_err take(struct rmk_llada *llada, uint32_t width, size_t element_bytes, void **out,
                         struct rmk_why *why)
{
    size_t bytes = (size_t)llada->rows_max * width * element_bytes;
    enum rmk_err err;

    RMK_TRY(llada->device->ops->alloc(llada->device, bytes, out, why));
    llada->bytes += bytes;
out:
    return err;
}

enum rmk_err rmk_llada_create(const struct rmk_text_spec *spec, const struct rmk_weights *weights,
                              struct rmk_device *device, uint32_t rows_max,
                              struct rmk_llada **out_llada, struct rmk_why *why)
{
    const uint32_t query = weights->heads.count * spec->head_width;
    const uint32_t key = weights->kv_heads.count * spec->head_width;
    const size_t act = rmk_dtype_bytes(device->info.act);
    struct rmk_llada *llada = calloc(1, sizeof(*llada));
    enum rmk_err err;

    if (llada == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for a forward");
        goto out;
    }
    llada->spec = spec;
    llada->weights = weights;
    llada->device = device;
    llada->rows_max = rows_max;
    RMK_TRY(take(llada, spec->width, sizeof(float), (void **)&llada->x, why));
    RMK_TRY(take(llada, spec->width, sizeof(float), (void **)&llada->delta, why));
    RMK_TRY(take(llada, spec->width, act, &llada->n, why));
    RMK_TRY(take(llada, query, act, &llada->q, why));
    RMK_TRY(take(llada, key, act, &llada->k, why));
    RMK_TRY(take(llada, key, act, &llada->v, why));
    RMK_TRY(take(llada, key, act, &llada->k_rows, why));
    RMK_TRY(take(llada, key, act, &llada->v_rows, why));
    RMK_TRY(take(llada, query, act, &llada->a, why));
    RMK_TRY(take(llada, 2 * weights->ff.count, act, &llada->gate_up, why));
    RMK_TRY(take(llada, weights->ff.count, act, &llada->f, why));

    *out_llada = llada;
    llada = NULL;
out:
    rmk_llada_destroy(llada);
    return err;
}

void rmk_llada_destroy(struct rmk_llada *llada)
{
    if (llada == NULL) {
        return;
    }
    void *const buffers[] = {llada->x, llada->delta,   llada->n,      llada->q,
                             llada->k, llada->v,       llada->k_rows, llada->v_rows,
                             llada->a, llada->gate_up, llada->f};
    for (unsigned i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++) {
        llada->device->ops->free(llada->device, buffers[i]);
    }
    free(llada);
}

uint64_t rmk_llada_bytes(const struct rmk_llada *llada)
{
    return llada->bytes;
}

float *rmk_llada_stream(struct rmk_llada *llada)
{
    return llada->x;
}

/* Keys and values that are kept have their place in the cache. The others are scratch, and begin
 * where their segment's rows begin, since it brings all of them. */
static void place_keys(struct rmk_llada *llada, uint32_t layer, const struct rmk_llada_step *step)
{
    size_t row_bytes = (size_t)llada->weights->kv_heads.count * llada->spec->head_width *
                       rmk_dtype_bytes(llada->device->info.act);

    for (uint32_t i = 0; i < step->segment_count; i++) {
        struct rmk_segment *segment = &step->segments[i];
        if (step->kept[i] != NULL) {
            rmk_assert(segment->kv_count == step->kept[i]->kv.count);
            segment->k = rmk_cache_k(step->cache, layer, step->kept[i]);
            segment->v = rmk_cache_v(step->cache, layer, step->kept[i]);
        } else {
            rmk_assert(segment->kv_count == segment->row_count);
            segment->k = (uint8_t *)llada->k_rows + segment->row_begin * row_bytes;
            segment->v = (uint8_t *)llada->v_rows + segment->row_begin * row_bytes;
        }
    }
}

/* Stretches of segments with the same tables go in one call; only dynamic scaling has more than
 * one. */
static enum rmk_err rotate(struct rmk_llada *llada, const struct rmk_llada_step *step)
{
    const struct rmk_weights *weights = llada->weights;
    enum rmk_err err = RMK_OK;

    for (uint32_t begin = 0, end; begin < step->segment_count; begin = end) {
        const struct rmk_rotation *rotation = &step->rotations[begin];
        for (end = begin + 1;
             end < step->segment_count && step->rotations[end].cos == rotation->cos;) {
            end++;
        }
        RMK_TRY(llada->device->ops->rope_kv(
            llada->device, llada->q, llada->k, llada->v, rotation->cos, rotation->sin,
            step->positions, step->segments + begin, end - begin, weights->heads.count,
            weights->kv_heads.count, llada->spec->head_width));
    }
out:
    return err;
}

enum rmk_err rmk_llada_attend(struct rmk_llada *llada, uint32_t layer_index,
                              const struct rmk_llada_step *step)
{
    const struct rmk_layer_weights *layer = &llada->weights->layers[layer_index];
    struct rmk_device *device = llada->device;
    const struct rmk_ops *ops = device->ops;
    const enum rmk_dtype act = device->info.act;
    const uint32_t rows = step->row_count;
    const float scale = (float)(1.0 / sqrt((double)llada->spec->head_width));
    enum rmk_err err;

    place_keys(llada, layer_index, step);
    RMK_TRY(ops->linear(device, layer->q, llada->n, rows, llada->q, act));
    RMK_TRY(ops->linear(device, layer->k, llada->n, rows, llada->k, act));
    RMK_TRY(ops->linear(device, layer->v, llada->n, rows, llada->v, act));
    RMK_TRY(rotate(llada, step));
    RMK_TRY(ops->attention(device, llada->q, step->segments, step->segment_count,
                           llada->weights->heads.count, llada->weights->kv_heads.count,
                           llada->spec->head_width, scale, llada->a));
    RMK_TRY(ops->linear(device, layer->o, llada->a, rows, llada->delta, RMK_F32));
out:
    return err;
}

enum rmk_err rmk_llada_feed_forward(struct rmk_llada *llada, uint32_t layer_index, uint32_t rows)
{
    const struct rmk_layer_weights *layer = &llada->weights->layers[layer_index];
    struct rmk_device *device = llada->device;
    const struct rmk_ops *ops = device->ops;
    enum rmk_err err;

    RMK_TRY(ops->linear(device, layer->gate_up, llada->n, rows, llada->gate_up, device->info.act));
    RMK_TRY(ops->swiglu(device, llada->gate_up, llada->f, rows, llada->weights->ff.count));
    RMK_TRY(ops->linear(device, layer->down, llada->f, rows, llada->delta, RMK_F32));
out:
    return err;
}

enum rmk_err rmk_llada_forward(struct rmk_llada *llada, const struct rmk_llada_step *step,
                               struct rmk_exchange *exchange, struct rmk_why *why)
{
    struct rmk_device *device = llada->device;
    const struct rmk_ops *ops = device->ops;
    const uint32_t rows = step->row_count;
    const uint32_t d = llada->spec->width;
    const float eps = llada->spec->rms_eps;
    uint32_t i;
    enum rmk_err err = RMK_OK;

    rmk_assert(rows <= llada->rows_max);
    for (i = 0; i < llada->weights->layer_count; i++) {
        const struct rmk_layer_weights *layer = &llada->weights->layers[i];
        /* What a sublayer gave is added where the next one begins to read. */
        const float *delta = i == 0 ? NULL : llada->delta;
        RMK_TRY(ops->rmsnorm(device, llada->x, delta, layer->input_norm, eps, llada->n, rows, d));
        RMK_TRY(rmk_llada_attend(llada, i, step));
        RMK_TRY(rmk_exchange_sum(exchange, llada->delta, (size_t)rows * d, why));

        RMK_TRY(
            ops->rmsnorm(device, llada->x, llada->delta, layer->post_norm, eps, llada->n, rows, d));
        RMK_TRY(rmk_llada_feed_forward(llada, i, rows));
        RMK_TRY(rmk_exchange_sum(exchange, llada->delta, (size_t)rows * d, why));
    }
out:
    if (err != RMK_OK && why != NULL && why->text[0] == '\0') {
        (void)rmk_fail(why, err, "the device failed in layer %u", i);
    }
    return err;
}

enum rmk_err rmk_llada_finish(struct rmk_llada *llada, const uint32_t *rows_host, uint32_t count,
                              float *gathered, void *out)
{
    struct rmk_device *device = llada->device;
    const uint32_t d = llada->spec->width;
    float *delta = gathered + (size_t)count * d;
    enum rmk_err err;

    RMK_TRY(device->ops->copy_rows(device, llada->x, rows_host, gathered, NULL, count, d));
    RMK_TRY(device->ops->copy_rows(device, llada->delta, rows_host, delta, NULL, count, d));
    RMK_TRY(device->ops->rmsnorm(device, gathered, delta, llada->weights->norm,
                                 llada->spec->rms_eps, out, count, d));
out:
    return err;
}
