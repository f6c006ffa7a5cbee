/* What tests ask of the emulated runtime, by symbols of the emulated plugin. C and C++.
 *
 *     rmk_emulate_counts   calls that a step must not make, since the process began
 *     rmk_emulate_fault    an int, a cudaError_t: the next launch fails with it
 *
 * $RMK_EMULATE_FAULT names a file: the first launch that finds it removes it and fails, so that a
 * test can have a process's GPU fail at a time of its own. */
#ifndef RMK_KERNELS_CUDA_COUNTS_H
#define RMK_KERNELS_CUDA_COUNTS_H

#include <stdint.h>

struct rmk_emulate_counts {
    uint64_t allocations; /* of device or pinned memory; freeing device memory, too, which waits */
    uint64_t waits;       /* for a whole stream */
};

#endif
