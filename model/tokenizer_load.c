#include "model/tokenizer_parts.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <zlib.h>

#include "common/file.h"

static enum rmk_err no_memory(struct rmk_why *why)
{
    return rmk_fail(why, RMK_ELIMIT, "no memory for a tokenizer");
}

/* ---- the file ---- */

/* zlib passes a file that is not compressed through as it is, so there is one way to read both. */
static enum rmk_err read_file(const char *path, uint8_t **out_data, size_t *out_size,
                              struct rmk_why *why)
{
    gzFile file = NULL;
    uint8_t *data = NULL;
    size_t size = 0;
    size_t capacity = 0;
    int fd = -1;
    enum rmk_err err;

    RMK_TRY(rmk_file_open(path, RMK_FILE_REGULAR, &fd, why));
    file = gzdopen(fd, "rb");
    if (file == NULL) {
        (void)close(fd);
        err = no_memory(why);
        goto out;
    }
    for (;;) {
        if (size == capacity) {
            capacity = capacity == 0 ? 1 << 20 : capacity * 2;
            uint8_t *grown = realloc(data, capacity);
            if (grown == NULL) {
                err = no_memory(why);
                goto out;
            }
            data = grown;
        }
        int count = gzread(file, data + size, (unsigned)(capacity - size));
        int code = Z_OK;
        const char *message = gzerror(file, &code);
        if (count < 0 || code == Z_BUF_ERROR) {
            err = code == Z_ERRNO
                      ? rmk_fail(why, RMK_EIO, "cannot be read: %s", strerror(errno))
                      : rmk_fail(why, RMK_ECORRUPT, "cannot be decompressed: %s", message);
            goto out;
        }
        size += (size_t)count;
        if (size > RMK_TOKENIZER_FILE_BYTES_MAX) {
            err = rmk_fail(why, RMK_ELIMIT, "has more than %d bytes", RMK_TOKENIZER_FILE_BYTES_MAX);
            goto out;
        }
        if (count == 0) {
            break;
        }
    }
    *out_data = data;
    *out_size = size;
    data = NULL;
out:
    free(data);
    if (file != NULL) {
        (void)gzclose(file);
    }
    return err;
}

/* ---- tokens ---- */

/* Set up an id: its content, and the bytes it stands for. */
static enum rmk_err add_token(struct rmk_tokenizer *tokenizer, int64_t id, struct rmk_bytes content,
                              struct rmk_why *why)
{
    struct rmk_token *token;
    uint8_t *bytes = NULL;
    enum rmk_err err;

    if (id < 0 || id >= RMK_TOKENIZER_ID_END) {
        err = rmk_fail(why, RMK_ECORRUPT, "token \"%.60s\" has id %lld, outside 0..%d",
                       (const char *)content.data, (long long)id, RMK_TOKENIZER_ID_END - 1);
        goto out;
    }
    token = &tokenizer->tokens[id];
    if (token->present) {
        err =
            rmk_fail(why, RMK_ECORRUPT, "tokens \"%.*s\" and \"%.60s\" have the same id %lld",
                     token->content_size < 60 ? (int)token->content_size : 60,
                     tokenizer->arena + token->content, (const char *)content.data, (long long)id);
        goto out;
    }
    bytes = malloc(content.size + 1);
    if (bytes == NULL) {
        err = no_memory(why);
        goto out;
    }
    size_t size = rmk_alphabet_read(content, bytes);
    if (rmk_tokenizer_keep(tokenizer, content, &token->content) != RMK_OK ||
        rmk_tokenizer_keep(tokenizer, rmk_bytes_of(bytes, size), &token->bytes) != RMK_OK) {
        err = no_memory(why);
        goto out;
    }
    token->content_size = (uint32_t)content.size;
    token->bytes_size = (uint32_t)size;
    token->present = true;
    *rmk_tokenizer_place(tokenizer, content) = (int32_t)id;
    tokenizer->size++;
    if (content.size > tokenizer->content_max) {
        tokenizer->content_max = content.size;
    }
    size_t lossy_size = rmk_lossy_size(rmk_bytes_of(bytes, size));
    if (lossy_size > tokenizer->piece_max) {
        tokenizer->piece_max = lossy_size;
    }
    err = RMK_OK;
out:
    free(bytes);
    return err;
}

static enum rmk_err integer_of(const json_t *value, int64_t *out_value)
{
    if (!json_is_integer(value)) {
        return RMK_ECORRUPT;
    }
    *out_value = json_integer_value(value);
    return RMK_OK;
}

/* Room for every id up to the highest, and a hash table at most half full. */
static enum rmk_err reserve_tokens(struct rmk_tokenizer *tokenizer, json_t *vocab,
                                   const json_t *added, struct rmk_why *why)
{
    int64_t id;
    int64_t id_max = 0;
    size_t count = json_object_size(vocab) + json_array_size(added);
    const char *key;
    json_t *value;
    size_t i;

    json_object_foreach(vocab, key, value)
    {
        if (integer_of(value, &id) != RMK_OK) {
            return rmk_fail(why, RMK_ECORRUPT, "vocab: the id of \"%.60s\" is no integer", key);
        }
        id_max = id > id_max && id < RMK_TOKENIZER_ID_END ? id : id_max;
    }
    json_array_foreach(added, i, value)
    {
        if (integer_of(json_object_get(value, "id"), &id) != RMK_OK) {
            return rmk_fail(why, RMK_ECORRUPT, "added_tokens[%zu]: its id is no integer", i);
        }
        id_max = id > id_max && id < RMK_TOKENIZER_ID_END ? id : id_max;
    }
    uint64_t places = 16;
    while (places < 2 * (uint64_t)count) {
        places *= 2;
    }
    tokenizer->id_end = (uint32_t)id_max + 1;
    tokenizer->tokens = calloc(tokenizer->id_end, sizeof(*tokenizer->tokens));
    tokenizer->places = malloc(places * sizeof(*tokenizer->places));
    if (tokenizer->tokens == NULL || tokenizer->places == NULL) {
        return no_memory(why);
    }
    memset(tokenizer->places, 0xff, places * sizeof(*tokenizer->places)); /* all -1 */
    tokenizer->place_mask = places - 1;
    return RMK_OK;
}

static enum rmk_err read_vocab(struct rmk_tokenizer *tokenizer, json_t *vocab, struct rmk_why *why)
{
    const char *key;
    size_t size = 0;
    json_t *value;

    json_object_keylen_foreach(vocab, key, size, value)
    {
        enum rmk_err err =
            add_token(tokenizer, json_integer_value(value), rmk_bytes_of(key, size), why);
        if (err != RMK_OK) {
            rmk_why_context(why, "vocab");
            return err;
        }
    }
    for (int byte = 0; byte < 256; byte++) {
        char character[4];
        uint8_t one = (uint8_t)byte;
        size = rmk_alphabet_write(rmk_bytes_of(&one, 1), character);
        tokenizer->byte_ids[byte] =
            rmk_tokenizer_find_bytes(tokenizer, rmk_bytes_of(character, size));
        if (tokenizer->byte_ids[byte] < 0) {
            return rmk_fail(why, RMK_EUNSUPPORTED,
                            "vocab: no token for byte 0x%02x, so this is not byte-level BPE",
                            (unsigned)byte);
        }
    }
    return RMK_OK;
}

/* ---- added tokens ---- */

static int compare_literals(const void *a, const void *b, void *arena)
{
    const struct rmk_literal *left = a;
    const struct rmk_literal *right = b;
    size_t shared = left->size < right->size ? left->size : right->size;
    int order = memcmp((char *)arena + left->text, (char *)arena + right->text, shared);

    if (order != 0) {
        return order;
    }
    return (left->size > right->size) - (left->size < right->size);
}

static void sort_literals(struct rmk_tokenizer *tokenizer, struct rmk_literals *literals)
{
    if (literals->count > 0) {
        qsort_r(literals->items, literals->count, sizeof(*literals->items), compare_literals,
                tokenizer->arena);
    }
    for (size_t i = 0; i < literals->count; i++) {
        literals->first[(uint8_t)tokenizer->arena[literals->items[i].text]] = true;
    }
}

static enum rmk_err add_literal(struct rmk_literals *literals, struct rmk_literal literal)
{
    if (literals->count == literals->capacity) {
        size_t capacity = literals->capacity == 0 ? 64 : literals->capacity * 2;
        struct rmk_literal *grown = realloc(literals->items, capacity * sizeof(*grown));
        if (grown == NULL) {
            return RMK_ELIMIT;
        }
        literals->items = grown;
        literals->capacity = capacity;
    }
    literals->items[literals->count++] = literal;
    return RMK_OK;
}

/* Look for `content` in texts. A token that asks for it is looked for in normalised form. */
static enum rmk_err add_to_literals(struct rmk_tokenizer *tokenizer, int32_t id,
                                    struct rmk_bytes content, bool normalised, struct rmk_why *why)
{
    struct rmk_literal literal = {.id = id};
    uint8_t *text = NULL;
    size_t size = 0;
    enum rmk_err err = RMK_OK;

    if (normalised && tokenizer->normal_form != 0) {
        RMK_TRY(rmk_normalise(tokenizer->normal_form, content, &text, &size, why));
        content = rmk_bytes_of(text, size);
    }
    literal.size = (uint32_t)content.size;
    if (rmk_tokenizer_keep(tokenizer, content, &literal.text) != RMK_OK ||
        add_literal(normalised ? &tokenizer->normalised_literals : &tokenizer->literals, literal) !=
            RMK_OK) {
        err = no_memory(why);
    }
out:
    free(text);
    return err;
}

static enum rmk_err flag_of(const json_t *object, const char *name, bool *out_value,
                            struct rmk_why *why)
{
    const json_t *value = json_object_get(object, name);

    if (value != NULL && !json_is_boolean(value)) {
        return rmk_fail(why, RMK_ECORRUPT, "%s is neither true nor false", name);
    }
    *out_value = json_is_true(value);
    return RMK_OK;
}

static enum rmk_err read_added_token(struct rmk_tokenizer *tokenizer, const json_t *item,
                                     struct rmk_why *why)
{
    static const char *const refused[] = {"single_word", "lstrip", "rstrip"};
    const json_t *content = json_object_get(item, "content");
    int64_t id = json_integer_value(json_object_get(item, "id"));
    bool normalised = false;
    bool special = false;
    enum rmk_err err;

    if (!json_is_string(content) || json_string_length(content) == 0) {
        return rmk_fail(why, RMK_ECORRUPT, "its content is not a text of at least one character");
    }
    struct rmk_bytes text = rmk_bytes_of(json_string_value(content), json_string_length(content));
    if (text.size > RMK_TOKENIZER_ADDED_BYTES_MAX) {
        return rmk_fail(why, RMK_EUNSUPPORTED, "its content has %zu bytes, at most %d are allowed",
                        text.size, RMK_TOKENIZER_ADDED_BYTES_MAX);
    }
    RMK_TRY(flag_of(item, "special", &special, why));
    RMK_TRY(flag_of(item, "normalized", &normalised, why));
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        bool set = false;
        RMK_TRY(flag_of(item, refused[i], &set, why));
        if (set) {
            return rmk_fail(why, RMK_EUNSUPPORTED, "\"%.60s\" asks for %s, which is not supported",
                            json_string_value(content), refused[i]);
        }
    }
    int32_t known = rmk_tokenizer_find_bytes(tokenizer, text);
    if (known >= 0 && (known != id || tokenizer->tokens[known].added)) {
        return rmk_fail(why, RMK_ECORRUPT, "\"%.60s\" is there already, as id %d",
                        json_string_value(content), (int)known);
    }
    if (known < 0) {
        RMK_TRY(add_token(tokenizer, id, text, why));
    }
    tokenizer->tokens[id].added = true;
    tokenizer->tokens[id].special = special;
    RMK_TRY(add_to_literals(tokenizer, (int32_t)id, text, normalised, why));
out:
    return err;
}

static enum rmk_err read_added_tokens(struct rmk_tokenizer *tokenizer, const json_t *added,
                                      struct rmk_why *why)
{
    size_t i;
    json_t *item;

    json_array_foreach(added, i, item)
    {
        enum rmk_err err = read_added_token(tokenizer, item, why);
        if (err != RMK_OK) {
            rmk_why_context(why, "added_tokens[%zu]", i);
            return err;
        }
    }
    sort_literals(tokenizer, &tokenizer->literals);
    sort_literals(tokenizer, &tokenizer->normalised_literals);
    return RMK_OK;
}

/* ---- merges ---- */

/* A merge is "left right", or ["left", "right"] in newer files. */
static bool split_merge(const json_t *item, struct rmk_bytes *out_left, struct rmk_bytes *out_right)
{
    if (json_is_string(item)) {
        const char *text = json_string_value(item);
        size_t size = json_string_length(item);
        const char *space = memchr(text, ' ', size);
        if (space == NULL) {
            return false;
        }
        *out_left = rmk_bytes_of(text, (size_t)(space - text));
        *out_right = rmk_bytes_of(space + 1, size - out_left->size - 1);
        return memchr(out_right->data, ' ', out_right->size) == NULL;
    }
    const json_t *left = json_array_get(item, 0);
    const json_t *right = json_array_get(item, 1);
    if (json_array_size(item) != 2 || !json_is_string(left) || !json_is_string(right)) {
        return false;
    }
    *out_left = rmk_bytes_of(json_string_value(left), json_string_length(left));
    *out_right = rmk_bytes_of(json_string_value(right), json_string_length(right));
    return true;
}

/* Id of a BPE entry that a merge names; an added token is none. */
static enum rmk_err find_merged(const struct rmk_tokenizer *tokenizer, struct rmk_bytes content,
                                int32_t *out_id, struct rmk_why *why)
{
    *out_id = rmk_tokenizer_find_bytes(tokenizer, content);
    if (*out_id < 0) {
        return rmk_fail(why, RMK_ECORRUPT, "\"%.*s\" is not in the vocabulary",
                        content.size < 60 ? (int)content.size : 60, (const char *)content.data);
    }
    return RMK_OK;
}

static enum rmk_err add_merge(struct rmk_tokenizer *tokenizer, const json_t *item, uint32_t rank,
                              struct rmk_why *why)
{
    struct rmk_bytes left;
    struct rmk_bytes right;
    uint8_t *whole = NULL;
    int32_t left_id = -1;
    int32_t right_id = -1;
    int32_t id = -1;
    enum rmk_err err;

    if (!split_merge(item, &left, &right) || left.size == 0 || right.size == 0) {
        err = rmk_fail(why, RMK_ECORRUPT, "not two tokens");
        goto out;
    }
    RMK_TRY(find_merged(tokenizer, left, &left_id, why));
    RMK_TRY(find_merged(tokenizer, right, &right_id, why));
    whole = malloc(left.size + right.size);
    if (whole == NULL) {
        err = no_memory(why);
        goto out;
    }
    memcpy(whole, left.data, left.size);
    memcpy(whole + left.size, right.data, right.size);
    RMK_TRY(find_merged(tokenizer, rmk_bytes_of(whole, left.size + right.size), &id, why));
    rmk_bpe_add(&tokenizer->bpe, left_id, right_id, rank, id);
out:
    free(whole);
    return err;
}

static enum rmk_err read_merges(struct rmk_tokenizer *tokenizer, const json_t *merges,
                                struct rmk_why *why)
{
    size_t rank;
    json_t *item;

    if (rmk_bpe_init(&tokenizer->bpe, (uint32_t)json_array_size(merges)) != RMK_OK) {
        return no_memory(why);
    }
    json_array_foreach(merges, rank, item)
    {
        enum rmk_err err = add_merge(tokenizer, item, (uint32_t)rank, why);
        if (err != RMK_OK) {
            rmk_why_context(why, "merges[%zu]", rank);
            return err;
        }
    }
    return RMK_OK;
}

/* Encoding text with special tokens off must never give one: no byte and no merge may be special.
 */
static enum rmk_err check_specials_apart(const struct rmk_tokenizer *tokenizer, size_t merge_count,
                                         struct rmk_why *why)
{
    for (size_t i = 0; i < 256 + merge_count; i++) {
        int32_t id = i < 256 ? tokenizer->byte_ids[i] : tokenizer->bpe.rank_ids[i - 256];
        const struct rmk_token *token = &tokenizer->tokens[id];
        if (token->special) {
            return rmk_fail(why, RMK_EUNSUPPORTED,
                            "special token \"%.*s\" can also come out of ordinary text",
                            token->content_size < 60 ? (int)token->content_size : 60,
                            tokenizer->arena + token->content);
        }
    }
    return RMK_OK;
}

/* ---- the whole ---- */

static bool is_absent(const json_t *value)
{
    return value == NULL || json_is_null(value) || json_is_false(value) ||
           (json_is_string(value) && json_string_length(value) == 0) ||
           (json_is_number(value) && json_number_value(value) == 0);
}

/* Options of the BPE model that would change ids in ways we do not compute. */
static enum rmk_err check_model(const json_t *model, struct rmk_why *why)
{
    static const char *const refused[] = {"dropout", "continuing_subword_prefix",
                                          "end_of_word_suffix"};
    const json_t *type = json_object_get(model, "type");

    if (!json_is_object(model)) {
        return rmk_fail(why, RMK_ECORRUPT, "model is no object");
    }
    if (json_is_string(type) && strcmp(json_string_value(type), "BPE") != 0) {
        return rmk_fail(why, RMK_EUNSUPPORTED, "model is \"%.60s\", only BPE is supported",
                        json_string_value(type));
    }
    if (!json_is_object(json_object_get(model, "vocab"))) {
        return rmk_fail(why, RMK_ECORRUPT, "model has no object vocab");
    }
    if (!json_is_array(json_object_get(model, "merges"))) {
        return rmk_fail(why, RMK_ECORRUPT, "model has no list merges");
    }
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        if (!is_absent(json_object_get(model, refused[i]))) {
            return rmk_fail(why, RMK_EUNSUPPORTED, "model uses %s, which is not supported",
                            refused[i]);
        }
    }
    return RMK_OK;
}

static enum rmk_err read_top(struct rmk_tokenizer *tokenizer, const json_t *top,
                             struct rmk_why *why)
{
    const json_t *model = json_object_get(top, "model");
    const json_t *added = json_object_get(top, "added_tokens");
    const json_t *merges = json_object_get(model, "merges");
    json_t *vocab = json_object_get(model, "vocab");
    enum rmk_err err;

    if (!json_is_object(top)) {
        err = rmk_fail(why, RMK_ECORRUPT, "the file holds no object");
        goto out;
    }
    RMK_TRY(check_model(model, why));
    if (added != NULL && !json_is_array(added)) {
        err = rmk_fail(why, RMK_ECORRUPT, "added_tokens is no list");
        goto out;
    }
    RMK_TRY(flag_of(model, "ignore_merges", &tokenizer->ignore_merges, why));
    RMK_TRY(rmk_tokenizer_read_pipeline(tokenizer, top, why));
    RMK_TRY(reserve_tokens(tokenizer, vocab, added, why));
    RMK_TRY(read_vocab(tokenizer, vocab, why));
    /* Before the added tokens, which are no part of what may be merged. */
    RMK_TRY(read_merges(tokenizer, merges, why));
    RMK_TRY(read_added_tokens(tokenizer, added, why));
    RMK_TRY(check_specials_apart(tokenizer, json_array_size(merges), why));
out:
    return err;
}

enum rmk_err rmk_tokenizer_create_from_json(struct rmk_bytes json,
                                            struct rmk_tokenizer **out_tokenizer,
                                            struct rmk_why *why)
{
    struct rmk_tokenizer *tokenizer = NULL;
    json_t *top = NULL;
    json_error_t error;
    enum rmk_err err;

    tokenizer = calloc(1, sizeof(*tokenizer));
    if (tokenizer == NULL) {
        err = no_memory(why);
        goto out;
    }
    if (getrandom(&tokenizer->seed, sizeof(tokenizer->seed), GRND_NONBLOCK) < 0) {
        tokenizer->seed = (uint64_t)(uintptr_t)tokenizer; /* early boot: better than nothing */
    }
    top = json_loadb((const char *)json.data, json.size, JSON_REJECT_DUPLICATES, &error);
    if (top == NULL) {
        err = rmk_fail(why, RMK_ECORRUPT, "not JSON: line %d: %s", error.line, error.text);
        goto out;
    }
    RMK_TRY(read_top(tokenizer, top, why));
    *out_tokenizer = tokenizer;
    tokenizer = NULL;
out:
    json_decref(top);
    rmk_tokenizer_destroy(tokenizer);
    return err;
}

enum rmk_err rmk_tokenizer_create(const char *path, struct rmk_tokenizer **out_tokenizer,
                                  struct rmk_why *why)
{
    uint8_t *data = NULL;
    size_t size = 0;
    enum rmk_err err;

    RMK_TRY(read_file(path, &data, &size, why));
    RMK_TRY(rmk_tokenizer_create_from_json(rmk_bytes_of(data, size), out_tokenizer, why));
out:
    if (err != RMK_OK) {
        rmk_why_context(why, "%s", path);
    }
    free(data);
    return err;
}

enum rmk_err rmk_tokenizer_create_in(const char *dir, struct rmk_tokenizer **out_tokenizer,
                                     struct rmk_why *why)
{
    char plain[PATH_MAX];
    char packed[PATH_MAX];

    if (snprintf(plain, sizeof(plain), "%s/tokenizer.json", dir) >= (int)sizeof(plain) ||
        snprintf(packed, sizeof(packed), "%s.gz", plain) >= (int)sizeof(packed)) {
        return rmk_fail(why, RMK_EINVAL, "%.200s…: the path is too long", dir);
    }
    /* If neither is there, the plain one is what is missed. */
    bool unpacked = access(plain, F_OK) == 0 || access(packed, F_OK) != 0;
    return rmk_tokenizer_create(unpacked ? plain : packed, out_tokenizer, why);
}
