/* Everything that can grow has its maximum here; "full" is an ordinary answer. Servers take smaller
 * numbers by flag. */
#ifndef RMK_COMMON_LIMITS_H
#define RMK_COMMON_LIMITS_H

enum {
    RMK_GEN_LENGTH_MAX = 1024, /* positions a request may ask to generate */
    RMK_STEPS_MAX = 8192, /* steps of a request; more than positions is legal and soon pointless */
    RMK_SUFFIX_MAX = 256, /* suffix ids */
    RMK_STOP_COUNT_MAX = 16,     /* stop strings of a request */
    RMK_STOP_IDS_MAX = 64,       /* ids of one stop string */
    RMK_PROMPT_MASKS_MAX = 64,   /* mask tokens inside a prompt (only with special parsing on) */
    RMK_ITEMS_MAX = 16,          /* pictures or videos of one request */
    RMK_FRAMES_MAX = 64,         /* frames of one video */
    RMK_PROMPT_ROWS_MAX = 65536, /* whatever tokenizer_model_max_length says, no more than this */
    RMK_MESSAGES_MAX = 1024,
    RMK_PARTS_MAX = 256, /* parts of one message */
    RMK_REQUEST_ID_BYTES_MAX = 128,
    RMK_TENANT_BYTES_MAX = 64,
    RMK_TENANTS = 256,       /* with 0, which is nobody's */
    RMK_REQUESTS_MAX = 4096, /* open requests of one coordinator */
    RMK_GROUPS_MAX = 256,
    RMK_VISION_MAX = 256,
    RMK_GROUP_SLOTS_MAX = 256, /* requests resident on one group */
    RMK_TP_RANKS_MAX = 64,
    RMK_AHEAD_MAX = 16, /* forwards of one plan that a group may run by itself */
    RMK_AHEAD_READS_MAX = 4 * RMK_GEN_LENGTH_MAX, /* guesses of all of them together */
    RMK_RETRIES_MAX = 8, /* times a request is carried over a lost worker before it fails */
};

#define RMK_TEMPERATURE_MAX 100.0
#define RMK_CFG_SCALE_MAX   100.0f

#define RMK_TEXT_BYTES_MAX            (1u << 20)   /* prompt text of a request */
#define RMK_ASK_BYTES_MAX             (3u << 20)   /* a request besides its pictures */
#define RMK_BLOB_BYTES_MAX            (64u << 20)  /* one encoded picture */
#define RMK_PIXELS_MAX                (64u << 20)  /* decoded pixels of one picture */
#define RMK_MESSAGE_BYTES_MAX         (256u << 20) /* one public gRPC message */
#define RMK_CLUSTER_MESSAGE_BYTES_MAX (16u << 20)
#define RMK_CHUNK_BYTES               (2u << 20) /* chunk of a bulk stream */

#endif
