#include <math.h>
#include <string.h>

#include "tests/sim/sim.h"

uint64_t sim_mix(uint64_t a, uint64_t b)
{
    uint64_t z = a * 0x9E3779B97F4A7C15u + b + 0x7F4A7C15u;

    z = (z ^ (z >> 32)) * 0xD6E8FEB86659FD93u;
    z = (z ^ (z >> 32)) * 0xD6E8FEB86659FD93u;
    return z ^ (z >> 32);
}

uint32_t sim_ask_rows(const struct sim_ask *ask)
{
    return ask->prompt_rows + ask->gen_length + ask->suffix_count;
}

int32_t sim_feature(const uint8_t key[32], uint32_t row)
{
    uint64_t name;

    memcpy(&name, key, sizeof(name));
    return (int32_t)(1000 + sim_mix(name, row) % 1000000);
}

/* Features first, then text: where they stand does not matter here. */
void sim_ask_fill(const struct sim_ask *ask, int32_t *rows)
{
    uint32_t row = 0;

    for (uint32_t i = 0; i < ask->item_count; i++) {
        for (uint32_t j = 0; j < ask->items[i].rows; j++) {
            rows[row++] = sim_feature(ask->items[i].key, j);
        }
    }
    for (; row < ask->prompt_rows; row++) {
        rows[row] = (int32_t)(100 + sim_mix(ask->content, row) % 800);
    }
    for (uint32_t i = 0; i < ask->prompt_mask_count; i++) {
        rows[ask->prompt_masks[i]] = SIM_MASK;
    }
    for (uint32_t i = 0; i < ask->gen_length; i++) {
        rows[row++] = SIM_MASK;
    }
    for (uint32_t i = 0; i < ask->suffix_count; i++) {
        rows[row++] = ask->suffix[i];
    }
}

uint32_t sim_ask_kv_rows(const struct sim_ask *ask)
{
    uint32_t passes = ask->cfg_scale > 0 ? 2 : 1;

    return ask->cache.cache == RMK_CACHE_NONE ? 0 : sim_ask_rows(ask) * passes;
}

static uint64_t mix_ids(uint64_t hash, const int32_t *rows, uint32_t begin, uint32_t end)
{
    for (uint32_t i = begin; i < end; i++) {
        hash = sim_mix(hash, (uint64_t)(uint32_t)rows[i]);
    }
    return hash;
}

/* Queries of the window against its own new keys and the old ones of the others. */
static uint64_t run_window(uint64_t hash, const struct sim_ask *ask, const struct sim_pass *pass,
                           const int32_t *rows, struct sim_kept *kept)
{
    hash = sim_mix(hash, 0x57494e + ((uint64_t)pass->begin << 32 | pass->end));
    hash = mix_ids(hash, rows, pass->begin, pass->end);
    for (uint32_t i = 0; i < sim_ask_rows(ask); i++) {
        if (i < pass->begin || i >= pass->end) {
            hash = sim_mix(hash, kept->kv[i]);
        }
    }
    for (uint32_t i = pass->begin; i < pass->end; i++) {
        kept->kv[i] = sim_mix(hash, i);
    }
    return hash;
}

/* dLLM-Cache. Where the answer is not refreshed, some rows are, chosen by what was kept of it. */
static uint64_t run_feature(uint64_t hash, const struct sim_ask *ask, const struct sim_pass *pass,
                            const int32_t *rows, struct sim_kept *kept)
{
    uint32_t L = sim_ask_rows(ask);
    uint64_t ratio = (uint64_t)(pass->transfer_ratio * 1000);

    if (pass->refresh_prompt && pass->refresh_gen) {
        hash = mix_ids(hash, rows, 0, L);
        kept->featured = true;
        kept->prompt = sim_mix(hash, 1);
        kept->gen = sim_mix(hash, 2);
        return hash;
    }
    if (pass->refresh_prompt) {
        kept->prompt = sim_mix(mix_ids(hash, rows, 0, ask->prompt_rows), kept->gen);
    }
    uint64_t seen = mix_ids(sim_mix(hash, kept->prompt), rows, ask->prompt_rows, L);
    kept->gen = pass->refresh_gen ? sim_mix(seen, 3) : sim_mix(sim_mix(seen, ratio), kept->gen);
    return sim_mix(mix_ids(hash, rows, 0, L), kept->gen);
}

uint64_t sim_model_forward(const struct sim_model *model, const struct sim_ask *ask,
                           const struct sim_pass *pass, const int32_t *rows, struct sim_kept *kept,
                           uint64_t forward, uint64_t numerics_class)
{
    uint64_t hash = sim_mix(model->salt, numerics_class);
    uint64_t bits = 0;

    if (pass->kind == RMK_PLAN_WINDOW) {
        hash = run_window(hash, ask, pass, rows, kept);
    } else if (pass->kind == RMK_PLAN_FEATURE) {
        hash = run_feature(hash, ask, pass, rows, kept);
    } else {
        hash = mix_ids(hash, rows, 0, sim_ask_rows(ask));
        for (uint32_t i = 0; pass->keep && i < sim_ask_rows(ask); i++) {
            kept->kv[i] = sim_mix(hash, i);
        }
        kept->filled |= pass->keep;
    }
    hash = sim_mix(hash, forward);
    hash = sim_mix(hash, ask->seed);
    hash = sim_mix(hash, ask->golden_noise);
    memcpy(&bits, &ask->temperature, sizeof(bits));
    hash = sim_mix(hash, bits);
    bits = 0;
    memcpy(&bits, &ask->cfg_scale, sizeof(ask->cfg_scale));
    return sim_mix(hash, bits);
}

bool sim_model_poisons(const struct sim_model *model, uint64_t forward_hash)
{
    return sim_mix(forward_hash, 0x50) % 1000 < model->poison_per_mille;
}

void sim_model_guess(const struct sim_model *model, uint64_t forward_hash, uint32_t row,
                     int32_t *out_token, double *out_confidence)
{
    uint64_t hash = sim_mix(forward_hash, 0x1000 + row);

    *out_token = (int32_t)(hash % SIM_VOCABULARY);
    if (*out_token == SIM_MASK) {
        *out_token = 0; /* only as often as the rate says */
    }
    if (sim_mix(hash, 1) % 1000 < model->mask_per_mille) {
        *out_token = SIM_MASK;
    }
    *out_confidence = (double)(1 + sim_mix(hash, 2) % model->levels) / (double)model->levels;
    if (sim_mix(hash, 3) % 1000 < model->nan_per_mille) {
        *out_confidence = sim_mix(hash, 4) % 2 ? NAN : -INFINITY;
    }
}
