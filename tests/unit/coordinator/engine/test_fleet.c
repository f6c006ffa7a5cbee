#include "coordinator/engine/fleet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    GROUPS = 3,
    VISIONS = 3,
};

static struct rmk_group groups[GROUPS];
static struct rmk_vision visions[VISIONS];
static struct rmk_hint hints[RMK_HINTS];
static struct rmk_request request;
static struct rmk_fleet fleet = {
    .groups = groups,
    .group_max = GROUPS,
    .visions = visions,
    .vision_max = VISIONS,
    .hints = hints,
};

static bool group_up(uint32_t index, uint64_t epoch, uint32_t slots, uint32_t rows,
                     uint64_t numerics_class)
{
    return rmk_fleet_group_up(&fleet, &(struct rmk_event_group){
                                          .group = index,
                                          .epoch = epoch,
                                          .slot_count = slots,
                                          .rows_max = rows,
                                          .step_rows_max = rows,
                                          .numerics_class = numerics_class,
                                      });
}

static bool vision_up(uint32_t index, uint64_t epoch, uint32_t parallel)
{
    return rmk_fleet_vision_up(&fleet, &(struct rmk_event_vision){
                                           .vision = index,
                                           .epoch = epoch,
                                           .parallel_max = parallel,
                                       });
}

static int begin(void **state)
{
    (void)state;
    rmk_fleet_init(&fleet);
    memset(&request, 0, sizeof(request));
    request.total_rows = 100;
    request.step_rows = 100;
    return 0;
}

static struct rmk_request_item item(uint8_t name, uint32_t tiles)
{
    struct rmk_request_item made = {.item = {.tile_count = tiles}, .avoid = RMK_NOWHERE};

    made.item.key[0] = name;
    made.item.key[31] = name;
    return made;
}

static void an_epoch_that_is_not_newer_does_not_begin(void **state)
{
    (void)state;
    assert_true(group_up(0, 5, 1, 100, 1));
    rmk_fleet_group_down(&fleet, 0);
    assert_false(group_up(0, 5, 1, 100, 1));
    assert_false(group_up(0, 4, 1, 100, 1));
    assert_true(group_up(0, 6, 1, 100, 1));
    assert_true(rmk_fleet_is_group(&fleet, 0, 6));
    assert_false(rmk_fleet_is_group(&fleet, 0, 5));
    assert_false(rmk_fleet_is_group(&fleet, GROUPS, 6));
    assert_true(vision_up(1, 2, 1));
    rmk_fleet_vision_down(&fleet, 1);
    assert_false(vision_up(1, 2, 1));
    assert_false(rmk_fleet_is_vision(&fleet, 1, 2));
}

static void least_occupied_group_that_holds_the_request_is_chosen(void **state)
{
    (void)state;
    assert_int_equal(rmk_fleet_choose_group(&fleet, &request), RMK_NOWHERE);
    assert_true(group_up(0, 1, 2, 100, 1));
    assert_true(group_up(1, 1, 8, 100, 1));
    assert_true(group_up(2, 1, 8, 99, 1)); /* too short */
    groups[0].held = 1;
    groups[1].held = 3;
    assert_int_equal(rmk_fleet_choose_group(&fleet, &request), 1);
    groups[1].held = 5;
    assert_int_equal(rmk_fleet_choose_group(&fleet, &request), 0);
    groups[0].held = 2;
    groups[1].held = 8;
    assert_int_equal(rmk_fleet_choose_group(&fleet, &request), RMK_NOWHERE);
}

static void a_request_that_has_begun_waits_for_its_class_while_one_is_up(void **state)
{
    (void)state;
    request.classed = true;
    request.numerics_class = 2;
    assert_true(group_up(0, 1, 1, 100, 1));
    assert_true(group_up(1, 1, 1, 100, 2));
    assert_int_equal(rmk_fleet_choose_group(&fleet, &request), 0); /* nothing done yet: anywhere */
    request.canvas.forward = 3;
    assert_int_equal(rmk_fleet_choose_group(&fleet, &request), 1);
    groups[1].held = 1;
    assert_int_equal(rmk_fleet_choose_group(&fleet, &request), RMK_NOWHERE);
    rmk_fleet_group_down(&fleet, 1);
    assert_int_equal(rmk_fleet_choose_group(&fleet, &request), 0);
}

static void what_no_known_group_could_hold_is_known(void **state)
{
    struct rmk_why why;

    (void)state;
    assert_true(rmk_fleet_could_hold(&fleet, &request)); /* nothing is known */
    assert_true(group_up(0, 1, 1, 99, 1));
    assert_false(rmk_fleet_could_hold(&fleet, &request));
    assert_int_equal(rmk_fleet_explain(&fleet, &request, &why), RMK_EINVAL);
    assert_string_equal(why.text, "the request needs 100 rows; the largest group takes 99");
    assert_true(group_up(1, 1, 1, 100, 1));
    rmk_fleet_group_down(&fleet, 1);
    assert_true(rmk_fleet_could_hold(&fleet, &request)); /* it may come back */
}

static void key_value_rows_are_counted_and_kept_for_whose_turn_is_earlier(void **state)
{
    struct rmk_why why;

    (void)state;
    request.kv_rows = 60;
    assert_true(group_up(0, 1, 4, 100, 1));
    assert_false(rmk_fleet_could_hold(&fleet, &request)); /* it keeps nothing */
    (void)rmk_fleet_explain(&fleet, &request, &why);
    assert_string_equal(why.text,
                        "the request's cache needs 60 key/value rows; the largest group has 0");
    groups[0].kv_rows_max = 100;
    assert_int_equal(rmk_fleet_choose_group(&fleet, &request), 0);
    groups[0].kv_held = 41;
    assert_int_equal(rmk_fleet_choose_group(&fleet, &request), RMK_NOWHERE);
    rmk_fleet_reserve(&fleet, &request);
    request.kv_rows = 59; /* would fit, but is later */
    assert_int_equal(rmk_fleet_choose_group(&fleet, &request), RMK_NOWHERE);
    request.kv_rows = 0;
    assert_int_equal(rmk_fleet_choose_group(&fleet, &request), 0);
}

static void encodes_go_where_the_fewest_tiles_are(void **state)
{
    struct rmk_request_item big = item(1, 10);
    struct rmk_request_item small = item(2, 2);

    (void)state;
    assert_true(vision_up(0, 1, 4));
    assert_true(vision_up(1, 1, 4));
    assert_int_equal(rmk_fleet_choose_vision(&fleet, &big), 0);
    (void)rmk_fleet_begin_job(&fleet, 0, &big.item);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(rmk_fleet_choose_vision(&fleet, &small), 1);
        (void)rmk_fleet_begin_job(&fleet, 1, &small.item);
    }
    assert_int_equal(rmk_fleet_choose_vision(&fleet, &small), 0); /* the other is full */
}

static void an_encode_goes_back_to_who_had_the_item_but_not_to_who_failed(void **state)
{
    struct rmk_request_item seen = item(3, 2);

    (void)state;
    assert_true(vision_up(0, 1, 2));
    assert_true(vision_up(1, 1, 2));
    rmk_fleet_remember(&fleet, seen.item.key, 1);
    assert_int_equal(rmk_fleet_choose_vision(&fleet, &seen), 1);
    seen.avoid = 1;
    assert_int_equal(rmk_fleet_choose_vision(&fleet, &seen), 0);
    visions[0].suspect = true;
    rmk_fleet_vision_down(&fleet, 1);
    assert_int_equal(rmk_fleet_choose_vision(&fleet, &seen), 0); /* rather a suspect than nobody */
    assert_true(vision_up(1, 2, 2));
    seen.avoid = RMK_NOWHERE;
    assert_int_equal(rmk_fleet_choose_vision(&fleet, &seen),
                     1); /* by health: its memory is of another epoch */
}

static void a_job_is_found_by_key_and_by_who_asked(void **state)
{
    struct rmk_request_item what = item(4, 3);
    struct rmk_request_item other = item(5, 3);
    struct rmk_request_id id = {.index = 2, .generation = 7};

    (void)state;
    assert_true(vision_up(2, 1, 100)); /* more than we ever ask */
    assert_int_equal(visions[2].parallel_max, RMK_VISION_JOBS_MAX);
    struct rmk_job *job = rmk_fleet_begin_job(&fleet, 2, &what.item);
    job->request = id;
    job->item = 1;
    job->deadline_us = 50;
    assert_int_equal(rmk_fleet_find_encode(&fleet, what.item.key), 2);
    assert_int_equal(rmk_fleet_find_encode(&fleet, other.item.key), RMK_NOWHERE);
    assert_ptr_equal(rmk_fleet_find_job(&fleet, 2, id, 1), job);
    assert_null(rmk_fleet_find_job(&fleet, 2, id, 0));
    assert_null(rmk_fleet_find_job(&fleet, 2, (struct rmk_request_id){2, 8}, 1));
    assert_int_equal(rmk_fleet_job_due(&visions[2]), 50);
    rmk_fleet_end_job(&fleet, 2, job);
    assert_int_equal(fleet.encodes, 0);
    assert_int_equal(visions[2].tiles, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_epoch_that_is_not_newer_does_not_begin, begin),
        cmocka_unit_test_setup(least_occupied_group_that_holds_the_request_is_chosen, begin),
        cmocka_unit_test_setup(a_request_that_has_begun_waits_for_its_class_while_one_is_up, begin),
        cmocka_unit_test_setup(what_no_known_group_could_hold_is_known, begin),
        cmocka_unit_test_setup(key_value_rows_are_counted_and_kept_for_whose_turn_is_earlier,
                               begin),
        cmocka_unit_test_setup(encodes_go_where_the_fewest_tiles_are, begin),
        cmocka_unit_test_setup(an_encode_goes_back_to_who_had_the_item_but_not_to_who_failed,
                               begin),
        cmocka_unit_test_setup(a_job_is_found_by_key_and_by_who_asked, begin),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
