#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "coordinator/served.h"

/* The demo model's configuration without its weights, as links into it. */
static const char *const files[] = {"config.json", "tokenizer.json", "vision"};
enum { FILE_COUNT = sizeof(files) / sizeof(files[0]) };

static void place(char *out, size_t capacity, const char *dir, const char *file)
{
    (void)snprintf(out, capacity, "%s/%s", dir, file);
}

static void a_model_without_weights_is_served_only_where_weights_are_dummies(void **state)
{
    char dir[] = "/tmp/remask-served-XXXXXX";
    char here[512];
    char source[1024];
    char target[1024];
    struct rmk_model_data *model = NULL;
    struct rmk_why why = {0};
    static const uint8_t zeros[RMK_DIGEST_BYTES];

    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_non_null(getcwd(here, sizeof(here) - sizeof("/models/demo")));
    (void)strcat(here, "/models/demo");
    for (int i = 0; i < FILE_COUNT; i++) {
        place(source, sizeof(source), here, files[i]);
        place(target, sizeof(target), dir, files[i]);
        assert_int_equal(symlink(source, target), 0);
    }

    assert_int_equal(rmk_model_data_create(dir, NULL, NULL, NULL, false, &model, &why),
                     RMK_ENOTFOUND);
    assert_null(model);
    assert_non_null(strstr(why.text, dir));
    assert_int_equal(rmk_model_data_create(dir, NULL, NULL, NULL, true, &model, &why), RMK_OK);
    assert_memory_equal(model->served.digest, zeros, sizeof(zeros)); /* what such workers say */
    rmk_model_data_destroy(model);

    for (int i = 0; i < FILE_COUNT; i++) {
        place(target, sizeof(target), dir, files[i]);
        assert_int_equal(unlink(target), 0);
    }
    assert_int_equal(rmdir(dir), 0);
}

static void a_served_checkpoint_has_a_digest_and_its_folders_name(void **state)
{
    struct rmk_model_data *model = NULL;
    static const uint8_t zeros[RMK_DIGEST_BYTES];

    (void)state;
    assert_int_equal(rmk_model_data_create("models/demo", NULL, NULL, NULL, false, &model, NULL),
                     RMK_OK);
    assert_memory_not_equal(model->served.digest, zeros, sizeof(zeros));
    assert_string_equal(model->served.name, "demo");
    rmk_model_data_destroy(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_without_weights_is_served_only_where_weights_are_dummies),
        cmocka_unit_test(a_served_checkpoint_has_a_digest_and_its_folders_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
