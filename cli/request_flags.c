#include <string.h>

#include "cli/cli.h"
#include "cli/request.h"
#include "cli/state.h"
#include "common/limits.h"

#define CHOICE(flag, where, otherwise, list, sentence)                                             \
    {                                                                                              \
        .name = (flag), .kind = RMK_CONFIG_CHOICE, .target = (where), .fallback = (otherwise),     \
        .choices = (list), .help = (sentence)                                                      \
    }
#define TEXT(flag, where, otherwise, shape, sentence)                                              \
    {                                                                                              \
        .name = (flag), .kind = RMK_CONFIG_TEXT, .target = (where), .fallback = (otherwise),       \
        .argument = (shape), .help = (sentence)                                                    \
    }
#define NUMBER(flag, where, most, sentence)                                                        \
    {                                                                                              \
        .name = (flag), .kind = RMK_CONFIG_UINT, .target = (where), .fallback = "0",               \
        .max = (most), .argument = "N", .help = (sentence)                                         \
    }
#define REAL(flag, where, sentence)                                                                \
    {                                                                                              \
        .name = (flag), .kind = RMK_CONFIG_DOUBLE, .target = (where), .fallback = "0",             \
        .argument = "X", .help = (sentence)                                                        \
    }
#define SWITCH(flag, where, otherwise, sentence)                                                   \
    {                                                                                              \
        .name = (flag), .kind = RMK_CONFIG_SWITCH, .target = (where), .fallback = (otherwise),     \
        .help = (sentence)                                                                         \
    }

/* In the order of the API's enums. */
static const char *const image_modes[] = {"auto",   "anyres",      "pad", "pad-bare",
                                          "square", "square-bare", NULL};
static const char *const remaskings[] = {"low_confidence", "random", NULL};
static const char *const stop_levels[] = {"tokens", "text", NULL};
static const char *const rules[] = {"profile",      "quota",      "threshold", "factor",
                                    "hierarchical", "local-leap", NULL};
static const char *const caches[] = {"profile", "none",    "prompt", "prefix",
                                     "dual",    "feature", NULL};
static const char *const deadline_policies[] = {"fail", "best", NULL};
static const char *const lanes[] = {"online", "batch", NULL};

void rmk_request_flags(struct rmk_request_options *options,
                       struct rmk_config_flag flags[RMK_REQUEST_FLAGS])
{
    struct rmk_sampling_options *sampling = &options->sampling;
    const struct rmk_config_flag table[RMK_REQUEST_FLAGS] = {
        TEXT("prompt", &options->prompt, "Please describe the image in detail.", "TEXT",
             "what is asked about the pictures"),
        TEXT("system", &options->system, NULL, "TEXT", "system text instead of the model's own"),
        TEXT("endpoint", &options->endpoint, NULL, "HOST:PORT",
             "the coordinator; not given: the local cluster --name, else 127.0.0.1:8001"),
        TEXT("name", &options->name, RMK_STATE_NAME_DEFAULT, "NAME",
             "a local cluster that `remask up` started"),
        TEXT("api-key", &options->api_key, NULL, "KEY", RMK_CLIENT_API_KEY_HELP),
        {.name = "timeout",
         .kind = RMK_CONFIG_DURATION,
         .target = &options->timeout_us,
         .fallback = "10m",
         .argument = "TIME",
         .help = "for each request; 0: none"},
        CHOICE("lane", &options->lane, "online", lanes,
               "batch requests leave the room to online ones"),
        TEXT("served-model-name", &options->model, NULL, "NAME",
             "refuse any other model than this"),
        CHOICE("image-mode", &options->image_mode, "auto", image_modes,
               "how a picture becomes tiles"),
        NUMBER("gen-length", &sampling->gen_length, RMK_GEN_LENGTH_MAX,
               "tokens of the answer at most; 0: the server's default"),
        NUMBER("block-length", &sampling->block_length, RMK_GEN_LENGTH_MAX,
               "must divide gen-length; 0: the server's choice"),
        NUMBER("steps", &sampling->steps, UINT32_MAX,
               "over all blocks, fewer is faster; 0: as many as gen-length"),
        REAL("temperature", &sampling->temperature, "0: always the likeliest token"),
        REAL("cfg-scale", &sampling->cfg_scale, "guidance; 0: off"),
        CHOICE("remasking", &sampling->remasking, "low_confidence", remaskings,
               "which positions settle first"),
        NUMBER("seed", &sampling->seed, 0, "of temperature and random remasking"),
        {.name = "stop",
         .kind = RMK_CONFIG_TEXTS,
         .target = &sampling->stops,
         .argument = "TEXT",
         .help = "end the answer before this; may be repeated"},
        CHOICE("stop-level", &sampling->stop_level, "tokens", stop_levels,
               "where stop texts are looked for"),
        SWITCH("default-stop", &sampling->default_stop, "true",
               "the model's own end-of-turn token ends the answer"),
        TEXT("suffix", &sampling->suffix, NULL, "TEXT", "text that stands behind the answer"),
        TEXT("profile", &sampling->profile, NULL, "PROFILE",
             "exact, balanced or fast; not given: the server's default"),
        CHOICE("rule", &sampling->rule, "profile", rules, "how many tokens settle in a step"),
        REAL("threshold", &sampling->threshold,
             "threshold, hierarchical, local-leap: confidence that settles a token; 0: as "
             "published"),
        REAL("factor", &sampling->factor, "factor: larger settles more tokens; 0: as published"),
        SWITCH("factor-compat", &sampling->factor_compat, NULL,
               "factor: with the published program's last-position quirk"),
        REAL("threshold-low", &sampling->threshold_low,
             "hierarchical: for the best of each run of masks; 0: as published"),
        REAL("kappa", &sampling->kappa,
             "local-leap: confidence of a token that draws its neighbours in; 0: as published"),
        NUMBER("reach", &sampling->reach, RMK_GEN_LENGTH_MAX,
               "local-leap: how far neighbours may be; 0: as published"),
        CHOICE("cache", &sampling->cache, "profile", caches,
               "what is kept between the steps of an answer"),
        NUMBER("refresh-interval", &sampling->refresh_interval, RMK_STEPS_MAX,
               "prompt, prefix, dual: steps from one full forward to the next; 0: as published"),
        NUMBER("prompt-interval", &sampling->prompt_interval, RMK_STEPS_MAX,
               "feature: steps between refreshes of the prompt; 0: as published"),
        NUMBER("gen-interval", &sampling->gen_interval, RMK_STEPS_MAX,
               "feature: steps between refreshes of the answer; 0: as published"),
        REAL("transfer-ratio", &sampling->transfer_ratio,
             "feature: part of the answer computed anew in other steps; 0: as published"),
        CHOICE("deadline-policy", &sampling->deadline_policy, "fail", deadline_policies,
               "best: when --timeout is over, the answer as far as it is"),
    };

    memcpy(flags, table, sizeof(table));
}
