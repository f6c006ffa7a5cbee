#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/sim/sim.h"

enum {
    SEED_SECONDS_MAX = 5, /* usually one or two milliseconds */
};

static struct sim world;

/* A broken invariant of the engine ends in abort(): say which seed it was, and end with our own
 * code. */
static void on_crash(int signal_number)
{
    (void)fprintf(stderr, "signal %d\n", signal_number);
    sim_report(&world);
    (void)fflush(stderr);
    _exit(SIM_CRASH);
}

/* A step of the engine that never ends. */
static void on_alarm(int signal_number)
{
    (void)signal_number;
    (void)fprintf(stderr, "a seed takes more than %d seconds\n", SEED_SECONDS_MAX);
    sim_report(&world);
    (void)fflush(stderr);
    _exit(SIM_LIVENESS);
}

static int usage(void)
{
    (void)fprintf(
        stderr,
        "usage: remask-sim --seed 0x… [--count N] [--trace]   N seeds from this one on\n"
        "       remask-sim --seeds FILE [--trace]             every seed of a list\n"
        "         --stats      also say what they have reached\n"
        "         --complete   and fail if anything was never reached\n"
        "       remask-sim --script FILE [--rewrite]          a script against its expected trace\n"
        "exit: 127 crash, 128 liveness, 129 wrong answer, 1 a script's trace differs or something "
        "was never reached\n");
    return 2;
}

static void run_seed(uint64_t seed, bool trace, struct sim_stats *totals)
{
    (void)alarm(SEED_SECONDS_MAX);
    sim_run_seed(seed, trace, &world);
    sim_stats_add(totals, &world.stats);
    if (totals->seeds % 64 == 1) {
        /* The same events give the same actions: now and then, look. */
        uint64_t hash = world.trace_hash;
        sim_run_seed(seed, false, &world);
        if (hash != world.trace_hash) {
            sim_fail(&world, SIM_WRONG, "two runs of one seed differ");
        }
    }
}

static int run_list(const char *path, bool trace, struct sim_stats *totals)
{
    FILE *file = fopen(path, "r");
    char line[256];

    if (file == NULL) {
        (void)fprintf(stderr, "%s: cannot be opened\n", path);
        return 1;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        char *end = line;
        uint64_t seed = strtoull(line, &end, 0);
        if (end != line) {
            run_seed(seed, trace, totals);
        }
    }
    (void)fclose(file);
    return totals->seeds > 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    const char *seeds = NULL;
    const char *script = NULL;
    uint64_t seed = 0;
    uint64_t count = 0;
    bool trace = false;
    bool rewrite = false;
    bool stats = false;
    bool complete = false;
    struct sim_stats totals = {0};
    int result = 0;

    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--seed") == 0 && more) {
            seed = strtoull(argv[++i], NULL, 0);
            count = count == 0 ? 1 : count;
        } else if (strcmp(argv[i], "--count") == 0 && more) {
            count = strtoull(argv[++i], NULL, 0);
        } else if (strcmp(argv[i], "--seeds") == 0 && more) {
            seeds = argv[++i];
        } else if (strcmp(argv[i], "--script") == 0 && more) {
            script = argv[++i];
        } else if (strcmp(argv[i], "--trace") == 0) {
            trace = true;
        } else if (strcmp(argv[i], "--rewrite") == 0) {
            rewrite = true;
        } else if (strcmp(argv[i], "--stats") == 0) {
            stats = true;
        } else if (strcmp(argv[i], "--complete") == 0) {
            stats = true;
            complete = true;
        } else {
            return usage();
        }
    }
    (void)signal(SIGABRT, on_crash);
    (void)signal(SIGSEGV, on_crash);
    (void)signal(SIGALRM, on_alarm);
    if (script != NULL) {
        return sim_run_script(script, rewrite);
    }
    if (seeds == NULL && count == 0) {
        return usage();
    }
    if (seeds != NULL) {
        result = run_list(seeds, trace, &totals);
    }
    for (uint64_t i = 0; i < count; i++) {
        run_seed(seed + i, trace, &totals);
    }
    (void)printf("%llu seeds: %llu requests, %llu answered as the oracle does, %llu engine steps, "
                 "%llu faults\n",
                 (unsigned long long)totals.seeds, (unsigned long long)totals.asked,
                 (unsigned long long)totals.counts[SIM_END_ANSWERED],
                 (unsigned long long)totals.steps, (unsigned long long)totals.faults);
    if (stats) {
        sim_stats_print(&totals);
    }
    if (complete && !sim_stats_complete(&totals)) {
        result = 1;
    }
    return result;
}
