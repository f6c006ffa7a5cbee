#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/front/recall.h"
#include "coordinator/result.h"

static const uint8_t contents[RMK_DIGEST_BYTES] = {1};
static const uint8_t others[RMK_DIGEST_BYTES] = {2};

/* Only its address is looked at. */
static struct rmk_request *request_number(uintptr_t number)
{
    return (struct rmk_request *)(number * 64);
}

static enum rmk_recalled look(const struct rmk_recall *recall, const char *id,
                              const uint8_t digest[RMK_DIGEST_BYTES])
{
    struct rmk_request *request = NULL;
    struct rmk_result *result = NULL;

    return rmk_recall_look(recall, 0, id, digest, &request, &result);
}

static void an_id_is_new_then_live_then_finished(void **state)
{
    struct rmk_recall *recall = rmk_recall_create(4, 4);
    struct rmk_result *result = rmk_result_create(rmk_bytes_text("text"), NULL, 0);
    struct rmk_request *request = NULL;
    struct rmk_result *found = NULL;

    (void)state;
    assert_int_equal(look(recall, "a", contents), RMK_RECALLED_NEW);
    assert_int_equal(rmk_recall_begin(recall, 0, "a", contents, request_number(7), NULL), RMK_OK);
    assert_int_equal(rmk_recall_look(recall, 0, "a", contents, &request, &found),
                     RMK_RECALLED_LIVE);
    assert_ptr_equal(request, request_number(7));
    rmk_recall_end(recall, 0, "a", result);
    rmk_result_unref(result);
    assert_int_equal(rmk_recall_look(recall, 0, "a", contents, &request, &found),
                     RMK_RECALLED_FINISHED);
    assert_string_equal(found->text, "text");
    rmk_recall_destroy(recall);
}

static void other_contents_under_the_same_id_are_told_apart_live_and_finished(void **state)
{
    struct rmk_recall *recall = rmk_recall_create(4, 4);
    struct rmk_result *result = rmk_result_create(rmk_bytes_text(""), NULL, 0);

    (void)state;
    assert_int_equal(rmk_recall_begin(recall, 0, "a", contents, request_number(1), NULL), RMK_OK);
    assert_int_equal(look(recall, "a", others), RMK_RECALLED_OTHER);
    rmk_recall_end(recall, 0, "a", result);
    rmk_result_unref(result);
    assert_int_equal(look(recall, "a", others), RMK_RECALLED_OTHER);
    rmk_recall_destroy(recall);
}

static void a_request_without_an_answer_leaves_its_id_free(void **state)
{
    struct rmk_recall *recall = rmk_recall_create(4, 4);

    (void)state;
    assert_int_equal(rmk_recall_begin(recall, 0, "a", contents, request_number(1), NULL), RMK_OK);
    rmk_recall_end(recall, 0, "a", NULL);
    assert_int_equal(look(recall, "a", others), RMK_RECALLED_NEW);
    rmk_recall_destroy(recall);
}

static void the_oldest_answers_are_forgotten_first(void **state)
{
    struct rmk_recall *recall = rmk_recall_create(4, 3);

    (void)state;
    for (int i = 0; i < 5; i++) {
        char id[8];
        struct rmk_result *result = rmk_result_create(rmk_bytes_text("x"), NULL, 0);

        (void)snprintf(id, sizeof(id), "%d", i);
        assert_int_equal(rmk_recall_begin(recall, 0, id, contents, request_number(1), NULL),
                         RMK_OK);
        rmk_recall_end(recall, 0, id, result);
        rmk_result_unref(result);
    }
    assert_int_equal(look(recall, "0", contents), RMK_RECALLED_NEW);
    assert_int_equal(look(recall, "1", contents), RMK_RECALLED_NEW);
    assert_int_equal(look(recall, "2", contents), RMK_RECALLED_FINISHED);
    assert_int_equal(look(recall, "4", contents), RMK_RECALLED_FINISHED);
    rmk_recall_destroy(recall);
}

static void more_live_requests_than_allowed_are_refused(void **state)
{
    struct rmk_recall *recall = rmk_recall_create(1, 4);
    struct rmk_why why = {0};

    (void)state;
    assert_int_equal(rmk_recall_begin(recall, 0, "a", contents, request_number(1), &why), RMK_OK);
    assert_int_equal(rmk_recall_begin(recall, 0, "b", contents, request_number(2), &why),
                     RMK_ELIMIT);
    rmk_recall_end(recall, 0, "a", NULL);
    assert_int_equal(rmk_recall_begin(recall, 0, "b", contents, request_number(2), &why), RMK_OK);
    rmk_recall_end(recall, 0, "b", NULL);
    rmk_recall_destroy(recall);
}

static void each_tenant_has_ids_of_its_own(void **state)
{
    struct rmk_recall *recall = rmk_recall_create(4, 4);
    struct rmk_result *result = rmk_result_create(rmk_bytes_text("x"), NULL, 0);
    struct rmk_request *request = NULL;
    struct rmk_result *found = NULL;

    (void)state;
    assert_int_equal(rmk_recall_begin(recall, 1, "a", contents, request_number(1), NULL), RMK_OK);
    assert_int_equal(rmk_recall_look(recall, 2, "a", contents, &request, &found), RMK_RECALLED_NEW);
    assert_int_equal(rmk_recall_begin(recall, 2, "a", others, request_number(2), NULL), RMK_OK);
    rmk_recall_end(recall, 1, "a", result);
    rmk_result_unref(result);
    assert_int_equal(rmk_recall_look(recall, 2, "a", others, &request, &found), RMK_RECALLED_LIVE);
    assert_ptr_equal(request, request_number(2));
    assert_int_equal(rmk_recall_look(recall, 1, "a", contents, &request, &found),
                     RMK_RECALLED_FINISHED);
    rmk_recall_end(recall, 2, "a", NULL);
    rmk_recall_destroy(recall);
}

static void nothing_is_kept_when_nothing_may_be(void **state)
{
    struct rmk_recall *recall = rmk_recall_create(1, 0);
    struct rmk_result *result = rmk_result_create(rmk_bytes_text("x"), NULL, 0);

    (void)state;
    assert_int_equal(rmk_recall_begin(recall, 0, "a", contents, request_number(1), NULL), RMK_OK);
    rmk_recall_end(recall, 0, "a", result);
    assert_int_equal(result->references, 1);
    assert_int_equal(look(recall, "a", contents), RMK_RECALLED_NEW);
    rmk_result_unref(result);
    rmk_recall_destroy(recall);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_id_is_new_then_live_then_finished),
        cmocka_unit_test(other_contents_under_the_same_id_are_told_apart_live_and_finished),
        cmocka_unit_test(a_request_without_an_answer_leaves_its_id_free),
        cmocka_unit_test(the_oldest_answers_are_forgotten_first),
        cmocka_unit_test(more_live_requests_than_allowed_are_refused),
        cmocka_unit_test(each_tenant_has_ids_of_its_own),
        cmocka_unit_test(nothing_is_kept_when_nothing_may_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
