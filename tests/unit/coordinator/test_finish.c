#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/rpc/rpc.h"
#include "coordinator/engine/engine.h"
#include "coordinator/finish.h"
#include "coordinator/front/intake.h"
#include "coordinator/requests.h"

enum { SECOND = 1000000 };

static void without_best_the_engines_deadline_is_the_calls(void **state)
{
    const struct rmk_submit submit = {0};

    (void)state;
    assert_int_equal(rmk_finish_deadline_us(&submit, 0, 5), 0);
    assert_int_equal(rmk_finish_deadline_us(&submit, 100 * SECOND, 5), 100 * SECOND);
}

static void with_best_a_twentieth_of_the_time_is_kept_for_the_way(void **state)
{
    const struct rmk_submit submit = {.best_at_deadline = true};
    const uint64_t now_us = 7 * SECOND;

    (void)state;
    assert_int_equal(rmk_finish_deadline_us(&submit, now_us + SECOND, now_us),
                     now_us + SECOND - SECOND / 20);
    /* within bounds */
    assert_int_equal(rmk_finish_deadline_us(&submit, now_us + 100 * SECOND, now_us),
                     now_us + 100 * SECOND - 250000);
    assert_int_equal(rmk_finish_deadline_us(&submit, now_us + 50000, now_us), now_us + 40000);
    assert_int_equal(rmk_finish_deadline_us(&submit, now_us + 5000, now_us), now_us);
    /* none, and past */
    assert_int_equal(rmk_finish_deadline_us(&submit, 0, now_us), 0);
    assert_int_equal(rmk_finish_deadline_us(&submit, now_us - 1, now_us), now_us - 1);
}

static void only_a_canvas_with_commits_is_an_answer_at_the_deadline(void **state)
{
    struct rmk_intake intake = {.submit = {.best_at_deadline = true}};
    struct rmk_request request = {.intake = &intake};
    struct rmk_action action = {.kind = RMK_ACTION_FINISH,
                                .finish = {.reason = RMK_FINISH_DEADLINE}};

    (void)state;
    assert_false(rmk_finish_answers(&request, &action));
    action.finish.usage.committed = 1;
    assert_true(rmk_finish_answers(&request, &action));
    intake.submit.best_at_deadline = false;
    assert_false(rmk_finish_answers(&request, &action));
    action.finish.reason = RMK_FINISH_LENGTH;
    assert_true(rmk_finish_answers(&request, &action));
    action.finish.reason = RMK_FINISH_STOP;
    assert_true(rmk_finish_answers(&request, &action));
    action.finish.reason = RMK_FINISH_CANCELLED;
    assert_false(rmk_finish_answers(&request, &action));
}

static void what_no_group_can_do_is_a_failed_precondition(void **state)
{
    struct rmk_action action = {.kind = RMK_ACTION_FINISH,
                                .finish = {.reason = RMK_FINISH_REFUSED,
                                           .err = RMK_EUNSUPPORTED,
                                           .why = "no group keeps keys and values"}};
    struct rmk_why why = {0};

    (void)state;
    assert_int_equal(rmk_finish_status(&action, &why), RMK_STATUS_FAILED_PRECONDITION);
    assert_string_equal(why.text, "no group keeps keys and values");
    action.finish.err = RMK_ELIMIT;
    action.finish.retry_after_us = 1500000;
    assert_int_equal(rmk_finish_status(&action, &why), RMK_STATUS_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(why.text, "try again in 1.5 s"));
    action.finish.reason = RMK_FINISH_FAILED;
    action.finish.err = RMK_EUNSUPPORTED; /* the picture's fault */
    assert_int_equal(rmk_finish_status(&action, &why), RMK_STATUS_INVALID_ARGUMENT);
    action.finish.reason = RMK_FINISH_DEADLINE;
    assert_int_equal(rmk_finish_status(&action, &why), RMK_STATUS_DEADLINE_EXCEEDED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_best_the_engines_deadline_is_the_calls),
        cmocka_unit_test(with_best_a_twentieth_of_the_time_is_kept_for_the_way),
        cmocka_unit_test(only_a_canvas_with_commits_is_an_answer_at_the_deadline),
        cmocka_unit_test(what_no_group_can_do_is_a_failed_precondition),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
