/* A whole cluster in one thread and in simulated time, around the real engine.
 *
 *   main.c     arguments, seeds, exit codes        script.c   scripts with expected traces
 *   swarm.c    what a seed means: limits, rates, faults
 *   world.c    time, messages, performing the engine's actions, the checks that need no worker
 *   share.c    what tenants have of a group
 *   group.c    text groups that verify what they are told      vision.c   vision workers with a
 * small cache client.c   requests, their clients, the verdict on each answer model.c    a model
 * whose answer hangs on everything it may depend on oracle.c   the official loop, written a second
 * time stats.c    what was reached
 *
 * Exit: 127 the engine broke an invariant or crashed, 128 something never ended, 129 something was
 * wrong.
 */
#ifndef RMK_TESTS_SIM_SIM_H
#define RMK_TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "coordinator/engine/engine.h"
#include "tests/sim/stats.h"

enum {
    SIM_CRASH = 127,
    SIM_LIVENESS = 128,
    SIM_WRONG = 129,

    SIM_MASK = 13, /* mask token's id, within the small vocabulary */
    SIM_VOCABULARY = 16,
    SIM_ROWS_MAX = 128, /* longest sequence */
    SIM_GEN_MAX = 64,
    SIM_ASKS_MAX = 64,
    SIM_GROUPS_MAX = 4,
    SIM_VISIONS_MAX = 4,
    SIM_SLOTS_MAX = 8,
    SIM_PLAN_ROWS_MAX = 8,
    SIM_STAGED_MAX = 64,
    SIM_CACHE_MAX = 8,
    SIM_STOPS_MAX = 4,
    SIM_STOP_IDS_MAX = 4,
    SIM_SUFFIX_MAX = 6,
    SIM_PROMPT_MASKS_MAX = 3,
    SIM_AHEAD_MAX = 6,
    SIM_READS_MAX = SIM_GEN_MAX + SIM_PROMPT_MASKS_MAX,
    SIM_ITEMS_MAX = 3,
    SIM_TENANTS = 4,
    SIM_KEEP_LINES = 60, /* of the trace, for the report of a failure */
};

struct sim;

/* ---- chance
 * ------------------------------------------------------------------------------------------------------
 */

uint64_t sim_mix(uint64_t a, uint64_t b);
uint64_t sim_random(struct sim *sim);
uint32_t sim_below(struct sim *sim, uint32_t bound);                /* [0, bound) */
uint64_t sim_between(struct sim *sim, uint64_t low, uint64_t high); /* inclusive */
bool sim_chance(struct sim *sim, uint32_t per_mille);

/* ---- model and oracle
 * -------------------------------------------------------------------------------------------- */

struct sim_model {
    uint64_t salt;
    uint32_t levels;         /* different confidences: few make many ties */
    uint32_t mask_per_mille; /* how often it predicts the mask token */
    uint32_t nan_per_mille;
    uint32_t poison_per_mille; /* of forwards */
};

/* What a slot keeps between forwards, as numbers that stand for all they were computed from. A
 * position's key and value are a number made of the ids and kept numbers that the forward that
 * wrote them has seen. */
struct sim_kept {
    bool filled; /* by a FULL row with keep */
    uint64_t kv[SIM_ROWS_MAX];
    bool featured; /* by a FEATURE row that refreshed everything */
    uint64_t prompt;
    uint64_t gen;
};

/* Which forward: rows [begin, end) are computed. */
struct sim_pass {
    enum rmk_plan_kind kind;
    bool keep;
    uint32_t begin;
    uint32_t end;
    bool refresh_prompt;
    bool refresh_gen;
    double transfer_ratio;
};

/* What a request asks, and what has become of it. */
struct sim_ask {
    uint64_t tag;
    uint64_t content; /* stands for the prompt's text */
    uint32_t prompt_rows;
    uint32_t gen_length;
    uint32_t block_length;
    uint32_t steps;
    double temperature;
    float cfg_scale;
    enum rmk_remasking remasking;
    uint64_t seed;
    bool golden_noise;
    struct rmk_rule_options rule;
    struct rmk_cache_options cache;
    bool best_at_deadline;
    bool stepwise;
    uint32_t stop_count;
    uint32_t stop_counts[SIM_STOPS_MAX];
    int32_t stop_ids[SIM_STOPS_MAX][SIM_STOP_IDS_MAX];
    uint32_t suffix_count;
    int32_t suffix[SIM_SUFFIX_MAX];
    uint32_t prompt_mask_count;
    uint32_t prompt_masks[SIM_PROMPT_MASKS_MAX];
    uint32_t item_count;
    struct rmk_item items[SIM_ITEMS_MAX];
    enum rmk_lane lane;
    uint32_t tenant;
    uint64_t deadline_us;
    uint32_t
        text_stop_at; /* its client stops it by text once so many positions are settled; 0: never */

    bool submitted;
    bool accepted;
    bool ended;
    bool cancelled; /* the engine has been told */
    bool has_text;  /* something of it was committed, since it began anew if it did */
    bool text_stopped;
    bool slow;
    bool condemned;   /* a worker has blamed it for a final error */
    uint32_t submits; /* tries, after refusals */
    uint32_t faults_before;
    struct rmk_request_id id;
    uint64_t numerics_class; /* of the last group that ran it */
    uint32_t groups;         /* bit i: group i has answered a row of it */
    uint32_t leading;        /* decided, with no mask before */
    uint32_t settled;
    int32_t settled_ids[SIM_GEN_MAX];
};

uint32_t sim_ask_rows(const struct sim_ask *ask);
/* Key/value rows that it holds on a group. */
uint32_t sim_ask_kv_rows(const struct sim_ask *ask);
/* The sequence before the first step: prompt, features, masks, suffix. */
void sim_ask_fill(const struct sim_ask *ask, int32_t *rows);
int32_t sim_feature(const uint8_t key[32], uint32_t row);

/* Everything one forward may depend on, as one number; renews what the slot keeps. */
uint64_t sim_model_forward(const struct sim_model *model, const struct sim_ask *ask,
                           const struct sim_pass *pass, const int32_t *rows, struct sim_kept *kept,
                           uint64_t forward, uint64_t numerics_class);
bool sim_model_poisons(const struct sim_model *model, uint64_t forward_hash);
void sim_model_guess(const struct sim_model *model, uint64_t forward_hash, uint32_t row,
                     int32_t *out_token, double *out_confidence);

struct sim_truth {
    bool poisoned;
    bool found;
    uint32_t forwards;
    uint32_t refreshes;
    uint32_t count; /* generated ids, cut at the stop */
    int32_t ids[SIM_GEN_MAX];
};

void sim_oracle(const struct sim_model *model, const struct sim_ask *ask, uint64_t numerics_class,
                struct sim_truth *out_truth);

/* ---- the world
 * ---------------------------------------------------------------------------------------------------
 */

/* Something that happens at a time. */
struct sim_event {
    uint64_t at_us;
    uint64_t order;
    void (*run)(struct sim *sim, struct sim_event *event);
    uint32_t index;
    uint64_t number;
    void *payload; /* malloc'ed, or NULL; freed after the run unless it was taken */
};

/* A message to the engine with all it points to. */
struct sim_message {
    struct rmk_event event;
    uint32_t row_count;
    struct rmk_row_result rows[SIM_PLAN_ROWS_MAX];
    struct rmk_guess guesses[SIM_PLAN_ROWS_MAX][SIM_READS_MAX];
    struct rmk_row_forward ahead[SIM_PLAN_ROWS_MAX][SIM_AHEAD_MAX]; /* without pointers */
    struct rmk_plan_update ahead_commits[SIM_PLAN_ROWS_MAX][SIM_AHEAD_MAX][SIM_READS_MAX];
    struct rmk_guess ahead_guesses[SIM_PLAN_ROWS_MAX][SIM_AHEAD_MAX][SIM_READS_MAX];
    uint64_t classes[SIM_PLAN_ROWS_MAX];
    char why[96];
};

struct sim_slot {
    bool used;
    struct rmk_request_id request;
    const struct sim_ask *ask;
    uint32_t kv_rows;
    int32_t rows[SIM_ROWS_MAX];
    struct sim_kept kept;
};

struct sim_staged {
    struct rmk_request_id request;
    uint32_t item;
    uint8_t key[32];
    uint64_t pull; /* number of the pull that brings it */
    bool ready;
};

/* share.c's */
struct sim_shares {
    uint64_t epoch;
    uint64_t cost_max;
    uint64_t charge_max;
    uint64_t had[SIM_TENANTS][SIM_TENANTS]; /* [a][b]: b's work while a waited */
};

struct sim_group {
    bool alive;
    uint64_t epoch;
    uint32_t slot_count;
    uint32_t rows_max;
    uint32_t step_rows_max;
    uint64_t numerics_class;
    uint32_t kv_rows_max;
    uint32_t feature_rows_max;
    uint32_t reads_max;
    uint64_t cost_full_row_ns;
    uint64_t cost_window_row_ns;
    uint64_t cost_round_ns;
    uint32_t ahead_max;
    uint32_t slowness; /* how many times longer than it takes it says that it took */
    uint64_t sequence;
    struct sim_slot slots[SIM_SLOTS_MAX];
    struct sim_staged staged[SIM_STAGED_MAX];
    uint32_t staged_count;
    uint64_t down_us; /* when the last message down arrives: streams keep their order */
    uint64_t up_us;
    bool stall_next; /* scripts: the next plan is not answered */
    bool fail_next;
    bool told; /* the coordinator has heard of it */
    struct sim_shares shares;
    /* what the coordinator has in flight, by the engine's actions */
    uint64_t flight_epoch;
    uint64_t flight_sequence; /* 0: none */
};

struct sim_vision {
    bool alive;
    uint64_t epoch;
    uint32_t parallel_max;
    uint8_t cache[SIM_CACHE_MAX][32];
    uint32_t cache_count;
    uint32_t cache_max;
    uint64_t down_us;
    uint64_t up_us;
    bool stall_next;
    bool fail_next;
};

/* Faults and their rates; all zero in scripts. */
struct sim_chaos {
    uint64_t until_us;      /* afterwards everything heals */
    uint64_t group_life_us; /* mean time to a death; 0: never */
    uint64_t vision_life_us;
    uint32_t stall_per_mille;
    uint32_t fail_per_mille;
    uint32_t condemn_per_mille;
    uint32_t garble_per_mille;
    uint32_t duplicate_per_mille;
    uint32_t untold_per_mille; /* GROUP_DOWN, VISION_DOWN lost: the next UP tells it */
    uint32_t encode_stall_per_mille;
    uint32_t encode_fail_per_mille;
    uint32_t fetch_stall_per_mille;
    uint32_t fetch_garble_per_mille; /* drawn apart, so that older seeds keep their meaning */
    uint32_t evict_per_mille;
    uint32_t bad_picture_per_mille;
    uint32_t class_change_per_mille;
    uint32_t early_close_per_mille;
    uint32_t tick_per_mille; /* ticks nobody asked for */
};

struct sim {
    uint64_t seed;
    uint64_t random;
    uint64_t now_us;
    uint64_t orders;
    struct sim_event **heap;
    uint32_t heap_count;
    uint32_t heap_max;

    struct rmk_engine_limits limits;
    void *memory;
    struct rmk_engine *engine;
    struct rmk_engine_counts before; /* of the step that is being performed */
    uint64_t timer_us;
    uint64_t timer_token;
    bool draining;
    uint32_t faults; /* injected so far */
    uint64_t pulls;

    struct sim_chaos chaos;
    struct sim_model model;
    uint64_t link_us_min;
    uint64_t link_us_max;
    uint64_t compute_us_min;
    uint64_t compute_us_max;
    uint64_t tile_us;
    uint64_t form_us;

    struct sim_group groups[SIM_GROUPS_MAX];
    uint32_t group_count;
    struct sim_vision visions[SIM_VISIONS_MAX];
    uint32_t vision_count;
    struct sim_ask asks[SIM_ASKS_MAX];
    uint32_t ask_count;
    uint32_t ended_count;
    struct sim_stats stats;

    bool print_trace;
    FILE *record; /* scripts: the trace goes here too */
    uint64_t trace_hash;
    char lines[SIM_KEEP_LINES][800];
    uint32_t line_count;
};

/* Prints why, the seed and the last trace lines, and ends the program. */
_Noreturn void sim_fail(struct sim *sim, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void sim_report(const struct sim *sim);

void sim_begin(struct sim *sim); /* limits are set: makes the engine */
void sim_end(struct sim *sim);
void sim_note(struct sim *sim, const char *line);

struct sim_event *sim_at(struct sim *sim, uint64_t at_us,
                         void (*run)(struct sim *, struct sim_event *));
/* Runs what is due next; false: nothing is left. */
bool sim_run_next(struct sim *sim);
void sim_run_until_ended(struct sim *sim, uint64_t limit_us);

/* Step the engine now. */
void sim_deliver(struct sim *sim, const struct rmk_event *event);
/* … after a delay, in order within a stream whose clock is `stream_us` (NULL: none), perhaps twice.
 * Takes `message`. */
void sim_send(struct sim *sim, struct sim_message *message, uint64_t after_us, uint64_t *stream_us);
struct sim_message *sim_message(enum rmk_event_kind kind);
uint64_t sim_link_delay(struct sim *sim);
bool sim_is_healing(const struct sim *sim);
bool sim_fault(struct sim *sim, uint32_t per_mille); /* by chance, not while healing; counted */
void sim_count(struct sim *sim, enum sim_stat what);

/* ---- workers
 * -----------------------------------------------------------------------------------------------------
 */

void sim_group_form(struct sim *sim, uint32_t group);
void sim_group_die(struct sim *sim, uint32_t group, bool told);
/* A plan has been sent: nobody has been left out for long while others rode. */
void sim_share_note(struct sim *sim, const struct rmk_plan *plan);
void sim_group_act(struct sim *sim,
                   const struct rmk_action *action); /* RUN_STEP, PREFETCH, RELEASE, DISSOLVE */
/* When all is over: nothing is staged for requests that have ended. */
void sim_group_check_idle(struct sim *sim);

void sim_vision_form(struct sim *sim, uint32_t vision);
void sim_vision_die(struct sim *sim, uint32_t vision, bool told);
void sim_vision_act(struct sim *sim, const struct rmk_action *action); /* ENCODE */
bool sim_vision_has(const struct sim *sim, uint32_t vision, uint64_t epoch, const uint8_t key[32]);
void sim_vision_evict(struct sim *sim, uint32_t vision);
bool sim_is_bad_picture(const struct sim *sim, const uint8_t key[32]);

/* ---- clients
 * -----------------------------------------------------------------------------------------------------
 */

struct sim_ask *sim_ask_of(struct sim *sim, struct rmk_request_id id);
void sim_client_submit(struct sim *sim, struct sim_ask *ask);
void sim_client_tell(struct sim *sim, struct sim_ask *ask, enum rmk_event_kind kind);
void sim_client_act(struct sim *sim, const struct rmk_action *action); /* ACCEPTED, EMIT, FINISH */
/* Whatever a request must have got in the very step in which the engine was told. */
void sim_client_check(struct sim *sim);

void sim_run_seed(uint64_t seed, bool print_trace, struct sim *sim);
int sim_run_script(const char *path, bool rewrite);

#endif
