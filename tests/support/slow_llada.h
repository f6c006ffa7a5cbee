/* LLaDA with dummy weights, written down once more in double and one row at a time: what
 * worker/text must come to when it recomputes only some rows and takes the rest from earlier
 * forwards. The rules are those of the reference specification, sections 8 and 10. */
#ifndef RMK_TESTS_SUPPORT_SLOW_LLADA_H
#define RMK_TESTS_SUPPORT_SLOW_LLADA_H

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/dummy_model.h"

enum { SLOW_ROWS = 64, SLOW_WIDTH = 64, SLOW_FF = 64, SLOW_LAYERS = 3, SLOW_VOCAB = 64 };

struct slow_row {
    double values[SLOW_WIDTH];
};

/* What is kept of a sequence. */
struct slow_cache {
    struct slow_row k[SLOW_LAYERS][SLOW_ROWS]; /* rotated */
    struct slow_row v[SLOW_LAYERS][SLOW_ROWS];
    struct slow_row attention[SLOW_LAYERS][SLOW_ROWS];
    struct slow_row mlp[SLOW_LAYERS][SLOW_ROWS];
};

/* Which rows of [begin, end) are recomputed in a layer. */
struct slow_step {
    uint32_t begin; /* rows whose residual stream exists */
    uint32_t end;
    uint32_t total;
    bool feature; /* else all of them are recomputed, and nothing but keys and values is kept */
    uint32_t prompt;
    bool refresh_prompt;
    bool refresh_gen;
    double ratio;
};

static inline double slow_weight(const char *name, uint64_t i)
{
    return (double)rmk_dummy_f32(rmk_dummy_seed(DUMMY_SEED, name), i);
}

/* y [n] = W x [k] + b */
static inline void slow_linear(uint32_t layer, const char *part, bool bias, const double *x,
                               uint32_t k, double *y, uint32_t n)
{
    char name[128];
    char bias_name[128];

    (void)snprintf(name, sizeof(name), "model.layers.%u.%s.weight", layer, part);
    (void)snprintf(bias_name, sizeof(bias_name), "model.layers.%u.%s.bias", layer, part);
    for (uint32_t i = 0; i < n; i++) {
        y[i] = bias ? slow_weight(bias_name, i) : 0;
        for (uint32_t j = 0; j < k; j++) {
            y[i] += slow_weight(name, (uint64_t)i * k + j) * x[j];
        }
    }
}

static inline struct slow_row slow_norm(const struct rmk_text_spec *spec, const struct slow_row *x)
{
    struct slow_row y = {{0}};
    double sum = 0;

    for (uint32_t i = 0; i < spec->width; i++) {
        sum += x->values[i] * x->values[i];
    }
    for (uint32_t i = 0; i < spec->width; i++) {
        y.values[i] = x->values[i] / sqrt(sum / spec->width + (double)spec->rms_eps);
    }
    return y;
}

static inline void slow_rotate(const struct rmk_text_spec *spec, uint32_t heads, uint32_t position,
                               double *x)
{
    const uint32_t half = spec->head_width / 2;

    for (uint32_t i = 0; i < heads * half; i++) {
        double *a = x + i / half * spec->head_width + i % half;
        double angle =
            position / pow(spec->rope_theta, 2.0 * (i % half) / (double)spec->head_width);
        double first = a[0] * cos(angle) - a[half] * sin(angle);
        a[half] = a[half] * cos(angle) + a[0] * sin(angle);
        a[0] = first;
    }
}

static inline void slow_attend(const struct rmk_text_spec *spec, const double *q,
                               const struct slow_row *k, const struct slow_row *v, uint32_t total,
                               double *y)
{
    const uint32_t width = spec->head_width;

    for (uint32_t head = 0; head < spec->head_count; head++) {
        uint32_t kv = head / (spec->head_count / spec->kv_head_count) * width;
        double weights[SLOW_ROWS];
        double sum = 0;
        for (uint32_t t = 0; t < total; t++) {
            double score = 0;
            for (uint32_t i = 0; i < width; i++) {
                score += q[head * width + i] * k[t].values[kv + i];
            }
            weights[t] = exp(score / sqrt((double)width));
            sum += weights[t];
        }
        for (uint32_t i = 0; i < width; i++) {
            y[head * width + i] = 0;
            for (uint32_t t = 0; t < total; t++) {
                y[head * width + i] += weights[t] / sum * v[t].values[kv + i];
            }
        }
    }
}

/* Mark the `count` rows of [prompt, total) whose value is least like the kept one. */
static inline void slow_select(const struct rmk_text_spec *spec, uint32_t layer,
                               const struct slow_row *x, const struct slow_cache *cache,
                               const struct slow_step *step, uint32_t count, bool *todo)
{
    const uint32_t width = spec->kv_head_count * spec->head_width;
    double likeness[SLOW_ROWS];

    for (uint32_t t = step->prompt; t < step->total; t++) {
        struct slow_row n = slow_norm(spec, &x[t]);
        const double *old = cache->v[layer][t].values;
        double new[SLOW_WIDTH];
        double dot = 0;
        double a = 0;
        double b = 0;
        slow_linear(layer, "self_attn.v_proj", spec->attention_bias, n.values, spec->width, new,
                    width);
        for (uint32_t i = 0; i < width; i++) {
            dot += new[i] * old[i];
            a += new[i] * new[i];
            b += old[i] * old[i];
        }
        likeness[t] = dot / sqrt(a * b);
        /* fp32 cannot tell these apart: the lowest of them comes first */
        likeness[t] = 1 - likeness[t] < 1e-12 ? 1 : likeness[t];
    }
    while (count-- > 0) {
        uint32_t least = UINT32_MAX;
        for (uint32_t t = step->prompt; t < step->total; t++) {
            least = !todo[t] && (least == UINT32_MAX || likeness[t] < likeness[least]) ? t : least;
        }
        todo[least] = true;
    }
}

/* x [total]: embeddings in, last hidden rows of [begin, end) out. */
static inline void slow_forward(const struct rmk_text_spec *spec, struct slow_row *x,
                                struct slow_cache *cache, const struct slow_step *step)
{
    const bool bias = spec->attention_bias;
    const uint32_t query = spec->head_count * spec->head_width;
    const uint32_t key = spec->kv_head_count * spec->head_width;

    for (uint32_t layer = 0; layer < spec->layer_count; layer++) {
        bool todo[SLOW_ROWS] = {false};
        struct slow_row q[SLOW_ROWS];
        for (uint32_t t = step->begin; t < step->end; t++) {
            todo[t] =
                !step->feature || (t < step->prompt ? step->refresh_prompt : step->refresh_gen);
        }
        if (step->feature && !step->refresh_gen) {
            uint32_t count = (uint32_t)floor((step->total - step->prompt) * step->ratio);
            slow_select(spec, layer, x, cache, step, count, todo);
        }
        for (uint32_t t = step->begin; t < step->end; t++) {
            struct slow_row n = slow_norm(spec, &x[t]);
            if (!todo[t]) {
                continue;
            }
            slow_linear(layer, "self_attn.q_proj", bias, n.values, spec->width, q[t].values, query);
            slow_linear(layer, "self_attn.k_proj", bias, n.values, spec->width,
                        cache->k[layer][t].values, key);
            slow_linear(layer, "self_attn.v_proj", bias, n.values, spec->width,
                        cache->v[layer][t].values, key);
            slow_rotate(spec, spec->head_count, t, q[t].values);
            slow_rotate(spec, spec->kv_head_count, t, cache->k[layer][t].values);
        }
        for (uint32_t t = step->begin; t < step->end; t++) {
            double *attention = cache->attention[layer][t].values;
            double *mlp = cache->mlp[layer][t].values;
            double mixed[SLOW_WIDTH];
            double gate[SLOW_FF];
            double up[SLOW_FF];
            if (todo[t]) {
                slow_attend(spec, q[t].values, cache->k[layer], cache->v[layer], step->total,
                            mixed);
                slow_linear(layer, "self_attn.o_proj", bias, mixed, query, attention, spec->width);
            }
            for (uint32_t i = 0; i < spec->width; i++) {
                x[t].values[i] += attention[i];
            }
            if (todo[t]) {
                struct slow_row n = slow_norm(spec, &x[t]);
                slow_linear(layer, "mlp.gate_proj", false, n.values, spec->width, gate,
                            spec->ff_width);
                slow_linear(layer, "mlp.up_proj", false, n.values, spec->width, up, spec->ff_width);
                for (uint32_t i = 0; i < spec->ff_width; i++) {
                    gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
                }
                slow_linear(layer, "mlp.down_proj", false, gate, spec->ff_width, mlp, spec->width);
            }
            for (uint32_t i = 0; i < spec->width; i++) {
                x[t].values[i] += mlp[i];
            }
        }
    }
}

static inline void slow_embed(const struct rmk_text_spec *spec, int32_t id, struct slow_row *out)
{
    for (uint32_t i = 0; i < spec->width; i++) {
        out->values[i] = slow_weight("model.embed_tokens.weight", (uint64_t)id * spec->width + i);
    }
}

static inline void slow_logits(const struct rmk_text_spec *spec, const struct slow_row *x,
                               double *out)
{
    struct slow_row n = slow_norm(spec, x);

    for (uint32_t id = 0; id < spec->vocab; id++) {
        out[id] = 0;
        for (uint32_t i = 0; i < spec->width; i++) {
            out[id] += slow_weight("lm_head.weight", (uint64_t)id * spec->width + i) * n.values[i];
        }
    }
}

#endif
