#include "worker/text/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/safetensors.h"
#include "worker/dummy.h"

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
};

/* A rectangle of a matrix on the host: in the mapping, or our own. */
struct slice {
    const void *data;
    void *owned;
    enum rmk_dtype dtype;
    uint64_t ld;
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

static enum rmk_err make_dummy(struct loader *loader, const char *name,
                               const struct rectangle *where, struct slice *out,
                               struct rmk_why *why)
{
    uint64_t seed = rmk_dummy_seed(loader->dummy_seed, name);
    uint16_t *values = malloc((size_t)where->rows.count * where->columns.count * sizeof(*values));

    if (values == NULL) {
        return no_memory(name, why);
    }
    for (uint64_t row = 0; row < where->rows.count; row++) {
        uint64_t first = (where->rows.begin + row) * where->full_columns + where->columns.begin;
        for (uint64_t column = 0; column < where->columns.count; column++) {
            values[row * where->columns.count + column] = rmk_dummy_bits(seed, first + column);
        }
    }
    *out = (struct slice){
        .data = values, .owned = values, .dtype = RMK_BF16, .ld = where->columns.count};
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

/* Rows of `width` elements copied to a dense array. */
static void copy_dense(const struct slice *slice, uint64_t rows, uint64_t width, uint8_t *out)
{
    size_t element = rmk_dtype_bytes(slice->dtype);

    for (uint64_t row = 0; row < rows; row++) {
        memcpy(out + row * width * element,
               (const uint8_t *)slice->data + row * slice->ld * element, width * element);
    }
}

static enum rmk_err load_slice(struct loader *loader, const char *name,
                               const struct rectangle *where, struct slice *out,
                               struct rmk_why *why)
{
    const struct rmk_tensor *tensor = NULL;
    enum rmk_err err;

    if (loader->checkpoint == NULL) {
        RMK_TRY(make_dummy(loader, name, where, out, why));
        loader->bytes += (uint64_t)where->rows.count * where->columns.count * sizeof(uint16_t);
        goto out;
    }
    RMK_TRY(expect_float(loader, name, 2, (uint64_t[]){where->full_rows, where->full_columns},
                         &tensor, why));
    size_t element = rmk_dtype_bytes(tensor->dtype);
    uint64_t first = where->rows.begin * where->full_columns + where->columns.begin;
    loader->bytes += (uint64_t)where->rows.count * where->columns.count * element;
    struct slice slice = {.data = (const uint8_t *)tensor->data + first * element,
                          .dtype = tensor->dtype,
                          .ld = where->full_columns};
    if ((uintptr_t)slice.data % element != 0) {
        /* The format lets a tensor begin anywhere; a backend reads whole elements. */
        slice.owned = malloc((size_t)where->rows.count * where->columns.count * element);
        if (slice.owned == NULL) {
            err = no_memory(name, why);
            goto out;
        }
        copy_dense(&slice, where->rows.count, where->columns.count, slice.owned);
        slice.data = slice.owned;
        slice.ld = where->columns.count;
    }
    *out = slice;
out:
    return err;
}

/* Elements `cut` of a vector of `full`, as fp32 of our own. */
static enum rmk_err load_vector(struct loader *loader, const char *name, uint64_t full,
                                struct rmk_cut cut, float **out, struct rmk_why *why)
{
    const struct rmk_tensor *tensor = NULL;
    float *values = malloc((size_t)cut.count * sizeof(float));
    enum rmk_err err = RMK_OK;

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
        RMK_TRY(expect_float(loader, name, 1, &full, &tensor, why));
        rmk_tensor_to_f32(tensor, cut.begin, cut.count, values);
    }
    loader->bytes += cut.count * sizeof(float);
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
    RMK_TRY(device->ops->alloc(device, width * sizeof(float), &target, why));
    *out = target; /* the weights' now */
    RMK_TRY(device->ops->upload(device, target, host, width * sizeof(float)));
    RMK_TRY(device->ops->synchronize(device, why));
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

/* name.weight, and name.bias when `with_bias`: cut as the rows are. */
static enum rmk_err load_linear(struct loader *loader, const char *name,
                                const struct rectangle *where, bool with_bias,
                                struct rmk_linear **out, struct rmk_why *why)
{
    char member[NAME_BYTES];
    struct slice slice = {0};
    float *bias = NULL;
    enum rmk_err err;

    if (with_bias) {
        (void)snprintf(member, sizeof(member), "%s.bias", name);
        RMK_TRY(load_vector(loader, member, where->full_rows, where->rows, &bias, why));
    }
    (void)snprintf(member, sizeof(member), "%s.weight", name);
    if (makes_dummy(loader)) {
        RMK_TRY(make_dummy_linear(loader, (const char *const[]){member}, 1, where, bias, out, why));
        goto out;
    }
    RMK_TRY(load_slice(loader, member, where, &slice, why));
    struct rmk_linear_source source = {
        .weight_host = slice.data,
        .dtype = slice.dtype,
        .ld = slice.ld,
        .n = where->rows.count,
        .k = where->columns.count,
        .bias_host = bias,
    };
    RMK_TRY(loader->device->ops->linear_create(loader->device, &source, out, why));
out:
    free(slice.owned);
    free(bias);
    return err;
}

/* Gate above up in one matrix: one GEMM, and the activation finds both halves in one row. */
static enum rmk_err load_gate_up(struct loader *loader, const char *prefix,
                                 const struct rectangle *where, struct rmk_linear **out,
                                 struct rmk_why *why)
{
    char names[2][NAME_BYTES];
    const char *const name = names[1];
    struct slice slices[2] = {0};
    uint64_t rows = where->rows.count;
    uint64_t columns = where->columns.count;
    uint8_t *both = NULL;
    enum rmk_err err;

    (void)snprintf(names[0], sizeof(names[0]), "%smlp.gate_proj.weight", prefix);
    (void)snprintf(names[1], sizeof(names[1]), "%smlp.up_proj.weight", prefix);
    if (makes_dummy(loader)) {
        RMK_TRY(make_dummy_linear(loader, (const char *const[]){names[0], names[1]}, 2, where, NULL,
                                  out, why));
        goto out;
    }
    for (unsigned i = 0; i < 2; i++) {
        RMK_TRY(load_slice(loader, names[i], where, &slices[i], why));
    }
    if (slices[0].dtype != slices[1].dtype) {
        err = rmk_fail(why, RMK_EUNSUPPORTED, "tensor %s is %s, but mlp.gate_proj.weight is %s",
                       name, rmk_dtype_name(slices[1].dtype), rmk_dtype_name(slices[0].dtype));
        goto out;
    }
    size_t half = rows * columns * rmk_dtype_bytes(slices[0].dtype);
    both = malloc(2 * half);
    if (both == NULL) {
        err = no_memory(name, why);
        goto out;
    }
    copy_dense(&slices[0], rows, columns, both);
    copy_dense(&slices[1], rows, columns, both + half);
    struct rmk_linear_source source = {
        .weight_host = both,
        .dtype = slices[0].dtype,
        .ld = columns,
        .n = (uint32_t)(2 * rows),
        .k = (uint32_t)columns,
    };
    RMK_TRY(loader->device->ops->linear_create(loader->device, &source, out, why));
out:
    free(both);
    free(slices[0].owned);
    free(slices[1].owned);
    return err;
}

static enum rmk_err load_embed(struct loader *loader, const struct rmk_text_spec *text,
                               struct rmk_weights *weights, struct rmk_why *why)
{
    struct rmk_device *device = loader->device;
    struct rectangle where = {text->vocab_rows, text->width, weights->vocab, {0, text->width}};
    struct slice slice = {0};
    enum rmk_err err;

    if (makes_dummy(loader)) {
        size_t dummy_bytes = (size_t)weights->vocab.count * text->width * sizeof(uint16_t);
        RMK_TRY(device->ops->alloc(device, dummy_bytes, &weights->embed, why));
        RMK_TRY(fill_dummy(loader, "model.embed_tokens.weight", &where, weights->embed));
        weights->embed_dtype = RMK_BF16;
        goto out;
    }
    RMK_TRY(load_slice(loader, "model.embed_tokens.weight", &where, &slice, why));
    size_t bytes = (size_t)weights->vocab.count * text->width * rmk_dtype_bytes(slice.dtype);
    RMK_TRY(device->ops->alloc(device, bytes, &weights->embed, why));
    RMK_TRY(device->ops->upload(device, weights->embed, slice.data, bytes));
    RMK_TRY(device->ops->synchronize(device, why));
    weights->embed_dtype = slice.dtype;
out:
    free(slice.owned);
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
    weights->bytes = loader->bytes;
out:
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
    err = load_all(&loader, text, weights, why);
    if (err != RMK_OK) {
        rmk_why_context(why, "%.300s", options->spec->dir);
        goto out;
    }
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
