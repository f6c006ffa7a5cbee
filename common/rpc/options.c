#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <grpc/compression.h>

#include "common/rpc/internal.h"

enum {
    MESSAGE_BYTES_DEFAULT = 4 << 20,
    KEEPALIVE_MS_DEFAULT = 10000,
    KEEPALIVE_TIMEOUT_MS_DEFAULT = 5000,
    METADATA_BYTES_MAX = 16 << 10,
    CONCURRENT_STREAMS_MAX = 4096,
    HANDSHAKE_TIMEOUT_MS = 10000,
    CONNECT_TIMEOUT_MS = 5000,
    BACKOFF_MS_MIN = 100,
    BACKOFF_MS_MAX = 1000,
    RESOLVE_MS_MIN = 1000,
};

/* ---- channel arguments --------------------------------------------------------------------- */

static void add_integer(struct rmk_rpc_args *args, const char *key, int value)
{
    rmk_assert(args->args.num_args < RMK_RPC_ARGS_MAX);
    args->items[args->args.num_args++] =
        (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key, .value.integer = value};
}

static void add_text(struct rmk_rpc_args *args, const char *key, const char *value)
{
    rmk_assert(args->args.num_args < RMK_RPC_ARGS_MAX);
    args->items[args->args.num_args++] = (grpc_arg){.type = GRPC_ARG_STRING,
                                                    .key = (char *)(uintptr_t)key,
                                                    .value.string = (char *)(uintptr_t)value};
}

static int or_default(uint32_t value, int fallback)
{
    if (value == 0) {
        return fallback;
    }
    return value > INT_MAX ? INT_MAX : (int)value;
}

static void add_server_args(struct rmk_rpc_args *args, int keepalive_ms, int message_bytes_max)
{
    grpc_arg quota = {.type = GRPC_ARG_POINTER, .key = (char *)(uintptr_t)GRPC_ARG_RESOURCE_QUOTA};

    /* On by default, and then two servers share one port without a word. */
    add_integer(args, GRPC_ARG_ALLOW_REUSEPORT, 0);
    /* Clients ping as often as we tell them to; half of it leaves room for jitter. Without these
     * two a quiet stream ends with GOAWAY "too_many_pings". */
    add_integer(args, GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, keepalive_ms / 2);
    add_integer(args, GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
    add_integer(args, GRPC_ARG_MAX_CONCURRENT_STREAMS, CONCURRENT_STREAMS_MAX);
    add_integer(args, GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, HANDSHAKE_TIMEOUT_MS);

    /* What all connections of a server may hold in the core: some messages of the largest size. */
    args->quota = grpc_resource_quota_create("remask");
    grpc_resource_quota_resize(args->quota, ((size_t)256 << 20) + 8 * (size_t)message_bytes_max);
    quota.value.pointer.p = args->quota;
    quota.value.pointer.vtable = grpc_resource_quota_arg_vtable();
    rmk_assert(args->args.num_args < RMK_RPC_ARGS_MAX);
    args->items[args->args.num_args++] = quota;
}

static void add_client_args(struct rmk_rpc_args *args, const struct rmk_rpc_options *options)
{
    add_integer(args, GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    /* Retries buffer messages and re-send them; the engine decides about retries. */
    add_integer(args, GRPC_ARG_ENABLE_RETRIES, 0);
    add_integer(args, GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1); /* one TCP connection per channel */
    add_integer(args, GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
    /* A restarted peer is found within about a second, at its old or its new address. The "minimal
     * backoff" is also the time a connection attempt may take. */
    add_integer(args, GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, CONNECT_TIMEOUT_MS);
    add_integer(args, GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, BACKOFF_MS_MIN);
    add_integer(args, GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, BACKOFF_MS_MAX);
    add_integer(args, GRPC_ARG_DNS_MIN_TIME_BETWEEN_RESOLUTIONS_MS, RESOLVE_MS_MIN);
    if (options->tls_target_name != NULL) {
        add_text(args, GRPC_SSL_TARGET_NAME_OVERRIDE_ARG, options->tls_target_name);
    }
}

void rmk_rpc_args_init(struct rmk_rpc_args *args, const struct rmk_rpc_options *options,
                       bool is_server)
{
    int message_bytes_max = or_default(options->message_bytes_max, MESSAGE_BYTES_DEFAULT);
    int keepalive_ms = or_default(options->keepalive_ms, KEEPALIVE_MS_DEFAULT);
    int timeout_ms = or_default(options->keepalive_timeout_ms, KEEPALIVE_TIMEOUT_MS_DEFAULT);

    *args = (struct rmk_rpc_args){.args = {.num_args = 0}};
    args->args.args = args->items;
    add_integer(args, GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, message_bytes_max);
    add_integer(args, GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, message_bytes_max);
    add_integer(args, GRPC_ARG_MAX_METADATA_SIZE, METADATA_BYTES_MAX);
    add_integer(args, GRPC_ARG_KEEPALIVE_TIME_MS, keepalive_ms);
    add_integer(args, GRPC_ARG_KEEPALIVE_TIMEOUT_MS, timeout_ms);
    add_integer(args, GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    add_integer(args, GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    /* No compressed messages: a kilobyte of gzip may unpack to a gigabyte, and the receive limit
     * looks at the packed size. A call that announces one is answered UNIMPLEMENTED. */
    add_integer(args, GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1 << GRPC_COMPRESS_NONE);
    add_integer(args, GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
    if (is_server) {
        add_server_args(args, keepalive_ms, message_bytes_max);
    } else {
        add_client_args(args, options);
    }
}

void rmk_rpc_args_deinit(struct rmk_rpc_args *args)
{
    if (args->quota != NULL) {
        grpc_resource_quota_unref(args->quota); /* the server has its own reference */
    }
}

enum rmk_err rmk_rpc_address_check(const char *address, struct rmk_why *why)
{
    const char *colon = strrchr(address, ':');
    char *end = NULL;

    if (colon == NULL || colon == address || colon[1] < '0' || colon[1] > '9' ||
        strtoul(colon + 1, &end, 10) > UINT16_MAX || *end != '\0') {
        return rmk_fail(why, RMK_EINVAL, "address \"%.200s\" is no HOST:PORT", address);
    }
    return RMK_OK;
}

/* ---- TLS ----------------------------------------------------------------------------------- */

/* The core notices bad PEM late or, on a client, as a connection that never comes up. So look
 * first. */
static enum rmk_err read_certificate(const char *what, const char *pem, X509 **out,
                                     struct rmk_why *why)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *certificate = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;

    BIO_free(bio);
    ERR_clear_error();
    if (certificate == NULL) {
        return rmk_fail(why, RMK_EINVAL, "TLS: the %s is no PEM certificate", what);
    }
    *out = certificate;
    return RMK_OK;
}

static enum rmk_err check_ca(const char *pem, struct rmk_why *why)
{
    X509 *ca = NULL;
    enum rmk_err err = read_certificate("CA", pem, &ca, why);

    X509_free(ca);
    return err;
}

/* OpenSSL would ask on the terminal. */
static int no_password(char *buffer, int size, int writing, void *context)
{
    (void)buffer;
    (void)size;
    (void)writing;
    (void)context;
    return 0;
}

static enum rmk_err check_pair(const char *cert_pem, const char *key_pem, struct rmk_why *why)
{
    X509 *certificate = NULL;
    EVP_PKEY *key = NULL;
    BIO *bio = NULL;
    enum rmk_err err;

    if (cert_pem == NULL || key_pem == NULL) {
        err = rmk_fail(why, RMK_EINVAL, "TLS: a certificate and its key must be given together");
        goto out;
    }
    RMK_TRY(read_certificate("certificate", cert_pem, &certificate, why));
    bio = BIO_new_mem_buf(key_pem, -1);
    key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
    if (key == NULL) {
        err = rmk_fail(why, RMK_EINVAL, "TLS: the key is no unencrypted PEM private key");
    } else if (X509_check_private_key(certificate, key) != 1) {
        err = rmk_fail(why, RMK_EINVAL, "TLS: the key does not belong to the certificate");
    }
out:
    ERR_clear_error();
    BIO_free(bio);
    EVP_PKEY_free(key);
    X509_free(certificate);
    return err;
}

static enum rmk_err check_tls(const struct rmk_rpc_options *options, struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;

    if (options->tls_ca != NULL) {
        RMK_TRY(check_ca(options->tls_ca, why));
    }
    if (options->tls_cert != NULL || options->tls_key != NULL) {
        RMK_TRY(check_pair(options->tls_cert, options->tls_key, why));
    }
out:
    return err;
}

static bool wants_tls(const struct rmk_rpc_options *options)
{
    return options->tls_ca != NULL || options->tls_cert != NULL || options->tls_key != NULL;
}

enum rmk_err rmk_rpc_server_credentials(const struct rmk_rpc_options *options,
                                        grpc_server_credentials **out, struct rmk_why *why)
{
    grpc_ssl_pem_key_cert_pair pair = {options->tls_key, options->tls_cert};
    enum rmk_err err;

    if (!wants_tls(options)) {
        *out = grpc_insecure_server_credentials_create();
        return RMK_OK;
    }
    RMK_TRY(check_tls(options, why));
    if (options->tls_cert == NULL) {
        err = rmk_fail(why, RMK_EINVAL, "TLS: a server needs a certificate and its key");
        goto out;
    }
    *out = grpc_ssl_server_credentials_create_ex(
        options->tls_ca, &pair, 1,
        options->tls_ca != NULL ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
        NULL);
out:
    return err;
}

enum rmk_err rmk_rpc_channel_credentials(const struct rmk_rpc_options *options,
                                         grpc_channel_credentials **out, struct rmk_why *why)
{
    grpc_ssl_pem_key_cert_pair pair = {options->tls_key, options->tls_cert};
    enum rmk_err err;

    if (!wants_tls(options)) {
        *out = grpc_insecure_credentials_create();
        return RMK_OK;
    }
    RMK_TRY(check_tls(options, why));
    if (options->tls_ca == NULL) {
        err = rmk_fail(why, RMK_EINVAL, "TLS: a client needs the CA that signed its servers");
        goto out;
    }
    *out = grpc_ssl_credentials_create(options->tls_ca, options->tls_cert != NULL ? &pair : NULL,
                                       NULL, NULL);
out:
    return err;
}
