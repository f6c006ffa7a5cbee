#include "worker/tp/nccl.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "worker/tp/comm.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static const char *library_path = "libnccl.so.2";
static bool gpus_are_shared;
static void *library;
static struct rmk_nccl nccl;

void rmk_comm_nccl_library(const char *path)
{
    (void)pthread_mutex_lock(&mutex);
    library_path = path;
    (void)pthread_mutex_unlock(&mutex);
}

void rmk_comm_nccl_share_gpus(void)
{
    (void)pthread_mutex_lock(&mutex);
    gpus_are_shared = true;
    (void)setenv("NCCL_MULTI_RANK_GPU_ENABLE", "1", 0); /* read when the library is first used */
    (void)pthread_mutex_unlock(&mutex);
}

static enum rmk_err find_symbols(void *handle, struct rmk_nccl *found, struct rmk_why *why)
{
    const struct {
        const char *name;
        void *target; /* a pointer to a function */
    } symbols[] = {
        {"ncclGetVersion", &found->get_version},
        {"ncclGetUniqueId", &found->get_unique_id},
        {"ncclCommInitRankConfig", &found->init_rank_config},
        {"ncclCommGetAsyncError", &found->get_async_error},
        {"ncclCommAbort", &found->abort},
        {"ncclAllReduce", &found->all_reduce},
        {"ncclAllGather", &found->all_gather},
        {"ncclBroadcast", &found->broadcast},
        {"ncclGetErrorString", &found->error_string},
        {"ncclGetLastError", &found->last_error},
    };

    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        void *symbol = dlsym(handle, symbols[i].name);
        if (symbol == NULL) {
            return rmk_fail(why, RMK_EUNAVAILABLE, "NCCL: %s has no %s", library_path,
                            symbols[i].name);
        }
        *(void **)symbols[i].target = symbol;
    }
    return RMK_OK;
}

static enum rmk_err load(struct rmk_why *why)
{
    struct rmk_nccl found = {0};
    enum rmk_err err = RMK_OK;

    if (library != NULL) {
        return RMK_OK;
    }
    void *handle = dlopen(library_path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        return rmk_fail(why, RMK_EUNAVAILABLE, "NCCL: %s", dlerror());
    }
    RMK_TRY(find_symbols(handle, &found, why));
    if (found.get_version(&found.version) != RMK_NCCL_SUCCESS ||
        found.version < RMK_NCCL_VERSION_MIN) {
        err = rmk_fail(why, RMK_EUNAVAILABLE, "NCCL: %s is version %d, at least %d is needed",
                       library_path, found.version, (int)RMK_NCCL_VERSION_MIN);
        goto out;
    }
    nccl = found;
    library = handle;
    handle = NULL;
out:
    if (handle != NULL) {
        (void)dlclose(handle);
    }
    return err;
}

static enum rmk_err check_shared(struct rmk_why *why)
{
    int version = 0;

    (void)nccl.get_version(&version);
    if (version < RMK_NCCL_VERSION_SHARED_GPU) {
        return rmk_fail(why, RMK_EUNAVAILABLE,
                        "NCCL: %s is version %d; several ranks on one GPU need %d, or "
                        "--collectives cpu",
                        library_path, version, (int)RMK_NCCL_VERSION_SHARED_GPU);
    }
    return RMK_OK;
}

enum rmk_err rmk_nccl_load(const struct rmk_nccl **out_nccl, struct rmk_why *why)
{
    (void)pthread_mutex_lock(&mutex);
    enum rmk_err err = load(why);
    if (err == RMK_OK && gpus_are_shared) {
        err = check_shared(why);
    }
    (void)pthread_mutex_unlock(&mutex);
    if (err == RMK_OK) {
        *out_nccl = &nccl;
    }
    return err;
}

struct rmk_nccl_config rmk_nccl_config(void)
{
    return (struct rmk_nccl_config){
        .size = sizeof(struct rmk_nccl_config),
        .magic = (unsigned)RMK_NCCL_CONFIG_MAGIC,
        .version = RMK_NCCL_VERSION_MIN,
        .blocking = 0,
        .cga_cluster_size = INT_MIN, /* undefined, here and below */
        .min_ctas = INT_MIN,
        .max_ctas = INT_MIN,
        .split_share = INT_MIN,
        .traffic_class = INT_MIN,
        .collnet_enable = INT_MIN,
        .cta_policy = INT_MIN,
        .shrink_share = INT_MIN,
        .nvls_ctas = INT_MIN,
        .channels_per_net_peer = INT_MIN,
        .nvlink_centric_sched = INT_MIN,
    };
}
