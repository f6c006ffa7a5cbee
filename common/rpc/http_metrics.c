#include "common/rpc/http_metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/list.h"
#include "common/metrics.h"

struct rmk_http_metrics {
    uv_tcp_t listener;
    struct rmk_metrics *metrics;
    struct rmk_http_metrics_hooks hooks;
    struct rmk_list connections;
    unsigned connection_count;
    uint16_t port;
    bool closing;
    bool listener_closed;
    void (*closed)(void *context);
    void *closed_context;
};

struct connection {
    struct rmk_list link;
    struct rmk_http_metrics *http;
    uv_tcp_t tcp;
    uv_timer_t timer; /* one for the whole life: head, answer and farewell together */
    unsigned open_handles;
    bool closing;
    bool answered;
    char head[RMK_HTTP_METRICS_HEAD_BYTES_MAX];
    size_t head_size;
    char scratch[512]; /* what comes after the head is read and forgotten */
    char answer_head[256];
    char *answer_body; /* ours; NULL: a literal or none */
    uv_write_t write;
    uv_shutdown_t shutdown;
};

static void check_gone(struct rmk_http_metrics *http)
{
    if (!http->closing || !http->listener_closed || !rmk_list_empty(&http->connections)) {
        return;
    }
    if (http->closed != NULL) {
        http->closed(http->closed_context);
    }
    free(http);
}

/* ---- one connection ------------------------------------------------------------------------ */

static void on_handle_closed(uv_handle_t *handle)
{
    struct connection *connection = handle->data;
    struct rmk_http_metrics *http = connection->http;

    if (--connection->open_handles > 0) {
        return;
    }
    rmk_list_remove(&connection->link);
    http->connection_count--;
    free(connection->answer_body);
    free(connection);
    check_gone(http);
}

static void close_connection(struct connection *connection)
{
    if (connection->closing) {
        return;
    }
    connection->closing = true;
    uv_close((uv_handle_t *)&connection->tcp, on_handle_closed);
    uv_close((uv_handle_t *)&connection->timer, on_handle_closed);
}

static void on_timeout(uv_timer_t *timer)
{
    close_connection(timer->data);
}

static void on_shutdown(uv_shutdown_t *shutdown, int status)
{
    /* Now wait for the peer's end (or the timer): closing with unread input would send a reset that
     * can overtake the answer. */
    if (status != 0) {
        close_connection(shutdown->data);
    }
}

static void on_written(uv_write_t *write, int status)
{
    struct connection *connection = write->data;

    if (status != 0) {
        close_connection(connection);
        return;
    }
    connection->shutdown.data = connection;
    if (uv_shutdown(&connection->shutdown, (uv_stream_t *)&connection->tcp, on_shutdown) != 0) {
        close_connection(connection);
    }
}

struct answer {
    const char *status;
    const char *type;
    const char *body;
    size_t body_size;
};

static void answer(struct connection *connection, const struct answer *what, bool with_body)
{
    int size = snprintf(connection->answer_head, sizeof(connection->answer_head),
                        "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s"
                        "Cache-Control: no-store\r\nConnection: close\r\n\r\n",
                        what->status, what->type, what->body_size,
                        strncmp(what->status, "405", 3) == 0 ? "Allow: GET, HEAD\r\n" : "");
    uv_buf_t buffers[2] = {
        uv_buf_init(connection->answer_head, (unsigned)size),
        uv_buf_init((char *)(uintptr_t)what->body, (unsigned)what->body_size),
    };

    connection->answered = true;
    connection->write.data = connection;
    if (uv_write(&connection->write, (uv_stream_t *)&connection->tcp, buffers, with_body ? 2 : 1,
                 on_written) != 0) {
        close_connection(connection);
    }
}

static void answer_text(struct connection *connection, const char *status, const char *body,
                        bool with_body)
{
    struct answer what = {
        .status = status, .type = "text/plain", .body = body, .body_size = strlen(body)};

    answer(connection, &what, with_body);
}

static void answer_metrics(struct connection *connection, bool with_body)
{
    struct rmk_http_metrics *http = connection->http;
    struct answer what = {.status = "200 OK", .type = "text/plain; version=0.0.4; charset=utf-8"};

    if (http->hooks.collect != NULL) {
        http->hooks.collect(http->hooks.context);
    }
    connection->answer_body = rmk_metrics_render(http->metrics, &what.body_size);
    if (connection->answer_body == NULL) {
        answer_text(connection, "503 Service Unavailable", "no memory\n", with_body);
        return;
    }
    what.body = connection->answer_body;
    answer(connection, &what, with_body);
}

/* ---- the request --------------------------------------------------------------------------- */

/* `line` is the first line without its end: METHOD SP PATH SP HTTP/1.x, printable ASCII. Cuts it
 * up. */
static bool split_request_line(char *line, char **out_method, char **out_path)
{
    char *path = strchr(line, ' ');
    char *version = path != NULL ? strchr(path + 1, ' ') : NULL;

    for (const char *at = line; *at != '\0'; at++) {
        if (*at < ' ' || *at > '~') {
            return false;
        }
    }
    if (version == NULL || path == line || path[1] != '/') {
        return false;
    }
    if (strcmp(version, " HTTP/1.1") != 0 && strcmp(version, " HTTP/1.0") != 0) {
        return false;
    }
    *path = '\0';
    *version = '\0';
    path[1 + strcspn(path + 1, "?")] = '\0';
    *out_method = line;
    *out_path = path + 1;
    return true;
}

static void on_head(struct connection *connection, char *line)
{
    struct rmk_http_metrics *http = connection->http;
    char *method;
    char *path;

    if (!split_request_line(line, &method, &path)) {
        answer_text(connection, "400 Bad Request", "bad request\n", true);
        return;
    }
    bool is_head = strcmp(method, "HEAD") == 0;
    if (!is_head && strcmp(method, "GET") != 0) {
        answer_text(connection, "405 Method Not Allowed", "GET or HEAD only\n", true);
    } else if (strcmp(path, "/metrics") == 0) {
        answer_metrics(connection, !is_head);
    } else if (strcmp(path, "/healthz") == 0) {
        answer_text(connection, "200 OK", "ok\n", !is_head);
    } else if (strcmp(path, "/readyz") == 0) {
        bool ready = http->hooks.ready == NULL || http->hooks.ready(http->hooks.context);
        answer_text(connection, ready ? "200 OK" : "503 Service Unavailable",
                    ready ? "ready\n" : "not ready\n", !is_head);
    } else {
        answer_text(connection, "404 Not Found", "not found\n", !is_head);
    }
}

static void look_at_head(struct connection *connection)
{
    char *end = memmem(connection->head, connection->head_size, "\r\n\r\n", 4);

    if (end == NULL && connection->head_size < sizeof(connection->head)) {
        return;
    }
    if (end == NULL) {
        answer_text(connection, "431 Request Header Fields Too Large", "too large\n", true);
    } else if (memchr(connection->head, '\0', (size_t)(end - connection->head)) != NULL) {
        answer_text(connection, "400 Bad Request", "bad request\n", true);
    } else {
        *(char *)memmem(connection->head, connection->head_size, "\r\n", 2) = '\0';
        on_head(connection, connection->head);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct connection *connection = handle->data;

    (void)suggested;
    if (connection->answered) {
        *out = uv_buf_init(connection->scratch, sizeof(connection->scratch));
    } else {
        *out = uv_buf_init(connection->head + connection->head_size,
                           (unsigned)(sizeof(connection->head) - connection->head_size));
    }
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct connection *connection = stream->data;

    (void)buffer;
    if (size < 0) {
        close_connection(connection);
    } else if (!connection->answered) {
        connection->head_size += (size_t)size;
        look_at_head(connection);
    }
}

/* ---- the server ---------------------------------------------------------------------------- */

static void on_connection(uv_stream_t *listener, int status)
{
    struct rmk_http_metrics *http = listener->data;
    struct connection *connection;

    if (status != 0) {
        return; /* the peer has gone again, or no descriptor is left; libuv has dropped it */
    }
    connection = calloc(1, sizeof(*connection));
    if (connection == NULL) {
        return;
    }
    connection->http = http;
    connection->tcp.data = connection;
    connection->timer.data = connection;
    connection->open_handles = 2;
    rmk_list_append(&http->connections, &connection->link);
    http->connection_count++;
    (void)uv_tcp_init(listener->loop, &connection->tcp);
    (void)uv_timer_init(listener->loop, &connection->timer);
    if (uv_accept(listener, (uv_stream_t *)&connection->tcp) != 0 ||
        http->connection_count > RMK_HTTP_METRICS_CONNECTIONS_MAX ||
        uv_timer_start(&connection->timer, on_timeout, RMK_HTTP_METRICS_TIMEOUT_MS, 0) != 0 ||
        uv_read_start((uv_stream_t *)&connection->tcp, on_alloc, on_read) != 0) {
        close_connection(connection);
    }
}

static enum rmk_err parse_address(const char *address, struct sockaddr_storage *out,
                                  struct rmk_why *why)
{
    const char *colon = strrchr(address, ':');
    char host[64];
    char *end = NULL;
    size_t size = colon != NULL ? (size_t)(colon - address) : 0;
    unsigned long port = colon != NULL ? strtoul(colon + 1, &end, 10) : 0;

    if (size == 0 || size >= sizeof(host) || colon[1] < '0' || colon[1] > '9' || *end != '\0' ||
        port > UINT16_MAX) {
        return rmk_fail(why, RMK_EINVAL, "address \"%.200s\" is no HOST:PORT", address);
    }
    memcpy(host, address, size);
    host[size] = '\0';
    if (strcmp(host, "localhost") == 0) {
        memcpy(host, "127.0.0.1", sizeof("127.0.0.1"));
    }
    if (host[0] == '[' && host[size - 1] == ']') {
        host[size - 1] = '\0';
        if (uv_ip6_addr(host + 1, (int)port, (struct sockaddr_in6 *)out) == 0) {
            return RMK_OK;
        }
    } else if (uv_ip4_addr(host, (int)port, (struct sockaddr_in *)out) == 0) {
        return RMK_OK;
    }
    return rmk_fail(why, RMK_EINVAL, "address \"%.200s\": the host is no IP address", address);
}

static uint16_t bound_port(const uv_tcp_t *listener)
{
    struct sockaddr_storage address;
    int size = sizeof(address);

    if (uv_tcp_getsockname(listener, (struct sockaddr *)&address, &size) != 0) {
        return 0;
    }
    return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                               : ((struct sockaddr_in *)&address)->sin_port);
}

static void on_listener_closed(uv_handle_t *handle)
{
    struct rmk_http_metrics *http = handle->data;

    http->listener_closed = true;
    check_gone(http);
}

enum rmk_err rmk_http_metrics_create(uv_loop_t *loop, const char *address,
                                     struct rmk_metrics *metrics,
                                     const struct rmk_http_metrics_hooks *hooks,
                                     struct rmk_http_metrics **out_http, struct rmk_why *why)
{
    struct sockaddr_storage where = {0};
    struct rmk_http_metrics *http = NULL;
    enum rmk_err err;

    RMK_TRY(parse_address(address, &where, why));
    http = calloc(1, sizeof(*http));
    if (http == NULL) {
        err = rmk_fail(why, RMK_ELIMIT, "no memory for the metrics port");
        goto out;
    }
    http->metrics = metrics;
    if (hooks != NULL) {
        http->hooks = *hooks;
    }
    rmk_list_init(&http->connections);
    (void)uv_tcp_init(loop, &http->listener);
    http->listener.data = http;
    int status = uv_tcp_bind(&http->listener, (const struct sockaddr *)&where, 0);
    if (status == 0) {
        status = uv_listen((uv_stream_t *)&http->listener, 64, on_connection);
    }
    if (status != 0) {
        err = rmk_fail(why, RMK_EUNAVAILABLE, "listen on %.200s: %s", address, uv_strerror(status));
        rmk_http_metrics_close(http, NULL, NULL);
        goto out;
    }
    http->port = bound_port(&http->listener);
    *out_http = http;
out:
    return err;
}

uint16_t rmk_http_metrics_port(const struct rmk_http_metrics *http)
{
    return http->port;
}

void rmk_http_metrics_close(struct rmk_http_metrics *http, void (*closed)(void *context),
                            void *context)
{
    struct rmk_list *link;
    struct rmk_list *following;

    http->closing = true;
    http->closed = closed;
    http->closed_context = context;
    rmk_list_each(link, following, &http->connections)
    {
        close_connection(rmk_list_entry(link, struct connection, link));
    }
    uv_close((uv_handle_t *)&http->listener, on_listener_closed);
}
