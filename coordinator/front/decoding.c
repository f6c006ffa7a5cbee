#include "coordinator/front/decoding.h"

#include <stddef.h>

#include "coordinator/front/profile.h"

static const char *const rule_names[] = {"QUOTA", "THRESHOLD", "FACTOR", "HIERARCHICAL",
                                         "LOCAL_LEAP"};
static const char *const cache_names[] = {"NONE", "PROMPT", "PREFIX", "DUAL", "FEATURE"};

/* Comparisons are written so that NaN fails them. */

/* A number of the rule or the cache, where the request gives one. */
struct number {
    const char *field;
    double given;
    double *target; /* NULL: the rule or cache in effect has no such number */
    double least;
    double most;
    bool above_least; /* the least itself is not allowed */
};

static enum rmk_err take_number(const struct number *number, const char *kind, const char *name,
                                struct rmk_why *why)
{
    if (number->given == 0) {
        return RMK_OK;
    }
    if (number->target == NULL) {
        return rmk_fail(why, RMK_EINVAL, "sampling.%s: the %s in effect, %s, has no such number",
                        number->field, kind, name);
    }
    if (!(number->given >= number->least && number->given <= number->most)) {
        return rmk_fail(why, RMK_EINVAL, "sampling.%s: is %g, must be %s %g and at most %g",
                        number->field, number->given,
                        number->above_least ? "greater than" : "at least", number->least,
                        number->most);
    }
    *number->target = number->given;
    return RMK_OK;
}

static enum rmk_err take_count(const char *field, uint32_t given, uint32_t most, uint32_t *target,
                               const char *kind, const char *name, struct rmk_why *why)
{
    double value = 0;
    enum rmk_err err;

    RMK_TRY(take_number(&(struct number){.field = field,
                                         .given = given,
                                         .target = target != NULL ? &value : NULL,
                                         .least = 1,
                                         .most = most},
                        kind, name, why));
    if (given != 0) {
        *target = given;
    }
out:
    return err;
}

static enum rmk_err resolve_rule(const struct rmk_ask_decoding *ask,
                                 const struct rmk_rule_options *base, enum rmk_remasking remasking,
                                 struct rmk_rule_options *rule, struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;

    if (ask->rule < 0 || ask->rule > 1 + RMK_RULE_LOCAL_LEAP) {
        return rmk_fail(why, RMK_EINVAL, "sampling.rule: %d is not known", ask->rule);
    }
    *rule = ask->rule == 0 || ask->rule == 1 + (int)base->rule ? *base
                                                               : rmk_profile_rules[ask->rule - 1];

    const enum rmk_rule kind = rule->rule;
    const bool has_tau =
        kind == RMK_RULE_THRESHOLD || kind == RMK_RULE_HIERARCHICAL || kind == RMK_RULE_LOCAL_LEAP;
    const struct number numbers[] = {
        {"threshold", ask->threshold, has_tau ? &rule->tau : NULL, 0, 1, true},
        {"factor", ask->factor, kind == RMK_RULE_FACTOR ? &rule->factor : NULL, 0,
         RMK_GEN_LENGTH_MAX, true},
        {"threshold_low", ask->threshold_low, kind == RMK_RULE_HIERARCHICAL ? &rule->tau_low : NULL,
         0, 1, true},
        {"kappa", ask->kappa, kind == RMK_RULE_LOCAL_LEAP ? &rule->kappa : NULL, 0, 1, true},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        RMK_TRY(take_number(&numbers[i], "rule", rule_names[kind], why));
    }
    RMK_TRY(take_count("reach", ask->reach, RMK_GEN_LENGTH_MAX,
                       kind == RMK_RULE_LOCAL_LEAP ? &rule->reach : NULL, "rule", rule_names[kind],
                       why));
    if (ask->factor_compat && kind != RMK_RULE_FACTOR) {
        return rmk_fail(why, RMK_EINVAL,
                        "sampling.factor_compat: the rule in effect, %s, has no such switch",
                        rule_names[kind]);
    }
    rule->factor_compat = rule->factor_compat || ask->factor_compat;
    if (kind == RMK_RULE_HIERARCHICAL && rule->tau_low > rule->tau) {
        return rmk_fail(why, RMK_EINVAL,
                        "sampling.threshold_low: is %g, must not exceed the threshold %g",
                        rule->tau_low, rule->tau);
    }
    /* A uniform random number says nothing about the guess: it cannot be held against a bar. */
    if (kind != RMK_RULE_QUOTA && remasking != RMK_REMASK_LOW_CONFIDENCE) {
        return rmk_fail(why, RMK_EINVAL,
                        "sampling.rule: %s compares confidences, and with remasking RANDOM there "
                        "are none; use QUOTA",
                        rule_names[kind]);
    }
out:
    return err;
}

static enum rmk_err resolve_cache(const struct rmk_ask_decoding *ask,
                                  const struct rmk_cache_options *base,
                                  struct rmk_cache_options *cache, struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;

    if (ask->cache < 0 || ask->cache > 1 + RMK_CACHE_FEATURE) {
        return rmk_fail(why, RMK_EINVAL, "sampling.cache: %d is not known", ask->cache);
    }
    *cache = ask->cache == 0 || ask->cache == 1 + (int)base->cache
                 ? *base
                 : rmk_profile_caches[ask->cache - 1];

    const enum rmk_cache kind = cache->cache;
    const char *name = cache_names[kind];
    const bool is_feature = kind == RMK_CACHE_FEATURE;
    const bool is_window = !is_feature && kind != RMK_CACHE_NONE;

    RMK_TRY(take_count("refresh_interval", ask->refresh_interval, RMK_STEPS_MAX,
                       is_window ? &cache->refresh_interval : NULL, "cache", name, why));
    RMK_TRY(take_count("prompt_interval", ask->prompt_interval, RMK_STEPS_MAX,
                       is_feature ? &cache->prompt_interval : NULL, "cache", name, why));
    RMK_TRY(take_count("gen_interval", ask->gen_interval, RMK_STEPS_MAX,
                       is_feature ? &cache->gen_interval : NULL, "cache", name, why));
    RMK_TRY(take_number(&(struct number){.field = "transfer_ratio",
                                         .given = ask->transfer_ratio,
                                         .target = is_feature ? &cache->transfer_ratio : NULL,
                                         .least = 0,
                                         .most = 1},
                        "cache", name, why));
out:
    return err;
}

enum rmk_err rmk_decoding_resolve(const struct rmk_ask_decoding *ask,
                                  const struct rmk_profile *server_default,
                                  struct rmk_submit *submit, struct rmk_why *why)
{
    const struct rmk_profile *profile = server_default;
    enum rmk_err err = RMK_OK;

    if (ask->profile != NULL && ask->profile[0] != '\0') {
        profile = rmk_profile_find(ask->profile);
        if (profile == NULL) {
            return rmk_fail(why, RMK_EINVAL,
                            "sampling.profile: %.40s is not known; there are exact, balanced and "
                            "fast",
                            ask->profile);
        }
    }
    if (ask->deadline_policy < 0 || ask->deadline_policy > 1) {
        return rmk_fail(why, RMK_EINVAL, "sampling.deadline_policy: %d is not known",
                        ask->deadline_policy);
    }
    RMK_TRY(resolve_rule(ask, &profile->rule, submit->remasking, &submit->rule, why));
    RMK_TRY(resolve_cache(ask, &profile->cache, &submit->cache, why));
    submit->best_at_deadline = ask->deadline_policy == 1;
out:
    return err;
}
