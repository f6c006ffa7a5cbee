/* Inside of worker/text/runner: what its files share. Nobody else includes this.
 *
 *     runner.c         create, open, close, forward
 *     runner_check.c   whether a plan can be run
 *     runner_run.c     plans of rows: updates, forward, reads
 *     runner_cost.c    what forwards cost
 *     runner_probe.c   embeddings and raw logits, for golden comparison
 */
#ifndef RMK_WORKER_TEXT_RUNNER_STATE_H
#define RMK_WORKER_TEXT_RUNNER_STATE_H

#include "worker/text/exchange.h"
#include "worker/text/llada.h"
#include "worker/text/llada_feature.h"
#include "worker/text/runner.h"
#include "worker/text/weights.h"

enum {
    RMK_UPDATES_AT_ONCE = 256,
    RMK_FEATURE_ROWS_AT_ONCE = 256,
};

/* A request's place; `total` is 0 while it is free. */
struct rmk_slot {
    float *rows;                  /* [rows_max, D] fp32: E */
    struct rmk_rotation rotation; /* the runner's tables, or the slot's own */
    float *own_cos;               /* NULL unless the model scales dynamically */
    float *own_sin;
    uint32_t prompt;         /* P */
    uint32_t total;          /* P + G + S */
    struct rmk_kept kept[2]; /* of the request, and of its guidance pass */
    bool in_step;            /* while a plan is checked: rides already */
};

struct rmk_runner {
    struct rmk_spec spec;
    struct rmk_runner_options options; /* options.spec points to `spec` */
    struct rmk_device *device;
    struct rmk_weights *weights;
    struct rmk_llada *llada;
    struct rmk_llada_feature *feature;
    struct rmk_exchange exchange;
    struct rmk_cache cache;
    uint64_t bytes; /* device memory of slots and tables */

    struct rmk_slot *slots;
    float *cos; /* [rows_max, Dh/2] */
    float *sin;
    float *mask_row; /* [1, D]: valid once a request is open */

    /* Step: sized at create. The first three are device memory. */
    float *gathered;                /* [2 * head rows, D] */
    void *head_input;               /* act [head rows, D] */
    float *updated;                 /* [RMK_UPDATES_AT_ONCE, D] */
    uint32_t *zeros;                /* [rows_max] */
    int32_t *ids;                   /* [rows_max] of an open; [RMK_UPDATES_AT_ONCE] of a run */
    float *features;                /* [RMK_FEATURE_ROWS_AT_ONCE, D] */
    uint32_t *positions;            /* [step_rows_max] */
    struct rmk_segment *segments;   /* [2 * slot_count] */
    struct rmk_rotation *rotations; /* [2 * slot_count] */
    const struct rmk_kept **kept;   /* [2 * slot_count] */
    uint32_t pass_count;
    uint32_t row_count;
    uint32_t *head_positions;           /* [head rows]: rows of the step */
    struct rmk_head_row *head_rows;     /* [reads_max] */
    uint32_t *read_order;               /* [reads_max]: head row -> place in reads_out */
    struct rmk_head_result *results;    /* [reads_max] */
    struct rmk_head_result *everybodys; /* [R, reads_max] */
};

/* Reads under guidance take two rows of the head's input. */
static inline uint32_t rmk_runner_head_rows_max(const struct rmk_runner *runner)
{
    return 2 * runner->options.reads_max;
}

/* RMK_EUNAVAILABLE: several ranks, and no communicator. */
enum rmk_err rmk_runner_check_group(const struct rmk_runner *runner, struct rmk_why *why);

/* RMK_EINVAL outside [0, V). */
enum rmk_err rmk_runner_check_id(const struct rmk_runner *runner, int32_t id, struct rmk_why *why);

/* Rows of the embedding table, whichever rank has them; an id of -1 gives zeros. target: device
 * fp32 [count, D]. Collective. */
enum rmk_err rmk_runner_embed(struct rmk_runner *runner, const int32_t *ids, uint32_t count,
                              float *target, struct rmk_why *why);

/* Whether a slot's request has a second pass in this row. */
static inline uint32_t rmk_runner_passes(const struct rmk_row *row)
{
    return row->cfg_scale > 0 ? 2 : 1;
}

/* Every row of a plan, before anything is changed. runner_check.c. */
enum rmk_err rmk_runner_check_rows(struct rmk_runner *runner, const struct rmk_row *rows,
                                   uint32_t row_count, struct rmk_why *why);

/* Rows of one pass of a slot. */
struct rmk_pass {
    const struct rmk_slot *slot;
    bool uncond;    /* guidance: the prompt's rows are replaced by the mask embedding */
    bool keep;      /* keys and values have their place in the cache */
    uint32_t begin; /* rows [begin, end) of the sequence; all of them unless kept */
    uint32_t end;
};

/* A step is begun, filled with passes, and run. */
void rmk_runner_begin(struct rmk_runner *runner);
enum rmk_err rmk_runner_pack(struct rmk_runner *runner, const struct rmk_pass *pass);
enum rmk_err rmk_runner_forward(struct rmk_runner *runner, struct rmk_why *why);

/* A pass's rows to `target` fp32 [end - begin, D]. */
enum rmk_err rmk_runner_gather(struct rmk_runner *runner, const struct rmk_pass *pass,
                               float *target);

#endif
