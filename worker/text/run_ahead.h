/* A plan's rows gone on with, without asking: after each forward every rank commits what the
 * coordinator would, with its code (coordinator/engine/ahead.h), and runs the rows' next forwards.
 * Every rank fills the same reads from the same gathered bytes, so all of them come to the same
 * next step, and to the same end.
 *
 * All rows go on together, and stop together: after the forwards there is leave for, when a row has
 * none left or would compute everything anew, or when a logit was not finite.
 */
#ifndef RMK_WORKER_TEXT_RUN_AHEAD_H
#define RMK_WORKER_TEXT_RUN_AHEAD_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "worker/text/runner.h"

struct rmk_ahead;
struct rmk_plan_update;
struct rmk_run_ahead;

/* `rows` as the plan has them, each from where `aheads` [row_count] says it stands; `forwards` in
 * all. Keeps `rows`, nothing else. RMK_EINVAL: a leave that is not for its row, RMK_ELIMIT: more
 * than a plan may come back with, or no memory. */
enum rmk_err rmk_run_ahead_create(const struct rmk_row *rows, const struct rmk_ahead *aheads,
                                  uint32_t row_count, uint32_t forwards,
                                  struct rmk_run_ahead **out_ahead, struct rmk_why *why);
void rmk_run_ahead_destroy(struct rmk_run_ahead *ahead); /* takes NULL */

/* Go on from the first forward's answer, as rmk_runner_run gave it. Collective. */
enum rmk_err rmk_run_ahead_run(struct rmk_run_ahead *ahead, struct rmk_runner *runner,
                               const struct rmk_read *reads, const bool *poisoned,
                               struct rmk_why *why);

/* What one row did in one of its later forwards. */
struct rmk_run_ahead_forward {
    const struct rmk_plan_update *commits; /* before it, in their order */
    uint32_t commit_count;
    const uint32_t *positions;
    const struct rmk_read *reads;
    uint32_t count;
};

/* Forwards beyond the first that this row has answers of. */
uint32_t rmk_run_ahead_count(const struct rmk_run_ahead *ahead, uint32_t row);
struct rmk_run_ahead_forward rmk_run_ahead_at(const struct rmk_run_ahead *ahead, uint32_t row,
                                              uint32_t forward);
/* A logit of the one after them was not finite. */
bool rmk_run_ahead_poisoned(const struct rmk_run_ahead *ahead, uint32_t row);

#endif
