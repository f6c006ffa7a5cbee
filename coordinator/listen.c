#include "coordinator/listen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/app.h"

enum { PEM_BYTES_MAX = 1 << 20 };

bool rmk_listen_is_loopback(const char *address)
{
    const char *colon = strrchr(address, ':');
    size_t host_bytes = colon != NULL ? (size_t)(colon - address) : strlen(address);
    static const char *const names[] = {"localhost", "[::1]", "::1"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (host_bytes == strlen(names[i]) && memcmp(address, names[i], host_bytes) == 0) {
            return true;
        }
    }
    return host_bytes > 4 && memcmp(address, "127.", 4) == 0 &&
           strspn(address, "0123456789.") == host_bytes;
}

static enum rmk_err read_pem(const char *path, char **out_text, struct rmk_why *why)
{
    FILE *file = NULL;
    char *text = NULL;
    size_t size;
    enum rmk_err err = RMK_OK;

    if (path == NULL) {
        goto out;
    }
    file = fopen(path, "rbe");
    text = malloc(PEM_BYTES_MAX + 1);
    if (file == NULL || text == NULL) {
        err = rmk_fail(why, RMK_EIO, "cannot read %s: %s", path, strerror(errno));
        goto out;
    }
    size = fread(text, 1, PEM_BYTES_MAX + 1, file);
    if (ferror(file) || size > PEM_BYTES_MAX) {
        err = rmk_fail(why, RMK_EIO, "cannot read %s: not a PEM file", path);
        goto out;
    }
    text[size] = '\0';
    *out_text = text;
    text = NULL;
out:
    if (file != NULL) {
        (void)fclose(file);
    }
    free(text);
    return err;
}

static enum rmk_err check_security(const struct rmk_listen_spec *spec, struct rmk_why *why)
{
    const struct rmk_tls_files *tls = spec->tls;
    bool any = tls->certificate != NULL || tls->key != NULL || tls->authority != NULL;

    if (any && (tls->certificate == NULL || tls->key == NULL)) {
        return rmk_fail(why, RMK_EINVAL, "TLS needs a certificate and its key");
    }
    if (any && spec->mutual && tls->authority == NULL) {
        return rmk_fail(why, RMK_EINVAL,
                        "TLS needs the authority that signs the workers' certificates");
    }
    if (!any && !spec->insecure && !rmk_listen_is_loopback(spec->address)) {
        return rmk_fail(why, RMK_EINVAL,
                        "%s can be reached from other machines; give TLS files, or --insecure",
                        spec->address);
    }
    return RMK_OK;
}

enum rmk_err rmk_listen(struct rmk_rpc *rpc, const struct rmk_listen_spec *spec,
                        const struct rmk_rpc_method *methods, size_t method_count,
                        struct rmk_rpc_server **out_server, struct rmk_why *why)
{
    char *certificate = NULL;
    char *key = NULL;
    char *authority = NULL;
    struct rmk_rpc_options options = {.message_bytes_max = spec->message_bytes_max};
    enum rmk_err err;

    RMK_TRY(check_security(spec, why));
    RMK_TRY(read_pem(spec->tls->certificate, &certificate, why));
    RMK_TRY(read_pem(spec->tls->key, &key, why));
    RMK_TRY(read_pem(spec->tls->authority, &authority, why));
    options.tls_cert = certificate;
    options.tls_key = key;
    options.tls_ca = authority;
    RMK_TRY(rmk_rpc_server_create(rpc, spec->address, &options, methods, method_count, out_server,
                                  why));
out:
    if (err != RMK_OK) {
        rmk_why_context(why, "--%s", spec->flag);
    }
    free(certificate);
    free(key);
    free(authority);
    return err;
}
