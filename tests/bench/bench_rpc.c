/* What the bridge costs: round trips on one stream, unary calls in flight, large messages. Server
 * and client are two processes on this machine, plaintext over loopback.
 *
 *     bench-rpc [ROUNDS]
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/process.h"
#include "common/rpc/rpc.h"

enum { SMALL_BYTES = 256, FLIGHT = 64, CHUNK_BYTES = 2 << 20, LARGE_BYTES = 30 << 20 };

static const struct rmk_rpc_options options = {.message_bytes_max = 64u << 20};

/* ---- the server: every message is answered; large ones with a short word ------------------- */

static void answer(struct rmk_rpc_call *call, struct rmk_bytes message, void *context)
{
    (void)context;
    if (message.size > SMALL_BYTES) {
        message.size = 1;
    }
    (void)rmk_rpc_call_send(call, message);
}

static void finish(struct rmk_rpc_call *call, void *context)
{
    (void)context;
    rmk_rpc_call_finish(call, RMK_STATUS_OK, NULL);
}

static void forget(struct rmk_rpc_call *call, int status, const char *message, void *context)
{
    (void)call;
    (void)status;
    (void)message;
    (void)context;
}

static void on_call(struct rmk_rpc_call *call, void *context)
{
    static const struct rmk_rpc_events events = {
        .on_message = answer, .on_half_close = finish, .on_done = forget};

    rmk_rpc_call_listen(call, &events, context);
}

static int serve(uv_loop_t *loop, struct rmk_rpc *rpc)
{
    static const struct rmk_rpc_method method = {.path = "/bench/Echo", .on_call = on_call};
    struct rmk_rpc_server *server = NULL;

    if (rmk_rpc_server_create(rpc, "127.0.0.1:0", &options, &method, 1, &server, NULL) != RMK_OK) {
        return 1;
    }
    (void)printf("127.0.0.1:%u\n", rmk_rpc_server_port(server));
    (void)fflush(stdout);
    return uv_run(loop, UV_RUN_DEFAULT);
}

static pid_t start_server(char *address, size_t address_size)
{
    int out[2];

    rmk_assert(pipe(out) == 0);
    pid_t child = fork(); /* before gRPC starts here */
    if (child == 0) {
        (void)dup2(out[1], STDOUT_FILENO);
        (void)execl("/proc/self/exe", "bench-rpc", "--serve", (char *)NULL);
        _exit(127);
    }
    ssize_t size = read(out[0], address, address_size - 1);
    rmk_assert(size > 1);
    address[size - 1] = '\0';
    return child;
}

/* ---- the client ---------------------------------------------------------------------------- */

struct run {
    uv_loop_t *loop;
    struct rmk_rpc_channel *channel;
    uint8_t *payload;
    size_t payload_bytes;
    uint64_t *laps_us;
    uint64_t sent_us;
    unsigned rounds;
    unsigned started;
    unsigned finished;
    bool over;
};

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static void report(const char *what, struct run *run, uint64_t total_us)
{
    qsort(run->laps_us, run->rounds, sizeof(run->laps_us[0]), by_size);
    double megabytes = (double)run->payload_bytes * run->rounds / 1e6;
    (void)printf("%-28s p50 %6" PRIu64 " us  p99 %6" PRIu64 " us  %8.0f/s  %7.0f MB/s\n", what,
                 run->laps_us[run->rounds / 2], run->laps_us[(uint64_t)run->rounds * 99 / 100],
                 run->rounds / ((double)total_us / 1e6), megabytes / ((double)total_us / 1e6));
}

static void say_next(struct run *run, struct rmk_rpc_call *call)
{
    run->sent_us = rmk_clock_us();
    (void)rmk_rpc_call_send(call, rmk_bytes_of(run->payload, run->payload_bytes));
}

static void on_echo(struct rmk_rpc_call *call, struct rmk_bytes message, void *context)
{
    struct run *run = context;

    (void)message;
    run->laps_us[run->finished++] = rmk_clock_us() - run->sent_us;
    if (run->finished < run->rounds) {
        say_next(run, call);
    } else {
        rmk_rpc_call_half_close(call);
    }
}

static void on_stream_done(struct rmk_rpc_call *call, int status, const char *message,
                           void *context)
{
    (void)call;
    (void)message;
    rmk_assert(status == RMK_STATUS_OK);
    ((struct run *)context)->over = true;
}

static void begin(struct run *run, struct rmk_rpc_channel *channel, uv_loop_t *loop, size_t bytes,
                  unsigned rounds)
{
    *run = (struct run){.loop = loop, .channel = channel, .payload_bytes = bytes, .rounds = rounds};
    run->payload = calloc(1, bytes);
    run->laps_us = calloc(rounds, sizeof(run->laps_us[0]));
    rmk_assert(run->payload != NULL);
    rmk_assert(run->laps_us != NULL);
}

static void end(struct run *run)
{
    free(run->payload);
    free(run->laps_us);
}

static void ping_pong(const char *what, struct rmk_rpc_channel *channel, uv_loop_t *loop,
                      size_t bytes, unsigned rounds)
{
    static const struct rmk_rpc_events events = {.on_message = on_echo, .on_done = on_stream_done};
    struct run run;

    begin(&run, channel, loop, bytes, rounds);
    struct rmk_rpc_call *call =
        rmk_rpc_channel_call(channel, "/bench/Echo", 0, true, NULL, &events, &run);
    uint64_t begin_us = rmk_clock_us();
    say_next(&run, call);
    while (!run.over) {
        (void)uv_run(loop, UV_RUN_ONCE);
    }
    report(what, &run, rmk_clock_us() - begin_us);
    end(&run);
}

struct unary {
    struct run *run;
    uint64_t begin_us;
};

static void start_unary(struct unary *unary);

static void on_unary_message(struct rmk_rpc_call *call, struct rmk_bytes message, void *context)
{
    (void)call;
    (void)message;
    (void)context;
}

static void on_unary_done(struct rmk_rpc_call *call, int status, const char *message, void *context)
{
    struct unary *unary = context;
    struct run *run = unary->run;

    (void)call;
    (void)message;
    rmk_assert(status == RMK_STATUS_OK);
    run->laps_us[run->finished++] = rmk_clock_us() - unary->begin_us;
    if (run->started < run->rounds) {
        start_unary(unary);
    }
}

static void start_unary(struct unary *unary)
{
    static const struct rmk_rpc_events events = {.on_message = on_unary_message,
                                                 .on_done = on_unary_done};
    struct run *run = unary->run;

    run->started++;
    unary->begin_us = rmk_clock_us();
    struct rmk_rpc_call *call =
        rmk_rpc_channel_call(run->channel, "/bench/Echo", 0, true, NULL, &events, unary);
    (void)rmk_rpc_call_send(call, rmk_bytes_of(run->payload, run->payload_bytes));
    rmk_rpc_call_half_close(call);
}

static void unary_calls(const char *what, struct rmk_rpc_channel *channel, uv_loop_t *loop,
                        unsigned flight, unsigned rounds)
{
    struct unary unaries[FLIGHT];
    struct run run;

    begin(&run, channel, loop, SMALL_BYTES, rounds);
    uint64_t begin_us = rmk_clock_us();
    for (unsigned i = 0; i < flight; i++) {
        unaries[i].run = &run;
        start_unary(&unaries[i]);
    }
    while (run.finished < rounds) {
        (void)uv_run(loop, UV_RUN_ONCE);
    }
    report(what, &run, rmk_clock_us() - begin_us);
    end(&run);
}

int main(int argc, char **argv)
{
    bool serving = argc == 2 && strcmp(argv[1], "--serve") == 0;
    unsigned rounds = argc == 2 && !serving ? (unsigned)strtoul(argv[1], NULL, 10) : 20000;
    struct rmk_rpc_channel *channel = NULL;
    struct rmk_rpc *rpc = NULL;
    char address[64];
    uv_loop_t loop;
    pid_t child = 0;

    rmk_process_init();
    if (!serving) {
        child = start_server(address, sizeof(address));
    }
    rmk_assert(rounds >= FLIGHT);
    rmk_assert(uv_loop_init(&loop) == 0);
    rmk_assert(rmk_rpc_create(&loop, &rpc, NULL) == RMK_OK);
    if (serving) {
        return serve(&loop, rpc);
    }
    rmk_assert(rmk_rpc_channel_create(rpc, address, &options, &channel, NULL) == RMK_OK);

    ping_pong("(warm-up)", channel, &loop, SMALL_BYTES, rounds / 10);
    ping_pong("bidi round trip, 256 B", channel, &loop, SMALL_BYTES, rounds);
    ping_pong("bidi round trip, 16 KiB", channel, &loop, 16 << 10, rounds / 4);
    unary_calls("unary, 1 in flight", channel, &loop, 1, rounds / 4);
    unary_calls("unary, 64 in flight", channel, &loop, FLIGHT, rounds);
    ping_pong("bidi, 2 MiB up", channel, &loop, CHUNK_BYTES, rounds / 100);
    ping_pong("bidi, 30 MiB up", channel, &loop, LARGE_BYTES, rounds / 500);

    rmk_rpc_close(rpc, NULL, NULL);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
    return 0;
}
