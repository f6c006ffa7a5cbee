/* A few threads that share out the tasks of one loop at a time.
 *
 * Not OpenMP: libgomp's threads spin for milliseconds after each region, so two ranks on two cores
 * would eat each other's time. Ours look for the next loop for some microseconds and then sleep. A
 * loop waits only for threads that took part in it, so a thread that the system has put aside
 * delays nobody.
 */
#ifndef RMK_KERNELS_CPU_POOL_H
#define RMK_KERNELS_CPU_POOL_H

#include <stdint.h>

#include "common/err.h"

struct rmk_pool;

/* One task. `worker` is in [0, thread_count): scratch of that number is this call's own. */
typedef void rmk_pool_task(void *context, uint32_t task, uint32_t worker);

/* `thread_count` counts the caller of rmk_pool_run. */
enum rmk_err rmk_pool_create(uint32_t thread_count, struct rmk_pool **out_pool,
                             struct rmk_why *why);
void rmk_pool_destroy(struct rmk_pool *pool);

uint32_t rmk_pool_thread_count(const struct rmk_pool *pool);

/* Run tasks 0 .. task_count-1, each once, in any order on any thread; returns when all are done.
 * One caller at a time. */
void rmk_pool_run(struct rmk_pool *pool, rmk_pool_task *function, void *context,
                  uint32_t task_count);

#endif
