#include "cli/files.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FIRST_BYTES = 64 * 1024 };

/* A pipe may have nothing to read for ever. Unlike read, poll ends at every signal, so that Ctrl-C
 * is heard. */
static enum rmk_err wait_for_data(int fd, struct rmk_why *why)
{
    struct pollfd file = {.fd = fd, .events = POLLIN};

    if (poll(&file, 1, -1) < 0 && errno == EINTR) {
        return rmk_fail(why, RMK_ECANCELLED, "interrupted while it was read");
    }
    return RMK_OK;
}

/* Grows as it reads: a pipe has no size. */
static enum rmk_err read_all(int fd, size_t bytes_max, uint8_t **data, size_t *size,
                             struct rmk_why *why)
{
    size_t capacity = 0;
    enum rmk_err err;

    for (;;) {
        if (*size == capacity) {
            size_t larger = capacity == 0 ? FIRST_BYTES : 2 * capacity;
            uint8_t *fresh = realloc(*data, larger);
            if (fresh == NULL) {
                err = rmk_fail(why, RMK_ELIMIT, "no memory for its %zu bytes", larger);
                goto out;
            }
            *data = fresh;
            capacity = larger;
        }
        RMK_TRY(wait_for_data(fd, why));
        ssize_t got = read(fd, *data + *size, capacity - *size);
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) {
            continue;
        }
        if (got < 0) {
            err = rmk_fail(why, errno == EISDIR ? RMK_EINVAL : RMK_EIO, "%s", strerror(errno));
            goto out;
        }
        if (got == 0) {
            err = *size > 0 ? RMK_OK : rmk_fail(why, RMK_EINVAL, "the file is empty");
            goto out;
        }
        *size += (size_t)got;
        if (*size > bytes_max) {
            err = rmk_fail(why, RMK_ELIMIT, "the file is larger than %zu bytes", bytes_max);
            goto out;
        }
    }
out:
    return err;
}

enum rmk_err rmk_files_read(const char *path, size_t bytes_max, uint8_t **out_data,
                            size_t *out_size, struct rmk_why *why)
{
    uint8_t *data = NULL;
    size_t size = 0;
    enum rmk_err err;
    int fd;

    do {
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe may have no writer */
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        return rmk_fail(why, errno == ENOENT ? RMK_ENOTFOUND : RMK_EIO, "%s", strerror(errno));
    }
    RMK_TRY(read_all(fd, bytes_max, &data, &size, why));
    *out_data = data;
    *out_size = size;
    data = NULL;
out:
    free(data);
    (void)close(fd);
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
