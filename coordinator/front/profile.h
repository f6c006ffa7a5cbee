/* Named sets of commit rule and cache. Pure data: what each loses on the demo model, and how that
 * is measured, is in docs/profiles.md; a change here makes that page untrue.
 */
#ifndef RMK_COORDINATOR_FRONT_PROFILE_H
#define RMK_COORDINATOR_FRONT_PROFILE_H

#include <stdbool.h>

#include "coordinator/engine/engine.h"

struct rmk_profile {
    const char *name;
    struct rmk_rule_options rule; /* what its rule does not use is 0; likewise in `cache` */
    struct rmk_cache_options cache;
};

enum {
    RMK_PROFILE_EXACT = 0,
    RMK_PROFILE_BALANCED,
    RMK_PROFILE_FAST,
    RMK_PROFILES,
};

extern const struct rmk_profile rmk_profiles[RMK_PROFILES];

/* In the order of the table, then NULL: choices of a flag. */
extern const char *const rmk_profile_names[RMK_PROFILES + 1];

/* What requests are called that no profile describes. */
#define RMK_PROFILE_CUSTOM "custom"

/* NULL: there is none of that name. */
const struct rmk_profile *rmk_profile_find(const char *name);

/* "exact", "balanced", "fast" or "custom": the profile with just this rule and cache. */
const char *rmk_profile_name_of(const struct rmk_rule_options *rule,
                                const struct rmk_cache_options *cache);

/* The published setting of each rule and cache, for a request that names one without numbers. */
extern const struct rmk_rule_options rmk_profile_rules[RMK_RULE_LOCAL_LEAP + 1];
extern const struct rmk_cache_options rmk_profile_caches[RMK_CACHE_FEATURE + 1];

#endif
