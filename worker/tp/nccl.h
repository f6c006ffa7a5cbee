/* The part of NCCL's interface (2.28) that we call, from a library found at run time: a CPU build
 * needs neither its header nor the library. tests/unit/worker/tp/nccl_header.c compares this with
 * nccl.h where there is one. Private to this folder. */
#ifndef RMK_WORKER_TP_NCCL_H
#define RMK_WORKER_TP_NCCL_H

#include <stddef.h>

#include "common/err.h"

enum rmk_nccl_result {
    RMK_NCCL_SUCCESS = 0,
    RMK_NCCL_IN_PROGRESS = 7, /* a non-blocking communicator is not through with the call yet */
};

enum {
    RMK_NCCL_INT8 = 0,
    RMK_NCCL_FLOAT32 = 7,
    RMK_NCCL_SUM = 0,
    RMK_NCCL_ID_BYTES = 128,
    RMK_NCCL_VERSION_MIN = 22800,
    RMK_NCCL_VERSION_SHARED_GPU = 23000, /* the first with NCCL_MULTI_RANK_GPU_ENABLE */
    RMK_NCCL_CONFIG_MAGIC = (int)0xcafebeef,
};

struct rmk_nccl_id {
    char bytes[RMK_NCCL_ID_BYTES];
};

struct rmk_nccl_config {
    size_t size;
    unsigned magic;
    unsigned version;
    int blocking;
    int cga_cluster_size;
    int min_ctas;
    int max_ctas;
    const char *net_name;
    int split_share;
    int traffic_class;
    const char *comm_name;
    int collnet_enable;
    int cta_policy;
    int shrink_share;
    int nvls_ctas;
    int channels_per_net_peer;
    int nvlink_centric_sched;
};

typedef struct rmk_nccl_opaque *rmk_nccl_handle;

/* Results are ints because the library may know more of them than we do. */
struct rmk_nccl {
    int version;
    int (*get_version)(int *version);
    int (*get_unique_id)(struct rmk_nccl_id *id);
    int (*init_rank_config)(rmk_nccl_handle *handle, int size, struct rmk_nccl_id id, int rank,
                            struct rmk_nccl_config *config);
    int (*get_async_error)(rmk_nccl_handle handle, int *result);
    int (*abort)(rmk_nccl_handle handle);
    int (*all_reduce)(const void *in, void *out, size_t count, int type, int op,
                      rmk_nccl_handle handle, void *stream);
    int (*all_gather)(const void *in, void *out, size_t count, int type, rmk_nccl_handle handle,
                      void *stream);
    int (*broadcast)(const void *in, void *out, size_t count, int type, int root,
                     rmk_nccl_handle handle, void *stream);
    const char *(*error_string)(int result);
    const char *(*last_error)(rmk_nccl_handle handle);
};

/* The library named by rmk_comm_nccl_library, else libnccl.so.2 of the system; loaded once, never
 * closed. RMK_EUNAVAILABLE: not there, or too old (for what rmk_comm_nccl_share_gpus asked). */
enum rmk_err rmk_nccl_load(const struct rmk_nccl **out_nccl, struct rmk_why *why);

/* What a communicator is made with: non-blocking, everything else NCCL's choice. */
struct rmk_nccl_config rmk_nccl_config(void);

#endif
