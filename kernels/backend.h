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

/* The one symbol of a plugin, RMK_PLUGIN_SYMBOL. `abi` comes first and must match before anything
 * else is looked at: it changes when the op table or the options do. */
struct rmk_plugin {
    uint32_t abi;
    const char *version;
    const struct rmk_ops *ops; /* of its devices: how they are told from others */
    struct rmk_backend backend;
};

#define RMK_PLUGIN_SYMBOL "rmk_cuda_plugin"
#define RMK_PLUGIN_ABI                                                                             \
    ((uint32_t)(((sizeof(struct rmk_ops) * 257 + sizeof(struct rmk_device)) * 257 +                \
                 sizeof(struct rmk_linear_source)) *                                               \
                    257 +                                                                          \
                sizeof(struct rmk_device_options)))

/* plugin.c: load the plugin at `path`, or beside the executable when it is NULL. It stays loaded.
 * RMK_EUNAVAILABLE: not there, or not one of ours. */
enum rmk_err rmk_plugin_load(const char *path, const struct rmk_plugin **out_plugin,
                             struct rmk_why *why);

/* The loaded plugin whose devices have these ops; NULL: none. */
const struct rmk_plugin *rmk_plugin_find(const struct rmk_ops *ops);

#endif
