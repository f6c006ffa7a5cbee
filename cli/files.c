#include "cli/files.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"

enum rmk_err rmk_files_read(const char *path, size_t bytes_max, uint8_t **out_data,
                            size_t *out_size, struct rmk_why *why)
{
    uint8_t *data = NULL;
    size_t size = 0;
    enum rmk_err err;

    RMK_TRY(rmk_file_read(path, RMK_FILE_ANY, bytes_max, &data, &size, why));
    if (size == 0) {
        err = rmk_fail(why, RMK_EINVAL, "the file is empty");
        goto out;
    }
    *out_data = data;
    *out_size = size;
    data = NULL;
out:
    free(data);
    return err;
}

enum rmk_err rmk_paths_add(struct rmk_paths *paths, const char *path, struct rmk_why *why)
{
    if (paths->count == paths->capacity) {
        size_t capacity = paths->capacity == 0 ? 16 : 2 * paths->capacity;
        char **items = realloc(paths->items, capacity * sizeof(*items));
        if (items == NULL) {
            return rmk_fail(why, RMK_ELIMIT, "no memory for %zu paths", capacity);
        }
        paths->items = items;
        paths->capacity = capacity;
    }
    char *copy = strdup(path);
    if (copy == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for a path");
    }
    paths->items[paths->count++] = copy;
    return RMK_OK;
}

enum rmk_err rmk_paths_add_stdin(struct rmk_paths *paths, struct rmk_why *why)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t size;
    enum rmk_err err = RMK_OK;

    while ((size = getline(&line, &capacity, stdin)) >= 0) {
        while (size > 0 && (line[size - 1] == '\n' || line[size - 1] == '\r')) {
            line[--size] = '\0';
        }
        if (strlen(line) < (size_t)size) {
            err = rmk_fail(why, RMK_EINVAL,
                           "standard input is no text; `-` reads paths from it, one a line (a "
                           "picture itself can come from /dev/stdin)");
            goto out;
        }
        if (size > 0) {
            RMK_TRY(rmk_paths_add(paths, line, why));
        }
    }
    if (ferror(stdin)) {
        err = rmk_fail(why, RMK_EIO, "standard input: %s", strerror(errno));
    }
out:
    free(line);
    return err;
}

void rmk_paths_deinit(struct rmk_paths *paths)
{
    for (size_t i = 0; i < paths->count; i++) {
        free(paths->items[i]);
    }
    free(paths->items);
    *paths = (struct rmk_paths){0};
}
