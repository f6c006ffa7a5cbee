/* GenerateRequest → struct rmk_ask: what is repeated is counted before anything is allocated for
 * it, picture bytes change owner without a copy, strings stay where protobuf put them.
 */
#ifndef RMK_COORDINATOR_FRONT_GRPC_ASK_H
#define RMK_COORDINATOR_FRONT_GRPC_ASK_H

#include "common/err.h"
#include "remask/v1/remask.pb-c.h"

struct rmk_ask;
struct rmk_images;

/* Takes `request`, on failure too. `tenant`: who holds the pictures. `wire_bytes`: what it was
 * unpacked from; what is no picture of it is kept until intake has looked at it, so it is bounded
 * here. Errors: RMK_EINVAL (names the field), RMK_ELIMIT (the store of pictures is full). */
enum rmk_err rmk_grpc_ask(struct rmk_images *images, uint32_t tenant,
                          Remask__V1__GenerateRequest *request, size_t wire_bytes,
                          struct rmk_ask **out_ask, struct rmk_why *why);

#endif
