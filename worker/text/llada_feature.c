#include "worker/text/llada_feature.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/convert.h"
#include "worker/text/llada_state.h"

enum { COMPARED_AT_ONCE = 64 };

/* Sums over this rank's key/value heads; the cosine is over all heads of all ranks. */
struct moments {
    double dot;
    double old_square;
    double new_square;
};

struct candidate {
    double similarity;
    uint32_t row; /* of the sequence */
};

struct rmk_llada_feature {
    struct rmk_llada *llada;
    uint32_t size;
    uint32_t value_width; /* Hk*Dh of this rank */
    /* host */
    uint8_t *old_values; /* act [COMPARED_AT_ONCE, value_width] */
    uint8_t *new_values;
    struct moments *moments;      /* [rows_max] */
    struct moments *everybodys;   /* [R, rows_max] */
    struct candidate *candidates; /* [rows_max] */
    bool *is_chosen;              /* [rows_max] by row of the sequence */
    uint32_t *todo;               /* [rows_max] rows of the sequence, ascending */
    uint32_t *stream_rows;        /* [rows_max] where they are in the stream */
    uint32_t todo_count;
};

enum rmk_err rmk_llada_feature_create(struct rmk_llada *llada, uint32_t rows_max, uint32_t size,
                                      struct rmk_llada_feature **out_feature, struct rmk_why *why)
{
    struct rmk_llada_feature *feature = calloc(1, sizeof(*feature));
    enum rmk_err err = RMK_OK;

    if (feature == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for feature rows");
        goto out;
    }
    feature->llada = llada;
    feature->size = size;
    feature->value_width = llada->weights->kv_heads.count * llada->spec->head_width;
    const size_t value_bytes = feature->value_width * rmk_dtype_bytes(llada->device->info.act);
    const struct {
        void **target;
        size_t count;
        size_t bytes;
    } arrays[] = {
        {(void **)&feature->old_values, COMPARED_AT_ONCE, value_bytes},
        {(void **)&feature->new_values, COMPARED_AT_ONCE, value_bytes},
        {(void **)&feature->moments, rows_max, sizeof(*feature->moments)},
        {(void **)&feature->everybodys, (size_t)size * rows_max, sizeof(*feature->everybodys)},
        {(void **)&feature->candidates, rows_max, sizeof(*feature->candidates)},
        {(void **)&feature->is_chosen, rows_max, sizeof(*feature->is_chosen)},
        {(void **)&feature->todo, rows_max, sizeof(*feature->todo)},
        {(void **)&feature->stream_rows, rows_max, sizeof(*feature->stream_rows)},
    };
    for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++) {
        *arrays[i].target = calloc(arrays[i].count, arrays[i].bytes);
        if (*arrays[i].target == NULL) {
            err = rmk_fail(why, RMK_ELIMIT, "no memory for feature rows");
            goto out;
        }
    }

    *out_feature = feature;
    feature = NULL;
out:
    rmk_llada_feature_destroy(feature);
    return err;
}

void rmk_llada_feature_destroy(struct rmk_llada_feature *feature)
{
    if (feature == NULL) {
        return;
    }
    free(feature->old_values);
    free(feature->new_values);
    free(feature->moments);
    free(feature->everybodys);
    free(feature->candidates);
    free(feature->is_chosen);
    free(feature->todo);
    free(feature->stream_rows);
    free(feature);
}

/* -- the choice
 * ------------------------------------------------------------------------------------ */

static struct moments moments_of(const struct rmk_llada_feature *feature, size_t row)
{
    const enum rmk_dtype act = feature->llada->device->info.act;
    struct moments sums = {0};

    for (size_t i = row * feature->value_width; i < (row + 1) * feature->value_width; i++) {
        double old = (double)rmk_convert_get(feature->old_values, act, i);
        double new = (double)rmk_convert_get(feature->new_values, act, i);
        sums.dot += old * new;
        sums.old_square += old * old;
        sums.new_square += new *new;
    }
    return sums;
}

/* The answer's values as this forward would make them, against the kept ones: this rank's heads. */
static enum rmk_err compare_values(struct rmk_llada_feature *feature,
                                   const struct rmk_llada_feature_step *step, uint32_t layer)
{
    struct rmk_llada *llada = feature->llada;
    struct rmk_device *device = llada->device;
    const struct rmk_ops *ops = device->ops;
    const struct rmk_layer_weights *weights = &llada->weights->layers[layer];
    const uint32_t d = llada->spec->width;
    const uint32_t gen = step->total - step->prompt;
    const size_t row_bytes = feature->value_width * rmk_dtype_bytes(device->info.act);
    const uint8_t *old =
        (const uint8_t *)rmk_cache_v(step->cache, layer, step->kept) + step->prompt * row_bytes;
    enum rmk_err err;

    RMK_TRY(ops->rmsnorm(device, llada->x + (size_t)(step->prompt - step->begin) * d, NULL,
                         weights->input_norm, llada->spec->rms_eps, llada->n, gen, d));
    RMK_TRY(ops->linear(device, weights->v, llada->n, gen, llada->v, device->info.act));
    for (uint32_t done = 0; done < gen; done += COMPARED_AT_ONCE) {
        uint32_t count = gen - done < COMPARED_AT_ONCE ? gen - done : COMPARED_AT_ONCE;
        RMK_TRY(
            ops->download(device, feature->old_values, old + done * row_bytes, count * row_bytes));
        RMK_TRY(ops->download(device, feature->new_values,
                              (const uint8_t *)llada->v + done * row_bytes, count * row_bytes));
        for (uint32_t i = 0; i < count; i++) {
            feature->moments[done + i] = moments_of(feature, i);
        }
    }
out:
    return err;
}

/* The cosine, with norms of at least 1e-8. A value that has not changed gives exactly 1, since the
 * root of a square is exact: among those the lowest row comes first, not the luckiest rounding. */
static double similarity_of(struct moments sums)
{
    double similarity =
        sums.dot / sqrt(fmax(sums.old_square, 1e-16) * fmax(sums.new_square, 1e-16));

    return isnan(similarity) ? -2 : similarity; /* a poisoned request; any order will do */
}

static int by_similarity(const void *left, const void *right)
{
    const struct candidate *a = left;
    const struct candidate *b = right;

    if (a->similarity != b->similarity) {
        return a->similarity < b->similarity ? -1 : 1;
    }
    return a->row < b->row ? -1 : a->row > b->row;
}

/* All ranks add the same numbers in the same order, and so choose the same rows. */
static enum rmk_err choose(struct rmk_llada_feature *feature,
                           const struct rmk_llada_feature_step *step, uint32_t layer,
                           struct rmk_comm *comm, struct rmk_why *why)
{
    const uint32_t gen = step->total - step->prompt;
    const struct moments *everybodys = feature->moments;
    enum rmk_err err;

    RMK_TRY(compare_values(feature, step, layer));
    if (comm != NULL) {
        RMK_TRY(rmk_comm_all_gather(comm, feature->moments, gen * sizeof(struct moments),
                                    feature->everybodys, why));
        everybodys = feature->everybodys;
    }
    for (uint32_t i = 0; i < gen; i++) {
        struct moments sums = {0};
        for (uint32_t rank = 0; rank < feature->size; rank++) {
            const struct moments *part = &everybodys[(size_t)rank * gen + i];
            sums.dot += part->dot;
            sums.old_square += part->old_square;
            sums.new_square += part->new_square;
        }
        feature->candidates[i] =
            (struct candidate){.similarity = similarity_of(sums), .row = step->prompt + i};
    }
    qsort(feature->candidates, gen, sizeof(struct candidate), by_similarity);
    for (uint32_t i = 0; i < step->select_count; i++) {
        feature->is_chosen[feature->candidates[i].row] = true;
    }
out:
    return err;
}

/* Which rows are computed in a layer. */
static enum rmk_err list_todo(struct rmk_llada_feature *feature,
                              const struct rmk_llada_feature_step *step, uint32_t layer,
                              struct rmk_comm *comm, struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;

    memset(feature->is_chosen, 0, step->total * sizeof(*feature->is_chosen));
    if (!step->refresh_gen && step->chosen != NULL) {
        for (uint32_t i = 0; i < step->select_count; i++) {
            feature->is_chosen[step->prompt + step->chosen[layer][i]] = true;
        }
    } else if (!step->refresh_gen && step->select_count > 0) {
        RMK_TRY(choose(feature, step, layer, comm, why));
    }
    feature->todo_count = 0;
    for (uint32_t row = step->begin; row < step->total; row++) {
        bool refreshed = row < step->prompt ? step->refresh_prompt : step->refresh_gen;
        if (refreshed || feature->is_chosen[row]) {
            feature->todo[feature->todo_count] = row;
            feature->stream_rows[feature->todo_count] = row - step->begin;
            feature->todo_count++;
        }
    }
out:
    return err;
}

/* -- the layer
 * ------------------------------------------------------------------------------------- */

/* n = the rows to do, normed */
static enum rmk_err norm_todo(struct rmk_llada_feature *feature, const float *weight)
{
    struct rmk_llada *llada = feature->llada;
    struct rmk_device *device = llada->device;
    const uint32_t d = llada->spec->width;
    enum rmk_err err;

    RMK_TRY(device->ops->copy_rows(device, llada->x, feature->stream_rows, llada->delta, NULL,
                                   feature->todo_count, d));
    RMK_TRY(device->ops->rmsnorm(device, llada->delta, NULL, weight, llada->spec->rms_eps, llada->n,
                                 feature->todo_count, d));
out:
    return err;
}

/* kept [todo] = sum over ranks of delta */
static enum rmk_err keep_todo(struct rmk_llada_feature *feature, float *kept,
                              struct rmk_exchange *exchange, struct rmk_why *why)
{
    struct rmk_llada *llada = feature->llada;
    const uint32_t d = llada->spec->width;
    enum rmk_err err;

    RMK_TRY(rmk_exchange_sum(exchange, llada->delta, (size_t)feature->todo_count * d, why));
    RMK_TRY(llada->device->ops->copy_rows(llada->device, llada->delta, NULL, kept, feature->todo,
                                          feature->todo_count, d));
out:
    return err;
}

static enum rmk_err attend(struct rmk_llada_feature *feature,
                           const struct rmk_llada_feature_step *step, uint32_t layer,
                           struct rmk_exchange *exchange, struct rmk_why *why)
{
    struct rmk_llada *llada = feature->llada;
    struct rmk_segment segment = {.row_count = feature->todo_count, .kv_count = step->total};
    const struct rmk_llada_step todo = {
        .row_count = feature->todo_count,
        .positions = feature->todo,
        .segments = &segment,
        .rotations = &step->rotation,
        .segment_count = 1,
        .cache = step->cache,
        .kept = &step->kept,
    };
    enum rmk_err err;

    RMK_TRY(norm_todo(feature, llada->weights->layers[layer].input_norm));
    RMK_TRY(rmk_llada_attend(llada, layer, &todo));
    RMK_TRY(keep_todo(feature, rmk_cache_attention(step->cache, layer, step->kept), exchange, why));
out:
    return err;
}

static enum rmk_err feed_forward(struct rmk_llada_feature *feature,
                                 const struct rmk_llada_feature_step *step, uint32_t layer,
                                 struct rmk_exchange *exchange, struct rmk_why *why)
{
    struct rmk_llada *llada = feature->llada;
    enum rmk_err err;

    RMK_TRY(norm_todo(feature, llada->weights->layers[layer].post_norm));
    RMK_TRY(rmk_llada_feed_forward(llada, layer, feature->todo_count));
    RMK_TRY(keep_todo(feature, rmk_cache_mlp(step->cache, layer, step->kept), exchange, why));
out:
    return err;
}

enum rmk_err rmk_llada_feature_forward(struct rmk_llada_feature *feature,
                                       const struct rmk_llada_feature_step *step,
                                       struct rmk_exchange *exchange, struct rmk_why *why)
{
    struct rmk_llada *llada = feature->llada;
    struct rmk_device *device = llada->device;
    const uint32_t d = llada->spec->width;
    const uint32_t rows = step->total - step->begin;
    const size_t skipped = (size_t)step->begin * d;
    const uint32_t layer_count = llada->weights->layer_count;
    uint32_t layer;
    enum rmk_err err = RMK_OK;

    rmk_assert(rows <= llada->rows_max);
    rmk_assert(step->begin == 0 || step->begin == step->prompt);
    rmk_assert(step->begin == 0 || !step->refresh_prompt);
    for (layer = 0; layer < layer_count; layer++) {
        RMK_TRY(list_todo(feature, step, layer, exchange->comm, why));
        if (feature->todo_count > 0) {
            RMK_TRY(attend(feature, step, layer, exchange, why));
        }
        const float *attention = rmk_cache_attention(step->cache, layer, step->kept) + skipped;
        RMK_TRY(device->ops->add(device, llada->x, attention, (size_t)rows * d));
        if (feature->todo_count > 0) {
            RMK_TRY(feed_forward(feature, step, layer, exchange, why));
        }
        const float *mlp = rmk_cache_mlp(step->cache, layer, step->kept) + skipped;
        if (layer + 1 < layer_count) {
            RMK_TRY(device->ops->add(device, llada->x, mlp, (size_t)rows * d));
        } else { /* the stream's last sum is left to rmk_llada_finish */
            RMK_TRY(device->ops->copy_rows(device, mlp, NULL, llada->delta, NULL, rows, d));
        }
    }
out:
    if (err != RMK_OK && why != NULL && why->text[0] == '\0') {
        (void)rmk_fail(why, err, "the device failed in layer %u of a feature row", layer);
    }
    return err;
}
