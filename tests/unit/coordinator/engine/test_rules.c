/* Tables worked out by hand from the published definitions. */
#include "coordinator/engine/rules.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum {
    GUESSES = 8,
};

/* Confidences of positions 0, 1, 2, … (NaN: not a guess at all), and the positions that commit, in
 * order; -1 ends both. */
struct table {
    const char *what;
    struct rmk_rule_options options;
    struct rmk_rule_step step;
    double confidences[GUESSES];
    int32_t expected[GUESSES];
};

#define GONE NAN

static void check(const struct table *table)
{
    struct rmk_guess guesses[GUESSES];
    uint32_t count = 0;
    uint32_t expected = 0;

    for (int32_t i = 0; i < GUESSES && table->confidences[i] != -1; i++) {
        if (!isnan(table->confidences[i])) {
            guesses[count++] = (struct rmk_guess){i, 100 + i, table->confidences[i]};
        }
    }
    uint32_t picked =
        rmk_rules[table->options.rule].commit(guesses, count, &table->options, &table->step);
    while (expected < GUESSES && table->expected[expected] != -1) {
        expected++;
    }
    bool same = picked == expected;
    for (uint32_t i = 0; same && i < picked; i++) {
        same = guesses[i].position == table->expected[i] &&
               guesses[i].token == 100 + table->expected[i];
    }
    if (!same) {
        fail_msg("%s: %u committed, the first is %d", table->what, picked,
                 picked > 0 ? guesses[0].position : -1);
    }
}

static void threshold_takes_the_best_and_all_that_reach_tau(void **state)
{
    static const struct rmk_rule_options tau_09 = {.rule = RMK_RULE_THRESHOLD, .tau = 0.9};
    const struct table tables[] = {
        {"the best though it is below", tau_09, {0}, {0.1, 0.5, 0.3, -1}, {1, -1}},
        {"all that reach tau", tau_09, {0}, {0.95, 0.2, 0.9, 0.99, 0.89, -1}, {3, 0, 2, -1}},
        {"equal ones, the lower position first", tau_09, {0}, {0.95, 0.95, -1}, {0, 1, -1}},
        {"what is not finite never", tau_09, {0}, {INFINITY, -INFINITY, 0.2, -1}, {2, -1}},
        {"nothing finite", tau_09, {0}, {INFINITY, -INFINITY, -1}, {-1}},
        {"nothing at all", tau_09, {0}, {-1}, {-1}},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(tables); i++) {
        check(&tables[i]);
    }
}

/* Factor 1: the n-th needs 1 - 1/(n+1): 2nd 2/3, 3rd 3/4, 4th 4/5. */
static void factor_asks_more_of_each_further_one(void **state)
{
    static const struct rmk_rule_options clean = {.rule = RMK_RULE_FACTOR, .factor = 1.0};
    static const struct rmk_rule_options compat = {
        .rule = RMK_RULE_FACTOR, .factor = 1.0, .factor_compat = true};
    static const struct rmk_rule_options half = {.rule = RMK_RULE_FACTOR, .factor = 0.5};
    const struct table tables[] = {
        {"the first always", clean, {0}, {0.1, 0.05, -1}, {0, -1}},
        {"0.7 is enough for the second, 0.7 not for the third",
         clean,
         {0},
         {0.7, 0.7, 0.7, 0.7, -1},
         {0, 1, -1}},
        {"a failure ends it though later ones could not pass either",
         clean,
         {0},
         {0.99, 0.6, 0.5, -1},
         {0, -1}},
        {"none fails", clean, {0}, {0.9, 0.9, 0.9, 0.9, -1}, {0, 1, 2, 3, -1}},
        {"exactly at the bound", half, {0}, {0.9, 1.0 - 0.5 / 3.0, -1}, {0, 1, -1}},
        {"compat: the last one commits when it is the first to fail",
         compat,
         {0},
         {0.9, 0.8, 0.1, -1},
         {0, 1, 2, -1}},
        {"clean: it does not", clean, {0}, {0.9, 0.8, 0.1, -1}, {0, 1, -1}},
        {"compat: not when another one fails first", compat, {0}, {0.9, 0.2, 0.1, -1}, {0, -1}},
        {"compat: one alone", compat, {0}, {0.3, -1}, {0, -1}},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(tables); i++) {
        check(&tables[i]);
    }
}

static void hierarchical_takes_the_best_of_each_run(void **state)
{
    static const struct rmk_rule_options options = {
        .rule = RMK_RULE_HIERARCHICAL, .tau = 0.9, .tau_low = 0.6};
    const struct table tables[] = {
        {"one run: its best only", options, {0}, {0.7, 0.8, 0.7, -1}, {1, -1}},
        {"two runs", options, {0}, {0.7, 0.8, GONE, 0.65, 0.61, -1}, {1, 3, -1}},
        {"a run whose best is not above tau_low",
         options,
         {0},
         {0.7, GONE, 0.6, 0.2, GONE, 0.1, -1},
         {0, -1}},
        {"above tau besides the best of the run",
         options,
         {0},
         {0.95, 0.92, 0.9, GONE, 0.3, -1},
         {0, 1, -1}},
        {"the best of all though nothing is sure", options, {0}, {0.1, GONE, 0.2, -1}, {2, -1}},
        {"equal in a run: the lower position", options, {0}, {0.8, 0.8, -1}, {0, -1}},
        {"not finite: no best, but no end of the run",
         options,
         {0},
         {0.7, INFINITY, 0.8, -1},
         {2, -1}},
        {"a better one further on takes the lead back",
         options,
         {0},
         {0.7, 0.75, 0.8, GONE, 0.65, 0.89, -1},
         {5, 2, -1}},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(tables); i++) {
        check(&tables[i]);
    }
}

static void local_leap_adds_sure_neighbours_of_sure_commits(void **state)
{
    static const struct rmk_rule_options options = {
        .rule = RMK_RULE_LOCAL_LEAP, .tau = 0.75, .kappa = 0.9, .reach = 2};
    static const struct rmk_rule_step one = {.block_masks = 8, .steps_per_block = 8, .step = 0};
    static const struct rmk_rule_step two = {.block_masks = 8, .steps_per_block = 4, .step = 0};
    const struct table tables[] = {
        {"both sides within reach",
         options,
         one,
         {0.8, 0.8, 0.8, 0.95, 0.76, 0.75, 0.8, -1},
         {3, 1, 2, 4, 5, -1}},
        {"neighbours below tau stay", options, one, {0.74, 0.95, 0.7, -1}, {1, -1}},
        {"a commit that is not sure leads nobody", options, one, {0.8, 0.85, 0.8, -1}, {1, -1}},
        {"who came along is no anchor", options, one, {0.99, 0.3, 0.95, 0.3, 0.94, -1}, {0, 2, -1}},
        {"two anchors",
         options,
         two,
         {0.99, 0.8, GONE, GONE, GONE, 0.8, 0.95, -1},
         {0, 6, 1, 5, -1}},
        {"not finite", options, one, {INFINITY, 0.95, -1}, {1, -1}},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(tables); i++) {
        check(&tables[i]);
    }
}

static void the_quota_looks_at_nothing_but_the_schedule(void **state)
{
    const struct table table = {"quota",
                                {.rule = RMK_RULE_QUOTA, .tau = 0.1},
                                {.block_masks = 5, .steps_per_block = 2, .step = 0},
                                {0.1, 0.9, 0.2, 0.9, 0.3, -1},
                                {1, 3, 4, -1}};

    (void)state;
    check(&table);
    assert_true(rmk_rules[RMK_RULE_QUOTA].scheduled);
    assert_true(rmk_rules[RMK_RULE_LOCAL_LEAP].scheduled);
    assert_false(rmk_rules[RMK_RULE_FACTOR].scheduled);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threshold_takes_the_best_and_all_that_reach_tau),
        cmocka_unit_test(factor_asks_more_of_each_further_one),
        cmocka_unit_test(hierarchical_takes_the_best_of_each_run),
        cmocka_unit_test(local_leap_adds_sure_neighbours_of_sure_commits),
        cmocka_unit_test(the_quota_looks_at_nothing_but_the_schedule),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
