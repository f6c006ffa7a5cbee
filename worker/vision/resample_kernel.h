/* The two inner loops of rmk_resample and their variants. All variants give the same bytes. */
#ifndef RMK_WORKER_VISION_RESAMPLE_KERNEL_H
#define RMK_WORKER_VISION_RESAMPLE_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "worker/vision/resample.h"

enum {
    RMK_RESAMPLE_BITS = 22, /* fraction of a fixed-point weight */
    RMK_RESAMPLE_GROUP = 8, /* taps are padded with zero weights to a multiple of this */
};

/* The weights of one axis: output i is the sum over t < tap_count[i] of source[first[i] + t] *
 * weights[i][t]. */
struct rmk_resample_axis {
    uint32_t count;
    uint32_t tap_stride;  /* taps per output after padding */
    uint32_t *first;      /* [count] */
    uint32_t *tap_count;  /* [count], before padding */
    int32_t *weights;     /* [count, tap_stride]; |weight| < 2^23 */
    uint32_t word_stride; /* words per output */
    uint32_t *words;      /* [count, word_stride]: the weights as the variant wants them */
};

struct rmk_resample_kernel {
    const char *name;
    uint32_t group_words; /* words that a group of taps packs into */

    void (*pack)(const int32_t weights[RMK_RESAMPLE_GROUP], uint32_t *out_words);

    /* Outputs begin..end-1 of one row of RGB pixels. Reads up to RMK_PICTURE_SLACK bytes past the
     * last tap. */
    void (*across)(const struct rmk_resample_axis *axis, const uint8_t *row, uint32_t begin,
                   uint32_t end, uint8_t *out);

    /* Output `index`: `size` bytes from rows[0 .. tap_count padded to a group), each readable
     * RMK_PICTURE_SLACK bytes past its end. */
    void (*down)(const struct rmk_resample_axis *axis, uint32_t index, const uint8_t *const *rows,
                 size_t size, uint8_t *out);
};

/* NULL where this processor (or this compiler's target) lacks the instructions. */
const struct rmk_resample_kernel *rmk_resample_kernel_scalar(void);
const struct rmk_resample_kernel *rmk_resample_kernel_avx2(void);
const struct rmk_resample_kernel *rmk_resample_kernel_avx512(void);

/* rmk_resample by a given variant. */
enum rmk_err rmk_resample_with(const struct rmk_resample_kernel *kernel,
                               const struct rmk_canvas *canvas, struct rmk_size target,
                               struct rmk_window window, uint8_t *out, size_t out_stride,
                               struct rmk_why *why);

/* A sum of products to a byte. */
static inline uint8_t rmk_resample_clip(int32_t sum)
{
    int32_t value = (sum + (1 << (RMK_RESAMPLE_BITS - 1))) >> RMK_RESAMPLE_BITS;

    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

#endif
