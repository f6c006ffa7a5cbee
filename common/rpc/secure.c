#include "common/rpc/secure.h"

#include <stdlib.h>
#include <string.h>

#include "common/file.h"

enum { FILE_BYTES_MAX = 1 << 20 };

bool rmk_secure_is_loopback(const char *address)
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

enum rmk_err rmk_secure_check_reach(const char *address, bool secured, bool insecure,
                                    const char *remedy, struct rmk_why *why)
{
    if (secured || insecure || rmk_secure_is_loopback(address)) {
        return RMK_OK;
    }
    return rmk_fail(why, RMK_EINVAL, "%s is beyond this machine; give %s, or say --insecure",
                    address, remedy);
}

static enum rmk_err check(const struct rmk_tls_files *files, const char *address, bool mutual,
                          bool insecure, const char *remedy, struct rmk_why *why)
{
    const bool any = files->certificate != NULL || files->key != NULL || files->authority != NULL;

    if (any && (files->certificate == NULL || files->key == NULL)) {
        return rmk_fail(why, RMK_EINVAL, "TLS needs a certificate and its key");
    }
    if (any && mutual && files->authority == NULL) {
        return rmk_fail(why, RMK_EINVAL,
                        "TLS needs the authority that signs the cluster's certificates");
    }
    return rmk_secure_check_reach(address, any, insecure, remedy, why);
}

/* PEM is text: what follows a NUL would silently not count. */
static enum rmk_err read_text(const char *path, const char **out_text, struct rmk_why *why)
{
    uint8_t *data = NULL;
    size_t size = 0;
    enum rmk_err err;

    RMK_TRY(rmk_file_read(path, RMK_FILE_ANY, FILE_BYTES_MAX, &data, &size, why));
    if (memchr(data, '\0', size) != NULL) {
        err = rmk_fail(why, RMK_ECORRUPT, "holds a NUL byte, so it is not PEM");
        goto out;
    }
    *out_text = (const char *)data;
    data = NULL;
out:
    free(data);
    if (err != RMK_OK) {
        rmk_why_context(why, "%.300s", path);
    }
    return err;
}

enum rmk_err rmk_secure_load(const struct rmk_tls_files *files, const char *address, bool mutual,
                             bool insecure, const char *remedy, struct rmk_rpc_options *options,
                             struct rmk_why *why)
{
    const struct {
        const char *path;
        const char **target;
    } texts[] = {
        {files->certificate, &options->tls_cert},
        {files->key, &options->tls_key},
        {files->authority, &options->tls_ca},
    };
    enum rmk_err err;

    RMK_TRY(check(files, address, mutual, insecure, remedy, why));
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (texts[i].path != NULL) {
            RMK_TRY(read_text(texts[i].path, texts[i].target, why));
        }
    }
out:
    if (err != RMK_OK) {
        rmk_secure_unload(options);
    }
    return err;
}

void rmk_secure_unload(struct rmk_rpc_options *options)
{
    free((void *)options->tls_cert);
    free((void *)options->tls_key);
    free((void *)options->tls_ca);
    options->tls_cert = NULL;
    options->tls_key = NULL;
    options->tls_ca = NULL;
}
