/* What the links to workers need of the rest of the coordinator, and what they know of the model.
 * Shared by link, text_link and vision_link.
 */
#ifndef RMK_COORDINATOR_BACK_BACK_H
#define RMK_COORDINATOR_BACK_BACK_H

#include <stdint.h>

#include "common/digest.h"
#include "coordinator/engine/engine.h"

struct rmk_coordinator_metrics;
struct rmk_intake;

#define RMK_PROTOCOL_MIN 1u
#define RMK_PROTOCOL_MAX 1u

struct rmk_back_options {
    uint8_t model_digest[RMK_DIGEST_BYTES];
    uint32_t width; /* D of the model */
    uint32_t vocab; /* ids a worker may answer are below it */
    uint32_t groups_max;
    uint32_t visions_max;
    uint32_t links_max;
    uint32_t heartbeat_interval_ms;
    uint32_t heartbeat_timeout_ms;
    uint32_t hello_timeout_ms;
    uint32_t form_timeout_ms;
    uint64_t epoch_base; /* epochs start above it: later than those of any coordinator before us */
};

struct rmk_back_hooks {
    void (*post)(void *context, const struct rmk_event *event);
    /* What the engine's id names; NULL: finished meanwhile. */
    const struct rmk_intake *(*intake_of)(void *context, struct rmk_request_id id);
    /* A group is up or down, a vision worker came or went. */
    void (*changed)(void *context);
    void *context;
};

/* Ids on the wire. 0 is none, since no live request has generation 0. */
static inline uint64_t rmk_wire_of_request(struct rmk_request_id id)
{
    return (uint64_t)id.generation << 32 | id.index;
}

static inline struct rmk_request_id rmk_request_of_wire(uint64_t wire)
{
    return (struct rmk_request_id){.index = (uint32_t)wire, .generation = (uint32_t)(wire >> 32)};
}

/* A worker's error code: one of ours, and an error. */
static inline enum rmk_err rmk_err_of_wire(uint32_t wire)
{
    return wire > RMK_OK && wire <= RMK_EINTERNAL ? (enum rmk_err)wire : RMK_EINTERNAL;
}

#endif
