/* One text rank as a process: attaches to the coordinator, forms epochs, runs plans, pulls features (rank 0). */
#ifndef RMK_WORKER_TEXT_SERVE_H
#define RMK_WORKER_TEXT_SERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/rpc/rpc.h"
#include "kernels/kernels.h"

struct rmk_text_serve_options {
    const char *model_dir;
    const char *vision_dir;      /* NULL: as model/spec.h */
    const char *coordinator;     /* HOST:PORT */
    const char *group;
    uint32_t rank;
    uint32_t size;
    struct rmk_device_options device;
    uint32_t slot_count;
    uint32_t rows_max;           /* 0: the model's longest prompt and generation, at most 8192 */
    uint64_t staging_bytes_max;
    bool load_dummy;
    uint64_t dummy_seed;
    const char *collectives;     /* kind of the group's communicator; NULL: nccl between GPUs, cpu else */
    bool dry_run;                /* load, print the plan of memory, leave */
    struct rmk_rpc_options rpc;
};

/* Runs until SIGTERM or SIGINT; the exit status of the process. Speaks on the log. */
int rmk_text_serve(const struct rmk_text_serve_options *options);

#endif
