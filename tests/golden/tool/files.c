#include "tests/golden/tool/files.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zlib.h>

enum { FOLDERS_MAX = 64 };

static char made[FOLDERS_MAX][1024];
static unsigned made_count;

bool file_exists(const char *format, ...)
{
    char path[2048];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(path, sizeof(path), format, arguments);
    va_end(arguments);
    return access(path, R_OK) == 0;
}

enum rmk_err file_read(const char *path, uint8_t **out_bytes, size_t *out_size, struct rmk_why *why)
{
    size_t capacity = 1 << 16;
    size_t size = 0;
    uint8_t *bytes = malloc(capacity);
    gzFile file = gzopen(path, "rb"); /* reads plain files as they are */
    enum rmk_err err = RMK_OK;

    if (file == NULL || bytes == NULL) {
        err = rmk_fail(why, RMK_ENOTFOUND, "%s: cannot be opened", path);
        goto out;
    }
    for (;;) {
        int got = gzread(file, bytes + size, (unsigned)(capacity - size));
        if (got < 0) {
            err = rmk_fail(why, RMK_EIO, "%s: cannot be read", path);
            goto out;
        }
        if (got == 0) {
            break;
        }
        size += (size_t)got;
        if (size == capacity) {
            capacity *= 2;
            uint8_t *grown = realloc(bytes, capacity);
            if (grown == NULL) {
                err = rmk_fail(why, RMK_ELIMIT, "%s: no memory", path);
                goto out;
            }
            bytes = grown;
        }
    }
    *out_bytes = bytes;
    *out_size = size;
    bytes = NULL;
out:
    free(bytes);
    if (file != NULL) {
        (void)gzclose(file);
    }
    return err;
}

json_t *file_json(struct rmk_why *why, const char *format, ...)
{
    char path[2048];
    va_list arguments;
    json_error_t error;
    uint8_t *bytes = NULL;
    size_t size = 0;

    va_start(arguments, format);
    (void)vsnprintf(path, sizeof(path), format, arguments);
    va_end(arguments);
    if (file_read(path, &bytes, &size, why) != RMK_OK) {
        return NULL;
    }
    json_t *root = json_loadb((const char *)bytes, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (root == NULL) {
        (void)rmk_fail(why, RMK_ECORRUPT, "%s:%d: %s", path, error.line, error.text);
    }
    free(bytes);
    return root;
}

static enum rmk_err write_file(const char *dir, const char *name, const uint8_t *bytes, size_t size,
                               struct rmk_why *why)
{
    char path[2048];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) {
        return rmk_fail(why, RMK_EIO, "%s: cannot be written", path);
    }
    return RMK_OK;
}

static enum rmk_err copy(const char *source, const char *target_dir, const char *name,
                         struct rmk_why *why)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    enum rmk_err err;

    RMK_TRY(file_read(source, &bytes, &size, why));
    RMK_TRY(write_file(target_dir, name, bytes, size, why));
out:
    free(bytes);
    return err;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text);

    return length >= strlen(end) && strcmp(text + length - strlen(end), end) == 0;
}

/* The stand-in tokenizer of full size lies beside the golden folder, under `tokenizer`. */
static enum rmk_err unpack_tokenizer(const char *dir, const char *target, struct rmk_why *why)
{
    char path[2048];

    if (file_exists("%s/tokenizer.json", dir) || file_exists("%s/tokenizer.json.gz", dir)) {
        return RMK_OK;
    }
    (void)snprintf(path, sizeof(path), "%s/../../../tokenizer/tokenizer-standin-126349.json.gz",
                   dir);
    return copy(path, target, "tokenizer.json", why);
}

enum rmk_err model_folder(const char *dir, char out_dir[1024], struct rmk_why *why)
{
    DIR *folder = opendir(dir);
    struct dirent *entry;
    bool packed = !file_exists("%s/tokenizer.json", dir);
    char path[2048];
    enum rmk_err err = RMK_OK;

    if (folder == NULL) {
        return rmk_fail(why, RMK_ENOTFOUND, "%s: no such folder", dir);
    }
    while ((entry = readdir(folder)) != NULL) {
        packed = packed || ends_with(entry->d_name, ".gz");
    }
    if (!packed) {
        (void)snprintf(out_dir, 1024, "%s", dir);
        goto out;
    }
    const char *temporary = getenv("TMPDIR");
    (void)snprintf(out_dir, 1024, "%s/remask-golden-XXXXXX",
                   temporary != NULL ? temporary : "/tmp");
    if (made_count == FOLDERS_MAX || mkdtemp(out_dir) == NULL) {
        err = rmk_fail(why, RMK_EIO, "%s: no temporary folder", out_dir);
        goto out;
    }
    (void)snprintf(made[made_count++], sizeof(made[0]), "%s", out_dir);
    rewinddir(folder);
    while ((entry = readdir(folder)) != NULL) {
        char name[512];
        if (entry->d_name[0] == '.') {
            continue;
        }
        (void)snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        (void)snprintf(name, sizeof(name), "%s", entry->d_name);
        if (ends_with(name, ".gz")) {
            name[strlen(name) - 3] = '\0';
        }
        RMK_TRY(copy(path, out_dir, name, why));
    }
    RMK_TRY(unpack_tokenizer(dir, out_dir, why));
out:
    (void)closedir(folder);
    return err;
}

void model_folders_remove(void)
{
    for (unsigned i = 0; i < made_count; i++) {
        DIR *folder = opendir(made[i]);
        struct dirent *entry;
        char path[2048];
        while (folder != NULL && (entry = readdir(folder)) != NULL) {
            (void)snprintf(path, sizeof(path), "%s/%s", made[i], entry->d_name);
            (void)unlink(path);
        }
        if (folder != NULL) {
            (void)closedir(folder);
        }
        (void)rmdir(made[i]);
    }
    made_count = 0;
}
