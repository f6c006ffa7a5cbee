/* From settled ids to text that may be shown: whole characters, special tokens dropped, never
 * retracted, held back where it may be the beginning of a stop string, cut before one.
 *
 *     ids ──► detokenizer ──► text [ shown | held back ]
 *
 * One per request; each client that listens remembers how much of it it has had, so that a late one
 * gets what is settled so far and then goes on with the others.
 */
#ifndef RMK_COORDINATOR_STREAM_H
#define RMK_COORDINATOR_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/err.h"

struct rmk_stream;
struct rmk_tokenizer;

/* `stops`: text-level stop strings, borrowed for the stream's life, none of them empty. `ids_max`:
 * generated ids and suffix together. Errors: RMK_ELIMIT (memory). */
enum rmk_err rmk_stream_create(const struct rmk_tokenizer *tokenizer, uint32_t ids_max,
                               const struct rmk_bytes *stops, uint32_t stop_count,
                               struct rmk_stream **out_stream, struct rmk_why *why);
/* Takes NULL. */
void rmk_stream_destroy(struct rmk_stream *stream);

/* `ids` [count]: all that is settled so far, what was pushed before included; a shorter list than
 * before changes nothing. Ignored once stopped. Errors: RMK_ELIMIT (memory). */
enum rmk_err rmk_stream_advance(struct rmk_stream *stream, const int32_t *ids, uint32_t count,
                                struct rmk_why *why);

/* Forget everything: the answer began anew. For a stream of which nobody has seen anything. */
void rmk_stream_reset(struct rmk_stream *stream);

/* The last call: `ids` [count] is the whole generated answer, then the suffix follows. Nothing is
 * held back any more; an unfinished character becomes U+FFFD. After a text-level stop the generated
 * ids are those before it. */
enum rmk_err rmk_stream_finish(struct rmk_stream *stream, const int32_t *ids, uint32_t count,
                               const int32_t *suffix, uint32_t suffix_count, struct rmk_why *why);

/* A stop string has appeared: the text ends before it. */
bool rmk_stream_stopped(const struct rmk_stream *stream);

/* What may be shown. The text may hold NUL bytes. Good until the next call that changes the stream.
 */
struct rmk_bytes rmk_stream_text(const struct rmk_stream *stream);
/* The ids that lie wholly in that text. */
const int32_t *rmk_stream_ids(const struct rmk_stream *stream, uint32_t *out_count);

#endif
