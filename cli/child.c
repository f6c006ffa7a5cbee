#include "cli/child.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/bind.h"
#include "cli/last_words.h"
#include "common/clock.h"

enum {
    PAUSE_MS_MIN = 100,
    PAUSE_MS_MAX = 10000,
    STEADY_US = 30000000, /* what has lived this long starts again soon */
    STATUS_NOT_STARTED = 127,
};

void rmk_child_init(struct rmk_child *child, uv_loop_t *loop, const char *name)
{
    memset(child, 0, sizeof(*child));
    (void)snprintf(child->name, sizeof(child->name), "%s", name);
    child->loop = loop;
    child->pause_ms = PAUSE_MS_MIN;
    (void)uv_timer_init(loop, &child->pause);
    child->pause.data = child;
}

void rmk_child_close(struct rmk_child *child)
{
    rmk_assert(!child->alive);
    for (size_t i = 0; i < child->argc; i++) {
        free(child->argv[i]);
    }
    child->argc = 0;
    uv_close((uv_handle_t *)&child->pause, NULL);
}

enum rmk_err rmk_child_argument(struct rmk_child *child, const char *argument, struct rmk_why *why)
{
    if (child->argc == RMK_CHILD_ARGUMENTS_MAX) {
        return rmk_fail(why, RMK_ELIMIT, "more than %d arguments for %s", RMK_CHILD_ARGUMENTS_MAX,
                        child->name);
    }
    child->argv[child->argc] = strdup(argument);
    if (child->argv[child->argc] == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for an argument");
    }
    child->argc++;
    return RMK_OK;
}

enum rmk_err rmk_child_argumentf(struct rmk_child *child, struct rmk_why *why, const char *format,
                                 ...)
{
    char text[2048];
    va_list arguments;

    va_start(arguments, format);
    int size = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (size < 0 || size >= (int)sizeof(text)) {
        return rmk_fail(why, RMK_EINVAL, "an argument for %s is longer than %zu bytes", child->name,
                        sizeof(text) - 1);
    }
    return rmk_child_argument(child, text, why);
}

static void on_closed(uv_handle_t *handle)
{
    struct rmk_child *child = handle->data;

    child->died(child, child->last_status, child->last_signal);
}

/* The handle's memory is used again only when its close is through. */
static void on_exit_of_child(uv_process_t *process, int64_t status, int signal)
{
    struct rmk_child *child = process->data;

    child->alive = false;
    child->deaths++;
    child->last_status = status;
    child->last_signal = signal;
    uv_close((uv_handle_t *)process, on_closed);
}

static enum rmk_err spawn(struct rmk_child *child, int log, struct rmk_why *why)
{
    char self[4096];
    char parent[32];
    char *argv[RMK_CHILD_ARGUMENTS_MAX + 4];
    size_t self_size = sizeof(self);
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = log},
        {.flags = UV_INHERIT_FD, .data.fd = log},
    };

    (void)uv_exepath(self, &self_size);
    (void)snprintf(parent, sizeof(parent), "%ld", (long)getpid());
    argv[0] = self;
    argv[1] = (char *)(uintptr_t)RMK_BIND_COMMAND;
    argv[2] = parent;
    memcpy(argv + 3, child->argv, child->argc * sizeof(*argv));
    argv[3 + child->argc] = NULL;
    const uv_process_options_t options = {
        .file = self,
        .args = argv,
        .exit_cb = on_exit_of_child,
        .stdio = stdio,
        .stdio_count = 3,
        .flags = UV_PROCESS_DETACHED,
    };
    child->begun_us = rmk_clock_us();
    child->process.data = child;
    int failed = uv_spawn(child->loop, &child->process, &options);
    if (failed != 0) {
        child->last_status = STATUS_NOT_STARTED;
        child->last_signal = 0;
        child->deaths++;
        uv_close((uv_handle_t *)&child->process, on_closed);
        return rmk_fail(why, RMK_EIO, "%s cannot be started: %s", child->name, uv_strerror(failed));
    }
    child->alive = true;
    child->started(child);
    return RMK_OK;
}

enum rmk_err rmk_child_start(struct rmk_child *child, struct rmk_why *why)
{
    int log = open(child->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    if (log < 0) {
        log = open("/dev/null", O_WRONLY | O_CLOEXEC); /* a full disk need not stop a cluster */
    }
    enum rmk_err err = spawn(child, log, why);
    (void)close(log);
    return err;
}

static void on_pause_over(uv_timer_t *timer)
{
    struct rmk_child *child = timer->data;
    (void)rmk_child_start(child, NULL); /* what fails is a death, of which the owner hears */
}

uint32_t rmk_child_start_later(struct rmk_child *child)
{
    if (rmk_clock_us() - child->begun_us > STEADY_US) {
        child->pause_ms = PAUSE_MS_MIN;
    }
    const uint32_t pause_ms = child->pause_ms;
    (void)uv_timer_start(&child->pause, on_pause_over, pause_ms, 0);
    child->pause_ms = pause_ms * 2 > PAUSE_MS_MAX ? PAUSE_MS_MAX : pause_ms * 2;
    return pause_ms;
}

void rmk_child_calm(struct rmk_child *child)
{
    (void)uv_timer_stop(&child->pause);
}

void rmk_child_signal(const struct rmk_child *child, int signal, bool group)
{
    if (child->alive) {
        (void)kill(group ? -child->process.pid : child->process.pid, signal);
    }
}

int rmk_child_pid(const struct rmk_child *child)
{
    return child->alive ? child->process.pid : 0;
}

void rmk_child_last_words(const struct rmk_child *child, char *out, size_t out_size)
{
    rmk_last_words(child->log, out, out_size);
}
