#include "coordinator/engine/trace.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

void rmk_trace_say(const struct rmk_trace *trace, uint64_t now_us, const char *format, ...)
{
    char line[768];
    va_list arguments;

    int used = snprintf(line, sizeof(line), "t=%" PRIu64 " ", now_us);
    va_start(arguments, format);
    (void)vsnprintf(line + used, sizeof(line) - (size_t)used, format, arguments);
    va_end(arguments);
    trace->write(trace->context, line);
}
