#include "coordinator/engine/request.h"

#include <string.h>

#include "coordinator/engine/timer.h"

void rmk_request_init(struct rmk_request *request, const struct rmk_submit *submit, uint64_t now_us)
{
    request->tag = submit->tag;
    request->deadline_us = submit->deadline_us;
    request->lane = submit->lane;
    request->tenant = submit->tenant;
    request->total_rows = submit->prompt_rows + submit->gen_length + submit->suffix_count;
    request->step_rows = request->total_rows * (submit->cfg_scale > 0 ? 2 : 1);
    request->cost = (uint64_t)request->step_rows * submit->steps;
    request->temperature = submit->temperature;
    request->cfg_scale = submit->cfg_scale;
    request->item_count = submit->item_count;
    for (uint32_t i = 0; i < submit->item_count; i++) {
        request->items[i] = (struct rmk_request_item){
            .item = submit->items[i],
            .state = RMK_ITEM_NEEDED,
            .vision = RMK_NOWHERE,
            .avoid = RMK_NOWHERE,
        };
    }
    rmk_canvas_init(&request->canvas, submit);

    request->turn = 0;
    request->entry = RMK_NOWHERE;
    request->group = RMK_NOWHERE;
    request->slot = RMK_NOWHERE;
    request->epoch = 0;
    request->opened = false;
    request->log_seen = 0;
    request->rode = 0;
    request->classed = false;
    request->numerics_class = 0;
    request->slow = false;
    request->losses = 0;
    request->not_before_us = 0;
    request->fetch_deadline_us = 0;

    request->submitted_us = now_us;
    request->first_round_us = 0;
    request->first_committed = false;
    request->usage = (struct rmk_usage){0};
    request->why.text[0] = '\0';
}

bool rmk_request_is_encoded(const struct rmk_request *request)
{
    for (uint32_t i = 0; i < request->item_count; i++) {
        if (request->items[i].state != RMK_ITEM_HELD) {
            return false;
        }
    }
    return true;
}

uint64_t rmk_request_due(const struct rmk_request *request, uint64_t now_us)
{
    uint64_t due = request->deadline_us != 0 ? request->deadline_us : RMK_TIMER_NEVER;

    if (request->stage == RMK_STAGE_FETCHING && request->fetch_deadline_us < due) {
        due = request->fetch_deadline_us;
    }
    if (request->entry != RMK_NOWHERE && request->not_before_us > now_us &&
        request->not_before_us < due) {
        due = request->not_before_us;
    }
    return due;
}

const char *rmk_request_stage_name(enum rmk_stage stage)
{
    static const char *const names[] = {
        [RMK_STAGE_FREE] = "free",         [RMK_STAGE_WAITING] = "waiting",
        [RMK_STAGE_ENCODING] = "encoding", [RMK_STAGE_SEEKING] = "seeking",
        [RMK_STAGE_FETCHING] = "fetching", [RMK_STAGE_READY] = "ready",
        [RMK_STAGE_RIDING] = "riding",
    };

    return names[stage];
}
