/* Golden data lies outside the project ($RMK_REFERENCE, else ../shared/reference) and may be
 * absent: a test that wants it asks first and checks what is committed in tests/data in any case.
 */
#ifndef RMK_TESTS_SUPPORT_GOLDEN_FILE_H
#define RMK_TESTS_SUPPORT_GOLDEN_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Path of `name` inside the reference folder, for example "golden/tables/grid384.json"; false: not
 * there. */
static inline bool golden_path(char *path, size_t capacity, const char *name)
{
    const char *root = getenv("RMK_REFERENCE");

    (void)snprintf(path, capacity, "%s/%s", root != NULL ? root : "../shared/reference", name);
    return access(path, R_OK) == 0;
}

/* The whole file in malloc'ed memory, NULL when it cannot be read. One NUL follows the bytes. */
static inline uint8_t *golden_load(const char *path, size_t *out_size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = NULL;
    long size = -1;

    if (file != NULL && fseek(file, 0, SEEK_END) == 0) {
        size = ftell(file);
        rewind(file);
    }
    if (size >= 0) {
        data = malloc((size_t)size + 1);
    }
    if (data != NULL && fread(data, 1, (size_t)size, file) == (size_t)size) {
        data[size] = 0;
        *out_size = (size_t)size;
    } else {
        free(data);
        data = NULL;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return data;
}

#endif
