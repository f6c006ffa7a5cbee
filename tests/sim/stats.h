/* What seeds reach: counts of what happened, so that a run can say what it has tried and a test can
 * see that nothing is left out. */
#ifndef RMK_TESTS_SIM_STATS_H
#define RMK_TESTS_SIM_STATS_H

#include <stdbool.h>
#include <stdint.h>

#include "coordinator/engine/engine.h"

enum { SIM_RULES = RMK_RULE_LOCAL_LEAP + 1, SIM_CACHES = RMK_CACHE_FEATURE + 1 };

enum sim_stat {
    /* Each request ends in one of these. */
    SIM_END_ANSWERED = 0, /* the oracle's answer, all of it */
    SIM_END_TEXT_STOP,    /* the oracle's answer up to where its client stopped it */
    SIM_END_BEST,         /* at its deadline, with what was decided */
    SIM_END_DEADLINE,
    SIM_END_CANCELLED,
    SIM_END_FULL, /* refused */
    SIM_END_DRAINING,
    SIM_END_TOO_LONG, /* for every group there is, or was when that became known */
    SIM_END_POISONED, /* failed */
    SIM_END_CONDEMNED,
    SIM_END_PICTURE,
    SIM_END_LOSSES,
    SIM_ENDS,

    /* Of those answered. */
    SIM_ANSWERED_RETRIED = SIM_ENDS, /* refused for load at first */
    SIM_ANSWERED_RECOVERED,
    SIM_ANSWERED_REPLAYED,
    SIM_ANSWERED_RESTARTED, /* on another numerics class */
    SIM_ANSWERED_MOVED,     /* ran on several groups */
    SIM_ANSWERED_GUIDED,
    SIM_ANSWERED_PICTURES,
    SIM_ANSWERED_RANDOM, /* random remasking */
    SIM_ANSWERED_STOP,
    SIM_ANSWERED_BATCH, /* the lane */
    SIM_ANSWERED_TENANT_0,
    SIM_ANSWERED_TENANT_1,
    SIM_ANSWERED_TENANT_2,

    SIM_PLANS,
    SIM_PLANS_SHARED, /* several requests */
    SIM_PLANS_MIXED,  /* full forwards beside windows */
    SIM_ROWS_FULL,
    SIM_ROWS_WINDOW,
    SIM_ROWS_FEATURE,
    SIM_ROWS_REPLAY,
    SIM_ROWS_AHEAD,

    SIM_GROUP_LOSSES,
    SIM_VISION_LOSSES,
    SIM_DISSOLVED, /* a plan was not answered in time */
    SIM_PLANS_FAILED,
    SIM_ROWS_GARBLED,
    SIM_PULLS_GARBLED,
    SIM_DUPLICATES,
    SIM_LATE,    /* answers that found nobody at home */
    SIM_EVICTED, /* slots taken from who did not read */

    SIM_SEEDS_1_GROUP,
    SIM_SEEDS_2_GROUPS,
    SIM_SEEDS_3_GROUPS,
    SIM_SEEDS_DRAINED,
    SIM_SEEDS_CALM, /* without one fault */
    SIM_STATS,
};

struct sim_stats {
    uint64_t seeds;
    uint64_t asked;
    uint64_t steps;
    uint64_t faults;
    uint64_t counts[SIM_STATS];
    uint64_t answered[SIM_RULES][SIM_CACHES];
};

void sim_stats_add(struct sim_stats *total, const struct sim_stats *one);
void sim_stats_print(const struct sim_stats *stats);
/* Prints what was never reached; false: something. */
bool sim_stats_complete(const struct sim_stats *stats);

#endif
