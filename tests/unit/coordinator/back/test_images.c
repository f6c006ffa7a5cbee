#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/back/images.h"

static struct rmk_blob *put(struct rmk_images *images, const char *text)
{
    size_t size = strlen(text);
    uint8_t *data = malloc(size + 1);
    struct rmk_blob *blob = NULL;

    assert_non_null(data);
    memcpy(data, text, size);
    assert_int_equal(rmk_images_reserve(images, 0, data, size, &blob, NULL), RMK_OK);
    assert_int_equal(rmk_digest_of(blob->bytes, blob->digest, NULL), RMK_OK);
    return blob;
}

static void a_published_blob_is_found_until_its_last_reference_goes(void **state)
{
    struct rmk_images *images = rmk_images_create(1000);
    struct rmk_blob *blob = put(images, "picture");
    uint8_t digest[RMK_DIGEST_BYTES];

    (void)state;
    memcpy(digest, blob->digest, sizeof(digest));
    assert_null(rmk_images_find(images, digest));
    blob = rmk_images_publish(blob);
    assert_ptr_equal(rmk_images_find(images, digest), blob);
    (void)rmk_blob_ref(blob);
    rmk_blob_unref(blob);
    assert_non_null(rmk_images_find(images, digest));
    rmk_blob_unref(blob);
    assert_null(rmk_images_find(images, digest));
    assert_int_equal(rmk_images_bytes(images), 0);
    rmk_images_destroy(images);
}

static void equal_bytes_are_kept_once(void **state)
{
    struct rmk_images *images = rmk_images_create(1000);
    struct rmk_blob *first = rmk_images_publish(put(images, "same"));
    struct rmk_blob *second = rmk_images_publish(put(images, "same"));

    (void)state;
    assert_ptr_equal(first, second);
    assert_int_equal(rmk_images_count(images), 1);
    assert_int_equal(rmk_images_bytes(images), 4);
    rmk_blob_unref(first);
    assert_int_equal(rmk_images_count(images), 1);
    rmk_blob_unref(second);
    rmk_images_destroy(images);
}

static void a_full_store_refuses_with_numbers_and_takes_again_when_there_is_room(void **state)
{
    struct rmk_images *images = rmk_images_create(10);
    struct rmk_blob *first = put(images, "12345678");
    struct rmk_blob *second = NULL;
    struct rmk_why why = {0};

    (void)state;
    assert_int_equal(rmk_images_reserve(images, 0, malloc(3), 3, &second, &why), RMK_ELIMIT);
    assert_null(second);
    assert_non_null(strstr(why.text, "8 bytes"));
    assert_non_null(strstr(why.text, "10"));
    rmk_blob_unref(first);
    assert_int_equal(rmk_images_reserve(images, 0, malloc(3), 3, &second, &why), RMK_OK);
    rmk_blob_unref(second);
    rmk_images_destroy(images);
}

static void many_blobs_share_buckets_without_being_confused(void **state)
{
    enum { COUNT = 10000 };
    struct rmk_images *images = rmk_images_create(1 << 20);
    struct rmk_blob **blobs = calloc(COUNT, sizeof(struct rmk_blob *));

    (void)state;
    for (int i = 0; i < COUNT; i++) {
        char text[16];

        (void)snprintf(text, sizeof(text), "%d", i);
        blobs[i] = rmk_images_publish(put(images, text));
    }
    for (int i = 0; i < COUNT; i += 2) {
        rmk_blob_unref(blobs[i]);
    }
    for (int i = 1; i < COUNT; i += 2) {
        assert_ptr_equal(rmk_images_find(images, blobs[i]->digest), blobs[i]);
    }
    for (int i = 1; i < COUNT; i += 2) {
        rmk_blob_unref(blobs[i]);
    }
    free(blobs);
    rmk_images_destroy(images);
}

static enum rmk_err reserve(struct rmk_images *images, uint32_t tenant, size_t size,
                            struct rmk_blob **out_blob)
{
    return rmk_images_reserve(images, tenant, malloc(size), size, out_blob, NULL);
}

static void no_tenant_has_the_whole_store(void **state)
{
    struct rmk_images *images = rmk_images_create(80);
    struct rmk_blob *blobs[8];
    struct rmk_blob *none = NULL;

    (void)state;
    for (uint32_t i = 0; i < 7; i++) {
        assert_int_equal(reserve(images, 1, 10, &blobs[i]), RMK_OK);
    }
    assert_int_equal(reserve(images, 1, 10, &none), RMK_ELIMIT);
    assert_int_equal(reserve(images, 2, 10, &blobs[7]), RMK_OK); /* all that is left: its first */
    rmk_blob_unref(blobs[0]);
    assert_int_equal(reserve(images, 2, 10, &none), RMK_ELIMIT);
    rmk_blob_unref(blobs[1]);
    rmk_blob_unref(blobs[2]);
    assert_int_equal(reserve(images, 1, 10, &blobs[0]), RMK_OK); /* what it has given back counts */
    assert_int_equal(reserve(images, 0, 10, &blobs[1]),
                     RMK_OK); /* who has no name may have it all */
    assert_int_equal(reserve(images, 0, 10, &blobs[2]), RMK_OK);
    assert_null(none);
    for (uint32_t i = 0; i < 8; i++) {
        rmk_blob_unref(blobs[i]);
    }
    rmk_images_destroy(images);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_tenant_has_the_whole_store),
        cmocka_unit_test(a_published_blob_is_found_until_its_last_reference_goes),
        cmocka_unit_test(equal_bytes_are_kept_once),
        cmocka_unit_test(a_full_store_refuses_with_numbers_and_takes_again_when_there_is_room),
        cmocka_unit_test(many_blobs_share_buckets_without_being_confused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
