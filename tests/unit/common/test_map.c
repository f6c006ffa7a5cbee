#include "common/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct thing {
    int number;
    char name[32];
    struct rmk_map_node node;
};

static void insert_finds_what_was_put_and_nothing_else(void **state)
{
    struct rmk_map *map = rmk_map_create(8);
    struct thing a = {.number = 7};

    (void)state;
    assert_int_equal(rmk_map_insert(map, &a.node, rmk_bytes_text("alpha")), RMK_OK);
    struct rmk_map_node *found = rmk_map_find(map, rmk_bytes_text("alpha"));
    assert_ptr_equal(rmk_map_entry(found, struct thing, node), &a);
    assert_null(rmk_map_find(map, rmk_bytes_text("alphb")));
    assert_null(rmk_map_find(map, rmk_bytes_text("alph")));
    assert_null(rmk_map_find(map, rmk_bytes_of("alpha\0", 6)));
    assert_null(rmk_map_find(map, rmk_bytes_of(NULL, 0)));
    rmk_map_destroy(map);
}

static void same_key_twice_is_refused(void **state)
{
    struct rmk_map *map = rmk_map_create(8);
    struct thing a = {0};
    struct thing b = {0};

    (void)state;
    assert_int_equal(rmk_map_insert(map, &a.node, rmk_bytes_text("k")), RMK_OK);
    assert_int_equal(rmk_map_insert(map, &b.node, rmk_bytes_text("k")), RMK_EEXISTS);
    assert_ptr_equal(rmk_map_find(map, rmk_bytes_text("k")), &a.node);
    rmk_map_destroy(map);
}

static void count_unless_last(struct rmk_map_node *node, void *context)
{
    (void)node;
    (*(int *)context)++;
}

static void full_map_refuses_until_something_leaves(void **state)
{
    enum { COUNT = 100 };
    struct rmk_map *map = rmk_map_create(COUNT);
    static struct thing things[COUNT + 1];
    int visited = 0;

    (void)state;
    for (int i = 0; i <= COUNT; i++) {
        (void)snprintf(things[i].name, sizeof(things[i].name), "thing number %d", i);
        assert_int_equal(rmk_map_insert(map, &things[i].node, rmk_bytes_text(things[i].name)),
                         i < COUNT ? RMK_OK : RMK_ELIMIT);
    }
    assert_int_equal(rmk_map_count(map), COUNT);
    rmk_map_each(map, count_unless_last, &visited);
    assert_int_equal(visited, COUNT);

    rmk_map_remove(map, &things[50].node);
    assert_null(rmk_map_find(map, rmk_bytes_text("thing number 50")));
    assert_int_equal(rmk_map_insert(map, &things[COUNT].node, rmk_bytes_text(things[COUNT].name)),
                     RMK_OK);
    for (int i = 0; i <= COUNT; i++) {
        assert_ptr_equal(rmk_map_find(map, rmk_bytes_text(things[i].name)),
                         i == 50 ? NULL : &things[i].node);
    }
    rmk_map_destroy(map);
}

static void remove_it(struct rmk_map_node *node, void *context)
{
    rmk_map_remove(context, node);
}

static void visiting_may_remove_the_visited(void **state)
{
    struct rmk_map *map = rmk_map_create(4); /* few buckets: chains are walked too */
    struct thing things[4] = {0};
    const char *const names[] = {"a", "b", "c", "d"};

    (void)state;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(rmk_map_insert(map, &things[i].node, rmk_bytes_text(names[i])), RMK_OK);
    }
    rmk_map_each(map, remove_it, map);
    assert_int_equal(rmk_map_count(map), 0);
    assert_null(rmk_map_find(map, rmk_bytes_text("a")));
    rmk_map_destroy(map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(insert_finds_what_was_put_and_nothing_else),
        cmocka_unit_test(same_key_twice_is_refused),
        cmocka_unit_test(full_map_refuses_until_something_leaves),
        cmocka_unit_test(visiting_may_remove_the_visited),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
