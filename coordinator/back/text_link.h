/* Text groups: attached ranks by group name, epochs through back/group, plans down and results up,
 * features to rank 0. What a rank sends is checked here against the plan under way; deeper code
 * trusts it.
 */
#ifndef RMK_COORDINATOR_BACK_TEXT_LINK_H
#define RMK_COORDINATOR_BACK_TEXT_LINK_H

#include <stdint.h>

#include "common/bytes.h"
#include "common/err.h"
#include "coordinator/back/back.h"
#include "coordinator/back/group.h"
#include "remask/cluster/v1/cluster.pb-c.h"

struct rmk_link;
struct rmk_links;
struct rmk_texts;

/* NULL: no memory. */
struct rmk_texts *rmk_texts_create(struct rmk_links *links, const struct rmk_back_options *options,
                                   const struct rmk_back_hooks *hooks,
                                   struct rmk_coordinator_metrics *metrics, uint64_t *epochs);
void rmk_texts_destroy(struct rmk_texts *texts);

/* ---- for link.c
 * ------------------------------------------------------------------------------------ */

/* Refusals have a status and a sentence; nothing is changed then. */
enum rmk_err rmk_texts_attach(struct rmk_texts *texts, struct rmk_link *link,
                              const Remask__Cluster__V1__Hello *hello, int *out_status,
                              struct rmk_why *why);
/* After Welcome: the rank takes its place, and its group may form. */
void rmk_texts_attached(struct rmk_texts *texts, struct rmk_link *link, uint64_t now_us);
/* RMK_EINVAL: the rank breaks the protocol; the link ends it. */
enum rmk_err rmk_texts_message(struct rmk_texts *texts, struct rmk_link *link,
                               const Remask__Cluster__V1__WorkerMessage *message, uint64_t now_us,
                               struct rmk_why *why);
void rmk_texts_gone(struct rmk_texts *texts, struct rmk_link *link, uint64_t now_us,
                    const char *why);
void rmk_texts_tick(struct rmk_texts *texts, uint64_t now_us);
uint64_t rmk_texts_due_us(const struct rmk_texts *texts); /* 0: never */

/* ---- for perform: orders for an epoch that has ended are dropped
 * ------------------------------------- */

/* `intakes` [plan->row_count]: what each row's request asked for. */
void rmk_texts_run(struct rmk_texts *texts, const struct rmk_plan *plan,
                   const struct rmk_intake *const *intakes);

struct rmk_prefetch {
    struct rmk_request_id request;
    uint32_t item;
    const uint8_t *key; /* [RMK_DIGEST_BYTES] */
    const char *address;
    uint64_t vision_epoch;
    uint32_t rows;
};
void rmk_texts_prefetch(struct rmk_texts *texts, uint32_t group, uint64_t epoch,
                        const struct rmk_prefetch *prefetch);
void rmk_texts_forget(struct rmk_texts *texts, uint32_t group, uint64_t epoch,
                      struct rmk_request_id request);
void rmk_texts_dissolve(struct rmk_texts *texts, uint32_t group, uint64_t epoch, const char *why);

/* ---- looking in
 * -------------------------------------------------------------------------------------- */

/* The most that any attached group takes; all 0 while none is attached. */
struct rmk_text_limits {
    uint32_t rows_max;
    uint32_t step_rows_max;
    uint32_t reads_max;
    uint32_t kv_rows_max;      /* 0: no caches */
    uint32_t feature_rows_max; /* of these, for the feature cache; 0: none */
};
void rmk_texts_limits(const struct rmk_texts *texts, struct rmk_text_limits *out_limits);

struct rmk_text_status {
    const char *name;
    enum rmk_group_state state;
    uint64_t epoch;
    uint32_t size;
    const char *rank_names[RMK_TP_RANKS_MAX]; /* NULL: not attached */
    const char *numerics;
    uint64_t round_count;
};
uint32_t rmk_texts_count(const struct rmk_texts *texts);
/* False: no group has this index. */
bool rmk_texts_status(const struct rmk_texts *texts, uint32_t index,
                      struct rmk_text_status *out_status);
/* "backend/dtype/tp" of a group, "" when there is none. */
const char *rmk_texts_numerics(const struct rmk_texts *texts, uint32_t index);
uint32_t rmk_texts_up_count(const struct rmk_texts *texts);

#endif
