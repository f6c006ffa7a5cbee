/* Features on their way into a group: text rank 0 pulls what the coordinator announced from vision
 * workers and keeps it until the plan that opens the request takes it. Nothing unannounced is
 * accepted, and the bytes are bounded: the size of a pull is known from the announcement, and it
 * waits for its turn while there is no room.
 *
 *     Prefetch ──► Features.Pull (≤ 4 MB chunks) ──► checked, finite ──► resident ──► taken by the
 * opening plan
 */
#ifndef RMK_WORKER_TEXT_STAGING_H
#define RMK_WORKER_TEXT_STAGING_H

#include <stdint.h>

#include "common/bytes.h"
#include "common/err.h"
#include "common/rpc/rpc.h"

struct rmk_staging;

struct rmk_staging_item {
    uint64_t epoch; /* of the group */
    uint64_t request;
    uint32_t item;
    uint8_t key[32];
    uint64_t vision_epoch;
    uint32_t rows;
    uint32_t width;
};

struct rmk_staging_events {
    void (*on_resident)(void *context, const struct rmk_staging_item *item, uint64_t pull_us);
    void (*on_failed)(void *context, const struct rmk_staging_item *item, enum rmk_err err,
                      const char *why);
};

/* `width`: D of this model; announcements of another width fail. */
enum rmk_err rmk_staging_create(struct rmk_rpc *rpc, const struct rmk_rpc_options *options,
                                uint32_t width, uint64_t bytes_max,
                                const struct rmk_staging_events *events, void *context,
                                struct rmk_staging **out_staging, struct rmk_why *why);
/* No callback comes after it. Takes NULL. */
void rmk_staging_destroy(struct rmk_staging *staging);

/* Pull from `address`, once there is room; the answer is an event, which may come inside this call,
 * or that of an earlier one. All items of a request come one after the other. The same request and
 * item again replaces what was there. */
void rmk_staging_prefetch(struct rmk_staging *staging, const struct rmk_staging_item *item,
                          const char *address);

/* Resident rows [rows, width], the caller's now (free); NULL when they are not here. */
float *rmk_staging_take(struct rmk_staging *staging, uint64_t request, uint32_t item,
                        uint32_t rows);

void rmk_staging_forget(struct rmk_staging *staging, uint64_t request);
void rmk_staging_clear(struct rmk_staging *staging);

#endif
