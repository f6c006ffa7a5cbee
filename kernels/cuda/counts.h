/* Calls of the emulated runtime that a step must not make, since the process began: the emulated
 * plugin's symbol rmk_emulate_counts, for tests. C and C++. */
#ifndef RMK_KERNELS_CUDA_COUNTS_H
#define RMK_KERNELS_CUDA_COUNTS_H

#include <stdint.h>

struct rmk_emulate_counts {
    uint64_t allocations; /* of device or pinned memory; freeing device memory, too, which waits */
    uint64_t waits;       /* for a whole stream */
};

#endif
