#include "coordinator/engine/admit.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/engine/policy.h"

enum {
    REQUESTS = 32,
};

static struct rmk_request requests[REQUESTS];
static struct rmk_entry entries[REQUESTS];
static struct rmk_queue queue = {.entries = entries};
static uint32_t request_count;

static const struct rmk_room wide = {
    .now_us = 1000, .total_rows = 1000, .step_rows = 2000, .turns = true};

static struct rmk_submit good(void)
{
    return (struct rmk_submit){
        .prompt_rows = 10,
        .mask_id = 99,
        .gen_length = 4,
        .block_length = 2,
        .steps = 4,
    };
}

static int begin(void **state)
{
    (void)state;
    rmk_queue_init(&queue);
    request_count = 0;
    return 0;
}

/* Into the queue; returns its index. */
static uint32_t push(enum rmk_lane lane, uint32_t tenant, uint64_t deadline_us)
{
    struct rmk_submit submit = good();
    struct rmk_request *request = &requests[request_count];

    submit.lane = lane;
    submit.tenant = tenant;
    submit.deadline_us = deadline_us;
    rmk_request_init(request, &submit, 0);
    request->id = (struct rmk_request_id){.index = request_count, .generation = 1};
    rmk_queue_push(&queue, request);
    return request_count++;
}

/* Whose time it is: gets its turn and leaves. */
static uint32_t pop(void)
{
    struct rmk_entry *entry = rmk_queue_pick(&queue, RMK_WANT_PLACE, &wide);

    assert_non_null(entry);
    struct rmk_request *request = &requests[entry->request];
    rmk_queue_turn(&queue, request);
    rmk_queue_remove(&queue, requests, request);
    return request->id.index;
}

static void one_tenant_is_served_in_order_of_arrival(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 5; i++) {
        (void)push(RMK_LANE_ONLINE, 1, 0);
    }
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(pop(), i);
    }
}

static void earliest_deadline_of_a_tenant_goes_first(void **state)
{
    (void)state;
    uint32_t none = push(RMK_LANE_ONLINE, 1, 0);
    uint32_t late = push(RMK_LANE_ONLINE, 1, 9000);
    uint32_t soon = push(RMK_LANE_ONLINE, 1, 8000);
    assert_int_equal(pop(), soon);
    assert_int_equal(pop(), late);
    assert_int_equal(pop(), none);
}

static void tenants_take_turns_however_many_requests_one_has(void **state)
{
    uint32_t of_two = 0;

    (void)state;
    for (int i = 0; i < 8; i++) {
        (void)push(RMK_LANE_ONLINE, 1, 0);
    }
    for (int i = 0; i < 4; i++) {
        (void)push(RMK_LANE_ONLINE, 2, 0);
    }
    for (int i = 0; i < 8; i++) {
        of_two += requests[pop()].tenant == 2;
    }
    assert_int_equal(of_two, 4);
}

static void being_away_earns_no_credit(void **state)
{
    uint32_t of_two = 0;

    (void)state;
    for (int i = 0; i < 10; i++) {
        (void)push(RMK_LANE_ONLINE, 1, 0);
    }
    for (int i = 0; i < 6; i++) {
        (void)pop();
    }
    for (int i = 0; i < 4; i++) {
        (void)push(RMK_LANE_ONLINE, 2, 0);
    }
    for (int i = 0; i < 4; i++) {
        of_two += requests[pop()].tenant == 2;
    }
    /* Not all four at once, though tenant 1 has been served six times before. */
    assert_true(of_two >= 2);
    assert_true(of_two <= 3);
}

static void batch_lane_gets_one_turn_in_eight(void **state)
{
    (void)state;
    uint32_t batch = push(RMK_LANE_BATCH, 1, 0);
    for (int i = 0; i < 10; i++) {
        (void)push(RMK_LANE_ONLINE, 1, 0);
    }
    for (int i = 0; i < RMK_POLICY_ONLINE_STREAK; i++) {
        assert_int_not_equal(pop(), batch);
    }
    assert_int_equal(pop(), batch);
}

static void who_returns_goes_before_who_waits(void **state)
{
    (void)state;
    uint32_t first = push(RMK_LANE_BATCH, 1, 0);
    uint32_t second = push(RMK_LANE_BATCH, 1, 0);
    assert_int_equal(pop(), first);
    assert_int_equal(pop(), second);
    uint32_t urgent = push(RMK_LANE_ONLINE, 2, 1500);
    rmk_queue_push(&queue, &requests[second]);
    rmk_queue_push(&queue, &requests[first]);
    assert_int_equal(pop(), first);
    assert_int_equal(pop(), second);
    assert_int_equal(pop(), urgent);
}

static void what_is_too_long_paused_or_skipped_is_not_picked(void **state)
{
    struct rmk_room narrow = wide;

    (void)state;
    uint32_t index = push(RMK_LANE_ONLINE, 1, 0);
    narrow.total_rows = 13;
    assert_null(rmk_queue_pick(&queue, RMK_WANT_PLACE, &narrow));
    assert_null(rmk_queue_pick(&queue, RMK_WANT_ENCODE, &wide)); /* no pictures */
    requests[index].not_before_us = 1001;
    rmk_queue_refresh(&queue, &requests[index]);
    assert_null(rmk_queue_pick(&queue, RMK_WANT_PLACE, &wide));
    requests[index].not_before_us = 1000;
    requests[index].slow = true;
    rmk_queue_refresh(&queue, &requests[index]);
    assert_null(rmk_queue_pick(&queue, RMK_WANT_PLACE, &wide));
    requests[index].slow = false;
    rmk_queue_refresh(&queue, &requests[index]);
    queue.entries[0].skipped = true;
    assert_null(rmk_queue_pick(&queue, RMK_WANT_PLACE, &wide));
    queue.entries[0].skipped = false;
    assert_non_null(rmk_queue_pick(&queue, RMK_WANT_PLACE, &wide));
}

static void retry_hint_grows_with_the_queue_and_stays_in_bounds(void **state)
{
    (void)state;
    assert_int_equal(rmk_admit_retry_us(0, 5, 4), RMK_POLICY_RETRY_US);
    assert_int_equal(rmk_admit_retry_us(2000000, 5, 0), RMK_POLICY_RETRY_US);
    assert_int_equal(rmk_admit_retry_us(2000000, 7, 4), 4000000);
    assert_int_equal(rmk_admit_retry_us(1, 0, 4), RMK_POLICY_RETRY_US_MIN);
    assert_int_equal(rmk_admit_retry_us(UINT64_MAX, 4095, 1), RMK_POLICY_RETRY_US_MAX);
}

static void assert_refused(const struct rmk_submit *submit, const char *word)
{
    struct rmk_why why = {0};

    assert_int_equal(rmk_admit_check(submit, &why), RMK_EINVAL);
    assert_non_null(strstr(why.text, word));
}

static void wrong_submits_are_refused_with_a_sentence_that_names_the_field(void **state)
{
    static const uint32_t descending[] = {5, 5};
    static const uint32_t outside[] = {10};
    struct rmk_item items[2] = {{.rows = 8}, {.rows = 8}};
    struct rmk_stop stop = {.count = RMK_STOP_IDS_MAX + 1};
    struct rmk_submit submit;

    (void)state;
    submit = good();
    assert_int_equal(rmk_admit_check(&submit, NULL), RMK_OK);
    submit.gen_length = 0;
    assert_refused(&submit, "gen_length");
    submit.gen_length = RMK_GEN_LENGTH_MAX + 1;
    assert_refused(&submit, "gen_length");
    submit = good();
    submit.block_length = 3;
    assert_refused(&submit, "block_length");
    submit.block_length = 0;
    assert_refused(&submit, "block_length");
    submit = good();
    submit.steps = 3;
    assert_refused(&submit, "steps");
    submit.steps = 0;
    assert_refused(&submit, "steps");
    submit.steps = RMK_STEPS_MAX + 2;
    assert_refused(&submit, "at most 8192");
    submit = good();
    submit.prompt_rows = UINT32_MAX;
    assert_refused(&submit, "prompt");
    submit = good();
    submit.suffix_count = RMK_SUFFIX_MAX + 1;
    assert_refused(&submit, "suffix");
    submit = good();
    submit.prompt_masks = descending;
    submit.prompt_mask_count = 2;
    assert_refused(&submit, "prompt mask");
    submit.prompt_masks = outside;
    submit.prompt_mask_count = 1;
    assert_refused(&submit, "prompt mask");
    submit.prompt_mask_count = RMK_PROMPT_MASKS_MAX + 1;
    assert_refused(&submit, "mask tokens");
    submit = good();
    submit.items = items;
    submit.item_count = 2;
    assert_refused(&submit, "picture 1");
    items[1].rows = UINT32_MAX;
    assert_refused(&submit, "picture 1");
    submit.item_count = RMK_ITEMS_MAX + 1;
    assert_refused(&submit, "pictures");
    submit = good();
    submit.temperature = NAN;
    assert_refused(&submit, "temperature");
    submit = good();
    submit.cfg_scale = INFINITY;
    assert_refused(&submit, "cfg_scale");
    submit = good();
    submit.remasking = (enum rmk_remasking)7;
    assert_refused(&submit, "remasking");
    submit = good();
    submit.rule.rule = (enum rmk_rule)RMK_RULE_COUNT;
    assert_refused(&submit, "commit rule");
    submit.rule.rule = RMK_RULE_FACTOR;
    submit.rule.factor = NAN;
    assert_refused(&submit, "factor of rule factor");
    submit = good();
    submit.cache.cache = (enum rmk_cache)(RMK_CACHE_FEATURE + 1);
    assert_refused(&submit, "cache policy");
    submit.cache = (struct rmk_cache_options){.cache = RMK_CACHE_FEATURE, .gen_interval = 1};
    assert_refused(&submit, "prompt_interval");
    submit.cache.prompt_interval = 1;
    submit.cache.gen_interval = 0;
    assert_refused(&submit, "gen_interval");
    submit.cache.gen_interval = 1;
    submit.cache.transfer_ratio = 1.01;
    assert_refused(&submit, "transfer_ratio");
    submit.cache.transfer_ratio = NAN;
    assert_refused(&submit, "transfer_ratio");
    submit = good();
    submit.lane = (enum rmk_lane)7;
    assert_refused(&submit, "lane");
    submit = good();
    submit.stops = &stop;
    submit.stop_count = 1;
    assert_refused(&submit, "stop string 0");
    submit.stop_count = RMK_STOP_COUNT_MAX + 1;
    assert_refused(&submit, "stop strings");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(one_tenant_is_served_in_order_of_arrival, begin),
        cmocka_unit_test_setup(earliest_deadline_of_a_tenant_goes_first, begin),
        cmocka_unit_test_setup(tenants_take_turns_however_many_requests_one_has, begin),
        cmocka_unit_test_setup(being_away_earns_no_credit, begin),
        cmocka_unit_test_setup(batch_lane_gets_one_turn_in_eight, begin),
        cmocka_unit_test_setup(who_returns_goes_before_who_waits, begin),
        cmocka_unit_test_setup(what_is_too_long_paused_or_skipped_is_not_picked, begin),
        cmocka_unit_test(retry_hint_grows_with_the_queue_and_stays_in_bounds),
        cmocka_unit_test(wrong_submits_are_refused_with_a_sentence_that_names_the_field),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
