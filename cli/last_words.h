/* Why a program ended, from the end of its log. */
#ifndef RMK_CLI_LAST_WORDS_H
#define RMK_CLI_LAST_WORDS_H

#include <stdbool.h>
#include <stddef.h>

/* The last line of `path` with level=error, as `MSG: WHY`; without one the last line that is not
 * empty; without a log "it left no message". */
void rmk_last_words(const char *path, char *out, size_t out_size);

/* The value of `key` in a logfmt line, unquoted. */
bool rmk_last_words_field(const char *line, const char *key, char *out, size_t out_size);

#endif
