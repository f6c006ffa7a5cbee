/* From chat messages to prompt ids: the template, the picture placeholders and the reference's
 * dropped token (reference specification, sections 4.2 and 4.3).
 *
 * A prompt is a list of pieces: control text of the template (special tokens allowed), text a user
 * wrote (special tokens never parsed unless asked), and picture placeholders. Pieces are encoded so
 * that the ids equal encoding the rendered string when the user text holds no special literal.
 */
#ifndef RMK_MODEL_CHAT_H
#define RMK_MODEL_CHAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/err.h"
#include "model/tokenizer.h"

enum { RMK_IMAGE_ID = -200 }; /* pseudo id of a placeholder, as in the official code */

enum rmk_role {
    RMK_ROLE_SYSTEM = 0,
    RMK_ROLE_USER,
    RMK_ROLE_ASSISTANT,
};

enum rmk_part_kind {
    RMK_PART_TEXT = 0,
    RMK_PART_MEDIA, /* a picture or a video stands here */
};

struct rmk_part {
    enum rmk_part_kind kind;
    struct rmk_bytes text; /* TEXT: UTF-8, borrowed */
};

struct rmk_message {
    enum rmk_role role;
    const struct rmk_part *parts;
    size_t part_count;
};

struct rmk_chat_options {
    bool
        parse_special; /* special literals in the messages' text become special tokens (official) */
    bool parse_placeholders;     /* a literal `<image>` in the messages' text is a placeholder
                                    (official) */
    bool keep_token_after_image; /* false: drop the first token after each placeholder, as the
                                    reference does */
};

/* The official system text, used when the first message is not a system message. */
extern const char rmk_chat_system[];

/* Render and encode. A MEDIA part becomes a placeholder; a TEXT part that directly follows a MEDIA
 * part is joined to it with one "\n" unless it begins with white space (the demo's
 * `<image>\nquestion`); MEDIA next to MEDIA is joined with one space. Messages without text and
 * media are skipped; then content is stripped as Python's str.strip() does, so that a message of
 * white space alone stays as an empty turn, as in the official code. `ids` gets RMK_IMAGE_ID where
 * pictures stand. *out_rendered (may be NULL) gets the rendered string, malloc'ed, placeholders
 * written as `<image>`. Errors: RMK_EINVAL (invalid UTF-8: names the message), RMK_ELIMIT. */
enum rmk_err rmk_chat_encode(const struct rmk_tokenizer *tokenizer,
                             const struct rmk_message *messages, size_t message_count,
                             const struct rmk_chat_options *options, struct rmk_ids *ids,
                             char **out_rendered, struct rmk_why *why);

/* The official function on a ready prompt string: split at `<image>`, encode each chunk (special
 * literals parsed), join with RMK_IMAGE_ID, drop as configured (only when the first chunk begins
 * with bos). */
enum rmk_err rmk_chat_encode_prompt(const struct rmk_tokenizer *tokenizer, struct rmk_bytes prompt,
                                    bool keep_token_after_image, struct rmk_ids *ids,
                                    struct rmk_why *why);

#endif
