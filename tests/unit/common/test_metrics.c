#include "common/metrics.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void assert_rendered(struct rmk_metrics *metrics, const char *expected)
{
    size_t size = 0;
    char *text = rmk_metrics_render(metrics, &size);

    assert_non_null(text);
    assert_int_equal(size, strlen(text));
    assert_string_equal(text, expected);
    free(text);
}

static void counters_gauges_and_histograms_render_as_prometheus_text(void **state)
{
    struct rmk_metrics *metrics = rmk_metrics_create();
    static const double bounds[] = {0.1, 1, 2.5};

    (void)state;
    struct rmk_counter *full = rmk_metrics_counter(metrics, "remask_rejected_total", "Refused.",
                                                   (const char *[]){"reason", "full", NULL});
    struct rmk_counter *late =
        rmk_metrics_counter(metrics, "remask_rejected_total", "Refused.",
                            (const char *[]){"reason", "late", "lane", "batch", NULL});
    struct rmk_gauge *open = rmk_metrics_gauge(metrics, "remask_open", "Open.", NULL);
    struct rmk_histogram *seconds = rmk_metrics_histogram(
        metrics, "remask_step_seconds", "Step.", (const char *[]){"group", "0", NULL}, bounds, 3);

    rmk_counter_add(full, 2);
    rmk_counter_add(full, 3);
    rmk_gauge_set(open, 7.5);
    rmk_gauge_add(open, -0.25);
    rmk_histogram_observe(seconds, 0.1); /* a bound belongs to its bucket */
    rmk_histogram_observe(seconds, 0.5);
    rmk_histogram_observe(seconds, 9);
    rmk_histogram_observe(seconds, NAN);
    assert_int_equal(rmk_counter_value(full), 5);
    assert_int_equal(rmk_counter_value(late), 0);
    assert_rendered(metrics, "# HELP remask_rejected_total Refused.\n"
                             "# TYPE remask_rejected_total counter\n"
                             "remask_rejected_total{reason=\"full\"} 5\n"
                             "remask_rejected_total{reason=\"late\",lane=\"batch\"} 0\n"
                             "# HELP remask_open Open.\n"
                             "# TYPE remask_open gauge\n"
                             "remask_open 7.25\n"
                             "# HELP remask_step_seconds Step.\n"
                             "# TYPE remask_step_seconds histogram\n"
                             "remask_step_seconds_bucket{group=\"0\",le=\"0.1\"} 1\n"
                             "remask_step_seconds_bucket{group=\"0\",le=\"1\"} 2\n"
                             "remask_step_seconds_bucket{group=\"0\",le=\"2.5\"} 2\n"
                             "remask_step_seconds_bucket{group=\"0\",le=\"+Inf\"} 3\n"
                             "remask_step_seconds_sum{group=\"0\"} 9.6\n"
                             "remask_step_seconds_count{group=\"0\"} 3\n");
    rmk_metrics_destroy(metrics);
}

static void same_name_and_labels_are_the_same_series(void **state)
{
    struct rmk_metrics *metrics = rmk_metrics_create();

    (void)state;
    struct rmk_counter *a =
        rmk_metrics_counter(metrics, "x_total", "X.", (const char *[]){"role", "text", NULL});
    struct rmk_counter *b =
        rmk_metrics_counter(metrics, "x_total", "X.", (const char *[]){"role", "text", NULL});
    struct rmk_counter *c =
        rmk_metrics_counter(metrics, "x_total", "X.", (const char *[]){"role", "vision", NULL});
    assert_ptr_equal(a, b);
    assert_ptr_not_equal(a, c);
    rmk_metrics_destroy(metrics);
}

static void label_values_are_escaped_and_odd_numbers_are_spelled(void **state)
{
    struct rmk_metrics *metrics = rmk_metrics_create();

    (void)state;
    rmk_gauge_set(rmk_metrics_gauge(metrics, "g", "G.", (const char *[]){"v", "a\"b\\c\nd", NULL}),
                  INFINITY);
    rmk_gauge_set(rmk_metrics_gauge(metrics, "g", "G.", (const char *[]){"v", "n", NULL}), NAN);
    rmk_gauge_set(rmk_metrics_gauge(metrics, "g", "G.", (const char *[]){"v", "b", NULL}),
                  1.0 / 3.0);
    assert_rendered(metrics, "# HELP g G.\n# TYPE g gauge\n"
                             "g{v=\"a\\\"b\\\\c\\nd\"} +Inf\n"
                             "g{v=\"n\"} NaN\n"
                             "g{v=\"b\"} 0.33333333333333331\n");
    rmk_metrics_destroy(metrics);
}

enum { THREADS = 4, ROUNDS = 20000 };

struct shared {
    struct rmk_counter *counter;
    struct rmk_gauge *gauge;
    struct rmk_histogram *histogram;
};

static void *hammer(void *context)
{
    struct shared *shared = context;

    for (int i = 0; i < ROUNDS; i++) {
        rmk_counter_add(shared->counter, 1);
        rmk_gauge_add(shared->gauge, 0.5);
        rmk_histogram_observe(shared->histogram, 1);
    }
    return NULL;
}

static void threads_lose_no_updates(void **state)
{
    struct rmk_metrics *metrics = rmk_metrics_create();
    struct shared shared = {
        .counter = rmk_metrics_counter(metrics, "c_total", "C.", NULL),
        .gauge = rmk_metrics_gauge(metrics, "g", "G.", NULL),
        .histogram = rmk_metrics_histogram(metrics, "h", "H.", NULL, (const double[]){2}, 1),
    };
    pthread_t threads[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, &shared), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_rendered(metrics, "# HELP c_total C.\n# TYPE c_total counter\nc_total 80000\n"
                             "# HELP g G.\n# TYPE g gauge\ng 40000\n"
                             "# HELP h H.\n# TYPE h histogram\n"
                             "h_bucket{le=\"2\"} 80000\nh_bucket{le=\"+Inf\"} 80000\n"
                             "h_sum 80000\nh_count 80000\n");
    rmk_metrics_destroy(metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters_gauges_and_histograms_render_as_prometheus_text),
        cmocka_unit_test(same_name_and_labels_are_the_same_series),
        cmocka_unit_test(label_values_are_escaped_and_odd_numbers_are_spelled),
        cmocka_unit_test(threads_lose_no_updates),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
