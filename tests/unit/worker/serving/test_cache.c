#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "worker/vision/cache.h"

enum { WIDTH = 4 };

static struct rmk_feature_entry entry_of(uint8_t name, uint32_t rows)
{
    struct rmk_feature_entry entry = {.row_count = rows, .width = WIDTH, .tile_count = 1};

    entry.key[0] = name;
    entry.rows = malloc((size_t)rows * WIDTH * sizeof(float));
    assert_non_null(entry.rows);
    for (uint32_t i = 0; i < rows * WIDTH; i++) {
        entry.rows[i] = name;
    }
    return entry;
}

static void put(struct rmk_feature_cache *cache, uint8_t name, uint32_t rows)
{
    struct rmk_feature_entry entry = entry_of(name, rows);

    assert_int_equal(rmk_feature_cache_put(cache, &entry, NULL), RMK_OK);
}

static const struct rmk_feature_entry *find(struct rmk_feature_cache *cache, uint8_t name)
{
    uint8_t key[32] = {name};

    return rmk_feature_cache_find(cache, key);
}

static struct rmk_feature_cache *cache_of_rows(uint32_t rows)
{
    struct rmk_feature_cache *cache = NULL;

    assert_int_equal(rmk_feature_cache_create((uint64_t)rows * WIDTH * sizeof(float), &cache, NULL),
                     RMK_OK);
    return cache;
}

static void what_is_put_is_found(void **state)
{
    struct rmk_feature_cache *cache = cache_of_rows(10);

    (void)state;
    put(cache, 1, 3);
    assert_null(find(cache, 2));
    const struct rmk_feature_entry *found = find(cache, 1);
    assert_non_null(found);
    assert_int_equal(found->row_count, 3);
    assert_true(found->rows[3 * WIDTH - 1] == 1.0f);
    assert_int_equal(rmk_feature_cache_bytes(cache), 3 * WIDTH * sizeof(float));
    rmk_feature_cache_destroy(cache);
}

static void the_least_recently_used_goes_first(void **state)
{
    struct rmk_feature_cache *cache = cache_of_rows(10);

    (void)state;
    put(cache, 1, 5);
    put(cache, 2, 5);
    assert_non_null(find(cache, 1)); /* now 2 is the older one */
    put(cache, 3, 5);
    assert_null(find(cache, 2));
    assert_non_null(find(cache, 1));
    assert_non_null(find(cache, 3));
    assert_int_equal(rmk_feature_cache_count(cache), 2);
    rmk_feature_cache_destroy(cache);
}

static void an_item_larger_than_the_cache_is_refused_and_evicts_nothing(void **state)
{
    struct rmk_feature_cache *cache = cache_of_rows(10);
    struct rmk_feature_entry large = entry_of(2, 11);
    struct rmk_why why = {0};

    (void)state;
    put(cache, 1, 5);
    assert_int_equal(rmk_feature_cache_put(cache, &large, &why), RMK_ELIMIT);
    assert_string_not_equal(why.text, "");
    assert_non_null(find(cache, 1));
    rmk_feature_cache_destroy(cache);
}

static void a_pinned_entry_outlives_its_eviction(void **state)
{
    struct rmk_feature_cache *cache = cache_of_rows(10);

    (void)state;
    put(cache, 1, 10);
    const struct rmk_feature_entry *pinned = find(cache, 1);
    rmk_feature_cache_pin(cache, pinned);
    put(cache, 2, 10);
    assert_null(find(cache, 1));
    assert_true(pinned->rows[0] == 1.0f); /* under the address sanitizer: still there */
    rmk_feature_cache_unpin(cache, pinned);
    rmk_feature_cache_destroy(cache);
}

static void the_same_key_replaces(void **state)
{
    struct rmk_feature_cache *cache = cache_of_rows(10);

    (void)state;
    put(cache, 1, 4);
    put(cache, 1, 6);
    assert_int_equal(find(cache, 1)->row_count, 6);
    assert_int_equal(rmk_feature_cache_count(cache), 1);
    assert_int_equal(rmk_feature_cache_bytes(cache), 6 * WIDTH * sizeof(float));
    rmk_feature_cache_destroy(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_put_is_found),
        cmocka_unit_test(the_least_recently_used_goes_first),
        cmocka_unit_test(an_item_larger_than_the_cache_is_refused_and_evicts_nothing),
        cmocka_unit_test(a_pinned_entry_outlives_its_eviction),
        cmocka_unit_test(the_same_key_replaces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
