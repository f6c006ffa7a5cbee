/* One line, one event, on stderr: logfmt, JSON or plain text. Any thread may log; a line is one
 * write.
 *
 *     rmk_log(RMK_LOG_WARN, "engine", "group lost", "group=%u why=%s", group, why.text);
 *
 *     time=2025-01-31T10:11:12.123456Z level=warn process=coordinator part=engine msg="group lost"
 *     group=1 why="rank 2 closed its stream"                                     (all on one line)
 *
 * The fields are a printf format of `key=value` separated by single spaces. A field ends where the
 * *format* has a space, whatever its value contains, so values are quoted and escaped as they need
 * (newlines, quotes, escape sequences, bytes that are no UTF-8): input cannot forge a field or a
 * line. Conversions: %s %.*s %c %d %i %u %x with h, l, ll, z, j, and %f %g %e.
 *
 * Info, warnings and errors with the same part and message are cut to RMK_LOG_REPEAT_MAX a second;
 * the next line after that second says how many were dropped. Debug is the trace and is never cut.
 */
#ifndef RMK_COMMON_LOG_H
#define RMK_COMMON_LOG_H

#include <stdbool.h>

#include "common/err.h"

enum rmk_log_level { RMK_LOG_DEBUG, RMK_LOG_INFO, RMK_LOG_WARN, RMK_LOG_ERROR };
enum rmk_log_format { RMK_LOG_LOGFMT, RMK_LOG_JSON, RMK_LOG_TEXT };

#define RMK_LOG_REPEAT_MAX 20
#define RMK_LOG_LINE_MAX   4096 /* bytes; longer is cut and ends with "…" */

/* The names in the order of the enums, NULL at the end: for flags. */
extern const char *const rmk_log_level_names[];
extern const char *const rmk_log_format_names[];

/* Once, before threads. Before it: info, logfmt, no process name. `process` is kept, not copied. */
void rmk_log_init(enum rmk_log_level level, enum rmk_log_format format, const char *process);

/* Where lines go instead of stderr; for tests. -1: stderr again. */
void rmk_log_to(int fd);

bool rmk_log_enabled(enum rmk_log_level level);

/* `fields` may be NULL. */
void rmk_log(enum rmk_log_level level, const char *part, const char *message, const char *fields,
             ...) __attribute__((format(printf, 4, 5)));

#endif
