#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/back/group.h"

/* What the group said, one word an utterance, epochs relative to the first. */
struct heard {
    char text[2048];
    uint64_t base;
};

static struct heard heard;

static void say(const char *format, ...)
{
    size_t used = strlen(heard.text);
    va_list args;

    va_start(args, format);
    (void)vsnprintf(heard.text + used, sizeof(heard.text) - used, format, args);
    va_end(args);
}

static void out_form(void *context, uint32_t rank, uint64_t epoch, uint32_t size,
                     uint32_t timeout_ms)
{
    (void)context;
    (void)size;
    (void)timeout_ms;
    say("form%u@%u ", rank, (unsigned)(epoch - heard.base));
}

static void out_bootstrap(void *context, uint32_t rank, uint64_t epoch, struct rmk_bytes id)
{
    (void)context;
    say("bootstrap%u@%u=%.*s ", rank, (unsigned)(epoch - heard.base), (int)id.size,
        (const char *)id.data);
}

static void out_dissolve(void *context, uint32_t rank, uint64_t epoch, const char *why)
{
    (void)context;
    (void)why;
    say("dissolve%u@%u ", rank, (unsigned)(epoch - heard.base));
}

static void out_up(void *context, uint64_t epoch)
{
    (void)context;
    say("up@%u ", (unsigned)(epoch - heard.base));
}

static void out_down(void *context, uint64_t epoch, const char *why)
{
    (void)context;
    say("down@%u(%s) ", (unsigned)(epoch - heard.base), why);
}

static const struct rmk_group_out out = {out_form, out_bootstrap, out_dissolve, out_up, out_down};
static uint64_t epochs;

static void begin(struct rmk_group *group, uint32_t size)
{
    heard = (struct heard){.base = 1000};
    epochs = 1000;
    rmk_group_init(group, size, 5000, &epochs, &out, NULL);
}

static void expect(const char *text)
{
    assert_string_equal(heard.text, text);
    heard.text[0] = '\0';
}

static void formed(struct rmk_group *group, uint32_t rank)
{
    assert_int_equal(rmk_group_formed(group, rank, group->epoch, NULL), RMK_OK);
}

/* Two ranks attached at time 0 and epoch 1 up. */
static void begin_up(struct rmk_group *group)
{
    begin(group, 2);
    rmk_group_join(group, 0, 0);
    rmk_group_join(group, 1, 0);
    formed(group, 0);
    formed(group, 1);
    heard.text[0] = '\0';
}

static void forms_when_all_ranks_are_attached_and_is_up_when_all_have_formed(void **state)
{
    struct rmk_group group;

    (void)state;
    begin(&group, 3);
    rmk_group_join(&group, 2, 0);
    rmk_group_join(&group, 0, 0);
    expect("");
    assert_int_equal(rmk_group_due_us(&group), 0);
    rmk_group_join(&group, 1, 10);
    expect("form0@1 form1@1 form2@1 ");
    assert_int_equal(rmk_group_bootstrap(&group, 0, 1001, rmk_bytes_text("id"), NULL), RMK_OK);
    expect("bootstrap1@1=id bootstrap2@1=id ");
    formed(&group, 1);
    formed(&group, 0);
    expect("");
    formed(&group, 2);
    expect("up@1 ");
    assert_int_equal(group.state, RMK_GROUP_UP);
    assert_int_equal(rmk_group_due_us(&group), 0);
}

static void a_group_of_one_forms_alone(void **state)
{
    struct rmk_group group;

    (void)state;
    begin(&group, 1);
    rmk_group_join(&group, 0, 0);
    assert_int_equal(rmk_group_bootstrap(&group, 0, 1001, rmk_bytes_text("id"), NULL), RMK_OK);
    formed(&group, 0);
    expect("form0@1 up@1 ");
}

static void a_lost_rank_ends_the_epoch_for_all_and_the_next_forms_when_it_is_back(void **state)
{
    struct rmk_group group;

    (void)state;
    begin_up(&group);
    rmk_group_leave(&group, 1, 1000000, "gone");
    expect("dissolve0@1 down@1(gone) ");
    assert_int_equal(rmk_group_due_us(&group), 0);
    rmk_group_join(&group, 1, 5000000);
    expect("form0@2 form1@2 ");
}

static void losing_a_rank_while_forming_is_no_down(void **state)
{
    struct rmk_group group;

    (void)state;
    begin(&group, 2);
    rmk_group_join(&group, 0, 0);
    rmk_group_join(&group, 1, 0);
    formed(&group, 0);
    heard.text[0] = '\0';
    rmk_group_leave(&group, 0, 10, "gone");
    expect("dissolve1@1 ");
    assert_int_equal(group.state, RMK_GROUP_WAITING);
}

static void a_fault_dissolves_and_the_same_ranks_form_again_after_a_pause(void **state)
{
    struct rmk_group group;

    (void)state;
    begin_up(&group);
    rmk_group_fault(&group, group.epoch, 1000000, "communicator");
    expect("dissolve0@1 dissolve1@1 down@1(communicator) ");
    assert_int_equal(rmk_group_due_us(&group), 1000000 + RMK_GROUP_BACKOFF_MIN_US);
    rmk_group_tick(&group, 1000000 + RMK_GROUP_BACKOFF_MIN_US - 1);
    expect("");
    rmk_group_tick(&group, 1000000 + RMK_GROUP_BACKOFF_MIN_US);
    expect("form0@2 form1@2 ");
}

static void a_fault_of_an_old_epoch_is_ignored(void **state)
{
    struct rmk_group group;

    (void)state;
    begin_up(&group);
    rmk_group_fault(&group, group.epoch, 0, "first");
    rmk_group_tick(&group, 1000000);
    heard.text[0] = '\0';
    rmk_group_fault(&group, 1001, 1000000, "late");
    expect("");
    assert_int_equal(group.state, RMK_GROUP_FORMING);
}

static void formation_that_takes_too_long_is_given_up(void **state)
{
    struct rmk_group group;

    (void)state;
    begin(&group, 2);
    rmk_group_join(&group, 0, 0);
    rmk_group_join(&group, 1, 0);
    formed(&group, 0);
    heard.text[0] = '\0';
    assert_int_equal(rmk_group_due_us(&group), 5000000);
    rmk_group_tick(&group, 5000000);
    expect("dissolve0@1 dissolve1@1 ");
    assert_int_equal(group.state, RMK_GROUP_WAITING);
}

static void repeated_failures_double_the_pause_up_to_its_maximum_and_work_resets_it(void **state)
{
    struct rmk_group group;
    uint64_t now = 1000000;
    uint64_t pause = RMK_GROUP_BACKOFF_MIN_US;

    (void)state;
    begin_up(&group);
    for (int i = 0; i < 12; i++) {
        rmk_group_fault(&group, group.epoch, now, "again");
        assert_int_equal(rmk_group_due_us(&group) - now, pause);
        now += pause;
        rmk_group_tick(&group, now);
        assert_int_equal(group.state, RMK_GROUP_FORMING);
        pause = pause * 2 < RMK_GROUP_BACKOFF_MAX_US ? pause * 2 : RMK_GROUP_BACKOFF_MAX_US;
    }
    assert_int_equal(pause, RMK_GROUP_BACKOFF_MAX_US);
    formed(&group, 0);
    formed(&group, 1);
    rmk_group_worked(&group);
    rmk_group_fault(&group, group.epoch, now, "once");
    assert_int_equal(rmk_group_due_us(&group) - now, RMK_GROUP_BACKOFF_MIN_US);
}

static void formed_of_an_old_epoch_does_not_count(void **state)
{
    struct rmk_group group;

    (void)state;
    begin(&group, 2);
    rmk_group_join(&group, 0, 0);
    rmk_group_join(&group, 1, 0);
    formed(&group, 0);
    rmk_group_leave(&group, 1, 10, "gone");
    rmk_group_join(&group, 1, 10000000);
    heard.text[0] = '\0';
    assert_int_equal(rmk_group_formed(&group, 0, 1001, NULL), RMK_OK);
    formed(&group, 1);
    expect("");
    formed(&group, 0);
    expect("up@2 ");
}

static void breaches_of_the_protocol_are_named(void **state)
{
    struct rmk_group group;
    struct rmk_why why = {0};
    uint8_t large[RMK_BOOTSTRAP_BYTES_MAX + 1] = {0};

    (void)state;
    begin(&group, 2);
    rmk_group_join(&group, 0, 0);
    rmk_group_join(&group, 1, 0);
    assert_int_equal(rmk_group_bootstrap(&group, 1, 1001, rmk_bytes_text("id"), &why), RMK_EINVAL);
    assert_non_null(strstr(why.text, "rank 1"));
    assert_int_equal(rmk_group_bootstrap(&group, 0, 1001, rmk_bytes_of(large, sizeof(large)), &why),
                     RMK_EINVAL);
    assert_int_equal(rmk_group_bootstrap(&group, 0, 1001, rmk_bytes_text("id"), &why), RMK_OK);
    assert_int_equal(rmk_group_bootstrap(&group, 0, 1001, rmk_bytes_text("id"), &why), RMK_EINVAL);
    assert_non_null(strstr(why.text, "second"));
    formed(&group, 0);
    assert_int_equal(rmk_group_formed(&group, 0, 1001, &why), RMK_EINVAL);
    assert_non_null(strstr(why.text, "twice"));
}

static void epochs_grow_over_all_groups(void **state)
{
    struct rmk_group first, second;

    (void)state;
    begin(&first, 1);
    rmk_group_init(&second, 1, 5000, &epochs, &out, NULL);
    rmk_group_join(&first, 0, 0);
    rmk_group_join(&second, 0, 0);
    expect("form0@1 form0@2 ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms_when_all_ranks_are_attached_and_is_up_when_all_have_formed),
        cmocka_unit_test(a_group_of_one_forms_alone),
        cmocka_unit_test(a_lost_rank_ends_the_epoch_for_all_and_the_next_forms_when_it_is_back),
        cmocka_unit_test(losing_a_rank_while_forming_is_no_down),
        cmocka_unit_test(a_fault_dissolves_and_the_same_ranks_form_again_after_a_pause),
        cmocka_unit_test(a_fault_of_an_old_epoch_is_ignored),
        cmocka_unit_test(formation_that_takes_too_long_is_given_up),
        cmocka_unit_test(repeated_failures_double_the_pause_up_to_its_maximum_and_work_resets_it),
        cmocka_unit_test(formed_of_an_old_epoch_does_not_count),
        cmocka_unit_test(breaches_of_the_protocol_are_named),
        cmocka_unit_test(epochs_grow_over_all_groups),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
