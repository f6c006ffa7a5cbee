#include "worker/text/runner.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/least.h"
#include "common/limits.h"
#include "worker/text/rope.h"
#include "worker/text/runner_state.h"

/* -- create
 * ------------------------------------------------------------------------------------------ */

static enum rmk_err take_device(struct rmk_runner *runner, size_t bytes, void **out,
                                struct rmk_why *why)
{
    enum rmk_err err;

    RMK_TRY(runner->device->ops->alloc(runner->device, bytes, out, why));
    runner->bytes += bytes;
out:
    return err;
}

static enum rmk_err take_host(size_t count, size_t bytes, void **out, struct rmk_why *why)
{
    *out = calloc(count + 1, bytes);
    return *out != NULL ? RMK_OK : rmk_fail(why, RMK_ELIMIT, "no memory for the runner's step");
}

/* Copy host tables of one sequence to the device. */
static enum rmk_err upload_tables(struct rmk_runner *runner, uint32_t total_rows, uint32_t count,
                                  float *cos_target, float *sin_target, struct rmk_why *why)
{
    const struct rmk_text_spec *text = &runner->spec.text;
    struct rmk_device *device = runner->device;
    size_t bytes = (size_t)count * (text->head_width / 2) * sizeof(float);
    float *host = NULL;
    enum rmk_err err;

    RMK_TRY(take_host(2, bytes, (void **)&host, why));
    float *sines = host + bytes / sizeof(float);
    rmk_rope_tables(text, total_rows, 0, count, host, sines);
    RMK_TRY(device->ops->upload(device, cos_target, host, bytes));
    RMK_TRY(device->ops->upload(device, sin_target, sines, bytes));
    RMK_TRY(device->ops->synchronize(device, why));
out:
    free(host);
    return err;
}

static enum rmk_err make_slots(struct rmk_runner *runner, struct rmk_why *why)
{
    const struct rmk_runner_options *options = &runner->options;
    const struct rmk_text_spec *text = &runner->spec.text;
    size_t table = (size_t)options->rows_max * (text->head_width / 2) * sizeof(float);
    enum rmk_err err;

    RMK_TRY(take_host(options->slot_count, sizeof(*runner->slots), (void **)&runner->slots, why));
    RMK_TRY(take_device(runner, table, (void **)&runner->cos, why));
    RMK_TRY(take_device(runner, table, (void **)&runner->sin, why));
    /* Of a sequence that is short enough not to be stretched. */
    RMK_TRY(upload_tables(runner, 1, options->rows_max, runner->cos, runner->sin, why));
    for (uint32_t i = 0; i < options->slot_count; i++) {
        struct rmk_slot *slot = &runner->slots[i];
        RMK_TRY(take_device(runner, (size_t)options->rows_max * text->width * sizeof(float),
                            (void **)&slot->rows, why));
        if (rmk_rope_is_stretched(text, options->rows_max)) {
            RMK_TRY(take_device(runner, table, (void **)&slot->own_cos, why));
            RMK_TRY(take_device(runner, table, (void **)&slot->own_sin, why));
        }
    }
    RMK_TRY(take_device(runner, text->width * sizeof(float), (void **)&runner->mask_row, why));
out:
    return err;
}

static enum rmk_err make_step(struct rmk_runner *runner, struct rmk_why *why)
{
    const struct rmk_runner_options *options = &runner->options;
    const size_t d = runner->spec.text.width;
    const size_t head_rows = rmk_runner_head_rows_max(runner);
    const size_t passes = 2 * (size_t)options->slot_count;
    enum rmk_err err;

    RMK_TRY(
        take_device(runner, 2 * head_rows * d * sizeof(float), (void **)&runner->gathered, why));
    RMK_TRY(take_device(runner, head_rows * d * rmk_dtype_bytes(runner->device->info.act),
                        &runner->head_input, why));
    RMK_TRY(take_device(runner, RMK_UPDATES_AT_ONCE * d * sizeof(float), (void **)&runner->updated,
                        why));
    RMK_TRY(take_host(options->rows_max, sizeof(*runner->zeros), (void **)&runner->zeros, why));
    RMK_TRY(take_host(options->rows_max + RMK_UPDATES_AT_ONCE, sizeof(*runner->ids),
                      (void **)&runner->ids, why));
    RMK_TRY(take_host(RMK_FEATURE_ROWS_AT_ONCE * d, sizeof(*runner->features),
                      (void **)&runner->features, why));
    RMK_TRY(take_host(options->step_rows_max, sizeof(*runner->positions),
                      (void **)&runner->positions, why));
    RMK_TRY(take_host(passes, sizeof(*runner->segments), (void **)&runner->segments, why));
    RMK_TRY(take_host(passes, sizeof(*runner->rotations), (void **)&runner->rotations, why));
    RMK_TRY(take_host(passes, sizeof(*runner->kept), (void **)&runner->kept, why));
    RMK_TRY(take_host(head_rows, sizeof(*runner->head_positions), (void **)&runner->head_positions,
                      why));
    RMK_TRY(take_host(options->reads_max, sizeof(*runner->head_rows), (void **)&runner->head_rows,
                      why));
    RMK_TRY(take_host(options->reads_max, sizeof(*runner->read_order), (void **)&runner->read_order,
                      why));
    RMK_TRY(
        take_host(options->reads_max, sizeof(*runner->results), (void **)&runner->results, why));
    RMK_TRY(take_host((size_t)options->size * options->reads_max, sizeof(*runner->everybodys),
                      (void **)&runner->everybodys, why));
out:
    return err;
}

static enum rmk_err reserve(struct rmk_runner *runner, struct rmk_why *why)
{
    const struct rmk_text_spec *text = &runner->spec.text;
    const struct rmk_weights *weights = runner->weights;
    const uint32_t query = weights->heads.count * text->head_width;
    const struct rmk_reserve wanted = {
        .rows_max = rmk_most(runner->options.step_rows_max, rmk_runner_head_rows_max(runner)),
        .kv_rows_max = runner->options.rows_max,
        .heads_max = weights->heads.count,
        .head_width_max = text->head_width,
        .inner_max = rmk_most(text->width, rmk_most(query, weights->ff.count)),
        .outer_max = rmk_most(text->width, rmk_most(query, 2 * weights->ff.count)),
        .head_rows_max = runner->options.reads_max,
        .vocab = weights->vocab.count,
    };

    return runner->device->ops->reserve(runner->device, &wanted, why);
}

enum rmk_err rmk_runner_create(const struct rmk_runner_options *options,
                               struct rmk_runner **out_runner, struct rmk_why *why)
{
    struct rmk_runner *runner = NULL;
    enum rmk_err err;

    rmk_assert(options->rank < options->size);
    if (options->slot_count == 0 || options->rows_max == 0 || options->reads_max == 0 ||
        options->step_rows_max < options->rows_max) {
        err = rmk_fail(why, RMK_EINVAL,
                       "a runner needs slots, rows, reads, and a step of at least %u rows",
                       options->rows_max);
        goto out;
    }
    if (options->spec->text.mask_id < 0) {
        err = rmk_fail(why, RMK_EINVAL, "the model is not bound to a tokenizer");
        goto out;
    }
    runner = calloc(1, sizeof(*runner));
    if (runner == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for a runner");
        goto out;
    }
    runner->spec = *options->spec;
    runner->options = *options;
    runner->options.spec = &runner->spec;
    runner->device = options->device;

    const struct rmk_weights_options weights = {
        .spec = &runner->spec,
        .device = options->device,
        .rank = options->rank,
        .size = options->size,
        .load_dummy = options->load_dummy,
        .dummy_seed = options->dummy_seed,
    };
    RMK_TRY(rmk_weights_create(&weights, &runner->weights, why));
    RMK_TRY(rmk_llada_create(&runner->spec.text, runner->weights, runner->device,
                             options->step_rows_max, &runner->llada, why));
    RMK_TRY(rmk_llada_feature_create(runner->llada, options->rows_max, options->size,
                                     &runner->feature, why));
    RMK_TRY(rmk_exchange_init(&runner->exchange, runner->device, why));
    const struct rmk_cache_sizes cache = {
        .layer_count = runner->spec.text.layer_count,
        .key_width = runner->weights->kv_heads.count * runner->spec.text.head_width,
        .width = runner->spec.text.width,
        .kv_rows_max = options->kv_rows_max,
        .feature_rows_max = options->feature_rows_max,
        .sequence_count = 2 * options->slot_count,
    };
    RMK_TRY(rmk_cache_init(&runner->cache, runner->device, &cache, why));
    RMK_TRY(make_slots(runner, why));
    RMK_TRY(make_step(runner, why));
    RMK_TRY(reserve(runner, why));

    *out_runner = runner;
    runner = NULL;
out:
    rmk_runner_destroy(runner);
    return err;
}

void rmk_runner_destroy(struct rmk_runner *runner)
{
    if (runner == NULL) {
        return;
    }
    struct rmk_device *device = runner->device;
    for (uint32_t i = 0; runner->slots != NULL && i < runner->options.slot_count; i++) {
        device->ops->free(device, runner->slots[i].rows);
        device->ops->free(device, runner->slots[i].own_cos);
        device->ops->free(device, runner->slots[i].own_sin);
    }
    void *const on_device[] = {runner->cos,      runner->sin,        runner->mask_row,
                               runner->gathered, runner->head_input, runner->updated};
    for (unsigned i = 0; i < sizeof(on_device) / sizeof(on_device[0]); i++) {
        device->ops->free(device, on_device[i]);
    }
    void *const on_host[] = {runner->slots,      runner->zeros,          runner->ids,
                             runner->features,   runner->positions,      runner->segments,
                             runner->rotations,  runner->head_rows,      runner->results,
                             runner->everybodys, runner->head_positions, runner->read_order,
                             runner->kept};
    for (unsigned i = 0; i < sizeof(on_host) / sizeof(on_host[0]); i++) {
        free(on_host[i]);
    }
    rmk_cache_deinit(&runner->cache);
    rmk_exchange_deinit(&runner->exchange);
    rmk_llada_feature_destroy(runner->feature);
    rmk_llada_destroy(runner->llada);
    rmk_weights_destroy(runner->weights);
    free(runner);
}

void rmk_runner_set_comm(struct rmk_runner *runner, struct rmk_comm *comm)
{
    if (comm != NULL) {
        rmk_assert(rmk_comm_rank(comm) == runner->options.rank);
        rmk_assert(rmk_comm_size(comm) == runner->options.size);
    }
    runner->exchange.comm = comm;
    for (uint32_t i = 0; i < runner->options.slot_count; i++) {
        rmk_runner_close(runner, i);
    }
}

void rmk_runner_describe(const struct rmk_runner *runner, char *out, size_t capacity)
{
    const double mib = 1024.0 * 1024.0;

    (void)snprintf(out, capacity,
                   "rank %u of %u: weights %.1f MiB, %u slots of %u rows and tables %.1f MiB, "
                   "%u rows of keys and values, %u of features %.1f MiB, scratch for %u rows "
                   "%.1f MiB",
                   runner->options.rank, runner->options.size, (double)runner->weights->bytes / mib,
                   runner->options.slot_count, runner->options.rows_max,
                   (double)runner->bytes / mib, runner->options.kv_rows_max,
                   runner->options.feature_rows_max, (double)runner->cache.bytes / mib,
                   runner->options.step_rows_max, (double)rmk_llada_bytes(runner->llada) / mib);
}

/* -- open and close
 * ------------------------------------------------------------------------------------ */

enum rmk_err rmk_runner_check_group(const struct rmk_runner *runner, struct rmk_why *why)
{
    if (runner->options.size > 1 && runner->exchange.comm == NULL) {
        return rmk_fail(why, RMK_EUNAVAILABLE, "rank %u has no group", runner->options.rank);
    }
    return RMK_OK;
}

enum rmk_err rmk_runner_check_id(const struct rmk_runner *runner, int32_t id, struct rmk_why *why)
{
    if (id < 0 || (uint32_t)id >= runner->spec.text.vocab) {
        return rmk_fail(why, RMK_EINVAL, "token %d lies outside the vocabulary of %u", id,
                        runner->spec.text.vocab);
    }
    return RMK_OK;
}

enum rmk_err rmk_runner_embed(struct rmk_runner *runner, const int32_t *ids, uint32_t count,
                              float *target, struct rmk_why *why)
{
    const struct rmk_weights *weights = runner->weights;
    struct rmk_device *device = runner->device;
    const uint32_t d = runner->spec.text.width;
    enum rmk_err err;

    RMK_TRY(device->ops->embed(device, weights->embed, weights->embed_dtype, weights->vocab.begin,
                               weights->vocab.count, d, ids, count, target));
    RMK_TRY(rmk_exchange_sum(&runner->exchange, target, (size_t)count * d, why));
out:
    return err;
}

static enum rmk_err check_open(const struct rmk_runner *runner, const struct rmk_open *open,
                               struct rmk_why *why)
{
    uint64_t rows = 0;
    enum rmk_err err;

    RMK_TRY(rmk_runner_check_group(runner, why));
    if (open->slot >= runner->options.slot_count || runner->slots[open->slot].total != 0) {
        err = rmk_fail(why, RMK_EINVAL, "slot %u is in use or beyond the %u there are", open->slot,
                       runner->options.slot_count);
        goto out;
    }
    for (uint32_t i = 0; i < open->layout_count; i++) {
        rows += open->layout[i].rows;
        if (open->layout[i].ids == NULL) {
            continue;
        }
        for (uint32_t j = 0; j < open->layout[i].rows; j++) {
            RMK_TRY(rmk_runner_check_id(runner, open->layout[i].ids[j], why));
        }
    }
    if (rows != open->prompt_rows) {
        err = rmk_fail(why, RMK_EINVAL, "the layout has %" PRIu64 " rows, the prompt %u", rows,
                       open->prompt_rows);
        goto out;
    }
    uint64_t total = rows + open->gen_length + open->suffix_count;
    if (total == 0) {
        err = rmk_fail(why, RMK_EINVAL, "a request of no rows");
        goto out;
    }
    if (total > runner->options.rows_max) {
        err = rmk_fail(why, RMK_ELIMIT,
                       "prompt, answer and suffix are %" PRIu64 " rows, at most %u fit", total,
                       runner->options.rows_max);
        goto out;
    }
    for (uint32_t i = 0; i < open->suffix_count; i++) {
        RMK_TRY(rmk_runner_check_id(runner, open->suffix[i], why));
    }
out:
    return err;
}

/* The ids of all rows; -1 where features will go, which embeds as zeros. */
static void list_ids(struct rmk_runner *runner, const struct rmk_open *open)
{
    int32_t *id = runner->ids;

    for (uint32_t i = 0; i < open->layout_count; i++) {
        for (uint32_t j = 0; j < open->layout[i].rows; j++) {
            *id++ = open->layout[i].ids != NULL ? open->layout[i].ids[j] : -1;
        }
    }
    for (uint32_t i = 0; i < open->gen_length; i++) {
        *id++ = runner->spec.text.mask_id;
    }
    for (uint32_t i = 0; i < open->suffix_count; i++) {
        *id++ = open->suffix[i];
    }
}

/* Rank 0's rows to everyone, a piece at a time. All ranks see the same bytes and so find the same
 * fault. */
static enum rmk_err broadcast_features(struct rmk_runner *runner, const float *features,
                                       uint32_t rows, float *target, struct rmk_why *why)
{
    struct rmk_device *device = runner->device;
    const size_t d = runner->spec.text.width;
    enum rmk_err err = RMK_OK;

    for (uint32_t done = 0; done < rows; done += RMK_FEATURE_ROWS_AT_ONCE) {
        size_t count =
            (rows - done < RMK_FEATURE_ROWS_AT_ONCE ? rows - done : RMK_FEATURE_ROWS_AT_ONCE) * d;
        if (runner->options.rank == 0) {
            memcpy(runner->features, features + done * d, count * sizeof(float));
        }
        if (runner->exchange.comm != NULL) {
            RMK_TRY(rmk_comm_broadcast(runner->exchange.comm, runner->features,
                                       count * sizeof(float), 0, why));
        }
        for (size_t i = 0; i < count; i++) {
            if (!isfinite(runner->features[i])) {
                err = rmk_fail(why, RMK_EINTERNAL, "row %zu of a picture's features is not finite",
                               done + i / d);
                goto out;
            }
        }
        RMK_TRY(device->ops->upload(device, target + done * d, runner->features,
                                    count * sizeof(float)));
        RMK_TRY(device->ops->synchronize(device, why));
    }
out:
    return err;
}

static enum rmk_err fill_slot(struct rmk_runner *runner, const struct rmk_open *open,
                              struct rmk_why *why)
{
    struct rmk_slot *slot = &runner->slots[open->slot];
    const uint32_t total = open->prompt_rows + open->gen_length + open->suffix_count;
    size_t row = 0;
    enum rmk_err err;

    list_ids(runner, open);
    RMK_TRY(rmk_runner_embed(runner, runner->ids, total, slot->rows, why));
    for (uint32_t i = 0; i < open->layout_count; i++) {
        const struct rmk_layout *layout = &open->layout[i];
        if (layout->ids == NULL) {
            RMK_TRY(broadcast_features(runner, layout->features, layout->rows,
                                       slot->rows + row * runner->spec.text.width, why));
        }
        row += layout->rows;
    }
    /* For guidance. Every open makes it anew: whoever has the mask's shard may have joined since.
     */
    RMK_TRY(rmk_runner_embed(runner, &runner->spec.text.mask_id, 1, runner->mask_row, why));
    slot->rotation = (struct rmk_rotation){.cos = runner->cos, .sin = runner->sin};
    if (rmk_rope_is_stretched(&runner->spec.text, total)) {
        RMK_TRY(upload_tables(runner, total, total, slot->own_cos, slot->own_sin, why));
        slot->rotation = (struct rmk_rotation){.cos = slot->own_cos, .sin = slot->own_sin};
    }
    slot->prompt = open->prompt_rows;
    slot->total = total;
out:
    return err;
}

/* All ranks have the same extents, or none: a rank with less memory than the others says so here.
 */
static enum rmk_err agree_on_room(struct rmk_runner *runner, bool has_room, struct rmk_why *why)
{
    const uint32_t mine = has_room;
    uint32_t all[RMK_TP_RANKS_MAX];
    enum rmk_err err = RMK_OK;

    if (runner->exchange.comm == NULL) {
        goto out;
    }
    RMK_TRY(rmk_comm_all_gather(runner->exchange.comm, &mine, sizeof(mine), all, why));
    for (uint32_t rank = 0; has_room && rank < runner->options.size; rank++) {
        if (all[rank] == 0) {
            err = rmk_fail(why, RMK_ELIMIT, "rank %u has no room to keep what the request needs",
                           rank);
            goto out;
        }
    }
out:
    return err;
}

/* Extents for the request and, under guidance, for its second pass. */
static enum rmk_err reserve_caches(struct rmk_runner *runner, const struct rmk_open *open,
                                   struct rmk_why *why)
{
    struct rmk_slot *slot = &runner->slots[open->slot];
    const uint32_t total = open->prompt_rows + open->gen_length + open->suffix_count;
    const uint32_t passes = !open->kv && !open->feature ? 0 : open->cfg ? 2 : 1;
    enum rmk_err taken = RMK_OK;
    enum rmk_err err = RMK_OK;

    for (uint32_t pass = 0; pass < passes && taken == RMK_OK; pass++) {
        taken = rmk_cache_take(&runner->cache, total, open->feature, &slot->kept[pass], why);
    }
    if (passes > 0) {
        RMK_TRY(agree_on_room(runner, taken == RMK_OK, why));
    }
    err = taken;
out:
    return err;
}

static void release_caches(struct rmk_runner *runner, struct rmk_slot *slot)
{
    rmk_cache_give_back(&runner->cache, &slot->kept[0]);
    rmk_cache_give_back(&runner->cache, &slot->kept[1]);
}

enum rmk_err rmk_runner_open(struct rmk_runner *runner, const struct rmk_open *open,
                             struct rmk_why *why)
{
    enum rmk_err err;

    RMK_TRY(check_open(runner, open, why));
    RMK_TRY(reserve_caches(runner, open, why));
    if (runner->options.rank == 0) {
        for (uint32_t i = 0; i < open->layout_count; i++) {
            rmk_assert(open->layout[i].ids != NULL || open->layout[i].features != NULL ||
                       open->layout[i].rows == 0);
        }
    }
    RMK_TRY(fill_slot(runner, open, why));
out:
    if (err != RMK_OK && open->slot < runner->options.slot_count &&
        runner->slots[open->slot].total == 0) {
        release_caches(runner, &runner->slots[open->slot]);
    }
    if (err != RMK_OK) {
        rmk_device_explain(runner->device, why);
    }
    return err;
}

void rmk_runner_close(struct rmk_runner *runner, uint32_t slot)
{
    if (slot < runner->options.slot_count) {
        runner->slots[slot].total = 0;
        release_caches(runner, &runner->slots[slot]);
    }
}

/* -- forward
 * --------------------------------------------------------------------------------------- */

void rmk_runner_begin(struct rmk_runner *runner)
{
    runner->pass_count = 0;
    runner->row_count = 0;
}

enum rmk_err rmk_runner_gather(struct rmk_runner *runner, const struct rmk_pass *pass,
                               float *target)
{
    struct rmk_device *device = runner->device;
    const struct rmk_slot *slot = pass->slot;
    const uint32_t d = runner->spec.text.width;
    uint32_t own = pass->begin; /* rows from here on are the request's own */
    enum rmk_err err;

    if (pass->uncond && slot->prompt > pass->begin) {
        own = slot->prompt < pass->end ? slot->prompt : pass->end;
        RMK_TRY(device->ops->copy_rows(device, runner->mask_row, runner->zeros, target, NULL,
                                       own - pass->begin, d));
    }
    RMK_TRY(device->ops->copy_rows(device, slot->rows + (size_t)own * d, NULL,
                                   target + (size_t)(own - pass->begin) * d, NULL, pass->end - own,
                                   d));
out:
    return err;
}

enum rmk_err rmk_runner_pack(struct rmk_runner *runner, const struct rmk_pass *pass)
{
    const uint32_t count = pass->end - pass->begin;
    float *stream = rmk_llada_stream(runner->llada);
    enum rmk_err err;

    RMK_TRY(rmk_runner_gather(runner, pass,
                              stream + (size_t)runner->row_count * runner->spec.text.width));
    for (uint32_t i = 0; i < count; i++) {
        runner->positions[runner->row_count + i] = pass->begin + i;
    }
    runner->segments[runner->pass_count] = (struct rmk_segment){
        .row_begin = runner->row_count, .row_count = count, .kv_count = pass->slot->total};
    runner->rotations[runner->pass_count] = pass->slot->rotation;
    runner->kept[runner->pass_count] = pass->keep ? &pass->slot->kept[pass->uncond] : NULL;
    runner->pass_count++;
    runner->row_count += count;
out:
    return err;
}

enum rmk_err rmk_runner_forward(struct rmk_runner *runner, struct rmk_why *why)
{
    const struct rmk_llada_step step = {
        .row_count = runner->row_count,
        .positions = runner->positions,
        .segments = runner->segments,
        .rotations = runner->rotations,
        .segment_count = runner->pass_count,
        .cache = &runner->cache,
        .kept = runner->kept,
    };

    return rmk_llada_forward(runner->llada, &step, &runner->exchange, why);
}
