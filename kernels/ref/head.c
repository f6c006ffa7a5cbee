#include <math.h>

#include "kernels/noise.h"
#include "kernels/ref/ref.h"

static bool is_suppressed(const int32_t *ids, uint32_t count, int64_t id)
{
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return false;
}

static float logit_of(const struct rmk_linear *head, const float *x, size_t column)
{
    double sum = rmk_ref_dot(x, head->weight + column * head->k, head->k);

    return (float)(sum + (head->bias != NULL ? (double)head->bias[column] : 0.0));
}

static void sample(const float *logits, uint32_t n, uint32_t vocab_begin, uint32_t vocab_all,
                   const int32_t *suppressed, uint32_t suppressed_count,
                   const struct rmk_head_row *row, struct rmk_head_result *result)
{
    bool noisy = rmk_noise_wanted(row);

    *result = (struct rmk_head_result){.best = -INFINITY, .token = -1, .max = -INFINITY};
    for (uint32_t i = 0; i < n; i++) {
        uint32_t id = vocab_begin + i;
        double logit = (double)logits[i];
        if (is_suppressed(suppressed, suppressed_count, id)) {
            continue;
        }
        if (!isfinite(logit)) {
            result->nonfinite = true;
            continue;
        }
        double value = logit;
        if (noisy) {
            value = rmk_noise_apply(logit, row->temperature, rmk_noise_uniform(row, vocab_all, id));
        }
        if (result->token < 0 || value > result->best) {
            result->best = value;
            result->token = (int32_t)id;
            result->logit = logit;
        }
        result->max = fmax(result->max, logit);
    }
    for (uint32_t i = 0; i < n; i++) {
        double logit = (double)logits[i];
        if (isfinite(logit) &&
            !is_suppressed(suppressed, suppressed_count, vocab_begin + (int64_t)i)) {
            result->sum += exp(logit - result->max);
        }
    }
}

enum rmk_err rmk_ref_head(struct rmk_device *device, const struct rmk_linear *head, const void *x,
                          const void *x_uncond, uint32_t m, uint32_t vocab_begin,
                          uint32_t vocab_all, const int32_t *suppressed_host,
                          uint32_t suppressed_count, const struct rmk_head_row *rows_host,
                          struct rmk_head_result *results_host)
{
    struct rmk_ref *ref = rmk_ref_of(device);

    rmk_assert(head->n <= ref->reserve.vocab);
    for (size_t row = 0; row < m; row++) {
        const float *cond = (const float *)x + row * head->k;
        for (size_t column = 0; column < head->n; column++) {
            float logit = logit_of(head, cond, column);
            if (x_uncond != NULL) {
                float un = logit_of(head, (const float *)x_uncond + row * head->k, column);
                logit = un + (rows_host[row].cfg_scale + 1.0F) * (logit - un);
            }
            ref->logits[column] = logit;
        }
        sample(ref->logits, head->n, vocab_begin, vocab_all, suppressed_host, suppressed_count,
               &rows_host[row], &results_host[row]);
    }
    return RMK_OK;
}
