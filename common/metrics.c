#include "common/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"

enum kind { COUNTER, GAUGE, HISTOGRAM };

static const char *const kind_names[] = {"counter", "gauge", "histogram"};

enum { LABELS_BYTES_MAX = 512 };

/* The three public types are a series seen through the kind it was registered with. */
struct series {
    struct series *next;
    const struct family *family;
    char *labels; /* `role="text",rank="0"`, or "" */
    _Atomic uint64_t count;
    _Atomic double value; /* gauge, or the sum of a histogram */
    _Atomic uint64_t buckets[RMK_METRICS_BUCKETS_MAX + 1];
};

struct family {
    struct family *next;
    const char *name;
    const char *help;
    enum kind kind;
    double bounds[RMK_METRICS_BUCKETS_MAX];
    size_t bound_count;
    struct series *first;
};

struct rmk_metrics {
    pthread_mutex_t lock; /* registration against rendering; updates need none */
    struct family *first;
    size_t series_count;
};

const double rmk_metrics_seconds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                      1,     2.5,    5,     10,   30,    60,   120, 300};
const size_t rmk_metrics_seconds_count =
    sizeof(rmk_metrics_seconds) / sizeof(rmk_metrics_seconds[0]);

struct rmk_metrics *rmk_metrics_create(void)
{
    struct rmk_metrics *metrics = calloc(1, sizeof(*metrics));

    if (metrics != NULL) {
        (void)pthread_mutex_init(&metrics->lock, NULL);
    }
    return metrics;
}

void rmk_metrics_destroy(struct rmk_metrics *metrics)
{
    if (metrics == NULL) {
        return;
    }
    for (struct family *family = metrics->first, *next; family != NULL; family = next) {
        next = family->next;
        for (struct series *series = family->first, *following; series != NULL;
             series = following) {
            following = series->next;
            free(series->labels);
            free(series);
        }
        free(family);
    }
    (void)pthread_mutex_destroy(&metrics->lock);
    free(metrics);
}

/* ---- registration -------------------------------------------------------------------------- */

static bool is_name(const char *name, const char *extra)
{
    for (const char *at = name; *at != '\0'; at++) {
        bool letter = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || *at == '_';
        bool digit = *at >= '0' && *at <= '9' && at != name;
        if (!letter && !digit && strchr(extra, *at) == NULL) {
            return false;
        }
    }
    return name[0] != '\0';
}

static size_t escape_value(const char *value, char *out, size_t out_size)
{
    size_t size = 0;

    for (; *value != '\0'; value++) {
        rmk_assert(size + 2 < out_size);
        if (*value == '\\' || *value == '"' || *value == '\n') {
            out[size++] = '\\';
        }
        out[size++] = *value == '\n' ? 'n' : *value;
    }
    out[size] = '\0';
    return size;
}

static void print_labels(const char *const *labels, char out[LABELS_BYTES_MAX])
{
    size_t size = 0;

    out[0] = '\0';
    for (; labels != NULL && labels[0] != NULL; labels += 2) {
        char value[LABELS_BYTES_MAX];
        rmk_assert(labels[1] != NULL);
        rmk_assert(is_name(labels[0], ""));
        (void)escape_value(labels[1], value, sizeof(value));
        size += (size_t)snprintf(out + size, LABELS_BYTES_MAX - size, "%s%s=\"%s\"",
                                 size > 0 ? "," : "", labels[0], value);
        rmk_assert(size < LABELS_BYTES_MAX);
    }
}

static struct family *find_family(struct rmk_metrics *metrics, const char *name, const char *help,
                                  enum kind kind, const double *bounds, size_t bound_count)
{
    struct family **link = &metrics->first;

    while (*link != NULL && strcmp((*link)->name, name) != 0) {
        link = &(*link)->next;
    }
    if (*link == NULL) {
        rmk_assert(is_name(name, ":"));
        rmk_assert(bound_count <= RMK_METRICS_BUCKETS_MAX);
        *link = calloc(1, sizeof(**link));
        rmk_assert(*link != NULL);
        (*link)->name = name;
        (*link)->help = help;
        (*link)->kind = kind;
        (*link)->bound_count = bound_count;
        for (size_t i = 0; i < bound_count; i++) {
            rmk_assert(i == 0 || bounds[i] > bounds[i - 1]);
            (*link)->bounds[i] = bounds[i];
        }
    }
    rmk_assert((*link)->kind == kind);
    rmk_assert((*link)->bound_count == bound_count);
    for (size_t i = 0; i < bound_count; i++) {
        rmk_assert((*link)->bounds[i] == bounds[i]);
    }
    return *link;
}

static struct series *find_series(struct rmk_metrics *metrics, const char *name, const char *help,
                                  enum kind kind, const char *const *labels, const double *bounds,
                                  size_t bound_count)
{
    char text[LABELS_BYTES_MAX];
    struct series **link;

    print_labels(labels, text);
    (void)pthread_mutex_lock(&metrics->lock);
    struct family *family = find_family(metrics, name, help, kind, bounds, bound_count);
    link = &family->first;
    while (*link != NULL && strcmp((*link)->labels, text) != 0) {
        link = &(*link)->next;
    }
    if (*link == NULL) {
        rmk_assert(metrics->series_count < RMK_METRICS_SERIES_MAX);
        struct series *series = calloc(1, sizeof(*series));
        rmk_assert(series != NULL);
        series->family = family;
        series->labels = strdup(text);
        rmk_assert(series->labels != NULL);
        *link = series;
        metrics->series_count++;
    }
    struct series *found = *link;
    (void)pthread_mutex_unlock(&metrics->lock);
    return found;
}

struct rmk_counter *rmk_metrics_counter(struct rmk_metrics *metrics, const char *name,
                                        const char *help, const char *const *labels)
{
    return (struct rmk_counter *)find_series(metrics, name, help, COUNTER, labels, NULL, 0);
}

struct rmk_gauge *rmk_metrics_gauge(struct rmk_metrics *metrics, const char *name, const char *help,
                                    const char *const *labels)
{
    return (struct rmk_gauge *)find_series(metrics, name, help, GAUGE, labels, NULL, 0);
}

struct rmk_histogram *rmk_metrics_histogram(struct rmk_metrics *metrics, const char *name,
                                            const char *help, const char *const *labels,
                                            const double *bounds, size_t bound_count)
{
    return (struct rmk_histogram *)find_series(metrics, name, help, HISTOGRAM, labels, bounds,
                                               bound_count);
}

/* ---- updates ------------------------------------------------------------------------------- */

static void add_double(_Atomic double *target, double value)
{
    double old = atomic_load_explicit(target, memory_order_relaxed);

    while (!atomic_compare_exchange_weak_explicit(target, &old, old + value, memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
}

void rmk_counter_add(struct rmk_counter *counter, uint64_t count)
{
    atomic_fetch_add_explicit(&((struct series *)counter)->count, count, memory_order_relaxed);
}

uint64_t rmk_counter_value(const struct rmk_counter *counter)
{
    return atomic_load_explicit(&((const struct series *)counter)->count, memory_order_relaxed);
}

void rmk_gauge_set(struct rmk_gauge *gauge, double value)
{
    atomic_store_explicit(&((struct series *)gauge)->value, value, memory_order_relaxed);
}

void rmk_gauge_add(struct rmk_gauge *gauge, double value)
{
    add_double(&((struct series *)gauge)->value, value);
}

void rmk_histogram_observe(struct rmk_histogram *histogram, double value)
{
    struct series *series = (struct series *)histogram;
    const struct family *family = series->family;
    size_t bucket = 0;

    if (isnan(value)) {
        return; /* it would poison the sum for ever */
    }
    while (bucket < family->bound_count && value > family->bounds[bucket]) {
        bucket++;
    }
    atomic_fetch_add_explicit(&series->buckets[bucket], 1, memory_order_relaxed);
    add_double(&series->value, value);
}

/* ---- Prometheus text ----------------------------------------------------------------------- */

/* The shortest of the two forms that reads back as the same number: 0.1, not 0.10000000000000001.
 */
static const char *print_number(double value, char out[32])
{
    if (isnan(value)) {
        return "NaN";
    }
    if (isinf(value)) {
        return value > 0 ? "+Inf" : "-Inf";
    }
    (void)snprintf(out, 32, "%.15g", value);
    if (strtod(out, NULL) != value) {
        (void)snprintf(out, 32, "%.17g", value);
    }
    return out;
}

static void render_histogram(FILE *out, const struct family *family, const struct series *series)
{
    const char *comma = series->labels[0] != '\0' ? "," : "";
    uint64_t count = 0;
    char number[32];

    for (size_t i = 0; i <= family->bound_count; i++) {
        double bound = i < family->bound_count ? family->bounds[i] : INFINITY;
        count += atomic_load_explicit(&series->buckets[i], memory_order_relaxed);
        (void)fprintf(out, "%s_bucket{%s%sle=\"%s\"} %" PRIu64 "\n", family->name, series->labels,
                      comma, print_number(bound, number), count);
    }
    const char *open = series->labels[0] != '\0' ? "{" : "";
    const char *close = series->labels[0] != '\0' ? "}" : "";
    double sum = atomic_load_explicit(&series->value, memory_order_relaxed);
    (void)fprintf(out, "%s_sum%s%s%s %s\n", family->name, open, series->labels, close,
                  print_number(sum, number));
    (void)fprintf(out, "%s_count%s%s%s %" PRIu64 "\n", family->name, open, series->labels, close,
                  count);
}

static void render_series(FILE *out, const struct family *family, const struct series *series)
{
    char number[32];

    if (family->kind == HISTOGRAM) {
        render_histogram(out, family, series);
        return;
    }
    (void)fputs(family->name, out);
    if (series->labels[0] != '\0') {
        (void)fprintf(out, "{%s}", series->labels);
    }
    if (family->kind == COUNTER) {
        (void)fprintf(out, " %" PRIu64 "\n",
                      atomic_load_explicit(&series->count, memory_order_relaxed));
    } else {
        double value = atomic_load_explicit(&series->value, memory_order_relaxed);
        (void)fprintf(out, " %s\n", print_number(value, number));
    }
}

char *rmk_metrics_render(struct rmk_metrics *metrics, size_t *out_size)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, out_size);

    if (out == NULL) {
        return NULL;
    }
    (void)pthread_mutex_lock(&metrics->lock);
    for (const struct family *family = metrics->first; family != NULL; family = family->next) {
        (void)fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", family->name, family->help, family->name,
                      kind_names[family->kind]);
        for (const struct series *series = family->first; series != NULL; series = series->next) {
            render_series(out, family, series);
        }
    }
    (void)pthread_mutex_unlock(&metrics->lock);
    int failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}
