/* A tensor-parallel group inside this process: one thread per rank, each with its own device,
 * runner and communicator, all doing what they are told in step. */
#ifndef RMK_TESTS_GOLDEN_GROUP_H
#define RMK_TESTS_GOLDEN_GROUP_H

#include <stdint.h>

#include "common/err.h"
#include "model/spec.h"
#include "worker/text/runner.h"

struct group;

struct group_options {
    const struct rmk_spec *spec;
    const char *backend;
    enum rmk_dtype act;
    const char *plugin;
    uint32_t size;
    uint32_t rows_max;
    uint32_t reads_max;
};

enum rmk_err group_create(const struct group_options *options, struct group **out_group,
                          struct rmk_why *why);
void group_destroy(struct group *group);

/* Every rank calls `run` with its runner; returns when all have, with the first error (by rank). */
typedef enum rmk_err (*group_fn)(struct rmk_runner *runner, uint32_t rank, void *context,
                                 struct rmk_why *why);
enum rmk_err group_run(struct group *group, group_fn run, void *context, struct rmk_why *why);

#endif
