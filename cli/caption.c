#include "cli/caption.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/files.h"
#include "cli/state.h"
#include "common/limits.h"

enum { FLAG_COUNT = 25 };

struct command {
    struct rmk_caption_options options;
    const char *endpoint;
    const char *name;
    bool multi;
};

static void fill_flags(struct command *command, struct rmk_config_flag flags[FLAG_COUNT])
{
    static const char *const image_modes[] = {"auto",   "anyres",      "pad", "pad-bare",
                                              "square", "square-bare", NULL};
    static const char *const remaskings[] = {"low_confidence", "random", NULL};
    static const char *const stop_levels[] = {"tokens", "text", NULL};
    struct rmk_caption_options *options = &command->options;
    const struct rmk_config_flag table[FLAG_COUNT] = {
        {.name = "prompt",
         .kind = RMK_CONFIG_TEXT,
         .target = &options->prompt,
         .fallback = "Please describe the image in detail.",
         .argument = "TEXT",
         .help = "what is asked about the pictures"},
        {.name = "system",
         .kind = RMK_CONFIG_TEXT,
         .target = &options->system,
         .argument = "TEXT",
         .help = "system text instead of the model's own"},
        {.name = "endpoint",
         .kind = RMK_CONFIG_TEXT,
         .target = &command->endpoint,
         .argument = "HOST:PORT",
         .help = "the coordinator; not given: the local cluster --name, else 127.0.0.1:8001"},
        {.name = "name",
         .kind = RMK_CONFIG_TEXT,
         .target = &command->name,
         .fallback = RMK_STATE_NAME_DEFAULT,
         .argument = "NAME",
         .help = "a local cluster that `remask up` started"},
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
         .target = &options->video,
         .help = "the pictures are the frames of one video, in order"},
        {.name = "image-mode",
         .kind = RMK_CONFIG_CHOICE,
         .target = &options->image_mode,
         .fallback = "auto",
         .choices = image_modes,
         .help = "how a picture becomes tiles"},
        {.name = "parallel",
         .kind = RMK_CONFIG_UINT,
         .target = &options->parallel,
         .fallback = "4",
         .min = 1,
         .max = 1024,
         .argument = "N",
         .help = "requests under way at once (--stream shows them one after the other)"},
        {.name = "timeout",
         .kind = RMK_CONFIG_DURATION,
         .target = &options->timeout_us,
         .fallback = "10m",
         .argument = "TIME",
         .help = "for each request; 0: none"},
        {.name = "request-id",
         .kind = RMK_CONFIG_TEXT,
         .target = &options->request_id,
         .argument = "ID",
         .help = "the same id again gets the same answer; for one request only"},
        {.name = "served-model-name",
         .kind = RMK_CONFIG_TEXT,
         .target = &options->model,
         .argument = "NAME",
         .help = "refuse any other model than this"},
        {.name = "gen-length",
         .kind = RMK_CONFIG_UINT,
         .target = &options->gen_length,
         .fallback = "0",
         .max = RMK_GEN_LENGTH_MAX,
         .argument = "N",
         .help = "tokens of the answer at most; 0: the server's default"},
        {.name = "block-length",
         .kind = RMK_CONFIG_UINT,
         .target = &options->block_length,
         .fallback = "0",
         .max = RMK_GEN_LENGTH_MAX,
         .argument = "N",
         .help = "must divide gen-length; 0: the server's choice"},
        {.name = "steps",
         .kind = RMK_CONFIG_UINT,
         .target = &options->steps,
         .fallback = "0",
         .max = UINT32_MAX,
         .argument = "N",
         .help = "over all blocks, fewer is faster; 0: as many as gen-length"},
        {.name = "temperature",
         .kind = RMK_CONFIG_DOUBLE,
         .target = &options->temperature,
         .fallback = "0",
         .argument = "X",
         .help = "0: always the likeliest token"},
        {.name = "cfg-scale",
         .kind = RMK_CONFIG_DOUBLE,
         .target = &options->cfg_scale,
         .fallback = "0",
         .argument = "X",
         .help = "guidance; 0: off"},
        {.name = "remasking",
         .kind = RMK_CONFIG_CHOICE,
         .target = &options->remasking,
         .fallback = "low_confidence",
         .choices = remaskings,
         .help = "which positions settle first"},
        {.name = "seed",
         .kind = RMK_CONFIG_UINT,
         .target = &options->seed,
         .fallback = "0",
         .argument = "N",
         .help = "of temperature and random remasking"},
        {.name = "stop",
         .kind = RMK_CONFIG_TEXTS,
         .target = &options->stops,
         .argument = "TEXT",
         .help = "end the answer before this; may be repeated"},
        {.name = "stop-level",
         .kind = RMK_CONFIG_CHOICE,
         .target = &options->stop_level,
         .fallback = "tokens",
         .choices = stop_levels,
         .help = "where stop texts are looked for"},
        {.name = "default-stop",
         .kind = RMK_CONFIG_SWITCH,
         .target = &options->default_stop,
         .fallback = "true",
         .help = "the model's own end-of-turn token ends the answer"},
        {.name = "suffix",
         .kind = RMK_CONFIG_TEXT,
         .target = &options->suffix,
         .argument = "TEXT",
         .help = "text that stands behind the answer"},
    };

    memcpy(flags, table, sizeof(table));
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
    const bool one = command->multi || options->video;
    const size_t job_count = one ? 1 : paths->count;
    char endpoint[256];

    if (options->request_id != NULL && job_count > 1) {
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
    int status = rmk_caption_send(
        options, rmk_client_endpoint(command->endpoint, command->name, endpoint, sizeof(endpoint)),
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
