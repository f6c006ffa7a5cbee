#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/front/decoding.h"
#include "coordinator/front/profile.h"

static const struct rmk_profile *const exact = &rmk_profiles[RMK_PROFILE_EXACT];
static const struct rmk_profile *const balanced = &rmk_profiles[RMK_PROFILE_BALANCED];
static const struct rmk_profile *const fast = &rmk_profiles[RMK_PROFILE_FAST];

static struct rmk_submit resolve(struct rmk_ask_decoding ask, const struct rmk_profile *otherwise)
{
    struct rmk_submit submit = {0};
    struct rmk_why why = {0};

    if (rmk_decoding_resolve(&ask, otherwise, &submit, &why) != RMK_OK) {
        fail_msg("%s", why.text);
    }
    return submit;
}

static const char *name_of(const struct rmk_submit *submit)
{
    return rmk_profile_name_of(&submit->rule, &submit->cache);
}

static void a_request_that_says_nothing_gets_the_servers_profile(void **state)
{
    struct rmk_submit submit = resolve((struct rmk_ask_decoding){0}, exact);

    (void)state;
    assert_string_equal(name_of(&submit), "exact");
    assert_false(submit.best_at_deadline);
    submit = resolve((struct rmk_ask_decoding){.profile = ""}, fast);
    assert_string_equal(name_of(&submit), "fast");
    submit = resolve((struct rmk_ask_decoding){.profile = "balanced"}, fast);
    assert_string_equal(name_of(&submit), "balanced");
    submit = resolve((struct rmk_ask_decoding){.profile = "exact", .deadline_policy = 1}, fast);
    assert_string_equal(name_of(&submit), "exact");
    assert_true(submit.best_at_deadline);
}

static void a_field_overrides_its_part_of_the_profile_alone(void **state)
{
    struct rmk_submit submit =
        resolve((struct rmk_ask_decoding){.profile = "balanced", .threshold = 0.8}, exact);

    (void)state;
    assert_int_equal(submit.rule.rule, RMK_RULE_THRESHOLD);
    assert_true(submit.rule.tau == 0.8);
    assert_int_equal(submit.cache.cache, RMK_CACHE_PROMPT);
    assert_int_equal(submit.cache.refresh_interval, balanced->cache.refresh_interval);
    assert_string_equal(name_of(&submit), "custom");

    submit =
        resolve((struct rmk_ask_decoding){.profile = "fast", .cache = 1 + RMK_CACHE_NONE}, exact);
    assert_int_equal(submit.rule.rule, RMK_RULE_FACTOR);
    assert_true(submit.rule.factor == 1.0);
    assert_int_equal(submit.cache.cache, RMK_CACHE_NONE);

    /* The same rule by name keeps the profile's numbers, another brings its published ones. */
    submit = resolve(
        (struct rmk_ask_decoding){.profile = "balanced", .cache = 1 + RMK_CACHE_PROMPT}, exact);
    assert_int_equal(submit.cache.refresh_interval, balanced->cache.refresh_interval);
    assert_string_equal(name_of(&submit), "balanced");
    submit = resolve((struct rmk_ask_decoding){.cache = 1 + RMK_CACHE_PROMPT}, exact);
    assert_int_equal(submit.cache.refresh_interval, 32);
}

static void explicit_fields_that_amount_to_a_profile_are_called_by_its_name(void **state)
{
    struct rmk_submit submit = resolve(
        (struct rmk_ask_decoding){.rule = 1 + RMK_RULE_QUOTA, .cache = 1 + RMK_CACHE_NONE}, fast);

    (void)state;
    assert_string_equal(name_of(&submit), "exact");
}

static void every_number_reaches_the_engine(void **state)
{
    struct rmk_submit submit = resolve((struct rmk_ask_decoding){.rule = 1 + RMK_RULE_HIERARCHICAL,
                                                                 .threshold = 0.8,
                                                                 .threshold_low = 0.3},
                                       exact);

    (void)state;
    assert_true(submit.rule.tau == 0.8);
    assert_true(submit.rule.tau_low == 0.3);

    submit = resolve(
        (struct rmk_ask_decoding){
            .rule = 1 + RMK_RULE_LOCAL_LEAP, .threshold = 0.5, .kappa = 0.6, .reach = 9},
        exact);
    assert_true(submit.rule.tau == 0.5);
    assert_true(submit.rule.kappa == 0.6);
    assert_int_equal(submit.rule.reach, 9);

    submit = resolve((struct rmk_ask_decoding){.rule = 1 + RMK_RULE_FACTOR,
                                               .factor = 0.25,
                                               .factor_compat = true},
                     exact);
    assert_true(submit.rule.factor == 0.25);
    assert_true(submit.rule.factor_compat);

    submit = resolve((struct rmk_ask_decoding){.cache = 1 + RMK_CACHE_FEATURE,
                                               .prompt_interval = 50,
                                               .gen_interval = 8,
                                               .transfer_ratio = 0.5},
                     exact);
    assert_int_equal(submit.cache.prompt_interval, 50);
    assert_int_equal(submit.cache.gen_interval, 8);
    assert_true(submit.cache.transfer_ratio == 0.5);

    submit = resolve((struct rmk_ask_decoding){.cache = 1 + RMK_CACHE_DUAL, .refresh_interval = 5},
                     exact);
    assert_int_equal(submit.cache.cache, RMK_CACHE_DUAL);
    assert_int_equal(submit.cache.refresh_interval, 5);
}

static void every_bad_field_is_named(void **state)
{
    static const struct {
        struct rmk_ask_decoding ask;
        const char *part;
    } cases[] = {
        {{.profile = "turbo"}, "sampling.profile: turbo is not known"},
        {{.rule = 6}, "sampling.rule: 6 is not known"},
        {{.rule = -1}, "sampling.rule: -1 is not known"},
        {{.cache = 6}, "sampling.cache: 6 is not known"},
        {{.cache = -1}, "sampling.cache: -1 is not known"},
        {{.deadline_policy = 2}, "sampling.deadline_policy: 2 is not known"},
        {{.rule = 2, .threshold = 1.5}, "sampling.threshold: is 1.5, must be greater than 0"},
        {{.rule = 2, .threshold = -0.5}, "sampling.threshold: is -0.5"},
        {{.rule = 2, .threshold = NAN}, "sampling.threshold: is nan"},
        {{.rule = 3, .factor = -1}, "sampling.factor: is -1, must be greater than 0"},
        {{.rule = 3, .factor = INFINITY}, "sampling.factor: is inf"},
        {{.rule = 4, .threshold_low = 2}, "sampling.threshold_low: is 2"},
        {{.rule = 4, .threshold = 0.5}, "sampling.threshold_low: is 0.6, must not exceed the"},
        {{.rule = 5, .kappa = 1.01}, "sampling.kappa: is 1.01"},
        {{.rule = 5, .reach = 1025},
         "sampling.reach: is 1025, must be at least 1 and at most 1024"},
        {{.cache = 2, .refresh_interval = 10000}, "sampling.refresh_interval: is 10000"},
        {{.cache = 5, .prompt_interval = UINT32_MAX}, "sampling.prompt_interval"},
        {{.cache = 5, .gen_interval = 10000}, "sampling.gen_interval"},
        {{.cache = 5, .transfer_ratio = 1.5},
         "sampling.transfer_ratio: is 1.5, must be at least 0"},
        {{.cache = 5, .transfer_ratio = -0.1}, "sampling.transfer_ratio"},
        {{.cache = 5, .transfer_ratio = NAN}, "sampling.transfer_ratio"},
        /* numbers that would have no say */
        {{.threshold = 0.9}, "sampling.threshold: the rule in effect, QUOTA, has no such number"},
        {{.rule = 3, .threshold = 0.9}, "sampling.threshold: the rule in effect, FACTOR"},
        {{.rule = 2, .factor = 1}, "sampling.factor: the rule in effect, THRESHOLD"},
        {{.rule = 2, .threshold_low = 0.1}, "sampling.threshold_low: the rule in effect"},
        {{.rule = 4, .kappa = 0.1}, "sampling.kappa: the rule in effect, HIERARCHICAL"},
        {{.reach = 1}, "sampling.reach: the rule in effect, QUOTA"},
        {{.rule = 2, .factor_compat = true}, "sampling.factor_compat: the rule in effect"},
        {{.refresh_interval = 1}, "sampling.refresh_interval: the cache in effect, NONE"},
        {{.cache = 5, .refresh_interval = 1}, "sampling.refresh_interval: the cache in effect"},
        {{.cache = 2, .prompt_interval = 1}, "sampling.prompt_interval: the cache in effect"},
        {{.cache = 3, .gen_interval = 1}, "sampling.gen_interval: the cache in effect, PREFIX"},
        {{.cache = 4, .transfer_ratio = 0.1}, "sampling.transfer_ratio: the cache in effect, DUAL"},
        {{.cache = 1, .transfer_ratio = NAN}, "sampling.transfer_ratio: the cache in effect"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rmk_submit submit = {0};
        struct rmk_why why = {0};

        assert_int_equal(rmk_decoding_resolve(&cases[i].ask, exact, &submit, &why), RMK_EINVAL);
        if (strstr(why.text, cases[i].part) == NULL) {
            fail_msg("\"%s\" lacks \"%s\"", why.text, cases[i].part);
        }
    }
}

static void rules_that_compare_confidences_need_them(void **state)
{
    struct rmk_submit submit = {.remasking = RMK_REMASK_RANDOM};
    struct rmk_why why = {0};

    (void)state;
    for (int rule = RMK_RULE_THRESHOLD; rule <= RMK_RULE_LOCAL_LEAP; rule++) {
        const struct rmk_ask_decoding ask = {.rule = 1 + rule};

        assert_int_equal(rmk_decoding_resolve(&ask, exact, &submit, &why), RMK_EINVAL);
        assert_non_null(strstr(why.text, "remasking RANDOM"));
    }
    const struct rmk_ask_decoding quota = {.cache = 1 + RMK_CACHE_PROMPT};
    assert_int_equal(rmk_decoding_resolve(&quota, exact, &submit, &why), RMK_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_that_says_nothing_gets_the_servers_profile),
        cmocka_unit_test(a_field_overrides_its_part_of_the_profile_alone),
        cmocka_unit_test(explicit_fields_that_amount_to_a_profile_are_called_by_its_name),
        cmocka_unit_test(every_number_reaches_the_engine),
        cmocka_unit_test(every_bad_field_is_named),
        cmocka_unit_test(rules_that_compare_confidences_need_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
