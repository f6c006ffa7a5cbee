/* cli/cli.c: commands by name, suggestions, exit statuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/cli.h"
#include "common/config.h"

static void every_command_is_found_by_its_name(void **state)
{
    static const char *const names[] = {"caption", "up", "down", "status", "check", "version"};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct rmk_command *command = rmk_cli_find(names[i]);
        assert_non_null(command);
        assert_string_equal(command->name, names[i]);
        assert_ptr_equal(rmk_cli_nearest(names[i]), command);
    }
    assert_null(rmk_cli_find("cap"));
    assert_null(rmk_cli_find(""));
}

static void a_slip_of_the_finger_is_understood(void **state)
{
    (void)state;
    assert_string_equal(rmk_cli_nearest("captoin")->name, "caption");
    assert_string_equal(rmk_cli_nearest("stauts")->name, "status");
    assert_string_equal(rmk_cli_nearest("chekc")->name, "check");
    assert_string_equal(rmk_cli_nearest("versions")->name, "version");
}

static void another_word_is_not_forced_into_a_command(void **state)
{
    (void)state;
    assert_null(rmk_cli_nearest("frobnicate"));
    assert_null(rmk_cli_nearest(""));
    assert_null(rmk_cli_nearest("a word that is much longer than any command can be"));
}

static void an_unknown_command_is_a_mistake_of_usage(void **state)
{
    char *argv[] = {"remask", "frobnicate", NULL};

    (void)state;
    assert_int_equal(rmk_cli_run(2, argv), RMK_EXIT_USAGE);
    assert_int_equal(rmk_cli_run(1, argv), RMK_EXIT_USAGE);
}

static void errors_have_the_exit_statuses_of_sysexits(void **state)
{
    (void)state;
    assert_int_equal(rmk_cli_exit_of(RMK_OK), 0);
    assert_int_equal(rmk_cli_exit_of(RMK_EINVAL), 1);
    assert_int_equal(rmk_cli_exit_of(RMK_ECORRUPT), 65);
    assert_int_equal(rmk_cli_exit_of(RMK_EUNAVAILABLE), 69);
    assert_int_equal(rmk_cli_exit_of(RMK_EINTERNAL), 70);
    assert_int_equal(rmk_cli_exit_of(RMK_EDEADLINE), 75);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_command_is_found_by_its_name),
        cmocka_unit_test(a_slip_of_the_finger_is_understood),
        cmocka_unit_test(another_word_is_not_forced_into_a_command),
        cmocka_unit_test(an_unknown_command_is_a_mistake_of_usage),
        cmocka_unit_test(errors_have_the_exit_statuses_of_sysexits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
