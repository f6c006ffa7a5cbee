#include "common/rpc/pack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "grpc/health/v1/health.pb-c.h"
#include "remask/v1/remask.pb-c.h"

#define REQUEST (&remask__v1__generate_request__descriptor)

static enum rmk_err unpack(const void *data, size_t size, struct rmk_why *why)
{
    ProtobufCMessage *message = NULL;
    enum rmk_err err = rmk_unpack(REQUEST, rmk_bytes_of(data, size), &message, why);

    if (err == RMK_OK) {
        protobuf_c_message_free_unpacked(message, NULL);
    } else {
        assert_null(message);
    }
    return err;
}

/* A request with two messages; the second's second part has this text. */
static uint8_t *request_with(const char *text, size_t *out_size)
{
    Remask__V1__Part parts[2] = {REMASK__V1__PART__INIT, REMASK__V1__PART__INIT};
    Remask__V1__Part *part_list[] = {&parts[0], &parts[1]};
    Remask__V1__Message messages[2] = {REMASK__V1__MESSAGE__INIT, REMASK__V1__MESSAGE__INIT};
    Remask__V1__Message *message_list[] = {&messages[0], &messages[1]};
    Remask__V1__GenerateRequest request = REMASK__V1__GENERATE_REQUEST__INIT;
    Remask__V1__Media media;
    uint8_t picture[] = {0xff, 0x00, 0xd8, 0xfe};

    remask__v1__media__init(&media);
    media.kind_case = REMASK__V1__MEDIA__KIND_IMAGE;
    media.image.data = picture; /* bytes may be anything */
    media.image.len = sizeof(picture);
    parts[0].kind_case = REMASK__V1__PART__KIND_MEDIA;
    parts[0].media = &media;
    parts[1].kind_case = REMASK__V1__PART__KIND_TEXT;
    parts[1].text = (char *)(uintptr_t)text;
    messages[1].role = (char *)(uintptr_t) "user";
    messages[1].n_parts = 2;
    messages[1].parts = part_list;
    request.n_messages = 2;
    request.messages = message_list;
    return rmk_pack(&request.base, out_size);
}

static void packed_message_unpacks_to_itself(void **state)
{
    size_t size = 0;
    uint8_t *data = request_with("caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", &size);
    ProtobufCMessage *message = NULL;

    (void)state;
    assert_int_equal(rmk_unpack(REQUEST, rmk_bytes_of(data, size), &message, NULL), RMK_OK);
    const Remask__V1__GenerateRequest *request = (const void *)message;
    assert_int_equal(request->n_messages, 2);
    assert_string_equal(request->messages[1]->parts[1]->text,
                        "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
    protobuf_c_message_free_unpacked(message, NULL);
    free(data);
}

static void invalid_utf8_is_refused_and_its_field_named(void **state)
{
    static const struct {
        const char *text;
        const char *what;
    } cases[] = {
        {"ok\xff", "byte 2"},           /* no first byte of anything */
        {"\xc0\x80", "byte 0"},         /* overlong NUL */
        {"abc\xed\xa0\x80", "byte 3"},  /* a surrogate */
        {"\xf4\x90\x80\x80", "byte 0"}, /* past U+10FFFF */
        {"end\xe2\x82", "byte 3"},      /* cut */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rmk_why why = {0};
        char sentence[128];
        size_t size = 0;
        uint8_t *data = request_with(cases[i].text, &size);
        assert_int_equal(unpack(data, size, &why), RMK_EINVAL);
        (void)snprintf(sentence, sizeof(sentence), "messages[1].parts[1].text: is no UTF-8 at %s",
                       cases[i].what);
        assert_string_equal(why.text, sentence);
        free(data);
    }
}

static void embedded_nul_is_refused(void **state)
{
    struct rmk_why why = {0};
    size_t size = 0;
    uint8_t *data = request_with("ab", &size);

    (void)state;
    uint8_t *text = memmem(data, size, "ab", 2);
    assert_non_null(text);
    text[0] = '\0'; /* protobuf-c alone would call this an empty string */
    assert_int_equal(unpack(data, size, &why), RMK_EINVAL);
    assert_string_equal(why.text, "messages[1].parts[1].text: contains a NUL byte");
    free(data);
}

static void repeated_strings_and_plain_fields_are_named(void **state)
{
    /* sampling (5) { stop (8): "a", "b", "\xff" }; then model (12): "\xff" */
    static const char stops[] = "\x2a\x09\x42\x01"
                                "a\x42\x01"
                                "b\x42\x01\xff";
    static const char model[] = "\x62\x01\xff";
    struct rmk_why why = {0};

    (void)state;
    assert_int_equal(unpack(stops, sizeof(stops) - 1, &why), RMK_EINVAL);
    assert_string_equal(why.text, "sampling.stop[2]: is no UTF-8 at byte 0");
    assert_int_equal(unpack(model, sizeof(model) - 1, &why), RMK_EINVAL);
    assert_string_equal(why.text, "model: is no UTF-8 at byte 0");
}

static void malformed_bytes_are_refused(void **state)
{
    static const struct {
        const char *data;
        size_t size;
    } cases[] = {
        {"\x0a", 1},                                              /* a length is missing */
        {"\x0a\x05hell", 6},                                      /* shorter than it says */
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12}, /* a varint that never ends */
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11},     /* 2^64 - 1 bytes */
        {"\x00\x01", 2},                                          /* field number 0 */
        {"\x0b\x0c", 2},                                          /* a group */
        {"\x0f", 1},                                              /* wire type 7 */
        {"\x0d\x01\x02", 3},                                      /* half a fixed32 */
        {"\x09\x01\x02", 3},                                      /* part of a fixed64 */
        {"\x12\x02\x0a\x05", 4}, /* a message whose string leaves it */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rmk_why why = {0};
        assert_int_equal(unpack(cases[i].data, cases[i].size, &why), RMK_EINVAL);
        assert_true(why.text[0] != '\0');
    }
}

static void wrong_wire_type_of_a_known_field_is_refused(void **state)
{
    struct rmk_why why = {0};

    (void)state;
    assert_int_equal(unpack("\x08\x01", 2, &why), RMK_EINVAL); /* request_id as a number */
    assert_string_equal(why.text, "message: is no remask.v1.GenerateRequest");
}

static void unknown_fields_are_skipped(void **state)
{
    (void)state;
    assert_int_equal(unpack("\xf8\x07\x05\xfa\x07\x01\xff", 7, NULL), RMK_OK);
    assert_int_equal(unpack(NULL, 0, NULL), RMK_OK); /* the empty message */
}

static void cut_anywhere_it_does_not_crash(void **state)
{
    size_t size = 0;
    uint8_t *data = request_with("some text", &size);

    (void)state;
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *copy = malloc(cut > 0 ? cut : 1); /* exact, so that ASan sees a byte too far */
        memcpy(copy, data, cut);
        (void)unpack(copy, cut, NULL);
        free(copy);
    }
    free(data);
}

static void message_of_millions_of_empty_parts_hits_the_memory_bound(void **state)
{
    struct rmk_why why = {0};
    size_t size = 8u << 20;
    uint8_t *data = malloc(size);

    (void)state;
    assert_non_null(data);
    for (size_t i = 0; i < size; i += 2) {
        data[i] = 0x12; /* messages (2), of no bytes: some hundred bytes of memory each */
        data[i + 1] = 0;
    }
    assert_int_equal(unpack(data, size, &why), RMK_ELIMIT);
    assert_non_null(strstr(why.text, "too many small parts"));
    free(data);
}

static void large_picture_stays_within_the_memory_bound(void **state)
{
    size_t size = 0;
    Remask__V1__GenerateRequest request = REMASK__V1__GENERATE_REQUEST__INIT;
    Remask__V1__Media media;
    Remask__V1__Media *list[] = {&media};

    (void)state;
    remask__v1__media__init(&media);
    media.kind_case = REMASK__V1__MEDIA__KIND_IMAGE;
    media.image.len = 20u << 20;
    media.image.data = calloc(1, media.image.len);
    request.n_media = 1;
    request.media = list;
    uint8_t *data = rmk_pack(&request.base, &size);
    assert_int_equal(unpack(data, size, NULL), RMK_OK);
    free(data);
    free(media.image.data);
}

/* A message type that contains itself, which ours do not. */
static void nesting_is_bounded(void **state)
{
    ProtobufCMessageDescriptor nested = grpc__health__v1__health_check_request__descriptor;
    ProtobufCFieldDescriptor field = nested.fields[0];
    struct rmk_why why = {0};
    uint8_t data[2 * 60];

    (void)state;
    field.type = PROTOBUF_C_TYPE_MESSAGE;
    field.descriptor = &nested;
    nested.fields = &field;
    for (size_t at = 0; at < sizeof(data); at += 2) { /* each field holds all that follows it */
        data[at] = 0x0a;
        data[at + 1] = (uint8_t)(sizeof(data) - at - 2);
    }
    assert_int_equal(rmk_pack_check(&nested, rmk_bytes_of(data, sizeof(data)), &why), RMK_ELIMIT);
    assert_non_null(strstr(why.text, "nested deeper than 16 messages"));
    size_t allowed = 2 * (RMK_PACK_DEPTH_MAX - 1);
    assert_int_equal(
        rmk_pack_check(&nested, rmk_bytes_of(data + sizeof(data) - allowed, allowed), &why),
        RMK_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_message_unpacks_to_itself),
        cmocka_unit_test(invalid_utf8_is_refused_and_its_field_named),
        cmocka_unit_test(embedded_nul_is_refused),
        cmocka_unit_test(repeated_strings_and_plain_fields_are_named),
        cmocka_unit_test(malformed_bytes_are_refused),
        cmocka_unit_test(wrong_wire_type_of_a_known_field_is_refused),
        cmocka_unit_test(unknown_fields_are_skipped),
        cmocka_unit_test(cut_anywhere_it_does_not_crash),
        cmocka_unit_test(message_of_millions_of_empty_parts_hits_the_memory_bound),
        cmocka_unit_test(large_picture_stays_within_the_memory_bound),
        cmocka_unit_test(nesting_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
