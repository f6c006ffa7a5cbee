/* Servers and channels: how they meet, how they lose each other, and TLS. */
#include "tests/unit/common/rpc/bench.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- connections -------------------------------------------------------------------- */

static void nothing_listening_is_unavailable_at_once(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = NULL;
    struct probe probe = {0};
    struct rmk_why why = {0};

    assert_int_equal(rmk_rpc_channel_create(bench->rpc, "127.0.0.1:1", NULL, &channel, &why),
                     RMK_OK);
    call_on(channel, &probe, "/t.T/Echo", 0);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_UNAVAILABLE);
}

static void wait_for_ready_uses_a_server_that_comes_later(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = NULL;
    struct rmk_rpc_server *server = NULL;
    struct probe probe = {0};
    struct rmk_why why = {0};
    char address[64];

    /* A port that is free now: bound and let go by a server of ours. */
    assert_int_equal(start_server(bench, "127.0.0.1:0", &big, &server, &why), RMK_OK);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", rmk_rpc_server_port(server));
    rmk_rpc_server_drain(server);
    test_loop_for_ms(&bench->loop, 50);

    assert_int_equal(rmk_rpc_channel_create(bench->rpc, address, &big, &channel, &why), RMK_OK);
    probe.call = rmk_rpc_channel_call(channel, "/t.T/Echo", TEST_LOOP_PATIENCE_MS / 2, true, NULL,
                                      &probe_events, &probe);
    say(&probe, "patient");
    rmk_rpc_call_half_close(probe.call);
    test_loop_for_ms(&bench->loop, 300);
    assert_false(probe.done);
    assert_int_equal(start_server(bench, address, &big, &server, &why), RMK_OK);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_OK);
    assert_string_equal(probe.first, "patient");
}

static void port_in_use_is_named(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_server *server = NULL;
    struct rmk_why why = {0};

    assert_int_equal(start_server(bench, bench->address, &big, &server, &why), RMK_EUNAVAILABLE);
    assert_null(server);
    assert_non_null(strstr(why.text, bench->address));
    assert_non_null(strstr(why.text, "in use"));
}

static void malformed_addresses_are_named(void **state)
{
    struct bench *bench = *state;
    static const char *const bad[] = {"", "localhost", "127.0.0.1:", ":80", "h:99999", "h:8x"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct rmk_rpc_server *server = NULL;
        struct rmk_rpc_channel *channel = NULL;
        struct rmk_why why = {0};
        assert_int_equal(start_server(bench, bad[i], NULL, &server, &why), RMK_EINVAL);
        assert_non_null(strstr(why.text, "HOST:PORT"));
        assert_int_equal(rmk_rpc_channel_create(bench->rpc, bad[i], NULL, &channel, &why),
                         RMK_EINVAL);
    }
}

/* The peer is this program again, as a child that serves until it is killed. */
static pid_t start_child(char *address, size_t address_size)
{
    char program[4096];
    int out[2];
    ssize_t size = readlink("/proc/self/exe", program, sizeof(program) - 1);

    assert_true(size > 0);
    program[size] = '\0';
    assert_int_equal(pipe(out), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) { /* nothing but exec: a fork of a gRPC process is not usable otherwise */
        (void)dup2(out[1], STDOUT_FILENO);
        (void)close(out[0]);
        (void)close(out[1]);
        (void)execl(program, program, "--serve", (char *)NULL);
        _exit(127);
    }
    (void)close(out[1]);
    size = read(out[0], address, address_size - 1);
    (void)close(out[0]);
    assert_true(size > 1);
    address[size - 1] = '\0'; /* the newline */
    return child;
}

static int serve_until_killed(void)
{
    struct bench bench = {0};
    struct rmk_why why = {0};

    if (uv_loop_init(&bench.loop.loop) != 0 ||
        rmk_rpc_create(&bench.loop.loop, &bench.rpc, &why) != RMK_OK ||
        start_server(&bench, "127.0.0.1:0", &big, &bench.server, &why) != RMK_OK) {
        return 1;
    }
    (void)printf("127.0.0.1:%u\n", rmk_rpc_server_port(bench.server));
    (void)fflush(stdout);
    return uv_run(&bench.loop.loop, UV_RUN_DEFAULT);
}

static void killed_peer_is_unavailable_soon(void **state)
{
    struct bench *bench = *state;
    struct rmk_rpc_channel *channel = NULL;
    struct probe probe = {0};
    struct probe next = {0};
    struct rmk_why why = {0};
    char address[64];
    pid_t child = start_child(address, sizeof(address));

    assert_int_equal(rmk_rpc_channel_create(bench->rpc, address, &big, &channel, &why), RMK_OK);
    call_on(channel, &probe, "/t.T/Echo", 0);
    say(&probe, "alive?");
    test_loop_while(&bench->loop, probe.messages == 0 && !probe.done);
    assert_int_equal(probe.messages, 1);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_UNAVAILABLE);

    call_on(channel, &next, "/t.T/Echo", 0);
    test_loop_while(&bench->loop, !next.done);
    assert_int_equal(next.status, RMK_STATUS_UNAVAILABLE);
}

static void stopped_peer_is_noticed_by_keepalive(void **state)
{
    struct bench *bench = *state;
    static const struct rmk_rpc_options eager = {.keepalive_ms = 200, .keepalive_timeout_ms = 300};
    struct rmk_rpc_channel *channel = NULL;
    struct probe probe = {0};
    struct rmk_why why = {0};
    char address[64];
    pid_t child = start_child(address, sizeof(address));

    assert_int_equal(rmk_rpc_channel_create(bench->rpc, address, &eager, &channel, &why), RMK_OK);
    call_on(channel, &probe, "/t.T/Hold", 0);
    test_loop_for_ms(&bench->loop, 100);
    assert_false(probe.done);
    assert_int_equal(kill(child, SIGSTOP), 0);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_UNAVAILABLE);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

static void quiet_stream_outlives_many_keepalive_pings(void **state)
{
    struct bench *bench = *state;
    static const struct rmk_rpc_options eager = {
        .message_bytes_max = 1 << 20, .keepalive_ms = 20, .keepalive_timeout_ms = 5000};
    struct rmk_rpc_server *server = NULL;
    struct rmk_rpc_channel *channel = NULL;
    struct probe probe = {0};
    struct rmk_why why = {0};
    char address[64];

    assert_int_equal(start_server(bench, "127.0.0.1:0", &eager, &server, &why), RMK_OK);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", rmk_rpc_server_port(server));
    assert_int_equal(rmk_rpc_channel_create(bench->rpc, address, &eager, &channel, &why), RMK_OK);
    call_on(channel, &probe, "/t.T/Echo", 0);
    test_loop_for_ms(&bench->loop, 600); /* some thirty pings: more than any strike count */
    assert_false(probe.done);
    say(&probe, "still connected");
    rmk_rpc_call_half_close(probe.call);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_OK);
}

static int dial_plain(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void garbage_on_the_port_leaves_no_trace(void **state)
{
    struct bench *bench = *state;
#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    static const struct rmk_bytes garbage[] = {
        {(const uint8_t *)"GET / HTTP/1.1\r\n\r\n", 18},
        {(const uint8_t *)"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11}, /* TLS */
        {(const uint8_t *)PREFACE "\xff\xff\xff\x04\xff", 29}, /* a frame of 16 MB */
        {(const uint8_t *)PREFACE "\0\0\x04\x01\x05\0\0\0\x01\xff\xff\xff\xff", 37}, /* HPACK */
        {(const uint8_t *)PREFACE, 8}, /* a part, and then silence */
        {NULL, 0},
    };
    enum { COUNT = sizeof(garbage) / sizeof(garbage[0]) };
    struct rmk_rpc_channel *channel = dial_with(bench, &big);
    struct probe probe = {0};
    int fds[COUNT];

    for (size_t i = 0; i < COUNT; i++) {
        fds[i] = dial_plain(rmk_rpc_server_port(bench->server));
        (void)send(fds[i], garbage[i].data, garbage[i].size, MSG_NOSIGNAL);
    }
    test_loop_for_ms(&bench->loop, 50);
    call_on(channel, &probe, "/t.T/Echo", 0);
    say(&probe, "unimpressed");
    rmk_rpc_call_half_close(probe.call);
    test_loop_while(&bench->loop, !probe.done);
    assert_int_equal(probe.status, RMK_STATUS_OK);
    assert_int_equal(bench->served, 1);
    for (size_t i = 0; i < COUNT; i++) {
        (void)close(fds[i]);
    }
}

/* ---- TLS ---------------------------------------------------------------------------- */

struct pki {
    char *ca, *other_ca, *cert, *key, *other_cert, *other_key;
};

static char *read_text(const char *folder, const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    char *text = calloc(1, 16384);

    assert_non_null(file);
    assert_non_null(text);
    assert_true(fread(text, 1, 16383, file) > 0);
    (void)fclose(file);
    return text;
}

static void make_pki(struct pki *pki)
{
    char folder[] = "/tmp/rmk-test-rpc-XXXXXX";
    char command[4096];

    assert_non_null(mkdtemp(folder));
    (void)snprintf(
        command, sizeof(command),
        "cd %s && exec 2>/dev/null; for ca in ca other; do "
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $ca.key"
        " -out $ca.pem -subj /CN=$ca -days 2 && "
        "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $ca-leaf.key"
        " -out $ca-leaf.csr -subj /CN=leaf && "
        "printf 'subjectAltName=DNS:remask.test,IP:127.0.0.1\\n' > ext && "
        "openssl x509 -req -in $ca-leaf.csr -CA $ca.pem -CAkey $ca.key -CAcreateserial"
        " -out $ca-leaf.pem -days 2 -extfile ext || exit 1; done",
        folder);
    assert_int_equal(system(command), 0);
    pki->ca = read_text(folder, "ca.pem");
    pki->other_ca = read_text(folder, "other.pem");
    pki->cert = read_text(folder, "ca-leaf.pem");
    pki->key = read_text(folder, "ca-leaf.key");
    pki->other_cert = read_text(folder, "other-leaf.pem");
    pki->other_key = read_text(folder, "other-leaf.key");
    (void)snprintf(command, sizeof(command), "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

static void free_pki(struct pki *pki)
{
    free(pki->ca);
    free(pki->other_ca);
    free(pki->cert);
    free(pki->key);
    free(pki->other_cert);
    free(pki->other_key);
}

static int call_with(struct bench *bench, const char *address,
                     const struct rmk_rpc_options *options)
{
    struct rmk_rpc_channel *channel = NULL;
    struct probe probe = {0};
    struct rmk_why why = {0};

    assert_int_equal(rmk_rpc_channel_create(bench->rpc, address, options, &channel, &why), RMK_OK);
    call_on(channel, &probe, "/t.T/Echo", 10000);
    say(&probe, "tls");
    rmk_rpc_call_half_close(probe.call);
    test_loop_while(&bench->loop, !probe.done);
    rmk_rpc_channel_destroy(channel);
    return probe.status;
}

static void mutual_tls_lets_in_only_our_certificates(void **state)
{
    struct bench *bench = *state;
    struct pki pki;
    struct rmk_rpc_server *server = NULL;
    struct rmk_why why = {0};
    char address[64];

    make_pki(&pki);
    struct rmk_rpc_options server_options = {
        .tls_ca = pki.ca, .tls_cert = pki.cert, .tls_key = pki.key};
    struct rmk_rpc_options good = server_options;
    struct rmk_rpc_options named = good;
    struct rmk_rpc_options misnamed = good;
    struct rmk_rpc_options bare = {.tls_ca = pki.ca};
    struct rmk_rpc_options stranger = {
        .tls_ca = pki.ca, .tls_cert = pki.other_cert, .tls_key = pki.other_key};
    struct rmk_rpc_options distrustful = {
        .tls_ca = pki.other_ca, .tls_cert = pki.cert, .tls_key = pki.key};
    named.tls_target_name = "remask.test";
    misnamed.tls_target_name = "elsewhere.test";

    assert_int_equal(start_server(bench, "127.0.0.1:0", &server_options, &server, &why), RMK_OK);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", rmk_rpc_server_port(server));
    assert_int_equal(call_with(bench, address, &good), RMK_STATUS_OK);
    assert_int_equal(call_with(bench, address, &named), RMK_STATUS_OK);
    assert_int_equal(bench->served, 2);
    assert_int_equal(call_with(bench, address, &misnamed), RMK_STATUS_UNAVAILABLE);
    assert_int_equal(call_with(bench, address, &bare), RMK_STATUS_UNAVAILABLE);
    assert_int_equal(call_with(bench, address, &stranger), RMK_STATUS_UNAVAILABLE);
    assert_int_equal(call_with(bench, address, &distrustful), RMK_STATUS_UNAVAILABLE);
    assert_int_equal(call_with(bench, address, NULL), RMK_STATUS_UNAVAILABLE); /* plaintext */
    assert_int_equal(bench->served, 2);
    free_pki(&pki);
}

static void tls_material_that_cannot_work_is_named(void **state)
{
    struct bench *bench = *state;
    struct pki pki;
    struct rmk_rpc_server *server = NULL;
    struct rmk_rpc_channel *channel = NULL;
    struct rmk_why why = {0};

    make_pki(&pki);
    struct rmk_rpc_options mixed = {.tls_cert = pki.cert, .tls_key = pki.other_key};
    struct rmk_rpc_options half = {.tls_cert = pki.cert};
    struct rmk_rpc_options rubbish = {.tls_cert = "hello", .tls_key = pki.key};
    struct rmk_rpc_options bad_ca = {.tls_ca = "hello"};

    assert_int_equal(start_server(bench, "127.0.0.1:0", &mixed, &server, &why), RMK_EINVAL);
    assert_non_null(strstr(why.text, "key does not belong"));
    assert_int_equal(start_server(bench, "127.0.0.1:0", &half, &server, &why), RMK_EINVAL);
    assert_non_null(strstr(why.text, "together"));
    assert_int_equal(start_server(bench, "127.0.0.1:0", &rubbish, &server, &why), RMK_EINVAL);
    assert_non_null(strstr(why.text, "certificate is no PEM"));
    assert_int_equal(rmk_rpc_channel_create(bench->rpc, "127.0.0.1:1", &bad_ca, &channel, &why),
                     RMK_EINVAL);
    assert_non_null(strstr(why.text, "CA is no PEM"));
    free_pki(&pki);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        bench_test(nothing_listening_is_unavailable_at_once),
        bench_test(wait_for_ready_uses_a_server_that_comes_later),
        bench_test(port_in_use_is_named),
        bench_test(malformed_addresses_are_named),
        bench_test(killed_peer_is_unavailable_soon),
        bench_test(stopped_peer_is_noticed_by_keepalive),
        bench_test(quiet_stream_outlives_many_keepalive_pings),
        bench_test(garbage_on_the_port_leaves_no_trace),
        bench_test(mutual_tls_lets_in_only_our_certificates),
        bench_test(tls_material_that_cannot_work_is_named),
    };

    if (argc == 2 && strcmp(argv[1], "--serve") == 0) {
        return serve_until_killed();
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
