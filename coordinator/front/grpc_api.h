/* The public gRPC service remask.v1.Remask: Generate, GenerateOnce, Status. */
#ifndef RMK_COORDINATOR_FRONT_GRPC_API_H
#define RMK_COORDINATOR_FRONT_GRPC_API_H

#include <stdint.h>

#include "common/rpc/rpc.h"

struct rmk_engine;
struct rmk_images;
struct rmk_keys;
struct rmk_links;
struct rmk_requests;

#define RMK_GRPC_API_METHOD_COUNT 3

struct rmk_grpc_api {
    struct rmk_requests *requests;
    struct rmk_images *images;
    const struct rmk_engine *engine;
    struct rmk_links *links;
    const struct rmk_keys *keys; /* NULL: anybody may call */
    const char *model_name;
    uint64_t started_us;
    uint32_t stall_timeout_ms; /* a client that has read nothing for so long is cut off */
    /* "starting", "ready", "draining" */
    const char *(*state)(void *context);
    void *context;
    uint32_t call_count; /* Generate and GenerateOnce calls that have not ended */
};

/* `api` lives as long as the server. */
void rmk_grpc_api_methods(struct rmk_grpc_api *api,
                          struct rmk_rpc_method out_methods[RMK_GRPC_API_METHOD_COUNT]);

#endif
