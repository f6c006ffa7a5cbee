/* What a step of the text worker asks of a GPU's runtime ($RMK_TEST_EMULATED_PLUGIN counts it): no
 * memory, and one wait, for its results. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/cuda/counts.h"
#include "tests/support/dummy_model.h"
#include "worker/text/runner.h"

enum { SLOTS = 2, ROWS_MAX = 40, PROMPT = 9, GEN = 12, READS = 4 };

static const struct rmk_emulate_counts *counts_of(const char *plugin)
{
    void *library = dlopen(plugin, RTLD_NOW | RTLD_LOCAL);
    const struct rmk_emulate_counts *counts =
        library != NULL ? dlsym(library, "rmk_emulate_counts") : NULL;

    if (counts == NULL) {
        fail_msg("%s", dlerror());
    }
    return counts;
}

static void opens(struct rmk_runner *runner, uint32_t slot)
{
    static const int32_t ids[PROMPT] = {3, 1, 4, 1, 5, 9, 2, 6, 5};
    const struct rmk_layout layout = {.ids = ids, .rows = PROMPT};
    const struct rmk_open open = {.slot = slot,
                                  .prompt_rows = PROMPT,
                                  .layout = &layout,
                                  .layout_count = 1,
                                  .gen_length = GEN,
                                  .kv = true};

    assert_int_equal(rmk_runner_open(runner, &open, NULL), RMK_OK);
}

static void a_step_allocates_nothing_and_waits_once(void **state)
{
    const char *plugin = getenv("RMK_TEST_EMULATED_PLUGIN");
    const struct rmk_device_options options = {
        .backend = "cuda", .act = RMK_BF16, .plugin = plugin};
    const struct rmk_spec spec = dummy_spec();
    const uint32_t reads[READS] = {PROMPT, PROMPT + 1, PROMPT + 3, PROMPT + 4};
    const struct rmk_update updates[2] = {{.position = PROMPT, .id = 7},
                                          {.position = PROMPT + 2, .id = 8}};
    struct rmk_device *device = NULL;
    struct rmk_runner *runner = NULL;
    struct rmk_read guesses[SLOTS * READS];
    bool poisoned[SLOTS];
    struct rmk_row rows[SLOTS];
    const struct rmk_emulate_counts *counts = counts_of(plugin);

    (void)state;
    assert_int_equal(rmk_device_create(&options, &device, NULL), RMK_OK);
    const struct rmk_runner_options wanted = {.spec = &spec,
                                              .device = device,
                                              .size = 1,
                                              .slot_count = SLOTS,
                                              .rows_max = ROWS_MAX,
                                              .step_rows_max = 4 * ROWS_MAX,
                                              .reads_max = SLOTS * READS,
                                              .kv_rows_max = SLOTS * ROWS_MAX,
                                              .load_dummy = true,
                                              .dummy_seed = DUMMY_SEED};
    assert_int_equal(rmk_runner_create(&wanted, &runner, NULL), RMK_OK);
    opens(runner, 0);
    opens(runner, 1);
    assert_true(counts->allocations > 0); /* it does count */
    for (uint32_t step = 0; step < 4; step++) {
        for (uint32_t i = 0; i < SLOTS; i++) {
            rows[i] = (struct rmk_row){.slot = i,
                                       .keep = true,
                                       .cfg_scale = step == 3 ? 0.5f : 0.0f,
                                       .updates = updates,
                                       .update_count = step > 0 ? 2 : 0,
                                       .reads = reads,
                                       .read_count = READS,
                                       .noise = RMK_NOISE_PHILOX,
                                       .temperature = 0.5,
                                       .seed = 3,
                                       .forward = step};
            rows[i].keep = rows[i].cfg_scale == 0;
            if (step == 1 || step == 2) {
                rows[i].kind = RMK_ROW_WINDOW;
                rows[i].keep = false;
                rows[i].window_begin = PROMPT;
                rows[i].window_end = PROMPT + 6;
            }
        }
        const struct rmk_emulate_counts before = *counts;
        struct rmk_why why = {0};
        if (rmk_runner_run(runner, rows, SLOTS, guesses, poisoned, &why) != RMK_OK) {
            fail_msg("step %u: %s", step, why.text);
        }
        assert_int_equal(counts->allocations, before.allocations);
        assert_int_equal(counts->waits, before.waits + 1);
    }
    rmk_runner_destroy(runner);
    rmk_device_destroy(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_allocates_nothing_and_waits_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
