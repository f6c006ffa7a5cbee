#include "coordinator/engine/fleet.h"

#include <string.h>

#include "coordinator/engine/timer.h"

void rmk_fleet_init(struct rmk_fleet *fleet)
{
    for (uint32_t i = 0; i < fleet->group_max; i++) {
        struct rmk_group *group = &fleet->groups[i];
        struct rmk_plan_row *rows = group->rows;
        memset(group, 0, sizeof(*group));
        group->rows = rows;
    }
    memset(fleet->visions, 0, fleet->vision_max * sizeof(*fleet->visions));
    memset(fleet->hints, 0, RMK_HINTS * sizeof(*fleet->hints));
    fleet->groups_up = 0;
    fleet->visions_up = 0;
    fleet->slots_up = 0;
    fleet->encodes_max = 0;
    fleet->encodes = 0;
}

bool rmk_fleet_group_up(struct rmk_fleet *fleet, const struct rmk_event_group *event)
{
    struct rmk_group *group = &fleet->groups[event->group];

    rmk_assert(!group->up);
    rmk_assert(group->held == 0);
    if (event->epoch <= group->epoch) {
        return false;
    }
    group->up = true;
    group->known = true;
    group->epoch = event->epoch;
    group->slot_count =
        event->slot_count < RMK_GROUP_SLOTS_MAX ? event->slot_count : RMK_GROUP_SLOTS_MAX;
    group->rows_max = event->rows_max;
    group->step_rows_max = event->step_rows_max;
    group->numerics_class = event->numerics_class;
    group->kv_rows_max = event->kv_rows_max;
    group->feature_rows_max = event->feature_rows_max;
    group->reads_max = event->reads_max;
    group->cost_full_row_ns = event->cost_full_row_ns;
    group->cost_window_row_ns = event->cost_window_row_ns;
    group->cost_round_ns = event->cost_round_ns;
    group->ahead_max = event->ahead_max;
    group->kv_held = 0;
    group->feature_held = 0;
    group->kv_reserved = false;
    memset(group->shares, 0, sizeof(group->shares));
    group->share_count = 0;
    group->tag_floor = 0;
    group->tag_most = 0;
    group->sequence = 0;
    group->in_flight = false;
    group->row_count = 0;
    memset(group->slots, 0, sizeof(group->slots));
    fleet->groups_up++;
    fleet->slots_up += group->slot_count;
    return true;
}

void rmk_fleet_group_down(struct rmk_fleet *fleet, uint32_t index)
{
    struct rmk_group *group = &fleet->groups[index];

    rmk_assert(group->up);
    group->up = false;
    group->in_flight = false;
    fleet->groups_up--;
    fleet->slots_up -= group->slot_count;
}

bool rmk_fleet_vision_up(struct rmk_fleet *fleet, const struct rmk_event_vision *event)
{
    struct rmk_vision *vision = &fleet->visions[event->vision];

    rmk_assert(!vision->up);
    if (event->epoch <= vision->epoch) {
        return false;
    }
    vision->up = true;
    vision->suspect = false;
    vision->epoch = event->epoch;
    vision->parallel_max =
        event->parallel_max < RMK_VISION_JOBS_MAX ? event->parallel_max : RMK_VISION_JOBS_MAX;
    fleet->visions_up++;
    fleet->encodes_max += vision->parallel_max;
    return true;
}

void rmk_fleet_vision_down(struct rmk_fleet *fleet, uint32_t index)
{
    struct rmk_vision *vision = &fleet->visions[index];

    rmk_assert(vision->up);
    rmk_assert(vision->job_count == 0);
    vision->up = false;
    fleet->visions_up--;
    fleet->encodes_max -= vision->parallel_max;
}

bool rmk_fleet_is_vision(const struct rmk_fleet *fleet, uint32_t vision, uint64_t epoch)
{
    return vision < fleet->vision_max && fleet->visions[vision].up &&
           fleet->visions[vision].epoch == epoch;
}

bool rmk_fleet_is_group(const struct rmk_fleet *fleet, uint32_t group, uint64_t epoch)
{
    return group < fleet->group_max && fleet->groups[group].up &&
           fleet->groups[group].epoch == epoch;
}

bool rmk_fleet_can_hold(const struct rmk_group *group, const struct rmk_request *request)
{
    return group->slot_count > 0 && request->total_rows <= group->rows_max &&
           request->step_rows <= group->step_rows_max && request->kv_rows <= group->kv_rows_max &&
           request->feature_rows <= group->feature_rows_max &&
           (group->reads_max == 0 || request->reads_most <= group->reads_max);
}

bool rmk_fleet_could_hold(const struct rmk_fleet *fleet, const struct rmk_request *request)
{
    bool known = false;

    for (uint32_t i = 0; i < fleet->group_max; i++) {
        if (fleet->groups[i].known) {
            known = true;
            if (rmk_fleet_can_hold(&fleet->groups[i], request)) {
                return true;
            }
        }
    }
    return !known;
}

enum rmk_err rmk_fleet_explain(const struct rmk_fleet *fleet, const struct rmk_request *request,
                               struct rmk_why *why)
{
    uint32_t rows = 0;
    uint32_t kv_rows = 0;
    uint32_t feature_rows = 0;
    uint32_t reads = 0;
    bool long_enough = false;
    bool roomy_enough = false;
    bool featured_enough = false;

    for (uint32_t i = 0; i < fleet->group_max; i++) {
        const struct rmk_group *group = &fleet->groups[i];
        uint32_t fits =
            group->rows_max < group->step_rows_max ? group->rows_max : group->step_rows_max;
        if (!group->known) {
            continue;
        }
        rows = fits > rows ? fits : rows;
        if (request->total_rows > group->rows_max || request->step_rows > group->step_rows_max) {
            continue;
        }
        long_enough = true;
        kv_rows = group->kv_rows_max > kv_rows ? group->kv_rows_max : kv_rows;
        if (request->kv_rows <= group->kv_rows_max) {
            roomy_enough = true;
            feature_rows =
                group->feature_rows_max > feature_rows ? group->feature_rows_max : feature_rows;
            if (request->feature_rows <= group->feature_rows_max) {
                featured_enough = true;
                reads = group->reads_max > reads ? group->reads_max : reads;
            }
        }
    }
    if (roomy_enough && !featured_enough) {
        return rmk_fail(why, RMK_EINVAL,
                        "the request's cache needs %u feature rows; the largest group has %u",
                        request->feature_rows, feature_rows);
    }
    if (roomy_enough) {
        return rmk_fail(why, RMK_EINVAL,
                        "the request may read %u positions at once; a group takes %u",
                        request->reads_most, reads);
    }
    if (long_enough) {
        return rmk_fail(why, RMK_EINVAL,
                        "the request's cache needs %u key/value rows; the largest group has %u",
                        request->kv_rows, kv_rows);
    }
    return rmk_fail(why, RMK_EINVAL, "the request needs %u rows; the largest group takes %u",
                    request->step_rows, rows);
}

bool rmk_fleet_may_go_on(const struct rmk_group *group, const struct rmk_request *request)
{
    bool begun = request->classed && request->canvas.forward > 0;

    return !begun || group->numerics_class == request->numerics_class;
}

void rmk_fleet_reserve(struct rmk_fleet *fleet, const struct rmk_request *request)
{
    for (uint32_t i = 0; request->kv_rows > 0 && i < fleet->group_max; i++) {
        struct rmk_group *group = &fleet->groups[i];
        group->kv_reserved |=
            group->up && rmk_fleet_can_hold(group, request) && rmk_fleet_may_go_on(group, request);
    }
}

bool rmk_fleet_has_rows(const struct rmk_group *group, const struct rmk_request *request,
                        uint32_t kv_rows, uint32_t feature_rows)
{
    return request->kv_rows <= group->kv_rows_max - group->kv_held + kv_rows &&
           request->feature_rows <= group->feature_rows_max - group->feature_held + feature_rows;
}

static bool has_room(const struct rmk_group *group, const struct rmk_request *request)
{
    return group->held < group->slot_count &&
           (request->kv_rows == 0 ||
            (!group->kv_reserved && rmk_fleet_has_rows(group, request, 0, 0)));
}

uint32_t rmk_fleet_choose_group(const struct rmk_fleet *fleet, const struct rmk_request *request)
{
    bool begun = request->classed && request->canvas.forward > 0;
    uint32_t best = RMK_NOWHERE;
    bool best_same = false;

    for (uint32_t i = 0; i < fleet->group_max; i++) {
        const struct rmk_group *group = &fleet->groups[i];
        if (!group->up || !rmk_fleet_can_hold(group, request)) {
            continue;
        }
        bool same = rmk_fleet_may_go_on(group, request);
        if (same && begun && !best_same) {
            /* Its own class is up: from here on no other will do, even if it has to wait. */
            best = RMK_NOWHERE;
            best_same = true;
        }
        if (same < best_same || !has_room(group, request)) {
            continue;
        }
        /* Share of slots held, compared without dividing. */
        if (best == RMK_NOWHERE || (uint64_t)group->held * fleet->groups[best].slot_count <
                                       (uint64_t)fleet->groups[best].held * group->slot_count) {
            best = i;
        }
    }
    return best;
}

static const struct rmk_hint *hint_of(const struct rmk_fleet *fleet, const uint8_t key[32])
{
    uint32_t bits = (uint32_t)key[0] | (uint32_t)key[1] << 8;

    return &fleet->hints[bits % RMK_HINTS];
}

uint32_t rmk_fleet_choose_vision(const struct rmk_fleet *fleet, const struct rmk_request_item *item)
{
    const struct rmk_hint *hint = hint_of(fleet, item->item.key);
    bool hinted = rmk_fleet_same_key(hint->key, item->item.key) &&
                  rmk_fleet_is_vision(fleet, hint->vision, hint->epoch);
    uint32_t best = RMK_NOWHERE;
    uint32_t best_rank = 0;

    for (uint32_t i = 0; i < fleet->vision_max; i++) {
        const struct rmk_vision *vision = &fleet->visions[i];
        if (!vision->up || vision->job_count >= vision->parallel_max) {
            continue;
        }
        uint32_t rank = 2;
        if (vision->suspect || item->avoid == i) {
            rank = 3;
        } else if (hinted && hint->vision == i) {
            rank = 1;
        }
        if (best == RMK_NOWHERE || rank < best_rank ||
            (rank == best_rank && vision->tiles < fleet->visions[best].tiles)) {
            best = i;
            best_rank = rank;
        }
    }
    return best;
}

uint32_t rmk_fleet_find_encode(const struct rmk_fleet *fleet, const uint8_t key[32])
{
    for (uint32_t i = 0; i < fleet->vision_max; i++) {
        const struct rmk_vision *vision = &fleet->visions[i];
        for (uint32_t j = 0; vision->job_count > 0 && j < RMK_VISION_JOBS_MAX; j++) {
            if (vision->jobs[j].busy && rmk_fleet_same_key(vision->jobs[j].what.key, key)) {
                return i;
            }
        }
    }
    return RMK_NOWHERE;
}

struct rmk_job *rmk_fleet_begin_job(struct rmk_fleet *fleet, uint32_t index,
                                    const struct rmk_item *item)
{
    struct rmk_vision *vision = &fleet->visions[index];
    struct rmk_job *job = vision->jobs;

    rmk_assert(vision->job_count < vision->parallel_max);
    while (job->busy) {
        job++;
    }
    *job = (struct rmk_job){.busy = true, .what = *item};
    vision->job_count++;
    vision->tiles += item->tile_count;
    fleet->encodes++;
    return job;
}

struct rmk_job *rmk_fleet_find_job(struct rmk_fleet *fleet, uint32_t index,
                                   struct rmk_request_id request, uint32_t item)
{
    struct rmk_vision *vision = &fleet->visions[index];

    for (uint32_t i = 0; i < RMK_VISION_JOBS_MAX; i++) {
        struct rmk_job *job = &vision->jobs[i];
        if (job->busy && job->item == item && rmk_fleet_same_request(job->request, request)) {
            return job;
        }
    }
    return NULL;
}

void rmk_fleet_end_job(struct rmk_fleet *fleet, uint32_t index, struct rmk_job *job)
{
    struct rmk_vision *vision = &fleet->visions[index];

    rmk_assert(job->busy);
    vision->job_count--;
    vision->tiles -= job->what.tile_count;
    fleet->encodes--;
    job->busy = false;
}

uint64_t rmk_fleet_job_due(const struct rmk_vision *vision)
{
    uint64_t due = RMK_TIMER_NEVER;

    for (uint32_t i = 0; i < RMK_VISION_JOBS_MAX; i++) {
        if (vision->jobs[i].busy && vision->jobs[i].deadline_us < due) {
            due = vision->jobs[i].deadline_us;
        }
    }
    return due;
}

void rmk_fleet_remember(struct rmk_fleet *fleet, const uint8_t key[32], uint32_t vision)
{
    uint32_t place = (uint32_t)(hint_of(fleet, key) - fleet->hints);
    struct rmk_hint *hint = &fleet->hints[place];

    memcpy(hint->key, key, sizeof(hint->key));
    hint->vision = vision;
    hint->epoch = fleet->visions[vision].epoch;
}

bool rmk_fleet_same_key(const uint8_t a[32], const uint8_t b[32])
{
    return memcmp(a, b, 32) == 0;
}

bool rmk_fleet_same_request(struct rmk_request_id a, struct rmk_request_id b)
{
    return a.index == b.index && a.generation == b.generation;
}
