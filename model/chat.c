#include "model/chat.h"

#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

const char rmk_chat_system[] =
    "You are a helpful language and vision assistant. You are able to understand the visual "
    "content that the user "
    "provides, and assist the user with a variety of tasks using natural language.";

enum { RENDERED_BYTES_MAX = 64 << 20 };

static const char image_literal[] = "<image>";
static const char bos_literal[] = "<|startoftext|>";

static const char *const role_names[] = {
    [RMK_ROLE_SYSTEM] = "system",
    [RMK_ROLE_USER] = "user",
    [RMK_ROLE_ASSISTANT] = "assistant",
};

/* A run of the rendered text that is no ordinary text: a special token of the template, or
 * RMK_IMAGE_ID. */
struct mark {
    size_t begin;
    size_t end;
    int32_t id;
};

struct render {
    const struct rmk_tokenizer *tokenizer;
    char *text;
    size_t size;
    size_t capacity;
    struct mark *marks; /* in order, disjoint */
    size_t mark_count;
    size_t mark_capacity;
    struct rmk_why *why;
};

/* ---- building the rendered text ---- */

static enum rmk_err put(struct render *render, struct rmk_bytes text)
{
    if (text.size > RENDERED_BYTES_MAX - render->size) {
        return rmk_fail(render->why, RMK_ELIMIT, "the prompt has more than %d bytes",
                        RENDERED_BYTES_MAX);
    }
    size_t needed = render->size + text.size + 1; /* a NUL is put behind it in the end */
    if (needed > render->capacity) {
        char *grown = realloc(render->text, needed * 2);
        if (grown == NULL) {
            return rmk_fail(render->why, RMK_ELIMIT, "no memory for the prompt");
        }
        render->text = grown;
        render->capacity = needed * 2;
    }
    if (text.size > 0) {
        memcpy(render->text + render->size, text.data, text.size);
    }
    render->size += text.size;
    return RMK_OK;
}

static enum rmk_err add_mark(struct render *render, size_t begin, size_t end, int32_t id)
{
    if (render->mark_count == render->mark_capacity) {
        size_t capacity = render->mark_capacity == 0 ? 32 : render->mark_capacity * 2;
        struct mark *grown = realloc(render->marks, capacity * sizeof(*grown));
        if (grown == NULL) {
            return rmk_fail(render->why, RMK_ELIMIT, "no memory for the prompt");
        }
        render->marks = grown;
        render->mark_capacity = capacity;
    }
    render->marks[render->mark_count++] = (struct mark){.begin = begin, .end = end, .id = id};
    return RMK_OK;
}

static enum rmk_err put_marked(struct render *render, const char *literal, int32_t id)
{
    size_t begin = render->size;
    enum rmk_err err = put(render, rmk_bytes_text(literal));

    return err == RMK_OK ? add_mark(render, begin, render->size, id) : err;
}

static enum rmk_err put_control(struct render *render, const char *literal)
{
    int32_t id = rmk_tokenizer_find(render->tokenizer, literal);

    if (id < 0) {
        return rmk_fail(render->why, RMK_EINVAL,
                        "the tokenizer has no %s, which the chat template needs", literal);
    }
    return put_marked(render, literal, id);
}

static enum rmk_err put_role(struct render *render, const char *role)
{
    enum rmk_err err;

    RMK_TRY(put_control(render, "<|start_header_id|>"));
    RMK_TRY(put(render, rmk_bytes_text(role)));
    RMK_TRY(put_control(render, "<|end_header_id|>"));
    /* No mark ends here: the content is pre-tokenized together with these two bytes. */
    RMK_TRY(put(render, rmk_bytes_text("\n\n")));
out:
    return err;
}

static bool begins_with_space(struct rmk_bytes text)
{
    uint32_t codepoint;
    size_t length;

    return rmk_utf8_next(text, &codepoint, &length) == RMK_UTF8_VALID &&
           rmk_utf8_is_space(codepoint);
}

static enum rmk_err put_parts(struct render *render, const struct rmk_message *message)
{
    bool after_media = false;
    enum rmk_err err = RMK_OK;

    for (size_t i = 0; i < message->part_count; i++) {
        const struct rmk_part *part = &message->parts[i];
        size_t offset;
        if (part->kind == RMK_PART_MEDIA) {
            if (after_media) {
                RMK_TRY(put(render, rmk_bytes_text(" ")));
            }
            RMK_TRY(put_marked(render, image_literal, RMK_IMAGE_ID));
            after_media = true;
            continue;
        }
        if (part->text.size == 0) {
            continue;
        }
        if (!rmk_utf8_valid(part->text, &offset)) {
            err = rmk_fail(render->why, RMK_EINVAL, "part %zu: text is not UTF-8 at byte %zu", i,
                           offset);
            goto out;
        }
        if (after_media && !begins_with_space(part->text)) {
            RMK_TRY(put(render, rmk_bytes_text("\n")));
        }
        RMK_TRY(put(render, part->text));
        after_media = false;
    }
out:
    return err;
}

/* Take white space off both ends of what was rendered since `begin`, and move the marks with it. */
static void strip_from(struct render *render, size_t begin, size_t first_mark)
{
    const uint8_t *data = (const uint8_t *)render->text + begin;
    struct rmk_bytes kept = rmk_utf8_strip(rmk_bytes_of(data, render->size - begin));
    size_t dropped = (size_t)(kept.data - data);

    memmove(render->text + begin, kept.data, kept.size);
    render->size = begin + kept.size;
    for (size_t i = first_mark; i < render->mark_count; i++) {
        render->marks[i].begin -= dropped;
        render->marks[i].end -= dropped;
    }
}

/* Mark every `<image>` since `begin`, those of media parts among them: the literal cannot overlap
 * itself. */
static enum rmk_err mark_placeholders(struct render *render, size_t begin, size_t first_mark)
{
    size_t length = sizeof(image_literal) - 1;
    enum rmk_err err = RMK_OK;

    render->mark_count = first_mark;
    while (begin < render->size) {
        const char *found =
            memmem(render->text + begin, render->size - begin, image_literal, length);
        if (found == NULL) {
            break;
        }
        begin = (size_t)(found - render->text) + length;
        RMK_TRY(add_mark(render, begin - length, begin, RMK_IMAGE_ID));
    }
out:
    return err;
}

/* Nothing at all, not even white space: the official code leaves such a message out. */
static bool is_empty(const struct rmk_message *message)
{
    for (size_t i = 0; i < message->part_count; i++) {
        if (message->parts[i].kind == RMK_PART_MEDIA || message->parts[i].text.size > 0) {
            return false;
        }
    }
    return true;
}

static enum rmk_err render_message(struct render *render, const struct rmk_message *message,
                                   bool parse_placeholders)
{
    enum rmk_err err;

    if ((unsigned)message->role >= sizeof(role_names) / sizeof(role_names[0])) {
        err = rmk_fail(render->why, RMK_EINVAL, "unknown role %d", (int)message->role);
        goto out;
    }
    if (is_empty(message)) {
        err = RMK_OK;
        goto out;
    }
    if (render->size == 0) {
        RMK_TRY(put_control(render, bos_literal));
    }
    RMK_TRY(put_role(render, role_names[message->role]));
    size_t begin = render->size;
    size_t first_mark = render->mark_count;
    RMK_TRY(put_parts(render, message));
    strip_from(render, begin, first_mark);
    if (parse_placeholders) {
        RMK_TRY(mark_placeholders(render, begin, first_mark));
    }
    RMK_TRY(put_control(render, "<|eot_id|>"));
out:
    return err;
}

static enum rmk_err render_messages(struct render *render, const struct rmk_message *messages,
                                    size_t message_count, bool parse_placeholders)
{
    const struct rmk_part text = {.text = rmk_bytes_text(rmk_chat_system)};
    const struct rmk_message system = {.role = RMK_ROLE_SYSTEM, .parts = &text, .part_count = 1};
    enum rmk_err err;

    if (message_count == 0 || messages[0].role != RMK_ROLE_SYSTEM) {
        RMK_TRY(render_message(render, &system, false));
    }
    for (size_t i = 0; i < message_count; i++) {
        err = render_message(render, &messages[i], parse_placeholders);
        if (err != RMK_OK) {
            rmk_why_context(render->why, "message %zu", i);
            goto out;
        }
    }
    RMK_TRY(put_role(render, role_names[RMK_ROLE_ASSISTANT]));
    render->text[render->size] = '\0'; /* put keeps room for it */
out:
    return err;
}

/* ---- encoding ---- */

struct assembly {
    const struct rmk_tokenizer *tokenizer;
    struct rmk_ids *ids;
    size_t begin;  /* ids that were there before */
    size_t chunks; /* encoded so far */
    bool dropping; /* the reference's off-by-one applies */
    struct rmk_why *why;
};

static enum rmk_err append_id(struct assembly *assembly, int32_t id)
{
    enum rmk_err err = rmk_ids_append(assembly->ids, &id, 1);

    return err == RMK_OK ? RMK_OK : rmk_fail(assembly->why, err, "no memory for the prompt");
}

/* After the ids since `chunk_begin` were encoded. The official code believes that the tokenizer
 * puts bos before every chunk and takes the first token of each later one away; it takes nothing
 * when the first chunk has no bos. */
static void end_chunk(struct assembly *assembly, size_t chunk_begin, bool keep_token_after_image)
{
    struct rmk_ids *ids = assembly->ids;
    size_t count = ids->count - chunk_begin;

    if (assembly->chunks == 0) {
        int32_t bos = rmk_tokenizer_find(assembly->tokenizer, bos_literal);
        assembly->dropping =
            !keep_token_after_image && bos >= 0 && count > 0 && ids->items[chunk_begin] == bos;
    } else if (assembly->dropping && count > 0) {
        memmove(&ids->items[chunk_begin], &ids->items[chunk_begin + 1],
                (count - 1) * sizeof(*ids->items));
        ids->count--;
    }
    assembly->chunks++;
}

/* Encode what stands between two placeholders: marked controls and plain text, or everything
 * parsed. */
static enum rmk_err encode_chunk(struct assembly *assembly, const struct render *render,
                                 size_t begin, size_t end, const struct mark *marks,
                                 size_t mark_count, bool parse_special)
{
    const uint8_t *text = (const uint8_t *)render->text;
    enum rmk_err err = RMK_OK;

    if (parse_special) {
        return rmk_tokenizer_encode(assembly->tokenizer, rmk_bytes_of(text + begin, end - begin),
                                    RMK_SPECIAL_PARSE, assembly->ids, assembly->why);
    }
    for (size_t i = 0; i <= mark_count; i++) {
        size_t until = i < mark_count ? marks[i].begin : end;
        RMK_TRY(rmk_tokenizer_encode(assembly->tokenizer, rmk_bytes_of(text + begin, until - begin),
                                     RMK_SPECIAL_PLAIN, assembly->ids, assembly->why));
        if (i < mark_count) {
            RMK_TRY(append_id(assembly, marks[i].id));
            begin = marks[i].end;
        }
    }
out:
    return err;
}

static enum rmk_err encode_rendered(struct assembly *assembly, const struct render *render,
                                    bool parse_special, bool keep_token_after_image)
{
    size_t first = 0;
    size_t begin = 0;
    enum rmk_err err = RMK_OK;

    for (size_t i = 0; i <= render->mark_count; i++) {
        if (i < render->mark_count && render->marks[i].id != RMK_IMAGE_ID) {
            continue;
        }
        size_t end = i < render->mark_count ? render->marks[i].begin : render->size;
        size_t chunk_begin = assembly->ids->count;
        RMK_TRY(encode_chunk(assembly, render, begin, end, render->marks + first, i - first,
                             parse_special));
        end_chunk(assembly, chunk_begin, keep_token_after_image);
        if (i < render->mark_count) {
            RMK_TRY(append_id(assembly, RMK_IMAGE_ID));
            begin = render->marks[i].end;
            first = i + 1;
        }
    }
out:
    if (err != RMK_OK) {
        assembly->ids->count = assembly->begin;
    }
    return err;
}

enum rmk_err rmk_chat_encode(const struct rmk_tokenizer *tokenizer,
                             const struct rmk_message *messages, size_t message_count,
                             const struct rmk_chat_options *options, struct rmk_ids *ids,
                             char **out_rendered, struct rmk_why *why)
{
    struct render render = {.tokenizer = tokenizer, .why = why};
    struct assembly assembly = {
        .tokenizer = tokenizer, .ids = ids, .begin = ids->count, .why = why};
    enum rmk_err err;

    RMK_TRY(render_messages(&render, messages, message_count, options->parse_placeholders));
    RMK_TRY(encode_rendered(&assembly, &render, options->parse_special,
                            options->keep_token_after_image));
    if (out_rendered != NULL) {
        *out_rendered = render.text;
        render.text = NULL;
    }
out:
    free(render.text);
    free(render.marks);
    return err;
}

enum rmk_err rmk_chat_encode_prompt(const struct rmk_tokenizer *tokenizer, struct rmk_bytes prompt,
                                    bool keep_token_after_image, struct rmk_ids *ids,
                                    struct rmk_why *why)
{
    struct render render = {.tokenizer = tokenizer, .why = why};
    struct assembly assembly = {
        .tokenizer = tokenizer, .ids = ids, .begin = ids->count, .why = why};
    size_t offset;
    enum rmk_err err;

    if (!rmk_utf8_valid(prompt, &offset)) {
        err = rmk_fail(why, RMK_EINVAL, "prompt is not UTF-8 at byte %zu", offset);
        goto out;
    }
    RMK_TRY(put(&render, prompt));
    RMK_TRY(mark_placeholders(&render, 0, 0));
    RMK_TRY(encode_rendered(&assembly, &render, true, keep_token_after_image));
out:
    free(render.text);
    free(render.marks);
    return err;
}
