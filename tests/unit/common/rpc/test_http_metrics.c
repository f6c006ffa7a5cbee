/* The monitoring port, with clients that are plain blocking sockets in a thread. */
#include "common/rpc/http_metrics.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "common/metrics.h"
#include "tests/support/loop.h"

struct bench {
    struct test_loop loop;
    struct rmk_metrics *metrics;
    struct rmk_counter *counter;
    struct rmk_http_metrics *http;
    bool ready;
    unsigned collected;
    bool closed;
};

static bool is_ready(void *context)
{
    return ((struct bench *)context)->ready;
}

static void collect(void *context)
{
    ((struct bench *)context)->collected++;
}

static int set_up(void **state)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    struct rmk_http_metrics_hooks hooks = {.ready = is_ready, .collect = collect, .context = bench};

    assert_non_null(bench);
    test_loop_init(&bench->loop);
    bench->metrics = rmk_metrics_create();
    bench->counter = rmk_metrics_counter(bench->metrics, "t_total", "T.", NULL);
    assert_int_equal(rmk_http_metrics_create(&bench->loop.loop, "localhost:0", bench->metrics,
                                             &hooks, &bench->http, NULL),
                     RMK_OK);
    *state = bench;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;

    rmk_http_metrics_close(bench->http, test_loop_set, &bench->closed);
    test_loop_while(&bench->loop, !bench->closed);
    rmk_metrics_destroy(bench->metrics);
    int status = test_loop_close(&bench->loop);
    free(bench);
    return status;
}

static int dial(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    rmk_assert(fd >= 0);
    rmk_assert(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    return fd;
}

/* One exchange: bytes out, everything that comes back until the server's end. */
struct exchange {
    pthread_t thread;
    uint16_t port;
    struct rmk_bytes request;
    bool one_by_one; /* a byte per segment */
    char answer[65536];
    size_t answer_size;
    _Atomic bool over;
};

static void *run_exchange(void *context)
{
    struct exchange *exchange = context;
    int fd = dial(exchange->port);
    ssize_t size;

    size_t step = exchange->one_by_one ? 1 : exchange->request.size;
    for (size_t at = 0; at < exchange->request.size; at += step) {
        (void)send(fd, exchange->request.data + at, step, MSG_NOSIGNAL);
    }
    while ((size = recv(fd, exchange->answer + exchange->answer_size,
                        sizeof(exchange->answer) - 1 - exchange->answer_size, 0)) > 0) {
        exchange->answer_size += (size_t)size;
    }
    (void)close(fd);
    exchange->over = true;
    return NULL;
}

static void exchange_bytes(struct bench *bench, struct exchange *exchange, const void *data,
                           size_t size)
{
    *exchange = (struct exchange){.port = rmk_http_metrics_port(bench->http),
                                  .request = rmk_bytes_of(data, size),
                                  .one_by_one = size < 100};
    assert_int_equal(pthread_create(&exchange->thread, NULL, run_exchange, exchange), 0);
    while (!exchange->over) {
        test_loop_for_ms(&bench->loop, 2);
    }
    assert_int_equal(pthread_join(exchange->thread, NULL), 0);
    exchange->answer[exchange->answer_size] = '\0';
}

static void assert_answered(struct bench *bench, const char *request, const char *status)
{
    static struct exchange exchange;

    exchange_bytes(bench, &exchange, request, strlen(request));
    if (strncmp(exchange.answer, status, strlen(status)) != 0) {
        print_error("request: %.200s\nanswer: %.200s\n", request, exchange.answer);
        fail();
    }
}

static void metrics_are_served_as_prometheus_text(void **state)
{
    struct bench *bench = *state;
    static struct exchange exchange;
    static const char request[] = "GET /metrics?x=1 HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n";

    rmk_counter_add(bench->counter, 42);
    exchange_bytes(bench, &exchange, request, sizeof(request) - 1);
    assert_string_equal(exchange.answer,
                        "HTTP/1.1 200 OK\r\n"
                        "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
                        "Content-Length: 52\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
                        "# HELP t_total T.\n# TYPE t_total counter\n"
                        "t_total 42\n");
    assert_int_equal(bench->collected, 1);
}

static void health_and_readiness_have_their_codes(void **state)
{
    struct bench *bench = *state;

    assert_answered(bench, "GET /healthz HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n");
    assert_answered(bench, "GET /readyz HTTP/1.1\r\n\r\n", "HTTP/1.1 503 Service Unavailable\r\n");
    bench->ready = true;
    assert_answered(bench, "GET /readyz HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n");
}

static void head_has_the_length_and_no_body(void **state)
{
    struct bench *bench = *state;
    static struct exchange exchange;
    static const char request[] = "HEAD /healthz HTTP/1.1\r\n\r\n";

    exchange_bytes(bench, &exchange, request, sizeof(request) - 1);
    assert_non_null(strstr(exchange.answer, "Content-Length: 3\r\n"));
    assert_string_equal(strstr(exchange.answer, "\r\n\r\n"), "\r\n\r\n");
}

static void everything_else_is_refused_with_the_right_code(void **state)
{
    struct bench *bench = *state;
    static const struct {
        const char *request;
        const char *status;
    } cases[] = {
        {"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404"},
        {"GET /metrics/../etc/passwd HTTP/1.1\r\n\r\n", "HTTP/1.1 404"},
        {"GET /%2e%2e/metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 404"},
        {"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 405"},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 400"},
        {"GET http://h/metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 400"},
        {"GET /metrics HTTP/9.9\r\n\r\n", "HTTP/1.1 400"},
        {"GET /metrics\r\n\r\n", "HTTP/1.1 400"},
        {"GET  /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 400"},
        {" /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 400"},
        {"\r\n\r\n", "HTTP/1.1 400"},
        {"GET /\x1b[31m HTTP/1.1\r\n\r\n", "HTTP/1.1 400"},
        {"\x16\x03\x01\x02\r\n\r\n", "HTTP/1.1 400"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_answered(bench, cases[i].request, cases[i].status);
    }
}

static void nul_bytes_and_endless_heads_are_refused(void **state)
{
    struct bench *bench = *state;
    static struct exchange exchange;
    static char big[1 << 20];

    exchange_bytes(bench, &exchange, "GET /metrics\0 HTTP/1.1\r\n\r\n", 26);
    assert_memory_equal(exchange.answer, "HTTP/1.1 400", 12);
    memset(big, 'h', sizeof(big));
    memcpy(big, "GET /metrics HTTP/1.1\r\nX: ", 26);
    exchange_bytes(bench, &exchange, big, sizeof(big));
    assert_memory_equal(exchange.answer, "HTTP/1.1 431", 12);
    assert_answered(bench, "GET /healthz HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n");
}

static void silent_connections_are_capped_and_time_out(void **state)
{
    struct bench *bench = *state;
    int fds[RMK_HTTP_METRICS_CONNECTIONS_MAX];
    uint16_t port = rmk_http_metrics_port(bench->http);
    char byte;

    for (int i = 0; i < RMK_HTTP_METRICS_CONNECTIONS_MAX; i++) {
        fds[i] = dial(port);
    }
    test_loop_for_ms(&bench->loop, 100);
    int extra = dial(port);
    test_loop_for_ms(&bench->loop, 50);
    assert_int_equal(recv(extra, &byte, 1, MSG_DONTWAIT), 0);
    (void)close(extra);
    assert_true(recv(fds[0], &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN); /* still open */

    test_loop_for_ms(&bench->loop, RMK_HTTP_METRICS_TIMEOUT_MS);
    for (int i = 0; i < RMK_HTTP_METRICS_CONNECTIONS_MAX; i++) {
        assert_int_equal(recv(fds[i], &byte, 1, MSG_DONTWAIT), 0);
        (void)close(fds[i]);
    }
    assert_answered(bench, "GET /healthz HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n");
}

static void port_in_use_and_bad_addresses_are_named(void **state)
{
    struct bench *bench = *state;
    struct rmk_http_metrics *http = NULL;
    struct rmk_why why = {0};
    char address[64];
    static const char *const bad[] = {"",       "1.2.3.4",       "1.2.3.4:", "host.example:1",
                                      "[::1:5", "1.2.3.4:70000", "[zz]:1"};

    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", rmk_http_metrics_port(bench->http));
    assert_int_equal(
        rmk_http_metrics_create(&bench->loop.loop, address, bench->metrics, NULL, &http, &why),
        RMK_EUNAVAILABLE);
    assert_non_null(strstr(why.text, address));
    assert_non_null(strstr(why.text, "in use"));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(
            rmk_http_metrics_create(&bench->loop.loop, bad[i], bench->metrics, NULL, &http, &why),
            RMK_EINVAL);
    }
    assert_null(http);
}

static void close_takes_open_connections_along(void **state)
{
    struct bench *bench = *state;
    int fd = dial(rmk_http_metrics_port(bench->http));

    test_loop_for_ms(&bench->loop, 20);
    assert_int_equal(send(fd, "GET /met", 8, MSG_NOSIGNAL), 8);
    test_loop_for_ms(&bench->loop, 20);
    /* The tear-down closes, and fails if a handle is left. */
    (void)close(fd);
}

#define bench_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        bench_test(metrics_are_served_as_prometheus_text),
        bench_test(health_and_readiness_have_their_codes),
        bench_test(head_has_the_length_and_no_body),
        bench_test(everything_else_is_refused_with_the_right_code),
        bench_test(nul_bytes_and_endless_heads_are_refused),
        bench_test(silent_connections_are_capped_and_time_out),
        bench_test(port_in_use_and_bad_addresses_are_named),
        bench_test(close_takes_open_connections_along),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
