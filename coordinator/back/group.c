#include "coordinator/back/group.h"

#include <string.h>

void rmk_group_init(struct rmk_group *group, uint32_t size, uint32_t form_timeout_ms,
                    uint64_t *epochs, const struct rmk_group_out *out, void *context)
{
    rmk_assert(size > 0);
    rmk_assert(size <= RMK_TP_RANKS_MAX);
    *group = (struct rmk_group){
        .out = out,
        .context = context,
        .epochs = epochs,
        .form_timeout_ms = form_timeout_ms,
        .size = size,
    };
}

static void try_form(struct rmk_group *group, uint64_t now_us)
{
    if (group->state != RMK_GROUP_WAITING || group->present_count < group->size ||
        now_us < group->not_before_us) {
        return;
    }
    group->state = RMK_GROUP_FORMING;
    group->epoch = ++*group->epochs;
    group->form_due_us = now_us + (uint64_t)group->form_timeout_ms * 1000;
    group->formed_count = 0;
    group->bootstrapped = false;
    memset(group->formed, 0, sizeof(group->formed));
    for (uint32_t rank = 0; rank < group->size; rank++) {
        group->out->form(group->context, rank, group->epoch, group->size, group->form_timeout_ms);
    }
}

/* End the epoch, if there is one, for every rank that is still attached. */
static void dissolve(struct rmk_group *group, uint64_t now_us, const char *why)
{
    bool was_up = group->state == RMK_GROUP_UP;
    uint64_t backoff_us;

    if (group->state == RMK_GROUP_WAITING) {
        return;
    }
    for (uint32_t rank = 0; rank < group->size; rank++) {
        if (group->present[rank]) {
            group->out->dissolve(group->context, rank, group->epoch, why);
        }
    }
    /* A rank that fails while forming fails again at once, and a communicator set up in a hurry
     * beside a dying peer too: each epoch without a single answered plan doubles the wait. */
    backoff_us = RMK_GROUP_BACKOFF_MIN_US;
    for (uint32_t i = 0; i < group->failure_count && backoff_us < RMK_GROUP_BACKOFF_MAX_US; i++) {
        backoff_us *= 2;
    }
    if (backoff_us > RMK_GROUP_BACKOFF_MAX_US) {
        backoff_us = RMK_GROUP_BACKOFF_MAX_US;
    }
    group->failure_count++;
    group->not_before_us = now_us + backoff_us;
    group->state = RMK_GROUP_WAITING;
    if (was_up) {
        group->out->down(group->context, group->epoch, why);
    }
}

void rmk_group_join(struct rmk_group *group, uint32_t rank, uint64_t now_us)
{
    rmk_assert(rank < group->size);
    rmk_assert(!group->present[rank]);
    group->present[rank] = true;
    group->present_count++;
    try_form(group, now_us);
}

void rmk_group_leave(struct rmk_group *group, uint32_t rank, uint64_t now_us, const char *why)
{
    rmk_assert(rank < group->size);
    rmk_assert(group->present[rank]);
    /* Gone before the others are told: nothing is sent to a stream that has ended. */
    group->present[rank] = false;
    group->present_count--;
    dissolve(group, now_us, why);
}

enum rmk_err rmk_group_bootstrap(struct rmk_group *group, uint32_t rank, uint64_t epoch,
                                 struct rmk_bytes id, struct rmk_why *why)
{
    if (rank != 0) {
        return rmk_fail(why, RMK_EINVAL, "rank %u sent a bootstrap id, which only rank 0 may",
                        rank);
    }
    if (id.size > RMK_BOOTSTRAP_BYTES_MAX) {
        return rmk_fail(why, RMK_EINVAL, "the bootstrap id has %zu bytes, at most %u are allowed",
                        id.size, RMK_BOOTSTRAP_BYTES_MAX);
    }
    if (group->state != RMK_GROUP_FORMING || epoch != group->epoch) {
        return RMK_OK;
    }
    if (group->bootstrapped) {
        return rmk_fail(why, RMK_EINVAL, "rank 0 sent a second bootstrap id for epoch %llu",
                        (unsigned long long)epoch);
    }
    group->bootstrapped = true;
    for (uint32_t other = 1; other < group->size; other++) {
        group->out->bootstrap(group->context, other, epoch, id);
    }
    return RMK_OK;
}

enum rmk_err rmk_group_formed(struct rmk_group *group, uint32_t rank, uint64_t epoch,
                              struct rmk_why *why)
{
    rmk_assert(rank < group->size);
    if (group->state == RMK_GROUP_WAITING || epoch != group->epoch) {
        return RMK_OK;
    }
    if (group->formed[rank]) {
        return rmk_fail(why, RMK_EINVAL, "rank %u said twice that epoch %llu is formed", rank,
                        (unsigned long long)epoch);
    }
    group->formed[rank] = true;
    group->formed_count++;
    if (group->formed_count == group->size) {
        group->state = RMK_GROUP_UP;
        group->out->up(group->context, epoch);
    }
    return RMK_OK;
}

void rmk_group_fault(struct rmk_group *group, uint64_t epoch, uint64_t now_us, const char *why)
{
    if (epoch == group->epoch) {
        dissolve(group, now_us, why);
    }
}

void rmk_group_worked(struct rmk_group *group)
{
    group->failure_count = 0;
}

void rmk_group_tick(struct rmk_group *group, uint64_t now_us)
{
    if (group->state == RMK_GROUP_FORMING && now_us >= group->form_due_us) {
        dissolve(group, now_us, "the group did not form in time");
    }
    try_form(group, now_us);
}

uint64_t rmk_group_due_us(const struct rmk_group *group)
{
    if (group->state == RMK_GROUP_FORMING) {
        return group->form_due_us;
    }
    if (group->state == RMK_GROUP_WAITING && group->present_count == group->size) {
        return group->not_before_us;
    }
    return 0;
}

const char *rmk_group_state_name(enum rmk_group_state state)
{
    static const char *const names[] = {"waiting for ranks", "forming", "up"};

    return names[state];
}
