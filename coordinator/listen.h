/* A gRPC server on an address, secure by default: beyond loopback it needs TLS, or the operator's
 * word that it does not.
 */
#ifndef RMK_COORDINATOR_LISTEN_H
#define RMK_COORDINATOR_LISTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/rpc/rpc.h"

struct rmk_tls_files;

struct rmk_listen_spec {
    const char *flag;    /* for sentences: "listen" */
    const char *address; /* HOST:PORT */
    const struct rmk_tls_files *tls;
    uint32_t message_bytes_max;
    bool mutual; /* TLS here means client certificates too */
    bool insecure;
};

/* Whether HOST of HOST:PORT can only be reached from this machine. */
bool rmk_listen_is_loopback(const char *address);

/* Errors: RMK_EINVAL (not secure, TLS files incomplete), RMK_EIO (a PEM file), and those of
 * rmk_rpc_server_create. */
enum rmk_err rmk_listen(struct rmk_rpc *rpc, const struct rmk_listen_spec *spec,
                        const struct rmk_rpc_method *methods, size_t method_count,
                        struct rmk_rpc_server **out_server, struct rmk_why *why);

#endif
