/* A JSON string of bytes that may be no UTF-8 (file names may be anything): what is not becomes
 * U+FFFD. */
#ifndef RMK_CLI_JSON_TEXT_H
#define RMK_CLI_JSON_TEXT_H

#include <jansson.h>

/* A new reference; NULL: no memory. */
json_t *rmk_json_text(const char *text);

/* One compact line on standard output. Takes the reference. */
void rmk_json_print_line(json_t *value);

#endif
