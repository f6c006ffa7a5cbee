#include "coordinator/engine/denoise.h"

#include <stddef.h>

#include "common/err.h"
#include "common/prng.h"

uint32_t rmk_denoise_quota(uint32_t masks, uint32_t steps, uint32_t step)
{
    rmk_assert(steps > 0);
    return masks / steps + (step < masks % steps ? 1 : 0);
}

/* True also for negative numbers; false for NaN and both infinities. No libm: the test must not
 * change with flags. */
static bool is_finite(double value)
{
    return value - value == 0;
}

/* A total order, since no two guesses of a request share a position: finite first, confident first,
 * low position first. */
static bool comes_before(const struct rmk_guess *a, const struct rmk_guess *b)
{
    bool a_finite = is_finite(a->confidence);
    bool b_finite = is_finite(b->confidence);

    if (a_finite != b_finite) {
        return a_finite;
    }
    if (a_finite && a->confidence != b->confidence) {
        return a->confidence > b->confidence;
    }
    return a->position < b->position;
}

/* Let guesses[root] sink in the heap guesses[0 .. count) whose top is the one that comes last. */
static void sink(struct rmk_guess *guesses, uint32_t root, uint32_t count)
{
    struct rmk_guess moved = guesses[root];

    while (2 * root + 1 < count) {
        uint32_t child = 2 * root + 1;
        if (child + 1 < count && comes_before(&guesses[child], &guesses[child + 1])) {
            child++;
        }
        if (!comes_before(&moved, &guesses[child])) {
            break;
        }
        guesses[root] = guesses[child];
        root = child;
    }
    guesses[root] = moved;
}

/* Heapsort: in place, no allocation (qsort may allocate), n log n whatever a worker sends. */
static void sort(struct rmk_guess *guesses, uint32_t count)
{
    for (uint32_t root = count / 2; root > 0; root--) {
        sink(guesses, root - 1, count);
    }
    for (uint32_t last = count; last > 1; last--) {
        struct rmk_guess top = guesses[0];
        guesses[0] = guesses[last - 1];
        guesses[last - 1] = top;
        sink(guesses, 0, last - 1);
    }
}

uint32_t rmk_denoise_select(struct rmk_guess *guesses, uint32_t count, uint32_t quota)
{
    uint32_t finite = 0;

    sort(guesses, count);
    while (finite < count && finite < quota && is_finite(guesses[finite].confidence)) {
        finite++;
    }
    return finite;
}

double rmk_denoise_random(uint64_t seed, uint64_t forward, uint32_t total_rows, uint32_t row,
                          bool golden)
{
    if (golden) {
        uint64_t index = forward * total_rows + row;
        return (double)rmk_prng_unit24(rmk_prng_splitmix(seed ^ 0xD1B54A32D192ED03u, index));
    }
    /* Ours: one round of mixing for each of seed, forward and row, so that neither streams of
     * neighbouring seeds nor rows of neighbouring forwards overlap, and the length of the suffix
     * changes nothing. */
    uint64_t bits = rmk_prng_mix(seed ^ 0x52656D61736B5244u);
    bits = rmk_prng_splitmix(bits, forward);
    bits = rmk_prng_splitmix(bits, row);
    return rmk_prng_unit53(bits);
}

/* First start where the whole stop lies in the canvas; gen_length when there is none. */
static uint32_t find_stop(const int32_t *canvas, uint32_t gen_length, const struct rmk_stop *stop)
{
    for (uint32_t start = 0; start + stop->count <= gen_length; start++) {
        uint32_t same = 0;
        while (same < stop->count && canvas[start + same] == stop->ids[same]) {
            same++;
        }
        if (same == stop->count) {
            return start;
        }
    }
    return gen_length;
}

void rmk_denoise_scan_stops(const int32_t *canvas, uint32_t gen_length,
                            const struct rmk_stop *stops, uint32_t stop_count, bool *found,
                            uint32_t *stop_position)
{
    for (uint32_t i = 0; i < stop_count; i++) {
        uint32_t start = find_stop(canvas, gen_length, &stops[i]);
        if (start < gen_length && (!*found || start < *stop_position)) {
            *stop_position = start;
            *found = true;
        }
        if (*found) {
            break;
        }
    }
}
