#include "model/bpe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { LETTERS = 4, MERGES = 60, LENGTH_MAX = 40 };

struct rule {
    int32_t left;
    int32_t right;
};

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

static int rank_of(const struct rule *rules, int32_t left, int32_t right)
{
    for (int rank = 0; rank < MERGES; rank++) {
        if (rules[rank].left == left && rules[rank].right == right) {
            return rank;
        }
    }
    return -1;
}

/* The definition, step by step: merge the leftmost pair of the lowest rank until there is none. */
static size_t merge_slowly(const struct rule *rules, int32_t *ids, size_t count)
{
    for (;;) {
        int best = -1;
        size_t at = 0;
        for (size_t i = 0; i + 1 < count; i++) {
            int rank = rank_of(rules, ids[i], ids[i + 1]);
            if (rank >= 0 && (best < 0 || rank < best)) {
                best = rank;
                at = i;
            }
        }
        if (best < 0) {
            return count;
        }
        ids[at] = LETTERS + best;
        memmove(&ids[at + 1], &ids[at + 2], (count - at - 2) * sizeof(*ids));
        count--;
    }
}

static void merging_equals_the_definition_on_random_merges(void **state)
{
    uint32_t seed = 11;

    (void)state;
    for (int round = 0; round < 100; round++) {
        struct rule rules[MERGES];
        struct rmk_bpe bpe = {0};
        struct rmk_bpe_scratch scratch = {0};
        memset(rules, 0xff, sizeof(rules));
        assert_int_equal(rmk_bpe_init(&bpe, MERGES), RMK_OK);
        for (int rank = 0; rank < MERGES; rank++) {
            /* Each merge gives its own token, of anything made before. */
            struct rule rule;
            do {
                rule.left = (int32_t)(next_random(&seed) % (uint32_t)(LETTERS + rank));
                rule.right = (int32_t)(next_random(&seed) % (uint32_t)(LETTERS + rank));
            } while (rank_of(rules, rule.left, rule.right) >= 0);
            rules[rank] = rule;
            rmk_bpe_add(&bpe, rule.left, rule.right, (uint32_t)rank, LETTERS + rank);
        }
        for (int word = 0; word < 50; word++) {
            int32_t fast[LENGTH_MAX];
            int32_t slow[LENGTH_MAX];
            size_t count = next_random(&seed) % (LENGTH_MAX + 1);
            size_t fast_count;
            for (size_t i = 0; i < count; i++) {
                fast[i] = slow[i] = (int32_t)(next_random(&seed) % LETTERS);
            }
            assert_int_equal(rmk_bpe_merge(&bpe, &scratch, fast, count, &fast_count), RMK_OK);
            size_t slow_count = merge_slowly(rules, slow, count);
            assert_int_equal(fast_count, slow_count);
            assert_memory_equal(fast, slow, slow_count * sizeof(*slow));
        }
        rmk_bpe_scratch_deinit(&scratch);
        rmk_bpe_deinit(&bpe);
    }
}

static void without_merges_nothing_changes(void **state)
{
    struct rmk_bpe bpe = {0};
    struct rmk_bpe_scratch scratch = {0};
    int32_t ids[] = {3, 1, 2};
    size_t count = 0;

    (void)state;
    assert_int_equal(rmk_bpe_init(&bpe, 0), RMK_OK);
    assert_int_equal(rmk_bpe_merge(&bpe, &scratch, ids, 3, &count), RMK_OK);
    assert_int_equal(count, 3);
    assert_int_equal(ids[2], 2);
    assert_int_equal(rmk_bpe_merge(&bpe, &scratch, ids, 0, &count), RMK_OK);
    assert_int_equal(count, 0);
    rmk_bpe_scratch_deinit(&scratch);
    rmk_bpe_deinit(&bpe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merging_equals_the_definition_on_random_merges),
        cmocka_unit_test(without_merges_nothing_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
