#include "coordinator/stream.h"

#include <stdlib.h>
#include <string.h>

#include "model/tokenizer.h"

struct rmk_stream {
    const struct rmk_tokenizer *tokenizer;
    const struct rmk_bytes *stops;
    uint32_t stop_count;
    size_t stop_bytes_max;
    struct rmk_detokenizer detokenizer;
    uint32_t ids_max;
    uint32_t id_count; /* pushed */
    uint32_t ids_shown;
    int32_t *ids; /* [ids_max] */
    size_t *ends; /* [ids_max] text size once this id was in */
    char *text;
    size_t text_size;
    size_t text_capacity;
    size_t shown; /* bytes of text that may be seen */
    bool stopped;
    bool finished;
};

enum rmk_err rmk_stream_create(const struct rmk_tokenizer *tokenizer, uint32_t ids_max,
                               const struct rmk_bytes *stops, uint32_t stop_count,
                               struct rmk_stream **out_stream, struct rmk_why *why)
{
    struct rmk_stream *stream = calloc(1, sizeof(*stream));
    enum rmk_err err = RMK_OK;

    if (stream == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for a text stream");
        goto out;
    }
    stream->tokenizer = tokenizer;
    stream->stops = stops;
    stream->stop_count = stop_count;
    for (uint32_t i = 0; i < stop_count; i++) {
        rmk_assert(stops[i].size > 0);
        if (stops[i].size > stream->stop_bytes_max) {
            stream->stop_bytes_max = stops[i].size;
        }
    }
    stream->ids_max = ids_max;
    stream->ids = calloc((size_t)ids_max + 1, sizeof(*stream->ids));
    stream->ends = calloc((size_t)ids_max + 1, sizeof(*stream->ends));
    if (stream->ids == NULL || stream->ends == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for a text stream of %u ids", ids_max);
        goto out;
    }
    *out_stream = stream;
    stream = NULL;
out:
    rmk_stream_destroy(stream);
    return err;
}

void rmk_stream_destroy(struct rmk_stream *stream)
{
    if (stream != NULL) {
        free(stream->ids);
        free(stream->ends);
        free(stream->text);
        free(stream);
    }
}

static enum rmk_err reserve(struct rmk_stream *stream, size_t more, struct rmk_why *why)
{
    size_t capacity = stream->text_capacity == 0 ? 256 : stream->text_capacity;
    char *text;

    while (capacity - stream->text_size < more) {
        capacity *= 2;
    }
    if (capacity == stream->text_capacity) {
        return RMK_OK;
    }
    text = realloc(stream->text, capacity);
    if (text == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for %zu bytes of text", capacity);
    }
    stream->text = text;
    stream->text_capacity = capacity;
    return RMK_OK;
}

static enum rmk_err push(struct rmk_stream *stream, int32_t id, struct rmk_why *why)
{
    size_t room = rmk_tokenizer_piece_max(stream->tokenizer) + 12;
    size_t size = 0;
    enum rmk_err err;

    rmk_assert(stream->id_count < stream->ids_max);
    RMK_TRY(reserve(stream, room, why));
    RMK_TRY(rmk_detokenizer_push(&stream->detokenizer, stream->tokenizer, id, true,
                                 stream->text + stream->text_size, room, &size));
    stream->text_size += size;
    stream->ids[stream->id_count] = id;
    /* An unfinished character belongs to the id that began it, too: that id is not shown before. */
    stream->ends[stream->id_count] = stream->text_size + stream->detokenizer.held_count;
    stream->id_count++;
out:
    return err;
}

static enum rmk_err flush(struct rmk_stream *stream, struct rmk_why *why)
{
    enum rmk_err err;

    RMK_TRY(reserve(stream, 4, why));
    stream->text_size +=
        rmk_detokenizer_flush(&stream->detokenizer, stream->text + stream->text_size);
out:
    return err;
}

/* Look for the earliest stop that ends after `from`; text before was searched already. */
static void find_stop(struct rmk_stream *stream, size_t from)
{
    size_t begin = from + 1 > stream->stop_bytes_max ? from + 1 - stream->stop_bytes_max : 0;

    for (uint32_t i = 0; i < stream->stop_count; i++) {
        struct rmk_bytes stop = stream->stops[i];
        const char *hit;

        if (stream->text_size - begin < stop.size) {
            continue;
        }
        hit = memmem(stream->text + begin, stream->text_size - begin, stop.data, stop.size);
        if (hit != NULL && (!stream->stopped || hit < stream->text + stream->shown)) {
            stream->stopped = true;
            stream->shown = (size_t)(hit - stream->text);
        }
    }
}

/* Length of the longest end of the text that begins some stop. */
static size_t held_back(const struct rmk_stream *stream)
{
    size_t longest = 0;

    for (uint32_t i = 0; i < stream->stop_count; i++) {
        struct rmk_bytes stop = stream->stops[i];
        size_t length = stop.size - 1 < stream->text_size ? stop.size - 1 : stream->text_size;

        while (length > longest &&
               memcmp(stream->text + stream->text_size - length, stop.data, length) != 0) {
            length--;
        }
        if (length > longest) {
            longest = length;
        }
    }
    return longest;
}

/* Count the ids whose text is shown. Special tokens add no text and are shown with what precedes
 * them. */
static void show_ids(struct rmk_stream *stream)
{
    while (stream->ids_shown < stream->id_count &&
           stream->ends[stream->ids_shown] <= stream->shown) {
        stream->ids_shown++;
    }
}

static enum rmk_err push_all(struct rmk_stream *stream, const int32_t *ids, uint32_t count,
                             struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;

    while (stream->id_count < count) {
        RMK_TRY(push(stream, ids[stream->id_count], why));
    }
out:
    return err;
}

enum rmk_err rmk_stream_advance(struct rmk_stream *stream, const int32_t *ids, uint32_t count,
                                struct rmk_why *why)
{
    size_t before = stream->text_size;
    enum rmk_err err = RMK_OK;

    rmk_assert(!stream->finished);
    if (stream->stopped || count <= stream->id_count) {
        goto out;
    }
    RMK_TRY(push_all(stream, ids, count, why));
    find_stop(stream, before);
    if (!stream->stopped) {
        stream->shown = stream->text_size - held_back(stream);
    }
    show_ids(stream);
out:
    return err;
}

void rmk_stream_reset(struct rmk_stream *stream)
{
    rmk_assert(!stream->finished);
    stream->detokenizer = (struct rmk_detokenizer){0};
    stream->id_count = 0;
    stream->ids_shown = 0;
    stream->text_size = 0;
    stream->shown = 0;
    stream->stopped = false;
}

enum rmk_err rmk_stream_finish(struct rmk_stream *stream, const int32_t *ids, uint32_t count,
                               const int32_t *suffix, uint32_t suffix_count, struct rmk_why *why)
{
    enum rmk_err err;

    RMK_TRY(rmk_stream_advance(stream, ids, count, why));
    stream->finished = true;
    if (stream->stopped) {
        /* What came with and after the stop was pushed, but is no part of the answer. */
        stream->text_size = stream->shown;
        stream->id_count = stream->ids_shown;
        stream->detokenizer = (struct rmk_detokenizer){0};
    }
    for (uint32_t i = 0; i < suffix_count; i++) {
        RMK_TRY(push(stream, suffix[i], why));
    }
    RMK_TRY(flush(stream, why));
    stream->shown = stream->text_size;
    stream->ids_shown = stream->id_count;
out:
    return err;
}

bool rmk_stream_stopped(const struct rmk_stream *stream)
{
    return stream->stopped;
}

struct rmk_bytes rmk_stream_text(const struct rmk_stream *stream)
{
    return rmk_bytes_of(stream->text, stream->shown);
}

const int32_t *rmk_stream_ids(const struct rmk_stream *stream, uint32_t *out_count)
{
    *out_count = stream->ids_shown;
    return stream->ids;
}
