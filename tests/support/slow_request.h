/* A request run by tests/support/slow_llada.h, row by row as the runner takes them. */
#ifndef RMK_TESTS_SUPPORT_SLOW_REQUEST_H
#define RMK_TESTS_SUPPORT_SLOW_REQUEST_H

#include "tests/support/slow_llada.h"
#include "tests/support/text_runs.h"

struct slow_request {
    const struct rmk_text_spec *spec;
    uint32_t prompt;
    uint32_t total;
    int32_t ids[2][SLOW_ROWS]; /* of the request, and of its guidance pass */
    struct slow_cache *caches;
};

static inline void slow_begin(struct slow_request *slow, const struct rmk_text_spec *spec,
                              uint32_t salt, uint32_t prompt, uint32_t total)
{
    *slow = (struct slow_request){.spec = spec, .prompt = prompt, .total = total};
    for (uint32_t i = 0; i < total; i++) {
        slow->ids[0][i] = i < prompt ? text_prompt_id(salt, i) : spec->mask_id;
        slow->ids[1][i] = spec->mask_id;
    }
    slow->caches = calloc(2, sizeof(*slow->caches));
    assert_non_null(slow->caches);
}

static inline void slow_end(struct slow_request *slow)
{
    free(slow->caches);
}

/* The row's updates and forward; its guesses. */
static inline void slow_run(struct slow_request *slow, const struct rmk_row *row,
                            struct rmk_read *out)
{
    static struct slow_row x[2][SLOW_ROWS];
    const bool window = row->kind == RMK_ROW_WINDOW;
    const struct slow_step step = {.begin = window ? row->window_begin : 0,
                                   .end = window ? row->window_end : slow->total,
                                   .total = slow->total,
                                   .feature = row->kind == RMK_ROW_FEATURE,
                                   .prompt = slow->prompt,
                                   .refresh_prompt = row->refresh_prompt,
                                   .refresh_gen = row->refresh_gen,
                                   .ratio = row->transfer_ratio};

    for (uint32_t i = 0; i < row->update_count; i++) {
        slow->ids[0][row->updates[i].position] = row->updates[i].id;
        if (row->updates[i].position >= slow->prompt) {
            slow->ids[1][row->updates[i].position] = row->updates[i].id;
        }
    }
    for (uint32_t pass = 0; pass < (row->cfg_scale > 0 ? 2u : 1u); pass++) {
        for (uint32_t t = 0; t < slow->total; t++) {
            slow_embed(slow->spec, slow->ids[pass][t], &x[pass][t]);
        }
        slow_forward(slow->spec, x[pass], &slow->caches[pass], &step);
    }
    for (uint32_t i = 0; i < row->read_count; i++) {
        double cond[SLOW_VOCAB];
        double uncond[SLOW_VOCAB];
        int32_t best = -1;
        double sum = 0;
        slow_logits(slow->spec, &x[0][row->reads[i]], cond);
        slow_logits(slow->spec, &x[1][row->reads[i]], uncond);
        for (int32_t id = 0; id < (int32_t)slow->spec->vocab; id++) {
            if (row->cfg_scale > 0) {
                cond[id] = uncond[id] + ((double)row->cfg_scale + 1) * (cond[id] - uncond[id]);
            }
            if (id != 0 && id != 1 && id != 26) { /* suppressed */
                best = best < 0 || cond[id] > cond[best] ? id : best;
                sum += exp(cond[id]);
            }
        }
        out[i] = (struct rmk_read){.token = best, .confidence = exp(cond[best]) / sum};
    }
}

/* The largest relative difference of a confidence. */
static inline double slow_difference(const struct rmk_read *ours, const struct rmk_read *slow,
                                     uint32_t count)
{
    double worst = 0;

    for (uint32_t i = 0; i < count; i++) {
        worst = fmax(worst, fabs(ours[i].confidence / slow[i].confidence - 1));
    }
    return worst;
}

#endif
