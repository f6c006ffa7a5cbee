#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/front/profile.h"

static void exact_is_the_official_loop(void **state)
{
    const struct rmk_profile *exact = rmk_profile_find("exact");

    (void)state;
    assert_ptr_equal(exact, &rmk_profiles[RMK_PROFILE_EXACT]);
    assert_int_equal(exact->rule.rule, RMK_RULE_QUOTA);
    assert_int_equal(exact->cache.cache, RMK_CACHE_NONE);
}

static void every_profile_is_found_by_its_name_and_named_by_its_contents(void **state)
{
    (void)state;
    for (size_t i = 0; i < RMK_PROFILES; i++) {
        const struct rmk_profile *profile = &rmk_profiles[i];

        assert_string_equal(rmk_profile_names[i], profile->name);
        assert_ptr_equal(rmk_profile_find(profile->name), profile);
        assert_string_equal(rmk_profile_name_of(&profile->rule, &profile->cache), profile->name);
    }
    assert_null(rmk_profile_names[RMK_PROFILES]);
    assert_null(rmk_profile_find(""));
    assert_null(rmk_profile_find("Exact"));
    assert_null(rmk_profile_find(RMK_PROFILE_CUSTOM));
}

static void any_other_rule_or_cache_is_custom(void **state)
{
    struct rmk_profile changed = rmk_profiles[RMK_PROFILE_BALANCED];

    (void)state;
    changed.rule.tau = 0.91;
    assert_string_equal(rmk_profile_name_of(&changed.rule, &changed.cache), "custom");
    changed = rmk_profiles[RMK_PROFILE_BALANCED];
    changed.cache.refresh_interval++;
    assert_string_equal(rmk_profile_name_of(&changed.rule, &changed.cache), "custom");
    changed = rmk_profiles[RMK_PROFILE_FAST];
    changed.rule.factor_compat = true;
    assert_string_equal(rmk_profile_name_of(&changed.rule, &changed.cache), "custom");
    changed = rmk_profiles[RMK_PROFILE_EXACT];
    changed.cache.cache = RMK_CACHE_DUAL;
    assert_string_equal(rmk_profile_name_of(&changed.rule, &changed.cache), "custom");
}

/* What a rule or cache does not use is 0, or two equal settings would go by different names. */
static void published_settings_name_themselves(void **state)
{
    (void)state;
    for (int i = 0; i <= RMK_RULE_LOCAL_LEAP; i++) {
        const struct rmk_rule_options *rule = &rmk_profile_rules[i];

        assert_int_equal(rule->rule, i);
        assert_int_equal(rule->tau > 0, i != RMK_RULE_QUOTA && i != RMK_RULE_FACTOR);
        assert_int_equal(rule->factor > 0, i == RMK_RULE_FACTOR);
        assert_int_equal(rule->tau_low > 0, i == RMK_RULE_HIERARCHICAL);
        assert_int_equal(rule->kappa > 0, i == RMK_RULE_LOCAL_LEAP);
        assert_int_equal(rule->reach > 0, i == RMK_RULE_LOCAL_LEAP);
    }
    for (int i = 0; i <= RMK_CACHE_FEATURE; i++) {
        const struct rmk_cache_options *cache = &rmk_profile_caches[i];

        assert_int_equal(cache->cache, i);
        assert_int_equal(cache->refresh_interval > 0, i == RMK_CACHE_PROMPT);
        assert_int_equal(cache->prompt_interval > 0, i == RMK_CACHE_FEATURE);
        assert_int_equal(cache->gen_interval > 0, i == RMK_CACHE_FEATURE);
        assert_int_equal(cache->transfer_ratio > 0, i == RMK_CACHE_FEATURE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_is_the_official_loop),
        cmocka_unit_test(every_profile_is_found_by_its_name_and_named_by_its_contents),
        cmocka_unit_test(any_other_rule_or_cache_is_custom),
        cmocka_unit_test(published_settings_name_themselves),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
