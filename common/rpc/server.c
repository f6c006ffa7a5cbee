#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <grpc/support/alloc.h>

#include "common/rpc/internal.h"

/* Calls that may arrive between two turns of the loop without waiting. */
enum { PENDING_REQUESTS = 32 };

struct request {
    struct rmk_rpc_op op;
    struct rmk_rpc_server *server;
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
};

struct rmk_rpc_server {
    struct rmk_list link;
    struct rmk_rpc *rpc;
    grpc_server *core;
    uint16_t port;
    struct rmk_rpc_method *methods; /* paths are copies */
    size_t method_count;
    struct request requests[PENDING_REQUESTS];
    unsigned requests_pending;
    struct rmk_rpc_op shutdown_op;
    bool draining;
    bool shut;
    bool stopping;
};

/* ---- methods nobody serves ----------------------------------------------------------------- */

static void refuse_unknown(struct rmk_rpc_call *call, const char *path)
{
    char text[256];

    (void)snprintf(text, sizeof(text), "there is no method %.200s", path);
    rmk_rpc_call_refuse(call, RMK_STATUS_UNIMPLEMENTED, text);
}

/* ---- accepting ----------------------------------------------------------------------------- */

static void request_call(struct request *request);

static void dispatch(struct rmk_rpc_server *server, struct rmk_rpc_call *call, grpc_slice method)
{
    char *path = grpc_slice_to_c_string(method);
    size_t i = 0;

    while (i < server->method_count && strcmp(server->methods[i].path, path) != 0) {
        i++;
    }
    if (i < server->method_count) {
        server->methods[i].on_call(call, server->methods[i].context);
    } else {
        refuse_unknown(call, path);
    }
    gpr_free(path);
    rmk_rpc_call_begin_reading(call);
}

static void check_gone(struct rmk_rpc_server *server)
{
    struct rmk_rpc *rpc = server->rpc;

    if (!server->stopping || !server->shut || server->requests_pending > 0) {
        return;
    }
    rmk_list_remove(&server->link);
    if (server->core != NULL) {
        grpc_server_destroy(server->core);
    }
    for (size_t i = 0; i < server->method_count; i++) {
        free((char *)(uintptr_t)server->methods[i].path);
    }
    free(server->methods);
    free(server);
    rmk_rpc_check_closed(rpc);
}

static void on_request(struct rmk_rpc_op *op, void *owner, bool ok)
{
    struct request *request = owner;
    struct rmk_rpc_server *server = request->server;
    grpc_call *core = request->call;
    grpc_call_details details = request->details;
    grpc_metadata_array metadata = request->metadata;

    (void)op;
    server->requests_pending--;
    if (!ok) { /* the server is shutting down */
        grpc_call_details_destroy(&details);
        grpc_metadata_array_destroy(&metadata);
        check_gone(server);
        return;
    }
    if (!server->draining) {
        request_call(request);
    }
    struct rmk_rpc_call *call = rmk_rpc_call_accept(server->rpc, core, &metadata, details.deadline);
    dispatch(server, call, details.method);
    grpc_call_details_destroy(&details);
    if (server->stopping) {
        rmk_rpc_call_cancel(call);
    }
    check_gone(server);
}

static void request_call(struct request *request)
{
    struct rmk_rpc_server *server = request->server;
    grpc_completion_queue *queue = server->rpc->queue;

    request->call = NULL;
    grpc_call_details_init(&request->details);
    grpc_metadata_array_init(&request->metadata);
    grpc_call_error error = grpc_server_request_call(
        server->core, &request->call, &request->details, &request->metadata, queue, queue,
        rmk_rpc_op_tag(&request->op, request, on_request));
    rmk_assert(error == GRPC_CALL_OK);
    server->requests_pending++;
}

/* ---- birth --------------------------------------------------------------------------------- */

/* The core only says that it could not bind; try again ourselves to learn why. */
static const char *why_not_bound(const char *address)
{
    char host[256];
    const char *colon = strrchr(address, ':');
    size_t size = (size_t)(colon - address);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    const char *reason = "the address cannot be bound";
    int on = 1;

    if (size >= 2 && address[0] == '[' && address[size - 1] == ']') {
        address++;
        size -= 2;
    }
    if (size >= sizeof(host)) {
        return "the host name is too long";
    }
    memcpy(host, address, size);
    host[size] = '\0';
    int status = getaddrinfo(host, colon + 1, &hints, &found);
    if (status != 0) {
        return gai_strerror(status);
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (fd < 0 || bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, 1) != 0) {
        reason = strerror(errno);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    freeaddrinfo(found);
    return reason;
}

static bool copy_methods(struct rmk_rpc_server *server, const struct rmk_rpc_method *methods,
                         size_t count)
{
    server->methods = calloc(count > 0 ? count : 1, sizeof(server->methods[0]));
    if (server->methods == NULL) {
        return false;
    }
    for (; server->method_count < count; server->method_count++) {
        struct rmk_rpc_method *method = &server->methods[server->method_count];
        *method = methods[server->method_count];
        method->path = strdup(method->path);
        if (method->path == NULL) {
            return false;
        }
    }
    return true;
}

static enum rmk_err listen_on(struct rmk_rpc_server *server, const char *address,
                              const struct rmk_rpc_options *options, struct rmk_why *why)
{
    struct rmk_rpc_args args;
    grpc_server_credentials *credentials = NULL;
    enum rmk_err err;

    RMK_TRY(rmk_rpc_server_credentials(options, &credentials, why));
    rmk_rpc_args_init(&args, options, true);
    server->core = grpc_server_create(&args.args, NULL);
    rmk_rpc_args_deinit(&args);
    grpc_server_register_completion_queue(server->core, server->rpc->queue, NULL);
    int port = grpc_server_add_http2_port(server->core, address, credentials);
    grpc_server_credentials_release(credentials);
    grpc_server_start(server->core); /* also before a shutdown: the core wants it so */
    if (port == 0) {
        err = rmk_fail(why, RMK_EUNAVAILABLE, "listen on %.200s: %s", address,
                       why_not_bound(address));
        goto out;
    }
    server->port = (uint16_t)port;
out:
    return err;
}

static void on_shutdown(struct rmk_rpc_op *op, void *owner, bool ok)
{
    struct rmk_rpc_server *server = owner;

    (void)op;
    (void)ok;
    server->shut = true;
    check_gone(server);
}

void rmk_rpc_server_drain(struct rmk_rpc_server *server)
{
    if (server->draining) {
        return;
    }
    server->draining = true;
    grpc_server_shutdown_and_notify(server->core, server->rpc->queue,
                                    rmk_rpc_op_tag(&server->shutdown_op, server, on_shutdown));
}

static void stop(struct rmk_rpc_server *server)
{
    if (server->stopping) {
        return;
    }
    server->stopping = true;
    rmk_rpc_server_drain(server);
    grpc_server_cancel_all_calls(server->core);
    check_gone(server);
}

void rmk_rpc_server_stop(struct rmk_list *link)
{
    stop(rmk_list_entry(link, struct rmk_rpc_server, link));
}

enum rmk_err rmk_rpc_server_create(struct rmk_rpc *rpc, const char *address,
                                   const struct rmk_rpc_options *options,
                                   const struct rmk_rpc_method *methods, size_t method_count,
                                   struct rmk_rpc_server **out_server, struct rmk_why *why)
{
    static const struct rmk_rpc_options defaults = {0};
    struct rmk_rpc_server *server = calloc(1, sizeof(*server));
    enum rmk_err err;

    rmk_assert(!rpc->closing);
    if (server == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for a server");
    }
    server->rpc = rpc;
    rmk_list_append(&rpc->servers, &server->link);
    if (!copy_methods(server, methods, method_count)) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for a server");
        goto out;
    }
    RMK_TRY(rmk_rpc_address_check(address, why));
    RMK_TRY(listen_on(server, address, options != NULL ? options : &defaults, why));
    for (size_t i = 0; i < PENDING_REQUESTS; i++) {
        server->requests[i].server = server;
        request_call(&server->requests[i]);
    }
    *out_server = server;
    server = NULL;
out:
    if (server != NULL && server->core != NULL) {
        stop(server); /* frees itself when the core has let go */
    } else if (server != NULL) {
        server->stopping = true;
        server->shut = true;
        check_gone(server);
    }
    return err;
}

uint16_t rmk_rpc_server_port(const struct rmk_rpc_server *server)
{
    return server->port;
}
