#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "coordinator/front/keys.h"

#define KEY_A "aaaaaaaaaaaaaaaaaaaaaaaa"
#define KEY_B "bbbbbbbbbbbbbbbbbbbbbbbb"
#define KEY_C "cccccccccccccccccccccccc"

static struct rmk_keys *make(void)
{
    struct rmk_keys *keys = NULL;

    assert_int_equal(rmk_keys_create(NULL, &keys, NULL), RMK_OK);
    return keys;
}

static enum rmk_err parse(struct rmk_keys *keys, const char *text, struct rmk_why *why)
{
    return rmk_keys_parse(keys, rmk_bytes_text(text), why);
}

/* "" when the caller is turned away. */
static const char *who(const struct rmk_keys *keys, const char *authorization)
{
    const struct rmk_tenant *tenant = NULL;
    struct rmk_why why = {0};
    enum rmk_err err = rmk_keys_check(keys, authorization, &tenant, &why);

    if (err != RMK_OK) {
        assert_int_equal(err, RMK_EINVAL);
        assert_true(strlen(why.text) > 0);
        /* What was tried may be somebody's key with a slip in it. */
        assert_null(authorization == NULL ? NULL : strstr(why.text, "aaaa"));
        return "";
    }
    return tenant->name;
}

static void refuses(const char *text, size_t size, enum rmk_err expected, const char *part)
{
    struct rmk_keys *keys = make();
    struct rmk_why why = {0};

    assert_int_equal(parse(keys, KEY_C " before\n", NULL), RMK_OK);
    if (rmk_keys_parse(keys, rmk_bytes_of(text, size), &why) != expected) {
        fail_msg("not refused as wanted: %s", why.text);
    }
    if (strstr(why.text, part) == NULL) {
        fail_msg("\"%s\" lacks \"%s\"", why.text, part);
    }
    assert_null(strstr(why.text, "aaaa"));
    assert_string_equal(who(keys, "Bearer " KEY_C), "before"); /* nothing has changed */
    assert_string_equal(who(keys, "Bearer " KEY_A), "");
    assert_int_equal(rmk_keys_tenant_count(keys), 1);
    rmk_keys_destroy(keys);
}

#define REFUSES(text, expected, part) refuses(text, sizeof(text) - 1, expected, part)

static void a_key_stands_for_its_tenant(void **state)
{
    struct rmk_keys *keys = make();

    (void)state;
    assert_int_equal(parse(keys,
                           "# who may come in\r\n"
                           "\n"
                           "  " KEY_A "\t team-a # the first\r\n" KEY_B " team-a\n" KEY_C
                           " n.i_g-htly",
                           NULL),
                     RMK_OK);
    assert_int_equal(rmk_keys_count(keys), 3);
    assert_int_equal(rmk_keys_tenant_count(keys), 2);
    assert_string_equal(who(keys, "Bearer " KEY_A), "team-a");
    assert_string_equal(who(keys, "Bearer " KEY_B), "team-a");
    assert_string_equal(who(keys, "bEARER   " KEY_C), "n.i_g-htly");
    rmk_keys_destroy(keys);
}

static void whoever_shows_no_known_key_is_turned_away(void **state)
{
    struct rmk_keys *keys = make();

    (void)state;
    assert_string_equal(who(keys, "Bearer " KEY_A), "");
    assert_int_equal(parse(keys, KEY_A " a\n", NULL), RMK_OK);
    assert_string_equal(who(keys, NULL), "");
    assert_string_equal(who(keys, ""), "");
    assert_string_equal(who(keys, KEY_A), "");
    assert_string_equal(who(keys, "Bearer"), "");
    assert_string_equal(who(keys, "Bearer "), "");
    assert_string_equal(who(keys, "Basic " KEY_A), "");
    assert_string_equal(who(keys, "Bearer " KEY_A "a"), "");
    assert_string_equal(who(keys, "Bearer aaaaaaaaaaaaaaaaaaaaaaa"), "");
    assert_string_equal(who(keys, "Bearer " KEY_A " "), "");
    rmk_keys_destroy(keys);
}

static void what_is_no_key_and_tenant_is_refused_with_its_line(void **state)
{
    (void)state;
    REFUSES("\n" KEY_A "\n", RMK_EINVAL, "line 2: no tenant");
    REFUSES(KEY_A " # a comment\n", RMK_EINVAL, "line 1: no tenant");
    REFUSES(KEY_A " a b\n", RMK_EINVAL, "line 1: more than a key and a tenant");
    REFUSES("#\n#\naaaaaaaaaaaaaaa a\n", RMK_EINVAL, "line 3: the key has 15 bytes, 16 to 256");
    REFUSES(KEY_A " a\0\n", RMK_EINVAL, "line 1: the tenant has a byte");
    REFUSES("aaaaaaaaaaaa\0aaaaaaaaaa a\n", RMK_EINVAL, "line 1: the key has a byte");
    REFUSES("\xef\xbb\xbf" KEY_A " a\n", RMK_EINVAL, "line 1: the key has a byte");
    REFUSES(KEY_A " a/b\n", RMK_EINVAL, "line 1: the tenant has a byte");
    REFUSES(KEY_A " a\n" KEY_B " b\n" KEY_A " c\n", RMK_EEXISTS, "line 3: the key of line 1 again");
    REFUSES("", RMK_EINVAL, "there is no key in it");
    REFUSES("# nothing\r\n\r\n", RMK_EINVAL, "there is no key in it");
}

static void long_lines_are_refused(void **state)
{
    char text[2000];

    (void)state;
    memset(text, 'a', sizeof(text));
    refuses(text, sizeof(text), RMK_EINVAL, "line 1: the key has 2000 bytes");
    text[24] = ' ';
    refuses(text, sizeof(text), RMK_EINVAL, "line 1: the tenant has 1975 bytes");
}

static void a_tenant_keeps_its_number_when_the_file_changes(void **state)
{
    struct rmk_keys *keys = make();
    const struct rmk_tenant *before = NULL;
    const struct rmk_tenant *after = NULL;

    (void)state;
    assert_int_equal(parse(keys, KEY_A " a\n" KEY_B " b\n", NULL), RMK_OK);
    assert_int_equal(rmk_keys_check(keys, "Bearer " KEY_B, &before, NULL), RMK_OK);
    assert_int_equal(before->number, 2);
    assert_int_equal(parse(keys, KEY_C " b\n", NULL), RMK_OK);
    assert_int_equal(rmk_keys_check(keys, "Bearer " KEY_C, &after, NULL), RMK_OK);
    assert_ptr_equal(before, after);
    assert_string_equal(who(keys, "Bearer " KEY_A), "");
    assert_string_equal(who(keys, "Bearer " KEY_B), "");
    rmk_keys_destroy(keys);
}

static void more_tenants_than_accounts_are_refused(void **state)
{
    struct rmk_keys *keys = make();
    struct rmk_why why = {0};
    char *text = calloc(RMK_TENANTS + 1, 64);
    size_t size = 0;

    (void)state;
    for (unsigned i = 1; i < RMK_TENANTS; i++) {
        size += (size_t)sprintf(text + size, "key-of-the-tenant-%u t%u\n", i, i);
    }
    assert_int_equal(parse(keys, text, &why), RMK_OK);
    assert_int_equal(rmk_keys_tenant_count(keys), RMK_TENANTS - 1);
    assert_int_equal(parse(keys, KEY_A " one-more\n", &why), RMK_ELIMIT);
    assert_non_null(strstr(why.text, "255 tenants"));
    assert_int_equal(parse(keys, KEY_A " t255\n", NULL), RMK_OK);
    assert_string_equal(who(keys, "Bearer " KEY_A), "t255");
    free(text);
    rmk_keys_destroy(keys);
}

static void a_file_that_everybody_may_read_is_refused(void **state)
{
    char path[] = "/tmp/test_keys_XXXXXX";
    struct rmk_keys *keys = NULL;
    struct rmk_why why = {0};
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, KEY_A " a\n", sizeof(KEY_A) + 2), sizeof(KEY_A) + 2);
    assert_int_equal(fchmod(fd, 0644), 0);
    assert_int_equal(rmk_keys_create(path, &keys, &why), RMK_EINVAL);
    assert_non_null(strstr(why.text, path));
    assert_non_null(strstr(why.text, "644"));
    assert_int_equal(fchmod(fd, 0640), 0);
    assert_int_equal(rmk_keys_create(path, &keys, &why), RMK_OK);
    assert_string_equal(who(keys, "Bearer " KEY_A), "a");
    (void)unlink(path);
    assert_int_equal(rmk_keys_load(keys, &why), RMK_ENOTFOUND);
    assert_string_equal(who(keys, "Bearer " KEY_A), "a");
    rmk_keys_destroy(keys);
    (void)close(fd);
    assert_int_equal(rmk_keys_create("/dev/null", &keys, &why), RMK_EINVAL);
    assert_non_null(strstr(why.text, "/dev/null: not a regular file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_stands_for_its_tenant),
        cmocka_unit_test(whoever_shows_no_known_key_is_turned_away),
        cmocka_unit_test(what_is_no_key_and_tenant_is_refused_with_its_line),
        cmocka_unit_test(long_lines_are_refused),
        cmocka_unit_test(a_tenant_keeps_its_number_when_the_file_changes),
        cmocka_unit_test(more_tenants_than_accounts_are_refused),
        cmocka_unit_test(a_file_that_everybody_may_read_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
