#include "cli/caption.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/files.h"

enum { OWN_FLAGS = 7, FLAG_COUNT = OWN_FLAGS + RMK_REQUEST_FLAGS };

struct command {
    struct rmk_caption_options options;
    bool multi;
};

static void fill_flags(struct command *command, struct rmk_config_flag flags[FLAG_COUNT])
{
    struct rmk_caption_options *options = &command->options;
    const struct rmk_config_flag table[OWN_FLAGS] = {
        {.name = "json",
         .kind = RMK_CONFIG_SWITCH,
         .target = &options->json,
         .help = "one JSON line for each picture: image, text, ids, finish_reason, usage"},
        {.name = "stream",
         .kind = RMK_CONFIG_SWITCH,
         .target = &options->stream,
         .help = "print text as it settles; with --json, lines with `delta` before the last one"},
        {.name = "timings",
         .kind = RMK_CONFIG_SWITCH,
         .target = &options->timings,
         .help = "print how long each stage took"},
        {.name = "multi",
         .kind = RMK_CONFIG_SWITCH,
         .target = &command->multi,
         .help = "all pictures in one request"},
        {.name = "video",
         .kind = RMK_CONFIG_SWITCH,
         .target = &options->request.video,
         .help = "the pictures are the frames of one video, in order"},
        {.name = "parallel",
         .kind = RMK_CONFIG_UINT,
         .target = &options->parallel,
         .fallback = "4",
         .min = 1,
         .max = 1024,
         .argument = "N",
         .help = "requests under way at once (--stream shows them one after the other)"},
        {.name = "request-id",
         .kind = RMK_CONFIG_TEXT,
         .target = &options->request.request_id,
         .argument = "ID",
         .help = "the same id again gets the same answer; for one request only"},
    };

    memcpy(flags, table, sizeof(table));
    rmk_request_flags(&options->request, flags + OWN_FLAGS);
}

/* `-` stands for a list of paths on standard input. */
static enum rmk_err gather(const struct rmk_config *config, struct rmk_paths *paths,
                           struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;

    for (size_t i = 0; i < config->operand_count; i++) {
        if (strcmp(config->operands[i], "-") == 0) {
            RMK_TRY(rmk_paths_add_stdin(paths, why));
        } else {
            RMK_TRY(rmk_paths_add(paths, config->operands[i], why));
        }
    }
    if (paths->count == 0) {
        err = rmk_fail(why, RMK_EINVAL, "standard input names no pictures");
    }
out:
    return err;
}

static int run(struct command *command, const struct rmk_paths *paths)
{
    struct rmk_caption_options *options = &command->options;
    const bool one = command->multi || options->request.video;
    const size_t job_count = one ? 1 : paths->count;
    char endpoint[256];

    if (options->request.request_id != NULL && job_count > 1) {
        (void)fprintf(stderr, "remask caption: --request-id names one request, but there are %zu\n",
                      job_count);
        return RMK_EXIT_USAGE;
    }
    struct rmk_caption_job *jobs = calloc(job_count, sizeof(*jobs));
    if (jobs == NULL) {
        (void)fprintf(stderr, "remask caption: no memory for %zu pictures\n", job_count);
        return RMK_EXIT_FAILURE;
    }
    for (size_t i = 0; i < job_count; i++) {
        jobs[i].paths = paths->items + i;
        jobs[i].path_count = one ? paths->count : 1;
    }
    options->labelled = job_count > 1;
    int status =
        rmk_caption_send(options,
                         rmk_client_endpoint(options->request.endpoint, options->request.name,
                                             endpoint, sizeof(endpoint)),
                         jobs, job_count);
    free(jobs);
    return status;
}

int rmk_caption_run(int argc, char **argv)
{
    struct command command = {0};
    struct rmk_config_flag flags[FLAG_COUNT] = {{0}};
    struct rmk_paths paths = {0};
    struct rmk_why why = {0};
    struct rmk_config config = {
        .program = "remask caption",
        .summary = "Describe pictures (JPEG, PNG, WebP), or answer a question about them. `-` "
                   "reads paths from\n"
                   "standard input, one a line.",
        .operands_name = "IMAGE…",
        .flags = flags,
        .flag_count = FLAG_COUNT,
        .operands_min = 1,
        .operands_max = SIZE_MAX,
    };

    fill_flags(&command, flags);
    int status = rmk_config_load(&config, argc, argv);
    if (status < 0) {
        if (gather(&config, &paths, &why) == RMK_OK) {
            status = run(&command, &paths);
        } else {
            (void)fprintf(stderr, "remask caption: %s\n", why.text);
            status = RMK_EXIT_USAGE;
        }
    }
    rmk_paths_deinit(&paths);
    rmk_config_deinit(&config);
    return status;
}
