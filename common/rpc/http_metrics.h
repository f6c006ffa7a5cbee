/* The monitoring port: a tiny HTTP/1.1 server that answers GET and HEAD of
 *
 *     /metrics   Prometheus text
 *     /healthz   200 while the loop turns
 *     /readyz    200 or 503
 *
 * and nothing else, one request per connection. Not the API's HTTP door.
 */
#ifndef RMK_COMMON_RPC_HTTP_METRICS_H
#define RMK_COMMON_RPC_HTTP_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "common/err.h"

#define RMK_HTTP_METRICS_CONNECTIONS_MAX 64
#define RMK_HTTP_METRICS_HEAD_BYTES_MAX  8192
#define RMK_HTTP_METRICS_TIMEOUT_MS      5000

struct rmk_http_metrics;
struct rmk_metrics;

struct rmk_http_metrics_hooks {
    bool (*ready)(void *context);   /* NULL: always ready */
    void (*collect)(void *context); /* before /metrics is rendered: set gauges; may be NULL */
    void *context;
};

/* Listen on `address` (HOST:PORT, HOST an IP address or "localhost"; port 0: the system chooses).
 * Errors: RMK_EINVAL, RMK_EUNAVAILABLE (in use; named). */
enum rmk_err rmk_http_metrics_create(uv_loop_t *loop, const char *address,
                                     struct rmk_metrics *metrics,
                                     const struct rmk_http_metrics_hooks *hooks,
                                     struct rmk_http_metrics **out_http, struct rmk_why *why);
uint16_t rmk_http_metrics_port(const struct rmk_http_metrics *http);

/* `closed` (may be NULL) runs on the loop when every handle is gone and `http` is freed. */
void rmk_http_metrics_close(struct rmk_http_metrics *http, void (*closed)(void *context),
                            void *context);

#endif
