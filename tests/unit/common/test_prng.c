#include "common/prng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* From the authors' Random123 distribution, file kat_vectors. */
static void philox_gives_the_published_answers(void **state)
{
    static const struct {
        uint32_t counter[4];
        uint64_t key;
        uint32_t answer[4];
    } known[] = {
        {{0, 0, 0, 0}, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         0xffffffffffffffff,
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         0x299f31d0a4093822,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        struct rmk_philox block = rmk_prng_philox(known[i].key, known[i].counter);
        assert_memory_equal(block.word, known[i].answer, sizeof(block.word));
    }
}

/* The sequence that the public-domain splitmix64.c prints from 1234567. */
static void splitmix_gives_the_published_sequence_at_any_index(void **state)
{
    static const uint64_t known[] = {6457827717110365317U, 3203168211198807973U,
                                     9817491932198370423U, 4593380528125082431U,
                                     16408922859458223821U};

    (void)state;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        assert_true(rmk_prng_splitmix(1234567, i) == known[i]);
    }
}

/* gumbel_u and u24_first of the golden tables, seed 4242. */
static void uniform_numbers_are_those_of_the_golden_streams(void **state)
{
    static const double u53[] = {0.8410558357824134, 0.358816644207667, 0.36289173906695515};
    static const float u24[] = {0.48820221424102783F, 0.12673419713974F, 0.13888221979141235F};

    (void)state;
    for (uint64_t i = 0; i < 3; i++) {
        assert_true(rmk_prng_unit53(rmk_prng_splitmix(4242, i)) == u53[i]);
        uint64_t bits = rmk_prng_splitmix(4242 ^ 0xD1B54A32D192ED03U, i);
        assert_true(rmk_prng_unit24(bits) == u24[i]);
    }
}

static void uniform_numbers_stay_below_one(void **state)
{
    (void)state;
    assert_true(rmk_prng_unit53(UINT64_MAX) < 1.0);
    assert_true(rmk_prng_unit24(UINT64_MAX) < 1.0F);
    assert_true(rmk_prng_unit53(0x7ff) == 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_answers),
        cmocka_unit_test(splitmix_gives_the_published_sequence_at_any_index),
        cmocka_unit_test(uniform_numbers_are_those_of_the_golden_streams),
        cmocka_unit_test(uniform_numbers_stay_below_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
