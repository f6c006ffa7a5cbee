#include "cli/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    NAME_SIZE_MAX = 64,
    LOCK_TRIES = 5,
    LOCK_PAUSE_US = 20000,
};

enum rmk_err rmk_state_check_name(const char *name, struct rmk_why *why)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    const size_t size = strlen(name);

    if (size == 0 || size > NAME_SIZE_MAX || name[0] == '.' || strspn(name, allowed) != size) {
        return rmk_fail(
            why, RMK_EINVAL,
            "--name: \"%.80s\" must be 1 to %d letters, digits, '-', '_' and '.', not first", name,
            NAME_SIZE_MAX);
    }
    return RMK_OK;
}

/* In /tmp anybody may have made the folder before us. */
static enum rmk_err check_folder(const char *folder, struct rmk_why *why)
{
    struct stat found;

    if (mkdir(folder, 0700) != 0 && errno != EEXIST) {
        return rmk_fail(why, RMK_EIO, "the folder %s cannot be made: %s", folder, strerror(errno));
    }
    if (lstat(folder, &found) != 0) {
        return rmk_fail(why, RMK_EIO, "the folder %s: %s", folder, strerror(errno));
    }
    if (!S_ISDIR(found.st_mode) || found.st_uid != geteuid() || (found.st_mode & 077) != 0) {
        return rmk_fail(why, RMK_EINVAL, "%s must be a folder of this user alone (mode 0700)",
                        folder);
    }
    return RMK_OK;
}

enum rmk_err rmk_state_path(const char *name, const char *suffix, char out[RMK_STATE_PATH_MAX],
                            struct rmk_why *why)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    char folder[RMK_STATE_PATH_MAX - 2 * NAME_SIZE_MAX];
    enum rmk_err err;
    int size;

    RMK_TRY(rmk_state_check_name(name, why));
    if (runtime != NULL && runtime[0] == '/') {
        size = snprintf(folder, sizeof(folder), "%s/remask", runtime);
    } else {
        size = snprintf(folder, sizeof(folder), "/tmp/remask-%ld", (long)geteuid());
    }
    if (size >= (int)sizeof(folder)) {
        err = rmk_fail(why, RMK_EINVAL, "XDG_RUNTIME_DIR is too long");
        goto out;
    }
    RMK_TRY(check_folder(folder, why));
    (void)snprintf(out, RMK_STATE_PATH_MAX, "%s/%s%s", folder, name, suffix);
out:
    return err;
}

static enum rmk_err try_lock(const char *name, int *out_fd, struct rmk_why *why)
{
    char path[RMK_STATE_PATH_MAX];
    enum rmk_err err;

    RMK_TRY(rmk_state_path(name, ".lock", path, why));
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        err = rmk_fail(why, RMK_EIO, "%s: %s", path, strerror(errno));
        goto out;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        (void)close(fd);
        err =
            rmk_fail(why, RMK_EEXISTS,
                     "a cluster named %s is running; `remask down --name %s` stops it", name, name);
        goto out;
    }
    *out_fd = fd;
out:
    return err;
}

enum rmk_err rmk_state_lock(const char *name, int *out_fd, struct rmk_why *why)
{
    enum rmk_err err = try_lock(name, out_fd, why);

    /* Somebody who only asks whether we run holds the lock for a moment. */
    for (int i = 1; i < LOCK_TRIES && err == RMK_EEXISTS; i++) {
        (void)usleep(LOCK_PAUSE_US);
        err = try_lock(name, out_fd, why);
    }
    return err;
}

bool rmk_state_running(const char *name)
{
    int fd = -1;
    enum rmk_err err = try_lock(name, &fd, NULL);

    if (err == RMK_OK) {
        (void)close(fd);
    }
    return err == RMK_EEXISTS;
}

enum rmk_err rmk_state_write(const char *name, json_t *state, struct rmk_why *why)
{
    char path[RMK_STATE_PATH_MAX];
    char fresh[RMK_STATE_PATH_MAX];
    enum rmk_err err;

    RMK_TRY(rmk_state_path(name, ".json", path, why));
    RMK_TRY(rmk_state_path(name, ".json.new", fresh, why));
    if (json_dump_file(state, fresh, JSON_INDENT(1)) != 0 || rename(fresh, path) != 0) {
        err = rmk_fail(why, RMK_EIO, "%s cannot be written: %s", path, strerror(errno));
    }
out:
    return err;
}

enum rmk_err rmk_state_read(const char *name, json_t **out_state, struct rmk_why *why)
{
    char path[RMK_STATE_PATH_MAX];
    json_error_t error;
    json_t *state;
    enum rmk_err err;

    RMK_TRY(rmk_state_path(name, ".json", path, why));
    if (access(path, R_OK) != 0) {
        err = rmk_fail(why, RMK_ENOTFOUND, "there is no cluster named %s (%s)", name, path);
        goto out;
    }
    state = json_load_file(path, 0, &error);
    if (!json_is_object(state)) {
        json_decref(state);
        err = rmk_fail(why, RMK_ECORRUPT, "%s is no JSON object: %s", path, error.text);
        goto out;
    }
    *out_state = state;
out:
    return err;
}

void rmk_state_remove(const char *name)
{
    char path[RMK_STATE_PATH_MAX];

    if (rmk_state_path(name, ".json", path, NULL) == RMK_OK) {
        (void)unlink(path);
    }
}

bool rmk_state_endpoint(const char *name, char *out, size_t out_size)
{
    json_t *state = NULL;
    const char *endpoint;
    bool found = false;

    if (!rmk_state_running(name) || rmk_state_read(name, &state, NULL) != RMK_OK) {
        return false;
    }
    endpoint = json_string_value(json_object_get(state, "endpoint"));
    if (endpoint != NULL && endpoint[0] != '\0' && strlen(endpoint) < out_size) {
        memcpy(out, endpoint, strlen(endpoint) + 1);
        found = true;
    }
    json_decref(state);
    return found;
}
