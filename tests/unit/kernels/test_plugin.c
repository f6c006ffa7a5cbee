#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/kernels.h"

static enum rmk_err create(const char *plugin, enum rmk_dtype act, uint32_t index,
                           struct rmk_device **out_device, struct rmk_why *why)
{
    const struct rmk_device_options options = {
        .backend = "cuda", .act = act, .device_index = index, .plugin = plugin};

    return rmk_device_create(&options, out_device, why);
}

static void a_missing_plugin_is_named(void **state)
{
    struct rmk_device *device = NULL;
    struct rmk_why why = {0};

    (void)state;
    assert_int_equal(create("/nowhere/libremask_cuda.so", RMK_F32, 0, &device, &why),
                     RMK_EUNAVAILABLE);
    assert_non_null(strstr(why.text, "/nowhere/libremask_cuda.so"));
    assert_null(device);
}

/* Not the test's own folder's: with or without one there, the answer is a sentence. */
static void without_a_path_the_plugin_is_looked_for_beside_the_executable(void **state)
{
    struct rmk_device *device = NULL;
    struct rmk_why why = {0};

    (void)state;
    if (create(NULL, RMK_F32, 0, &device, &why) != RMK_OK) {
        assert_non_null(strstr(why.text, "backend cuda: "));
        assert_null(device);
    }
    rmk_device_destroy(device);
}

static void a_file_that_is_no_library_or_no_plugin_is_refused(void **state)
{
    struct rmk_device *device = NULL;
    struct rmk_why why = {0};
    Dl_info info;

    (void)state;
    assert_int_equal(create("CMakeLists.txt", RMK_F32, 0, &device, &why), RMK_EUNAVAILABLE);
    assert_non_null(strstr(why.text, "does not load"));
    assert_true(dladdr(_cmocka_run_group_tests, &info) != 0); /* a library that is surely here */
    assert_int_equal(create(info.dli_fname, RMK_F32, 0, &device, &why), RMK_EUNAVAILABLE);
    assert_non_null(strstr(why.text, "is not a Remask plugin"));
}

/* Where the plugin was built: $RMK_TEST_CUDA_PLUGIN. */
static void the_plugin_says_that_there_is_no_driver(void **state)
{
    const char *plugin = getenv("RMK_TEST_CUDA_PLUGIN");
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    struct rmk_device *device = NULL;
    struct rmk_why why = {0};

    (void)state;
    assert_non_null(plugin);
    enum rmk_err err = create(plugin, RMK_BF16, 0, &device, &why);
    if (driver == NULL) {
        assert_int_equal(err, RMK_EUNAVAILABLE);
        assert_non_null(strstr(why.text, "no NVIDIA driver or no GPU here"));
    } else {
        (void)dlclose(driver);
        assert_true(err == RMK_OK || why.text[0] != '\0');
    }
    rmk_device_destroy(device);
}

/* The same door, with a device behind it: $RMK_TEST_EMULATED_PLUGIN. */
static void a_device_of_the_plugin_is_made_and_ended(void **state)
{
    const char *plugin = getenv("RMK_TEST_EMULATED_PLUGIN");
    struct rmk_device *device = NULL;
    struct rmk_why why = {0};

    (void)state;
    assert_non_null(plugin);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(create(plugin, RMK_F16, 0, &device, &why), RMK_OK);
        assert_string_equal(device->info.backend, "cuda");
        assert_int_equal(device->info.act, RMK_F16);
        rmk_device_destroy(device);
    }
    device = NULL;
    assert_int_equal(create(plugin, RMK_F32, 99, &device, &why), RMK_EUNAVAILABLE);
    assert_non_null(strstr(why.text, "there is no GPU 99"));
    assert_int_equal(create(plugin, RMK_I64, 0, &device, &why), RMK_EINVAL);
    assert_null(device);
}

/* It is part of the numerics that a worker announces. */
static void a_device_says_when_it_is_not_batch_invariant(void **state)
{
    static const struct {
        enum rmk_dtype act;
        bool by_rows;
        bool said;
    } cases[] = {{RMK_BF16, false, false}, {RMK_BF16, true, true}, {RMK_F32, true, false}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct rmk_device_options options = {.backend = "cuda",
                                                   .act = cases[i].act,
                                                   .plugin = getenv("RMK_TEST_EMULATED_PLUGIN"),
                                                   .by_rows = cases[i].by_rows};
        struct rmk_device *device = NULL;
        assert_int_equal(rmk_device_create(&options, &device, NULL), RMK_OK);
        assert_true((strstr(device->info.description, ", by rows") != NULL) == cases[i].said);
        rmk_device_destroy(device);
    }
}

/* What is refused leaves the device usable. */
static void too_much_memory_and_too_wide_heads_are_refused(void **state)
{
    const char *plugin = getenv("RMK_TEST_EMULATED_PLUGIN");
    struct rmk_device *device = NULL;
    struct rmk_why why = {0};
    void *memory = NULL;

    (void)state;
    assert_int_equal(create(plugin, RMK_F32, 0, &device, &why), RMK_OK);
    assert_int_equal(device->ops->alloc(device, SIZE_MAX / 2, &memory, &why), RMK_ELIMIT);
    assert_non_null(strstr(why.text, "has no memory for"));
    assert_null(memory);
    const struct rmk_reserve wide = {.rows_max = 1, .head_width_max = 4096};
    assert_int_equal(device->ops->reserve(device, &wide, &why), RMK_EUNSUPPORTED);
    assert_int_equal(device->ops->alloc(device, 100, &memory, &why), RMK_OK);
    uint8_t bytes[100];
    memset(bytes, 1, sizeof(bytes));
    assert_int_equal(device->ops->download(device, bytes, memory, sizeof(bytes)), RMK_OK);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        assert_int_equal(bytes[i], 0);
    }
    device->ops->free(device, memory);
    rmk_device_destroy(device);
}

static void a_fault_is_kept_with_its_sentence_and_full_memory_is_none(void **state)
{
    const char *plugin = getenv("RMK_TEST_EMULATED_PLUGIN");
    void *library = dlopen(plugin, RTLD_NOW | RTLD_LOCAL);
    struct rmk_device *device = NULL;
    struct rmk_why why = {0};
    struct rmk_why said = {.text = "step 3"};
    void *memory = NULL;

    (void)state;
    assert_non_null(library);
    int *fault = dlsym(library, "rmk_emulate_fault");
    assert_non_null(fault);
    assert_int_equal(create(plugin, RMK_F32, 0, &device, &why), RMK_OK);
    assert_int_equal(device->ops->alloc(device, 64, &memory, &why), RMK_OK);
    *fault = 2; /* cudaErrorMemoryAllocation */
    assert_int_equal(device->ops->add(device, memory, memory, 16), RMK_ELIMIT);
    assert_null(rmk_device_fault(device));
    assert_int_equal(device->ops->synchronize(device, &why), RMK_OK);
    *fault = 719; /* cudaErrorLaunchFailure */
    assert_int_equal(device->ops->add(device, memory, memory, 16), RMK_EINTERNAL);
    assert_non_null(
        strstr(rmk_device_fault(device), "GPU 0: unspecified launch failure (add_kernel)"));
    *fault = 1;
    assert_int_equal(device->ops->add(device, memory, memory, 16), RMK_EINTERNAL);
    assert_int_equal(device->ops->synchronize(device, &why), RMK_EINTERNAL);
    assert_string_equal(why.text, rmk_device_fault(device)); /* the first, not the last */
    for (int twice = 0; twice < 2; twice++) {
        rmk_device_explain(device, &said);
        assert_ptr_equal(strstr(said.text, "step 3: GPU 0: unspecified"), said.text);
        assert_int_equal(strlen(said.text), strlen("step 3: ") + strlen(why.text));
    }
    device->ops->free(device, memory);
    rmk_device_destroy(device);
    (void)dlclose(library);
}

int main(void)
{
    const struct CMUnitTest always[] = {
        cmocka_unit_test(a_missing_plugin_is_named),
        cmocka_unit_test(without_a_path_the_plugin_is_looked_for_beside_the_executable),
        cmocka_unit_test(a_file_that_is_no_library_or_no_plugin_is_refused),
    };
    const struct CMUnitTest built[] = {
        cmocka_unit_test(the_plugin_says_that_there_is_no_driver),
    };
    const struct CMUnitTest emulated[] = {
        cmocka_unit_test(a_device_of_the_plugin_is_made_and_ended),
        cmocka_unit_test(a_device_says_when_it_is_not_batch_invariant),
        cmocka_unit_test(too_much_memory_and_too_wide_heads_are_refused),
        cmocka_unit_test(a_fault_is_kept_with_its_sentence_and_full_memory_is_none),
    };
    int failures = cmocka_run_group_tests(always, NULL, NULL);

    if (getenv("RMK_TEST_CUDA_PLUGIN") != NULL) {
        failures += cmocka_run_group_tests(built, NULL, NULL);
    }
    if (getenv("RMK_TEST_EMULATED_PLUGIN") != NULL) {
        failures += cmocka_run_group_tests(emulated, NULL, NULL);
    }
    return failures;
}
