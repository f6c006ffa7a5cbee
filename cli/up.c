#include "cli/up.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/json_text.h"
#include "cli/state.h"
#include "common/clock.h"
#include "common/limits.h"

enum { FLAG_COUNT = 18 };

struct command {
    struct rmk_up_options options;
    int backend;
    int dtype;
    bool detach;
    bool json;
    int told_fd; /* detached: the parent waits for a byte here; -1 */
};

static const char *const backends[] = {"cpu", "ref", "cuda", NULL};
static const char *const dtypes[] = {"f32", "bf16", "f16", NULL};

static void fill_flags(struct command *command, struct rmk_config_flag flags[FLAG_COUNT])
{
    struct rmk_up_options *options = &command->options;
    const struct rmk_config_flag table[FLAG_COUNT] = {
        {.name = "model",
         .kind = RMK_CONFIG_TEXT,
         .target = &options->model,
         .argument = "DIR",
         .required = true,
         .help = "checkpoint folder (config.json, safetensors, tokenizer.json)"},
        {.name = "vision-dir",
         .kind = RMK_CONFIG_TEXT,
         .target = &options->vision_dir,
         .argument = "DIR",
         .help =
             "separate SigLIP2 folder; not given: vision in the model's folder, or MODEL-siglip "
             "beside it, if there"},
        {.name = "groups",
         .kind = RMK_CONFIG_UINT,
         .target = &options->group_count,
         .fallback = "1",
         .min = 1,
         .max = RMK_GROUPS_MAX,
         .argument = "N",
         .help = "text groups, each with the whole model"},
        {.name = "tp",
         .kind = RMK_CONFIG_UINT,
         .target = &options->rank_count,
         .fallback = "1",
         .min = 1,
         .max = RMK_TP_RANKS_MAX,
         .argument = "R",
         .help = "tensor-parallel ranks of a group, one process each"},
        {.name = "vision",
         .kind = RMK_CONFIG_UINT,
         .target = &options->vision_count,
         .fallback = "1",
         .max = RMK_VISION_MAX,
         .argument = "N",
         .help = "vision workers"},
        {.name = "port-base",
         .kind = RMK_CONFIG_UINT,
         .target = &options->port_base,
         .fallback = "8000",
         .max = 65000,
         .argument = "P",
         .help = "gRPC on P+1, metrics on P+2, workers on P+3; 0: the system chooses"},
        {.name = "backend",
         .kind = RMK_CONFIG_CHOICE,
         .target = &command->backend,
         .fallback = "cpu",
         .choices = backends,
         .help = "where the model runs"},
        {.name = "dtype",
         .kind = RMK_CONFIG_CHOICE,
         .target = &command->dtype,
         .fallback = "f32",
         .choices = dtypes,
         .help = "compute type"},
        {.name = "threads",
         .kind = RMK_CONFIG_UINT,
         .target = &options->threads,
         .fallback = "0",
         .max = 1024,
         .argument = "N",
         .help = "of each worker; 0: the processors divided among those of its role"},
        {.name = "detach",
         .kind = RMK_CONFIG_SWITCH,
         .target = &command->detach,
         .help = "go to the background when ready; `remask down` stops it"},
        {.name = "json",
         .kind = RMK_CONFIG_SWITCH,
         .target = &command->json,
         .help = "when ready, one line of JSON with the addresses instead of text"},
        {.name = "name",
         .kind = RMK_CONFIG_TEXT,
         .target = &options->name,
         .fallback = RMK_STATE_NAME_DEFAULT,
         .argument = "NAME",
         .help = "for down, status and caption, when there are several"},
        {.name = "log-dir",
         .kind = RMK_CONFIG_TEXT,
         .target = &options->log_dir,
         .argument = "DIR",
         .help = "one log for each process; not given: in $XDG_RUNTIME_DIR/remask, else "
                 "/tmp/remask-UID"},
        {.name = "start-timeout",
         .kind = RMK_CONFIG_DURATION,
         .target = &options->start_timeout_us,
         .fallback = "10m",
         .min = 1000000,
         .argument = "TIME",
         .help = "give up when not ready by then"},
        {.name = "stop-timeout",
         .kind = RMK_CONFIG_DURATION,
         .target = &options->stop_timeout_us,
         .fallback = "30s",
         .argument = "TIME",
         .max = 3600000000u,
         .help = "how long open requests may go on after Ctrl-C or `remask down`"},
        {.name = "coordinator-flag",
         .kind = RMK_CONFIG_TEXTS,
         .target = &options->coordinator_flags,
         .argument = "FLAG",
         .help = "handed to remask-coordinator, as --coordinator-flag=--max-requests=8"},
        {.name = "text-flag",
         .kind = RMK_CONFIG_TEXTS,
         .target = &options->text_flags,
         .argument = "FLAG",
         .help = "handed to remask-worker text"},
        {.name = "vision-flag",
         .kind = RMK_CONFIG_TEXTS,
         .target = &options->vision_flags,
         .argument = "FLAG",
         .help = "handed to remask-worker vision"},
    };

    memcpy(flags, table, sizeof(table));
}

/* The one who typed the command has its answer; from now on we speak to a log. */
static void leave_terminal(struct rmk_cluster *cluster, int told_fd)
{
    char path[1100];
    const char good = 0;

    (void)snprintf(path, sizeof(path), "%s/up.log", cluster->log_dir);
    int log = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (log < 0) {
        log = open("/dev/null", O_WRONLY | O_CLOEXEC);
    }
    (void)fflush(stdout);
    if (log >= 0) {
        (void)dup2(log, STDOUT_FILENO);
        (void)dup2(log, STDERR_FILENO);
        (void)close(log);
    }
    if (write(told_fd, &good, 1) != 1) {
        (void)raise(SIGTERM); /* nobody waits any more: whoever asked has changed his mind */
    }
    (void)close(told_fd);
}

static void print_json(const struct rmk_cluster *cluster)
{
    rmk_json_print_line(json_pack("{s:s, s:i, s:s, s:s, s:s, s:o, s:f}", "name",
                                  cluster->options->name, "pid", (int)getpid(), "endpoint",
                                  cluster->endpoint, "metrics", cluster->metrics, "cluster",
                                  cluster->internal, "logs", rmk_json_text(cluster->log_dir),
                                  "seconds", (double)(rmk_clock_us() - cluster->begun_us) / 1e6));
}

static void print_text(const struct rmk_cluster *cluster)
{
    (void)printf("gRPC     %s\n", cluster->endpoint);
    (void)printf("metrics  http://%s/metrics\n", cluster->metrics);
    (void)printf("workers  %s\n", cluster->internal);
    (void)printf("logs     %s\n", cluster->log_dir);
    (void)printf("ready in %.1f s\n", (double)(rmk_clock_us() - cluster->begun_us) / 1e6);
}

static void on_ready(struct rmk_cluster *cluster, void *context)
{
    struct command *command = context;

    if (command->json) {
        print_json(cluster);
    } else {
        print_text(cluster);
    }
    (void)fflush(stdout);
    if (command->told_fd >= 0) {
        leave_terminal(cluster, command->told_fd);
        command->told_fd = -1;
    }
}

/* The parent waits until the child is ready or has ended, and ends as it did. */
static int wait_for_detached(int told_fd, pid_t child)
{
    char byte;
    ssize_t got;
    int status = 0;

    do {
        got = read(told_fd, &byte, 1);
    } while (got < 0 && errno == EINTR);
    (void)close(told_fd);
    if (got == 1) {
        return RMK_EXIT_OK;
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFSIGNALED(status)) {
        return 128 + WTERMSIG(status);
    }
    return WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : RMK_EXIT_FAILURE;
}

/* Before any loop, thread or gRPC exists: a fork would break them. */
static int run_detached(struct command *command)
{
    int told[2];

    (void)fflush(NULL);
    if (pipe2(told, O_CLOEXEC) != 0) {
        (void)fprintf(stderr, "remask up: a pipe: %s\n", strerror(errno));
        return RMK_EXIT_FAILURE;
    }
    pid_t child = fork();
    if (child < 0) {
        (void)fprintf(stderr, "remask up: a process: %s\n", strerror(errno));
        return RMK_EXIT_FAILURE;
    }
    if (child > 0) {
        (void)close(told[1]);
        return wait_for_detached(told[0], child);
    }
    (void)close(told[0]);
    (void)setsid();
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (nothing >= 0) {
        (void)dup2(nothing, STDIN_FILENO);
        (void)close(nothing);
    }
    command->told_fd = told[1];
    return rmk_cluster_run(&command->options, on_ready, command);
}

int rmk_up_run(int argc, char **argv)
{
    struct command command = {.told_fd = -1};
    struct rmk_config_flag flags[FLAG_COUNT] = {{0}};
    struct rmk_config config = {
        .program = "remask up",
        .summary = "Start a cluster on this machine: a coordinator, text groups and vision workers "
                   "as processes that\n"
                   "are started again when they die. Runs until Ctrl-C.",
        .flags = flags,
        .flag_count = FLAG_COUNT,
    };
    struct rmk_why why = {0};

    fill_flags(&command, flags);
    int status = rmk_config_load(&config, argc, argv);
    if (status >= 0) {
        goto out;
    }
    if (rmk_state_check_name(command.options.name, &why) != RMK_OK) {
        (void)fprintf(stderr, "remask up: %s\n", why.text);
        status = RMK_EXIT_USAGE;
        goto out;
    }
    command.options.backend = backends[command.backend];
    command.options.dtype = dtypes[command.dtype];
    status = command.detach ? run_detached(&command)
                            : rmk_cluster_run(&command.options, on_ready, &command);
out:
    rmk_config_deinit(&config);
    return status;
}
