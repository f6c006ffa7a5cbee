/* The kinds of cases under one golden folder. */
#ifndef RMK_TESTS_GOLDEN_CASES_H
#define RMK_TESTS_GOLDEN_CASES_H

#include <jansson.h>

#include "kernels/kernels.h"
#include "tests/golden/tool/report.h"

struct settings {
    const char *backend;
    const char *plugin; /* cuda: NULL: beside the executable */
    enum rmk_dtype act;
    unsigned ranks;
    const char *only; /* scenes whose name contains it; NULL: all */
};

void cases_text(struct report *report, const char *root);
void cases_images(struct report *report, const char *root);
void cases_tables(struct report *report, const char *root, const struct settings *settings);
void cases_scenes(struct report *report, const char *root, const struct settings *settings);

#endif
