/* Rotary tables: cos and sin by position, bit for bit as the official program makes them (reference
 * specification, section 8). A different rounding of the frequencies moves a cosine at position
 * 16383 by 9e-4.
 */
#ifndef RMK_WORKER_TEXT_ROPE_H
#define RMK_WORKER_TEXT_ROPE_H

#include <stdbool.h>
#include <stdint.h>

#include "model/spec.h"

/* Whether a sequence of `total_rows` rows has tables of its own (dynamic scaling beyond
 * max_positions). */
bool rmk_rope_is_stretched(const struct rmk_text_spec *spec, uint32_t total_rows);

/* out [Dh/2] of a sequence of `total_rows` rows; only dynamic scaling looks at the length. */
void rmk_rope_frequencies(const struct rmk_text_spec *spec, uint32_t total_rows, float *out);

/* cos, sin [count, Dh/2] of positions begin, begin + 1, … */
void rmk_rope_tables(const struct rmk_text_spec *spec, uint32_t total_rows, uint32_t begin,
                     uint32_t count, float *cos_out, float *sin_out);

#endif
