#include "worker/text/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/dummy.h"
#include "model/safetensors.h"
#include "worker/text/load.h"

enum { NAME_BYTES = 128 };

struct rmk_cut rmk_weights_cut(uint32_t total, uint32_t rank, uint32_t size)
{
    uint32_t share = total / size;
    uint32_t larger = total % size;

    rmk_assert(rank < size);
    return (struct rmk_cut){
        .begin = rank * share + (rank < larger ? rank : larger),
        .count = share + (rank < larger ? 1 : 0),
    };
}

/* -- where values come from
 * ------------------------------------------------------------------------- */

struct loader {
    struct rmk_device *device;
    const struct rmk_checkpoint *checkpoint; /* NULL: dummy */
    uint64_t dummy_seed;
    uint32_t rank;
    uint64_t bytes;
    bool looking;          /* the first of two passes over a checkpoint: is everything there? */
    struct rmk_load *load; /* the second */
};

/* [rows.count, columns.count] of a tensor of full_rows x full_columns. */
struct rectangle {
    uint64_t full_rows;
    uint64_t full_columns;
    struct rmk_cut rows;
    struct rmk_cut columns;
};

static enum rmk_err no_memory(const char *name, struct rmk_why *why)
{
    return rmk_fail(why, RMK_ELIMIT, "no memory for tensor %s", name);
}

/* bf16 values made on the host, malloc'ed: one matrix or several, one above the other. */
static enum rmk_err make_dummy(struct loader *loader, const char *const *names, uint32_t name_count,
                               const struct rectangle *where, uint16_t **out, struct rmk_why *why)
{
    const size_t count = (size_t)where->rows.count * where->columns.count;
    uint16_t *values = malloc(name_count * count * sizeof(*values));

    if (values == NULL) {
        return no_memory(names[0], why);
    }
    for (uint32_t i = 0; i < name_count; i++) {
        uint64_t seed = rmk_dummy_seed(loader->dummy_seed, names[i]);
        uint16_t *value = values + i * count;
        for (uint64_t row = 0; row < where->rows.count; row++) {
            uint64_t first = (where->rows.begin + row) * where->full_columns + where->columns.begin;
            for (uint64_t column = 0; column < where->columns.count; column++) {
                *value++ = rmk_dummy_bits(seed, first + column);
            }
        }
    }
    loader->bytes += name_count * count * sizeof(*values);
    *out = values;
    return RMK_OK;
}

static enum rmk_err expect_float(struct loader *loader, const char *name, uint32_t rank,
                                 const uint64_t *shape, const struct rmk_tensor **out,
                                 struct rmk_why *why)
{
    const struct rmk_tensor *tensor = NULL;
    enum rmk_err err;

    RMK_TRY(rmk_checkpoint_expect(loader->checkpoint, name, rank, shape, &tensor, why));
    if (tensor->dtype != RMK_F32 && tensor->dtype != RMK_BF16 && tensor->dtype != RMK_F16) {
        err =
            rmk_fail(why, RMK_EUNSUPPORTED, "tensor %s is %s, but weights must be F32, BF16 or F16",
                     name, rmk_dtype_name(tensor->dtype));
        goto out;
    }
    *out = tensor;
out:
    return err;
}

/* Where a rectangle of tensor `name` lies in its file; the caller says where it goes. */
static enum rmk_err find_piece(struct loader *loader, const char *name,
                               const struct rectangle *where, struct rmk_load_piece *out,
                               struct rmk_why *why)
{
    const struct rmk_tensor *tensor = NULL;
    const char *path = NULL;
    uint64_t begin = 0;
    enum rmk_err err;

    RMK_TRY(expect_float(loader, name, 2, (uint64_t[]){where->full_rows, where->full_columns},
                         &tensor, why));
    const uint64_t element = rmk_dtype_bytes(tensor->dtype);
    const uint64_t first = where->rows.begin * where->full_columns + where->columns.begin;
    rmk_checkpoint_place(loader->checkpoint, tensor, &path, &begin);
    *out = (struct rmk_load_piece){
        .path = path,
        .offset = begin + first * element,
        .pitch = where->full_columns * element,
        .row_bytes = where->columns.count * element,
        .row_count = where->rows.count,
        .dtype = tensor->dtype,
        .target_dtype = tensor->dtype,
    };
    (void)snprintf(out->tensor, sizeof(out->tensor), "%s", name);
    loader->bytes += out->row_count * out->row_bytes;
out:
    return err;
}

/* Elements `cut` of a vector of `full`, as fp32 of our own. */
static enum rmk_err load_vector(struct loader *loader, const char *name, uint64_t full,
                                struct rmk_cut cut, float **out, struct rmk_why *why)
{
    const struct rmk_tensor *tensor = NULL;
    float *values = NULL;
    enum rmk_err err = RMK_OK;

    if (loader->checkpoint != NULL) {
        RMK_TRY(expect_float(loader, name, 1, &full, &tensor, why));
    }
    loader->bytes += cut.count * sizeof(float);
    if (loader->looking) {
        goto out;
    }
    values = malloc((size_t)cut.count * sizeof(float));
    if (values == NULL) {
        err = no_memory(name, why);
        goto out;
    }
    if (loader->checkpoint == NULL) {
        bool is_norm = strstr(name, "norm") != NULL;
        uint64_t seed = rmk_dummy_seed(loader->dummy_seed, name);
        for (uint32_t i = 0; i < cut.count; i++) {
            values[i] = is_norm ? 1.0f : rmk_dummy_f32(seed, cut.begin + i);
        }
    } else {
        rmk_tensor_to_f32(tensor, cut.begin, cut.count, values);
    }
    *out = values;
    values = NULL;
out:
    free(values);
    return err;
}

/* -- onto the device
 * -------------------------------------------------------------------------------- */

static enum rmk_err load_norm(struct loader *loader, const char *name, uint32_t width, float **out,
                              struct rmk_why *why)
{
    struct rmk_device *device = loader->device;
    float *host = NULL;
    void *target = NULL;
    enum rmk_err err;

    RMK_TRY(load_vector(loader, name, width, (struct rmk_cut){0, width}, &host, why));
    if (loader->looking) {
        goto out;
    }
    RMK_TRY(device->ops->alloc(device, width * sizeof(float), &target, why));
    *out = target; /* the weights' now */
    RMK_TRY(device->ops->upload(device, target, host, width * sizeof(float)));
out:
    free(host);
    return err;
}

/* Whether the device makes dummy values itself: a full-size model takes the host minutes. */
static bool makes_dummy(const struct loader *loader)
{
    return loader->checkpoint == NULL && loader->device->ops->dummy != NULL;
}

/* bf16 dummy values of one tensor to device memory. */
static enum rmk_err fill_dummy(struct loader *loader, const char *name,
                               const struct rectangle *where, uint16_t *target)
{
    uint64_t first = where->rows.begin * where->full_columns + where->columns.begin;

    loader->bytes += (uint64_t)where->rows.count * where->columns.count * sizeof(uint16_t);
    return loader->device->ops->dummy(loader->device, rmk_dummy_seed(loader->dummy_seed, name),
                                      first, where->full_columns, where->rows.count,
                                      where->columns.count, target);
}

/* A linear of one tensor or of several, one above the other, made on the device. */
static enum rmk_err make_dummy_linear(struct loader *loader, const char *const *names,
                                      uint32_t name_count, const struct rectangle *where,
                                      const float *bias, struct rmk_linear **out,
                                      struct rmk_why *why)
{
    struct rmk_device *device = loader->device;
    const size_t count = (size_t)where->rows.count * where->columns.count;
    void *values = NULL;
    enum rmk_err err;

    RMK_TRY(device->ops->alloc(device, name_count * count * sizeof(uint16_t), &values, why));
    for (uint32_t i = 0; i < name_count; i++) {
        RMK_TRY(fill_dummy(loader, names[i], where, (uint16_t *)values + i * count));
    }
    struct rmk_linear_source source = {
        .weight_device = values,
        .dtype = RMK_BF16,
        .ld = where->columns.count,
        .n = name_count * where->rows.count,
        .k = where->columns.count,
        .bias_host = bias,
    };
    RMK_TRY(device->ops->linear_create(device, &source, out, why));
out:
    if (values != NULL) {
        (void)device->ops->synchronize(device, NULL); /* what reads it may still run */
        device->ops->free(device, values);
    }
    return err;
}

/* A device with memory of its own takes pieces as they are read; for the others the whole is read
 * first, and packed. */
static bool takes_pieces(const struct loader *loader)
{
    return loader->device->ops->load_begin != NULL;
}

/* A linear whose values the plan brings. */
static enum rmk_err plan_linear(struct loader *loader, struct rmk_load_piece *pieces,
                                uint32_t piece_count, const struct rmk_linear_source *source,
                                struct rmk_linear **out, struct rmk_why *why)
{
    struct rmk_device *device = loader->device;
    const enum rmk_dtype act = device->info.act;
    const uint64_t piece_bytes =
        (uint64_t)source->n / piece_count * source->k * rmk_dtype_bytes(act);
    enum rmk_err err;

    RMK_TRY(device->ops->linear_create(device, source, out, why));
    uint8_t *target = device->ops->linear_weight(device, *out);
    for (uint32_t i = 0; i < piece_count; i++) {
        pieces[i].target_dtype = act;
        pieces[i].target = target + i * piece_bytes;
        RMK_TRY(rmk_load_add(loader->load, &pieces[i], why));
    }
out:
    return err;
}

/* A linear that is read whole and then packed. */
static enum rmk_err read_linear(struct loader *loader, struct rmk_load_piece *pieces,
                                uint32_t piece_count, struct rmk_linear_source *source,
                                struct rmk_linear **out, struct rmk_why *why)
{
    const uint64_t piece_bytes = pieces[0].row_count * pieces[0].row_bytes;
    uint8_t *whole = malloc(piece_count * piece_bytes + 1);
    enum rmk_err err;

    if (whole == NULL) {
        err = no_memory(pieces[0].tensor, why);
        goto out;
    }
    for (uint32_t i = 0; i < piece_count; i++) {
        pieces[i].target = whole + i * piece_bytes;
        RMK_TRY(rmk_load_add(loader->load, &pieces[i], why));
    }
    RMK_TRY(rmk_load_run(loader->load, why));
    source->weight_host = whole;
    RMK_TRY(loader->device->ops->linear_create(loader->device, source, out, why));
out:
    free(whole);
    return err;
}

enum { STACK_MAX = 2 };

/* The matrices `names`, one above the other, as one linear. */
static enum rmk_err load_matrices(struct loader *loader, const char *const *names,
                                  uint32_t name_count, const struct rectangle *where,
                                  const float *bias, struct rmk_linear **out, struct rmk_why *why)
{
    struct rmk_load_piece pieces[STACK_MAX];
    uint16_t *dummy = NULL;
    enum rmk_err err = RMK_OK;

    rmk_assert(name_count <= STACK_MAX);
    if (makes_dummy(loader)) {
        RMK_TRY(make_dummy_linear(loader, names, name_count, where, bias, out, why));
        goto out;
    }
    struct rmk_linear_source source = {
        .dtype = RMK_BF16,
        .ld = where->columns.count,
        .n = name_count * where->rows.count,
        .k = where->columns.count,
        .bias_host = bias,
    };
    if (loader->checkpoint == NULL) {
        RMK_TRY(make_dummy(loader, names, name_count, where, &dummy, why));
        source.weight_host = dummy;
        RMK_TRY(loader->device->ops->linear_create(loader->device, &source, out, why));
        goto out;
    }
    for (uint32_t i = 0; i < name_count; i++) {
        RMK_TRY(find_piece(loader, names[i], where, &pieces[i], why));
        if (pieces[i].dtype != pieces[0].dtype) {
            err = rmk_fail(why, RMK_EUNSUPPORTED, "tensor %s is %s, but %s is %s", names[i],
                           rmk_dtype_name(pieces[i].dtype), names[0],
                           rmk_dtype_name(pieces[0].dtype));
            goto out;
        }
    }
    source.dtype = pieces[0].dtype;
    if (!loader->looking) {
        RMK_TRY((takes_pieces(loader)
                     ? plan_linear(loader, pieces, name_count, &source, out, why)
                     : read_linear(loader, pieces, name_count, &source, out, why)));
    }
out:
    free(dummy);
    return err;
}

/* name.weight, and name.bias when `with_bias`: cut as the rows are. */
static enum rmk_err load_linear(struct loader *loader, const char *name,
                                const struct rectangle *where, bool with_bias,
                                struct rmk_linear **out, struct rmk_why *why)
{
    char member[NAME_BYTES];
    float *bias = NULL;
    enum rmk_err err;

    if (with_bias) {
        (void)snprintf(member, sizeof(member), "%s.bias", name);
        RMK_TRY(load_vector(loader, member, where->full_rows, where->rows, &bias, why));
    }
    (void)snprintf(member, sizeof(member), "%s.weight", name);
    RMK_TRY(load_matrices(loader, (const char *const[]){member}, 1, where, bias, out, why));
out:
    free(bias);
    return err;
}

/* Gate above up in one matrix: one GEMM, and the activation finds both halves in one row. */
static enum rmk_err load_gate_up(struct loader *loader, const char *prefix,
                                 const struct rectangle *where, struct rmk_linear **out,
                                 struct rmk_why *why)
{
    char names[2][NAME_BYTES];

    (void)snprintf(names[0], sizeof(names[0]), "%smlp.gate_proj.weight", prefix);
    (void)snprintf(names[1], sizeof(names[1]), "%smlp.up_proj.weight", prefix);
    return load_matrices(loader, (const char *const[]){names[0], names[1]}, 2, where, NULL, out,
                         why);
}

static enum rmk_err load_embed(struct loader *loader, const struct rmk_text_spec *text,
                               struct rmk_weights *weights, struct rmk_why *why)
{
    const char *const name = "model.embed_tokens.weight";
    struct rmk_device *device = loader->device;
    const struct rectangle where = {
        text->vocab_rows, text->width, weights->vocab, {0, text->width}};
    const size_t count = (size_t)weights->vocab.count * text->width;
    struct rmk_load_piece piece;
    uint16_t *dummy = NULL;
    enum rmk_err err;

    if (loader->checkpoint == NULL) {
        weights->embed_dtype = RMK_BF16;
        RMK_TRY(device->ops->alloc(device, count * sizeof(*dummy), &weights->embed, why));
        if (makes_dummy(loader)) {
            RMK_TRY(fill_dummy(loader, name, &where, weights->embed));
            goto out;
        }
        RMK_TRY(make_dummy(loader, &name, 1, &where, &dummy, why));
        RMK_TRY(device->ops->upload(device, weights->embed, dummy, count * sizeof(*dummy)));
        goto out;
    }
    RMK_TRY(find_piece(loader, name, &where, &piece, why));
    if (loader->looking) {
        goto out;
    }
    weights->embed_dtype = piece.dtype;
    RMK_TRY(device->ops->alloc(device, count * rmk_dtype_bytes(piece.dtype), &weights->embed, why));
    piece.target = weights->embed;
    RMK_TRY(rmk_load_add(loader->load, &piece, why));
    if (!takes_pieces(loader)) {
        RMK_TRY(rmk_load_run(loader->load, why));
    }
out:
    free(dummy);
    return err;
}

static enum rmk_err load_layer(struct loader *loader, const struct rmk_text_spec *text,
                               const struct rmk_weights *weights, uint32_t index,
                               struct rmk_layer_weights *layer, struct rmk_why *why)
{
    const uint32_t d = text->width;
    const uint32_t dh = text->head_width;
    const struct rmk_cut all = {0, d};
    const struct rmk_cut query = {weights->heads.begin * dh, weights->heads.count * dh};
    const struct rmk_cut key = {weights->kv_heads.begin * dh, weights->kv_heads.count * dh};
    const struct rectangle q = {(uint64_t)text->head_count * dh, d, query, all};
    const struct rectangle kv = {(uint64_t)text->kv_head_count * dh, d, key, all};
    const struct rectangle o = {d, (uint64_t)text->head_count * dh, all, query};
    const struct rectangle up = {text->ff_width, d, weights->ff, all};
    const struct rectangle down = {d, text->ff_width, all, weights->ff};
    bool bias = text->attention_bias;
    char prefix[NAME_BYTES / 2];
    char name[NAME_BYTES];
    enum rmk_err err;

#define NAME(suffix) ((void)snprintf(name, sizeof(name), "%s%s", prefix, suffix), name)
    (void)snprintf(prefix, sizeof(prefix), "model.layers.%u.", index);
    RMK_TRY(load_norm(loader, NAME("input_layernorm.weight"), d, &layer->input_norm, why));
    RMK_TRY(load_linear(loader, NAME("self_attn.q_proj"), &q, bias, &layer->q, why));
    RMK_TRY(load_linear(loader, NAME("self_attn.k_proj"), &kv, bias, &layer->k, why));
    RMK_TRY(load_linear(loader, NAME("self_attn.v_proj"), &kv, bias, &layer->v, why));
    RMK_TRY(load_linear(loader, NAME("self_attn.o_proj"), &o, bias && loader->rank == 0, &layer->o,
                        why));
    RMK_TRY(load_norm(loader, NAME("post_attention_layernorm.weight"), d, &layer->post_norm, why));
    RMK_TRY(load_gate_up(loader, prefix, &up, &layer->gate_up, why));
    RMK_TRY(load_linear(loader, NAME("mlp.down_proj"), &down, false, &layer->down, why));
#undef NAME
out:
    return err;
}

static enum rmk_err load_all(struct loader *loader, const struct rmk_text_spec *text,
                             struct rmk_weights *weights, struct rmk_why *why)
{
    const struct rectangle head = {text->vocab_rows, text->width, weights->vocab, {0, text->width}};
    enum rmk_err err;

    RMK_TRY(load_embed(loader, text, weights, why));
    for (uint32_t i = 0; i < text->layer_count; i++) {
        RMK_TRY(load_layer(loader, text, weights, i, &weights->layers[i], why));
    }
    RMK_TRY(load_norm(loader, "model.norm.weight", text->width, &weights->norm, why));
    RMK_TRY(load_linear(loader, text->tied_head ? "model.embed_tokens" : "lm_head", &head, false,
                        &weights->head, why));
out:
    return err;
}

/* Twice over a checkpoint: a tensor that is missing or has another shape is said before gigabytes
 * are read, and how much there is to read is known. */
static enum rmk_err load_checkpoint(struct loader *loader, const struct rmk_text_spec *text,
                                    struct rmk_weights *weights, struct rmk_why *why)
{
    struct rmk_load_progress progress;
    enum rmk_err err;

    loader->looking = true;
    RMK_TRY(load_all(loader, text, weights, why));
    rmk_load_progress_init(&progress, loader->bytes);
    loader->looking = false;
    loader->bytes = 0;
    RMK_TRY(rmk_load_create(loader->device, 0, &progress, &loader->load, why));
    RMK_TRY(load_all(loader, text, weights, why));
    RMK_TRY(rmk_load_run(loader->load, why)); /* of a device that takes pieces: all of it */
out:
    rmk_load_destroy(loader->load);
    loader->load = NULL;
    return err;
}

/* -- life
 * ------------------------------------------------------------------------------------------- */

static enum rmk_err check_cuts(const struct rmk_text_spec *text, uint32_t size, struct rmk_why *why)
{
    if (size > text->kv_head_count) {
        return rmk_fail(why, RMK_EINVAL, "%u ranks are more than the model's %u key/value heads",
                        size, text->kv_head_count);
    }
    if (size > text->ff_width || size > text->vocab) {
        return rmk_fail(why, RMK_EINVAL,
                        "%u ranks are more than the model has feed-forward columns or tokens",
                        size);
    }
    return RMK_OK;
}

enum rmk_err rmk_weights_create(const struct rmk_weights_options *options,
                                struct rmk_weights **out_weights, struct rmk_why *why)
{
    const struct rmk_text_spec *text = &options->spec->text;
    struct rmk_weights *weights = NULL;
    struct rmk_checkpoint *checkpoint = NULL;
    enum rmk_err err;

    rmk_assert(options->rank < options->size);
    rmk_assert(text->vocab > 0);
    rmk_assert(text->vocab <= text->vocab_rows);
    RMK_TRY(check_cuts(text, options->size, why));
    weights = calloc(1, sizeof(*weights));
    if (weights == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for a model");
        goto out;
    }
    weights->device = options->device;
    weights->kv_heads = rmk_weights_cut(text->kv_head_count, options->rank, options->size);
    uint32_t group = text->head_count / text->kv_head_count;
    weights->heads =
        (struct rmk_cut){weights->kv_heads.begin * group, weights->kv_heads.count * group};
    weights->ff = rmk_weights_cut(text->ff_width, options->rank, options->size);
    weights->vocab = rmk_weights_cut(text->vocab, options->rank, options->size);
    weights->layers = calloc(text->layer_count, sizeof(*weights->layers));
    if (weights->layers == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for %u layers", text->layer_count);
        goto out;
    }
    weights->layer_count = text->layer_count;
    if (!options->load_dummy) {
        RMK_TRY(rmk_checkpoint_open(options->spec->dir, &checkpoint, why));
    }
    struct loader loader = {
        .device = options->device,
        .checkpoint = checkpoint,
        .dummy_seed = options->dummy_seed,
        .rank = options->rank,
    };
    err = checkpoint != NULL ? load_checkpoint(&loader, text, weights, why)
                             : load_all(&loader, text, weights, why);
    if (err == RMK_OK) {
        err = options->device->ops->synchronize(options->device, why);
    }
    if (err != RMK_OK) {
        rmk_why_context(why, "%.300s", options->spec->dir);
        goto out;
    }
    weights->bytes = loader.bytes;
    *out_weights = weights;
    weights = NULL;
out:
    rmk_weights_destroy(weights);
    rmk_checkpoint_close(checkpoint);
    return err;
}

void rmk_weights_destroy(struct rmk_weights *weights)
{
    if (weights == NULL) {
        return;
    }
    struct rmk_device *device = weights->device;
    const struct rmk_ops *ops = device->ops;
    for (uint32_t i = 0; i < weights->layer_count; i++) {
        struct rmk_layer_weights *layer = &weights->layers[i];
        ops->free(device, layer->input_norm);
        ops->linear_destroy(device, layer->q);
        ops->linear_destroy(device, layer->k);
        ops->linear_destroy(device, layer->v);
        ops->linear_destroy(device, layer->o);
        ops->free(device, layer->post_norm);
        ops->linear_destroy(device, layer->gate_up);
        ops->linear_destroy(device, layer->down);
    }
    free(weights->layers);
    ops->free(device, weights->embed);
    ops->free(device, weights->norm);
    ops->linear_destroy(device, weights->head);
    free(weights);
}
