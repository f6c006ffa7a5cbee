/* What kernels/device.c knows of a backend: how to make its device and how to end it. */
#ifndef RMK_KERNELS_BACKEND_H
#define RMK_KERNELS_BACKEND_H

#include "kernels/kernels.h"

struct rmk_backend {
    const char *name;
    enum rmk_err (*create)(const struct rmk_device_options *options, struct rmk_device **out_device,
                           struct rmk_why *why);
    void (*destroy)(struct rmk_device *device);
};

extern const struct rmk_backend rmk_backend_ref;
extern const struct rmk_backend rmk_backend_cpu;

#endif
