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
        "       remask-sim --script FILE [--rewrite]          a script against its expected trace\n"
        "exit: 127 crash, 128 liveness, 129 wrong answer, 1 a script's trace differs\n");
    return 2;
}

struct totals {
    uint64_t seeds;
    uint64_t asks;
    uint64_t answers;
    uint64_t steps;
    uint64_t faults;
    uint64_t aheads;
};

static void run_seed(uint64_t seed, bool trace, struct totals *totals)
{
    (void)alarm(SEED_SECONDS_MAX);
    sim_run_seed(seed, trace, &world);
    totals->asks += world.ask_count;
    totals->answers += world.answers;
    totals->steps += world.steps;
    totals->faults += world.faults;
    totals->aheads += world.aheads;
    if (totals->seeds++ % 64 == 0) {
        /* The same events give the same actions: now and then, look. */
        uint64_t hash = world.trace_hash;
        sim_run_seed(seed, false, &world);
        if (hash != world.trace_hash) {
            sim_fail(&world, SIM_WRONG, "two runs of one seed differ");
        }
    }
}

static int run_list(const char *path, bool trace, struct totals *totals)
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
    struct totals totals = {0};
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
                 "%llu faults, %llu forwards run ahead\n",
                 (unsigned long long)totals.seeds, (unsigned long long)totals.asks,
                 (unsigned long long)totals.answers, (unsigned long long)totals.steps,
                 (unsigned long long)totals.faults, (unsigned long long)totals.aheads);
    return result;
}
