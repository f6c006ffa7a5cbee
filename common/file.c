#include "common/file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/least.h"

enum { FIRST_BYTES = 64 * 1024 };

struct buffer {
    uint8_t *data;
    size_t size;
    size_t capacity; /* a byte for the NUL among them */
};

static void drop(struct buffer *buffer)
{
    if (buffer->data != NULL) {
        explicit_bzero(buffer->data, buffer->size);
        free(buffer->data);
    }
}

/* Not realloc: it would leave a copy behind. */
static enum rmk_err grow(struct buffer *buffer, size_t capacity, struct rmk_why *why)
{
    struct buffer fresh = {malloc(capacity), buffer->size, capacity};

    if (fresh.data == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for its %zu bytes", capacity - 1);
    }
    if (buffer->size > 0) {
        memcpy(fresh.data, buffer->data, buffer->size);
    }
    drop(buffer);
    *buffer = fresh;
    return RMK_OK;
}

static enum rmk_err fail_errno(struct rmk_why *why)
{
    switch (errno) {
    case ENOENT:
    case ENOTDIR:
        return rmk_fail(why, RMK_ENOTFOUND, "there is no such file");
    case EISDIR:
        return rmk_fail(why, RMK_EINVAL, "is a folder, not a file");
    default:
        return rmk_fail(why, RMK_EIO, "%s", strerror(errno));
    }
}

enum rmk_err rmk_file_open(const char *path, enum rmk_file_kind kind, int *out_fd,
                           struct rmk_why *why)
{
    const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK; /* a pipe may have no writer */
    struct stat status;
    enum rmk_err err;
    int fd;

    do {
        fd = open(path, flags);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0 || fstat(fd, &status) != 0) {
        err = fail_errno(why);
        goto out;
    }
    if (S_ISDIR(status.st_mode)) {
        errno = EISDIR;
        err = fail_errno(why);
        goto out;
    }
    if (kind == RMK_FILE_REGULAR && !S_ISREG(status.st_mode)) {
        err = rmk_fail(why, RMK_EINVAL, "not a regular file");
        goto out;
    }
    *out_fd = fd;
    return RMK_OK;
out:
    if (fd >= 0) {
        (void)close(fd);
    }
    return err;
}

/* A pipe may have nothing to read for ever. Unlike read, poll ends at every signal, so that Ctrl-C
 * is heard. A regular file is always ready. */
static enum rmk_err wait_for_data(int fd, struct rmk_why *why)
{
    struct pollfd file = {.fd = fd, .events = POLLIN};

    if (poll(&file, 1, -1) < 0 && errno == EINTR) {
        return rmk_fail(why, RMK_ECANCELLED, "interrupted while it was read");
    }
    return RMK_OK;
}

/* To the end: a pipe has no size, and a file's may change meanwhile. One byte more than is allowed
 * tells that there is more. */
static enum rmk_err read_all(int fd, size_t bytes_max, struct buffer *buffer, struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;

    for (;;) {
        if (buffer->size + 1 >= buffer->capacity) {
            RMK_TRY(grow(buffer, rmk_least(2 * buffer->capacity, bytes_max + 2), why));
        }
        RMK_TRY(wait_for_data(fd, why));
        ssize_t got = read(fd, buffer->data + buffer->size, buffer->capacity - 1 - buffer->size);
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) {
            continue;
        }
        if (got < 0) {
            err = fail_errno(why);
            goto out;
        }
        if (got == 0) {
            goto out;
        }
        buffer->size += (size_t)got;
        if (buffer->size > bytes_max) {
            err = rmk_fail(why, RMK_ELIMIT, "is larger than %zu bytes", bytes_max);
            goto out;
        }
    }
out:
    return err;
}

enum rmk_err rmk_file_read_open(int fd, size_t bytes_max, uint8_t **out_data, size_t *out_size,
                                struct rmk_why *why)
{
    struct buffer buffer = {0};
    struct stat status;
    enum rmk_err err;

    if (fstat(fd, &status) != 0) {
        err = fail_errno(why);
        goto out;
    }
    const off_t left = S_ISREG(status.st_mode) ? status.st_size - lseek(fd, 0, SEEK_CUR) : 0;
    const uint64_t likely = left > 0 ? (uint64_t)left : FIRST_BYTES;
    RMK_TRY(grow(&buffer, rmk_least(likely, bytes_max) + 2, why));
    RMK_TRY(read_all(fd, bytes_max, &buffer, why));
    if (left > 0 && buffer.size < (size_t)left) {
        err = rmk_fail(why, RMK_EIO, "was cut short while it was read: %zu bytes of %llu",
                       buffer.size, (unsigned long long)left);
        goto out;
    }
    buffer.data[buffer.size] = '\0';
    *out_data = buffer.data;
    *out_size = buffer.size;
    buffer.data = NULL;
out:
    drop(&buffer);
    return err;
}

enum rmk_err rmk_file_read(const char *path, enum rmk_file_kind kind, size_t bytes_max,
                           uint8_t **out_data, size_t *out_size, struct rmk_why *why)
{
    enum rmk_err err;
    int fd = -1;

    RMK_TRY(rmk_file_open(path, kind, &fd, why));
    RMK_TRY(rmk_file_read_open(fd, bytes_max, out_data, out_size, why));
out:
    if (fd >= 0) {
        (void)close(fd);
    }
    return err;
}
