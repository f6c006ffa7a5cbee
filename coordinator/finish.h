/* The end of a request as its clients see it: with what, if anything, they are answered, and when
 * that must be decided.
 */
#ifndef RMK_COORDINATOR_FINISH_H
#define RMK_COORDINATOR_FINISH_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

struct rmk_action;
struct rmk_request;
struct rmk_result;
struct rmk_submit;

/* The engine's deadline for a request whose call ends at `call_deadline_us` (0: never). */
uint64_t rmk_finish_deadline_us(const struct rmk_submit *submit, uint64_t call_deadline_us,
                                uint64_t now_us);

/* The FINISH has an answer; otherwise rmk_finish_status says what it is. */
bool rmk_finish_answers(const struct rmk_request *request, const struct rmk_action *action);

/* Finish the request's stream and make its answer. NULL: no memory. */
struct rmk_result *rmk_finish_result(struct rmk_request *request, const struct rmk_action *action,
                                     struct rmk_why *why);

/* One sentence and its status (enum rmk_status) for an end without an answer. */
int rmk_finish_status(const struct rmk_action *action, struct rmk_why *why);

#endif
