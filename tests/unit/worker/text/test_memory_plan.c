#include "worker/text/memory_plan.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "tests/support/dummy_model.h"
#include "worker/text/runner.h"

/* LLaDA-V 8B: 32 layers of width 4096, 32 heads of 128, feed-forward 12288, 126464 tokens. */
static const struct rmk_text_spec llada_8b = {
    .layer_count = 32,
    .width = 4096,
    .head_count = 32,
    .kv_head_count = 32,
    .head_width = 128,
    .ff_width = 12288,
    .vocab_rows = 126464,
    .vocab = 126464,
    .max_positions = 16384,
    .rms_eps = 1e-5f,
    .rope_theta = 500000.0,
    .rope_factor = 1.0,
};

static const struct rmk_memory_ask one_h200 = {
    .text = &llada_8b,
    .act = RMK_BF16,
    .stored = RMK_BF16,
    .cuda = true,
    .rank = 0,
    .size = 1,
    .slot_count = 4,
    .rows_max = 4096,
    .step_rows_max = 8192,
    .reads_max = 4096,
    .kv_rows_max = 4 * 4096,
    .free_bytes = UINT64_C(140000000000),
};

static void the_8b_model_takes_what_the_hand_arithmetic_says(void **state)
{
    struct rmk_memory_plan plan = rmk_memory_plan_make(&one_h200);

    (void)state;
    /* A layer: 4 x 4096 x 4096 + 3 x 4096 x 12288 = 218103808; 32 of them 6979321856. Table and
     * head: 126464 x 4096 = 517996544 each. Two bytes a weight: 16030629888. Norms: 65 x 4096 x 4 =
     * 1064960. */
    assert_int_equal(plan.weights_bytes, UINT64_C(16030629888) + 1064960);
    /* 2 x 32 x 4096 x 2 = 524288 a row (the roofline's 0.5 MiB), 16384 rows: 8 GiB. */
    assert_int_equal(plan.kv_bytes, UINT64_C(8) << 30);
    /* A row: 2 x 4096 x 4 (x, delta) + 2 x (4096 + 2 x 4096 + 4 x 4096 + 3 x 12288) = 163840;
     * 8192 rows. */
    assert_int_equal(plan.activations_bytes, UINT64_C(163840) * 8192);
    /* Four slots of 4096 x 4096 x 4 = 67108864; cos and sin: 2 x 4096 x 64 x 4 = 2097152; the
     * mask's row 16384; 8192 head rows of 4096 x (4 + 4 + 2) = 335544320; 256 updates: 4194304. */
    assert_int_equal(plan.slots_bytes,
                     UINT64_C(4) * 67108864 + 2097152 + 16384 + 335544320 + 4194304);
    assert_int_equal(plan.features_bytes, 0);
    /* 32 MiB staging, 32 MiB workspace, 512 MiB of the driver, 2 x 256 x 16384 x 4 of logits, 4096
     * results. */
    assert_int_equal(plan.kernels_bytes, (UINT64_C(576) << 20) + (UINT64_C(32) << 20) +
                                             4096 * sizeof(struct rmk_head_result));
    assert_int_equal(plan.total_bytes, plan.weights_bytes + plan.kv_bytes + plan.activations_bytes +
                                           plan.slots_bytes + plan.kernels_bytes);
    /* A slot: 64 MiB of rows and 2 GiB of keys and values = 2214592512; left for slots:
     * 140000000000 - 16031694848 - 341852160 - 1342177280 - kernels: 54 times. */
    const uint64_t left =
        UINT64_C(140000000000) - 16031694848 - 341852160 - 1342177280 - plan.kernels_bytes;
    assert_int_equal(plan.slots_that_fit, left / UINT64_C(2214592512));
    assert_int_equal(plan.slots_that_fit, 54);
}

static void ranks_share_the_8b_model_and_uneven_cuts_are_counted(void **state)
{
    struct rmk_memory_ask ask = one_h200;
    uint64_t products = 0;

    (void)state;
    ask.size = 2;
    struct rmk_memory_plan half = rmk_memory_plan_make(&ask);
    /* Norms are not cut. */
    assert_int_equal(half.weights_bytes, UINT64_C(16030629888) / 2 + 1064960);
    assert_int_equal(half.kv_bytes, UINT64_C(4) << 30);
    ask.size = 3; /* 32 heads in 11 + 11 + 10 */
    for (ask.rank = 0; ask.rank < 3; ask.rank++) {
        products += rmk_memory_plan_make(&ask).weights_bytes - 1064960;
    }
    assert_int_equal(products, UINT64_C(16030629888));
}

static void a_model_that_does_not_fit_leaves_no_slot(void **state)
{
    struct rmk_memory_ask ask = one_h200;
    char line[512];

    (void)state;
    ask.free_bytes = UINT64_C(16000000000);
    struct rmk_memory_plan plan = rmk_memory_plan_make(&ask);
    assert_int_equal(plan.slots_that_fit, 0);
    assert_true(plan.total_bytes > plan.free_bytes);
    rmk_memory_plan_describe(&plan, line, sizeof(line));
    assert_non_null(strstr(line, "weights 15289.0 MiB"));
    assert_non_null(strstr(line, "keys and values 8192.0 MiB"));
    assert_non_null(strstr(line, "0 slots would fit"));
}

static void ranks_on_one_gpu_divide_what_it_has(void **state)
{
    struct rmk_memory_ask ask = one_h200;
    char line[512];

    (void)state;
    /* A quarter of 80 GiB is 20 GiB; of four ranks each has 5 GiB: at a quarter of the heads, so
     * 131072 bytes a row, 40960 rows for each. */
    assert_int_equal(rmk_memory_plan_cache_bytes(UINT64_C(80) << 30, 1), UINT64_C(20) << 30);
    assert_int_equal(rmk_memory_plan_cache_bytes(UINT64_C(80) << 30, 4), UINT64_C(5) << 30);
    assert_int_equal(rmk_memory_plan_cache_bytes(UINT64_C(80) << 30, 4) / 131072, 40960);

    /* Two ranks on a GPU of 140 GB: 70 GB are ours even while all of it is free. A slot of half the
     * heads: 64 MiB of rows and 1 GiB of keys and values = 1140850688. Weights 8016379904; step
     * 341852160; activations 4 x 2 x 4096 + 2 x (4096 + (2 + 4) x 2048 + 3 x 6144) = 102400 a row,
     * 8192 rows = 838860800. */
    ask.size = 2;
    ask.sharers = 2;
    ask.memory_bytes = UINT64_C(140000000000);
    struct rmk_memory_plan plan = rmk_memory_plan_make(&ask);
    assert_int_equal(plan.free_bytes, UINT64_C(70000000000));
    assert_int_equal(plan.activations_bytes, 838860800);
    const uint64_t left =
        UINT64_C(70000000000) - 8016379904 - 341852160 - 838860800 - plan.kernels_bytes;
    assert_int_equal(plan.slots_that_fit, left / UINT64_C(1140850688));
    assert_int_equal(plan.slots_that_fit, 52);
    rmk_memory_plan_describe(&plan, line, sizeof(line));
    assert_non_null(strstr(line, "of 66757.2 MiB free (the share of 1 rank of 2), 52 slots"));
    /* What others hold already counts, too, and alone nobody shares. */
    ask.free_bytes = UINT64_C(50000000000);
    assert_int_equal(rmk_memory_plan_make(&ask).free_bytes, ask.free_bytes);
    ask.sharers = 1;
    ask.free_bytes = UINT64_C(90000000000);
    plan = rmk_memory_plan_make(&ask);
    assert_int_equal(plan.free_bytes, ask.free_bytes);
    rmk_memory_plan_describe(&plan, line, sizeof(line));
    assert_null(strstr(line, "share"));
}

/* -- against what a runner takes
 * --------------------------------------------------------------------- */

static uint64_t taken_bytes;
static const struct rmk_ops *real_ops;

static enum rmk_err counted_alloc(struct rmk_device *device, size_t bytes, void **out,
                                  struct rmk_why *why)
{
    taken_bytes += bytes;
    return real_ops->alloc(device, bytes, out, why);
}

static enum rmk_err counted_linear(struct rmk_device *device,
                                   const struct rmk_linear_source *source, struct rmk_linear **out,
                                   struct rmk_why *why)
{
    taken_bytes += (uint64_t)source->n * source->k * sizeof(float);
    taken_bytes += source->bias_host != NULL ? source->n * sizeof(float) : 0;
    return real_ops->linear_create(device, source, out, why);
}

static void the_plan_is_what_a_runner_takes(void **state)
{
    const struct rmk_device_options options = {.backend = "ref", .act = RMK_F32};
    struct rmk_spec spec = dummy_spec();
    struct rmk_device *device = NULL;
    struct rmk_runner *runner = NULL;

    (void)state;
    assert_int_equal(rmk_device_create(&options, &device, NULL), RMK_OK);
    struct rmk_ops counting = *device->ops;
    real_ops = device->ops;
    counting.alloc = counted_alloc;
    counting.linear_create = counted_linear;
    device->ops = &counting;
    for (uint32_t size = 1; size <= 3; size++) {
        for (uint32_t rank = 0; rank < size; rank++) {
            for (int dynamic = 0; dynamic < 2; dynamic++) {
                spec.text.rope_scaling = dynamic == 1 ? RMK_ROPE_DYNAMIC : RMK_ROPE_NONE;
                spec.text.max_positions = dynamic == 1 ? 16 : 2048;
                const struct rmk_runner_options wanted = {.spec = &spec,
                                                          .device = device,
                                                          .rank = rank,
                                                          .size = size,
                                                          .slot_count = 3,
                                                          .rows_max = 40,
                                                          .step_rows_max = 100,
                                                          .reads_max = 9,
                                                          .load_dummy = true,
                                                          .dummy_seed = DUMMY_SEED};
                const struct rmk_memory_ask ask = {.text = &spec.text,
                                                   .act = RMK_F32,
                                                   .stored = RMK_BF16,
                                                   .rank = rank,
                                                   .size = size,
                                                   .slot_count = 3,
                                                   .rows_max = 40,
                                                   .step_rows_max = 100,
                                                   .reads_max = 9,
                                                   .free_bytes = 1 << 30};
                taken_bytes = 0;
                assert_int_equal(rmk_runner_create(&wanted, &runner, NULL), RMK_OK);
                assert_int_equal(rmk_memory_plan_make(&ask).total_bytes, taken_bytes);
                rmk_runner_destroy(runner);
            }
        }
    }
    device->ops = real_ops;
    rmk_device_destroy(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_8b_model_takes_what_the_hand_arithmetic_says),
        cmocka_unit_test(ranks_share_the_8b_model_and_uneven_cuts_are_counted),
        cmocka_unit_test(a_model_that_does_not_fit_leaves_no_slot),
        cmocka_unit_test(ranks_on_one_gpu_divide_what_it_has),
        cmocka_unit_test(the_plan_is_what_a_runner_takes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
