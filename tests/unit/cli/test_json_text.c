/* cli/json_text.c: any bytes become a JSON string. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/json_text.h"

static void good_text_stays_as_it_is(void **state)
{
    json_t *json = rmk_json_text("gr\xc3\xbc\xc3\x9f \xf0\x9f\x8e\x89");

    (void)state;
    assert_string_equal(json_string_value(json), "gr\xc3\xbc\xc3\x9f \xf0\x9f\x8e\x89");
    json_decref(json);
}

static void bytes_that_are_no_text_are_replaced(void **state)
{
    json_t *json = rmk_json_text("a\xff"
                                 "b\xc3");

    (void)state;
    assert_string_equal(json_string_value(json), "a\xef\xbf\xbd"
                                                 "b\xef\xbf\xbd");
    json_decref(json);
}

static void a_nul_is_kept(void **state)
{
    json_t *json = rmk_json_bytes(rmk_bytes_of("a\0b", 3));

    (void)state;
    assert_int_equal(json_string_length(json), 3);
    assert_memory_equal(json_string_value(json), "a\0b", 3);
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_text_stays_as_it_is),
        cmocka_unit_test(bytes_that_are_no_text_are_replaced),
        cmocka_unit_test(a_nul_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
