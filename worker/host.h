/* What a worker is whatever its role: the process around the model. The loop, signals, the lane,
 * the stream to the coordinator, the checkpoint's digest, the half of Hello that both roles say
 * alike, and the order in which all of it ends.
 *
 *     init ─► load ─► (the role loads) ─► start ─► (the role fills hello) ─► attach ─► run ─►
 * deinit
 *
 * The fields are the role's to read; it writes only to `hello`.
 */
#ifndef RMK_WORKER_HOST_H
#define RMK_WORKER_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "common/rpc/rpc.h"
#include "kernels/kernels.h"
#include "model/spec.h"
#include "worker/attach.h"
#include "worker/lane.h"

struct rmk_checkpoint;

struct rmk_host_options {
    const char *model_dir;
    const char *vision_dir;  /* NULL: as model/spec.h */
    const char *coordinator; /* HOST:PORT */
    struct rmk_device_options device;
    bool load_dummy;
    uint64_t dummy_seed;
    bool verify_weights; /* read every byte against SHA256SUMS before anything is loaded */
    struct rmk_rpc_options rpc;
};

struct rmk_host {
    const struct rmk_host_options *options;
    const char *role; /* "text", "vision": the log's module */
    struct rmk_spec spec;
    uint8_t digest[32]; /* zeros with dummy weights */
    struct rmk_device *device;
    uv_loop_t loop;
    struct rmk_rpc *rpc;
    struct rmk_lane *lane;
    struct rmk_attach *attach;
    Remask__Cluster__V1__Hello hello;
    bool stopping;
    /* host.c's own */
    uv_signal_t terminate;
    uv_signal_t interrupt;
    void (*stop)(void *context);
    void *context;
    char name[128];
};

/* `options` is borrowed for the host's life. */
void rmk_host_init(struct rmk_host *host, const char *role, const struct rmk_host_options *options);

/* The spec, the device, the checkpoint and its digest. *out_checkpoint is NULL with dummy weights,
 * else the caller's to close. */
enum rmk_err rmk_host_load(struct rmk_host *host, struct rmk_checkpoint **out_checkpoint,
                           struct rmk_why *why);

/* Signals, rpc and lane. At SIGTERM or SIGINT `stop` runs once, on the loop: the stream has said
 * Goodbye and no message comes any more, the lane and rpc are still there. At the second signal the
 * process is over. After an error only the end of the process is left. */
enum rmk_err rmk_host_start(struct rmk_host *host, void (*stop)(void *context), void *context,
                            struct rmk_why *why);

enum rmk_err rmk_host_attach(struct rmk_host *host, const struct rmk_attach_events *events,
                             void *context, struct rmk_why *why);

/* Until it was stopped and everything has ended. */
void rmk_host_run(struct rmk_host *host);

/* Ends the process when its device has had a fault: only a new one has a sound GPU again, and
 * whoever watches it starts that. To be called, on the loop, after the device was used. */
void rmk_host_check_device(const struct rmk_host *host);

void rmk_host_deinit(struct rmk_host *host);

#endif
