#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "kernels/kernels.h"

static enum rmk_err create(const char *backend, enum rmk_dtype act, struct rmk_why *why)
{
    struct rmk_device *device = NULL;
    struct rmk_device_options options = {.backend = backend, .act = act, .threads = 1};
    enum rmk_err err = rmk_device_create(&options, &device, why);

    assert_true((err == RMK_OK) == (device != NULL));
    rmk_device_destroy(device);
    return err;
}

static void device_refuses_what_it_has_not_and_says_which(void **state)
{
    struct rmk_why why = {0};

    (void)state;
    assert_int_equal(create("tpu", RMK_F32, &why), RMK_EINVAL);
    assert_non_null(strstr(why.text, "'tpu'"));
    assert_int_equal(create(NULL, RMK_F32, &why), RMK_EINVAL);
    assert_int_equal(create("ref", RMK_BF16, &why), RMK_EINVAL);
    assert_non_null(strstr(why.text, "f32"));
    assert_int_equal(create("cpu", RMK_F16, &why), RMK_EINVAL);
    assert_non_null(strstr(why.text, "bf16"));
    rmk_device_destroy(NULL);
}

static void device_refuses_an_unknown_instruction_set(void **state)
{
    struct rmk_why why = {0};
    const char *before = getenv("RMK_CPU_ISA");
    char *kept = before != NULL ? strdup(before) : NULL;

    (void)state;
    assert_int_equal(setenv("RMK_CPU_ISA", "mmx", 1), 0);
    assert_int_equal(create("cpu", RMK_F32, &why), RMK_EINVAL);
    assert_non_null(strstr(why.text, "mmx"));
    if (kept != NULL) {
        assert_int_equal(setenv("RMK_CPU_ISA", kept, 1), 0);
    } else {
        assert_int_equal(unsetenv("RMK_CPU_ISA"), 0);
    }
    free(kept);
}

static void device_describes_itself_and_the_memory(void **state)
{
    static const char *const backends[] = {"ref", "cpu"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct rmk_device *device = NULL;
        struct rmk_device_options options = {.backend = backends[i], .act = RMK_F32, .threads = 3};
        assert_int_equal(rmk_device_create(&options, &device, NULL), RMK_OK);
        assert_string_equal(device->info.backend, backends[i]);
        assert_non_null(strstr(device->info.description, i == 0 ? "1 thread" : "3 threads"));
        assert_true(device->info.memory_bytes > 0);
        assert_true(device->info.memory_free_bytes <= device->info.memory_bytes);
        rmk_device_destroy(device);
    }
}

static void memory_is_aligned_and_zeroed_and_too_much_is_refused(void **state)
{
    struct rmk_device *device = NULL;
    struct rmk_device_options options = {.backend = "cpu", .act = RMK_F32, .threads = 1};
    struct rmk_why why = {0};
    void *memory = NULL;

    (void)state;
    assert_int_equal(rmk_device_create(&options, &device, NULL), RMK_OK);
    for (size_t bytes = 0; bytes < 10000000; bytes = bytes * 3 + 1) {
        assert_int_equal(device->ops->alloc(device, bytes, &memory, &why), RMK_OK);
        assert_int_equal((uintptr_t)memory % 64, 0);
        for (size_t i = 0; i < bytes; i++) {
            assert_int_equal(((const char *)memory)[i], 0);
        }
        device->ops->free(device, memory);
    }
    memory = NULL;
    assert_int_equal(device->ops->alloc(device, SIZE_MAX, &memory, &why), RMK_ELIMIT);
    assert_null(memory);
    rmk_device_destroy(device);
}

enum { BYTES = 200000001, PAGE_BYTES = 4096, PAGES_MAX = BYTES / PAGE_BYTES + 2 };

/* Asked of the kernel, since a bundle's tests run where no /proc is mounted. Memory that is not
 * mapped any more has none. */
static size_t resident_pages(const char *memory, size_t bytes)
{
    static unsigned char pages[PAGES_MAX];
    const uintptr_t begin = (uintptr_t)memory / PAGE_BYTES * PAGE_BYTES;
    const size_t length = (uintptr_t)memory + bytes - begin;
    size_t count = 0;

    if (mincore((void *)begin, length, pages) != 0) {
        assert_int_equal(errno, ENOMEM);
        return 0;
    }
    for (size_t i = 0; i < (length + PAGE_BYTES - 1) / PAGE_BYTES; i++) {
        count += pages[i] & 1;
    }
    return count;
}

static void large_memory_is_zeros_and_takes_none_until_it_is_touched(void **state)
{
    struct rmk_device *device = NULL;
    struct rmk_device_options options = {.backend = "cpu", .act = RMK_F32, .threads = 1};
    char *memory[2] = {0};

    (void)state;
    assert_int_equal(rmk_device_create(&options, &device, NULL), RMK_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(device->ops->alloc(device, BYTES, (void **)&memory[i], NULL), RMK_OK);
        assert_int_equal((uintptr_t)memory[i] % 64, 0);
    }
    assert_true(resident_pages(memory[0], BYTES) < PAGES_MAX / 4);
    for (size_t i = 0; i < BYTES; i += 1000) {
        assert_int_equal(memory[0][i], 0);
        memory[0][i] = 1;
    }
    memory[1][BYTES - 1] = 1;
    assert_true(resident_pages(memory[0], BYTES) > PAGES_MAX / 2);
    assert_true(resident_pages(memory[1], BYTES) < PAGES_MAX / 4);
    device->ops->free(device, memory[0]);
    device->ops->free(device, memory[1]);
    assert_int_equal(resident_pages(memory[0], BYTES), 0);
    assert_int_equal(resident_pages(memory[1], BYTES), 0);
    device->ops->free(device, NULL);
    rmk_device_destroy(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(device_refuses_what_it_has_not_and_says_which),
        cmocka_unit_test(device_refuses_an_unknown_instruction_set),
        cmocka_unit_test(device_describes_itself_and_the_memory),
        cmocka_unit_test(memory_is_aligned_and_zeroed_and_too_much_is_refused),
        cmocka_unit_test(large_memory_is_zeros_and_takes_none_until_it_is_touched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
