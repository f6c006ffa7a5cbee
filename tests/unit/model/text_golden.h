/* Golden text cases, shared by the tests of tokenizer and chat: the full set where the reference
 * folder is, a part of it always. */
#ifndef RMK_TESTS_UNIT_MODEL_TEXT_GOLDEN_H
#define RMK_TESTS_UNIT_MODEL_TEXT_GOLDEN_H

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/tokenizer.h"

#define TINY_TOKENIZER "tests/data/models/tiny-tokenizer/tokenizer.json"

/* A path in the reference folder, NULL when the file is not there. Valid until the next call. */
static inline const char *reference_path(const char *name)
{
    static char path[4096];
    const char *dir = getenv("RMK_REFERENCE");

    (void)snprintf(path, sizeof(path), "%s/%s", dir != NULL ? dir : "../shared/reference", name);
    return access(path, R_OK) == 0 ? path : NULL;
}

static inline struct rmk_tokenizer *load_tokenizer(const char *path)
{
    struct rmk_tokenizer *tokenizer = NULL;
    struct rmk_why why = {0};

    if (rmk_tokenizer_create(path, &tokenizer, &why) != RMK_OK) {
        fail_msg("%s", why.text);
    }
    return tokenizer;
}

/* A list of cases; at least `count_min` of them, so that an empty file does not pass. */
static inline json_t *load_cases(const char *path, size_t count_min)
{
    json_error_t error;
    json_t *cases = json_load_file(path, JSON_ALLOW_NUL, &error);

    if (cases == NULL) {
        fail_msg("%s: %s", path, error.text);
    }
    assert_true(json_array_size(cases) >= count_min);
    return cases;
}

static inline struct rmk_bytes text_of(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);

    assert_true(json_is_string(value));
    return rmk_bytes_of(json_string_value(value), json_string_length(value));
}

/* Compare with a list of numbers and say where they part. */
static inline void assert_ids(const struct rmk_ids *ids, const json_t *wanted, const char *what,
                              size_t number)
{
    assert_true(json_is_array(wanted));
    for (size_t i = 0; i < ids->count && i < json_array_size(wanted); i++) {
        long long id = json_integer_value(json_array_get(wanted, i));
        if (ids->items[i] != id) {
            fail_msg("%s, case %zu: token %zu is %d, not %lld", what, number, i, (int)ids->items[i],
                     id);
        }
    }
    if (ids->count != json_array_size(wanted)) {
        fail_msg("%s, case %zu: %zu tokens, not %zu", what, number, ids->count,
                 json_array_size(wanted));
    }
}

static inline void ids_from(const json_t *list, struct rmk_ids *ids)
{
    size_t i;
    json_t *value;

    ids->count = 0;
    json_array_foreach(list, i, value)
    {
        int32_t id = (int32_t)json_integer_value(value);
        assert_int_equal(rmk_ids_append(ids, &id, 1), RMK_OK);
    }
}

#endif
