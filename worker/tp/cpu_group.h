/* How the ranks of one host find each other and come to share memory.
 *
 *     rank 0                                     the others
 *     listens on an abstract unix socket   ◄───  connect, hello {secret, rank, size, epoch, pid by
 * the kernel} makes a memfd, opens pidfds          ───►  welcome + SCM_RIGHTS {memfd, pidfd of
 * every rank}
 *
 * The socket's name is random and the hello carries a secret that no list of sockets shows; a peer
 * of another user is turned away. Nothing of it has a name in a file system, so nothing stays
 * behind however the ranks end. The connections stay open: together with the pidfds they tell of a
 * peer's end.
 */
#ifndef RMK_WORKER_TP_CPU_GROUP_H
#define RMK_WORKER_TP_CPU_GROUP_H

#include <stddef.h>
#include <stdint.h>

#include "worker/tp/comm.h"
#include "worker/tp/cpu_barrier.h"

struct rmk_cpu_group {
    uint8_t *memory;
    size_t memory_bytes;
    struct rmk_cpu_watch watch;
};

enum rmk_err rmk_cpu_group_id_make(struct rmk_comm_id *id, struct rmk_why *why);

/* Blocks until every rank has been welcomed (not until each has mapped the memory). All must ask
 * for the same `memory_bytes`. */
enum rmk_err rmk_cpu_group_join(const struct rmk_comm_options *options,
                                const struct rmk_comm_id *id, size_t memory_bytes,
                                struct rmk_cpu_group *out_group, struct rmk_why *why);

/* A zeroed group is fine. */
void rmk_cpu_group_leave(struct rmk_cpu_group *group);

#endif
