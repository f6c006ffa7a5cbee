#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/process.h"

/* In a child: map two pages, cut the file to one, read the second. */
static void read_past_the_end(void)
{
    char name[] = "/tmp/remask-process-XXXXXX";
    const long page = sysconf(_SC_PAGESIZE);
    int file = mkstemp(name);

    (void)unlink(name);
    if (file < 0 || ftruncate(file, 2 * page) != 0) {
        _exit(1);
    }
    volatile char *map = mmap(NULL, (size_t)(2 * page), PROT_READ, MAP_SHARED, file, 0);
    if (map == MAP_FAILED || ftruncate(file, page) != 0) {
        _exit(1);
    }
    rmk_process_explain_truncation("the test's file");
    (void)close(STDERR_FILENO);
    char seen = map[page];
    (void)seen;
    _exit(0);
}

static void a_file_that_shrinks_under_its_mapping_ends_the_process_with_a_status(void **state)
{
    int status = 0;

    (void)state;
    pid_t child = fork();
    if (child == 0) {
        read_past_the_end();
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), RMK_EXIT_CONFIG);
}

static void there_is_at_least_one_core(void **state)
{
    (void)state;
    assert_true(rmk_process_cores() >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_that_shrinks_under_its_mapping_ends_the_process_with_a_status),
        cmocka_unit_test(there_is_at_least_one_core),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
