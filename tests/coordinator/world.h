/* A real coordinator on loopback gRPC with scripted workers and clients, all on one loop in one
 * process. Fake text ranks "generate" the alphabet: position p of an answer is the letter p modulo
 * 26, surest first, whatever the epoch, so that a right text after a fault is a text that lost
 * nothing.
 */
#ifndef RMK_TESTS_COORDINATOR_WORLD_H
#define RMK_TESTS_COORDINATOR_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "common/bytes.h"
#include "common/rpc/rpc.h"
#include "coordinator/app.h"
#include "remask/cluster/v1/cluster.pb-c.h"
#include "remask/v1/remask.pb-c.h"

struct world {
    uv_loop_t loop;
    struct rmk_app_options options;
    struct rmk_app *app;
    struct rmk_rpc *rpc; /* of clients and fakes */
    struct rmk_rpc_channel *api;
    int32_t letters[26];
    uint8_t digest[32];
    uint32_t width;
    bool stopped;
    bool rpc_closed;
};

/* Options may be changed between the two. */
void world_init(struct world *world);
void world_start(struct world *world);
/* Drain, and see that everything ends. */
void world_end(struct world *world);

/* Run the loop until `done(context)`; fails the test after ten seconds, naming `what`. */
void world_wait(struct world *world, bool (*done)(void *context), void *context, const char *what);
/* Run the loop for a while whatever happens: to see that something does not. */
void world_run(struct world *world, uint64_t milliseconds);

/* ---- workers
 * -------------------------------------------------------------------------------------------------
 */

enum fake_plan {
    FAKE_ANSWER = 0,
    FAKE_HOLD, /* never answer */
    FAKE_BAD_HASH,
    FAKE_BAD_TOKEN,
    FAKE_SHORT,  /* one guess too few */
    FAKE_REFUSE, /* STEP_FAILED with an internal error */
    FAKE_POISON,
};

enum fake_encode {
    FAKE_ENCODE = 0,
    FAKE_ENCODE_HOLD,
    FAKE_ENCODE_CORRUPT, /* the picture's fault */
    FAKE_ENCODE_ROWS,    /* other rows than ordered */
};

struct fake {
    struct world *world;
    struct rmk_rpc_channel *channel;
    struct rmk_rpc_call *call;
    /* what it says of itself; set before fake_attach */
    bool vision;
    const char *name;
    const char *group;
    uint32_t rank;
    uint32_t size;
    uint32_t protocol;
    uint32_t rows_max;
    uint32_t reads_max;
    bool wrong_digest;
    /* what it does */
    enum fake_plan on_plan;
    enum fake_encode on_encode;
    bool silent;     /* hears and says nothing */
    uint64_t garble; /* not 0: every fourth message has some other bytes, by this state */
    uint32_t garbled_count;
    bool refuse_features; /* a pull ends NOT_FOUND, once */
    uint32_t plans_left;  /* after so many answers it holds; UINT32_MAX: for ever */
    /* what it has seen */
    bool welcomed;
    uint64_t epoch;
    uint32_t form_count;
    uint32_t dissolve_count;
    uint32_t plan_count;
    uint32_t open_count;
    uint32_t encode_count;
    uint32_t prefetch_count;
    uint32_t forget_count;
    uint32_t prompt_rows[256]; /* by slot */
    uint8_t digest[32];        /* of the last picture ordered */
    uint64_t held_request;     /* the last order */
    uint32_t held_item;
    uint32_t held_rows;
    uint8_t held_key[32];
    bool ended;
    int status;
    char message[512];
};

void fake_text(struct fake *fake, struct world *world, uint32_t rank, uint32_t size);
void fake_vision(struct fake *fake, struct world *world, const char *name);
void fake_attach(struct fake *fake);
/* As if killed. */
void fake_kill(struct fake *fake);
/* Answer the last order after all. */
void fake_answer_encode(struct fake *fake);
void fake_send(struct fake *fake, const Remask__Cluster__V1__WorkerMessage *message);
void fake_send_bytes(struct fake *fake, struct rmk_bytes bytes);

/* ---- clients
 * --------------------------------------------------------------------------------------------------
 */

struct client {
    struct world *world;
    struct rmk_rpc_call *call;
    uint32_t accepted_count;
    uint32_t canvas_count;
    uint32_t delta_count;
    char text[4096]; /* deltas together */
    Remask__V1__GenerateResult *result;
    bool ended;
    int status;
    char message[512];
};

/* A request for `gen_length` letters; the caller may change the fields before asking. */
struct ask {
    Remask__V1__GenerateRequest request;
    Remask__V1__Message message;
    Remask__V1__Message *messages[1];
    Remask__V1__Part parts[2];
    Remask__V1__Part *part_pointers[2];
    Remask__V1__Media media;
    Remask__V1__Sampling sampling;
};
void ask_init(struct ask *ask, const char *text, uint32_t gen_length);
/* Put a picture before the text: a PNG header of this size. Bytes are static. */
void ask_picture(struct ask *ask, uint32_t width, uint32_t height);

void client_ask(struct client *client, struct world *world, const struct ask *ask,
                uint64_t deadline_ms);
void client_ask_bytes(struct client *client, struct world *world, struct rmk_bytes bytes);
void client_wait(struct client *client);
void client_deinit(struct client *client);

/* "abc…" of this length, static. */
const char *alphabet(uint32_t length);
bool is_healthy(struct world *world);
/* The status of a Fetch and the size of what it brought. */
int fetch(struct world *world, const uint8_t digest[32], size_t *out_size);
Remask__V1__StatusReply *get_status(struct world *world);

#endif
