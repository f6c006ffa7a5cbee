#include <stdio.h>
#include <stdlib.h>

#include "cli/bench.h"
#include "cli/client.h"
#include "cli/json_text.h"
#include "common/rpc/rpc.h"

enum { STATUS_COUNT = 17 };

static int by_size(const void *a, const void *b)
{
    const uint64_t left = *(const uint64_t *)a;
    const uint64_t right = *(const uint64_t *)b;

    return (left > right) - (left < right);
}

/* The smallest value that at least so many in a hundred do not exceed. */
static uint64_t percentile(const uint64_t *sorted, size_t count, size_t hundredths)
{
    return sorted[(count * hundredths + 99) / 100 - 1];
}

struct rmk_bench_spread rmk_bench_spread(uint64_t *values, size_t count)
{
    struct rmk_bench_spread spread = {.count = count};
    double sum = 0;

    if (count == 0) {
        return spread;
    }
    qsort(values, count, sizeof(*values), by_size);
    for (size_t i = 0; i < count; i++) {
        sum += (double)values[i];
    }
    spread.p50 = percentile(values, count, 50);
    spread.p90 = percentile(values, count, 90);
    spread.p99 = percentile(values, count, 99);
    spread.most = values[count - 1];
    spread.mean = sum / (double)count;
    return spread;
}

/* ---- sums
 * ------------------------------------------------------------------------------------------- */

enum span { FIRST_COMMIT, FIRST_TEXT, END, QUEUE, ENCODE, COMPUTE, SPANS };

static const char *const span_names[SPANS] = {"first commit", "first text", "end",
                                              "queue",        "encode",     "compute"};
static const char *const span_keys[SPANS] = {"first_commit_ms", "first_text_ms", "end_ms",
                                             "queue_ms",        "encode_ms",     "compute_ms"};

struct summary {
    size_t answered;
    size_t failed;
    size_t failures[STATUS_COUNT];
    struct rmk_bench_spread spans[SPANS];
    double tokens;
    double committed;
    double forwards;
    double refreshes;
    double seconds;
};

static uint64_t span_of(const struct rmk_bench_sample *sample, enum span span)
{
    const uint64_t values[SPANS] = {sample->first_commit_us, sample->first_text_us,
                                    sample->end_us,          sample->queue_us,
                                    sample->encode_us,       sample->compute_us};

    return values[span];
}

static enum rmk_err summarize(const struct rmk_bench_outcome *outcome, struct summary *summary,
                              struct rmk_why *why)
{
    uint64_t *values = calloc(outcome->sample_count + 1, sizeof(*values));

    *summary = (struct summary){.seconds = (double)outcome->span_us / 1e6};
    if (values == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for %zu samples", outcome->sample_count);
    }
    for (size_t i = 0; i < outcome->sample_count; i++) {
        const struct rmk_bench_sample *sample = &outcome->samples[i];

        if (sample->status != RMK_STATUS_OK) {
            const bool known = sample->status > 0 && sample->status < STATUS_COUNT;

            summary->failures[known ? sample->status : RMK_STATUS_UNKNOWN]++;
            summary->failed++;
            continue;
        }
        summary->answered++;
        summary->tokens += sample->tokens;
        summary->committed += sample->committed;
        summary->forwards += sample->forwards;
        summary->refreshes += sample->refreshes;
    }
    for (int span = 0; span < SPANS; span++) {
        size_t count = 0;

        for (size_t i = 0; i < outcome->sample_count; i++) {
            const struct rmk_bench_sample *sample = &outcome->samples[i];
            const bool has_it = span != FIRST_TEXT || sample->first_text_us > 0;

            if (sample->status == RMK_STATUS_OK && has_it) {
                values[count++] = span_of(sample, (enum span)span);
            }
        }
        summary->spans[span] = rmk_bench_spread(values, count);
    }
    free(values);
    return RMK_OK;
}

static double ratio(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}

/* ---- printing
 * --------------------------------------------------------------------------------------- */

static json_t *spread_json(const struct rmk_bench_spread *spread)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:I}", "p50", (double)spread->p50 / 1e3, "p90",
                     (double)spread->p90 / 1e3, "p99", (double)spread->p99 / 1e3, "mean",
                     spread->mean / 1e3, "max", (double)spread->most / 1e3, "count",
                     (json_int_t)spread->count);
}

static json_t *failures_json(const struct summary *summary)
{
    json_t *failures = json_object();

    for (int status = 0; status < STATUS_COUNT; status++) {
        if (summary->failures[status] > 0) {
            (void)json_object_set_new(failures, rmk_status_name(status),
                                      json_integer((json_int_t)summary->failures[status]));
        }
    }
    return failures;
}

static void print_json(const struct rmk_bench_options *options,
                       const struct rmk_bench_outcome *outcome, const struct summary *summary)
{
    const double answered = (double)summary->answered;
    const double images = options->path_count > 0 ? answered : 0;
    json_t *json = json_pack(
        "{s:s, s:I, s:f, s:I, s:I, s:I, s:I, s:o, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o, s:o}",
        "loop", options->rate > 0 ? "open" : "closed", "concurrency",
        (json_int_t)options->concurrency, "rate", options->rate, "connections",
        (json_int_t)options->connection_count, "warmup", (json_int_t)options->warmup_count,
        "answered", (json_int_t)summary->answered, "failed", (json_int_t)summary->failed,
        "failures", failures_json(summary), "seconds", summary->seconds, "requests_per_second",
        ratio(answered, summary->seconds), "images_per_second", ratio(images, summary->seconds),
        "tokens_per_second", ratio(summary->tokens, summary->seconds), "tokens_per_forward",
        ratio(summary->committed, summary->forwards), "forwards_per_request",
        ratio(summary->forwards, answered), "refreshes_per_request",
        ratio(summary->refreshes, answered), "profile", rmk_json_text(outcome->profile), "numerics",
        rmk_json_text(outcome->numerics));

    for (int span = 0; span < SPANS; span++) {
        (void)json_object_set_new(json, span_keys[span], spread_json(&summary->spans[span]));
    }
    rmk_json_print_line(json);
}

static void print_table(const struct summary *summary)
{
    (void)printf("%-14s %11s %11s %11s %11s %11s\n", "milliseconds", "p50", "p90", "p99", "mean",
                 "max");
    for (int span = 0; span < SPANS; span++) {
        const struct rmk_bench_spread *spread = &summary->spans[span];

        (void)printf("%-14s %11.1f %11.1f %11.1f %11.1f %11.1f\n", span_names[span],
                     (double)spread->p50 / 1e3, (double)spread->p90 / 1e3,
                     (double)spread->p99 / 1e3, spread->mean / 1e3, (double)spread->most / 1e3);
    }
}

static void print_text(const struct rmk_bench_options *options,
                       const struct rmk_bench_outcome *outcome, const struct summary *summary)
{
    const double answered = (double)summary->answered;

    if (options->rate > 0) {
        (void)printf("open loop, %g requests a second (seed %llu), at most %llu under way",
                     options->rate, (unsigned long long)options->arrival_seed,
                     (unsigned long long)options->concurrency);
    } else {
        (void)printf("closed loop, %llu under way", (unsigned long long)options->concurrency);
    }
    (void)printf(", %llu connections: %zu answered and %zu failed in %.2f s\n",
                 (unsigned long long)options->connection_count, summary->answered, summary->failed,
                 summary->seconds);
    if (summary->answered == 0) {
        return;
    }
    print_table(summary);
    (void)printf("%.3f requests/s", ratio(answered, summary->seconds));
    if (options->path_count > 0) {
        (void)printf(", %.3f images/s", ratio(answered, summary->seconds));
    }
    (void)printf(", %.1f tokens/s, %.2f tokens per forward, %.1f forwards per request (%.1f over "
                 "every position)\n",
                 ratio(summary->tokens, summary->seconds),
                 ratio(summary->committed, summary->forwards), ratio(summary->forwards, answered),
                 ratio(summary->refreshes, answered));
    (void)printf("profile %s, %s\n", outcome->profile, outcome->numerics);
}

enum rmk_err rmk_bench_print(const struct rmk_bench_options *options,
                             const struct rmk_bench_outcome *outcome, struct rmk_why *why)
{
    struct summary summary;
    enum rmk_err err;

    RMK_TRY(summarize(outcome, &summary, why));
    if (options->json) {
        print_json(options, outcome, &summary);
    } else {
        print_text(options, outcome, &summary);
    }
    (void)fflush(stdout);
    if (summary.failed > 0) {
        (void)fprintf(stderr, "remask bench: %zu requests failed; the first: %s\n", summary.failed,
                      outcome->why.text);
    }
out:
    return err;
}
