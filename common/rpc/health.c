#include "common/rpc/health.h"

#include <stdlib.h>
#include <string.h>

#include "common/list.h"
#include "common/rpc/pack.h"
#include "grpc/health/v1/health.pb-c.h"

enum { SERVICE_BYTES_MAX = 128 };

typedef Grpc__Health__V1__HealthCheckResponse__ServingStatus serving_status;

#define SERVING         GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
#define NOT_SERVING     GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING
#define SERVICE_UNKNOWN GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN

struct service {
    const char *name;
    serving_status status;
};

struct rmk_health {
    struct service services[RMK_HEALTH_SERVICES_MAX];
    size_t service_count;
    struct rmk_list watchers;
    size_t watcher_count;
    bool shut;
};

/* One Check or Watch. */
struct inquiry {
    struct rmk_list link; /* among the watchers */
    struct rmk_health *health;
    struct rmk_rpc_call *call;
    bool is_watch;
    bool watching;
    serving_status told;
    char service[SERVICE_BYTES_MAX];
};

static struct service *find_service(struct rmk_health *health, const char *name)
{
    for (size_t i = 0; i < health->service_count; i++) {
        if (strcmp(health->services[i].name, name) == 0) {
            return &health->services[i];
        }
    }
    return NULL;
}

static void tell(struct inquiry *inquiry, serving_status status)
{
    Grpc__Health__V1__HealthCheckResponse response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

    response.status = status;
    inquiry->told = status;
    (void)rmk_pack_send(inquiry->call, &response.base);
}

static void watch(struct inquiry *inquiry)
{
    struct rmk_health *health = inquiry->health;
    const struct service *service = find_service(health, inquiry->service);

    if (health->shut) {
        rmk_rpc_call_finish(inquiry->call, RMK_STATUS_UNAVAILABLE, "shutting down");
        return;
    }
    if (health->watcher_count == RMK_HEALTH_WATCHERS_MAX) {
        rmk_rpc_call_finish(inquiry->call, RMK_STATUS_RESOURCE_EXHAUSTED,
                            "too many health watchers");
        return;
    }
    inquiry->watching = true;
    health->watcher_count++;
    rmk_list_append(&health->watchers, &inquiry->link);
    tell(inquiry, service != NULL ? service->status : SERVICE_UNKNOWN);
}

static void check(struct inquiry *inquiry)
{
    const struct service *service = find_service(inquiry->health, inquiry->service);

    if (service == NULL) {
        rmk_rpc_call_finish(inquiry->call, RMK_STATUS_NOT_FOUND, "unknown service");
        return;
    }
    tell(inquiry, service->status);
    rmk_rpc_call_finish(inquiry->call, RMK_STATUS_OK, NULL);
}

static void on_message(struct rmk_rpc_call *call, struct rmk_bytes bytes, void *context)
{
    struct inquiry *inquiry = context;
    ProtobufCMessage *message = NULL;
    struct rmk_why why = {0};

    if (inquiry->watching) {
        rmk_rpc_call_finish(call, RMK_STATUS_INVALID_ARGUMENT, "Watch takes one message");
        return;
    }
    if (rmk_unpack(&grpc__health__v1__health_check_request__descriptor, bytes, &message, &why) !=
        RMK_OK) {
        rmk_rpc_call_finish(call, RMK_STATUS_INVALID_ARGUMENT, why.text);
        return;
    }
    const char *name = ((Grpc__Health__V1__HealthCheckRequest *)message)->service;
    if (strlen(name) >= sizeof(inquiry->service)) {
        rmk_rpc_call_finish(call, RMK_STATUS_INVALID_ARGUMENT, "service: the name is too long");
    } else {
        memcpy(inquiry->service, name, strlen(name) + 1);
        (inquiry->is_watch ? watch : check)(inquiry);
    }
    protobuf_c_message_free_unpacked(message, NULL);
}

static void on_half_close(struct rmk_rpc_call *call, void *context)
{
    const struct inquiry *inquiry = context;

    /* After a Check was answered this does nothing. */
    if (!inquiry->watching) {
        rmk_rpc_call_finish(call, RMK_STATUS_INVALID_ARGUMENT, "no message came");
    }
}

static void on_done(struct rmk_rpc_call *call, int status, const char *message, void *context)
{
    struct inquiry *inquiry = context;

    (void)call;
    (void)status;
    (void)message;
    if (inquiry->watching) {
        inquiry->health->watcher_count--;
        rmk_list_remove(&inquiry->link);
    }
    free(inquiry);
}

static void begin(struct rmk_rpc_call *call, struct rmk_health *health, bool is_watch)
{
    static const struct rmk_rpc_events events = {
        .on_message = on_message, .on_half_close = on_half_close, .on_done = on_done};
    struct inquiry *inquiry = calloc(1, sizeof(*inquiry));

    rmk_assert(inquiry != NULL);
    inquiry->health = health;
    inquiry->call = call;
    inquiry->is_watch = is_watch;
    rmk_rpc_call_listen(call, &events, inquiry);
}

static void on_check(struct rmk_rpc_call *call, void *context)
{
    begin(call, context, false);
}

static void on_watch(struct rmk_rpc_call *call, void *context)
{
    begin(call, context, true);
}

struct rmk_health *rmk_health_create(void)
{
    struct rmk_health *health = calloc(1, sizeof(*health));

    if (health != NULL) {
        rmk_list_init(&health->watchers);
    }
    return health;
}

void rmk_health_destroy(struct rmk_health *health)
{
    if (health != NULL) {
        rmk_assert(rmk_list_empty(&health->watchers));
        free(health);
    }
}

void rmk_health_methods(struct rmk_health *health,
                        struct rmk_rpc_method out_methods[RMK_HEALTH_METHOD_COUNT])
{
    out_methods[0] = (struct rmk_rpc_method){
        .path = "/grpc.health.v1.Health/Check", .on_call = on_check, .context = health};
    out_methods[1] = (struct rmk_rpc_method){
        .path = "/grpc.health.v1.Health/Watch", .on_call = on_watch, .context = health};
}

void rmk_health_set(struct rmk_health *health, const char *name, bool serving)
{
    struct service *service = find_service(health, name);
    struct rmk_list *link;
    struct rmk_list *following;

    if (service == NULL) {
        rmk_assert(health->service_count < RMK_HEALTH_SERVICES_MAX);
        service = &health->services[health->service_count++];
        service->name = name;
    }
    service->status = serving ? SERVING : NOT_SERVING;
    rmk_list_each(link, following, &health->watchers)
    {
        struct inquiry *inquiry = rmk_list_entry(link, struct inquiry, link);
        if (strcmp(inquiry->service, name) == 0 && inquiry->told != service->status) {
            tell(inquiry, service->status);
        }
    }
}

void rmk_health_shutdown(struct rmk_health *health)
{
    struct rmk_list *link;
    struct rmk_list *following;

    health->shut = true;
    rmk_list_each(link, following, &health->watchers)
    {
        rmk_rpc_call_finish(rmk_list_entry(link, struct inquiry, link)->call,
                            RMK_STATUS_UNAVAILABLE, "shutting down");
    }
}
