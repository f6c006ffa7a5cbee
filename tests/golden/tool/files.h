/* Reading golden folders: JSON, whole files, and files that may be there as `.gz` only. */
#ifndef RMK_TESTS_GOLDEN_FILES_H
#define RMK_TESTS_GOLDEN_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "common/err.h"

bool file_exists(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Whole file, malloc'ed. A name ending in .gz is decompressed. */
enum rmk_err file_read(const char *path, uint8_t **out_bytes, size_t *out_size,
                       struct rmk_why *why);

/* NULL when it is not there or no JSON: `why` says it. */
json_t *file_json(struct rmk_why *why, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A model folder ready to be opened: `dir` itself, or, where files are gzipped or the tokenizer is
 * elsewhere, a temporary folder with everything unpacked. */
enum rmk_err model_folder(const char *dir, char out_dir[1024], struct rmk_why *why);

/* Remove what model_folder made. */
void model_folders_remove(void);

#endif
