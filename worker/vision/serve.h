/* A vision worker as a process: attaches to the coordinator, takes encode orders, serves
 * Features.Pull. */
#ifndef RMK_WORKER_VISION_SERVE_H
#define RMK_WORKER_VISION_SERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/host.h"

struct rmk_vision_serve_options {
    struct rmk_host_options host;
    const char *listen;    /* Features.Pull: HOST:PORT, port 0: the system chooses */
    const char *advertise; /* HOST that text workers reach; NULL: the host of `listen` */
    uint32_t tile_batch;
    uint32_t parallel_max; /* encode orders under way at once */
    uint64_t cache_bytes_max;
};

/* Runs until SIGTERM or SIGINT; the exit status of the process. Speaks on the log. */
int rmk_vision_serve(const struct rmk_vision_serve_options *options);

#endif
