/* remask caption, its parts: the flags (caption.c) ask for requests (caption_request.c), which are
 * sent a few at a time (caption_send.c) and printed in the order of the command line
 * (caption_print.c).
 */
#ifndef RMK_CLI_CAPTION_H
#define RMK_CLI_CAPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/config.h"
#include "common/err.h"
#include "common/rpc/rpc.h"
#include "remask/v1/remask.pb-c.h"

struct rmk_caption_options {
    const char *prompt;
    const char *system;
    const char *model;
    const char *request_id;
    bool video; /* the files are the frames of one video */
    int image_mode;
    uint64_t gen_length;
    uint64_t block_length;
    uint64_t steps;
    double temperature;
    double cfg_scale;
    int remasking;
    uint64_t seed;
    struct rmk_config_texts stops;
    int stop_level;
    const char *suffix;
    bool default_stop;
    /* how it is sent and shown */
    bool stream;
    bool json;
    bool timings;
    bool labelled; /* more than one request: say whose the text is */
    uint64_t parallel;
    uint64_t timeout_us; /* 0: none */
};

/* One request: a picture, or all of them. */
struct rmk_caption_job {
    char *const *paths; /* borrowed */
    size_t path_count;
    /* filled in */
    Remask__V1__GenerateResult *result; /* NULL: `status` and `why` say why not */
    struct rmk_bytes text;              /* the result's, malloc'ed: it may hold NULs */
    int status;
    struct rmk_why why;
    bool done;
    bool begun; /* streaming has printed something */
};

/* The packed GenerateRequest for a job's files, malloc'ed. Errors: those of the files; the sentence
 * names the file when the job has several. */
enum rmk_err rmk_caption_request(const struct rmk_caption_options *options,
                                 const struct rmk_caption_job *job, uint8_t **out_packed,
                                 size_t *out_size, struct rmk_why *why);

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
