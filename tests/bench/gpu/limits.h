/* What the hardware allows (the roofline): time from FLOPs and bytes, and what GPUs can. */
#ifndef RMK_TESTS_BENCH_GPU_LIMITS_H
#define RMK_TESTS_BENCH_GPU_LIMITS_H

#include <stdint.h>

/* Dense 16-bit FLOP/s with fp32 sums, and bytes/s of memory. Zeros: not in the table. */
struct limits_peak {
    double flops;
    double bytes;
};

/* By a part of the device's description. */
struct limits_peak limits_peak_of(const char *description);

struct limits_text {
    double layers;
    double width;
    double ff;
    double vocab;
};

/* Seconds: `requests` with `queries` rows each over `keys` keys, `reads` rows of the head, 16-bit
 * weights and caches. Products and attention one after the other, each bound by bytes or FLOPs. */
double limits_forward(const struct limits_peak *peak, const struct limits_text *text,
                      double requests, double queries, double keys, double reads);

/* Seconds to read keys and values of `requests` once. */
double limits_cached(const struct limits_peak *peak, const struct limits_text *text,
                     double requests, double keys);

struct limits_tower {
    double layers;
    double width;
    double ff;
    double rows;      /* of a tile */
    double projected; /* width of what the projector gives */
};

double limits_tower(const struct limits_peak *peak, const struct limits_tower *tower, double tiles);

#endif
