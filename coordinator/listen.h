/* A gRPC server on an address named by a flag, secure by default (common/rpc/secure.h).
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
    bool keys;   /* callers show an API key: beyond loopback that is enough */
    bool insecure;
    const char *remedy; /* flags that make it secure, for sentences */
};

/* Errors: those of rmk_secure_load and of rmk_rpc_server_create, the flag named in front. */
enum rmk_err rmk_listen(struct rmk_rpc *rpc, const struct rmk_listen_spec *spec,
                        const struct rmk_rpc_method *methods, size_t method_count,
                        struct rmk_rpc_server **out_server, struct rmk_why *why);

#endif
