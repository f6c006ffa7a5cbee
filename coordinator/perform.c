#include "coordinator/perform.h"

#include <stdio.h>

#include "coordinator/arena.h"
#include "coordinator/back/text_link.h"
#include "coordinator/back/vision_link.h"
#include "coordinator/engine/engine.h"
#include "coordinator/front/intake.h"
#include "coordinator/loop.h"
#include "coordinator/requests.h"

static void encode(struct rmk_performer *performer, const struct rmk_action *action)
{
    const struct rmk_request *request = rmk_requests_find(performer->requests, action->request);
    uint32_t item = action->place.item;

    rmk_assert(request != NULL);
    rmk_assert(item < request->intake->submit.item_count);
    rmk_visions_encode(performer->visions, action->place.vision, action->place.vision_epoch,
                       &(struct rmk_encode){
                           .request = action->request,
                           .item = item,
                           .key = request->intake->submit.items[item].key,
                           .frames = request->intake->media[item].frames,
                           .frame_count = request->intake->media[item].frame_count,
                           .mode = request->intake->media[item].mode,
                           .rows = request->intake->submit.items[item].rows,
                       });
}

static void prefetch(struct rmk_performer *performer, const struct rmk_action *action)
{
    const struct rmk_request *request = rmk_requests_find(performer->requests, action->request);
    const char *address =
        rmk_visions_address(performer->visions, action->place.vision, action->place.vision_epoch);
    uint32_t item = action->place.item;

    rmk_assert(request != NULL);
    rmk_assert(item < request->intake->submit.item_count);
    if (address == NULL) {
        /* The worker has left in this very turn. VISION_DOWN comes too; this answers the order
         * itself. */
        rmk_loop_post(performer->loop, &(struct rmk_event){
                                           .kind = RMK_EVENT_FEATURES_FAILED,
                                           .features =
                                               {
                                                   .request = action->request,
                                                   .item = item,
                                                   .group = action->place.group,
                                                   .epoch = action->place.epoch,
                                                   .err = RMK_ENOTFOUND,
                                                   .why = "the vision worker has left",
                                               },
                                       });
        return;
    }
    rmk_texts_prefetch(performer->texts, action->place.group, action->place.epoch,
                       &(struct rmk_prefetch){
                           .request = action->request,
                           .item = item,
                           .key = request->intake->submit.items[item].key,
                           .address = address,
                           .vision_epoch = action->place.vision_epoch,
                           .rows = request->intake->submit.items[item].rows,
                       });
}

static void run_step(struct rmk_performer *performer, const struct rmk_action *action)
{
    const struct rmk_plan *plan = &action->plan;
    const struct rmk_intake **intakes =
        rmk_arena_take(performer->scratch, plan->row_count * sizeof(*intakes));

    for (uint32_t i = 0; i < plan->row_count; i++) {
        struct rmk_request *request = rmk_requests_find(performer->requests, plan->rows[i].request);

        rmk_assert(request != NULL);
        intakes[i] = request->intake;
        if (plan->rows[i].open) {
            /* Kept here: when the answer is complete, the group may be gone. */
            (void)snprintf(request->numerics, sizeof(request->numerics), "%s",
                           rmk_texts_numerics(performer->texts, plan->group));
        }
    }
    rmk_texts_run(performer->texts, plan, intakes);
    rmk_arena_reset(performer->scratch);
}

void rmk_perform(struct rmk_performer *performer, const struct rmk_action *action)
{
    switch (action->kind) {
    case RMK_ACTION_ACCEPTED:
        rmk_requests_accepted(performer->requests, action);
        break;
    case RMK_ACTION_ENCODE:
        encode(performer, action);
        break;
    case RMK_ACTION_PREFETCH:
        prefetch(performer, action);
        break;
    case RMK_ACTION_RUN_STEP:
        run_step(performer, action);
        break;
    case RMK_ACTION_EMIT:
        rmk_requests_emit(performer->requests, action);
        break;
    case RMK_ACTION_FINISH:
        rmk_requests_finish(performer->requests, action);
        break;
    case RMK_ACTION_RELEASE:
        rmk_texts_forget(performer->texts, action->place.group, action->place.epoch,
                         action->request);
        break;
    case RMK_ACTION_DISSOLVE:
        rmk_texts_dissolve(performer->texts, action->place.group, action->place.epoch,
                           "a plan was not answered in time; --plan-timeout-ms gives it more");
        break;
    case RMK_ACTION_SET_TIMER:
        break; /* the loop's own */
    }
}
