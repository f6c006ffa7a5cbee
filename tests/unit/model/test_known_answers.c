#include "model/known_answers.h"

#include "model/tokenizer_parts.h"
#include "tests/unit/model/text_golden.h"

/* Tokens that appear in the published encodings, typed from them and not from our table, so that a
 * slip in either shows. Those that begin with a space come first: none of them may be merged from
 * the others' parts. */
static const struct {
    const char *text;
    int id;
} pieces[] = {
    {" kilometers", 44137}, {" thank", 7949}, {" hours", 3871}, {" hour", 6984}, {" good", 1505},
    {" After", 4474},       {" many", 1494},  {" How", 2071},   {" that", 378},  {" runs", 9660},
    {" she", 1285},         {" run", 2001},   {" can", 560},    {" per", 854},   {" for", 352},
    {" in", 296},           {" how", 1099},   {" are", 449},    {" you", 362},   {" x", 1529},
    {"Lily", 86059},        {"user", 3840},   {"Hello", 14455}, {"ass", 598},    {"istant", 10450},
    {"'m", 3180},
};

static const struct {
    const char *text;
    int id;
} specials[] = {
    {"<|startoftext|>", 126080},
    {"<|start_header_id|>", 126346},
    {"<|end_header_id|>", 126347},
    {"<|eot_id|>", 126348},
};

enum { SCAFFOLD_ID = 200000 }; /* ids of the beginnings of pieces */

/* The string in the byte alphabet: only spaces differ, in what this test needs. */
static void in_alphabet(const char *text, size_t size, char *out)
{
    out[rmk_alphabet_write(rmk_bytes_of(text, size), out)] = '\0';
}

static void add_piece(json_t *vocab, json_t *merges, const char *text, int id, int *scaffold_id)
{
    for (size_t length = 2; length <= strlen(text); length++) {
        char whole[64];
        char left[64];
        char right[8];
        in_alphabet(text, length, whole);
        in_alphabet(text, length - 1, left);
        in_alphabet(text + length - 1, 1, right);
        bool last = length == strlen(text);
        if (json_object_get(vocab, whole) == NULL || last) {
            /* " hour" may be a beginning of " hours" already; then only its id changes. */
            bool fresh = json_object_get(vocab, whole) == NULL;
            assert_int_equal(
                json_object_set_new(vocab, whole, json_integer(last ? id : (*scaffold_id)++)), 0);
            if (fresh) {
                assert_int_equal(json_array_append_new(merges, json_pack("[ss]", left, right)), 0);
            }
        }
    }
}

/* A tokenizer file that gives the known answers, except that piece `spoilt` has another id. */
static struct rmk_tokenizer *create_answering(int spoilt)
{
    json_error_t error;
    json_t *top = json_load_file(TINY_TOKENIZER, 0, &error);
    json_t *vocab = json_object();
    json_t *merges = json_array();
    json_t *added = json_array();
    struct rmk_tokenizer *tokenizer = NULL;
    struct rmk_why why = {0};
    int scaffold_id = SCAFFOLD_ID;
    int other = 188; /* GPT-2's order: the printable bytes, then the others */
    int printable = 0;

    assert_non_null(top);
    for (int byte = 0; byte < 256; byte++) {
        uint8_t one = (uint8_t)byte;
        char text[8];
        in_alphabet((const char *)&one, 1, text);
        int id = rmk_alphabet_character(one) < 0x100 ? printable++ : other++;
        assert_int_equal(json_object_set_new(vocab, text, json_integer(id)), 0);
    }
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        add_piece(vocab, merges, pieces[i].text, (int)i == spoilt ? 199999 : pieces[i].id,
                  &scaffold_id);
    }
    for (size_t i = 0; i < sizeof(specials) / sizeof(specials[0]); i++) {
        json_t *item =
            json_pack("{sssisb}", "content", specials[i].text, "id", specials[i].id, "special", 1);
        assert_int_equal(json_array_append_new(added, item), 0);
    }
    json_t *model = json_object_get(top, "model");
    assert_int_equal(json_object_set_new(model, "vocab", vocab), 0);
    assert_int_equal(json_object_set_new(model, "merges", merges), 0);
    assert_int_equal(json_object_set_new(top, "added_tokens", added), 0);
    char *json = json_dumps(top, 0);
    if (rmk_tokenizer_create_from_json(rmk_bytes_text(json), &tokenizer, &why) != RMK_OK) {
        fail_msg("%s", why.text);
    }
    free(json);
    json_decref(top);
    return tokenizer;
}

static void a_tokenizer_that_gives_the_published_encodings_passes(void **state)
{
    struct rmk_tokenizer *tokenizer = create_answering(-1);
    struct rmk_why why = {0};
    uint32_t failed = 99;

    (void)state;
    enum rmk_err err = rmk_tokenizer_known_answers(tokenizer, &failed, &why);
    if (err != RMK_OK) {
        fail_msg("%s", why.text);
    }
    assert_int_equal(failed, 0);
    rmk_tokenizer_destroy(tokenizer);
}

static void one_other_id_is_found_and_named(void **state)
{
    struct rmk_tokenizer *tokenizer = create_answering(16); /* " how" */
    struct rmk_why why = {0};
    uint32_t failed = 0;

    (void)state;
    assert_int_equal(rmk_tokenizer_known_answers(tokenizer, &failed, &why), RMK_ECORRUPT);
    assert_int_equal(failed, 1);
    assert_string_equal(
        why.text, "the tokenizer gives 6 tokens for \"Hello, how are you?\", the published one 6; "
                  "token 2 is the first that differs");
    rmk_tokenizer_destroy(tokenizer);
}

static void another_tokenizer_fails_nearly_all(void **state)
{
    struct rmk_tokenizer *tokenizer = load_tokenizer(TINY_TOKENIZER);
    uint32_t failed = 0;

    (void)state;
    assert_int_equal(rmk_tokenizer_known_answers(tokenizer, &failed, NULL), RMK_ECORRUPT);
    assert_true(failed + 1 >= rmk_tokenizer_known_answer_count());
    rmk_tokenizer_destroy(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tokenizer_that_gives_the_published_encodings_passes),
        cmocka_unit_test(one_other_id_is_found_and_named),
        cmocka_unit_test(another_tokenizer_fails_nearly_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
