/* remask caption, its parts: the flags (caption.c) ask for requests (request.c), which are
 * sent a few at a time (caption_send.c) and printed in the order of the command line
 * (caption_print.c).
 */
#ifndef RMK_CLI_CAPTION_H
#define RMK_CLI_CAPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/generate.h"
#include "cli/request.h"
#include "common/bytes.h"

struct rmk_caption_options {
    struct rmk_request_options request;
    bool stream;
    bool json;
    bool timings;
    bool labelled; /* more than one request: say whose the text is */
    uint64_t parallel;
};

/* One request: a picture, or all of them. */
struct rmk_caption_job {
    char *const *paths; /* borrowed */
    size_t path_count;
    /* filled in */
    struct rmk_answer answer;
    bool done;
    bool begun; /* streaming has printed something */
};

/* Run all jobs against `endpoint` and print them. Returns the exit status. */
int rmk_caption_send(const struct rmk_caption_options *options, const char *endpoint,
                     struct rmk_caption_job *jobs, size_t job_count);

/* The finished job, result or error. */
void rmk_caption_print(const struct rmk_caption_options *options,
                       const struct rmk_caption_job *job);
/* A piece of settled text of a job whose turn it is (--stream). */
void rmk_caption_print_piece(const struct rmk_caption_options *options, struct rmk_caption_job *job,
                             struct rmk_bytes text);

#endif
