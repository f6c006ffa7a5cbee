/* One line per case and stage, and the counts at the end. */
#ifndef RMK_TESTS_GOLDEN_REPORT_H
#define RMK_TESTS_GOLDEN_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Another compute type than the record's fp32: every step starts from the recorded canvas, and what
 * it would have done is counted, not judged. */
struct agreement {
    bool measured;
    unsigned picks; /* tokens committed by the record */
    unsigned picks_equal;
    unsigned steps;
    unsigned steps_equal; /* the same positions would commit */
    double confidence_worst;
};

struct report {
    struct agreement agreement;
    unsigned passed;
    unsigned failed;
    unsigned pending; /* what a folder asks of us and we cannot do yet */
    unsigned raised;  /* the reference itself raised: listed, not compared */
    unsigned forced;  /* picks that differed where the recorded gap is rounding noise; the recorded
                         one was taken */
    bool quiet;       /* only lines that are not "ok" */
};

void report_exact(struct report *report, const char *name, const char *stage, bool equal,
                  const char *format, ...) __attribute__((format(printf, 5, 6)));

/* max|got - want| against `tolerance`; a value that is not finite fails. Where agreement is
 * measured, any finite difference passes, and is said. */
bool report_floats(struct report *report, const char *name, const char *stage, const float *got,
                   const float *want, size_t count, double tolerance);

void report_failed(struct report *report, const char *name, const char *stage, const char *format,
                   ...) __attribute__((format(printf, 4, 5)));
void report_pending(struct report *report, const char *name, const char *stage, const char *why);
void report_raised(struct report *report, const char *name, const char *stage, const char *why);
void report_forced(struct report *report, const char *name, const char *stage, const char *format,
                   ...) __attribute__((format(printf, 4, 5)));

#endif
