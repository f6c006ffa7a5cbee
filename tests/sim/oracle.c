/* The official loop, straight from the reference specification, section 9, for one request alone on
 * a model that never fails. It shares no code with the engine: what both get wrong in the same way
 * would have to be thought twice. Rules and caches are written a second time too. */
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

/* Best position of those not yet picked whose confidence is finite; L: none. */
static uint32_t find_best(const double *conf, const bool *pick, uint32_t L)
{
    uint32_t best = L;

    for (uint32_t t = 0; t < L; t++) {
        if (isfinite(conf[t]) && !pick[t] && (best == L || conf[t] > conf[best])) {
            best = t;
        }
    }
    return best;
}

static bool pick_best(const double *conf, bool *pick, uint32_t L)
{
    uint32_t best = find_best(conf, pick, L);

    if (best < L) {
        pick[best] = true;
    }
    return best < L;
}

/* Factor rule as published: sorted confidences c_1 …, index of the first failure less one. */
static void pick_by_factor(const struct rmk_rule_options *rule, const double *conf, bool *pick,
                           uint32_t L)
{
    bool sorted[SIM_ROWS_MAX] = {false};
    double c[SIM_ROWS_MAX];
    uint32_t m = 0;

    for (uint32_t best; (best = find_best(conf, sorted, L)) < L; m++) {
        c[m] = conf[best];
        sorted[best] = true;
    }
    uint32_t n = 2; /* from 1; the first always */
    while (n <= m && c[n - 1] >= 1 - rule->factor / (n + 1)) {
        n++;
    }
    uint32_t accepted = n <= m ? n - 1 : m;
    if (rule->factor_compat && n == m) {
        accepted = m;
    }
    while (accepted-- > 0 && pick_best(conf, pick, L)) {
    }
}

static void pick_by_runs(const struct rmk_rule_options *rule, const bool *eligible,
                         const double *conf, bool *pick, uint32_t L)
{
    for (uint32_t begin = 0, end; begin < L; begin = end + 1) {
        bool inside[SIM_ROWS_MAX];
        for (end = begin; end < L && eligible[end]; end++) {
        }
        for (uint32_t t = 0; t < L; t++) {
            inside[t] = t < begin || t >= end; /* as if picked */
        }
        uint32_t best = find_best(conf, inside, L);
        if (best < L && conf[best] > rule->tau_low) {
            pick[best] = true;
        }
    }
    for (uint32_t t = 0; t < L; t++) {
        pick[t] = pick[t] || (isfinite(conf[t]) && conf[t] > rule->tau);
    }
    static const bool nothing[SIM_ROWS_MAX];
    uint32_t best = find_best(conf, nothing, L);
    if (best < L) {
        pick[best] = true;
    }
}

/* Neighbours of the quota's picks. */
static void pick_by_leaps(const struct rmk_rule_options *rule, const double *conf, bool *pick,
                          uint32_t L)
{
    bool anchors[SIM_ROWS_MAX];

    for (uint32_t t = 0; t < L; t++) {
        anchors[t] = pick[t] && conf[t] >= rule->kappa;
    }
    for (uint32_t a = 0; a < L; a++) {
        for (uint32_t t = 0; anchors[a] && t < L; t++) {
            uint32_t away = t > a ? t - a : a - t;
            pick[t] = pick[t] || (isfinite(conf[t]) && away <= rule->reach && conf[t] >= rule->tau);
        }
    }
}

/* `k`: the schedule's number for this step. */
static void choose(const struct rmk_rule_options *rule, uint32_t k, const bool *eligible,
                   const double *conf, bool *pick, uint32_t L)
{
    switch (rule->rule) {
    case RMK_RULE_QUOTA:
    case RMK_RULE_LOCAL_LEAP:
        for (; k > 0 && pick_best(conf, pick, L); k--) {
        }
        if (rule->rule == RMK_RULE_LOCAL_LEAP) {
            pick_by_leaps(rule, conf, pick, L);
        }
        break;
    case RMK_RULE_THRESHOLD:
        (void)pick_best(conf, pick, L);
        for (uint32_t t = 0; t < L; t++) {
            pick[t] = pick[t] || (isfinite(conf[t]) && conf[t] >= rule->tau);
        }
        break;
    case RMK_RULE_FACTOR:
        pick_by_factor(rule, conf, pick, L);
        break;
    case RMK_RULE_HIERARCHICAL:
        pick_by_runs(rule, eligible, conf, pick, L);
        break;
    }
}

/* Forward f of all, i-th of block [lo, hi); `last` had everything computed (-1: none yet). */
static struct sim_pass pass_of(const struct sim_ask *ask, int64_t f, int64_t last, uint32_t i,
                               uint32_t lo, uint32_t hi)
{
    const struct rmk_cache_options *cache = &ask->cache;
    const struct sim_pass full = {.kind = RMK_PLAN_FULL, .keep = true, .end = sim_ask_rows(ask)};
    struct sim_pass pass = full;

    if (cache->cache == RMK_CACHE_FEATURE) {
        pass.kind = RMK_PLAN_FEATURE;
        pass.refresh_prompt = f % cache->prompt_interval == 0;
        pass.refresh_gen = f % cache->gen_interval == 0;
        pass.transfer_ratio = cache->transfer_ratio;
        return pass;
    }
    if (cache->cache == RMK_CACHE_NONE || last < 0 ||
        (cache->refresh_interval > 0 && f >= last + cache->refresh_interval)) {
        return full;
    }
    pass.kind = RMK_PLAN_WINDOW;
    if (cache->cache == RMK_CACHE_PROMPT) {
        pass.begin = ask->prompt_rows;
        return pass;
    }
    if (i == 0) {
        return full;
    }
    pass.begin = lo;
    if (cache->cache == RMK_CACHE_DUAL) {
        pass.end = hi;
    }
    return pass;
}

void sim_oracle(const struct sim_model *model, const struct sim_ask *ask, uint64_t numerics_class,
                struct sim_truth *out_truth)
{
    int32_t X[SIM_ROWS_MAX]; /* also stands for E: a row is its token */
    int32_t x0[SIM_ROWS_MAX];
    double conf[SIM_ROWS_MAX];
    struct sim_kept kept = {0};
    int64_t last = -1;
    uint32_t P = ask->prompt_rows, L = sim_ask_rows(ask),
             S = ask->steps / (ask->gen_length / ask->block_length);
    uint32_t stop_pos = P + ask->gen_length;
    bool found = false;
    bool scheduled = ask->rule.rule == RMK_RULE_QUOTA || ask->rule.rule == RMK_RULE_LOCAL_LEAP;

    *out_truth = (struct sim_truth){0};
    sim_ask_fill(ask, X);
    for (uint32_t b = 0; b < ask->gen_length / ask->block_length; b++) {
        uint32_t lo = P + b * ask->block_length, hi = lo + ask->block_length, n = 0;
        bool more = true;
        if (found && stop_pos <= lo) {
            break;
        }
        for (uint32_t t = lo; t < hi; t++) {
            n += X[t] == SIM_MASK;
        }
        for (uint32_t i = 0; scheduled ? i < S : more; i++) {
            bool eligible[SIM_ROWS_MAX] = {false}, pick[SIM_ROWS_MAX] = {false}, any = false;
            uint32_t k = n / S + (i < n % S ? 1 : 0);
            if ((found && !has_mask(X, P, stop_pos)) || !has_mask(X, lo, hi)) {
                break;
            }
            struct sim_pass pass = pass_of(ask, out_truth->forwards, last, i, lo, hi);
            for (int again = 0; again < 2 && !any; again++) {
                if (again == 1) { /* nothing to be read in the window */
                    pass = (struct sim_pass){.kind = RMK_PLAN_FULL, .keep = true, .end = L};
                }
                for (uint32_t t = 0; t < L - ask->suffix_count; t++) {
                    eligible[t] = X[t] == SIM_MASK && t < (found ? stop_pos : hi) &&
                                  t >= pass.begin && t < pass.end;
                    any = any || eligible[t];
                }
            }
            uint64_t forward =
                sim_model_forward(model, ask, &pass, X, &kept, out_truth->forwards, numerics_class);
            if (sim_model_poisons(model, forward)) {
                out_truth->poisoned = true;
                return;
            }
            if (pass.kind == RMK_PLAN_FULL || (pass.refresh_prompt && pass.refresh_gen)) {
                last = out_truth->forwards;
                out_truth->refreshes++;
            }
            for (uint32_t t = 0; t < L; t++) {
                sim_model_guess(model, forward, t, &x0[t], &conf[t]);
                if (ask->remasking == RMK_REMASK_RANDOM && isfinite(conf[t])) {
                    conf[t] = uniform(ask, out_truth->forwards, t);
                }
                if (!eligible[t] || (!scheduled && x0[t] == SIM_MASK)) {
                    conf[t] = -INFINITY;
                }
            }
            out_truth->forwards++;
            /* Ours: nothing at -inf is ever committed. */
            choose(&ask->rule, k, eligible, conf, pick, L);
            more = false;
            for (uint32_t t = 0; t < L; t++) {
                if (pick[t]) {
                    X[t] = x0[t];
                    more = more || X[t] != SIM_MASK;
                }
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
