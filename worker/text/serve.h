/* One text rank as a process: attaches to the coordinator, forms epochs, runs plans, pulls features
 * (rank 0). */
#ifndef RMK_WORKER_TEXT_SERVE_H
#define RMK_WORKER_TEXT_SERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/host.h"

/* kv_bytes_max: a row for each row of each slot; feature_bytes_max: one request with guidance;
 * neither more than a quarter of the device's memory, divided by the ranks that share it. */
#define RMK_TEXT_BYTES_AUTO UINT64_MAX

struct rmk_text_serve_options {
    struct rmk_host_options host;
    const char *group;
    uint32_t rank;
    uint32_t size;
    uint32_t slot_count;
    uint32_t rows_max; /* 0: the model's longest prompt and generation, at most 8192 */
    uint64_t staging_bytes_max;
    uint64_t kv_bytes_max;      /* keys and values kept between steps; 0: none */
    uint64_t feature_bytes_max; /* and attention and MLP outputs; 0: none */
    uint32_t local_ranks;       /* of this host: they share its memory */
    uint32_t device_ranks;      /* of this rank's GPU, itself included: they share the GPU's */
    const char *collectives;    /* kind of the group's communicator; NULL: nccl between GPUs of one
                                   rank each, cpu else */
    bool dry_run;               /* load, print the plan of memory, leave */
};

/* Runs until SIGTERM or SIGINT; the exit status of the process. Speaks on the log. */
int rmk_text_serve(const struct rmk_text_serve_options *options);

#endif
