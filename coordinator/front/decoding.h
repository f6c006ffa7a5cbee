/* Which commit rule and which cache a request gets: its profile's, unless its own fields say
 * otherwise. A number that the rule or cache in effect does not use is refused rather than ignored.
 *
 *     profile ──► rule, cache ◄── rule, cache fields ◄── their numbers ◄── numbers of the request
 */
#ifndef RMK_COORDINATOR_FRONT_DECODING_H
#define RMK_COORDINATOR_FRONT_DECODING_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "coordinator/engine/engine.h"

struct rmk_profile;

/* As it came; 0 or empty: not given. */
struct rmk_ask_decoding {
    const char *profile; /* NULL as empty: the server's default */
    int rule;            /* 1 + enum rmk_rule */
    double threshold;
    double factor;
    bool factor_compat;
    double threshold_low;
    double kappa;
    uint32_t reach;
    int cache; /* 1 + enum rmk_cache */
    uint32_t refresh_interval;
    uint32_t prompt_interval;
    uint32_t gen_interval;
    double transfer_ratio;
    int deadline_policy; /* 0: fail, 1: best */
};

/* Fill submit->rule, cache and best_at_deadline; its remasking is set already.
 * RMK_EINVAL: the sentence names the field. */
enum rmk_err rmk_decoding_resolve(const struct rmk_ask_decoding *ask,
                                  const struct rmk_profile *server_default,
                                  struct rmk_submit *submit, struct rmk_why *why);

#endif
