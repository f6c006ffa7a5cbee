#include "cli/json_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

json_t *rmk_json_text(const char *text)
{
    return rmk_json_bytes(rmk_bytes_text(text));
}

json_t *rmk_json_bytes(struct rmk_bytes rest)
{
    static const char replacement[] = "\xef\xbf\xbd";
    char *clean = malloc(3 * rest.size + 1);
    size_t size = 0;

    if (clean == NULL) {
        return NULL;
    }
    while (rest.size > 0) {
        uint32_t codepoint = 0;
        size_t length = 0;

        if (rmk_utf8_next(rest, &codepoint, &length) == RMK_UTF8_VALID) {
            memcpy(clean + size, rest.data, length);
            size += length;
        } else {
            memcpy(clean + size, replacement, sizeof(replacement) - 1);
            size += sizeof(replacement) - 1;
        }
        rest.data += length;
        rest.size -= length;
    }
    json_t *string = json_stringn(clean, size);
    free(clean);
    return string;
}

void rmk_json_print_line(json_t *value)
{
    /* As many digits as a measurement has: 17 would print 0.954 as 0.95399999999999996. */
    char *line = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(9));

    json_decref(value);
    if (line == NULL) {
        (void)fprintf(stderr, "remask: no memory for a line of JSON\n");
        return;
    }
    (void)printf("%s\n", line);
    (void)fflush(stdout);
    free(line);
}
