/* Encodings that the published LLaDA-V tokenizer is known to give (reference specification,
 * section 4.1). They tell it from a stand-in, and a wrong pre-tokenizer or a damaged file from the
 * real one. */
#ifndef RMK_MODEL_KNOWN_ANSWERS_H
#define RMK_MODEL_KNOWN_ANSWERS_H

#include <stdint.h>

#include "common/err.h"

struct rmk_tokenizer;

/* Encode every known text. *out_failed is how many gave other ids; when it is not 0, `why` tells of
 * the first. Errors: RMK_ECORRUPT (some failed), RMK_ELIMIT. */
enum rmk_err rmk_tokenizer_known_answers(const struct rmk_tokenizer *tokenizer,
                                         uint32_t *out_failed, struct rmk_why *why);

/* How many texts there are. */
uint32_t rmk_tokenizer_known_answer_count(void);

#endif
