#include "coordinator/listen.h"

#include "common/rpc/secure.h"

enum rmk_err rmk_listen(struct rmk_rpc *rpc, const struct rmk_listen_spec *spec,
                        const struct rmk_rpc_method *methods, size_t method_count,
                        struct rmk_rpc_server **out_server, struct rmk_why *why)
{
    struct rmk_rpc_options options = {.message_bytes_max = spec->message_bytes_max};
    enum rmk_err err;

    RMK_TRY(rmk_secure_load(spec->tls, spec->address, spec->mutual, spec->insecure || spec->keys,
                            spec->remedy, &options, why));
    RMK_TRY(rmk_rpc_server_create(rpc, spec->address, &options, methods, method_count, out_server,
                                  why));
out:
    if (err != RMK_OK) {
        rmk_why_context(why, "--%s", spec->flag);
    }
    rmk_secure_unload(&options);
    return err;
}
