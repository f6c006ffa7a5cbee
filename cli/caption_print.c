#include <stdio.h>

#include "cli/caption.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/json_text.h"

static json_t *images_json(const struct rmk_caption_job *job)
{
    json_t *list;

    if (job->path_count == 1) {
        return rmk_json_text(job->paths[0]);
    }
    list = json_array();
    for (size_t i = 0; i < job->path_count; i++) {
        (void)json_array_append_new(list, rmk_json_text(job->paths[i]));
    }
    return list;
}

static void print_result_json(const struct rmk_caption_job *job)
{
    const Remask__V1__GenerateResult *result = job->answer.result;
    json_t *line = json_object();

    (void)json_object_set_new(line, "image", images_json(job));
    (void)json_object_set_new(line, "text", rmk_json_bytes(job->answer.text));
    (void)json_object_set_new(line, "ids", rmk_answer_ids_json(&job->answer));
    (void)json_object_set_new(line, "finish_reason", rmk_json_text(result->finish_reason));
    (void)json_object_set_new(line, "usage", rmk_answer_usage_json(&job->answer));
    (void)json_object_set_new(line, "request_id", rmk_json_text(result->request_id));
    (void)json_object_set_new(line, "model", rmk_json_text(result->model));
    rmk_json_print_line(line);
}

static void print_error(const struct rmk_caption_options *options,
                        const struct rmk_caption_job *job)
{
    if (options->json) {
        json_t *line = json_object();

        (void)json_object_set_new(line, "image", images_json(job));
        (void)json_object_set_new(line, "error",
                                  json_pack("{s:s, s:o}", "code",
                                            rmk_status_name(job->answer.status), "message",
                                            rmk_json_text(job->answer.why.text)));
        rmk_json_print_line(line);
    } else if (job->begun) {
        (void)printf("\n");
    }
    (void)fflush(stdout);
    if (job->path_count == 1) {
        rmk_cli_complain("remask caption: %s: %s", job->paths[0], job->answer.why.text);
    } else {
        rmk_cli_complain("remask caption: %s", job->answer.why.text);
    }
}

static void print_timings(const Remask__V1__Usage *usage)
{
    (void)printf("  queue %.1f ms, encode %.1f ms, first commit %.1f ms, compute %.1f ms, total "
                 "%.1f ms, %u forwards (%s, %.2f tokens each)\n",
                 (double)usage->queue_us / 1e3, (double)usage->encode_us / 1e3,
                 (double)usage->first_commit_us / 1e3, (double)usage->compute_us / 1e3,
                 (double)usage->total_us / 1e3, usage->forwards, usage->profile,
                 usage->tokens_per_forward);
}

static void print_label(const struct rmk_caption_options *options,
                        const struct rmk_caption_job *job)
{
    if (options->labelled) {
        (void)printf("%s: ", job->paths[0]);
    }
}

void rmk_caption_print_piece(const struct rmk_caption_options *options, struct rmk_caption_job *job,
                             struct rmk_bytes text)
{
    if (text.size == 0) {
        return;
    }
    if (options->json) {
        json_t *line = json_object();

        (void)json_object_set_new(line, "image", images_json(job));
        (void)json_object_set_new(line, "delta", rmk_json_bytes(text));
        rmk_json_print_line(line);
        return;
    }
    if (!job->begun) {
        print_label(options, job);
        job->begun = true;
    }
    (void)fwrite(text.data, 1, text.size, stdout);
    (void)fflush(stdout);
}

void rmk_caption_print(const struct rmk_caption_options *options, const struct rmk_caption_job *job)
{
    if (job->answer.result == NULL) {
        print_error(options, job);
        return;
    }
    if (options->json) {
        print_result_json(job);
        return;
    }
    if (!job->begun) {
        print_label(options, job);
        (void)fwrite(job->answer.text.data, 1, job->answer.text.size, stdout);
    }
    (void)printf("\n");
    if (options->timings && job->answer.result->usage != NULL) {
        print_timings(job->answer.result->usage);
    }
    (void)fflush(stdout);
}
