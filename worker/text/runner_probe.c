/* For golden comparison: outside the step path, so it may allocate. */
#include "worker/text/runner.h"

#include <stdlib.h>
#include <string.h>

#include "worker/text/runner_state.h"

enum { LOGIT_ROWS_AT_ONCE = 8 };

/* -- for golden comparison
 * -------------------------------------------------------------------------------- */

static enum rmk_err find_open(struct rmk_runner *runner, uint32_t slot, struct rmk_slot **out,
                              struct rmk_why *why)
{
    if (slot >= runner->options.slot_count || runner->slots[slot].total == 0) {
        return rmk_fail(why, RMK_EINVAL, "slot %u is not open", slot);
    }
    *out = &runner->slots[slot];
    return RMK_OK;
}

enum rmk_err rmk_runner_embeddings(struct rmk_runner *runner, uint32_t slot, uint32_t begin,
                                   uint32_t count, float *out, struct rmk_why *why)
{
    struct rmk_device *device = runner->device;
    const size_t d = runner->spec.text.width;
    struct rmk_slot *found = NULL;
    enum rmk_err err;

    RMK_TRY(find_open(runner, slot, &found, why));
    if ((uint64_t)begin + count > found->total) {
        err = rmk_fail(why, RMK_EINVAL, "slot %u has %u rows, not %u from %u", slot, found->total,
                       count, begin);
        goto out;
    }
    RMK_TRY(device->ops->download(device, out, found->rows + begin * d, count * d * sizeof(float)));
out:
    return err;
}

/* Logits of LOGIT_ROWS_AT_ONCE rows: every rank's columns side by side. Shards differ by at most
 * one column, so they travel as wide as the widest. */
static enum rmk_err gather_logits(struct rmk_runner *runner, uint32_t count, uint32_t width,
                                  float *shard_device, float *shard, float *shards, float *out,
                                  struct rmk_why *why)
{
    struct rmk_device *device = runner->device;
    const struct rmk_weights *weights = runner->weights;
    const size_t vocab = runner->spec.text.vocab;
    const size_t n = weights->vocab.count;
    const float *everybodys = shard;
    enum rmk_err err;

    RMK_TRY(device->ops->linear(device, weights->head, runner->head_input, count, shard_device,
                                RMK_F32));
    RMK_TRY(device->ops->download(device, shard, shard_device, count * n * sizeof(float)));
    if (runner->exchange.comm != NULL) {
        RMK_TRY(rmk_comm_all_gather(runner->exchange.comm, shard,
                                    (size_t)count * width * sizeof(float), shards, why));
        everybodys = shards;
    }
    for (uint32_t rank = 0; rank < runner->options.size; rank++) {
        struct rmk_cut cut = rmk_weights_cut((uint32_t)vocab, rank, runner->options.size);
        const float *source = everybodys + (size_t)rank * count * width;
        for (size_t row = 0; row < count; row++) {
            memcpy(out + row * vocab + cut.begin, source + row * cut.count,
                   cut.count * sizeof(float));
        }
    }
out:
    return err;
}

enum rmk_err rmk_runner_logits(struct rmk_runner *runner, uint32_t slot, const uint32_t *positions,
                               uint32_t count, float *out, struct rmk_why *why)
{
    struct rmk_device *device = runner->device;
    const uint32_t width = rmk_weights_cut(runner->spec.text.vocab, 0, runner->options.size).count;
    const size_t shard_bytes = (size_t)LOGIT_ROWS_AT_ONCE * width * sizeof(float);
    const uint32_t at_once = LOGIT_ROWS_AT_ONCE < rmk_runner_head_rows_max(runner)
                                 ? LOGIT_ROWS_AT_ONCE
                                 : rmk_runner_head_rows_max(runner);
    struct rmk_slot *found = NULL;
    void *shard_device = NULL;
    float *shard = NULL;
    float *shards = NULL;
    enum rmk_err err;

    RMK_TRY(rmk_runner_check_group(runner, why));
    RMK_TRY(find_open(runner, slot, &found, why));
    for (uint32_t i = 0; i < count; i++) {
        if (positions[i] >= found->total) {
            err = rmk_fail(why, RMK_EINVAL, "slot %u has %u rows, no position %u", slot,
                           found->total, positions[i]);
            goto out;
        }
    }
    RMK_TRY(device->ops->alloc(device, shard_bytes, &shard_device, why));
    shard = calloc(1, shard_bytes);
    shards = calloc(runner->options.size, shard_bytes);
    if (shard == NULL || shards == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for logits");
        goto out;
    }
    rmk_runner_begin(runner);
    const struct rmk_pass whole = {.slot = found, .end = found->total};
    RMK_TRY(rmk_runner_pack(runner, &whole));
    RMK_TRY(rmk_runner_forward(runner, why));
    for (uint32_t done = 0; done < count; done += at_once) {
        uint32_t piece = count - done < at_once ? count - done : at_once;
        RMK_TRY(rmk_llada_finish(runner->llada, positions + done, piece, runner->gathered,
                                 runner->head_input));
        RMK_TRY(gather_logits(runner, piece, width, shard_device, shard, shards,
                              out + (size_t)done * runner->spec.text.vocab, why));
    }
out:
    if (shard_device != NULL) {
        device->ops->free(device, shard_device);
    }
    free(shard);
    free(shards);
    return err;
}
