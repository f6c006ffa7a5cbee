/* Images.Fetch from the coordinator: the bytes of one picture, checked against their digest. */
#ifndef RMK_WORKER_VISION_FETCH_H
#define RMK_WORKER_VISION_FETCH_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/rpc/rpc.h"

struct rmk_fetch;

/* Ends once, on the loop, never inside rmk_fetch_start. RMK_OK: `bytes` (malloc'ed) are the
 * callee's. RMK_ENOTFOUND: the coordinator no longer has them; RMK_ECORRUPT here means that the
 * transfer, not the picture, was damaged. */
typedef void (*rmk_fetch_done)(void *context, uint32_t index, enum rmk_err err, uint8_t *bytes,
                               size_t size, const char *why);

/* `index` comes back in `done`. NULL: no memory (done is not called). */
struct rmk_fetch *rmk_fetch_start(struct rmk_rpc_channel *channel, const uint8_t digest[32],
                                  uint32_t index, rmk_fetch_done done, void *context);

/* `done` will not be called. */
void rmk_fetch_cancel(struct rmk_fetch *fetch);

#endif
