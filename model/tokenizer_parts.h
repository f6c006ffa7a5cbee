/* What a tokenizer is made of, for the files tokenizer_*.c and their tests. Others use
 * model/tokenizer.h. */
#ifndef RMK_MODEL_TOKENIZER_PARTS_H
#define RMK_MODEL_TOKENIZER_PARTS_H

#include "model/bpe.h"
#include "model/tokenizer.h"
#include "model/tokenizer_pattern.h"

enum {
    RMK_TOKENIZER_FILE_BYTES_MAX = 64
                                   << 20, /* also after decompression; published ones reach 33 MB */
    RMK_TOKENIZER_TEXT_BYTES_MAX = 64 << 20, /* of one encode */
    RMK_TOKENIZER_ID_END = 1 << 24,          /* ids are below */
    RMK_TOKENIZER_STAGES_MAX = 8,
    RMK_TOKENIZER_ADDED_BYTES_MAX = 512, /* of one added token */
};

/* One id. Offsets are into rmk_tokenizer.arena. */
struct rmk_token {
    uint32_t content; /* as the file writes it: BPE entries in the byte alphabet */
    uint32_t content_size;
    uint32_t bytes; /* what it stands for in a text */
    uint32_t bytes_size;
    bool present;
    bool added;
    bool special;
};

/* Added tokens to look for in a text. */
struct rmk_literal {
    uint32_t text; /* offset into the arena: the content, normalised where the token asks for it */
    uint32_t size;
    int32_t id;
};

struct rmk_literals {
    struct rmk_literal *items; /* sorted by text */
    size_t count;
    size_t capacity;
    bool first[256]; /* bytes that an item begins with */
};

/* Bits of utf8proc_option_t; 0: none. */
typedef int rmk_normal_form;

struct rmk_tokenizer {
    char *arena;
    size_t arena_size;
    size_t arena_capacity;

    struct rmk_token *tokens; /* [id_end] */
    uint32_t id_end;
    uint32_t size; /* ids that are present */
    size_t piece_max;
    size_t content_max;

    /* Content to id: open addressing, a power of two of places, id or -1. The seed is drawn at
     * load, so that a file cannot be written to make all contents meet in one place. */
    int32_t *places;
    uint64_t place_mask;
    uint64_t seed;

    int32_t byte_ids[256];
    struct rmk_bpe bpe;
    bool ignore_merges; /* a piece that is a BPE entry as a whole is taken as it is */

    struct rmk_literals literals;            /* looked for in the text as it comes */
    struct rmk_literals normalised_literals; /* looked for after normalisation */
    rmk_normal_form normal_form;
    struct rmk_pattern
        *stages[RMK_TOKENIZER_STAGES_MAX]; /* each splits the pieces of the one before */
    size_t stage_count;
};

/* ---- tokenizer.c ---- */

/* Append to the arena. Errors: RMK_ELIMIT. */
enum rmk_err rmk_tokenizer_keep(struct rmk_tokenizer *tokenizer, struct rmk_bytes text,
                                uint32_t *out_offset);

/* As rmk_tokenizer_find, for text that may hold NULs. */
int32_t rmk_tokenizer_find_bytes(const struct rmk_tokenizer *tokenizer, struct rmk_bytes content);

/* Where `content` is in `places`, or the empty place where it would go. */
int32_t *rmk_tokenizer_place(const struct rmk_tokenizer *tokenizer, struct rmk_bytes content);

static inline struct rmk_bytes rmk_tokenizer_bytes(const struct rmk_tokenizer *tokenizer,
                                                   uint32_t offset, uint32_t size)
{
    return rmk_bytes_of(tokenizer->arena + offset, size);
}

/* ---- tokenizer_load.c, tokenizer_pipeline.c ---- */

struct json_t;

/* From the text of a tokenizer.json. */
enum rmk_err rmk_tokenizer_create_from_json(struct rmk_bytes json,
                                            struct rmk_tokenizer **out_tokenizer,
                                            struct rmk_why *why);

/* Read normalizer, pre_tokenizer, post_processor and decoder of the file's top object. */
enum rmk_err rmk_tokenizer_read_pipeline(struct rmk_tokenizer *tokenizer, const struct json_t *top,
                                         struct rmk_why *why);

/* ---- tokenizer_alphabet.c: GPT-2's printable stand-ins for bytes ---- */

/* The character for a byte: U+0021..U+0143. */
uint32_t rmk_alphabet_character(uint8_t byte);

/* The byte of a character, -1 when it stands for none. */
int rmk_alphabet_byte(uint32_t codepoint);

/* Write `bytes` in the alphabet; `out` has room for twice their size. Returns the bytes written. */
size_t rmk_alphabet_write(struct rmk_bytes bytes, char *out);

/* The bytes that `content` (UTF-8) stands for; content that is not wholly in the alphabet stands
 * for itself. `out` has room for content.size. Returns the bytes written. */
size_t rmk_alphabet_read(struct rmk_bytes content, uint8_t *out);

/* ---- tokenizer_normal.c ---- */

/* Unicode normalisation in linear time, unlike utf8proc_map, which takes quadratic time on a long
 * run of marks. *out_text is malloc'ed. Errors: RMK_ELIMIT. */
enum rmk_err rmk_normalise(rmk_normal_form form, struct rmk_bytes text, uint8_t **out_text,
                           size_t *out_size, struct rmk_why *why);

/* ---- tokenizer_decode.c ---- */

/* Bytes of `bytes` as text, each maximal invalid prefix counted as one U+FFFD. */
size_t rmk_lossy_size(struct rmk_bytes bytes);

#endif
