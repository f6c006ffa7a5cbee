/* One text group as the coordinator sees it: which ranks are attached, and which epoch they form.
 * Pure: time and messages come in, sends go out through `struct rmk_group_out`.
 *
 *              all ranks attached, backoff over            Formed from all
 *     WAITING ────────────────────────────────► FORMING ────────────────────► UP
 *        ▲                                         │                           │
 *        └── rank lost, fault, timeout: Dissolve ──┴── rank lost, fault, dissolve: Dissolve, down
 *
 * A group lives and dies as one: whatever ends an epoch for one rank ends it for all. Survivors
 * keep their streams and weights and form the next epoch with whoever takes the lost rank's place.
 */
#ifndef RMK_COORDINATOR_BACK_GROUP_H
#define RMK_COORDINATOR_BACK_GROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/err.h"
#include "common/limits.h"

enum rmk_group_state {
    RMK_GROUP_WAITING = 0, /* for ranks, or for the backoff */
    RMK_GROUP_FORMING,
    RMK_GROUP_UP,
};

/* What the group wants done. None of these may call back into the group. */
struct rmk_group_out {
    void (*form)(void *context, uint32_t rank, uint64_t epoch, uint32_t size, uint32_t timeout_ms);
    void (*bootstrap)(void *context, uint32_t rank, uint64_t epoch, struct rmk_bytes id);
    void (*dissolve)(void *context, uint32_t rank, uint64_t epoch, const char *why);
    void (*up)(void *context, uint64_t epoch);
    void (*down)(void *context, uint64_t epoch, const char *why); /* only after an up */
};

#define RMK_GROUP_BACKOFF_MIN_US 100000u
#define RMK_GROUP_BACKOFF_MAX_US 10000000u
#define RMK_BOOTSTRAP_BYTES_MAX  4096u

struct rmk_group {
    const struct rmk_group_out *out;
    void *context;
    uint64_t
        *epochs; /* the last epoch given to anybody: epochs grow over all groups and attachments */
    uint32_t form_timeout_ms;
    uint32_t size;
    uint32_t present_count;
    uint32_t formed_count;
    enum rmk_group_state state;
    uint64_t epoch;         /* of FORMING or UP */
    uint64_t form_due_us;   /* FORMING: give up then */
    uint64_t not_before_us; /* WAITING: form no sooner */
    uint32_t failure_count; /* epochs ended since the group last did a plan */
    bool bootstrapped;
    bool present[RMK_TP_RANKS_MAX];
    bool formed[RMK_TP_RANKS_MAX];
};

void rmk_group_init(struct rmk_group *group, uint32_t size, uint32_t form_timeout_ms,
                    uint64_t *epochs, const struct rmk_group_out *out, void *context);

/* `rank` < size and not present: the caller has checked the Hello. */
void rmk_group_join(struct rmk_group *group, uint32_t rank, uint64_t now_us);
void rmk_group_leave(struct rmk_group *group, uint32_t rank, uint64_t now_us, const char *why);

/* Messages of a rank. Another epoch than the present one: late, ignored. RMK_EINVAL: the rank
 * breaks the protocol, the caller should end its stream. */
enum rmk_err rmk_group_bootstrap(struct rmk_group *group, uint32_t rank, uint64_t epoch,
                                 struct rmk_bytes id, struct rmk_why *why);
enum rmk_err rmk_group_formed(struct rmk_group *group, uint32_t rank, uint64_t epoch,
                              struct rmk_why *why);
void rmk_group_fault(struct rmk_group *group, uint64_t epoch, uint64_t now_us, const char *why);

/* The group answered a plan: what went wrong before is forgotten. */
void rmk_group_worked(struct rmk_group *group);

/* Form or give up when it is time to. */
void rmk_group_tick(struct rmk_group *group, uint64_t now_us);
/* When tick has something to do; 0: nothing is waited for. */
uint64_t rmk_group_due_us(const struct rmk_group *group);

/* "waiting for ranks", "forming", "up" */
const char *rmk_group_state_name(enum rmk_group_state state);

#endif
