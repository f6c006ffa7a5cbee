#include "worker/spawn.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <uv.h>

#include "common/clock.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/process.h"

enum {
    PAUSE_MS_MIN = 100,
    PAUSE_MS_MAX = 10000,
    STEADY_US = 30000000, /* a rank that lived this long starts again at once */
};

/* Tells ranks whose children they are: a process that has lost its parent cannot find out, and in a
 * container process 1 may be a supervisor like any other. */
static const char supervisor_variable[] = "REMASK_SUPERVISOR_PID";

struct supervisor;

struct rank {
    struct supervisor *supervisor;
    uv_process_t process;
    uv_timer_t pause;
    uint32_t number;
    uint32_t pause_ms;
    uint64_t begun_us;
    bool alive;
};

struct supervisor {
    uv_loop_t loop;
    uv_signal_t signals[2];
    char **argv;
    char self[4096];
    struct rank *ranks;
    uint32_t count;
    bool stopping;
    int status;
};

static void start(uv_timer_t *timer);

static void stop_all(struct supervisor *supervisor, int signal)
{
    supervisor->stopping = true;
    for (uint32_t i = 0; i < supervisor->count; i++) {
        struct rank *rank = &supervisor->ranks[i];
        if (rank->alive) {
            (void)uv_process_kill(&rank->process, signal);
        }
        if (!uv_is_closing((uv_handle_t *)&rank->pause)) {
            uv_close((uv_handle_t *)&rank->pause, NULL);
        }
    }
    for (int i = 0; i < 2; i++) {
        if (!uv_is_closing((uv_handle_t *)&supervisor->signals[i]) && signal == SIGKILL) {
            uv_close((uv_handle_t *)&supervisor->signals[i], NULL);
        }
        uv_unref((uv_handle_t *)&supervisor->signals[i]); /* the loop ends with the last rank */
    }
}

static void on_exit_of_rank(uv_process_t *process, int64_t status, int signal)
{
    struct rank *rank = process->data;
    struct supervisor *supervisor = rank->supervisor;

    rank->alive = false;
    uv_close((uv_handle_t *)process, NULL);
    if (supervisor->stopping) {
        return;
    }
    rmk_log(RMK_LOG_WARN, "spawn", "rank died", "rank=%u status=%lld signal=%d pause_ms=%u",
            rank->number, (long long)status, signal, rank->pause_ms);
    if (status == RMK_EXIT_CONFIG /* starting again cannot help */) {
        supervisor->status = RMK_EXIT_CONFIG;
        stop_all(supervisor, SIGTERM);
        return;
    }
    if (rmk_clock_us() - rank->begun_us > STEADY_US) {
        rank->pause_ms = PAUSE_MS_MIN;
    }
    (void)uv_timer_start(&rank->pause, start, rank->pause_ms, 0);
    rank->pause_ms = rank->pause_ms * 2 > PAUSE_MS_MAX ? PAUSE_MS_MAX : rank->pause_ms * 2;
}

static void start(uv_timer_t *timer)
{
    struct rank *rank = timer->data;
    struct supervisor *supervisor = rank->supervisor;
    char number[16];
    char *argv[256];
    size_t count = 0;
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = STDOUT_FILENO},
        {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO},
    };

    (void)snprintf(number, sizeof(number), "%u", rank->number);
    while (supervisor->argv[count] != NULL && count < sizeof(argv) / sizeof(argv[0]) - 4) {
        argv[count] = supervisor->argv[count];
        count++;
    }
    argv[count++] = "--rank";
    argv[count++] = number;
    argv[count++] = "--supervised";
    argv[count] = NULL;
    uv_process_options_t options = {
        .file = supervisor->self,
        .args = argv,
        .exit_cb = on_exit_of_rank,
        .stdio = stdio,
        .stdio_count = 3,
    };
    rank->begun_us = rmk_clock_us();
    rank->process.data = rank;
    int failed = uv_spawn(&supervisor->loop, &rank->process, &options);
    if (failed != 0) {
        rmk_log(RMK_LOG_ERROR, "spawn", "rank cannot be started", "rank=%u why=%s", rank->number,
                uv_strerror(failed));
        uv_close((uv_handle_t *)&rank->process, NULL);
        (void)uv_timer_start(&rank->pause, start, rank->pause_ms, 0);
        return;
    }
    rank->alive = true;
}

static void on_signal(uv_signal_t *signal, int number)
{
    struct supervisor *supervisor = signal->data;

    stop_all(supervisor, supervisor->stopping ? SIGKILL : number);
}

int rmk_spawn_ranks(char **argv, uint32_t first_rank, uint32_t count)
{
    static const int numbers[2] = {SIGTERM, SIGINT};
    struct supervisor *supervisor = calloc(1, sizeof(*supervisor));
    struct rank *ranks = calloc(count, sizeof(*ranks));

    if (supervisor == NULL || ranks == NULL) {
        free(supervisor);
        free(ranks);
        return 1;
    }
    char self_pid[32];
    (void)snprintf(self_pid, sizeof(self_pid), "%ld", (long)getpid());
    (void)setenv(supervisor_variable, self_pid, 1);
    size_t self_size = sizeof(supervisor->self);
    (void)uv_exepath(supervisor->self, &self_size);
    supervisor->argv = argv;
    supervisor->ranks = ranks;
    supervisor->count = count;
    (void)uv_loop_init(&supervisor->loop);
    for (int i = 0; i < 2; i++) {
        (void)uv_signal_init(&supervisor->loop, &supervisor->signals[i]);
        supervisor->signals[i].data = supervisor;
        (void)uv_signal_start(&supervisor->signals[i], on_signal, numbers[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        ranks[i].supervisor = supervisor;
        ranks[i].number = first_rank + i;
        ranks[i].pause_ms = PAUSE_MS_MIN;
        (void)uv_timer_init(&supervisor->loop, &ranks[i].pause);
        ranks[i].pause.data = &ranks[i];
        start(&ranks[i].pause);
    }
    (void)uv_run(&supervisor->loop, UV_RUN_DEFAULT);
    for (int i = 0; i < 2; i++) {
        if (!uv_is_closing((uv_handle_t *)&supervisor->signals[i])) {
            uv_close((uv_handle_t *)&supervisor->signals[i], NULL);
        }
    }
    (void)uv_run(&supervisor->loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&supervisor->loop);
    int status = supervisor->status;
    free(ranks);
    free(supervisor);
    return status;
}

void rmk_spawn_bind_to_parent(void)
{
    const char *named = getenv(supervisor_variable);
    const long parent = named != NULL ? strtol(named, NULL, 10) : (long)getppid();

    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if ((long)getppid() != parent) {
        _exit(0); /* it went before we asked */
    }
}
