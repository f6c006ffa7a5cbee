/* One Generate call and what comes of it: the last message, its text whole (an answer may hold
 * NULs), and when what came.
 */
#ifndef RMK_CLI_GENERATE_H
#define RMK_CLI_GENERATE_H

#include <stdint.h>

#include <jansson.h>

#include "common/bytes.h"
#include "common/err.h"
#include "common/rpc/rpc.h"
#include "remask/v1/remask.pb-c.h"

struct rmk_answer {
    Remask__V1__GenerateResult *result; /* NULL: `status` and `why` say why not */
    struct rmk_bytes text;              /* the result's, malloc'ed */
    int status;
    struct rmk_why why;
    uint64_t begun_us;
    uint64_t first_text_us; /* 0: no text came */
    uint64_t ended_us;
};

void rmk_answer_deinit(struct rmk_answer *answer);

/* The result's usage; all zero when there is none. */
const Remask__V1__Usage *rmk_answer_usage(const struct rmk_answer *answer);
/* New references. */
json_t *rmk_answer_usage_json(const struct rmk_answer *answer);
json_t *rmk_answer_ids_json(const struct rmk_answer *answer);

struct rmk_generate;

struct rmk_generate_events {
    /* Settled text. May be NULL. */
    void (*piece)(struct rmk_generate *generate, struct rmk_bytes text);
    /* Once, last; the answer is complete and `call` NULL. */
    void (*done)(struct rmk_generate *generate);
};

/* Embedded in the caller's own struct; zero it first. */
struct rmk_generate {
    const struct rmk_generate_events *events;
    struct rmk_answer *answer;
    const char *endpoint;      /* for sentences; borrowed */
    struct rmk_rpc_call *call; /* NULL: not under way */
};

/* Send a packed request, which is copied. `answer` is filled in anew. deadline_ms 0: none. */
void rmk_generate_begin(struct rmk_generate *generate, struct rmk_rpc_channel *channel,
                        struct rmk_bytes packed, uint64_t deadline_ms, const char *const *metadata);

#endif
