/* Rectangles of checkpoint files on their way to a device, read by several threads.
 *
 *     plan     pieces in the order they are added, cut into blocks of at most one part
 *     readers  threads that read blocks (pread), each into the part it was given
 *     caller   gives out parts in order, and sends each block to the device when it is in
 *
 * A device with memory of its own (ops->load_begin) has a ring of pinned parts, from which copies
 * run behind our back; so a part is given out again only a few blocks after it was sent. Memory of
 * the host is read into where it belongs. The order of blocks never depends on which thread was
 * faster.
 */
#ifndef RMK_WORKER_TEXT_LOAD_H
#define RMK_WORKER_TEXT_LOAD_H

#include <stdint.h>

#include "kernels/kernels.h"

enum {
    RMK_LOAD_PART_BYTES = 4 << 20,
    RMK_LOAD_PARTS = 24,  /* of the ring */
    RMK_LOAD_FLYING = 8,  /* parts that may still be on their way to the device */
    RMK_LOAD_READERS = 8, /* at most; pread from a page cache saturates a bus with about so many */
};

/* How far it is, over any number of plans. */
struct rmk_load_progress {
    uint64_t total_bytes;
    uint64_t done_bytes;
    uint64_t begun_us;
    uint64_t reported_us;
    uint64_t interval_us;
    void (*report)(const struct rmk_load_progress *progress, uint64_t now_us);
    void *context; /* for `report` */
};

/* Reports to the log every few seconds: `weights 43 % of 15.2 GB, 5.1 GB/s`. */
void rmk_load_progress_init(struct rmk_load_progress *progress, uint64_t total_bytes);

/* What the log says. */
void rmk_load_progress_describe(const struct rmk_load_progress *progress, uint64_t now_us,
                                char *out, size_t capacity);

/* Rows of one tensor to dense memory. Strings are kept until the plan's end, not copied. */
struct rmk_load_piece {
    const char *path;
    char tensor[128];
    uint64_t offset;    /* in the file, of the first row's first byte */
    uint64_t pitch;     /* bytes from one row to the next */
    uint64_t row_bytes; /* of them wanted */
    uint64_t row_count;
    enum rmk_dtype dtype;        /* in the file */
    enum rmk_dtype target_dtype; /* the same on devices of the host */
    void *target;                /* device memory */
};

struct rmk_load;

/* part_bytes: 0: RMK_LOAD_PART_BYTES. progress: may be NULL. */
enum rmk_err rmk_load_create(struct rmk_device *device, size_t part_bytes,
                             struct rmk_load_progress *progress, struct rmk_load **out_load,
                             struct rmk_why *why);
void rmk_load_destroy(struct rmk_load *load);

enum rmk_err rmk_load_add(struct rmk_load *load, const struct rmk_load_piece *piece,
                          struct rmk_why *why);

/* Everything that was added, and forget it. The device may still be copying when it returns, out of
 * memory of its own. RMK_EIO and RMK_ECORRUPT (the file has become shorter) name file and tensor.
 */
enum rmk_err rmk_load_run(struct rmk_load *load, struct rmk_why *why);

#endif
