/* Which tensors a model must have, and whether a checkpoint has them (reference specification,
 * section 2). */
#ifndef RMK_CLI_CHECK_TENSORS_H
#define RMK_CLI_CHECK_TENSORS_H

#include <stdint.h>

#include "common/err.h"

struct rmk_checkpoint;
struct rmk_spec;

enum { RMK_TENSOR_FAULTS_MAX = 20 };

struct rmk_tensor_faults {
    uint32_t checked;
    uint32_t count; /* of which the first RMK_TENSOR_FAULTS_MAX have a sentence */
    struct rmk_why sentences[RMK_TENSOR_FAULTS_MAX];
};

void rmk_check_language(const struct rmk_spec *spec, const struct rmk_checkpoint *checkpoint,
                        struct rmk_tensor_faults *faults);
/* `checkpoint`: the one that holds the tower, which is the model's own or a separate SigLIP2
 * folder. */
void rmk_check_tower(const struct rmk_spec *spec, const struct rmk_checkpoint *checkpoint,
                     struct rmk_tensor_faults *faults);
void rmk_check_projector(const struct rmk_spec *spec, const struct rmk_checkpoint *checkpoint,
                         struct rmk_tensor_faults *faults);

/* The prefix of the tower's tensors in `checkpoint`, NULL when it has none. */
const char *rmk_check_tower_prefix(const struct rmk_checkpoint *checkpoint);

#endif
