/* Which residents of a group ride the next plan. What a row computes is the request's alone; this
 * only says when.
 *
 * Shares are of the group's work, measured by what rows cost: tenants with residents have equal
 * ones, and a tenant's residents have equal ones of theirs. Windows ride along with whoever leads,
 * since they add little to a round. Full forwards ride along only as far as the round stays short,
 * or as short as its leader makes it: they wait for each other, not the windows for them. Nobody
 * rides along whose tenant is far ahead of one that has somebody left out.
 *
 * Tenants: the tag says what a tenant has been charged; the least leads. Whoever rides has a tag of
 * at most `lead` more than any tenant with somebody left out; and no tag is further behind the
 * least of these than by `lead`, or its last row. So in every span of plans each of which leaves
 * somebody of tenant A out, another tenant gets no more work than A and three times (lead + dearest
 * row).
 *
 * Requests: after a row of cost c, one of n leads again once its tenant has had c * n more.
 *
 * What a group runs ahead is not charged: everybody rides a plan with leave (leave.h), and so many
 * plans that everybody rides leave all of them where they stand to each other after one: tenants
 * are even, and each request waits for its last row, from where its tenant is then.
 */
#ifndef RMK_COORDINATOR_ENGINE_BATCH_H
#define RMK_COORDINATOR_ENGINE_BATCH_H

#include <stdint.h>

#include "coordinator/engine/fleet.h"
#include "coordinator/engine/request.h"

/* At most `rows_max` riders (and no more positions and reads than one step of the group takes), in
 * riding order; charges them. */
uint32_t rmk_batch_pick(struct rmk_group *group, struct rmk_request *requests, uint32_t rows_max,
                        uint64_t now_us, struct rmk_request **out_riders);

/* What a plan of these riders takes, by what their rows cost; 0: the group has measured nothing. At
 * most an hour: a worker says what it likes. */
uint64_t rmk_batch_expect_us(const struct rmk_group *group, struct rmk_request *const *riders,
                             uint32_t rider_count);

#endif
