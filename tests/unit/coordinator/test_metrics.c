#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/metrics.h"
#include "coordinator/metrics.h"

static char *read_page(void)
{
    FILE *file = fopen("docs/reference/metrics.md", "rbe");
    char *text = calloc(1, 1 << 16);

    assert_non_null(file);
    assert_true(fread(text, 1, (1 << 16) - 1, file) > 0);
    (void)fclose(file);
    return text;
}

static char *render(struct rmk_metrics **out_registry)
{
    struct rmk_coordinator_metrics metrics;
    size_t size;

    *out_registry = rmk_metrics_create();
    rmk_coordinator_metrics_init(&metrics, *out_registry);
    rmk_coordinator_metrics_tenant(&metrics, 1, "team-a");
    rmk_coordinator_metrics_tenant(&metrics, 1, "team-a"); /* after a reload */
    return rmk_metrics_render(*out_registry, &size);
}

static void every_series_is_on_the_page_and_the_page_has_no_others(void **state)
{
    struct rmk_metrics *registry;
    char *text = render(&registry);
    char *page = read_page();
    unsigned registered = 0, described = 0;

    (void)state;
    for (const char *line = strstr(text, "# HELP "); line != NULL;
         line = strstr(line + 1, "# HELP ")) {
        char row[512];
        const char *name = line + strlen("# HELP ");

        (void)snprintf(row, sizeof(row), "| `%.*s` |", (int)strcspn(name, " "), name);
        if (strstr(page, row) == NULL) {
            fail_msg("docs/reference/metrics.md lacks %s", row);
        }
        registered++;
    }
    for (const char *row = strstr(page, "\n| `"); row != NULL; row = strstr(row + 1, "\n| `")) {
        described++;
    }
    assert_true(registered > 40);
    assert_int_equal(described, registered);
    free(text);
    free(page);
    rmk_metrics_destroy(registry);
}

static void the_engines_sums_are_copied_not_added_up(void **state)
{
    struct rmk_metrics *registry = rmk_metrics_create();
    struct rmk_coordinator_metrics metrics;
    struct rmk_engine_counts counts = {.accepted = 3, .rounds = 10};

    (void)state;
    rmk_coordinator_metrics_init(&metrics, registry);
    rmk_coordinator_metrics_engine(&metrics, &counts);
    counts.rounds = 15;
    rmk_coordinator_metrics_engine(&metrics, &counts);
    assert_int_equal(rmk_counter_value(metrics.accepted), 3);
    assert_int_equal(rmk_counter_value(metrics.rounds), 15);
    rmk_metrics_destroy(registry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_series_is_on_the_page_and_the_page_has_no_others),
        cmocka_unit_test(the_engines_sums_are_copied_not_added_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
