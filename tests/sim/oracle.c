/* The official loop, straight from the reference specification, section 9, for one request alone on
 * a model that never fails. It shares no code with the engine: what both get wrong in the same way
 * would have to be thought twice. */
#include <math.h>

#include "tests/sim/sim.h"

/* Uniform number of random remasking: the golden stream, or ours (one mixing each for seed,
 * forward, row). */
static double uniform(const struct sim_ask *ask, uint64_t forward, uint32_t row)
{
    const uint64_t gamma = 0x9E3779B97F4A7C15u;
    uint64_t inputs[3] = {0, (forward + 1) * gamma, (row + UINT64_C(1)) * gamma};
    uint64_t z = ask->seed ^ 0x52656D61736B5244u;
    int first = 0;

    if (ask->golden_noise) {
        z = (ask->seed ^ 0xD1B54A32D192ED03u) + (forward * sim_ask_rows(ask) + row + 1) * gamma;
        first = 2;
        inputs[2] = 0;
    }
    for (int i = first; i < 3; i++) {
        z += inputs[i];
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
        z = (z ^ z >> 27) * 0x94D049BB133111EBu;
        z ^= z >> 31;
    }
    return ask->golden_noise ? ldexp((double)(z >> 40), -24) : ldexp((double)(z >> 11), -53);
}

static bool has_mask(const int32_t *rows, uint32_t begin, uint32_t end)
{
    for (uint32_t t = begin; t < end; t++) {
        if (rows[t] == SIM_MASK) {
            return true;
        }
    }
    return false;
}

/* First place in G where stop j matches entirely, or -1. */
static int find(const struct sim_ask *ask, const int32_t *G, uint32_t j)
{
    for (uint32_t start = 0; start + ask->stop_counts[j] <= ask->gen_length; start++) {
        bool same = true;
        for (uint32_t i = 0; i < ask->stop_counts[j]; i++) {
            same = same && G[start + i] == ask->stop_ids[j][i];
        }
        if (same) {
            return (int)start;
        }
    }
    return -1;
}

void sim_oracle(const struct sim_model *model, const struct sim_ask *ask, uint64_t numerics_class,
                struct sim_truth *out_truth)
{
    int32_t X[SIM_ROWS_MAX]; /* also stands for E: a row is its token */
    int32_t x0[SIM_ROWS_MAX];
    double conf[SIM_ROWS_MAX];
    uint32_t P = ask->prompt_rows, L = sim_ask_rows(ask),
             S = ask->steps / (ask->gen_length / ask->block_length);
    uint32_t stop_pos = P + ask->gen_length;
    bool found = false;

    *out_truth = (struct sim_truth){0};
    sim_ask_fill(ask, X);
    for (uint32_t b = 0; b < ask->gen_length / ask->block_length; b++) {
        uint32_t lo = P + b * ask->block_length, hi = lo + ask->block_length, n = 0;
        if (found && stop_pos <= lo) {
            break;
        }
        for (uint32_t t = lo; t < hi; t++) {
            n += X[t] == SIM_MASK;
        }
        for (uint32_t i = 0; i < S; i++) {
            uint32_t k = n / S + (i < n % S ? 1 : 0);
            if ((found && !has_mask(X, P, stop_pos)) || !has_mask(X, lo, hi)) {
                break;
            }
            uint64_t forward =
                sim_model_forward(model, ask, X, out_truth->forwards, numerics_class);
            if (sim_model_poisons(model, forward)) {
                out_truth->poisoned = true;
                return;
            }
            for (uint32_t t = 0; t < L; t++) {
                sim_model_guess(model, forward, t, &x0[t], &conf[t]);
                if (ask->remasking == RMK_REMASK_RANDOM && isfinite(conf[t])) {
                    conf[t] = uniform(ask, out_truth->forwards, t);
                }
                bool out_of_reach = found ? t >= stop_pos : t >= hi;
                if (out_of_reach || t >= L - ask->suffix_count || X[t] != SIM_MASK) {
                    conf[t] = -INFINITY;
                }
            }
            out_truth->forwards++;
            for (; k > 0; k--) {
                uint32_t best = L;
                for (uint32_t t = 0; t < L; t++) {
                    if (isfinite(conf[t]) && (best == L || conf[t] > conf[best])) {
                        best = t;
                    }
                }
                if (best == L) {
                    break; /* ours: nothing at -inf is ever committed */
                }
                X[best] = x0[best];
                conf[best] = -INFINITY;
            }
            for (uint32_t j = 0; j < ask->stop_count; j++) {
                int pos = find(ask, X + P, j);
                if (pos >= 0 && (!found || P + (uint32_t)pos < stop_pos)) {
                    stop_pos = P + (uint32_t)pos;
                    found = true;
                }
                if (found) {
                    break;
                }
            }
        }
    }
    out_truth->found = found;
    out_truth->count = stop_pos - P;
    for (uint32_t t = P; t < stop_pos; t++) {
        out_truth->ids[t - P] = X[t];
    }
}
