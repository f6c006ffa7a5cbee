/* One rank's share of the text model: open a request into a slot, run plans of rows, close the
 * slot.
 *
 * Every rank of a group gets the same calls in the same order; the calls are collective. The runner
 * owns weights, slots and scratch, all sized at create. It knows nothing of gRPC:
 * worker/text/serve.c turns StepPlans into these structs, and remask-golden drives it directly.
 *
 *     slot:  E [P + G + S, D] fp32   prompt rows, mask embeddings, suffix rows; updated in place by
 * commits
 */
#ifndef RMK_WORKER_TEXT_RUNNER_H
#define RMK_WORKER_TEXT_RUNNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "kernels/kernels.h"
#include "model/spec.h"
#include "worker/tp/comm.h"

struct rmk_runner;

struct rmk_runner_options {
    const struct rmk_spec *spec; /* bound to its tokenizer; copied */
    struct rmk_device *device;   /* borrowed */
    uint32_t rank;
    uint32_t size; /* R: heads by key/value head, MLP columns and vocabulary are cut in R, uneven
                      cuts allowed */
    uint32_t slot_count;
    uint32_t rows_max;      /* longest sequence L of one request */
    uint32_t step_rows_max; /* T: FULL rows of one plan together, CFG counted double */
    uint32_t reads_max;     /* positions read in one plan */
    uint32_t kv_rows_max;   /* key/value rows over all slots; 0: no caches. A request's extent is L
                               rows, CFG: 2 L */
    uint32_t feature_rows_max; /* of these, rows that can also keep attention and MLP outputs */
    bool load_dummy;           /* weights from `dummy_seed` instead of the files, bf16 values */
    uint64_t dummy_seed;
};

/* Loads this rank's slice. Errors name the tensor. RMK_EINVAL: more ranks than key/value heads. */
enum rmk_err rmk_runner_create(const struct rmk_runner_options *options,
                               struct rmk_runner **out_runner, struct rmk_why *why);
void rmk_runner_destroy(struct rmk_runner *runner);

/* Use `comm` (borrowed) from now on; NULL detaches. Closes every slot: a new epoch knows no
 * requests. */
void rmk_runner_set_comm(struct rmk_runner *runner, struct rmk_comm *comm);

/* Weights, slots, scratch in bytes, one line a person can read. */
void rmk_runner_describe(const struct rmk_runner *runner, char *out, size_t capacity);

/* A stretch of the prompt: token ids, or rows of projected features. */
struct rmk_layout {
    const int32_t *ids;    /* NULL: features */
    const float *features; /* host fp32 [rows, D]; only rank 0 needs it, others pass NULL; broadcast
                              inside open */
    uint32_t rows;
};

struct rmk_open {
    uint32_t slot;
    uint32_t prompt_rows; /* P: sum of the layout's rows */
    const struct rmk_layout *layout;
    uint32_t layout_count;
    uint32_t gen_length; /* G */
    const int32_t *suffix;
    uint32_t suffix_count; /* S */
    bool kv;               /* reserve an extent of keys and values */
    bool cfg;              /* and a second one for the guidance pass */
    bool feature;          /* the extent also keeps attention and MLP outputs (RMK_ROW_FEATURE) */
};

/* Collective. Errors: RMK_EINVAL (slot in use, id outside the vocabulary, rows do not add up),
 * RMK_ELIMIT (P + G + S > rows_max; no extent is free), communicator errors. Features with NaN or
 * Inf: RMK_EINTERNAL. */
enum rmk_err rmk_runner_open(struct rmk_runner *runner, const struct rmk_open *open,
                             struct rmk_why *why);
void rmk_runner_close(struct rmk_runner *runner, uint32_t slot); /* no-op on a free slot */

struct rmk_update {
    uint32_t position; /* absolute in [0, P + G + S) */
    int32_t id;        /* its embedding replaces the row before the forward */
};

enum rmk_row_kind {
    RMK_ROW_FULL = 0, /* every position of the request */
    RMK_ROW_WINDOW,   /* positions [window_begin, window_end) against the slot's keys and values,
                         theirs renewed in place */
    RMK_ROW_FEATURE,  /* dLLM-Cache: refresh_prompt, refresh_gen, else the transfer_ratio least
                         similar rows */
};

/* FEATURE only: rows chosen by the record instead of by similarity, or the rows that were chosen.
 * One list per layer. */
struct rmk_feature_choice {
    const uint32_t *const *rows; /* [layer_count][count], relative to the prompt's end */
    uint32_t count;
};

/* One request's forward. */
struct rmk_row {
    uint32_t slot;
    enum rmk_row_kind kind;
    bool keep;             /* FULL: write every position's keys and values into the extent */
    uint32_t window_begin; /* WINDOW: absolute positions */
    uint32_t window_end;
    bool refresh_prompt; /* FEATURE */
    bool refresh_gen;
    double transfer_ratio;
    const struct rmk_feature_choice *replay; /* FEATURE: [1 + cfg]; NULL: choose by similarity */
    float cfg_scale; /* > 0: a second pass with rows 0..P-1 replaced by the mask embedding */
    const struct rmk_update *updates;
    uint32_t update_count;
    const uint32_t *reads; /* positions whose guess is wanted, ascending */
    uint32_t read_count;
    enum rmk_noise noise;
    double temperature;
    uint64_t seed;
    uint64_t forward; /* evaluation number of the request, from 0 */
};

struct rmk_read {
    int32_t token;
    double confidence; /* softmax probability of `token` from the clean logits, suppressed ids
                          removed */
};

/* Run rows in one forward. reads_out: all rows' reads one after another. `poisoned` [row_count]:
 * true where a logit was not finite; that row's reads mean nothing, the others' are good.
 * Collective: every rank fills the same bytes. */
enum rmk_err rmk_runner_run(struct rmk_runner *runner, const struct rmk_row *rows,
                            uint32_t row_count, struct rmk_read *reads_out, bool *poisoned,
                            struct rmk_why *why);

/* What a forward costs: `round` whatever it holds, and each row. 0: not measured. */
struct rmk_runner_cost {
    uint64_t full_row_ns;
    uint64_t window_row_ns;
    uint64_t round_ns;
};

/* Time some small forwards of this rank alone (not collective), at start: no request may be open.
 * Takes a fraction of a second; a model too slow for that is not measured. */
enum rmk_err rmk_runner_measure(struct rmk_runner *runner, struct rmk_runner_cost *out_cost,
                                struct rmk_why *why);

/* For golden comparison: the slot's embedding rows [count, D] from `begin`; and raw logits, nothing
 * suppressed, of the positions given, gathered over ranks to [count, V] on every rank. Collective.
 */
enum rmk_err rmk_runner_embeddings(struct rmk_runner *runner, uint32_t slot, uint32_t begin,
                                   uint32_t count, float *out, struct rmk_why *why);
enum rmk_err rmk_runner_logits(struct rmk_runner *runner, uint32_t slot, const uint32_t *positions,
                               uint32_t count, float *out, struct rmk_why *why);

#endif
