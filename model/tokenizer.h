/* Byte-level BPE from any `tokenizer.json` of this family (reference specification, section 4.1).
 *
 * Everything is read from the file: pre-tokenizer, merges, added tokens. Immutable after create;
 * any number of threads may encode at once. Linear in the input, also for one megabyte of one
 * letter.
 */
#ifndef RMK_MODEL_TOKENIZER_H
#define RMK_MODEL_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/err.h"

struct rmk_tokenizer;

/* Growable ids, owned by whoever holds the struct; free with rmk_ids_deinit. */
struct rmk_ids {
    int32_t *items;
    size_t count;
    size_t capacity;
};

enum rmk_err rmk_ids_append(struct rmk_ids *ids, const int32_t *items, size_t count);
void rmk_ids_deinit(struct rmk_ids *ids);

/* Read `path` (a tokenizer.json). A `.gz` name is decompressed on the way.
 * Errors: RMK_ENOTFOUND, RMK_ECORRUPT (not JSON, a merge of unknown tokens, ids double or
 * negative), RMK_EUNSUPPORTED (not byte-level BPE, a normalizer or pre-tokenizer we do not know).
 */
enum rmk_err rmk_tokenizer_create(const char *path, struct rmk_tokenizer **out_tokenizer,
                                  struct rmk_why *why);
/* The same of the checkpoint folder `dir`: tokenizer.json in it, or tokenizer.json.gz if that is
 * not there. */
enum rmk_err rmk_tokenizer_create_in(const char *dir, struct rmk_tokenizer **out_tokenizer,
                                     struct rmk_why *why);
void rmk_tokenizer_destroy(struct rmk_tokenizer *tokenizer);

/* len(tokenizer) of the official loader: BPE entries plus added tokens. */
uint32_t rmk_tokenizer_size(const struct rmk_tokenizer *tokenizer);

/* Id of an added token or BPE entry by its exact content, -1 when there is none. */
int32_t rmk_tokenizer_find(const struct rmk_tokenizer *tokenizer, const char *content);

enum rmk_special {
    RMK_SPECIAL_PARSE, /* added tokens in the text become their ids, leftmost-longest (the official
                          behaviour) */
    RMK_SPECIAL_PLAIN, /* text is only text: what users write never becomes control */
};

/* Append the ids of `text` to `ids`. Invalid UTF-8: RMK_EINVAL with the byte offset. Adds no bos.
 */
enum rmk_err rmk_tokenizer_encode(const struct rmk_tokenizer *tokenizer, struct rmk_bytes text,
                                  enum rmk_special special, struct rmk_ids *ids,
                                  struct rmk_why *why);

/* Whole decode: bytes of all tokens as UTF-8, one U+FFFD per maximal invalid prefix (Rust
 * from_utf8_lossy). Ids outside the vocabulary contribute nothing. *out_text is malloc'ed and
 * NUL-terminated; it may hold NULs. */
enum rmk_err rmk_tokenizer_decode(const struct rmk_tokenizer *tokenizer, const int32_t *ids,
                                  size_t count, bool skip_special, char **out_text,
                                  size_t *out_size, struct rmk_why *why);

/* Streaming decode: tokens arrive in order, text leaves in whole characters. What has left is never
 * retracted, and the pieces plus the flush equal the whole decode byte for byte. Lives in the
 * caller's memory; zero it first. */
struct rmk_detokenizer {
    uint8_t held[4]; /* an unfinished UTF-8 sequence */
    uint8_t held_count;
};

/* Writes at most `capacity` bytes to `out`; RMK_ELIMIT when that is too little (state unchanged).
 * rmk_tokenizer_piece_max() + 12 bytes always suffice for one token. */
enum rmk_err rmk_detokenizer_push(struct rmk_detokenizer *state,
                                  const struct rmk_tokenizer *tokenizer, int32_t id,
                                  bool skip_special, char *out, size_t capacity, size_t *out_size);
size_t rmk_detokenizer_flush(struct rmk_detokenizer *state, char out[4]);

/* Bytes of the longest token as text, its invalid bytes counted as the U+FFFD they may become. */
size_t rmk_tokenizer_piece_max(const struct rmk_tokenizer *tokenizer);

#endif
