/* cli/state.c: names, the lock that says a cluster runs, what is read back. */
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

#include "cli/client.h"
#include "cli/state.h"

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/remask-state-XXXXXX");
    return mkdtemp(dir) == NULL || setenv("XDG_RUNTIME_DIR", dir, 1) != 0;
}

static int remove_dir(void **state)
{
    char command[128];

    (void)state;
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    return system(command);
}

static void names_are_file_names_and_nothing_more(void **state)
{
    static const char *const bad[] = {"", ".", "..", "../x", "a/b", "a b", ".hidden", "\xc3\xa4"};
    struct rmk_why why = {0};
    char longest[80];

    (void)state;
    memset(longest, 'a', sizeof(longest));
    longest[65] = '\0';
    assert_int_equal(rmk_state_check_name(longest, &why), RMK_EINVAL);
    longest[64] = '\0';
    assert_int_equal(rmk_state_check_name(longest, &why), RMK_OK);
    assert_int_equal(rmk_state_check_name("default", &why), RMK_OK);
    assert_int_equal(rmk_state_check_name("a-1_b.c", &why), RMK_OK);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(rmk_state_check_name(bad[i], &why), RMK_EINVAL);
        assert_non_null(strstr(why.text, "--name"));
    }
}

static void a_name_is_taken_while_its_lock_is_held(void **state)
{
    struct rmk_why why = {0};
    int first = -1;
    int second = -1;

    (void)state;
    assert_false(rmk_state_running("one"));
    assert_int_equal(rmk_state_lock("one", &first, &why), RMK_OK);
    assert_true(rmk_state_running("one"));
    assert_false(rmk_state_running("two"));
    assert_int_equal(rmk_state_lock("one", &second, &why), RMK_EEXISTS);
    assert_non_null(strstr(why.text, "one"));
    assert_int_equal(close(first), 0);
    assert_false(rmk_state_running("one"));
    assert_int_equal(rmk_state_lock("one", &second, &why), RMK_OK);
    assert_int_equal(close(second), 0);
}

static void what_is_written_is_read_and_removed(void **state)
{
    json_t *written = json_pack("{s:s}", "endpoint", "127.0.0.1:4000");
    json_t *read = NULL;
    struct rmk_why why = {0};

    (void)state;
    assert_int_equal(rmk_state_read("three", &read, &why), RMK_ENOTFOUND);
    assert_int_equal(rmk_state_write("three", written, &why), RMK_OK);
    assert_int_equal(rmk_state_read("three", &read, &why), RMK_OK);
    assert_true(json_equal(read, written));
    json_decref(read);
    json_decref(written);
    rmk_state_remove("three");
    assert_int_equal(rmk_state_read("three", &read, &why), RMK_ENOTFOUND);
}

static void a_file_that_is_no_state_is_refused(void **state)
{
    struct rmk_why why = {0};
    char path[RMK_STATE_PATH_MAX];
    json_t *read = NULL;

    (void)state;
    assert_int_equal(rmk_state_path("four", ".json", path, &why), RMK_OK);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fputs("[1, 2", file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rmk_state_read("four", &read, &why), RMK_ECORRUPT);
    assert_non_null(strstr(why.text, path));
}

static void the_endpoint_is_the_flag_or_the_running_clusters_or_the_usual_one(void **state)
{
    json_t *written = json_pack("{s:s}", "endpoint", "127.0.0.1:4000");
    struct rmk_why why = {0};
    char buffer[64];
    int fd = -1;

    (void)state;
    assert_int_equal(rmk_state_write("five", written, &why), RMK_OK);
    json_decref(written);
    assert_string_equal(rmk_client_endpoint(NULL, "five", buffer, sizeof(buffer)),
                        "127.0.0.1:8001");
    assert_int_equal(rmk_state_lock("five", &fd, &why), RMK_OK);
    assert_string_equal(rmk_client_endpoint(NULL, "five", buffer, sizeof(buffer)),
                        "127.0.0.1:4000");
    assert_string_equal(rmk_client_endpoint("host:1", "five", buffer, sizeof(buffer)), "host:1");
    assert_string_equal(rmk_client_endpoint(NULL, "five", buffer, 4), "127.0.0.1:8001");
    assert_int_equal(close(fd), 0);
}

static void a_folder_that_others_may_write_is_refused(void **state)
{
    struct rmk_why why = {0};
    char folder[96];
    char path[RMK_STATE_PATH_MAX];

    (void)state;
    (void)snprintf(folder, sizeof(folder), "%s/remask", dir);
    assert_int_equal(chmod(folder, 0777), 0);
    assert_int_equal(rmk_state_path("six", ".json", path, &why), RMK_EINVAL);
    assert_non_null(strstr(why.text, folder));
    assert_int_equal(chmod(folder, 0700), 0);
    assert_int_equal(rmk_state_path("six", ".json", path, &why), RMK_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_file_names_and_nothing_more),
        cmocka_unit_test(a_name_is_taken_while_its_lock_is_held),
        cmocka_unit_test(what_is_written_is_read_and_removed),
        cmocka_unit_test(a_file_that_is_no_state_is_refused),
        cmocka_unit_test(the_endpoint_is_the_flag_or_the_running_clusters_or_the_usual_one),
        cmocka_unit_test(a_folder_that_others_may_write_is_refused),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
