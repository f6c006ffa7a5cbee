#include "kernels/kernels.h"

#include <string.h>

#include "kernels/backend.h"

static const struct rmk_backend *const backends[] = {
    &rmk_backend_ref,
    &rmk_backend_cpu,
};

static const struct rmk_backend *find(const char *name)
{
    for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++) {
        if (strcmp(backends[i]->name, name) == 0) {
            return backends[i];
        }
    }
    return NULL;
}

enum rmk_err rmk_device_create(const struct rmk_device_options *options,
                               struct rmk_device **out_device, struct rmk_why *why)
{
    if (options->backend == NULL) {
        return rmk_fail(why, RMK_EINVAL, "no backend named: use ref, cpu or cuda");
    }
    if (strcmp(options->backend, "cuda") == 0) {
        const struct rmk_plugin *plugin = NULL;
        enum rmk_err err = rmk_plugin_load(options->plugin, &plugin, why);
        return err == RMK_OK ? plugin->backend.create(options, out_device, why) : err;
    }
    const struct rmk_backend *backend = find(options->backend);
    if (backend == NULL) {
        return rmk_fail(why, RMK_EINVAL, "unknown backend '%s': use ref, cpu or cuda",
                        options->backend);
    }
    return backend->create(options, out_device, why);
}

void rmk_device_destroy(struct rmk_device *device)
{
    if (device == NULL) {
        return;
    }
    const struct rmk_plugin *plugin = rmk_plugin_find(device->ops);
    const struct rmk_backend *backend =
        plugin != NULL ? &plugin->backend : find(device->info.backend);
    rmk_assert(backend != NULL);
    backend->destroy(device);
}

const char *rmk_device_fault(const struct rmk_device *device)
{
    const char *fault = device->info.fault;

    return fault != NULL && fault[0] != '\0' ? fault : NULL;
}

void rmk_device_explain(const struct rmk_device *device, struct rmk_why *why)
{
    const char *fault = rmk_device_fault(device);

    if (why == NULL || fault == NULL || strstr(why->text, fault) != NULL) {
        return;
    }
    const struct rmk_why said = *why;
    (void)rmk_fail(why, RMK_EINTERNAL, "%.250s%s%.250s", said.text,
                   said.text[0] != '\0' ? ": " : "", fault);
}
