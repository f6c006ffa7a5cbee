#include "coordinator/engine/rules.h"

#include "common/err.h"

static bool is_finite(double value)
{
    return value - value == 0;
}

/* All of them, best first; how many may commit at all. */
static uint32_t sort_all(struct rmk_guess *guesses, uint32_t count)
{
    return rmk_denoise_select(guesses, count, count);
}

static void swap(struct rmk_guess *a, struct rmk_guess *b)
{
    struct rmk_guess kept = *a;

    *a = *b;
    *b = kept;
}

static uint32_t commit_quota(struct rmk_guess *guesses, uint32_t count,
                             const struct rmk_rule_options *options,
                             const struct rmk_rule_step *step)
{
    (void)options;
    return rmk_denoise_select(
        guesses, count, rmk_denoise_quota(step->block_masks, step->steps_per_block, step->step));
}

/* Fast-dLLM: the best always, and everything else that reaches tau. */
static uint32_t commit_threshold(struct rmk_guess *guesses, uint32_t count,
                                 const struct rmk_rule_options *options,
                                 const struct rmk_rule_step *step)
{
    uint32_t finite = sort_all(guesses, count);
    uint32_t picked = finite > 0 ? 1 : 0;

    (void)step;
    while (picked < finite && guesses[picked].confidence >= options->tau) {
        picked++;
    }
    return picked;
}

/* Fast-dLLM: the n-th best while its confidence >= 1 - factor / (n + 1), the best always. In the
 * published code the last of all commits even when it is the first to fail (`factor_compat`). */
static uint32_t commit_factor(struct rmk_guess *guesses, uint32_t count,
                              const struct rmk_rule_options *options,
                              const struct rmk_rule_step *step)
{
    uint32_t finite = sort_all(guesses, count);
    uint32_t picked = finite > 0 ? 1 : 0;

    (void)step;
    while (picked < finite &&
           guesses[picked].confidence >= 1.0 - options->factor / ((double)picked + 2.0)) {
        picked++;
    }
    if (options->factor_compat && picked > 0 && picked + 1 == finite) {
        picked++;
    }
    return picked;
}

/* dInfer: the best of each run of neighbouring guesses if above tau_low, everything above tau, and
 * the best of all: commits lie apart and disturb each other less. */
static uint32_t commit_hierarchical(struct rmk_guess *guesses, uint32_t count,
                                    const struct rmk_rule_options *options,
                                    const struct rmk_rule_step *step)
{
    bool leads[RMK_RULE_GUESSES_MAX] = {false};
    uint32_t run_best = count;
    uint32_t best = count;
    uint32_t picked = 0;

    (void)step;
    rmk_assert(count <= RMK_RULE_GUESSES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0 && guesses[i].position != guesses[i - 1].position + 1) {
            run_best = count;
        }
        if (!is_finite(guesses[i].confidence)) {
            continue;
        }
        if (run_best == count || guesses[i].confidence > guesses[run_best].confidence) {
            if (run_best != count) {
                leads[run_best] = false;
            }
            run_best = i;
            leads[i] = true;
        }
        if (best == count || guesses[i].confidence > guesses[best].confidence) {
            best = i;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        double confidence = guesses[i].confidence;
        if (is_finite(confidence) && (i == best || confidence > options->tau ||
                                      (leads[i] && confidence > options->tau_low))) {
            swap(&guesses[picked++], &guesses[i]);
        }
    }
    return sort_all(guesses, picked);
}

/* Is `guess` near one of the anchors: commits of the quota that are sure enough? */
static bool is_near(const struct rmk_guess *guess, const struct rmk_guess *anchors, uint32_t count,
                    const struct rmk_rule_options *options)
{
    for (uint32_t i = 0; i < count && anchors[i].confidence >= options->kappa; i++) {
        int64_t away = (int64_t)guess->position - anchors[i].position;
        if ((away < 0 ? -away : away) <= (int64_t)options->reach) {
            return true;
        }
    }
    return false;
}

/* LocalLeap: the quota, then the neighbours that reach tau of each commit that reaches kappa. Who
 * came along is no anchor itself. */
static uint32_t commit_local_leap(struct rmk_guess *guesses, uint32_t count,
                                  const struct rmk_rule_options *options,
                                  const struct rmk_rule_step *step)
{
    uint32_t anchors = commit_quota(guesses, count, options, step);
    uint32_t picked = anchors;

    for (uint32_t i = anchors; i < count && guesses[i].confidence >= options->tau; i++) {
        if (is_finite(guesses[i].confidence) && is_near(&guesses[i], guesses, anchors, options)) {
            swap(&guesses[picked++], &guesses[i]);
        }
    }
    return picked;
}

const struct rmk_rule_entry rmk_rules[RMK_RULE_COUNT] = {
    [RMK_RULE_QUOTA] = {"quota", true, commit_quota},
    [RMK_RULE_THRESHOLD] = {"threshold", false, commit_threshold},
    [RMK_RULE_FACTOR] = {"factor", false, commit_factor},
    [RMK_RULE_HIERARCHICAL] = {"hierarchical", false, commit_hierarchical},
    [RMK_RULE_LOCAL_LEAP] = {"local_leap", true, commit_local_leap},
};
