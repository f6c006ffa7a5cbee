#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernels/backend.h"

enum { PLUGINS_MAX = 4 }; /* the real one, and what tests load beside it */

static const struct rmk_plugin *plugins[PLUGINS_MAX];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static enum rmk_err path_beside_executable(char *out, size_t capacity, struct rmk_why *why)
{
    static const char name[] = "libremask_cuda.so";
    ssize_t length = readlink("/proc/self/exe", out, capacity - 1);

    if (length < 0) {
        return rmk_fail(why, RMK_EUNAVAILABLE,
                        "backend cuda: /proc/self/exe does not tell where the plugin is");
    }
    out[length] = '\0';
    char *slash = strrchr(out, '/');
    size_t directory = slash != NULL ? (size_t)(slash + 1 - out) : 0;
    if (directory + sizeof(name) > capacity) {
        return rmk_fail(why, RMK_EUNAVAILABLE, "backend cuda: the plugin's path is too long");
    }
    memcpy(out + directory, name, sizeof(name));
    return RMK_OK;
}

static enum rmk_err check(const char *path, const struct rmk_plugin *plugin, struct rmk_why *why)
{
    if (plugin == NULL) {
        return rmk_fail(why, RMK_EUNAVAILABLE, "backend cuda: %s is not a Remask plugin", path);
    }
    if (plugin->abi != RMK_PLUGIN_ABI || strcmp(plugin->version, RMK_VERSION) != 0) {
        return rmk_fail(why, RMK_EUNAVAILABLE,
                        "backend cuda: %s was built for another version than this " RMK_VERSION,
                        path);
    }
    return RMK_OK;
}

/* A library that was loaded once is the same again, so asking twice gives the same plugin. */
static enum rmk_err remember(const struct rmk_plugin *plugin, struct rmk_why *why)
{
    enum rmk_err err = RMK_OK;
    size_t i = 0;

    (void)pthread_mutex_lock(&mutex);
    while (i < PLUGINS_MAX && plugins[i] != NULL && plugins[i] != plugin) {
        i++;
    }
    if (i < PLUGINS_MAX) {
        plugins[i] = plugin;
    } else {
        err = rmk_fail(why, RMK_ELIMIT, "backend cuda: %d plugins are loaded, that is enough",
                       (int)PLUGINS_MAX);
    }
    (void)pthread_mutex_unlock(&mutex);
    return err;
}

enum rmk_err rmk_plugin_load(const char *path, const struct rmk_plugin **out_plugin,
                             struct rmk_why *why)
{
    char beside[PATH_MAX];
    void *library = NULL;
    enum rmk_err err;

    if (path == NULL) {
        RMK_TRY(path_beside_executable(beside, sizeof(beside), why));
        path = beside;
    }
    /* dlopen takes a bare name as one to look for in the system's folders. */
    if (access(path, F_OK) != 0) {
        err = rmk_fail(why, RMK_EUNAVAILABLE, "backend cuda: there is no plugin %s", path);
        goto out;
    }
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        err = rmk_fail(why, RMK_EUNAVAILABLE, "backend cuda: the plugin does not load: %s",
                       dlerror());
        goto out;
    }
    const struct rmk_plugin *plugin = dlsym(library, RMK_PLUGIN_SYMBOL);
    err = check(path, plugin, why);
    if (err != RMK_OK) {
        (void)dlclose(library);
        goto out;
    }
    RMK_TRY(remember(plugin, why)); /* never closed: the CUDA runtime inside does not like it */
    *out_plugin = plugin;
out:
    return err;
}

const struct rmk_plugin *rmk_plugin_find(const struct rmk_ops *ops)
{
    const struct rmk_plugin *found = NULL;

    (void)pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < PLUGINS_MAX && plugins[i] != NULL; i++) {
        if (plugins[i]->ops == ops) {
            found = plugins[i];
        }
    }
    (void)pthread_mutex_unlock(&mutex);
    return found;
}
