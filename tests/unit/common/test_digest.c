#include "common/digest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void expect_hex(const uint8_t sum[RMK_DIGEST_BYTES], const char *wanted)
{
    char text[RMK_DIGEST_HEX_BYTES];

    rmk_digest_hex(sum, text);
    assert_string_equal(text, wanted);
}

/* FIPS 180-2, appendix B. */
static void sums_equal_the_published_ones(void **state)
{
    (void)state;
    uint8_t sum[RMK_DIGEST_BYTES];

    assert_int_equal(rmk_digest_of(rmk_bytes_text("abc"), sum, NULL), RMK_OK);
    expect_hex(sum, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(rmk_digest_of(rmk_bytes_of(NULL, 0), sum, NULL), RMK_OK);
    expect_hex(sum, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void a_digest_is_fresh_after_finish(void **state)
{
    (void)state;
    struct rmk_digest *digest = NULL;
    uint8_t sum[RMK_DIGEST_BYTES];

    assert_int_equal(rmk_digest_create(&digest, NULL), RMK_OK);
    rmk_digest_update(digest, "other", 5);
    rmk_digest_finish(digest, sum);
    rmk_digest_update(digest, "a", 1);
    rmk_digest_update(digest, "bc", 2);
    rmk_digest_finish(digest, sum);
    expect_hex(sum, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    rmk_digest_destroy(digest);
}

/* The bytes that go into the hash are part of what caches on different machines agree on. */
static void a_part_is_framed_by_two_lengths(void **state)
{
    (void)state;
    static const uint8_t frame[] = {3, 0, 0, 0, 0, 0, 0, 0, 't', 'a', 'g',
                                    2, 0, 0, 0, 0, 0, 0, 0, 'h', 'i'};
    struct rmk_digest *digest = NULL;
    uint8_t framed[RMK_DIGEST_BYTES];
    uint8_t plain[RMK_DIGEST_BYTES];

    assert_int_equal(rmk_digest_create(&digest, NULL), RMK_OK);
    rmk_digest_part(digest, "tag", rmk_bytes_text("hi"));
    rmk_digest_finish(digest, framed);
    rmk_digest_destroy(digest);
    assert_int_equal(rmk_digest_of(rmk_bytes_of(frame, sizeof(frame)), plain, NULL), RMK_OK);
    assert_memory_equal(framed, plain, sizeof(plain));
}

static void moving_a_byte_between_parts_changes_the_sum(void **state)
{
    (void)state;
    static const char *const inputs[][2] = {{"ab", "c"}, {"a", "bc"}, {"abc", ""}, {"", "abc"}};
    uint8_t sums[4][RMK_DIGEST_BYTES];
    struct rmk_digest *digest = NULL;

    assert_int_equal(rmk_digest_create(&digest, NULL), RMK_OK);
    for (size_t i = 0; i < 4; i++) {
        rmk_digest_part(digest, "x", rmk_bytes_text(inputs[i][0]));
        rmk_digest_part(digest, "x", rmk_bytes_text(inputs[i][1]));
        rmk_digest_finish(digest, sums[i]);
        for (size_t j = 0; j < i; j++) {
            assert_memory_not_equal(sums[i], sums[j], RMK_DIGEST_BYTES);
        }
    }
    rmk_digest_destroy(digest);
}

static void sizes_in_another_order_change_the_sum(void **state)
{
    (void)state;
    uint8_t wide[RMK_DIGEST_BYTES];
    uint8_t high[RMK_DIGEST_BYTES];
    struct rmk_digest *digest = NULL;

    assert_int_equal(rmk_digest_create(&digest, NULL), RMK_OK);
    rmk_digest_part_u64(digest, "width", 4);
    rmk_digest_part_u64(digest, "height", 1);
    rmk_digest_finish(digest, wide);
    rmk_digest_part_u64(digest, "width", 1);
    rmk_digest_part_u64(digest, "height", 4);
    rmk_digest_finish(digest, high);
    assert_memory_not_equal(wide, high, RMK_DIGEST_BYTES);
    rmk_digest_destroy(digest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_equal_the_published_ones),
        cmocka_unit_test(a_digest_is_fresh_after_finish),
        cmocka_unit_test(a_part_is_framed_by_two_lengths),
        cmocka_unit_test(moving_a_byte_between_parts_changes_the_sum),
        cmocka_unit_test(sizes_in_another_order_change_the_sum),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
