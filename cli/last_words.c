#include "cli/last_words.h"

#include <stdio.h>
#include <string.h>

enum { TAIL_BYTES = 64 * 1024 };

/* Backslash escapes of quoted values: only those of quotes, backslashes and line ends occur in
 * sentences. */
static void copy_value(const char *from, char *out, size_t out_size)
{
    const bool quoted = *from == '"';
    const char end = quoted ? '"' : ' ';
    size_t size = 0;

    from += quoted;
    while (*from != '\0' && *from != end && size + 1 < out_size) {
        if (quoted && *from == '\\' && from[1] != '\0') {
            from++;
            out[size++] = *from == 'n' ? '\n' : *from;
            from++;
            continue;
        }
        out[size++] = *from++;
    }
    out[size] = '\0';
}

bool rmk_last_words_field(const char *line, const char *key, char *out, size_t out_size)
{
    const size_t key_size = strlen(key);
    bool quoted = false;

    for (const char *at = line; *at != '\0'; at++) {
        if (quoted && *at == '\\' && at[1] != '\0') {
            at++;
            continue;
        }
        if (*at == '"') {
            quoted = !quoted;
        }
        const bool begins = at == line || at[-1] == ' ';
        if (!quoted && begins && strncmp(at, key, key_size) == 0 && at[key_size] == '=') {
            copy_value(at + key_size + 1, out, out_size);
            return true;
        }
    }
    return false;
}

static void tell(const char *line, char *out, size_t out_size)
{
    char message[256];
    char why[1024];

    if (!rmk_last_words_field(line, "msg", message, sizeof(message))) {
        (void)snprintf(out, out_size, "%s", line);
    } else if (rmk_last_words_field(line, "why", why, sizeof(why))) {
        (void)snprintf(out, out_size, "%s: %s", message, why);
    } else {
        (void)snprintf(out, out_size, "%s", message);
    }
}

void rmk_last_words(const char *path, char *out, size_t out_size)
{
    static char tail[TAIL_BYTES + 1];
    char level[16];
    const char *last = NULL;
    const char *error = NULL;
    FILE *file = fopen(path, "re");
    size_t size = 0;

    if (file != NULL) {
        if (fseek(file, -TAIL_BYTES, SEEK_END) != 0) {
            rewind(file); /* shorter than that */
        }
        size = fread(tail, 1, TAIL_BYTES, file);
        (void)fclose(file);
    }
    tail[size] = '\0';
    char *rest = tail;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        if (line[0] == '\0') {
            continue;
        }
        last = line;
        if (rmk_last_words_field(line, "level", level, sizeof(level)) &&
            strcmp(level, "error") == 0) {
            error = line;
        }
    }
    if (error != NULL || last != NULL) {
        tell(error != NULL ? error : last, out, out_size);
    } else {
        (void)snprintf(out, out_size, "it left no message");
    }
}
