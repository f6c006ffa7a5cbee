#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "cli/cli.h"
#include "cli/state.h"
#include "common/clock.h"
#include "common/config.h"

enum {
    LOOK_US = 50000,
    KILL_WAIT_US = 10000000,
};

/* Its name is free again when all of it has ended. */
static bool wait_until_gone(const char *name, uint64_t timeout_us)
{
    const uint64_t due_us = rmk_clock_us() + timeout_us;

    while (rmk_state_running(name)) {
        if (rmk_clock_us() > due_us) {
            return false;
        }
        (void)usleep(LOOK_US);
    }
    return true;
}

static int stop(const char *name, uint64_t timeout_us)
{
    char path[RMK_STATE_PATH_MAX];
    struct rmk_why why = {0};
    json_t *state = NULL;

    if (rmk_state_check_name(name, &why) != RMK_OK) {
        (void)fprintf(stderr, "remask down: %s\n", why.text);
        return RMK_EXIT_USAGE;
    }
    if (rmk_state_path(name, "", path, &why) != RMK_OK) {
        (void)fprintf(stderr, "remask down: %s\n", why.text);
        return RMK_EXIT_FAILURE;
    }
    if (!rmk_state_running(name)) {
        (void)fprintf(stderr, "remask down: no cluster named %s is running\n", name);
        return RMK_EXIT_FAILURE;
    }
    if (rmk_state_read(name, &state, &why) != RMK_OK) {
        (void)fprintf(stderr, "remask down: %s\n", why.text);
        return RMK_EXIT_FAILURE;
    }
    const pid_t pid = (pid_t)json_integer_value(json_object_get(state, "pid"));
    json_decref(state);
    if (pid <= 1 || kill(pid, SIGTERM) != 0) {
        (void)fprintf(stderr, "remask down: process %ld cannot be asked to stop: %s\n", (long)pid,
                      strerror(errno));
        return RMK_EXIT_FAILURE;
    }
    if (!wait_until_gone(name, timeout_us)) {
        (void)fprintf(stderr, "remask down: %s did not stop in %.0f s and is killed\n", name,
                      (double)timeout_us / 1e6);
        (void)kill(pid, SIGKILL); /* its children end with it */
        if (!wait_until_gone(name, KILL_WAIT_US)) {
            return RMK_EXIT_FAILURE;
        }
        rmk_state_remove(name);
    }
    (void)printf("stopped %s\n", name);
    return RMK_EXIT_OK;
}

int rmk_down_run(int argc, char **argv)
{
    const char *name = NULL;
    uint64_t timeout_us = 0;
    struct rmk_config_flag flags[] = {
        {.name = "name",
         .kind = RMK_CONFIG_TEXT,
         .target = &name,
         .fallback = RMK_STATE_NAME_DEFAULT,
         .argument = "NAME",
         .help = "the cluster"},
        {.name = "timeout",
         .kind = RMK_CONFIG_DURATION,
         .target = &timeout_us,
         .fallback = "60s",
         .argument = "TIME",
         .help = "kill what has not stopped by then"},
    };
    struct rmk_config config = {
        .program = "remask down",
        .summary = "Stop a cluster that `remask up` started: open requests end first.",
        .flags = flags,
        .flag_count = sizeof(flags) / sizeof(flags[0]),
    };
    int status = rmk_config_load(&config, argc, argv);

    if (status < 0) {
        status = stop(name, timeout_us);
    }
    rmk_config_deinit(&config);
    return status;
}
