/* A request at the door: everything that can be known from the request and the model alone is
 * checked and computed once, on a pool thread, because a long prompt takes a while to tokenize and
 * pictures a while to hash. What comes out is ready for the engine and the text workers.
 *
 *     rmk_ask ──► ids with placeholders ──┐
 *             ──► headers ► grid ► rows ──┴─► layout, items, key ──► struct rmk_submit
 */
#ifndef RMK_COORDINATOR_FRONT_INTAKE_H
#define RMK_COORDINATOR_FRONT_INTAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/digest.h"
#include "common/err.h"
#include "common/limits.h"
#include "coordinator/engine/engine.h"
#include "model/grid.h"

struct rmk_ask;
struct rmk_blob;
struct rmk_profile;
struct rmk_spec;
struct rmk_tokenizer;

#define RMK_GEN_LENGTH_DEFAULT   128u
#define RMK_BLOCK_LENGTH_DEFAULT 128u

/* The served model, as far as the front needs it. Immutable: pool threads read it. */
struct rmk_served {
    const struct rmk_spec *spec;
    const struct rmk_tokenizer *tokenizer;
    uint8_t digest[RMK_DIGEST_BYTES];
    const char *name;
    const struct rmk_profile *profile; /* of requests that name none; NULL: exact */
};

/* A run of prompt rows. */
struct rmk_piece {
    uint32_t id_first; /* text: ids[id_first .. id_first + id_count) */
    uint32_t id_count; /* 0: rows of an item */
    uint32_t item;
    uint32_t rows;
};

/* A picture or a video, as the vision pool sees it; rows, tiles and key are in the submit's items.
 */
struct rmk_media {
    enum rmk_image_mode mode; /* never AUTO */
    struct rmk_blob **frames; /* a reference each */
    uint32_t frame_count;
};

struct rmk_intake {
    uint8_t contents[RMK_DIGEST_BYTES]; /* of everything that decides the answer; not of the request
                                           id */
    struct rmk_submit submit;           /* tag and deadline are for the caller to set */
    struct rmk_piece *pieces;
    uint32_t piece_count;
    struct rmk_media *media; /* [submit.item_count] */
    int32_t *ids;            /* prompt ids without placeholders */
    uint32_t id_count;
    uint32_t image_rows;
    uint32_t image_tiles;
    const char *profile;          /* "exact", …, "custom": what rule and cache amount to */
    struct rmk_bytes *text_stops; /* stop strings looked for in the text */
    uint32_t text_stop_count;
    uint32_t media_count;
    bool adopted;
    /* memory behind the submit */
    uint32_t prompt_masks[RMK_PROMPT_MASKS_MAX];
    struct rmk_item items[RMK_ITEMS_MAX];
    struct rmk_stop stops[RMK_STOP_COUNT_MAX];
    int32_t stop_ids[RMK_STOP_COUNT_MAX][RMK_STOP_IDS_MAX];
    int32_t suffix[RMK_SUFFIX_MAX];
};

/* Any thread; nobody else may be looking at `ask`, and its blobs get their digests here. The intake
 * borrows the ask's blobs until rmk_intake_adopt.
 *
 * Errors name the field:
 *   RMK_EINVAL     a value, a picture, a length
 *   RMK_ENOTFOUND  another model was asked for
 *   RMK_ELIMIT     no memory
 */
enum rmk_err rmk_intake_create(const struct rmk_served *served, const struct rmk_ask *ask,
                               struct rmk_intake **out_intake, struct rmk_why *why);

/* On the loop, once, before the ask is destroyed: publish the blobs and hold them. */
void rmk_intake_adopt(struct rmk_intake *intake);

/* On the loop when adopted. Takes NULL. */
void rmk_intake_destroy(struct rmk_intake *intake);

#endif
