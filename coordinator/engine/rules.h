/* Commit rules: which of a forward's guesses become tokens. A table of pure functions; sources in
 * docs/internals/decoding.md. In the library with denoise.c, so that a worker can run the same
 * code.
 */
#ifndef RMK_COORDINATOR_ENGINE_RULES_H
#define RMK_COORDINATOR_ENGINE_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/limits.h"
#include "coordinator/engine/denoise.h"

enum {
    RMK_RULE_COUNT = RMK_RULE_LOCAL_LEAP + 1,
    RMK_RULE_GUESSES_MAX = RMK_GEN_LENGTH_MAX + RMK_PROMPT_MASKS_MAX,
};

/* What a rule may look at besides the guesses. */
struct rmk_rule_step {
    uint32_t block_masks; /* masks the block began with */
    uint32_t steps_per_block;
    uint32_t step; /* of this block, from 0 */
};

/* `guesses` come in ascending order of position, at most RMK_RULE_GUESSES_MAX. Moves those that
 * commit to the front, the most confident first, and says how many they are; the order of the rest
 * means nothing. What is not finite never commits. */
typedef uint32_t (*rmk_rule_fn)(struct rmk_guess *guesses, uint32_t count,
                                const struct rmk_rule_options *options,
                                const struct rmk_rule_step *step);

struct rmk_rule_entry {
    const char *name;
    bool scheduled; /* a block ends with its steps; otherwise when a forward adds nothing to it */
    rmk_rule_fn commit;
};

extern const struct rmk_rule_entry rmk_rules[RMK_RULE_COUNT];

#endif
