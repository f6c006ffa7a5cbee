#include "tests/sim/stats.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const names[SIM_STATS] = {
    [SIM_END_ANSWERED] = "answered as the oracle does",
    [SIM_END_TEXT_STOP] = "stopped by its client's text, as the oracle up to there",
    [SIM_END_BEST] = "best at the deadline",
    [SIM_END_DEADLINE] = "deadline",
    [SIM_END_CANCELLED] = "cancelled",
    [SIM_END_FULL] = "refused: full",
    [SIM_END_DRAINING] = "refused: draining",
    [SIM_END_TOO_LONG] = "too long for every group",
    [SIM_END_POISONED] = "failed: poisoned",
    [SIM_END_CONDEMNED] = "failed: blamed by a worker",
    [SIM_END_PICTURE] = "failed: bad picture",
    [SIM_END_LOSSES] = "failed: too many losses",
    [SIM_ANSWERED_RETRIED] = "came back after a refusal",
    [SIM_ANSWERED_RECOVERED] = "recovered from a loss",
    [SIM_ANSWERED_REPLAYED] = "rebuilt a cache by replays",
    [SIM_ANSWERED_RESTARTED] = "restarted on another class",
    [SIM_ANSWERED_MOVED] = "ran on several groups",
    [SIM_ANSWERED_GUIDED] = "with guidance",
    [SIM_ANSWERED_PICTURES] = "with pictures",
    [SIM_ANSWERED_RANDOM] = "with random remasking",
    [SIM_ANSWERED_STOP] = "cut at a stop",
    [SIM_ANSWERED_BATCH] = "of the batch lane",
    [SIM_ANSWERED_TENANT_0] = "of tenant 0",
    [SIM_ANSWERED_TENANT_1] = "of tenant 1",
    [SIM_ANSWERED_TENANT_2] = "of tenant 2",
    [SIM_PLANS] = "plans",
    [SIM_PLANS_SHARED] = "of several requests",
    [SIM_PLANS_MIXED] = "of full forwards beside others",
    [SIM_ROWS_FULL] = "full rows",
    [SIM_ROWS_WINDOW] = "window rows",
    [SIM_ROWS_FEATURE] = "feature rows",
    [SIM_ROWS_REPLAY] = "replayed rows",
    [SIM_ROWS_AHEAD] = "rows run ahead",
    [SIM_GROUP_LOSSES] = "groups lost",
    [SIM_VISION_LOSSES] = "vision workers lost",
    [SIM_DISSOLVED] = "groups dissolved",
    [SIM_PLANS_FAILED] = "plans refused by a group",
    [SIM_ROWS_GARBLED] = "rows answered wrongly",
    [SIM_PULLS_GARBLED] = "features damaged on their way",
    [SIM_DUPLICATES] = "messages twice",
    [SIM_LATE] = "answers too late",
    [SIM_EVICTED] = "slots taken from slow readers",
    [SIM_SEEDS_1_GROUP] = "seeds with one group",
    [SIM_SEEDS_2_GROUPS] = "with two",
    [SIM_SEEDS_3_GROUPS] = "with three",
    [SIM_SEEDS_DRAINED] = "drained",
    [SIM_SEEDS_CALM] = "without a fault",
};

static const char *const rules[SIM_RULES] = {
    [RMK_RULE_QUOTA] = "quota",           [RMK_RULE_THRESHOLD] = "threshold",
    [RMK_RULE_FACTOR] = "factor",         [RMK_RULE_HIERARCHICAL] = "hierarchical",
    [RMK_RULE_LOCAL_LEAP] = "local_leap",
};

static const char *const caches[SIM_CACHES] = {
    [RMK_CACHE_NONE] = "none", [RMK_CACHE_PROMPT] = "prompt",   [RMK_CACHE_PREFIX] = "prefix",
    [RMK_CACHE_DUAL] = "dual", [RMK_CACHE_FEATURE] = "feature",
};

void sim_stats_add(struct sim_stats *total, const struct sim_stats *one)
{
    total->seeds += one->seeds;
    total->asked += one->asked;
    total->steps += one->steps;
    total->faults += one->faults;
    for (unsigned i = 0; i < SIM_STATS; i++) {
        total->counts[i] += one->counts[i];
    }
    for (unsigned i = 0; i < SIM_RULES * SIM_CACHES; i++) {
        total->answered[i / SIM_CACHES][i % SIM_CACHES] +=
            one->answered[i / SIM_CACHES][i % SIM_CACHES];
    }
}

void sim_stats_print(const struct sim_stats *stats)
{
    (void)printf("requests, by how they ended:\n");
    for (unsigned i = 0; i < SIM_STATS; i++) {
        if (i == SIM_ANSWERED_RETRIED) {
            (void)printf("of those answered:\n");
        } else if (i == SIM_PLANS) {
            (void)printf("rounds:\n");
        } else if (i == SIM_GROUP_LOSSES) {
            (void)printf("faults and what they led to:\n");
        } else if (i == SIM_SEEDS_1_GROUP) {
            (void)printf("seeds:\n");
        }
        (void)printf("%10" PRIu64 "  %s", stats->counts[i], names[i]);
        if (i < SIM_ENDS && stats->asked > 0) {
            (void)printf(" (%.1f %%)", 100.0 * (double)stats->counts[i] / (double)stats->asked);
        }
        (void)printf("\n");
    }
    (void)printf("answered, by rule and cache:\n%12s", "");
    for (unsigned cache = 0; cache < SIM_CACHES; cache++) {
        (void)printf("%10s", caches[cache]);
    }
    for (unsigned rule = 0; rule < SIM_RULES; rule++) {
        (void)printf("\n%12s", rules[rule]);
        for (unsigned cache = 0; cache < SIM_CACHES; cache++) {
            (void)printf("%10" PRIu64, stats->answered[rule][cache]);
        }
    }
    (void)printf("\n");
}

bool sim_stats_complete(const struct sim_stats *stats)
{
    bool complete = true;

    for (unsigned i = 0; i < SIM_STATS; i++) {
        if (stats->counts[i] == 0) {
            (void)fprintf(stderr, "never reached: %s\n", names[i]);
            complete = false;
        }
    }
    for (unsigned rule = 0; rule < SIM_RULES; rule++) {
        for (unsigned cache = 0; cache < SIM_CACHES; cache++) {
            if (stats->answered[rule][cache] == 0) {
                (void)fprintf(stderr, "never reached: an answer with %s and cache %s\n",
                              rules[rule], caches[cache]);
                complete = false;
            }
        }
    }
    return complete;
}
