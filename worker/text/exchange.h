/* Sums over the ranks of a group, of fp32 that lies on the device. In place where the communicator
 * takes device memory (nccl) or the device's memory is the host's; else through a staging buffer of
 * the host, which also lets several ranks share one GPU.
 */
#ifndef RMK_WORKER_TEXT_EXCHANGE_H
#define RMK_WORKER_TEXT_EXCHANGE_H

#include <stddef.h>

#include "kernels/kernels.h"
#include "worker/tp/comm.h"

struct rmk_exchange {
    struct rmk_device *device;
    struct rmk_comm *comm; /* borrowed; NULL: one rank */
    float *staging;        /* NULL on host devices */
};

/* All-zero is a valid state for rmk_exchange_deinit. */
enum rmk_err rmk_exchange_init(struct rmk_exchange *exchange, struct rmk_device *device,
                               struct rmk_why *why);
void rmk_exchange_deinit(struct rmk_exchange *exchange);

/* Whether device memory may be read and written by the host. */
bool rmk_exchange_is_host(const struct rmk_device *device);

/* x = sum over ranks. Collective. In place. */
enum rmk_err rmk_exchange_sum(struct rmk_exchange *exchange, float *x, size_t count,
                              struct rmk_why *why);

#endif
