/* remask bench, its parts: the flags (bench.c), the load (bench_load.c), what it amounts to
 * (bench_report.c).
 *
 *     closed loop: so many requests under way, a new one for each that ends
 *     open loop:   requests at random times (Poisson), whether or not earlier ones have ended;
 * times count from when a request was due, so a queue that grows shows
 */
#ifndef RMK_CLI_BENCH_H
#define RMK_CLI_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/request.h"
#include "common/err.h"

struct rmk_bench_options {
    struct rmk_request_options request;
    char *const *paths; /* of pictures, one a request, in turn; none: text only */
    size_t path_count;
    uint64_t request_count;
    uint64_t warmup_count; /* before, in a closed loop, not counted */
    uint64_t concurrency;  /* closed loop: under way; open loop: at most */
    double rate;           /* open loop: requests a second; 0: closed loop */
    uint64_t arrival_seed;
    uint64_t connection_count;
    bool json;
};

/* One request. Times are durations from when it was due. */
struct rmk_bench_sample {
    int status; /* enum rmk_status; what follows is there when it is OK */
    uint64_t first_commit_us;
    uint64_t first_text_us; /* 0: there was no text */
    uint64_t end_us;
    uint64_t queue_us;
    uint64_t encode_us;
    uint64_t compute_us;
    uint32_t tokens;
    uint32_t forwards;
    uint32_t refreshes;
    double committed;
};

struct rmk_bench_outcome {
    struct rmk_bench_sample *samples; /* [sample_count], those that ended */
    size_t sample_count;
    uint64_t span_us;   /* first beginning to last end */
    struct rmk_why why; /* of the first failure */
    char profile[32];   /* of the last answer */
    char numerics[96];
    int interrupted; /* the signal; 0: none */
};

void rmk_bench_outcome_deinit(struct rmk_bench_outcome *outcome);

/* Run it. Errors: RMK_EINVAL (the endpoint), RMK_ELIMIT. Requests that fail are samples. */
enum rmk_err rmk_bench_load(const struct rmk_bench_options *options, const char *endpoint,
                            struct rmk_bench_outcome *out_outcome, struct rmk_why *why);

/* When request `index` (from 0) is due, in microseconds after the beginning. One call for each, in
 * order: `previous_us` is what the last one returned, 0 at first. */
uint64_t rmk_bench_arrival_us(double rate, uint64_t seed, uint64_t index, uint64_t previous_us);

/* Of `values`, which are sorted in place. All 0 when there are none. Percentiles by nearest rank.
 */
struct rmk_bench_spread {
    uint64_t p50, p90, p99, most;
    double mean;
    size_t count;
};
struct rmk_bench_spread rmk_bench_spread(uint64_t *values, size_t count);

enum rmk_err rmk_bench_print(const struct rmk_bench_options *options,
                             const struct rmk_bench_outcome *outcome, struct rmk_why *why);

#endif
