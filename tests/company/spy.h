/* Who sees what the head sees: a device's head, with a witness before it that computes every logit
 * of every row and keeps it, or compares it with what was kept.
 *
 * A row is known by its request's seed, its forward and its position, so it is found again whatever
 * shares its plan. One spy a rank: a rank's witness has that rank's columns.
 */
#ifndef RMK_TESTS_COMPANY_SPY_H
#define RMK_TESTS_COMPANY_SPY_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/kernels.h"

enum {
    SPY_REQUESTS_MAX = 65, /* seeds are SPY_SEED + index */
    SPY_FORWARDS_MAX = 64,
    SPY_POSITIONS_MAX = 64,
    SPY_SEED = 1000,
};

/* One row of the head, in one forward. */
struct spy_sight {
    struct rmk_head_result result;
    float *logits; /* [n]; with guidance [2 n], conditional and unconditional; NULL: not seen */
    bool again;    /* in this round of looking */
};

struct spy {
    struct rmk_device *device;
    uint32_t columns; /* of this rank's head */
    const struct rmk_ops *real;
    struct rmk_ops ops;
    bool recording; /* else: comparing */
    uint64_t compared;
    uint64_t differing;
    char first[256]; /* what differed first */
    struct spy_sight sights[SPY_REQUESTS_MAX][SPY_FORWARDS_MAX][SPY_POSITIONS_MAX];
};

/* Stands between `device` and whoever calls its head; not thread-safe, to be called before ranks
 * run. */
struct spy *spy_create(struct rmk_device *device, uint32_t columns);
void spy_destroy(struct spy *spy);

/* Begin to compare: nothing has been seen again yet. */
void spy_compare(struct spy *spy);
/* Rows seen in the recording that have not been seen again. */
uint64_t spy_missing(const struct spy *spy);

#endif
