/* cli/wire.c: texts with NULs in packed messages, and messages that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cli/wire.h"
#include "remask/v1/remask.pb-c.h"

static const uint32_t result_text[] = {4, 2};

static void a_text_with_a_nul_is_seen_whole(void **state)
{
    /* GenerateEvent{result: {request_id: "r", text: "a\0b"}} */
    static const uint8_t message[] = {0x22, 8, 0x0a, 1, 'r', 0x12, 3, 'a', 0, 'b'};
    struct rmk_bytes text = rmk_wire_find(rmk_bytes_of(message, sizeof(message)), result_text, 2);

    (void)state;
    assert_int_equal(text.size, 3);
    assert_memory_equal(text.data, "a\0b", 3);
}

static void a_text_is_found_among_fields_of_all_kinds(void **state)
{
    int32_t ids[] = {1, -200, 70000};
    Remask__V1__Usage usage = REMASK__V1__USAGE__INIT;
    Remask__V1__GenerateResult result = REMASK__V1__GENERATE_RESULT__INIT;
    Remask__V1__GenerateEvent event = REMASK__V1__GENERATE_EVENT__INIT;
    uint8_t packed[256];

    (void)state;
    usage.total_us = UINT64_MAX;
    usage.numerics = "cpu/F32/tp2";
    result.request_id = "r-1";
    result.text = "A red square.";
    result.n_ids = 3;
    result.ids = ids;
    result.usage = &usage;
    event.kind_case = REMASK__V1__GENERATE_EVENT__KIND_RESULT;
    event.result = &result;
    assert_true(remask__v1__generate_event__get_packed_size(&event) <= sizeof(packed));
    size_t size = remask__v1__generate_event__pack(&event, packed);
    struct rmk_bytes text = rmk_wire_find(rmk_bytes_of(packed, size), result_text, 2);
    assert_int_equal(text.size, 13);
    assert_memory_equal(text.data, "A red square.", 13);
}

static void the_last_of_several_counts(void **state)
{
    static const uint8_t message[] = {0x0a, 1, 'a', 0x08, 0x96, 0x01, 0x0a, 2, 'b', 'c'};
    static const uint32_t field[] = {1};
    struct rmk_bytes text = rmk_wire_find(rmk_bytes_of(message, sizeof(message)), field, 1);

    (void)state;
    /* Field 1 as a number in between counts as an occurrence without bytes, and is followed by
     * another. */
    assert_int_equal(text.size, 2);
    assert_memory_equal(text.data, "bc", 2);
}

static void broken_messages_hold_nothing(void **state)
{
    static const uint8_t broken[][6] = {
        {0x22, 200, 1},                       /* longer than what is there */
        {0x22, 0xff, 0xff, 0xff, 0xff, 0xff}, /* a length without end */
        {0x23, 0, 0, 0, 0, 0},                /* a group */
        {0x21, 1, 2, 3, 4, 5},                /* eight bytes wanted */
        {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, /* a tag without end */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        struct rmk_bytes text = rmk_wire_find(rmk_bytes_of(broken[i], 6), result_text, 2);
        assert_int_equal(text.size, 0);
    }
    assert_int_equal(rmk_wire_find(rmk_bytes_of(NULL, 0), result_text, 2).size, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_with_a_nul_is_seen_whole),
        cmocka_unit_test(a_text_is_found_among_fields_of_all_kinds),
        cmocka_unit_test(the_last_of_several_counts),
        cmocka_unit_test(broken_messages_hold_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
