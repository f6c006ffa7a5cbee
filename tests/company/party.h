/* The real engine over real runners, in one process: requests come in, plans are run, answers go
 * back, and on demand the group is lost with all it kept.
 *
 *     submit ─► engine ─► RUN_STEP ─► runners (one thread a rank) ─► STEP_DONE ─► engine ─► FINISH
 */
#ifndef RMK_TESTS_COMPANY_PARTY_H
#define RMK_TESTS_COMPANY_PARTY_H

#include <stdbool.h>
#include <stdint.h>

#include "coordinator/engine/engine.h"
#include "model/spec.h"
#include "tests/company/spy.h"

enum {
    PARTY_ASKS = 65, /* one request and 64 neighbours */
    PARTY_PROMPT_MAX = 24,
    PARTY_GEN_MAX = 16,
    PARTY_LAYOUTS = 3,
    PARTY_LOSSES_MAX = 3,
};

struct party_ask {
    struct rmk_submit submit; /* tag: its index */
    int32_t ids[PARTY_PROMPT_MAX];
    uint32_t picture_begin; /* rows of the prompt that are a picture's */
    uint32_t picture_end;
    float *features;
};

struct party_answer {
    bool finished;
    enum rmk_finish reason;
    int32_t ids[PARTY_GEN_MAX];
    uint32_t id_count;
    struct rmk_usage usage;
};

/* Who comes, and what happens. */
struct party_plan {
    uint32_t rows_per_plan;
    uint64_t order_seed;               /* of the submits and of the rows of each plan */
    uint32_t losses[PARTY_LOSSES_MAX]; /* rounds after which the group is lost before it is heard;
                                          0: none */
};

struct party;

struct party *party_create(const struct rmk_spec *spec, enum rmk_dtype act, uint32_t ranks,
                           uint32_t threads);
void party_destroy(struct party *party);

/* A mix of every rule, cache and kind of guidance, lengths and pictures. */
void party_make_asks(const struct rmk_spec *spec, struct party_ask *asks);
void party_free_asks(struct party_ask *asks);

/* Asks [begin, end) together; answers by index. Returns the number of rounds. */
uint32_t party_run(struct party *party, const struct party_plan *plan, const struct party_ask *asks,
                   uint32_t begin, uint32_t end, struct party_answer *answers);

struct spy *party_spy(struct party *party, uint32_t rank);
/* The most rows that one plan has had. */
uint32_t party_widest(const struct party *party);

#endif
