/* The served model's data, loaded once at start: configuration, tokenizer, digest of the
 * checkpoint's headers. Never weights.
 */
#ifndef RMK_COORDINATOR_SERVED_H
#define RMK_COORDINATOR_SERVED_H

#include <stdbool.h>

#include "common/err.h"
#include "coordinator/front/intake.h"
#include "model/spec.h"

struct rmk_tokenizer;

struct rmk_model_data {
    struct rmk_spec spec;
    struct rmk_tokenizer *tokenizer;
    char name[256];
    struct rmk_served served; /* views of the above */
};

/* `vision_dir`, `overrides`, `name` may be NULL. `load_dummy`: there need be no weights, and only
 * workers with dummy ones fit: their digest is zeros, like theirs. Errors as rmk_spec_read,
 * rmk_tokenizer_create and rmk_checkpoint_open. */
enum rmk_err rmk_model_data_create(const char *dir, const char *vision_dir, const char *overrides,
                                   const char *name, bool load_dummy,
                                   struct rmk_model_data **out_data, struct rmk_why *why);
/* Takes NULL. */
void rmk_model_data_destroy(struct rmk_model_data *data);

#endif
