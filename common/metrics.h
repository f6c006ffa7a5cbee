/* Counters, gauges and histograms, and their Prometheus text.
 *
 * Every series is registered by name and fixed labels, normally at start; updating one is an atomic
 * operation from any thread. Label values are ours (roles, reasons, ranks): a string that a client
 * chose never becomes one, so the number of series does not depend on traffic. Registering a
 * malformed name, a second kind under one name, or more than RMK_METRICS_SERIES_MAX series is our
 * own mistake and ends the process.
 *
 *     struct rmk_counter *refused = rmk_metrics_counter(metrics, "remask_rejected_total", "Requests
 * refused at the door.", (const char *[]){"reason", "queue_full", NULL});
 */
#ifndef RMK_COMMON_METRICS_H
#define RMK_COMMON_METRICS_H

#include <stddef.h>
#include <stdint.h>

#define RMK_METRICS_SERIES_MAX  2048
#define RMK_METRICS_BUCKETS_MAX 24

struct rmk_metrics;
struct rmk_counter;
struct rmk_gauge;
struct rmk_histogram;

/* NULL: no memory. */
struct rmk_metrics *rmk_metrics_create(void);
void rmk_metrics_destroy(struct rmk_metrics *metrics);

/* `name` and `help` are kept, not copied. `labels`: name, value, name, value, NULL; copied; or
 * NULL. The same name and labels again give the same series. Series of one name must agree in kind
 * and, for histograms, in bounds. */
struct rmk_counter *rmk_metrics_counter(struct rmk_metrics *metrics, const char *name,
                                        const char *help, const char *const *labels);
struct rmk_gauge *rmk_metrics_gauge(struct rmk_metrics *metrics, const char *name, const char *help,
                                    const char *const *labels);
/* `bounds` ascend; a bucket `le` +Inf is added. */
struct rmk_histogram *rmk_metrics_histogram(struct rmk_metrics *metrics, const char *name,
                                            const char *help, const char *const *labels,
                                            const double *bounds, size_t bound_count);

/* Bounds for latencies in seconds: 1 ms to 300 s. */
extern const double rmk_metrics_seconds[];
extern const size_t rmk_metrics_seconds_count;

void rmk_counter_add(struct rmk_counter *counter, uint64_t count);
uint64_t rmk_counter_value(const struct rmk_counter *counter);
void rmk_gauge_set(struct rmk_gauge *gauge, double value);
void rmk_gauge_add(struct rmk_gauge *gauge, double value);
void rmk_histogram_observe(struct rmk_histogram *histogram, double value);

/* Prometheus text exposition 0.0.4, NUL-terminated; the caller frees it. NULL: no memory. */
char *rmk_metrics_render(struct rmk_metrics *metrics, size_t *out_size);

#endif
