/* Reading what the command line names: whole files, and lists of paths. */
#ifndef RMK_CLI_FILES_H
#define RMK_CLI_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/* All of `path`, malloc'ed. Errors: RMK_ENOTFOUND, RMK_EIO, RMK_EINVAL (a folder, or empty),
 * RMK_ELIMIT; the sentence says what, not which: the caller names the file. */
enum rmk_err rmk_files_read(const char *path, size_t bytes_max, uint8_t **out_data,
                            size_t *out_size, struct rmk_why *why);

struct rmk_paths {
    char **items; /* each malloc'ed */
    size_t count;
    size_t capacity;
};

/* Copies. */
enum rmk_err rmk_paths_add(struct rmk_paths *paths, const char *path, struct rmk_why *why);
/* One path a line from standard input, until its end; empty lines are skipped. */
enum rmk_err rmk_paths_add_stdin(struct rmk_paths *paths, struct rmk_why *why);
void rmk_paths_deinit(struct rmk_paths *paths);

#endif
