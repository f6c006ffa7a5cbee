/* What `remask up` leaves for `down`, `status` and `caption`: one folder of this user, and in it
 * for each cluster by name NAME.lock, held while it runs (so nobody is misled by an old file or a
 * reused process id), and NAME.json:
 *
 *     {"pid", "version", "model", "endpoint", "metrics", "cluster", "logs", "processes": [{"name",
 * "pid"}]}
 *
 * The folder is $XDG_RUNTIME_DIR/remask, else /tmp/remask-UID; it must be ours alone.
 */
#ifndef RMK_CLI_STATE_H
#define RMK_CLI_STATE_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "common/err.h"

#define RMK_STATE_PATH_MAX     1024
#define RMK_STATE_NAME_DEFAULT "default"

/* NAME becomes part of file names: letters, digits, `-`, `_` and `.`, not first. Errors:
 * RMK_EINVAL. */
enum rmk_err rmk_state_check_name(const char *name, struct rmk_why *why);

/* The path of NAME with `suffix` behind it; makes the folder. Errors: RMK_EIO, RMK_EINVAL (the
 * name, or the folder is somebody else's). */
enum rmk_err rmk_state_path(const char *name, const char *suffix, char out[RMK_STATE_PATH_MAX],
                            struct rmk_why *why);

/* Take the cluster's name for as long as *out_fd is open. RMK_EEXISTS: a cluster of that name runs.
 */
enum rmk_err rmk_state_lock(const char *name, int *out_fd, struct rmk_why *why);
bool rmk_state_running(const char *name);

enum rmk_err rmk_state_write(const char *name, json_t *state, struct rmk_why *why);
/* Errors: RMK_ENOTFOUND, RMK_ECORRUPT. */
enum rmk_err rmk_state_read(const char *name, json_t **out_state, struct rmk_why *why);
void rmk_state_remove(const char *name);

/* The public endpoint of the running cluster NAME. */
bool rmk_state_endpoint(const char *name, char *out, size_t out_size);

#endif
