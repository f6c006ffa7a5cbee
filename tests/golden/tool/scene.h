/* What scenes and prompts share. */
#ifndef RMK_TESTS_GOLDEN_SCENE_H
#define RMK_TESTS_GOLDEN_SCENE_H

#include <stdbool.h>

#include <jansson.h>

#include "common/err.h"
#include "model/spec.h"
#include "model/tokenizer.h"
#include "tests/golden/tool/cases.h"
#include "tests/golden/tool/group.h"

/* True when the messages (or, where there are none, the prompt) give exactly these ids, and the
 * messages this prompt. */
bool golden_prompt(const struct rmk_tokenizer *tokenizer, const json_t *messages,
                   const json_t *prompt, const json_t *ids, struct rmk_why *why);

/* A scene that is loaded: its prompt's pieces as the runner takes them. */
struct scene {
    const char *name;
    const json_t *json;
    const struct rmk_spec *spec;
    const struct rmk_tokenizer *tokenizer;
    struct group *group;
    struct rmk_layout *layout;
    uint32_t layout_count;
    uint32_t prompt_rows;
    uint32_t *prompt_masks; /* rows of the prompt that hold the mask token */
    uint32_t prompt_mask_count;
};

/* Replay one recorded generation. */
void golden_run(struct report *report, const struct scene *scene, const json_t *run);

#endif
