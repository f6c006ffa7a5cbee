#include "tests/support/fake_nccl.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/tp/nccl.h"

enum { RANKS_MAX = 8, QUEUE_MAX = 8, GROUPS_MAX = 32 };

enum verb { REDUCE, GATHER, BROADCAST };

struct part {
    enum verb verb;
    const void *in;
    void *out;
    size_t count;
    int root;
};

struct group {
    struct rmk_nccl_id id;
    int size;
    struct rmk_nccl_opaque *comms[RANKS_MAX];
};

struct rmk_nccl_opaque {
    struct group *group;
    int rank;
    void *stream;
    int error; /* what get_async_error says */
    struct part queue[QUEUE_MAX];
    int queued;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct group groups[GROUPS_MAX];
static int group_count;
static int id_count;
static int announced_version = RMK_NCCL_VERSION_MIN;

int ncclGetVersion(int *version);
int ncclGetUniqueId(struct rmk_nccl_id *id);
int ncclCommInitRankConfig(rmk_nccl_handle *handle, int size, struct rmk_nccl_id id, int rank,
                           struct rmk_nccl_config *config);
int ncclCommGetAsyncError(rmk_nccl_handle handle, int *result);
int ncclCommAbort(rmk_nccl_handle handle);
int ncclAllReduce(const void *in, void *out, size_t count, int type, int op, rmk_nccl_handle handle,
                  void *stream);
int ncclAllGather(const void *in, void *out, size_t count, int type, rmk_nccl_handle handle,
                  void *stream);
int ncclBroadcast(const void *in, void *out, size_t count, int type, int root,
                  rmk_nccl_handle handle, void *stream);
const char *ncclGetErrorString(int result);
const char *ncclGetLastError(rmk_nccl_handle handle);
fake_nccl_wait_fn fake_nccl_wait;
fake_nccl_break_fn fake_nccl_break;
fake_nccl_set_version_fn fake_nccl_set_version;

/* -- life
 * -------------------------------------------------------------------------------------------- */

int ncclGetVersion(int *version)
{
    *version = announced_version;
    return RMK_NCCL_SUCCESS;
}

void fake_nccl_set_version(int version)
{
    announced_version = version;
}

int ncclGetUniqueId(struct rmk_nccl_id *id)
{
    memset(id, 0, sizeof(*id));
    (void)pthread_mutex_lock(&mutex);
    (void)snprintf(id->bytes, sizeof(id->bytes), "fake %d", ++id_count);
    (void)pthread_mutex_unlock(&mutex);
    return RMK_NCCL_SUCCESS;
}

static struct group *group_of(const struct rmk_nccl_id *id, int size)
{
    for (int i = 0; i < group_count; i++) {
        if (memcmp(&groups[i].id, id, sizeof(*id)) == 0) {
            return &groups[i];
        }
    }
    groups[group_count] = (struct group){.id = *id, .size = size};
    return &groups[group_count++];
}

static bool is_complete(const struct group *group)
{
    for (int rank = 0; rank < group->size; rank++) {
        if (group->comms[rank] == NULL) {
            return false;
        }
    }
    return true;
}

int ncclCommInitRankConfig(rmk_nccl_handle *handle, int size, struct rmk_nccl_id id, int rank,
                           struct rmk_nccl_config *config)
{
    if (config->magic != (unsigned)RMK_NCCL_CONFIG_MAGIC || config->blocking != 0) {
        return 4; /* ncclInvalidArgument */
    }
    struct rmk_nccl_opaque *comm = calloc(1, sizeof(*comm));
    (void)pthread_mutex_lock(&mutex);
    comm->group = group_of(&id, size);
    comm->rank = rank;
    comm->group->comms[rank] = comm;
    (void)pthread_mutex_unlock(&mutex);
    *handle = comm;
    return RMK_NCCL_IN_PROGRESS;
}

int ncclCommGetAsyncError(rmk_nccl_handle handle, int *result)
{
    (void)pthread_mutex_lock(&mutex);
    *result = handle->error != 0           ? handle->error
              : handle->stream != NULL     ? RMK_NCCL_SUCCESS
              : is_complete(handle->group) ? RMK_NCCL_SUCCESS
                                           : RMK_NCCL_IN_PROGRESS;
    (void)pthread_mutex_unlock(&mutex);
    return RMK_NCCL_SUCCESS;
}

int ncclCommAbort(rmk_nccl_handle handle)
{
    (void)pthread_mutex_lock(&mutex);
    handle->group->comms[handle->rank] = NULL;
    (void)pthread_cond_broadcast(&changed);
    (void)pthread_mutex_unlock(&mutex);
    free(handle);
    return RMK_NCCL_SUCCESS;
}

/* -- collectives
 * ------------------------------------------------------------------------------------- */

static void reduce(const struct group *group)
{
    size_t count = group->comms[0]->queue[0].count;
    float *sums = calloc(count + 1, sizeof(*sums));

    for (int rank = 0; rank < group->size; rank++) {
        const float *in = group->comms[rank]->queue[0].in;
        for (size_t i = 0; i < count; i++) {
            sums[i] += in[i];
        }
    }
    for (int rank = 0; rank < group->size; rank++) {
        memcpy(group->comms[rank]->queue[0].out, sums, count * sizeof(*sums));
    }
    free(sums);
}

static void gather(const struct group *group)
{
    for (int to = 0; to < group->size; to++) {
        const struct part *part = &group->comms[to]->queue[0];
        for (int from = 0; from < group->size; from++) {
            memcpy((char *)part->out + (size_t)from * part->count, group->comms[from]->queue[0].in,
                   part->count);
        }
    }
}

static void broadcast(const struct group *group)
{
    const struct part *root = &group->comms[group->comms[0]->queue[0].root]->queue[0];

    for (int rank = 0; rank < group->size; rank++) {
        const struct part *part = &group->comms[rank]->queue[0];
        if (part->out != root->in) {
            memcpy(part->out, root->in, part->count);
        }
    }
}

/* Whatever every rank has enqueued is computed. */
static void progress(struct group *group)
{
    for (;;) {
        for (int rank = 0; rank < group->size; rank++) {
            if (group->comms[rank] == NULL || group->comms[rank]->queued == 0) {
                return;
            }
        }
        switch (group->comms[0]->queue[0].verb) {
        case REDUCE:
            reduce(group);
            break;
        case GATHER:
            gather(group);
            break;
        case BROADCAST:
            broadcast(group);
            break;
        }
        for (int rank = 0; rank < group->size; rank++) {
            struct rmk_nccl_opaque *comm = group->comms[rank];
            comm->queued--;
            memmove(comm->queue, comm->queue + 1, (size_t)comm->queued * sizeof(*comm->queue));
        }
        (void)pthread_cond_broadcast(&changed);
    }
}

static int enqueue(rmk_nccl_handle handle, void *stream, struct part part)
{
    int result = RMK_NCCL_SUCCESS;

    (void)pthread_mutex_lock(&mutex);
    handle->stream = stream;
    if (handle->queued == QUEUE_MAX) {
        result = 3; /* ncclInternalError */
    } else {
        handle->queue[handle->queued++] = part;
        progress(handle->group);
        (void)pthread_cond_broadcast(&changed);
    }
    (void)pthread_mutex_unlock(&mutex);
    return result;
}

int ncclAllReduce(const void *in, void *out, size_t count, int type, int op, rmk_nccl_handle handle,
                  void *stream)
{
    if (type != RMK_NCCL_FLOAT32 || op != RMK_NCCL_SUM) {
        return 4;
    }
    return enqueue(handle, stream,
                   (struct part){.verb = REDUCE, .in = in, .out = out, .count = count});
}

int ncclAllGather(const void *in, void *out, size_t count, int type, rmk_nccl_handle handle,
                  void *stream)
{
    if (type != RMK_NCCL_INT8) {
        return 4;
    }
    return enqueue(handle, stream,
                   (struct part){.verb = GATHER, .in = in, .out = out, .count = count});
}

int ncclBroadcast(const void *in, void *out, size_t count, int type, int root,
                  rmk_nccl_handle handle, void *stream)
{
    if (type != RMK_NCCL_INT8) {
        return 4;
    }
    return enqueue(
        handle, stream,
        (struct part){.verb = BROADCAST, .in = in, .out = out, .count = count, .root = root});
}

const char *ncclGetErrorString(int result)
{
    return result == 6 ? "remote process exited" : "an error";
}

const char *ncclGetLastError(rmk_nccl_handle handle)
{
    (void)handle;
    return "a fake";
}

/* -- for the test
 * ------------------------------------------------------------------------------------ */

static struct rmk_nccl_opaque *find(const void *stream)
{
    for (int i = 0; i < group_count; i++) {
        for (int rank = 0; rank < groups[i].size; rank++) {
            if (groups[i].comms[rank] != NULL && groups[i].comms[rank]->stream == stream) {
                return groups[i].comms[rank];
            }
        }
    }
    return NULL;
}

void fake_nccl_wait(void *stream)
{
    (void)pthread_mutex_lock(&mutex);
    for (;;) {
        const struct rmk_nccl_opaque *comm = find(stream);
        if (comm == NULL || comm->queued == 0) {
            break;
        }
        (void)pthread_cond_wait(&changed, &mutex);
    }
    (void)pthread_mutex_unlock(&mutex);
}

void fake_nccl_break(void *stream, int result)
{
    struct rmk_nccl_opaque *comm;

    (void)pthread_mutex_lock(&mutex);
    while ((comm = find(stream)) == NULL) {
        (void)pthread_cond_wait(&changed, &mutex);
    }
    comm->error = result;
    (void)pthread_mutex_unlock(&mutex);
}
