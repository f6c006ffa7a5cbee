#include "cli/bench.h"

#include <stdio.h>

#include "cli/cli.h"
#include "cli/client.h"

enum { OWN_FLAGS = 7, FLAG_COUNT = OWN_FLAGS + RMK_REQUEST_FLAGS };

static void fill_flags(struct rmk_bench_options *options, struct rmk_config_flag flags[FLAG_COUNT])
{
    const struct rmk_config_flag table[OWN_FLAGS] = {
        {.name = "requests",
         .kind = RMK_CONFIG_UINT,
         .target = &options->request_count,
         .fallback = "64",
         .min = 1,
         .max = 10000000,
         .argument = "N",
         .help = "how many are measured"},
        {.name = "warmup",
         .kind = RMK_CONFIG_UINT,
         .target = &options->warmup_count,
         .fallback = "0",
         .max = 1000000,
         .argument = "N",
         .help = "requests before these, not measured"},
        {.name = "concurrency",
         .kind = RMK_CONFIG_UINT,
         .target = &options->concurrency,
         .fallback = "8",
         .min = 1,
         .max = 65536,
         .argument = "N",
         .help = "requests under way; with --rate, the most there may be"},
        {.name = "rate",
         .kind = RMK_CONFIG_DOUBLE,
         .target = &options->rate,
         .fallback = "0",
         .double_min = 0,
         .double_max = 1e6,
         .argument = "X",
         .help = "open loop: requests a second, at random times; 0: closed loop"},
        {.name = "arrival-seed",
         .kind = RMK_CONFIG_UINT,
         .target = &options->arrival_seed,
         .fallback = "1",
         .argument = "N",
         .help = "of those times"},
        {.name = "connections",
         .kind = RMK_CONFIG_UINT,
         .target = &options->connection_count,
         .fallback = "1",
         .min = 1,
         .max = 1024,
         .argument = "N",
         .help = "over which requests are spread"},
        {.name = "json",
         .kind = RMK_CONFIG_SWITCH,
         .target = &options->json,
         .help = "one line of JSON"},
    };

    for (size_t i = 0; i < OWN_FLAGS; i++) {
        flags[i] = table[i];
    }
    rmk_request_flags(&options->request, flags + OWN_FLAGS);
}

/* As caption ends: nobody there is another matter than some requests that failed. */
static int status_of(const struct rmk_bench_outcome *outcome)
{
    bool failed = false;
    bool reached = false;

    for (size_t i = 0; i < outcome->sample_count; i++) {
        failed = failed || outcome->samples[i].status != RMK_STATUS_OK;
        reached = reached || outcome->samples[i].status != RMK_STATUS_UNAVAILABLE;
    }
    if (!failed) {
        return RMK_EXIT_OK;
    }
    return reached ? RMK_EXIT_FAILURE : RMK_EXIT_UNAVAILABLE;
}

static int run(const struct rmk_bench_options *options)
{
    struct rmk_bench_outcome outcome = {0};
    struct rmk_why why = {0};
    char endpoint[256];
    enum rmk_err err;
    int status;

    err = rmk_bench_load(options,
                         rmk_client_endpoint(options->request.endpoint, options->request.name,
                                             endpoint, sizeof(endpoint)),
                         &outcome, &why);
    if (err == RMK_OK) {
        err = rmk_bench_print(options, &outcome, &why);
    }
    if (err != RMK_OK) {
        (void)fprintf(stderr, "remask bench: %s\n", why.text);
        status = err == RMK_EINVAL ? RMK_EXIT_USAGE : rmk_cli_exit_of(err);
    } else if (outcome.interrupted != 0) {
        (void)fprintf(stderr, "remask bench: interrupted; %zu of %llu requests had ended\n",
                      outcome.sample_count, (unsigned long long)options->request_count);
        status = 128 + outcome.interrupted;
    } else {
        status = status_of(&outcome);
    }
    rmk_bench_outcome_deinit(&outcome);
    return status;
}

int rmk_bench_run(int argc, char **argv)
{
    struct rmk_bench_options options = {0};
    struct rmk_config_flag flags[FLAG_COUNT] = {{0}};
    struct rmk_config config = {
        .program = "remask bench",
        .summary = "Measure a cluster: requests with one of the pictures each, in turn, or without "
                   "pictures; so many\n"
                   "at a time, or at random times (--rate). A picture that was sent lately is not "
                   "encoded again.",
        .operands_name = "[IMAGE…]",
        .flags = flags,
        .flag_count = FLAG_COUNT,
        .operands_max = SIZE_MAX,
    };

    fill_flags(&options, flags);
    int status = rmk_config_load(&config, argc, argv);
    if (status < 0) {
        options.paths = (char *const *)(uintptr_t)config.operands;
        options.path_count = config.operand_count;
        status = run(&options);
    }
    rmk_config_deinit(&config);
    return status;
}
