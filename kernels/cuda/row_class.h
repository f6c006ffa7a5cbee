/* Which number of rows the algorithm of a product is chosen for; C and C++.
 *
 * Batch invariant: one for every number of rows, so that a row's sums do not depend on what rides
 * along; it is chosen for a prompt's thousand, with tiles that leave a GPU nearly idle when a block
 * step has 32 rows. By rows: one for block steps of a request or two, one for those of several, and
 * the same as ever above that, which then may also split k where one sum in turn leaves too few
 * tiles. Two numbers of rows of one class meet the same algorithm. */
#ifndef RMK_KERNELS_CUDA_ROW_CLASS_H
#define RMK_KERNELS_CUDA_ROW_CLASS_H

#include <stdbool.h>
#include <stdint.h>

#define RMK_ROW_CLASSES 3
#define RMK_ROW_CLASS_ROWS                                                                         \
    {                                                                                              \
        64, 256, 1024                                                                              \
    } /* the last also serves what is above it */
#define RMK_ROW_CLASS_WHOLE (RMK_ROW_CLASSES - 1)

/* The class of a product of `rows` rows, below RMK_ROW_CLASSES. */
static inline uint32_t rmk_row_class(uint32_t rows, bool by_rows)
{
    const uint32_t most[RMK_ROW_CLASSES] = RMK_ROW_CLASS_ROWS;
    uint32_t found = by_rows ? 0 : RMK_ROW_CLASS_WHOLE;

    while (found < RMK_ROW_CLASS_WHOLE && rows > most[found]) {
        found++;
    }
    return found;
}

/* The number of rows that its algorithm is chosen for. */
static inline uint32_t rmk_row_class_rows(uint32_t row_class)
{
    const uint32_t most[RMK_ROW_CLASSES] = RMK_ROW_CLASS_ROWS;

    return most[row_class];
}

#endif
