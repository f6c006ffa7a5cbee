#include "model/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/file.h"

enum {
    NAMES_MAX = 4096,
    PIECE_BYTES = 1 << 20,
    HEX_BYTES = RMK_DIGEST_HEX_BYTES - 1,
};

static const char manifest_name[] = "SHA256SUMS";

struct manifest {
    char *names[NAMES_MAX];
    size_t count;
    uint8_t *piece; /* [PIECE_BYTES] */
};

static enum rmk_err open_regular(const char *dir, const char *name, int *out_fd,
                                 struct rmk_why *why)
{
    char path[PATH_MAX];

    if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path)) {
        return rmk_fail(why, RMK_EINVAL, "%.200s: the path is too long", name);
    }
    enum rmk_err err = rmk_file_open(path, RMK_FILE_REGULAR, out_fd, why);
    if (err != RMK_OK) {
        rmk_why_context(why, "%.200s", name);
    }
    return err;
}

static enum rmk_err sum_file(const char *dir, const char *name, uint8_t *piece,
                             char out_hex[RMK_DIGEST_HEX_BYTES], struct rmk_why *why)
{
    struct rmk_digest *digest = NULL;
    uint8_t sum[RMK_DIGEST_BYTES];
    int fd = -1;
    ssize_t got;
    enum rmk_err err;

    RMK_TRY(open_regular(dir, name, &fd, why));
    RMK_TRY(rmk_digest_create(&digest, why));
    while ((got = read(fd, piece, PIECE_BYTES)) != 0) {
        if (got < 0 && errno != EINTR) {
            err = rmk_fail(why, RMK_EIO, "%.200s: %s", name, strerror(errno));
            goto out;
        }
        rmk_digest_update(digest, piece, got > 0 ? (size_t)got : 0);
    }
    rmk_digest_finish(digest, sum);
    rmk_digest_hex(sum, out_hex);
out:
    rmk_digest_destroy(digest);
    if (fd >= 0) {
        (void)close(fd);
    }
    return err;
}

/* "HEX  name" or "HEX *name", as sha256sum writes it. */
static enum rmk_err check_line(const char *dir, char *line, unsigned number,
                               struct manifest *manifest, struct rmk_why *why)
{
    char found[RMK_DIGEST_HEX_BYTES];
    char *name = line + HEX_BYTES + 2;
    enum rmk_err err;

    line[strcspn(line, "\r\n")] = '\0';
    if (strspn(line, "0123456789abcdef") != HEX_BYTES || line[HEX_BYTES] != ' ' ||
        (line[HEX_BYTES + 1] != ' ' && line[HEX_BYTES + 1] != '*') || *name == '\0') {
        err = rmk_fail(why, RMK_ECORRUPT, "line %u is no sum and name", number);
        goto out;
    }
    if (strchr(name, '/') != NULL || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        err = rmk_fail(why, RMK_EINVAL, "line %u: %.200s is not a plain name", number, name);
        goto out;
    }
    if (manifest->count == NAMES_MAX) {
        err = rmk_fail(why, RMK_ELIMIT, "more than %d files", NAMES_MAX);
        goto out;
    }
    RMK_TRY(sum_file(dir, name, manifest->piece, found, why));
    if (memcmp(found, line, HEX_BYTES) != 0) {
        err = rmk_fail(why, RMK_ECORRUPT, "%.200s has SHA-256 %s, not the one listed", name, found);
        goto out;
    }
    manifest->names[manifest->count] = strdup(name);
    if (manifest->names[manifest->count] == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for a list of files");
        goto out;
    }
    manifest->count++;
out:
    return err;
}

static bool is_listed(const struct manifest *manifest, const char *name)
{
    for (size_t i = 0; i < manifest->count; i++) {
        if (strcmp(manifest->names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* Weights that nobody vouches for would be read all the same. */
static enum rmk_err check_directory(const char *dir, const struct manifest *manifest,
                                    struct rmk_why *why)
{
    static const char suffix[] = ".safetensors";
    DIR *folder = opendir(dir);
    struct dirent *entry;
    enum rmk_err err = RMK_OK;

    if (folder == NULL) {
        return rmk_fail(why, RMK_EIO, "%s", strerror(errno));
    }
    while (err == RMK_OK && (entry = readdir(folder)) != NULL) {
        size_t length = strlen(entry->d_name);
        if (length >= sizeof(suffix) - 1 &&
            strcmp(entry->d_name + length - (sizeof(suffix) - 1), suffix) == 0 &&
            !is_listed(manifest, entry->d_name)) {
            err = rmk_fail(why, RMK_ECORRUPT, "%.200s is not listed", entry->d_name);
        }
    }
    (void)closedir(folder);
    return err;
}

enum rmk_err rmk_manifest_verify(const char *dir, struct rmk_why *why)
{
    struct manifest *manifest = calloc(1, sizeof(*manifest));
    char line[PATH_MAX];
    FILE *file = NULL;
    int fd = -1;
    enum rmk_err err;

    if (manifest == NULL || (manifest->piece = malloc(PIECE_BYTES)) == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for a list of files");
        goto out;
    }
    RMK_TRY(open_regular(dir, manifest_name, &fd, why));
    file = fdopen(fd, "r");
    if (file == NULL) {
        err = rmk_fail(why, RMK_EIO, "%s: %s", manifest_name, strerror(errno));
        goto out;
    }
    fd = -1; /* the stream's now */
    for (unsigned number = 1; fgets(line, sizeof(line), file) != NULL; number++) {
        RMK_TRY(check_line(dir, line, number, manifest, why));
    }
    RMK_TRY(check_directory(dir, manifest, why));
out:
    if (err != RMK_OK) {
        rmk_why_context(why, "%.250s: %s", dir, manifest_name);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    for (size_t i = 0; manifest != NULL && i < manifest->count; i++) {
        free(manifest->names[i]);
    }
    if (manifest != NULL) {
        free(manifest->piece);
    }
    free(manifest);
    return err;
}
