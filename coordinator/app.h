/* The coordinator as one object: the served model's data, the engine, the tables of requests and
 * workers, the servers. main.c makes one from flags; tests make one from options, in their own
 * process and on their own loop.
 */
#ifndef RMK_COORDINATOR_APP_H
#define RMK_COORDINATOR_APP_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "common/err.h"
#include "common/rpc/secure.h"

struct rmk_app;
struct rmk_profile;

enum rmk_vision_need {
    RMK_VISION_NEED_AUTO = 0, /* if the model has a tower */
    RMK_VISION_NEED_YES,
    RMK_VISION_NEED_NO,
};

struct rmk_app_options {
    const char *model_dir;
    const char *vision_dir;            /* may be NULL */
    const char *config_overrides;      /* JSON object over config.json; may be NULL */
    const char *model_name;            /* NULL: the directory's last part */
    const struct rmk_profile *profile; /* of requests that name none; NULL: exact */
    bool load_dummy;                   /* workers have dummy weights; no checkpoint is looked for */
    const char *listen;                /* HOST:PORT, port 0: the system chooses */
    const char *cluster_listen;
    const char *metrics_listen;
    const char *ready_file; /* addresses as JSON; may be NULL */
    const char *api_keys;   /* file of front/keys.h; NULL: anybody may call */
    struct rmk_tls_files tls;
    struct rmk_tls_files cluster_tls;
    bool insecure; /* plaintext beyond loopback, said aloud */
    enum rmk_vision_need require_vision;
    uint32_t requests_max;
    uint32_t queued_max;
    uint32_t intakes_max;
    uint32_t results_kept;
    uint32_t retries_max;
    uint32_t ahead_max;
    uint64_t image_bytes_max;
    uint32_t plan_timeout_ms;
    uint32_t encode_timeout_ms;
    uint32_t form_timeout_ms;
    uint32_t hello_timeout_ms;
    uint32_t heartbeat_interval_ms;
    uint32_t heartbeat_timeout_ms;
    uint32_t stall_timeout_ms;
    uint32_t drain_timeout_ms;
};

/* Addresses, limits and timeouts as the flags' defaults. */
void rmk_app_defaults(struct rmk_app_options *options);

/* Load the model's data and listen. Options are borrowed for the app's life. Errors name flag, file
 * or address. */
enum rmk_err rmk_app_create(uv_loop_t *uv, const struct rmk_app_options *options,
                            struct rmk_app **out_app, struct rmk_why *why);

/* Refuse what is new, finish what is open (up to the drain timeout), then close everything.
 * `stopped` runs when the app is freed. */
void rmk_app_drain(struct rmk_app *app, void (*stopped)(void *context), void *context);

/* Read the file of API keys again; after an error, which is logged, the old ones stay. */
void rmk_app_reload(struct rmk_app *app);

uint16_t rmk_app_port(const struct rmk_app *app);
uint16_t rmk_app_cluster_port(const struct rmk_app *app);
uint16_t rmk_app_metrics_port(const struct rmk_app *app);
/* Warm, and able to serve. */
bool rmk_app_ready(const struct rmk_app *app);

#endif
