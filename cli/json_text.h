/* A JSON string of bytes that may be no UTF-8 (file names may be anything): what is not becomes
 * U+FFFD. */
#ifndef RMK_CLI_JSON_TEXT_H
#define RMK_CLI_JSON_TEXT_H

#include <jansson.h>

#include "common/bytes.h"

/* A new reference; NULL: no memory. Bytes may hold NULs. */
json_t *rmk_json_text(const char *text);
json_t *rmk_json_bytes(struct rmk_bytes text);

/* One compact line on standard output. Takes the reference. */
void rmk_json_print_line(json_t *value);

#endif
