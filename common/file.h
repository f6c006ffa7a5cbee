/* Whole files, read to their end within a bound. A sentence says what is wrong with the file, not
 * which it is: the caller names it. */
#ifndef RMK_COMMON_FILE_H
#define RMK_COMMON_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

enum rmk_file_kind {
    RMK_FILE_REGULAR = 0, /* a pipe on which a read would wait is refused */
    RMK_FILE_ANY, /* pipes and devices too, where a person has named it on a command line: <(…) */
};

/* For reading. Errors: RMK_ENOTFOUND; RMK_EINVAL (a folder, or not a regular file); RMK_EIO. */
enum rmk_err rmk_file_open(const char *path, enum rmk_file_kind kind, int *out_fd,
                           struct rmk_why *why);

/* All that is left in `fd`, malloc'ed; a NUL follows it that does not count. What has been read is
 * nowhere else in memory, so that a secret can be wiped; it is wiped here on failure.
 *
 * Errors: RMK_ECANCELLED (a signal while a pipe had nothing to read), RMK_ELIMIT (more than
 * `bytes_max`, or no memory), RMK_EINVAL (a folder), RMK_EIO (it cannot be read, or was cut short
 * meanwhile). */
enum rmk_err rmk_file_read_open(int fd, size_t bytes_max, uint8_t **out_data, size_t *out_size,
                                struct rmk_why *why);

/* Both of these, and close. */
enum rmk_err rmk_file_read(const char *path, enum rmk_file_kind kind, size_t bytes_max,
                           uint8_t **out_data, size_t *out_size, struct rmk_why *why);

#endif
