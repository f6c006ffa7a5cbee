/* Secure by default: whoever listens or dials beyond loopback has TLS, or the operator's word that
 * it needs none. */
#ifndef RMK_COMMON_RPC_SECURE_H
#define RMK_COMMON_RPC_SECURE_H

#include <stdbool.h>

#include "common/err.h"
#include "common/rpc/rpc.h"

/* PEM files; all NULL: plaintext. */
struct rmk_tls_files {
    const char *certificate;
    const char *key;
    const char *authority; /* the peer's certificate is asked for and must come from it */
};

/* Whether HOST of HOST:PORT can only be reached from this machine. */
bool rmk_secure_is_loopback(const char *address);

/* RMK_EINVAL where `address` is beyond this machine and callers are not `secured`, nor is that what
 * somebody wants. `remedy`: the flags that would do, for the sentence. */
enum rmk_err rmk_secure_check_reach(const char *address, bool secured, bool insecure,
                                    const char *remedy, struct rmk_why *why);

/* Check the files against the address, read them, and put their text into `options`, which then
 * owns it. `mutual`: TLS here means certificates on both ends. `remedy`: as above.
 *
 * Errors: RMK_EINVAL (not secure, or half a configuration), RMK_ENOTFOUND, RMK_EIO, RMK_ELIMIT,
 * RMK_ECORRUPT (a file, named). */
enum rmk_err rmk_secure_load(const struct rmk_tls_files *files, const char *address, bool mutual,
                             bool insecure, const char *remedy, struct rmk_rpc_options *options,
                             struct rmk_why *why);

/* Free what rmk_secure_load put there. */
void rmk_secure_unload(struct rmk_rpc_options *options);

#endif
