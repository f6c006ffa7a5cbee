#include "coordinator/finish.h"

#include <stdio.h>

#include "common/rpc/rpc.h"
#include "coordinator/engine/engine.h"
#include "coordinator/front/intake.h"
#include "coordinator/requests.h"
#include "coordinator/result.h"
#include "coordinator/stream.h"

/* Between the engine's deadline and that of the call, for DEADLINE_BEST. */
enum { ANSWER_RESERVE_US_MIN = 10000, ANSWER_RESERVE_US_MAX = 250000 };

/* gRPC ends a call at its deadline, whatever is still on the way. An answer that is due then leaves
 * a little before: a twentieth of the time allowed, within bounds. */
uint64_t rmk_finish_deadline_us(const struct rmk_submit *submit, uint64_t call_deadline_us,
                                uint64_t now_us)
{
    uint64_t left_us, reserve_us;

    if (!submit->best_at_deadline || call_deadline_us <= now_us) {
        return call_deadline_us;
    }
    left_us = call_deadline_us - now_us;
    reserve_us = left_us / 20;
    if (reserve_us < ANSWER_RESERVE_US_MIN) {
        reserve_us = ANSWER_RESERVE_US_MIN;
    } else if (reserve_us > ANSWER_RESERVE_US_MAX) {
        reserve_us = ANSWER_RESERVE_US_MAX;
    }
    return reserve_us < left_us ? call_deadline_us - reserve_us : now_us;
}

/* A canvas without a single commit is no answer, however good the best one may be. */
bool rmk_finish_answers(const struct rmk_request *request, const struct rmk_action *action)
{
    switch (action->finish.reason) {
    case RMK_FINISH_LENGTH:
    case RMK_FINISH_STOP:
        return true;
    case RMK_FINISH_DEADLINE:
        return request->intake->submit.best_at_deadline && action->finish.usage.committed > 0;
    default:
        return false;
    }
}

struct rmk_result *rmk_finish_result(struct rmk_request *request, const struct rmk_action *action,
                                     struct rmk_why *why)
{
    const struct rmk_submit *submit = &request->intake->submit;
    struct rmk_result *result = NULL;
    const int32_t *ids = action->finish.ids;
    uint32_t id_count = action->finish.id_count;
    bool stopped;

    rmk_assert(id_count >= submit->suffix_count);
    if (rmk_stream_finish(request->stream, ids, id_count - submit->suffix_count, submit->suffix,
                          submit->suffix_count, why) != RMK_OK) {
        return NULL;
    }
    /* The engine cuts at ids; only the stream knows where a stop in the text begins. */
    stopped = rmk_stream_stopped(request->stream);
    if (stopped) {
        ids = rmk_stream_ids(request->stream, &id_count);
    }
    result = rmk_result_create(rmk_stream_text(request->stream), ids, id_count);
    if (result == NULL) {
        (void)rmk_fail(why, RMK_ELIMIT, "no memory for a result");
        return NULL;
    }
    result->reason = stopped ? RMK_FINISH_STOP : action->finish.reason;
    result->profile = request->intake->profile;
    result->suffix_count = submit->suffix_count;
    result->completion_tokens = id_count - submit->suffix_count;
    if (result->reason == RMK_FINISH_DEADLINE) {
        for (uint32_t i = 0; i < id_count - submit->suffix_count; i++) {
            result->completion_tokens -= ids[i] == submit->mask_id;
        }
    }
    result->prompt_rows = submit->prompt_rows;
    result->image_rows = request->intake->image_rows;
    result->image_tiles = request->intake->image_tiles;
    result->usage = action->finish.usage;
    (void)snprintf(result->numerics, sizeof(result->numerics), "%s", request->numerics);
    return result;
}

int rmk_finish_status(const struct rmk_action *action, struct rmk_why *why)
{
    const char *reason = action->finish.why != NULL ? action->finish.why : "";

    switch (action->finish.reason) {
    case RMK_FINISH_CANCELLED:
        (void)rmk_fail(why, RMK_ECANCELLED, "the request was cancelled");
        return RMK_STATUS_CANCELLED;
    case RMK_FINISH_DEADLINE:
        (void)rmk_fail(why, RMK_EDEADLINE, "the deadline passed after %u committed tokens",
                       action->finish.usage.committed);
        return RMK_STATUS_DEADLINE_EXCEEDED;
    case RMK_FINISH_REFUSED:
        (void)rmk_fail(why, action->finish.err, "%s", reason);
        if (action->finish.retry_after_us > 0) {
            (void)rmk_fail(why, action->finish.err, "%s; try again in %.1f s", reason,
                           (double)action->finish.retry_after_us / 1e6);
        }
        /* Nothing is wrong with the request, but no group here can do it. */
        return action->finish.err == RMK_EUNSUPPORTED ? RMK_STATUS_FAILED_PRECONDITION
                                                      : (int)rmk_status_of(action->finish.err);
    default:
        (void)rmk_fail(why, action->finish.err, "%s", reason);
        switch (action->finish.err) {
        case RMK_EINVAL:
        case RMK_ECORRUPT:
        case RMK_EUNSUPPORTED:
        case RMK_ELIMIT:
            return RMK_STATUS_INVALID_ARGUMENT; /* the picture's fault, found by whoever decoded it
                                                 */
        default:
            return rmk_status_of(action->finish.err);
        }
    }
}
