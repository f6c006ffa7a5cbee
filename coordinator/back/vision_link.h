/* The vision pool: attached vision workers, Encode orders down, results up. */
#ifndef RMK_COORDINATOR_BACK_VISION_LINK_H
#define RMK_COORDINATOR_BACK_VISION_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "coordinator/back/back.h"
#include "model/grid.h"
#include "remask/cluster/v1/cluster.pb-c.h"

struct rmk_blob;
struct rmk_link;
struct rmk_visions;

/* NULL: no memory. */
struct rmk_visions *rmk_visions_create(const struct rmk_back_options *options,
                                       const struct rmk_back_hooks *hooks,
                                       struct rmk_coordinator_metrics *metrics);
void rmk_visions_destroy(struct rmk_visions *visions);

/* ---- for link.c: as in text_link.h
 * --------------------------------------------------------------------- */

enum rmk_err rmk_visions_attach(struct rmk_visions *visions, struct rmk_link *link,
                                const Remask__Cluster__V1__Hello *hello, int *out_status,
                                struct rmk_why *why);
void rmk_visions_attached(struct rmk_visions *visions, struct rmk_link *link);
enum rmk_err rmk_visions_message(struct rmk_visions *visions, struct rmk_link *link,
                                 const Remask__Cluster__V1__WorkerMessage *message,
                                 struct rmk_why *why);
void rmk_visions_gone(struct rmk_visions *visions, struct rmk_link *link);

/* ---- for perform
 * --------------------------------------------------------------------------------------- */

struct rmk_encode {
    struct rmk_request_id request;
    uint32_t item;
    const uint8_t *key; /* [RMK_DIGEST_BYTES] */
    struct rmk_blob *const *frames;
    uint32_t frame_count;
    enum rmk_image_mode mode;
    uint32_t rows;
};
/* An order for an attachment that has ended is dropped: VISION_DOWN is on its way to the engine. */
void rmk_visions_encode(struct rmk_visions *visions, uint32_t vision, uint64_t epoch,
                        const struct rmk_encode *encode);
/* Where its features are pulled; NULL: this attachment has ended. */
const char *rmk_visions_address(const struct rmk_visions *visions, uint32_t vision, uint64_t epoch);

/* ---- looking in
 * ------------------------------------------------------------------------------------------ */

struct rmk_vision_status {
    const char *name;
    const char *address;
    uint64_t epoch;
    uint64_t encoded_count;
};
uint32_t rmk_visions_max(const struct rmk_visions *visions);
/* False: nobody is at this index. */
bool rmk_visions_status(const struct rmk_visions *visions, uint32_t index,
                        struct rmk_vision_status *out_status);
uint32_t rmk_visions_up_count(const struct rmk_visions *visions);

#endif
