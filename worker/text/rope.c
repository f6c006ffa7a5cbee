#include "worker/text/rope.h"

#include <math.h>
#include <stddef.h>

bool rmk_rope_is_stretched(const struct rmk_text_spec *spec, uint32_t total_rows)
{
    return spec->rope_scaling == RMK_ROPE_DYNAMIC && total_rows > spec->max_positions;
}

/* NTK: the base grows with the length. Computed afresh for every sequence; the reference keeps the
 * enlarged base for later, shorter ones. */
static double base_of(const struct rmk_text_spec *spec, uint32_t total_rows)
{
    double factor = spec->rope_factor;
    double width = (double)spec->head_width;

    if (!rmk_rope_is_stretched(spec, total_rows)) {
        return spec->rope_theta;
    }
    double stretch = factor * (double)total_rows / (double)spec->max_positions - (factor - 1);
    return spec->rope_theta * pow(stretch, width / (width - 2));
}

/* Frequency `i` of Dh/2. The exponent is rounded to fp32 before the power, the power before the
 * division. */
static float frequency_of(double base, uint32_t i, uint32_t head_width)
{
    float exponent = (float)(2 * i) / (float)head_width;
    float power = (float)pow(base, (double)exponent);

    return 1.0f / power;
}

void rmk_rope_frequencies(const struct rmk_text_spec *spec, uint32_t total_rows, float *out)
{
    double base = base_of(spec, total_rows);

    for (uint32_t i = 0; i < spec->head_width / 2; i++) {
        out[i] = frequency_of(base, i, spec->head_width);
    }
}

void rmk_rope_tables(const struct rmk_text_spec *spec, uint32_t total_rows, uint32_t begin,
                     uint32_t count, float *cos_out, float *sin_out)
{
    double base = base_of(spec, total_rows);
    size_t half = spec->head_width / 2;

    for (uint32_t i = 0; i < half; i++) {
        float frequency = frequency_of(base, i, spec->head_width);
        for (size_t row = 0; row < count; row++) {
            float position = (float)(begin + row);
            if (spec->rope_scaling == RMK_ROPE_LINEAR) {
                position /= (float)spec->rope_factor;
            }
            float angle = position * frequency;
            cos_out[row * half + i] = (float)cos((double)angle);
            sin_out[row * half + i] = (float)sin((double)angle);
        }
    }
}
