#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/rpc/secure.h"
#include "coordinator/listen.h"

/* The server itself is not reached: the refusal comes first. */
static void expect_refusal(const struct rmk_listen_spec *spec, const char *part)
{
    struct rmk_rpc_server *server = NULL;
    struct rmk_why why = {0};

    assert_int_equal(rmk_listen(NULL, spec, NULL, 0, &server, &why), RMK_EINVAL);
    assert_null(server);
    if (strstr(why.text, part) == NULL) {
        fail_msg("\"%s\" lacks \"%s\"", why.text, part);
    }
}

static void beyond_loopback_plaintext_needs_to_be_asked_for(void **state)
{
    struct rmk_tls_files none = {0};
    struct rmk_listen_spec spec = {.flag = "listen", .address = "0.0.0.0:0", .tls = &none};

    (void)state;
    expect_refusal(&spec, "--listen: 0.0.0.0:0");
    expect_refusal(&spec, "--insecure");
}

static void half_a_tls_configuration_is_refused_also_on_loopback(void **state)
{
    struct rmk_tls_files no_key = {.certificate = "cert.pem"};
    struct rmk_tls_files no_authority = {.certificate = "cert.pem", .key = "key.pem"};
    struct rmk_listen_spec spec = {.flag = "listen", .address = "127.0.0.1:0", .tls = &no_key};

    (void)state;
    expect_refusal(&spec, "its key");
    spec.tls = &no_authority;
    spec.mutual = true;
    expect_refusal(&spec, "authority");
}

static void a_missing_pem_file_is_named(void **state)
{
    struct rmk_tls_files files = {.certificate = "/nonexistent/cert.pem", .key = "key.pem"};
    struct rmk_listen_spec spec = {.flag = "listen", .address = "127.0.0.1:0", .tls = &files};
    struct rmk_rpc_server *server = NULL;
    struct rmk_why why = {0};

    (void)state;
    assert_int_equal(rmk_listen(NULL, &spec, NULL, 0, &server, &why), RMK_ENOTFOUND);
    assert_non_null(strstr(why.text, "/nonexistent/cert.pem"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(beyond_loopback_plaintext_needs_to_be_asked_for),
        cmocka_unit_test(half_a_tls_configuration_is_refused_also_on_loopback),
        cmocka_unit_test(a_missing_pem_file_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
