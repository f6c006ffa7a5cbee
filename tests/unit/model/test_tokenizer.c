#include "tests/unit/model/text_golden.h"

#include <zlib.h>

#include "common/utf8.h"
#include "model/known_answers.h"
#include "model/tokenizer_parts.h"

/* ---- golden cases ---- */

static void decode_whole(const struct rmk_tokenizer *tokenizer, const struct rmk_ids *ids,
                         bool skip_special, char **out_text, size_t *out_size)
{
    struct rmk_why why = {0};

    assert_int_equal(rmk_tokenizer_decode(tokenizer, ids->items, ids->count, skip_special, out_text,
                                          out_size, &why),
                     RMK_OK);
    assert_int_equal((*out_text)[*out_size], '\0');
}

static void check_decode(const struct rmk_tokenizer *tokenizer, const struct rmk_ids *ids,
                         bool skip_special, struct rmk_bytes wanted, size_t number)
{
    char *text;
    size_t size;

    decode_whole(tokenizer, ids, skip_special, &text, &size);
    if (!rmk_bytes_equal(rmk_bytes_of(text, size), wanted)) {
        fail_msg("case %zu decodes to \"%s\", not \"%s\"", number, text, (const char *)wanted.data);
    }
    free(text);
}

/* Tokens one by one give what all at once give, every piece in whole characters. */
static void check_streaming(const struct rmk_tokenizer *tokenizer, const struct rmk_ids *ids,
                            bool skip_special)
{
    struct rmk_detokenizer state = {0};
    size_t capacity = rmk_tokenizer_piece_max(tokenizer) + 12;
    char *streamed = malloc((ids->count + 1) * capacity);
    char *whole;
    size_t whole_size;
    size_t size = 0;
    size_t offset;

    assert_non_null(streamed);
    for (size_t i = 0; i < ids->count; i++) {
        size_t piece;
        assert_int_equal(rmk_detokenizer_push(&state, tokenizer, ids->items[i], skip_special,
                                              streamed + size, capacity, &piece),
                         RMK_OK);
        if (!rmk_utf8_valid(rmk_bytes_of(streamed + size, piece), &offset)) {
            fail_msg("the piece of token %zu is cut in a character", i);
        }
        size += piece;
    }
    size += rmk_detokenizer_flush(&state, streamed + size);
    decode_whole(tokenizer, ids, skip_special, &whole, &whole_size);
    assert_int_equal(size, whole_size);
    assert_memory_equal(streamed, whole, size);
    free(whole);
    free(streamed);
}

static void check_encode_file(const struct rmk_tokenizer *tokenizer, const char *path,
                              size_t count_min)
{
    json_t *cases = load_cases(path, count_min);
    struct rmk_ids ids = {0};
    struct rmk_why why = {0};
    size_t i;
    json_t *item;

    json_array_foreach(cases, i, item)
    {
        ids.count = 0;
        assert_int_equal(
            rmk_tokenizer_encode(tokenizer, text_of(item, "text"), RMK_SPECIAL_PARSE, &ids, &why),
            RMK_OK);
        assert_ids(&ids, json_object_get(item, "ids"), path, i);
        check_decode(tokenizer, &ids, false, text_of(item, "decoded"), i);
        check_decode(tokenizer, &ids, true, text_of(item, "decoded_skip_special"), i);
        check_streaming(tokenizer, &ids, false);
    }
    rmk_ids_deinit(&ids);
    json_decref(cases);
}

static void check_decode_file(const struct rmk_tokenizer *tokenizer, const char *path,
                              size_t count_min)
{
    json_t *cases = load_cases(path, count_min);
    struct rmk_ids ids = {0};
    size_t i;
    json_t *item;

    json_array_foreach(cases, i, item)
    {
        ids_from(json_object_get(item, "ids"), &ids);
        check_decode(tokenizer, &ids, false, text_of(item, "text"), i);
        check_decode(tokenizer, &ids, true, text_of(item, "skip_special"), i);
        check_streaming(tokenizer, &ids, false);
        check_streaming(tokenizer, &ids, true);
    }
    rmk_ids_deinit(&ids);
    json_decref(cases);
}

static void encoding_and_decoding_give_the_golden_ids_and_texts(void **state)
{
    struct rmk_tokenizer *tokenizer = load_tokenizer(TINY_TOKENIZER);

    (void)state;
    check_encode_file(tokenizer, "tests/data/text/encode_small.json", 40);
    check_decode_file(tokenizer, "tests/data/text/decode_small.json", 30);
    if (reference_path("golden/text/encode_small.json") != NULL) {
        check_encode_file(tokenizer, reference_path("golden/text/encode_small.json"), 265);
        check_decode_file(tokenizer, reference_path("golden/text/decode_small.json"), 150);
    }
    rmk_tokenizer_destroy(tokenizer);
}

static void a_gzipped_tokenizer_of_full_size_gives_the_golden_ids_and_texts(void **state)
{
    const char *path = reference_path("tokenizer/tokenizer-standin-126349.json.gz");
    struct rmk_why why = {0};
    uint32_t failed = 0;

    (void)state;
    if (path == NULL) {
        skip();
    }
    struct rmk_tokenizer *tokenizer = load_tokenizer(path);
    assert_int_equal(rmk_tokenizer_size(tokenizer), 126349);
    assert_int_equal(rmk_tokenizer_find(tokenizer, "<|mdm_mask|>"), 126336);
    assert_int_equal(rmk_tokenizer_find(tokenizer, "<|eot_id|>"), 126348);
    check_encode_file(tokenizer, reference_path("golden/text/encode_large.json"), 265);
    check_decode_file(tokenizer, reference_path("golden/text/decode_large.json"), 150);
    /* A stand-in is not the published tokenizer. */
    assert_int_equal(rmk_tokenizer_known_answers(tokenizer, &failed, &why), RMK_ECORRUPT);
    assert_int_not_equal(failed, 0);
    rmk_tokenizer_destroy(tokenizer);
}

/* ---- what a tokenizer knows ---- */

static void size_counts_ids_and_find_wants_exact_content(void **state)
{
    struct rmk_tokenizer *tokenizer = load_tokenizer(TINY_TOKENIZER);

    (void)state;
    assert_int_equal(rmk_tokenizer_size(tokenizer), 784);
    assert_int_equal(rmk_tokenizer_find(tokenizer, "<|startoftext|>"), 768);
    assert_int_equal(rmk_tokenizer_find(tokenizer, "!"), 0);
    assert_int_equal(rmk_tokenizer_find(tokenizer, "\xc4\xa0"),
                     220); /* a space in the byte alphabet */
    assert_int_equal(rmk_tokenizer_find(tokenizer, " "), -1);
    assert_int_equal(rmk_tokenizer_find(tokenizer, ""), -1);
    assert_int_equal(rmk_tokenizer_find(tokenizer, "<|startoftext|"), -1);
    rmk_tokenizer_destroy(tokenizer);
}

static void plain_text_never_becomes_a_special_token(void **state)
{
    struct rmk_tokenizer *tokenizer = load_tokenizer(TINY_TOKENIZER);
    static const char text[] = "a<|eot_id|><|mdm_mask|>[CLS]b";
    struct rmk_ids ids = {0};
    char *decoded;
    size_t size;

    (void)state;
    assert_int_equal(
        rmk_tokenizer_encode(tokenizer, rmk_bytes_text(text), RMK_SPECIAL_PLAIN, &ids, NULL),
        RMK_OK);
    assert_true(ids.count > 0);
    for (size_t i = 0; i < ids.count; i++) {
        assert_true(ids.items[i] < 768);
    }
    decode_whole(tokenizer, &ids, true, &decoded, &size);
    assert_string_equal(decoded, text);
    free(decoded);

    ids.count = 0;
    assert_int_equal(
        rmk_tokenizer_encode(tokenizer, rmk_bytes_text(text), RMK_SPECIAL_PARSE, &ids, NULL),
        RMK_OK);
    assert_int_equal(ids.count, 5);
    assert_int_equal(ids.items[1], 783);
    assert_int_equal(ids.items[2], 773);
    assert_int_equal(ids.items[3], 770);
    rmk_ids_deinit(&ids);
    rmk_tokenizer_destroy(tokenizer);
}

static void invalid_utf8_is_refused_with_its_offset_and_adds_no_ids(void **state)
{
    struct rmk_tokenizer *tokenizer = load_tokenizer(TINY_TOKENIZER);
    struct rmk_ids ids = {0};
    struct rmk_why why = {0};
    int32_t one = 1;

    (void)state;
    assert_int_equal(rmk_ids_append(&ids, &one, 1), RMK_OK);
    assert_int_equal(
        rmk_tokenizer_encode(tokenizer, rmk_bytes_text("abc\xff"), RMK_SPECIAL_PARSE, &ids, &why),
        RMK_EINVAL);
    assert_string_equal(why.text, "text is not UTF-8 at byte 3");
    assert_int_equal(ids.count, 1);
    rmk_ids_deinit(&ids);
    rmk_tokenizer_destroy(tokenizer);
}

/* ---- streaming ---- */

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

static void streaming_equals_whole_decoding_on_random_ids(void **state)
{
    struct rmk_tokenizer *tokenizer = load_tokenizer(TINY_TOKENIZER);
    struct rmk_ids ids = {0};
    uint32_t seed = 7;

    (void)state;
    for (int round = 0; round < 300; round++) {
        ids.count = 0;
        size_t count = next_random(&seed) % 30;
        for (size_t i = 0; i < count; i++) {
            /* Half of them single bytes, so that sequences break in every way; some outside the
             * vocabulary. */
            int32_t id = (int32_t)(next_random(&seed) % (next_random(&seed) % 2 ? 256 : 800)) - 3;
            assert_int_equal(rmk_ids_append(&ids, &id, 1), RMK_OK);
        }
        check_streaming(tokenizer, &ids, round % 2 == 0);
    }
    rmk_ids_deinit(&ids);
    rmk_tokenizer_destroy(tokenizer);
}

static void a_character_in_two_tokens_leaves_when_it_is_whole(void **state)
{
    struct rmk_tokenizer *tokenizer = load_tokenizer(TINY_TOKENIZER);
    struct rmk_detokenizer detokenizer = {0};
    struct rmk_bytes euro = rmk_bytes_text("\xe2\x82\xac");
    char out[64];
    size_t size;

    (void)state;
    for (size_t i = 0; i < euro.size; i++) {
        assert_int_equal(rmk_detokenizer_push(&detokenizer, tokenizer,
                                              tokenizer->byte_ids[euro.data[i]], false, out,
                                              sizeof(out), &size),
                         RMK_OK);
        assert_int_equal(size, i == 2 ? 3 : 0);
    }
    assert_memory_equal(out, euro.data, 3);
    assert_int_equal(rmk_detokenizer_flush(&detokenizer, out), 0);
    rmk_tokenizer_destroy(tokenizer);
}

static void too_little_room_leaves_the_detokenizer_as_it_was(void **state)
{
    struct rmk_tokenizer *tokenizer = load_tokenizer(TINY_TOKENIZER);
    struct rmk_detokenizer detokenizer = {0};
    char out[64];
    size_t size = 99;

    (void)state;
    assert_int_equal(rmk_detokenizer_push(&detokenizer, tokenizer, tokenizer->byte_ids[0xe2], false,
                                          out, 0, &size),
                     RMK_OK);
    assert_int_equal(size, 0);
    size = 99;
    /* "!" ends the unfinished character: U+FFFD and "!" are four bytes. */
    assert_int_equal(rmk_detokenizer_push(&detokenizer, tokenizer, 0, false, out, 3, &size),
                     RMK_ELIMIT);
    assert_int_equal(size, 99);
    assert_int_equal(detokenizer.held_count, 1);
    assert_int_equal(rmk_detokenizer_push(&detokenizer, tokenizer, 0, false, out, 4, &size),
                     RMK_OK);
    assert_int_equal(size, 4);
    assert_memory_equal(out, "\xef\xbf\xbd!", 4);
    rmk_tokenizer_destroy(tokenizer);
}

/* ---- one megabyte of one thing ---- */

/* Were anything quadratic, one of these would take minutes and ctest's limit would end it. */
static void a_megabyte_of_one_thing_is_encoded_in_linear_time(void **state)
{
    static const char *const units[] = {"a",  " ",    "\n",       "1",    "\xf0\x9f\x98\x80",
                                        "<",  "<|",   ".",        "\t",   "'s",
                                        " a", "\r\n", "\xcc\x81", " \n ", "A."};
    struct rmk_tokenizer *tokenizer = load_tokenizer(TINY_TOKENIZER);
    struct rmk_ids ids = {0};
    size_t size = 1 << 20;
    char *text = malloc(size + 8);

    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        struct rmk_why why = {0};
        size_t length = strlen(units[i]);
        size_t count = size / length;
        char *decoded;
        size_t decoded_size;
        for (size_t k = 0; k < count; k++) {
            memcpy(text + k * length, units[i], length);
        }
        text[count * length] = 'x'; /* so that white space is followed by something */
        ids.count = 0;
        struct rmk_bytes bytes = rmk_bytes_of(text, count * length + 1);
        if (rmk_tokenizer_encode(tokenizer, bytes, RMK_SPECIAL_PARSE, &ids, &why) != RMK_OK) {
            fail_msg("unit %zu: %s", i, why.text);
        }
        decode_whole(tokenizer, &ids, false, &decoded, &decoded_size);
        assert_true(rmk_bytes_equal(rmk_bytes_of(decoded, decoded_size), bytes));
        free(decoded);
    }
    free(text);
    rmk_ids_deinit(&ids);
    rmk_tokenizer_destroy(tokenizer);
}

/* ---- bad files ---- */

/* The tiny tokenizer with one thing changed at a path like "model/merges/3". NULL deletes it. */
static void edit(json_t *top, const char *path, json_t *value)
{
    char copy[128];
    json_t *parent = top;
    char *rest = copy;
    char *slash;

    (void)snprintf(copy, sizeof(copy), "%s", path);
    while ((slash = strchr(rest, '/')) != NULL) {
        *slash = '\0';
        parent = json_is_array(parent) ? json_array_get(parent, strtoul(rest, NULL, 10))
                                       : json_object_get(parent, rest);
        assert_non_null(parent);
        rest = slash + 1;
    }
    if (value == NULL) {
        assert_int_equal(json_object_del(parent, rest), 0);
    } else if (json_is_array(parent)) {
        assert_int_equal(json_array_set_new(parent, strtoul(rest, NULL, 10), value), 0);
    } else {
        assert_int_equal(json_object_set_new(parent, rest, value), 0);
    }
}

static struct rmk_tokenizer *create_edited(const char *path, const char *value, enum rmk_err wanted,
                                           struct rmk_why *why)
{
    json_error_t error;
    json_t *top = json_load_file(TINY_TOKENIZER, 0, &error);
    struct rmk_tokenizer *tokenizer = NULL;

    assert_non_null(top);
    json_t *new_value = value != NULL ? json_loads(value, JSON_DECODE_ANY, &error) : NULL;
    assert_true(value == NULL || new_value != NULL);
    edit(top, path, new_value);
    char *json = json_dumps(top, JSON_COMPACT);
    enum rmk_err err = rmk_tokenizer_create_from_json(rmk_bytes_text(json), &tokenizer, why);
    if (err != wanted) {
        fail_msg("%s = %s: %s, %s", path, value, rmk_err_name(err), why->text);
    }
    free(json);
    json_decref(top);
    return tokenizer;
}

static void a_bad_file_is_refused_in_one_sentence(void **state)
{
    static const struct {
        const char *path;
        const char *value; /* JSON; NULL: deleted */
        enum rmk_err err;
        const char *sentence;
    } cases[] = {
        {"model/merges/3", "\"\xc4\xa0 qqq\"", RMK_ECORRUPT,
         "merges[3]: \"qqq\" is not in the vocabulary"},
        {"model/merges/4", "[\"q\", \"q\"]", RMK_ECORRUPT,
         "merges[4]: \"qq\" is not in the vocabulary"},
        {"model/merges/5", "\"q\"", RMK_ECORRUPT, "merges[5]: not two tokens"},
        {"model/merges/5", "\"q q q\"", RMK_ECORRUPT, "merges[5]: not two tokens"},
        {"model/merges/5", "\"q \"", RMK_ECORRUPT, "merges[5]: not two tokens"},
        {"model/merges/6", "[\"q\"]", RMK_ECORRUPT, "merges[6]: not two tokens"},
        {"model/merges/6", "7", RMK_ECORRUPT, "merges[6]: not two tokens"},
        {"model/merges", "{}", RMK_ECORRUPT, "model has no list merges"},
        {"model/vocab/!", "1", RMK_ECORRUPT, "vocab: tokens \"!\" and \"\"\" have the same id 1"},
        {"model/vocab/!", "-1", RMK_ECORRUPT, "vocab: token \"!\" has id -1, outside 0..16777215"},
        {"model/vocab/!", "16777216", RMK_ECORRUPT,
         "vocab: token \"!\" has id 16777216, outside 0..16777215"},
        {"model/vocab/!", "0.5", RMK_ECORRUPT, "vocab: the id of \"!\" is no integer"},
        {"model/vocab/!", NULL, RMK_EUNSUPPORTED,
         "vocab: no token for byte 0x21, so this is not byte-level BPE"},
        {"model/vocab", "[]", RMK_ECORRUPT, "model has no object vocab"},
        {"model/type", "\"Unigram\"", RMK_EUNSUPPORTED,
         "model is \"Unigram\", only BPE is supported"},
        {"model/dropout", "0.1", RMK_EUNSUPPORTED, "model uses dropout, which is not supported"},
        {"model", "[]", RMK_ECORRUPT, "model is no object"},
        {"added_tokens", "3", RMK_ECORRUPT, "added_tokens is no list"},
        {"added_tokens/0/content", "\"\"", RMK_ECORRUPT,
         "added_tokens[0]: its content is not a text of at least one character"},
        {"added_tokens/0/content", "7", RMK_ECORRUPT,
         "added_tokens[0]: its content is not a text of at least one character"},
        {"added_tokens/1/content", "\"<|startoftext|>\"", RMK_ECORRUPT,
         "added_tokens[1]: \"<|startoftext|>\" is there already, as id 768"},
        {"added_tokens/1/id", "768", RMK_ECORRUPT,
         "added_tokens[1]: tokens \"<|startoftext|>\" and \"<|endoftext|>\" have the same id 768"},
        {"added_tokens/1/id", "-5", RMK_ECORRUPT,
         "added_tokens[1]: token \"<|endoftext|>\" has id -5, outside 0..16777215"},
        {"added_tokens/1/id", "\"x\"", RMK_ECORRUPT, "added_tokens[1]: its id is no integer"},
        {"added_tokens/2", "[]", RMK_ECORRUPT, "added_tokens[2]: its id is no integer"},
        {"added_tokens/2/lstrip", "true", RMK_EUNSUPPORTED,
         "added_tokens[2]: \"[CLS]\" asks for lstrip, which is not supported"},
        {"added_tokens/2/special", "1", RMK_ECORRUPT,
         "added_tokens[2]: special is neither true nor false"},
        {"added_tokens/2", "{\"id\": 0, \"content\": \"!\", \"special\": true}", RMK_EUNSUPPORTED,
         "special token \"!\" can also come out of ordinary text"},
        {"normalizer", "{\"type\": \"Lowercase\"}", RMK_EUNSUPPORTED,
         "normalizer: \"Lowercase\" is not supported"},
        {"pre_tokenizer", "null", RMK_EUNSUPPORTED,
         "pre_tokenizer: no ByteLevel, so this is not byte-level BPE"},
        {"pre_tokenizer", "{\"type\": \"Metaspace\"}", RMK_EUNSUPPORTED,
         "pre_tokenizer: \"Metaspace\" is not supported"},
        {"pre_tokenizer/pretokenizers", NULL, RMK_ECORRUPT,
         "pre_tokenizer: a Sequence has no list pretokenizers"},
        {"pre_tokenizer/pretokenizers/0/behavior", "\"Removed\"", RMK_EUNSUPPORTED,
         "pre_tokenizer: Split with behavior \"Removed\" is not supported"},
        {"pre_tokenizer/pretokenizers/0/pattern", "{}", RMK_ECORRUPT,
         "pre_tokenizer: a Split lacks its pattern or its behavior"},
        {"pre_tokenizer/pretokenizers/0/pattern/Regex", "\"a(?R)\"", RMK_EUNSUPPORTED,
         "pre_tokenizer: the pattern has syntax that is not supported at byte 2"},
        {"pre_tokenizer/pretokenizers/0/pattern/Regex", "\"(a\"", RMK_ECORRUPT,
         "pre_tokenizer: the pattern is no regular expression: missing closing parenthesis"},
        {"pre_tokenizer/pretokenizers/0/pattern/Regex", "\"\"", RMK_ECORRUPT,
         "pre_tokenizer: the pattern is empty"},
        {"pre_tokenizer/pretokenizers/1/add_prefix_space", "true", RMK_EUNSUPPORTED,
         "pre_tokenizer: ByteLevel with add_prefix_space is not supported"},
        {"post_processor",
         "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {}}]}",
         RMK_EUNSUPPORTED,
         "post_processor: a template that adds tokens to every text is not supported"},
        {"decoder", "null", RMK_EUNSUPPORTED,
         "decoder: no ByteLevel, so this is not byte-level BPE"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rmk_why why = {0};
        assert_null(create_edited(cases[i].path, cases[i].value, cases[i].err, &why));
        if (strcmp(why.text, cases[i].sentence) != 0) {
            fail_msg("case %zu says \"%s\", not \"%s\"", i, why.text, cases[i].sentence);
        }
    }
}

static void text_that_is_not_json_is_refused_in_one_sentence(void **state)
{
    struct rmk_tokenizer *tokenizer = NULL;
    struct rmk_why why = {0};
    size_t size = 100000;
    char *nested = malloc(size);

    (void)state;
    assert_non_null(nested);
    assert_int_equal(
        rmk_tokenizer_create_from_json(rmk_bytes_text("{\"model\": "), &tokenizer, &why),
        RMK_ECORRUPT);
    assert_non_null(strstr(why.text, "not JSON: line 1: "));
    assert_int_equal(rmk_tokenizer_create_from_json(rmk_bytes_text(""), &tokenizer, &why),
                     RMK_ECORRUPT);
    assert_int_equal(rmk_tokenizer_create_from_json(rmk_bytes_text("[]"), &tokenizer, &why),
                     RMK_ECORRUPT);
    assert_string_equal(why.text, "the file holds no object");
    assert_int_equal(rmk_tokenizer_create_from_json(rmk_bytes_text("{\"model\": 1, \"model\": 2}"),
                                                    &tokenizer, &why),
                     RMK_ECORRUPT);
    assert_non_null(strstr(why.text, "duplicate object key"));
    memset(nested, '[', size);
    assert_int_equal(rmk_tokenizer_create_from_json(rmk_bytes_of(nested, size), &tokenizer, &why),
                     RMK_ECORRUPT);
    assert_non_null(strstr(why.text, "maximum parsing depth reached"));
    assert_null(tokenizer);
    free(nested);
}

/* Everybody who opens a checkpoint: the coordinator, each worker, remask check. */
static void a_checkpoint_may_have_its_tokenizer_packed(void **state)
{
    struct rmk_tokenizer *tokenizer = NULL;
    struct rmk_why why = {0};
    char dir[] = "/tmp/rmk-tokenizer-XXXXXX";
    char path[64];
    char piece[4096];
    size_t got;

    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(rmk_tokenizer_create_in(dir, &tokenizer, &why), RMK_ENOTFOUND);
    assert_non_null(strstr(why.text, "/tokenizer.json: there is no such file"));
    (void)snprintf(path, sizeof(path), "%s/tokenizer.json.gz", dir);
    FILE *source = fopen("tests/data/models/tiny-tokenizer/tokenizer.json", "rb");
    gzFile target = gzopen(path, "wb");
    while ((got = fread(piece, 1, sizeof(piece), source)) > 0) {
        assert_int_equal(gzwrite(target, piece, (unsigned)got), (int)got);
    }
    assert_int_equal(gzclose(target), Z_OK);
    assert_int_equal(fclose(source), 0);
    assert_int_equal(rmk_tokenizer_create_in(dir, &tokenizer, &why), RMK_OK);
    rmk_tokenizer_destroy(tokenizer);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

static void a_missing_truncated_or_odd_file_is_named(void **state)
{
    char path[] = "/tmp/rmk-tokenizer-XXXXXX.gz";
    struct rmk_tokenizer *tokenizer = NULL;
    struct rmk_why why = {0};
    /* A gzip header and the beginning of a deflate stream. */
    static const uint8_t cut[] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xab, 0x56, 0xca};

    (void)state;
    int fd = mkstemps(path, 3);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, cut, sizeof(cut)), (ssize_t)sizeof(cut));
    assert_int_equal(close(fd), 0);
    assert_int_equal(rmk_tokenizer_create(path, &tokenizer, &why), RMK_ECORRUPT);
    assert_memory_equal(why.text, path, strlen(path));
    assert_non_null(strstr(why.text, ": cannot be decompressed: "));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmk_tokenizer_create(path, &tokenizer, &why), RMK_ENOTFOUND);
    assert_non_null(strstr(why.text, ": there is no such file"));
    assert_int_equal(rmk_tokenizer_create("tests", &tokenizer, &why), RMK_EINVAL);
    assert_string_equal(why.text, "tests: is a folder, not a file");
    assert_null(tokenizer);
}

/* ---- variants of the file ---- */

static void assert_encodes(struct rmk_tokenizer *tokenizer, const char *text, const char *ids_json)
{
    struct rmk_ids ids = {0};
    struct rmk_why why = {0};
    json_error_t error;
    json_t *wanted = json_loads(ids_json, 0, &error);

    assert_int_equal(
        rmk_tokenizer_encode(tokenizer, rmk_bytes_text(text), RMK_SPECIAL_PARSE, &ids, &why),
        RMK_OK);
    assert_ids(&ids, wanted, text, 0);
    json_decref(wanted);
    rmk_ids_deinit(&ids);
    rmk_tokenizer_destroy(tokenizer);
}

static void files_may_differ_in_ways_that_are_understood(void **state)
{
    struct rmk_why why = {0};

    (void)state;
    /* Merges as pairs: the first merge is two spaces. */
    assert_encodes(create_edited("model/merges/0", "[\"\xc4\xa0\", \"\xc4\xa0\"]", RMK_OK, &why),
                   "  ", "[256]");
    /* A sparse id. */
    assert_encodes(create_edited("model/vocab/!", "16777215", RMK_OK, &why), "!", "[16777215]");
    /* GPT-2's pattern, which ByteLevel brings along, ends a piece before a line break; the file's
     * own does not. */
    assert_encodes(create_edited("model/type", "\"BPE\"", RMK_OK, &why), ".\n", "[412]");
    assert_encodes(create_edited("pre_tokenizer",
                                 "{\"type\": \"ByteLevel\", \"add_prefix_space\": false}", RMK_OK,
                                 &why),
                   ".\n", "[13, 198]");
    /* e and a combining acute accent, composed. */
    assert_encodes(create_edited("normalizer", "{\"type\": \"NFC\"}", RMK_OK, &why), "e\xcc\x81",
                   "[127, 102]");
    /* An added token that is looked for in normalised text, written in the other form. */
    assert_encodes(
        create_edited(
            "added_tokens/2",
            "{\"id\": 770, \"content\": \"[e\\u0301]\", \"normalized\": true, \"special\": true}",
            RMK_OK, &why),
        "![e\xcc\x81]!", "[0, 770, 0]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoding_and_decoding_give_the_golden_ids_and_texts),
        cmocka_unit_test(a_gzipped_tokenizer_of_full_size_gives_the_golden_ids_and_texts),
        cmocka_unit_test(size_counts_ids_and_find_wants_exact_content),
        cmocka_unit_test(plain_text_never_becomes_a_special_token),
        cmocka_unit_test(invalid_utf8_is_refused_with_its_offset_and_adds_no_ids),
        cmocka_unit_test(streaming_equals_whole_decoding_on_random_ids),
        cmocka_unit_test(a_character_in_two_tokens_leaves_when_it_is_whole),
        cmocka_unit_test(too_little_room_leaves_the_detokenizer_as_it_was),
        cmocka_unit_test(a_megabyte_of_one_thing_is_encoded_in_linear_time),
        cmocka_unit_test(a_bad_file_is_refused_in_one_sentence),
        cmocka_unit_test(text_that_is_not_json_is_refused_in_one_sentence),
        cmocka_unit_test(a_checkpoint_may_have_its_tokenizer_packed),
        cmocka_unit_test(a_missing_truncated_or_odd_file_is_named),
        cmocka_unit_test(files_may_differ_in_ways_that_are_understood),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
