/* remask up, its parts: flags (up.c), the processes and their life (cluster.c), what each is
 * started with (cluster_children.c).
 *
 *     STARTING ── coordinator's ready file ──► JOINING ── health SERVING ──► READY
 *         │                                       │                           │ SIGINT, SIGTERM,
 * SIGHUP └───────── a start that failed ─────────┴───────────────────────────┤ ▼ coordinator drains
 * and ends: DRAINING ──► workers end: ENDING ──► gone
 */
#ifndef RMK_CLI_UP_H
#define RMK_CLI_UP_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/child.h"
#include "cli/client.h"
#include "common/config.h"

struct rmk_up_options {
    const char *model;
    const char *vision_dir;
    const char *name;
    const char *log_dir; /* NULL: beside the state file */
    const char *backend;
    const char *dtype;
    uint64_t group_count;
    uint64_t rank_count; /* of each group */
    uint64_t vision_count;
    uint64_t port_base; /* 0: the system chooses */
    uint64_t threads;   /* of each worker; 0: the processors divided among them */
    uint64_t start_timeout_us;
    uint64_t stop_timeout_us;
    struct rmk_config_texts coordinator_flags;
    struct rmk_config_texts text_flags;
    struct rmk_config_texts vision_flags;
};

enum rmk_up_phase {
    RMK_UP_STARTING,
    RMK_UP_JOINING,
    RMK_UP_READY,
    RMK_UP_DRAINING,
    RMK_UP_ENDING,
    RMK_UP_GONE,
};

enum { RMK_UP_SIGNAL_COUNT = 3 };

struct rmk_cluster {
    const struct rmk_up_options *options;
    char model[1024];   /* absolute: restarts come from wherever */
    char bin_dir[1024]; /* of this program: the others are beside it */
    char log_dir[1024];
    char ready_file[1024];
    char endpoint[128];
    char metrics[128];
    char internal[128]; /* the workers' port */
    uv_loop_t loop;
    uv_signal_t signals[RMK_UP_SIGNAL_COUNT];
    uv_timer_t look;  /* has it got further? */
    uv_timer_t limit; /* of the phase */
    struct rmk_child coordinator;
    struct rmk_child *workers;
    size_t worker_count;
    enum rmk_up_phase phase;
    struct rmk_client client; /* for health, until READY */
    bool client_open;
    uint64_t begun_us;
    int lock_fd;
    int status;
    void (*ready)(struct rmk_cluster *cluster, void *context); /* once */
    void *context;
};

/* Run it until it has been stopped. Returns the exit status. `ready` is told when the cluster
 * serves. */
int rmk_cluster_run(const struct rmk_up_options *options,
                    void (*ready)(struct rmk_cluster *cluster, void *context), void *context);

/* What the children are started with. The workers' need the coordinator's port. */
enum rmk_err rmk_cluster_coordinator(struct rmk_cluster *cluster, struct rmk_why *why);
enum rmk_err rmk_cluster_workers(struct rmk_cluster *cluster, struct rmk_why *why);

#endif
