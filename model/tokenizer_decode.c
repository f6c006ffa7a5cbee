#include "model/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

/* Where text goes: `out` may be NULL to count only; what does not fit is counted, not written. */
struct sink {
    char *out;
    size_t capacity;
    size_t size;
};

static void put(struct sink *sink, const void *bytes, size_t size)
{
    if (sink->out != NULL && sink->size <= sink->capacity && size <= sink->capacity - sink->size) {
        memcpy(sink->out + sink->size, bytes, size);
    }
    sink->size += size;
}

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

/* Take one byte. `held` is always the beginning of a character, or empty, afterwards. */
static void take(struct rmk_detokenizer *state, uint8_t byte, struct sink *sink)
{
    uint32_t codepoint;
    size_t length;

    state->held[state->held_count++] = byte;
    switch (rmk_utf8_next(rmk_bytes_of(state->held, state->held_count), &codepoint, &length)) {
    case RMK_UTF8_VALID:
        put(sink, state->held, state->held_count);
        state->held_count = 0;
        return;
    case RMK_UTF8_UNFINISHED:
        return;
    case RMK_UTF8_INVALID:
        put(sink, replacement, 3);
        bool again = state->held_count >
                     1; /* then what was held is bad, and the byte begins something new */
        state->held_count = 0;
        if (again) {
            take(state, byte, sink);
        }
    }
}

static void take_all(struct rmk_detokenizer *state, struct rmk_bytes bytes, struct sink *sink)
{
    for (size_t i = 0; i < bytes.size; i++) {
        take(state, bytes.data[i], sink);
    }
}

size_t rmk_lossy_size(struct rmk_bytes bytes)
{
    struct rmk_detokenizer state = {0};
    struct sink sink = {0};
    char rest[4];

    take_all(&state, bytes, &sink);
    return sink.size + rmk_detokenizer_flush(&state, rest);
}

/* What an id adds to a text. */
static struct rmk_bytes bytes_of(const struct rmk_tokenizer *tokenizer, int32_t id,
                                 bool skip_special)
{
    if (id < 0 || (uint32_t)id >= tokenizer->id_end) {
        return (struct rmk_bytes){0};
    }
    const struct rmk_token *token = &tokenizer->tokens[id];
    if (!token->present || (skip_special && token->special)) {
        return (struct rmk_bytes){0};
    }
    return rmk_tokenizer_bytes(tokenizer, token->bytes, token->bytes_size);
}

enum rmk_err rmk_detokenizer_push(struct rmk_detokenizer *state,
                                  const struct rmk_tokenizer *tokenizer, int32_t id,
                                  bool skip_special, char *out, size_t capacity, size_t *out_size)
{
    struct rmk_detokenizer next = *state;
    struct sink sink = {.out = out, .capacity = capacity};

    take_all(&next, bytes_of(tokenizer, id, skip_special), &sink);
    if (sink.size > capacity) {
        return RMK_ELIMIT;
    }
    *state = next;
    *out_size = sink.size;
    return RMK_OK;
}

size_t rmk_detokenizer_flush(struct rmk_detokenizer *state, char out[4])
{
    if (state->held_count == 0) {
        return 0;
    }
    state->held_count = 0;
    memcpy(out, replacement, 3);
    return 3;
}

enum rmk_err rmk_tokenizer_decode(const struct rmk_tokenizer *tokenizer, const int32_t *ids,
                                  size_t count, bool skip_special, char **out_text,
                                  size_t *out_size, struct rmk_why *why)
{
    struct rmk_detokenizer state = {0};
    char *text = NULL;
    size_t size = 0;
    char rest[4];

    /* Twice the same walk: first to measure, then to write. */
    for (int pass = 0; pass < 2; pass++) {
        struct sink sink = {.out = text, .capacity = size};
        for (size_t i = 0; i < count; i++) {
            take_all(&state, bytes_of(tokenizer, ids[i], skip_special), &sink);
        }
        size_t rest_size = rmk_detokenizer_flush(&state, rest);
        put(&sink, rest, rest_size);
        if (pass == 0) {
            size = sink.size;
            text = malloc(size + 1);
            if (text == NULL) {
                return rmk_fail(why, RMK_ELIMIT, "no memory for %zu bytes of text", size);
            }
        }
    }
    text[size] = '\0';
    *out_text = text;
    *out_size = size;
    return RMK_OK;
}
