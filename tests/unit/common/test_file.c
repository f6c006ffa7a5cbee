#include "common/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIZE = 200000 }; /* more than one piece */

static char dir[] = "/tmp/remask-file-XXXXXX";
static char path[64];

static int begin(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/file", dir);
    return 0;
}

static int end(void **state)
{
    (void)state;
    (void)unlink(path);
    return rmdir(dir);
}

static void write_bytes(size_t size)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    for (size_t i = 0; i < size; i++) {
        assert_int_not_equal(fputc((int)(i * 7 & 255), file), EOF);
    }
    assert_int_equal(fclose(file), 0);
}

static void check_bytes(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        assert_int_equal(data[i], i * 7 & 255);
    }
    assert_int_equal(data[size], 0);
}

static void fails(const char *name, enum rmk_file_kind kind, size_t bytes_max, enum rmk_err err,
                  const char *sentence)
{
    uint8_t *data = NULL;
    size_t size = 7;
    struct rmk_why why = {0};

    assert_int_equal(rmk_file_read(name, kind, bytes_max, &data, &size, &why), err);
    assert_string_equal(why.text, sentence);
    assert_null(data);
    assert_int_equal(size, 7);
}

static void a_file_is_read_to_its_end(void **state)
{
    static const size_t sizes[] = {0, 1, 65535, 65536, 65537, SIZE};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint8_t *data = NULL;
        size_t size = 0;
        write_bytes(sizes[i]);
        assert_int_equal(rmk_file_read(path, RMK_FILE_REGULAR, SIZE, &data, &size, NULL), RMK_OK);
        assert_int_equal(size, sizes[i]);
        check_bytes(data, size);
        free(data);
    }
}

static void each_failure_has_its_sentence(void **state)
{
    (void)state;
    write_bytes(11);
    fails(path, RMK_FILE_REGULAR, 10, RMK_ELIMIT, "is larger than 10 bytes");
    fails(path, RMK_FILE_ANY, 0, RMK_ELIMIT, "is larger than 0 bytes");
    fails("no/such/file", RMK_FILE_REGULAR, 10, RMK_ENOTFOUND, "there is no such file");
    fails("LICENSE/file", RMK_FILE_ANY, 10, RMK_ENOTFOUND, "there is no such file");
    fails("tests", RMK_FILE_REGULAR, 10, RMK_EINVAL, "is a folder, not a file");
    fails("tests", RMK_FILE_ANY, 10, RMK_EINVAL, "is a folder, not a file");
    fails("/dev/zero", RMK_FILE_ANY, 100000, RMK_ELIMIT, "is larger than 100000 bytes");
    fails("/dev/null", RMK_FILE_REGULAR, 10, RMK_EINVAL, "not a regular file");
}

/* Opened as usual it would wait for somebody to write. */
static void a_pipe_is_refused_at_once_where_it_is_not_meant(void **state)
{
    (void)state;
    (void)unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    fails(path, RMK_FILE_REGULAR, 10, RMK_EINVAL, "not a regular file");
    (void)unlink(path);
}

static void a_pipe_comes_in_pieces(void **state)
{
    uint8_t *data = NULL;
    size_t size = 0;
    char name[32];
    int ends[2];

    (void)state;
    write_bytes(SIZE);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t child = fork();
    if (child == 0) {
        int file = open(path, O_RDONLY | O_CLOEXEC);
        char piece[999];
        ssize_t got;
        while ((got = read(file, piece, sizeof(piece))) > 0) {
            (void)!write(ends[1], piece, (size_t)got);
        }
        _exit(0);
    }
    (void)close(ends[1]);
    (void)snprintf(name, sizeof(name), "/dev/fd/%d", ends[0]);
    assert_int_equal(rmk_file_read(name, RMK_FILE_ANY, SIZE, &data, &size, NULL), RMK_OK);
    (void)close(ends[0]);
    assert_int_equal(size, SIZE);
    check_bytes(data, size);
    free(data);
}

static void a_file_that_says_nothing_of_its_size_is_read(void **state)
{
    uint8_t *data = NULL;
    size_t size = 0;

    (void)state;
    assert_int_equal(rmk_file_read("/proc/self/status", RMK_FILE_REGULAR, SIZE, &data, &size, NULL),
                     RMK_OK);
    assert_non_null(strstr((const char *)data, "Pid:"));
    free(data);
}

static void what_is_open_is_read_from_where_it_stands(void **state)
{
    uint8_t *data = NULL;
    size_t size = 0;
    int fd = -1;

    (void)state;
    write_bytes(512);
    assert_int_equal(rmk_file_open(path, RMK_FILE_REGULAR, &fd, NULL), RMK_OK);
    assert_int_equal(lseek(fd, 256, SEEK_SET), 256);
    assert_int_equal(rmk_file_read_open(fd, 256, &data, &size, NULL), RMK_OK);
    assert_int_equal(size, 256);
    check_bytes(data, 256);
    free(data);
    (void)close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read_to_its_end),
        cmocka_unit_test(each_failure_has_its_sentence),
        cmocka_unit_test(a_pipe_is_refused_at_once_where_it_is_not_meant),
        cmocka_unit_test(a_pipe_comes_in_pieces),
        cmocka_unit_test(a_file_that_says_nothing_of_its_size_is_read),
        cmocka_unit_test(what_is_open_is_read_from_where_it_stands),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
