/* What forwards cost on this device, fitted once at start: the engine budgets its rounds with it.
 */
#include "worker/text/runner.h"

#include "common/clock.h"
#include "common/least.h"
#include "worker/text/runner_state.h"

enum {
    FEW_ROWS = 4,
    MANY_ROWS = 64,
    WINDOW_ROWS = 32,
    WINDOW_EXTENT = 512,
    BUDGET_US = 300000,
};

/* A forward of rows that mean nothing, without the other ranks. */
static enum rmk_err time_forward(struct rmk_runner *runner, uint32_t rows, uint32_t kv_rows,
                                 const struct rmk_kept *kept, uint64_t *out_us, struct rmk_why *why)
{
    struct rmk_exchange alone = {.device = runner->device};
    struct rmk_segment segment = {.row_count = rows, .kv_count = kv_rows};
    const struct rmk_rotation rotation = {.cos = runner->cos, .sin = runner->sin};
    const struct rmk_llada_step step = {
        .row_count = rows,
        .positions = runner->positions,
        .segments = &segment,
        .rotations = &rotation,
        .segment_count = 1,
        .cache = &runner->cache,
        .kept = &kept,
    };
    enum rmk_err err;

    for (uint32_t i = 0; i < rows; i++) {
        runner->positions[i] = i;
    }
    RMK_TRY(runner->device->ops->synchronize(runner->device, why));
    const uint64_t begun_us = rmk_clock_us();
    RMK_TRY(rmk_llada_forward(runner->llada, &step, &alone, why));
    RMK_TRY(runner->device->ops->synchronize(runner->device, why));
    *out_us = rmk_clock_us() - begun_us;
out:
    return err;
}

/* Nanoseconds of each of `rows` rows beyond the fixed cost; at least one, since 0 is "not
 * measured". */
static uint64_t row_ns(uint64_t us, uint64_t fixed_us, uint32_t rows)
{
    uint64_t ns = us > fixed_us ? (us - fixed_us) * 1000 / rows : 0;

    return ns > 0 ? ns : 1;
}

enum rmk_err rmk_runner_measure(struct rmk_runner *runner, struct rmk_runner_cost *out_cost,
                                struct rmk_why *why)
{
    const uint32_t few = rmk_least(FEW_ROWS, runner->options.rows_max);
    const uint32_t many = rmk_least(MANY_ROWS, runner->options.rows_max);
    const uint32_t extent = rmk_least(WINDOW_EXTENT, runner->options.rows_max);
    const uint32_t window = rmk_least(WINDOW_ROWS, extent);
    struct rmk_runner_cost cost = {0};
    struct rmk_kept kept = {0};
    uint64_t few_us = 0;
    uint64_t many_us = 0;
    uint64_t window_us = 0;
    enum rmk_err err;

    RMK_TRY(time_forward(runner, few, few, NULL, &few_us, why)); /* first touch of the weights */
    if (few_us * many / few < BUDGET_US) {
        RMK_TRY(time_forward(runner, few, few, NULL, &few_us, why));
        RMK_TRY(time_forward(runner, many, many, NULL, &many_us, why));
        cost.full_row_ns = row_ns(many_us, few_us, many > few ? many - few : 1);
        uint64_t rows_us = few * cost.full_row_ns / 1000;
        cost.round_ns = row_ns(few_us, rows_us, 1);
    }
    if (cost.round_ns > 0 && rmk_cache_take(&runner->cache, extent, false, &kept, NULL) == RMK_OK) {
        RMK_TRY(time_forward(runner, window, extent, &kept, &window_us, why));
        cost.window_row_ns = row_ns(window_us, cost.round_ns / 1000, window);
    }
    *out_cost = cost;
out:
    rmk_cache_give_back(&runner->cache, &kept);
    return err;
}
