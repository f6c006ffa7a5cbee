#include "tests/golden/tool/report.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

static void line(const char *verdict, const char *name, const char *stage, const char *format,
                 va_list arguments)
{
    (void)printf("%-7s %s %s: ", verdict, name, stage);
    (void)vprintf(format, arguments);
    (void)printf("\n");
}

void report_exact(struct report *report, const char *name, const char *stage, bool equal,
                  const char *format, ...)
{
    va_list arguments;

    if (equal) {
        report->passed++;
    } else {
        report->failed++;
    }
    if (equal && report->quiet) {
        return;
    }
    va_start(arguments, format);
    line(equal ? "ok" : "FAIL", name, stage, format, arguments);
    va_end(arguments);
}

bool report_floats(struct report *report, const char *name, const char *stage, const float *got,
                   const float *want, size_t count, double tolerance)
{
    double worst = 0;
    size_t place = 0;

    for (size_t i = 0; i < count; i++) {
        double difference = fabs((double)got[i] - (double)want[i]);
        if (!(difference <= worst)) { /* also when it is NaN */
            worst = difference;
            place = i;
            if (isnan(difference)) {
                break;
            }
        }
    }
    const bool good =
        count > 0 && (report->agreement.measured ? isfinite(worst) : worst <= tolerance);
    report_exact(
        report, name, stage, good,
        "max difference %.3g of tolerance %.3g over %zu values (at %zu: %.9g, reference %.9g)",
        worst, tolerance, count, place, count > 0 ? (double)got[place] : 0,
        count > 0 ? (double)want[place] : 0);
    return good;
}

void report_failed(struct report *report, const char *name, const char *stage, const char *format,
                   ...)
{
    va_list arguments;

    report->failed++;
    va_start(arguments, format);
    line("FAIL", name, stage, format, arguments);
    va_end(arguments);
}

void report_pending(struct report *report, const char *name, const char *stage, const char *why)
{
    report->pending++;
    (void)printf("PENDING %s %s: %s\n", name, stage, why);
}

void report_raised(struct report *report, const char *name, const char *stage, const char *why)
{
    report->raised++;
    (void)printf("raised  %s %s: the reference raises: %s\n", name, stage, why);
}

void report_forced(struct report *report, const char *name, const char *stage, const char *format,
                   ...)
{
    va_list arguments;

    report->forced++;
    va_start(arguments, format);
    line("forced", name, stage, format, arguments);
    va_end(arguments);
}
