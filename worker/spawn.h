/* `remask-worker text --local-ranks N`: one process per rank on this host, started before any of
 * them touches gRPC or a device. The parent does no work of its own: it starts a rank again when it
 * dies (with growing pauses), passes signals on, and goes when all have gone. A rank goes when its
 * parent does.
 */
#ifndef RMK_WORKER_SPAWN_H
#define RMK_WORKER_SPAWN_H

#include <stdint.h>

/* Run this program `count` times with `argv` (NULL-terminated, argv[0] the program) and `--rank
 * first+i --supervised` behind. The exit status of the whole. */
int rmk_spawn_ranks(char **argv, uint32_t first_rank, uint32_t count);

/* In a rank: die with the parent. */
void rmk_spawn_bind_to_parent(void);

#endif
