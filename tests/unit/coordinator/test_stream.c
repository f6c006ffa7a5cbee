#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/stream.h"
#include "model/tokenizer.h"

static struct rmk_tokenizer *tokenizer;

static int setup(void **state)
{
    struct rmk_why why = {0};

    (void)state;
    assert_int_equal(rmk_tokenizer_create("models/demo/tokenizer.json", &tokenizer, &why), RMK_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rmk_tokenizer_destroy(tokenizer);
    return 0;
}

static struct rmk_ids encode(const char *text)
{
    struct rmk_ids ids = {0};

    assert_int_equal(
        rmk_tokenizer_encode(tokenizer, rmk_bytes_text(text), RMK_SPECIAL_PARSE, &ids, NULL),
        RMK_OK);
    return ids;
}

static struct rmk_stream *make(const char *const *stops, uint32_t count, struct rmk_bytes *bytes)
{
    struct rmk_stream *stream = NULL;

    for (uint32_t i = 0; i < count; i++) {
        bytes[i] = rmk_bytes_text(stops[i]);
    }
    assert_int_equal(rmk_stream_create(tokenizer, 4096, bytes, count, &stream, NULL), RMK_OK);
    return stream;
}

static void expect(const struct rmk_stream *stream, const char *text)
{
    struct rmk_bytes shown = rmk_stream_text(stream);

    assert_int_equal(shown.size, strlen(text));
    if (shown.size > 0) {
        assert_memory_equal(shown.data, text, shown.size);
    }
}

/* One id a character, so that a test says where the settled prefix ends. */
static uint32_t spell(const char *text, int32_t *out)
{
    uint32_t count = 0;

    for (const char *c = text; *c != '\0'; c++) {
        char one[2] = {*c, '\0'};
        struct rmk_ids ids = encode(one);

        assert_int_equal(ids.count, 1);
        out[count++] = ids.items[0];
        rmk_ids_deinit(&ids);
    }
    return count;
}

static void text_grows_with_the_settled_prefix_and_equals_the_whole_decode(void **state)
{
    static const char text[] = "A red circle, häßlich \xf0\x9f\x8e\x88 and 漢字.";
    struct rmk_ids ids = encode(text);
    struct rmk_stream *stream = make(NULL, 0, NULL);
    size_t before = 0;

    (void)state;
    for (uint32_t count = 0; count <= ids.count; count++) {
        assert_int_equal(rmk_stream_advance(stream, ids.items, count, NULL), RMK_OK);
        struct rmk_bytes shown = rmk_stream_text(stream);
        assert_true(shown.size >= before);
        if (shown.size > 0) {
            assert_memory_equal(shown.data, text, shown.size);
        }
        before = shown.size;
    }
    assert_int_equal(rmk_stream_finish(stream, ids.items, (uint32_t)ids.count, NULL, 0, NULL),
                     RMK_OK);
    expect(stream, text);
    rmk_ids_deinit(&ids);
    rmk_stream_destroy(stream);
}

static void half_a_character_is_held_back_and_becomes_a_replacement_at_the_end(void **state)
{
    struct rmk_ids ids = encode("\xf0\x9f\x8e\x88");
    struct rmk_stream *stream = make(NULL, 0, NULL);
    uint32_t id_count;

    (void)state;
    assert_true(ids.count >= 2); /* else this test says nothing */
    assert_int_equal(rmk_stream_advance(stream, ids.items, (uint32_t)ids.count - 1, NULL), RMK_OK);
    expect(stream, "");
    (void)rmk_stream_ids(stream, &id_count);
    assert_int_equal(id_count, 0);
    assert_int_equal(rmk_stream_finish(stream, ids.items, (uint32_t)ids.count - 1, NULL, 0, NULL),
                     RMK_OK);
    expect(stream, "\xef\xbf\xbd");
    rmk_ids_deinit(&ids);
    rmk_stream_destroy(stream);
}

static void what_may_begin_a_stop_is_held_back(void **state)
{
    static const char *const stops[] = {"END"};
    struct rmk_bytes bytes[1];
    int32_t ids[64];
    uint32_t count = spell("abEN", ids);
    struct rmk_stream *stream = make(stops, 1, bytes);
    uint32_t shown;

    (void)state;
    assert_int_equal(rmk_stream_advance(stream, ids, 3, NULL), RMK_OK);
    expect(stream, "ab");
    assert_int_equal(rmk_stream_advance(stream, ids, 4, NULL), RMK_OK);
    expect(stream, "ab");
    (void)rmk_stream_ids(stream, &shown);
    assert_int_equal(shown, 2);
    count += spell("X", ids + count);
    assert_int_equal(rmk_stream_advance(stream, ids, count, NULL), RMK_OK);
    expect(stream, "abENX");
    assert_false(rmk_stream_stopped(stream));
    rmk_stream_destroy(stream);
}

static void text_is_cut_before_the_earliest_stop(void **state)
{
    static const char *const stops[] = {"zz", "END", "N"};
    struct rmk_bytes bytes[3];
    int32_t ids[64];
    uint32_t count = spell("ab.END zz", ids);
    struct rmk_stream *stream = make(stops, 3, bytes);
    uint32_t shown;

    (void)state;
    assert_int_equal(rmk_stream_advance(stream, ids, count, NULL), RMK_OK);
    assert_true(rmk_stream_stopped(stream));
    expect(stream, "ab.");
    (void)rmk_stream_ids(stream, &shown);
    assert_int_equal(shown, 3);
    rmk_stream_destroy(stream);
}

static void a_stop_over_several_ids_and_steps_is_found(void **state)
{
    static const char *const stops[] = {"xyz"};
    struct rmk_bytes bytes[1];
    int32_t ids[64];
    uint32_t count = spell("xxyxyzq", ids);
    struct rmk_stream *stream = make(stops, 1, bytes);

    (void)state;
    for (uint32_t i = 1; i <= count && !rmk_stream_stopped(stream); i++) {
        assert_int_equal(rmk_stream_advance(stream, ids, i, NULL), RMK_OK);
    }
    assert_true(rmk_stream_stopped(stream));
    expect(stream, "xxy");
    rmk_stream_destroy(stream);
}

static void a_stop_found_only_at_the_end_still_cuts(void **state)
{
    static const char *const stops[] = {"cd"};
    struct rmk_bytes bytes[1];
    int32_t ids[64];
    uint32_t count = spell("abcdef", ids);
    struct rmk_stream *stream = make(stops, 1, bytes);

    (void)state;
    assert_int_equal(rmk_stream_advance(stream, ids, 1, NULL), RMK_OK);
    assert_int_equal(rmk_stream_finish(stream, ids, count, NULL, 0, NULL), RMK_OK);
    assert_true(rmk_stream_stopped(stream));
    expect(stream, "ab");
    rmk_stream_destroy(stream);
}

static void held_back_text_is_shown_at_the_end(void **state)
{
    static const char *const stops[] = {"END"};
    struct rmk_bytes bytes[1];
    int32_t ids[64];
    uint32_t count = spell("abE", ids);
    struct rmk_stream *stream = make(stops, 1, bytes);

    (void)state;
    assert_int_equal(rmk_stream_advance(stream, ids, count, NULL), RMK_OK);
    expect(stream, "ab");
    assert_int_equal(rmk_stream_finish(stream, ids, count, NULL, 0, NULL), RMK_OK);
    expect(stream, "abE");
    rmk_stream_destroy(stream);
}

static void the_suffix_follows_also_after_a_stop(void **state)
{
    static const char *const stops[] = {"c"};
    struct rmk_bytes bytes[1];
    int32_t ids[64], suffix[8], want[64];
    uint32_t count = spell("abcd", ids);
    uint32_t suffix_count = spell("!?", suffix);
    uint32_t want_count = spell("ab!?", want);
    struct rmk_stream *stream = make(stops, 1, bytes);
    uint32_t shown;

    (void)state;
    assert_int_equal(rmk_stream_finish(stream, ids, count, suffix, suffix_count, NULL), RMK_OK);
    expect(stream, "ab!?");
    assert_memory_equal(rmk_stream_ids(stream, &shown), want, want_count * sizeof(int32_t));
    assert_int_equal(shown, want_count);
    rmk_stream_destroy(stream);
}

static void special_tokens_add_no_text(void **state)
{
    int32_t ids[8];
    uint32_t count = spell("a", ids);
    struct rmk_stream *stream = make(NULL, 0, NULL);
    uint32_t shown;

    (void)state;
    ids[count++] = rmk_tokenizer_find(tokenizer, "<|eot_id|>");
    assert_true(ids[1] >= 0);
    count += spell("b", ids + count);
    assert_int_equal(rmk_stream_advance(stream, ids, count, NULL), RMK_OK);
    expect(stream, "ab");
    (void)rmk_stream_ids(stream, &shown);
    assert_int_equal(shown, 3);
    rmk_stream_destroy(stream);
}

static void a_reset_stream_begins_anew(void **state)
{
    int32_t first[8], second[8];
    uint32_t first_count = spell("abc", first);
    uint32_t second_count = spell("xy", second);
    struct rmk_stream *stream = make(NULL, 0, NULL);

    (void)state;
    assert_int_equal(rmk_stream_advance(stream, first, first_count, NULL), RMK_OK);
    rmk_stream_reset(stream);
    expect(stream, "");
    assert_int_equal(rmk_stream_advance(stream, second, second_count, NULL), RMK_OK);
    expect(stream, "xy");
    rmk_stream_destroy(stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_grows_with_the_settled_prefix_and_equals_the_whole_decode),
        cmocka_unit_test(half_a_character_is_held_back_and_becomes_a_replacement_at_the_end),
        cmocka_unit_test(what_may_begin_a_stop_is_held_back),
        cmocka_unit_test(text_is_cut_before_the_earliest_stop),
        cmocka_unit_test(a_stop_over_several_ids_and_steps_is_found),
        cmocka_unit_test(a_stop_found_only_at_the_end_still_cuts),
        cmocka_unit_test(held_back_text_is_shown_at_the_end),
        cmocka_unit_test(the_suffix_follows_also_after_a_stop),
        cmocka_unit_test(special_tokens_add_no_text),
        cmocka_unit_test(a_reset_stream_begins_anew),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
