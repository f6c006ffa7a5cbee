/* Denoising arithmetic of one request: quota schedule, commit, stop scan. Pure functions on small
 * arrays; linked into the engine and, for run-ahead, into the worker. One object file, compiled
 * without FP contraction. Source: reference specification, section 9 (LLaDA-V
 * generate_with_embeds); ours: a position whose confidence is not finite is never committed.
 */
#ifndef RMK_COORDINATOR_ENGINE_DENOISE_H
#define RMK_COORDINATOR_ENGINE_DENOISE_H

#include <stdbool.h>
#include <stdint.h>

enum rmk_remasking {
    RMK_REMASK_LOW_CONFIDENCE = 0,
    RMK_REMASK_RANDOM,
};

/* One masked position's answer from the model. */
struct rmk_guess {
    int32_t
        position; /* relative to the end of the prompt; negative: a mask token inside the prompt */
    int32_t token;
    double confidence; /* low confidence: softmax probability; random: uniform, see
                          rmk_denoise_random */
};

/* Tokens to commit in step `step` (0-based) of a block that began with `masks` masks and has
 * `steps` steps: masks/steps, and one more in the first masks%steps. */
uint32_t rmk_denoise_quota(uint32_t masks, uint32_t steps, uint32_t step);

/* Order the guesses: higher confidence first, lower position first among equals (NaN last), and
 * return how many commit: min(quota, finite guesses). The committed are guesses[0 .. returned). */
uint32_t rmk_denoise_select(struct rmk_guess *guesses, uint32_t count, uint32_t quota);

/* Uniform in [0, 1) as the confidence of random remasking; counter-based, so that a retry draws the
 * same. The golden stream: u24 of splitmix(seed ^ 0xD1B54A32D192ED03, forward * total_rows + row).
 */
double rmk_denoise_random(uint64_t seed, uint64_t forward, uint32_t total_rows, uint32_t row,
                          bool golden);

/* How many of the guesses commit in a step. One row of a table each (rules.h); defined in
 * docs/internals/engine.md. */
enum rmk_rule {
    RMK_RULE_QUOTA = 0, /* official: the block's schedule */
    RMK_RULE_THRESHOLD, /* Fast-dLLM: the best always, and all with confidence >= tau */
    RMK_RULE_FACTOR, /* Fast-dLLM: the n-th best while confidence >= 1 - factor / (n + 1), the best
                        always */
    RMK_RULE_HIERARCHICAL, /* dInfer: all > tau, the best of each contiguous run of masks if >
                              tau_low, the global best */
    RMK_RULE_LOCAL_LEAP, /* LocalLeap: the quota, then neighbours within `reach` of a pick >= kappa
                            whose confidence >= tau */
};

struct rmk_rule_options {
    enum rmk_rule rule;
    double tau;
    double factor;
    bool factor_compat; /* FACTOR: commit also the last position when it is the first to fail, as
                           the published code */
    double tau_low;
    double kappa;
    uint32_t reach;
};

struct rmk_stop {
    const int32_t *ids;
    uint32_t count; /* 0: matches at once */
};

/* Official stop scan over the generated region `canvas` [gen_length]. *found and *stop_position
 * carry over from step to step; quirk kept: once found, only stop 0 is looked at again, and a match
 * can only move the stop left. */
void rmk_denoise_scan_stops(const int32_t *canvas, uint32_t gen_length,
                            const struct rmk_stop *stops, uint32_t stop_count, bool *found,
                            uint32_t *stop_position);

#endif
