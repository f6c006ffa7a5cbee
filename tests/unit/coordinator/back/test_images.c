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
    assert_int_equal(rmk_images_reserve(images, data, size, &blob, NULL), RMK_OK);
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
    assert_int_equal(rmk_images_reserve(images, malloc(3), 3, &second, &why), RMK_ELIMIT);
    assert_null(second);
    assert_non_null(strstr(why.text, "8 bytes"));
    assert_non_null(strstr(why.text, "10"));
    rmk_blob_unref(first);
    assert_int_equal(rmk_images_reserve(images, malloc(3), 3, &second, &why), RMK_OK);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_published_blob_is_found_until_its_last_reference_goes),
        cmocka_unit_test(equal_bytes_are_kept_once),
        cmocka_unit_test(a_full_store_refuses_with_numbers_and_takes_again_when_there_is_room),
        cmocka_unit_test(many_blobs_share_buckets_without_being_confused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
