#include "coordinator/engine/denoise.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Rows of the reference's schedule table (masks, steps, first step's quota, last step's quota, how
 * many get one more). */
static void quota_spreads_the_remainder_over_the_first_steps(void **state)
{
    static const struct {
        uint32_t masks, steps, base, more;
    } cases[] = {
        {128, 128, 1, 0}, {129, 91, 1, 38}, {124, 23, 5, 9}, {16, 5, 3, 1},
        {16, 32, 0, 16},  {1, 1, 1, 0},     {0, 4, 0, 0},    {7, 1, 7, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint32_t total = 0;
        for (uint32_t step = 0; step < cases[i].steps; step++) {
            uint32_t quota = rmk_denoise_quota(cases[i].masks, cases[i].steps, step);
            assert_int_equal(quota, cases[i].base + (step < cases[i].more ? 1 : 0));
            total += quota;
        }
        assert_int_equal(total, cases[i].masks);
    }
}

static void assert_positions(const struct rmk_guess *guesses, const int32_t *positions,
                             size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(guesses[i].position, positions[i]);
    }
}

static void select_prefers_the_confident_and_among_equals_the_lower_position(void **state)
{
    struct rmk_guess guesses[] = {
        {4, 1, 0.5}, {2, 2, 0.5}, {9, 3, 0.75}, {-3, 4, 0.5}, {0, 5, 0.25}};
    static const int32_t expected[] = {9, -3, 2, 4, 0};

    (void)state;
    assert_int_equal(rmk_denoise_select(guesses, COUNT(guesses), 2), 2);
    assert_positions(guesses, expected, COUNT(expected));
    assert_int_equal(guesses[0].token, 3);
}

static void select_never_commits_what_is_not_finite(void **state)
{
    struct rmk_guess guesses[] = {
        {0, 1, NAN}, {1, 2, -INFINITY}, {2, 3, 0.0}, {3, 4, INFINITY}, {4, 5, 0.1}};
    static const int32_t expected[] = {4, 2, 0, 1, 3};

    (void)state;
    assert_int_equal(rmk_denoise_select(guesses, COUNT(guesses), 4), 2);
    assert_positions(guesses, expected, COUNT(expected));
}

static void select_of_nothing_or_of_no_quota_commits_nothing(void **state)
{
    struct rmk_guess guess = {0, 1, 0.5};

    (void)state;
    assert_int_equal(rmk_denoise_select(NULL, 0, 3), 0);
    assert_int_equal(rmk_denoise_select(&guess, 1, 0), 0);
}

static void select_gives_the_same_order_from_any_arrangement(void **state)
{
    struct rmk_guess sorted[200];
    uint64_t random = 1;

    (void)state;
    for (int32_t i = 0; i < 200; i++) {
        sorted[i] =
            (struct rmk_guess){.position = i, .token = i, .confidence = 1.0 - (i / 7) * 0.01};
    }
    for (int round = 0; round < 50; round++) {
        struct rmk_guess shuffled[200];
        memcpy(shuffled, sorted, sizeof(sorted));
        for (uint32_t i = 199; i > 0; i--) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            uint32_t j = (uint32_t)(random >> 33) % (i + 1);
            struct rmk_guess kept = shuffled[i];
            shuffled[i] = shuffled[j];
            shuffled[j] = kept;
        }
        assert_int_equal(rmk_denoise_select(shuffled, 200, 17), 17);
        for (int32_t i = 0; i < 200; i++) {
            assert_int_equal(shuffled[i].position, i);
        }
    }
}

/* splitmix64 from state 0 is a published sequence: 0xe220a8397b1dcdaf, 0x6e789e6aa1b965f4,
 * 0x06c45d188009454f. The golden stream with seed 0xD1B5… is that sequence, cut to 24 bits. */
static void golden_random_is_the_published_splitmix_sequence(void **state)
{
    static const uint64_t published[] = {0xe220a8397b1dcdafu, 0x6e789e6aa1b965f4u,
                                         0x06c45d188009454fu};

    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        double expected = (double)(published[i] >> 40) / 16777216.0;
        assert_true(rmk_denoise_random(0xD1B54A32D192ED03u, 0, 100, i, true) == expected);
    }
    /* The second evaluation goes on where the first one's rows ended. */
    assert_true(rmk_denoise_random(0xD1B54A32D192ED03u, 1, 2, 0, true) ==
                (double)(published[2] >> 40) / 16777216.0);
}

static void own_random_is_uniform_and_depends_on_seed_forward_and_row_only(void **state)
{
    double sum = 0;

    (void)state;
    for (uint32_t row = 0; row < 4096; row++) {
        double value = rmk_denoise_random(7, 3, 4096, row, false);
        assert_true(value >= 0 && value < 1);
        assert_true(value == rmk_denoise_random(7, 3, 99, row, false));
        assert_true(value != rmk_denoise_random(8, 3, 4096, row, false));
        assert_true(value != rmk_denoise_random(7, 4, 4096, row, false));
        assert_true(value != rmk_denoise_random(7, 3, 4096, row + 1, false));
        sum += value;
    }
    /* Standard deviation of the mean is 0.0045; a stuck high bit would move it by 0.25. */
    assert_true(fabs(sum / 4096 - 0.5) < 0.02);
}

static void stop_is_the_first_whole_match(void **state)
{
    static const int32_t canvas[] = {5, 1, 2, 1, 2, 3, 9};
    static const int32_t ids[] = {1, 2, 3};
    struct rmk_stop stop = {ids, 3};
    bool found = false;
    uint32_t position = 7;

    (void)state;
    rmk_denoise_scan_stops(canvas, 7, &stop, 1, &found, &position);
    assert_true(found);
    assert_int_equal(position, 3);
}

static void stop_that_reaches_past_the_end_does_not_match(void **state)
{
    static const int32_t canvas[] = {5, 1, 2};
    static const int32_t ids[] = {1, 2, 3};
    struct rmk_stop stop = {ids, 3};
    bool found = false;
    uint32_t position = 3;

    (void)state;
    rmk_denoise_scan_stops(canvas, 3, &stop, 1, &found, &position);
    rmk_denoise_scan_stops(canvas, 2, &stop, 1, &found, &position);
    assert_false(found);
    assert_int_equal(position, 3);
}

static void empty_stop_matches_at_once(void **state)
{
    static const int32_t canvas[] = {5, 5};
    struct rmk_stop stop = {NULL, 0};
    bool found = false;
    uint32_t position = 2;

    (void)state;
    rmk_denoise_scan_stops(canvas, 2, &stop, 1, &found, &position);
    assert_true(found);
    assert_int_equal(position, 0);
}

static void without_a_hit_stops_are_tried_in_order_and_the_first_that_matches_wins(void **state)
{
    static const int32_t canvas[] = {7, 8, 9};
    static const int32_t absent = 4, late = 9, early = 7;
    struct rmk_stop stops[] = {{&absent, 1}, {&late, 1}, {&early, 1}};
    bool found = false;
    uint32_t position = 3;

    (void)state;
    rmk_denoise_scan_stops(canvas, 3, stops, 3, &found, &position);
    assert_true(found);
    assert_int_equal(position, 2);
}

static void after_a_hit_only_the_first_stop_is_looked_at_and_it_only_moves_left(void **state)
{
    int32_t canvas[] = {0, 0, 0, 9, 0, 8};
    static const int32_t first = 8, second = 9;
    struct rmk_stop stops[] = {{&first, 1}, {&second, 1}};
    bool found = true;
    uint32_t position = 4;

    (void)state;
    rmk_denoise_scan_stops(canvas, 6, stops, 2, &found, &position);
    assert_int_equal(position,
                     4); /* stop 0 lies further right; stop 1, further left, is not looked at */
    canvas[2] = 8;
    rmk_denoise_scan_stops(canvas, 6, stops, 2, &found, &position);
    assert_int_equal(position, 2);
    assert_true(found);
}

static void no_stops_find_nothing(void **state)
{
    static const int32_t canvas[] = {1};
    bool found = false;
    uint32_t position = 1;

    (void)state;
    rmk_denoise_scan_stops(canvas, 1, NULL, 0, &found, &position);
    assert_false(found);
    assert_int_equal(position, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quota_spreads_the_remainder_over_the_first_steps),
        cmocka_unit_test(select_prefers_the_confident_and_among_equals_the_lower_position),
        cmocka_unit_test(select_never_commits_what_is_not_finite),
        cmocka_unit_test(select_of_nothing_or_of_no_quota_commits_nothing),
        cmocka_unit_test(select_gives_the_same_order_from_any_arrangement),
        cmocka_unit_test(golden_random_is_the_published_splitmix_sequence),
        cmocka_unit_test(own_random_is_uniform_and_depends_on_seed_forward_and_row_only),
        cmocka_unit_test(stop_is_the_first_whole_match),
        cmocka_unit_test(stop_that_reaches_past_the_end_does_not_match),
        cmocka_unit_test(empty_stop_matches_at_once),
        cmocka_unit_test(without_a_hit_stops_are_tried_in_order_and_the_first_that_matches_wins),
        cmocka_unit_test(after_a_hit_only_the_first_stop_is_looked_at_and_it_only_moves_left),
        cmocka_unit_test(no_stops_find_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
