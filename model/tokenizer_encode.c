#include "model/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

/* One call of rmk_tokenizer_encode. */
struct encoder {
    const struct rmk_tokenizer *tokenizer;
    struct rmk_ids *ids;
    struct rmk_matcher *matcher;
    struct rmk_bpe_scratch scratch;
    char *content; /* [content_max] a short piece in the byte alphabet, for ignore_merges */
    struct rmk_why *why;
};

/* ---- pieces ---- */

/* The id of a BPE entry that is the whole piece, -1 when there is none. Added tokens do not count:
 * they come from matching literals only. */
static int32_t find_whole(const struct encoder *encoder, struct rmk_bytes piece)
{
    const struct rmk_tokenizer *tokenizer = encoder->tokenizer;

    if (piece.size > tokenizer->content_max) {
        return -1;
    }
    size_t size = rmk_alphabet_write(piece, encoder->content);
    int32_t id = rmk_tokenizer_find_bytes(tokenizer, rmk_bytes_of(encoder->content, size));
    return id >= 0 && !tokenizer->tokens[id].added ? id : -1;
}

static enum rmk_err encode_piece(struct encoder *encoder, struct rmk_bytes piece)
{
    const struct rmk_tokenizer *tokenizer = encoder->tokenizer;
    struct rmk_ids *ids = encoder->ids;
    size_t begin = ids->count;
    size_t count;

    if (tokenizer->ignore_merges) {
        int32_t id = find_whole(encoder, piece);
        if (id >= 0) {
            return rmk_ids_append(ids, &id, 1);
        }
    }
    /* The ids of the bytes are written where the merged ids will stand. */
    for (size_t at = 0; at < piece.size;) {
        int32_t block[256];
        size_t size = 0;
        for (; size < 256 && at < piece.size; at++) {
            block[size++] = tokenizer->byte_ids[piece.data[at]];
        }
        if (rmk_ids_append(ids, block, size) != RMK_OK) {
            return RMK_ELIMIT;
        }
    }
    if (rmk_bpe_merge(&tokenizer->bpe, &encoder->scratch, ids->items + begin, piece.size, &count) !=
        RMK_OK) {
        return RMK_ELIMIT;
    }
    ids->count = begin + count;
    return RMK_OK;
}

/* ---- pre-tokenizer ---- */

/* Matches of the stage's pattern are pieces, and so is what lies between them. Each goes to the
 * next stage on its own, which cannot look past its ends. Recursion is as deep as there are stages.
 */
static enum rmk_err encode_stage(struct encoder *encoder, struct rmk_bytes text, size_t stage)
{
    enum rmk_err err = RMK_OK;
    size_t done = 0;
    size_t from = 0;

    if (text.size == 0) {
        return RMK_OK;
    }
    if (stage == encoder->tokenizer->stage_count) {
        err = encode_piece(encoder, text);
        return err == RMK_OK ? RMK_OK : rmk_fail(encoder->why, err, "no memory to encode a text");
    }
    while (from < text.size) {
        bool found;
        size_t begin = text.size;
        size_t end = text.size;
        RMK_TRY(rmk_matcher_find(encoder->matcher, encoder->tokenizer->stages[stage], text, from,
                                 &found, &begin, &end, encoder->why));
        RMK_TRY(encode_stage(encoder, rmk_bytes_of(text.data + done, begin - done), stage + 1));
        RMK_TRY(encode_stage(encoder, rmk_bytes_of(text.data + begin, end - begin), stage + 1));
        done = end;
        from = end;
        if (begin == end && end < text.size) {
            /* An empty match divides, and the search goes on behind the next character. */
            from++;
            while (from < text.size && (text.data[from] & 0xc0) == 0x80) {
                from++;
            }
        }
    }
    RMK_TRY(encode_stage(encoder, rmk_bytes_of(text.data + done, text.size - done), stage + 1));
out:
    return err;
}

/* ---- added tokens ---- */

/* The first of the sorted items [low, high), equal in their first `depth` bytes, whose byte `depth`
 * is at least `byte`. An item that ends there is below any byte. */
static size_t lower_bound(const struct rmk_tokenizer *tokenizer,
                          const struct rmk_literals *literals, size_t low, size_t high,
                          size_t depth, int byte)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct rmk_literal *item = &literals->items[middle];
        int here = item->size > depth ? (uint8_t)tokenizer->arena[item->text + depth] : -1;
        if (here < byte) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The longest item that `text` begins with. */
static const struct rmk_literal *match_here(const struct rmk_tokenizer *tokenizer,
                                            const struct rmk_literals *literals,
                                            struct rmk_bytes text)
{
    const struct rmk_literal *longest = NULL;
    size_t low = 0;
    size_t high = literals->count;

    for (size_t depth = 0; depth < text.size && low < high; depth++) {
        int byte = text.data[depth];
        low = lower_bound(tokenizer, literals, low, high, depth, byte);
        high = lower_bound(tokenizer, literals, low, high, depth, byte + 1);
        if (low < high && literals->items[low].size == depth + 1) {
            longest = &literals->items[low];
        }
    }
    return longest;
}

/* Give the text between added tokens to `encode_rest`, and their ids to the output. */
static enum rmk_err encode_literals(struct encoder *encoder, const struct rmk_literals *literals,
                                    struct rmk_bytes text,
                                    enum rmk_err (*encode_rest)(struct encoder *, struct rmk_bytes))
{
    enum rmk_err err = RMK_OK;
    size_t done = 0;

    for (size_t at = 0; at < text.size;) {
        const struct rmk_literal *literal = NULL;
        if (literals->first[text.data[at]]) {
            literal = match_here(encoder->tokenizer, literals,
                                 rmk_bytes_of(text.data + at, text.size - at));
        }
        if (literal == NULL) {
            at++;
            continue;
        }
        RMK_TRY(encode_rest(encoder, rmk_bytes_of(text.data + done, at - done)));
        if (rmk_ids_append(encoder->ids, &literal->id, 1) != RMK_OK) {
            err = rmk_fail(encoder->why, RMK_ELIMIT, "no memory to encode a text");
            goto out;
        }
        at += literal->size;
        done = at;
    }
    RMK_TRY(encode_rest(encoder, rmk_bytes_of(text.data + done, text.size - done)));
out:
    return err;
}

static enum rmk_err encode_plain(struct encoder *encoder, struct rmk_bytes text)
{
    return encode_stage(encoder, text, 0);
}

static enum rmk_err encode_normalised(struct encoder *encoder, struct rmk_bytes text)
{
    return encode_literals(encoder, &encoder->tokenizer->normalised_literals, text, encode_plain);
}

/* ---- normalizer ---- */

static enum rmk_err normalise_and(struct encoder *encoder, struct rmk_bytes text,
                                  enum rmk_err (*encode)(struct encoder *, struct rmk_bytes))
{
    uint8_t *normal = NULL;
    size_t size = 0;
    enum rmk_err err;

    if (encoder->tokenizer->normal_form == 0 || text.size == 0) {
        return encode(encoder, text);
    }
    RMK_TRY(rmk_normalise(encoder->tokenizer->normal_form, text, &normal, &size, encoder->why));
    RMK_TRY(encode(encoder, rmk_bytes_of(normal, size)));
out:
    free(normal);
    return err;
}

static enum rmk_err encode_unparsed(struct encoder *encoder, struct rmk_bytes text)
{
    return normalise_and(encoder, text, encode_plain);
}

static enum rmk_err encode_between(struct encoder *encoder, struct rmk_bytes text)
{
    return normalise_and(encoder, text, encode_normalised);
}

enum rmk_err rmk_tokenizer_encode(const struct rmk_tokenizer *tokenizer, struct rmk_bytes text,
                                  enum rmk_special special, struct rmk_ids *ids,
                                  struct rmk_why *why)
{
    struct encoder encoder = {.tokenizer = tokenizer, .ids = ids, .why = why};
    size_t count = ids->count;
    size_t offset;
    enum rmk_err err;

    if (text.size > RMK_TOKENIZER_TEXT_BYTES_MAX) {
        err = rmk_fail(why, RMK_ELIMIT, "text has %zu bytes, at most %d are allowed", text.size,
                       RMK_TOKENIZER_TEXT_BYTES_MAX);
        goto out;
    }
    if (!rmk_utf8_valid(text, &offset)) {
        err = rmk_fail(why, RMK_EINVAL, "text is not UTF-8 at byte %zu", offset);
        goto out;
    }
    if (text.size == 0) {
        err = RMK_OK;
        goto out;
    }
    RMK_TRY(rmk_matcher_create(text.size, &encoder.matcher, why));
    if (tokenizer->ignore_merges) {
        encoder.content = malloc(2 * tokenizer->content_max + 1);
        if (encoder.content == NULL) {
            err = rmk_fail(why, RMK_ELIMIT, "no memory to encode a text");
            goto out;
        }
    }
    RMK_TRY(special == RMK_SPECIAL_PARSE
                ? encode_literals(&encoder, &tokenizer->literals, text, encode_between)
                : encode_unparsed(&encoder, text));
out:
    if (err != RMK_OK) {
        ids->count = count;
    }
    free(encoder.content);
    rmk_bpe_scratch_deinit(&encoder.scratch);
    rmk_matcher_destroy(encoder.matcher);
    return err;
}
