#include "worker/text/memory_plan.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/least.h"
#include "kernels/cuda/sizes.h"
#include "worker/text/rope.h"
#include "worker/text/runner_state.h"
#include "worker/text/weights.h"

/* This rank's widths, as weights.c cuts them. */
struct cut {
    uint64_t query; /* H*Dh */
    uint64_t key;   /* Hk*Dh */
    uint64_t ff;
    uint64_t vocab;
};

static struct cut cut_of(const struct rmk_memory_ask *ask)
{
    const struct rmk_text_spec *text = ask->text;
    const uint32_t kv_heads = rmk_weights_cut(text->kv_head_count, ask->rank, ask->size).count;
    const uint32_t group = text->head_count / text->kv_head_count;

    return (struct cut){
        .query = (uint64_t)kv_heads * group * text->head_width,
        .key = (uint64_t)kv_heads * text->head_width,
        .ff = rmk_weights_cut(text->ff_width, ask->rank, ask->size).count,
        .vocab = rmk_weights_cut(text->vocab, ask->rank, ask->size).count,
    };
}

static uint64_t weights_bytes(const struct rmk_memory_ask *ask, const struct cut *cut)
{
    const struct rmk_text_spec *text = ask->text;
    const uint64_t act = rmk_dtype_bytes(ask->act);
    const uint64_t d = text->width;
    const uint64_t products = d * (2 * cut->query + 2 * cut->key + 3 * cut->ff);
    /* A GPU keeps a bias twice, in fp32 and in the compute type. */
    const uint64_t bias_bytes = ask->cuda ? sizeof(float) + act : sizeof(float);
    const uint64_t biases =
        text->attention_bias ? cut->query + 2 * cut->key + (ask->rank == 0 ? d : 0) : 0;

    return text->layer_count * (products * act + biases * bias_bytes + 2 * d * sizeof(float)) +
           cut->vocab * d * (rmk_dtype_bytes(ask->stored) + act) + d * sizeof(float);
}

/* Rows and, where the model scales dynamically, tables of its own. */
static uint64_t slot_bytes(const struct rmk_memory_ask *ask)
{
    const struct rmk_text_spec *text = ask->text;
    const uint64_t tables =
        rmk_rope_is_stretched(text, ask->rows_max) ? 2 * (uint64_t)(text->head_width / 2) : 0;

    return ask->rows_max * (text->width + tables) * sizeof(float);
}

static uint64_t step_bytes(const struct rmk_memory_ask *ask)
{
    const struct rmk_text_spec *text = ask->text;
    const uint64_t d = text->width;
    const uint64_t head_rows = 2 * (uint64_t)ask->reads_max;
    const uint64_t table = ask->rows_max * (uint64_t)(text->head_width / 2) * sizeof(float);

    return 2 * table + d * sizeof(float)                                     /* mask row */
           + head_rows * d * (2 * sizeof(float) + rmk_dtype_bytes(ask->act)) /* reads */
           + (uint64_t)RMK_UPDATES_AT_ONCE * d * sizeof(float);
}

static uint64_t activations_bytes(const struct rmk_memory_ask *ask, const struct cut *cut)
{
    const uint64_t d = ask->text->width;
    const uint64_t act = rmk_dtype_bytes(ask->act);

    return ask->step_rows_max *
           (2 * d * sizeof(float) + act * (d + 2 * cut->query + 4 * cut->key + 3 * cut->ff));
}

static uint64_t kv_row_bytes(const struct rmk_memory_ask *ask, const struct cut *cut)
{
    return 2 * (uint64_t)ask->text->layer_count * cut->key * rmk_dtype_bytes(ask->act);
}

static uint64_t kernels_bytes(const struct rmk_memory_ask *ask, const struct cut *cut)
{
    if (!ask->cuda) {
        return 0;
    }
    return (uint64_t)RMK_CUDA_STAGING_PARTS * RMK_CUDA_STAGING_PART_BYTES +
           RMK_CUDA_WORKSPACE_BYTES + RMK_CUDA_CONTEXT_BYTES +
           2 * rmk_least(ask->reads_max, RMK_CUDA_HEAD_ROWS) *
               rmk_least(cut->vocab, RMK_CUDA_HEAD_COLUMNS) * sizeof(float) +
           ask->reads_max * sizeof(struct rmk_head_result);
}

uint64_t rmk_memory_plan_cache_bytes(uint64_t memory_bytes, uint32_t sharers)
{
    return memory_bytes / 4 / (sharers > 0 ? sharers : 1);
}

struct rmk_memory_plan rmk_memory_plan_make(const struct rmk_memory_ask *ask)
{
    const struct cut cut = cut_of(ask);
    struct rmk_memory_plan plan = {
        .weights_bytes = weights_bytes(ask, &cut),
        .slots_bytes = ask->slot_count * slot_bytes(ask) + step_bytes(ask),
        .activations_bytes = activations_bytes(ask, &cut),
        .kv_bytes = ask->kv_rows_max * kv_row_bytes(ask, &cut),
        .features_bytes = ask->feature_rows_max * 2 * (uint64_t)ask->text->layer_count *
                          ask->text->width * sizeof(float),
        .kernels_bytes = kernels_bytes(ask, &cut),
        .free_bytes = ask->free_bytes,
        .sharers = ask->sharers > 0 ? ask->sharers : 1,
    };
    if (plan.sharers > 1) { /* the others may not have taken theirs yet */
        plan.free_bytes = rmk_least(plan.free_bytes, ask->memory_bytes / plan.sharers);
    }
    plan.total_bytes = plan.weights_bytes + plan.slots_bytes + plan.activations_bytes +
                       plan.kv_bytes + plan.features_bytes + plan.kernels_bytes;

    const uint64_t others = plan.weights_bytes + step_bytes(ask) + plan.activations_bytes +
                            plan.features_bytes + plan.kernels_bytes;
    const uint64_t each = slot_bytes(ask) + ask->rows_max * kv_row_bytes(ask, &cut);
    plan.slots_that_fit = others < plan.free_bytes ? (plan.free_bytes - others) / each : 0;
    return plan;
}

void rmk_memory_plan_describe(const struct rmk_memory_plan *plan, char *out, size_t capacity)
{
    const double mib = 1024.0 * 1024.0;
    char share[64] = "";

    if (plan->sharers > 1) {
        (void)snprintf(share, sizeof(share), " (the share of 1 rank of %u)", plan->sharers);
    }
    (void)snprintf(out, capacity,
                   "weights %.1f MiB, slots %.1f MiB, activations %.1f MiB, keys and values %.1f "
                   "MiB, features %.1f MiB, kernels %.1f MiB: %.1f of %.1f MiB free%s, %" PRIu64
                   " slots would fit",
                   (double)plan->weights_bytes / mib, (double)plan->slots_bytes / mib,
                   (double)plan->activations_bytes / mib, (double)plan->kv_bytes / mib,
                   (double)plan->features_bytes / mib, (double)plan->kernels_bytes / mib,
                   (double)plan->total_bytes / mib, (double)plan->free_bytes / mib, share,
                   plan->slots_that_fit);
}
