/* What a client asks for, as plain data: the front door that received it (gRPC now, HTTP later)
 * fills it in, front/intake checks it. Nothing in it has been checked but what is said here.
 */
#ifndef RMK_COORDINATOR_FRONT_ASK_H
#define RMK_COORDINATOR_FRONT_ASK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/limits.h"
#include "coordinator/engine/engine.h"
#include "coordinator/front/decoding.h"

struct rmk_blob;

struct rmk_ask_media {
    bool video;
    struct rmk_blob **frames; /* one for a picture; a reference each */
    uint32_t frame_count;
};

struct rmk_ask_part {
    const struct rmk_ask_media *media; /* NULL: text */
    struct rmk_bytes text;
};

struct rmk_ask_message {
    const char *role;
    const struct rmk_ask_part *parts;
    uint32_t part_count;
};

/* Numbers of enums are as they came; intake says which it does not know. */
struct rmk_ask {
    const char *request_id; /* empty: make one */
    const char *model;
    const struct rmk_ask_message *messages;
    uint32_t message_count;
    struct rmk_bytes raw_prompt;
    const struct rmk_ask_media *media; /* for placeholders in text */
    uint32_t media_count;
    int image_mode; /* enum rmk_image_mode, VIDEO excluded */
    bool allow_special_tokens;
    bool placeholders_in_text;
    bool keep_token_after_image;

    uint32_t gen_length;
    uint32_t block_length;
    uint32_t steps;
    double temperature;
    float cfg_scale;
    int remasking; /* enum rmk_remasking */
    uint64_t seed;
    const char *const *stops;
    uint32_t stop_count;
    bool stop_in_text;
    bool no_default_stop;
    const char *suffix;
    bool golden_noise;
    struct rmk_ask_decoding decoding;
    enum rmk_lane lane;
    bool watched; /* whoever asks wants to see the canvas after each step */

    /* The memory behind it. */
    struct rmk_ask_media *media_all; /* those of messages and of `media` */
    uint32_t media_all_count;
    struct rmk_ask_part *parts_all;
    struct rmk_ask_message *messages_all;
    struct rmk_blob **frames_all;
    uint32_t frames_all_count;
    void *holder; /* owns the strings */
    void (*release)(void *holder);
};

/* Drop blobs, arrays and strings. Takes NULL. */
void rmk_ask_destroy(struct rmk_ask *ask);

/* Allocate an ask with room for so many of each; all zero. NULL: no memory. */
struct rmk_ask *rmk_ask_create(uint32_t message_count, uint32_t part_count, uint32_t media_count,
                               uint32_t frame_count);

#endif
