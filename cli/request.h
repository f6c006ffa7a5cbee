/* What is asked of a coordinator, as flags and as a packed GenerateRequest: shared by caption,
 * compare and bench.
 */
#ifndef RMK_CLI_REQUEST_H
#define RMK_CLI_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/config.h"
#include "common/err.h"
#include "remask/v1/remask.pb-c.h"

struct rmk_sampling_options {
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
    /* rule and cache; 0, NULL: as the profile says */
    const char *profile;
    int rule;
    double threshold;
    double factor;
    bool factor_compat;
    double threshold_low;
    double kappa;
    uint64_t reach;
    int cache;
    uint64_t refresh_interval;
    uint64_t prompt_interval;
    uint64_t gen_interval;
    double transfer_ratio;
    int deadline_policy;
};

struct rmk_request_options {
    const char *prompt;
    const char *system;
    const char *model;
    const char *request_id; /* no flag of all commands */
    bool video;             /* likewise: the files are the frames of one video */
    int image_mode;
    struct rmk_sampling_options sampling;
    /* where to and how */
    const char *endpoint;
    const char *name; /* of a local cluster */
    const char *api_key;
    uint64_t timeout_us;
    int lane;
};

enum { RMK_REQUEST_FLAGS = 34 };

void rmk_request_flags(struct rmk_request_options *options,
                       struct rmk_config_flag flags[RMK_REQUEST_FLAGS]);

/* Leave what a profile decides to the profile: for a run beside one with the user's own settings.
 */
void rmk_sampling_reset_decoding(struct rmk_sampling_options *sampling, const char *profile);

/* The packed GenerateRequest for these files (none: text only), malloc'ed. Errors: those of the
 * files; the sentence names the file when there are several. */
enum rmk_err rmk_request_pack(const struct rmk_request_options *options, char *const *paths,
                              size_t path_count, uint8_t **out_packed, size_t *out_size,
                              struct rmk_why *why);

/* Metadata of the call, NULL-terminated, static. */
const char *const *rmk_request_metadata(const struct rmk_request_options *options);

/* For rmk_rpc_channel_call; 0: none. */
uint64_t rmk_request_deadline_ms(const struct rmk_request_options *options);

#endif
