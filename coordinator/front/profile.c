#include "coordinator/front/profile.h"

#include <stddef.h>
#include <string.h>

const struct rmk_profile rmk_profiles[RMK_PROFILES] = {
    [RMK_PROFILE_EXACT] =
        {
            .name = "exact",
            .rule = {.rule = RMK_RULE_QUOTA},
            .cache = {.cache = RMK_CACHE_NONE},
        },
    [RMK_PROFILE_BALANCED] =
        {
            .name = "balanced",
            .rule = {.rule = RMK_RULE_THRESHOLD, .tau = 0.998},
            .cache = {.cache = RMK_CACHE_PROMPT, .refresh_interval = 2},
        },
    [RMK_PROFILE_FAST] =
        {
            .name = "fast",
            .rule = {.rule = RMK_RULE_FACTOR, .factor = 1.0},
            .cache = {.cache = RMK_CACHE_DUAL},
        },
};

const char *const rmk_profile_names[RMK_PROFILES + 1] = {"exact", "balanced", "fast", NULL};

/* Sources in docs/internals/decoding.md. */
const struct rmk_rule_options rmk_profile_rules[RMK_RULE_LOCAL_LEAP + 1] = {
    [RMK_RULE_QUOTA] = {.rule = RMK_RULE_QUOTA},
    [RMK_RULE_THRESHOLD] = {.rule = RMK_RULE_THRESHOLD, .tau = 0.9},
    [RMK_RULE_FACTOR] = {.rule = RMK_RULE_FACTOR, .factor = 1.0},
    [RMK_RULE_HIERARCHICAL] = {.rule = RMK_RULE_HIERARCHICAL, .tau = 0.9, .tau_low = 0.6},
    [RMK_RULE_LOCAL_LEAP] = {.rule = RMK_RULE_LOCAL_LEAP, .tau = 0.75, .kappa = 0.9, .reach = 4},
};

const struct rmk_cache_options rmk_profile_caches[RMK_CACHE_FEATURE + 1] = {
    [RMK_CACHE_NONE] = {.cache = RMK_CACHE_NONE},
    [RMK_CACHE_PROMPT] = {.cache = RMK_CACHE_PROMPT, .refresh_interval = 32},
    [RMK_CACHE_PREFIX] = {.cache = RMK_CACHE_PREFIX},
    [RMK_CACHE_DUAL] = {.cache = RMK_CACHE_DUAL},
    [RMK_CACHE_FEATURE] = {.cache = RMK_CACHE_FEATURE,
                           .prompt_interval = 25,
                           .gen_interval = 7,
                           .transfer_ratio = 0.25},
};

const struct rmk_profile *rmk_profile_find(const char *name)
{
    for (size_t i = 0; i < RMK_PROFILES; i++) {
        if (strcmp(rmk_profiles[i].name, name) == 0) {
            return &rmk_profiles[i];
        }
    }
    return NULL;
}

static bool same_rule(const struct rmk_rule_options *a, const struct rmk_rule_options *b)
{
    return a->rule == b->rule && a->tau == b->tau && a->factor == b->factor &&
           a->factor_compat == b->factor_compat && a->tau_low == b->tau_low &&
           a->kappa == b->kappa && a->reach == b->reach;
}

static bool same_cache(const struct rmk_cache_options *a, const struct rmk_cache_options *b)
{
    return a->cache == b->cache && a->refresh_interval == b->refresh_interval &&
           a->prompt_interval == b->prompt_interval && a->gen_interval == b->gen_interval &&
           a->transfer_ratio == b->transfer_ratio;
}

const char *rmk_profile_name_of(const struct rmk_rule_options *rule,
                                const struct rmk_cache_options *cache)
{
    for (size_t i = 0; i < RMK_PROFILES; i++) {
        if (same_rule(&rmk_profiles[i].rule, rule) && same_cache(&rmk_profiles[i].cache, cache)) {
            return rmk_profiles[i].name;
        }
    }
    return RMK_PROFILE_CUSTOM;
}
