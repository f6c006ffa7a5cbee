/* One picture or video at the door: header → size → grid → prompt rows, and the keys that name its
 * bytes and its features. Pixels are not decoded here.
 */
#ifndef RMK_COORDINATOR_FRONT_INTAKE_MEDIA_H
#define RMK_COORDINATOR_FRONT_INTAKE_MEDIA_H

#include "common/err.h"
#include "coordinator/engine/engine.h"
#include "model/grid.h"

struct rmk_ask_media;
struct rmk_served;

/* Check medium number `index` of `picture_count` pictures and count its rows; `mode` as the request
 * says, ignored for a video. Hashes the bytes: the blobs' digests are set.
 *
 * Errors: RMK_EINVAL (names the medium and what is wrong with it), RMK_ELIMIT (no memory).
 */
enum rmk_err rmk_intake_media_plan(const struct rmk_served *served,
                                   const struct rmk_ask_media *media, uint32_t index,
                                   uint32_t picture_count, enum rmk_image_mode mode,
                                   struct rmk_item *out_item, enum rmk_image_mode *out_mode,
                                   struct rmk_why *why);

#endif
