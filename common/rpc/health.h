/* grpc.health.v1.Health on a server: Check and Watch. A service that was never set is unknown:
 * Check answers NOT_FOUND, Watch says SERVICE_UNKNOWN and waits. "" is the whole server.
 */
#ifndef RMK_COMMON_RPC_HEALTH_H
#define RMK_COMMON_RPC_HEALTH_H

#include <stdbool.h>

#include "common/err.h"
#include "common/rpc/rpc.h"

#define RMK_HEALTH_METHOD_COUNT 2
#define RMK_HEALTH_SERVICES_MAX 16
#define RMK_HEALTH_WATCHERS_MAX 256

struct rmk_health;

/* NULL: no memory. */
struct rmk_health *rmk_health_create(void);
/* After the rpc has closed: no call may refer to it any more. */
void rmk_health_destroy(struct rmk_health *health);

/* The methods, to put among those given to rmk_rpc_server_create. */
void rmk_health_methods(struct rmk_health *health,
                        struct rmk_rpc_method out_methods[RMK_HEALTH_METHOD_COUNT]);

/* `service` is kept, not copied. Watchers hear of a change. */
void rmk_health_set(struct rmk_health *health, const char *service, bool serving);

/* End every Watch (UNAVAILABLE): a drained server waits for open calls, and watchers never leave by
 * themselves. */
void rmk_health_shutdown(struct rmk_health *health);

#endif
