/* model/manifest.c: sums that fit, sums that do not, and lists that lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/manifest.h"

/* Of "abc" and of nothing: FIPS 180-4's examples. */
#define ABC   "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/remask-manifest-XXXXXX");
    return mkdtemp(dir) == NULL;
}

static int remove_dir(void **state)
{
    char command[128];

    (void)state;
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    return system(command);
}

static void write_text(const char *name, const char *text)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

static void gives(const char *list, enum rmk_err wanted, const char *sentence)
{
    struct rmk_why why = {0};

    write_text("SHA256SUMS", list);
    enum rmk_err err = rmk_manifest_verify(dir, &why);
    if (err != wanted || strstr(why.text, sentence) == NULL) {
        fail_msg("wanted %s with '%s', got %s with '%s'", rmk_err_name(wanted), sentence,
                 rmk_err_name(err), why.text);
    }
}

static void sums_that_fit_are_accepted(void **state)
{
    (void)state;
    write_text("model.safetensors", "abc");
    write_text("config.json", "");
    write_text("notes.txt", "whatever"); /* no weights: need not be listed */
    gives(ABC "  model.safetensors\n" EMPTY " *config.json", RMK_OK, "");
}

static void another_byte_is_noticed(void **state)
{
    (void)state;
    write_text("model.safetensors", "abd");
    gives(ABC "  model.safetensors\n", RMK_ECORRUPT, "SHA256SUMS: model.safetensors has SHA-256 ");
}

static void missing_and_unlisted_files_are_named(void **state)
{
    struct rmk_why why = {0};

    (void)state;
    assert_int_equal(rmk_manifest_verify(dir, &why), RMK_ENOTFOUND);
    gives(ABC "  model.safetensors\n", RMK_ENOTFOUND, "model.safetensors: there is no such file");
    write_text("model.safetensors", "abc");
    write_text("extra.safetensors", "abc");
    gives(ABC "  model.safetensors\n", RMK_ECORRUPT, "extra.safetensors is not listed");
}

static void a_list_that_is_none_is_refused(void **state)
{
    char path[128];

    (void)state;
    gives("hello\n", RMK_ECORRUPT, "line 1 is no sum and name");
    gives("\n", RMK_ECORRUPT, "line 1");
    gives(ABC "\n", RMK_ECORRUPT, "line 1");
    gives(ABC "  \n", RMK_ECORRUPT, "line 1");
    gives(ABC "0 name\n", RMK_ECORRUPT, "line 1");
    gives(ABC "  ../../etc/passwd\n", RMK_EINVAL, "../../etc/passwd is not a plain name");
    gives(ABC "  ..\n", RMK_EINVAL, "not a plain name");
    (void)snprintf(path, sizeof(path), "%s/pipe", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    gives(ABC "  pipe\n", RMK_EINVAL, "pipe: not a regular file");
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIR(sums_that_fit_are_accepted),
        IN_DIR(another_byte_is_noticed),
        IN_DIR(missing_and_unlisted_files_are_named),
        IN_DIR(a_list_that_is_none_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
