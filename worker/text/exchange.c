#include "worker/text/exchange.h"

#include <stdlib.h>
#include <string.h>

enum { STAGING_FLOATS = 1 << 20 };

bool rmk_exchange_is_host(const struct rmk_device *device)
{
    return strcmp(device->info.backend, "ref") == 0 || strcmp(device->info.backend, "cpu") == 0;
}

enum rmk_err rmk_exchange_init(struct rmk_exchange *exchange, struct rmk_device *device,
                               struct rmk_why *why)
{
    *exchange = (struct rmk_exchange){.device = device};
    if (rmk_exchange_is_host(device)) {
        return RMK_OK;
    }
    exchange->staging = malloc(STAGING_FLOATS * sizeof(float));
    if (exchange->staging == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory to stage sums over ranks");
    }
    return RMK_OK;
}

void rmk_exchange_deinit(struct rmk_exchange *exchange)
{
    free(exchange->staging);
    *exchange = (struct rmk_exchange){0};
}

enum rmk_err rmk_exchange_sum(struct rmk_exchange *exchange, float *x, size_t count,
                              struct rmk_why *why)
{
    struct rmk_device *device = exchange->device;
    enum rmk_err err = RMK_OK;

    if (exchange->comm == NULL) {
        goto out;
    }
    if (rmk_comm_on_device(exchange->comm)) {
        RMK_TRY(rmk_comm_all_reduce(exchange->comm, x, count, why));
        goto out;
    }
    RMK_TRY(device->ops->synchronize(device, why));
    if (exchange->staging == NULL) {
        RMK_TRY(rmk_comm_all_reduce(exchange->comm, x, count, why));
        goto out;
    }
    for (size_t done = 0; done < count; done += STAGING_FLOATS) {
        size_t length = count - done < STAGING_FLOATS ? count - done : STAGING_FLOATS;
        RMK_TRY(device->ops->download(device, exchange->staging, x + done, length * sizeof(float)));
        RMK_TRY(rmk_comm_all_reduce(exchange->comm, exchange->staging, length, why));
        RMK_TRY(device->ops->upload(device, x + done, exchange->staging, length * sizeof(float)));
        RMK_TRY(device->ops->synchronize(device, why));
    }
out:
    return err;
}
