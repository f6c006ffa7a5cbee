#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/rpc/secure.h"

static void loopback_is_recognised_and_nothing_that_looks_like_it(void **state)
{
    static const char *const yes[] = {"127.0.0.1:8001", "127.1.2.3:0", "localhost:1", "[::1]:5"};
    static const char *const no[] = {
        "0.0.0.0:8001",
        "[::]:8001",
        "10.0.0.1:1",
        "127.0.0.1.example.org:1",
        "localhost.example.org:1",
        "127.example.org:1",
        "example.org:1",
        ":8001",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        assert_true(rmk_secure_is_loopback(yes[i]));
    }
    for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
        assert_false(rmk_secure_is_loopback(no[i]));
    }
}

static void a_file_that_is_not_there_is_named_and_nothing_is_kept(void **state)
{
    const struct rmk_tls_files files = {.certificate = "LICENSE", .key = "no/such/key.pem"};
    struct rmk_rpc_options options = {0};
    struct rmk_why why = {0};

    (void)state;
    assert_int_equal(rmk_secure_load(&files, "0.0.0.0:1", false, false, "flags", &options, &why),
                     RMK_ENOTFOUND);
    assert_non_null(strstr(why.text, "no/such/key.pem"));
    assert_null(options.tls_cert);
}

static void what_is_beyond_this_machine_is_refused_with_the_flags_that_would_do(void **state)
{
    const struct rmk_tls_files none = {0};
    struct rmk_rpc_options options = {0};
    struct rmk_why why = {0};

    (void)state;
    assert_int_equal(rmk_secure_load(&none, "[::]:1", false, false, "--a or --b", &options, &why),
                     RMK_EINVAL);
    assert_string_equal(why.text,
                        "[::]:1 is beyond this machine; give --a or --b, or say --insecure");
    assert_int_equal(rmk_secure_load(&none, "[::]:1", false, true, "--a", &options, &why), RMK_OK);
    assert_int_equal(rmk_secure_load(&none, "[::1]:1", true, false, "--a", &options, &why), RMK_OK);
}

static void a_file_that_is_not_text_is_no_certificate(void **state)
{
    const struct rmk_tls_files files = {.certificate = "tests/data/scenes/056.png",
                                        .key = "LICENSE"};
    struct rmk_rpc_options options = {0};
    struct rmk_why why = {0};

    (void)state;
    assert_int_equal(rmk_secure_load(&files, "[::]:1", false, false, "--a", &options, &why),
                     RMK_ECORRUPT);
    assert_non_null(strstr(why.text, "056.png: holds a NUL byte"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loopback_is_recognised_and_nothing_that_looks_like_it),
        cmocka_unit_test(what_is_beyond_this_machine_is_refused_with_the_flags_that_would_do),
        cmocka_unit_test(a_file_that_is_not_text_is_no_certificate),
        cmocka_unit_test(a_file_that_is_not_there_is_named_and_nothing_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
