/* Features.Pull: sends a cached item to text rank 0 in chunks, as fast as it takes them. */
#ifndef RMK_WORKER_VISION_PULL_H
#define RMK_WORKER_VISION_PULL_H

#include "common/rpc/rpc.h"
#include "worker/vision/cache.h"

/* An rmk_rpc_handler; context: struct rmk_feature_cache. */
void rmk_pull_serve(struct rmk_rpc_call *call, void *context);

#endif
