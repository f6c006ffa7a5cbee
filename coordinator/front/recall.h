/* Request ids as idempotency keys: what is under way by each id, and the last answers given. Every
 * tenant has ids of its own.
 *
 *     NEW ── begin ──► LIVE ── end with an answer ──► FINISHED ── pushed out by newer ones ──► NEW
 *                        └──── end without ─────────────────────────────────────────────────► NEW
 */
#ifndef RMK_COORDINATOR_FRONT_RECALL_H
#define RMK_COORDINATOR_FRONT_RECALL_H

#include <stdint.h>

#include "common/digest.h"
#include "common/err.h"

struct rmk_recall;
struct rmk_request;
struct rmk_result;

enum rmk_recalled {
    RMK_RECALLED_NEW = 0,
    RMK_RECALLED_LIVE,     /* *out_request */
    RMK_RECALLED_FINISHED, /* *out_result, borrowed */
    RMK_RECALLED_OTHER,    /* the id is taken by other contents */
};

/* NULL: no memory. */
struct rmk_recall *rmk_recall_create(uint32_t live_max, uint32_t finished_max);
/* Takes NULL. */
void rmk_recall_destroy(struct rmk_recall *recall);

enum rmk_recalled rmk_recall_look(const struct rmk_recall *recall, uint32_t tenant, const char *id,
                                  const uint8_t contents[RMK_DIGEST_BYTES],
                                  struct rmk_request **out_request, struct rmk_result **out_result);

/* `id` is NEW. Errors: RMK_ELIMIT. */
enum rmk_err rmk_recall_begin(struct rmk_recall *recall, uint32_t tenant, const char *id,
                              const uint8_t contents[RMK_DIGEST_BYTES], struct rmk_request *request,
                              struct rmk_why *why);

/* `id` is LIVE. `result` (a reference is taken) is kept while it is among the newest; NULL: nothing
 * to keep, asking again begins anew. */
void rmk_recall_end(struct rmk_recall *recall, uint32_t tenant, const char *id,
                    struct rmk_result *result);

#endif
