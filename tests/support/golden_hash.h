/* images.json, committed or golden: pictures and the SHA-256 of what becomes of them. */
#ifndef RMK_TESTS_SUPPORT_GOLDEN_HASH_H
#define RMK_TESTS_SUPPORT_GOLDEN_HASH_H

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/digest.h"
#include "tests/support/golden_file.h"

static const char golden_committed[] = "tests/data/images";

/* A file of `folder`; the test fails when it is not there. */
static inline struct rmk_bytes golden_image(const char *folder, const char *file)
{
    char path[8192];
    size_t size = 0;

    (void)snprintf(path, sizeof(path), "%s/%s", folder, file);
    uint8_t *data = golden_load(path, &size);
    if (data == NULL) {
        fail_msg("%s cannot be read", path);
    }
    return rmk_bytes_of(data, size);
}

static inline void golden_image_free(struct rmk_bytes bytes)
{
    free((void *)bytes.data);
}

static inline void golden_expect_hash(struct rmk_bytes bytes, const json_t *wanted,
                                      const char *file, const char *what)
{
    uint8_t sum[RMK_DIGEST_BYTES];
    char text[RMK_DIGEST_HEX_BYTES];

    assert_int_equal(rmk_digest_of(bytes, sum, NULL), RMK_OK);
    rmk_digest_hex(sum, text);
    if (!json_is_string(wanted) || strcmp(text, json_string_value(wanted)) != 0) {
        fail_msg("%s: %s is %s", file, what, text);
    }
}

/* Calls `check` for each entry of images.json in `folder`. */
static inline void golden_each_image(const char *folder,
                                     void (*check)(const char *folder, const json_t *entry))
{
    char path[8192];
    size_t index;
    json_t *entry;

    (void)snprintf(path, sizeof(path), "%s/images.json", folder);
    json_t *list = json_load_file(path, 0, NULL);
    assert_true(json_array_size(list) > 20);
    json_array_foreach(list, index, entry)
    {
        check(folder, entry);
    }
    json_decref(list);
}

#endif
