/* One line a decision: `t=12000 plan group=0 epoch=1 sequence=4 rows=1 closes=0`.
 *
 * The debug log in production, the expected text in tests/sim/scripts. Off costs one branch.
 */
#ifndef RMK_COORDINATOR_ENGINE_TRACE_H
#define RMK_COORDINATOR_ENGINE_TRACE_H

#include <stdint.h>

#include "coordinator/engine/engine.h"

struct rmk_trace {
    rmk_trace_fn write;
    void *context;
};

/* Formats with vsnprintf into memory: integers and strings only, so that it neither allocates nor
 * asks the locale. */
void rmk_trace_say(const struct rmk_trace *trace, uint64_t now_us, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define RMK_TRACE(engine, ...)                                                                     \
    do {                                                                                           \
        if ((engine)->trace.write != NULL) {                                                       \
            rmk_trace_say(&(engine)->trace, (engine)->now_us, __VA_ARGS__);                        \
        }                                                                                          \
    } while (0)

/* A request in a trace line: `req=3.1`, index and generation. */
#define RMK_REQ          "req=%u.%u"
#define RMK_REQ_OF(name) (name).index, (name).generation

#endif
