/* A child process that is kept running: its output goes to a log file, it dies with us (bind.h),
 * and whoever owns it is told of each death and may start it again after a pause that grows.
 *
 * It leads a process group of its own, so that Ctrl-C reaches only us and a stop can be orderly.
 */
#ifndef RMK_CLI_CHILD_H
#define RMK_CLI_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "common/err.h"

enum { RMK_CHILD_ARGUMENTS_MAX = 128 };

struct rmk_child {
    char name[64]; /* "text g0" */
    char log[1024];
    char *argv[RMK_CHILD_ARGUMENTS_MAX + 1]; /* each malloc'ed */
    size_t argc;
    /* Every start and every death; on the loop. */
    void (*started)(struct rmk_child *child);
    void (*died)(struct rmk_child *child, int64_t status, int signal);
    void *context;
    /* of child.c */
    uv_loop_t *loop;
    uv_process_t process;
    uv_timer_t pause;
    uint64_t begun_us;
    uint32_t pause_ms;
    uint32_t deaths;
    int64_t last_status;
    int last_signal;
    bool alive;
};

/* `name` is cut where it is too long. */
void rmk_child_init(struct rmk_child *child, uv_loop_t *loop, const char *name);
/* Frees the arguments and closes the timer; the child must be dead. Memory is free when the loop
 * has turned. */
void rmk_child_close(struct rmk_child *child);

enum rmk_err rmk_child_argument(struct rmk_child *child, const char *argument, struct rmk_why *why);
/* printf-like. */
enum rmk_err rmk_child_argumentf(struct rmk_child *child, struct rmk_why *why, const char *format,
                                 ...) __attribute__((format(printf, 3, 4)));

/* Start now. Errors: RMK_EIO; `died` is called as well. */
enum rmk_err rmk_child_start(struct rmk_child *child, struct rmk_why *why);
/* From `died`: start again after a pause, whose length in milliseconds is returned. */
uint32_t rmk_child_start_later(struct rmk_child *child);
/* Forget a start that is to come. */
void rmk_child_calm(struct rmk_child *child);

/* To the process, or with `group` to all it has started. Nothing when it is dead. */
void rmk_child_signal(const struct rmk_child *child, int signal, bool group);
int rmk_child_pid(const struct rmk_child *child); /* 0: dead */

/* What the child's log says went wrong, as one sentence: its last error, else its last line. */
void rmk_child_last_words(const struct rmk_child *child, char *out, size_t out_size);

#endif
