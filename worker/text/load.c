#include "worker/text/load.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/process.h"

enum { REPORT_US = 3000000, WAIT_US = 200000 };

/* -- progress
 * ---------------------------------------------------------------------------------------- */

void rmk_load_progress_describe(const struct rmk_load_progress *progress, uint64_t now_us,
                                char *out, size_t capacity)
{
    const double seconds = (double)(now_us - progress->begun_us) * 1e-6;
    const double done = (double)progress->done_bytes;
    const double total = (double)progress->total_bytes;

    (void)snprintf(out, capacity, "weights %.0f %% of %.1f GB, %.1f GB/s",
                   total > 0 ? 100 * done / total : 100.0, total * 1e-9,
                   seconds > 0 ? done * 1e-9 / seconds : 0.0);
}

static void report_to_log(const struct rmk_load_progress *progress, uint64_t now_us)
{
    char line[128];

    rmk_load_progress_describe(progress, now_us, line, sizeof(line));
    rmk_log(RMK_LOG_INFO, "load", line, NULL);
}

void rmk_load_progress_init(struct rmk_load_progress *progress, uint64_t total_bytes)
{
    const uint64_t now_us = rmk_clock_us();

    *progress = (struct rmk_load_progress){
        .total_bytes = total_bytes,
        .begun_us = now_us,
        .reported_us = now_us,
        .interval_us = REPORT_US,
        .report = report_to_log,
    };
}

static void advance(struct rmk_load_progress *progress, uint64_t bytes)
{
    if (progress == NULL) {
        return;
    }
    progress->done_bytes += bytes;
    const uint64_t now_us = rmk_clock_us();
    if (now_us - progress->reported_us >= progress->interval_us) {
        progress->reported_us = now_us;
        progress->report(progress, now_us);
    }
}

/* -- plan
 * -------------------------------------------------------------------------------------------- */

/* A piece with its file open. */
struct piece {
    struct rmk_load_piece as;
    int fd;
};

/* A rectangle of a piece. */
struct block {
    uint32_t piece;
    uint64_t row;
    uint64_t row_count;
    uint64_t column; /* in bytes */
    uint64_t width;
};

struct file {
    const char *path;
    int fd;
};

enum job_state { JOB_WAITS, JOB_READ, JOB_FAILED };

/* A block on its way; the ring has RMK_LOAD_PARTS of them. */
struct job {
    struct block block;
    uint8_t *host;
    enum job_state state;
    enum rmk_err err;
    struct rmk_why why;
};

struct rmk_load {
    struct rmk_device *device;
    struct rmk_load_progress *progress;
    size_t part_bytes;
    bool begun; /* the device has its ring */
    struct piece *pieces;
    uint32_t piece_count;
    uint32_t piece_capacity;
    struct file *files;
    uint32_t file_count;

    /* where cutting is */
    uint32_t next_piece;
    uint64_t next_row;
    uint64_t next_column;

    pthread_mutex_t mutex; /* of what follows */
    pthread_cond_t work;   /* a job was given out, or it is over */
    pthread_cond_t done;   /* a job was read */
    struct job jobs[RMK_LOAD_PARTS];
    uint64_t given;
    uint64_t claimed;
    bool over;
};

enum rmk_err rmk_load_create(struct rmk_device *device, size_t part_bytes,
                             struct rmk_load_progress *progress, struct rmk_load **out_load,
                             struct rmk_why *why)
{
    struct rmk_load *load = calloc(1, sizeof(*load));
    pthread_condattr_t attributes;

    if (load == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory to load weights with");
    }
    load->device = device;
    load->part_bytes = part_bytes > 0 ? part_bytes : RMK_LOAD_PART_BYTES;
    load->progress = progress;
    (void)pthread_mutex_init(&load->mutex, NULL);
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&load->work, &attributes);
    (void)pthread_cond_init(&load->done, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    *out_load = load;
    return RMK_OK;
}

void rmk_load_destroy(struct rmk_load *load)
{
    if (load == NULL) {
        return;
    }
    if (load->begun) {
        load->device->ops->load_end(load->device);
    }
    for (uint32_t i = 0; i < load->file_count; i++) {
        (void)close(load->files[i].fd);
    }
    (void)pthread_cond_destroy(&load->work);
    (void)pthread_cond_destroy(&load->done);
    (void)pthread_mutex_destroy(&load->mutex);
    free(load->files);
    free(load->pieces);
    free(load);
}

static enum rmk_err open_file(struct rmk_load *load, const char *path, int *out_fd,
                              struct rmk_why *why)
{
    for (uint32_t i = 0; i < load->file_count; i++) {
        if (strcmp(load->files[i].path, path) == 0) {
            *out_fd = load->files[i].fd;
            return RMK_OK;
        }
    }
    struct file *grown = realloc(load->files, (load->file_count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for a list of files");
    }
    load->files = grown;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return rmk_fail(why, RMK_EIO, "%.300s: %s", path, strerror(errno));
    }
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL); /* longer read-ahead; only a hint */
    load->files[load->file_count++] = (struct file){.path = path, .fd = fd};
    *out_fd = fd;
    return RMK_OK;
}

enum rmk_err rmk_load_add(struct rmk_load *load, const struct rmk_load_piece *piece,
                          struct rmk_why *why)
{
    int fd = -1;
    enum rmk_err err;

    rmk_assert(piece->row_bytes <= piece->pitch);
    rmk_assert(load->device->ops->load_begin != NULL || piece->dtype == piece->target_dtype);
    if (piece->row_count == 0 || piece->row_bytes == 0) {
        return RMK_OK;
    }
    RMK_TRY(open_file(load, piece->path, &fd, why));
    if (load->piece_count == load->piece_capacity) {
        const uint32_t capacity = load->piece_capacity == 0 ? 64 : 2 * load->piece_capacity;
        struct piece *grown = realloc(load->pieces, capacity * sizeof(*grown));
        if (grown == NULL) {
            err = rmk_fail(why, RMK_ELIMIT, "no memory for a list of tensors");
            goto out;
        }
        load->pieces = grown;
        load->piece_capacity = capacity;
    }
    struct piece *added = &load->pieces[load->piece_count++];
    *added = (struct piece){.as = *piece, .fd = fd};
    if (piece->row_bytes == piece->pitch) { /* no gaps: one long row, cut anywhere */
        added->as.row_bytes = added->as.pitch = piece->row_bytes * piece->row_count;
        added->as.row_count = 1;
    }
out:
    return err;
}

/* The next block in order: whole rows, or a stretch of one that is longer than a part. */
static bool cut(struct rmk_load *load, struct block *out)
{
    if (load->next_piece == load->piece_count) {
        return false;
    }
    const struct rmk_load_piece *piece = &load->pieces[load->next_piece].as;
    const uint64_t left = piece->row_count - load->next_row;
    const uint64_t fit = load->part_bytes / piece->row_bytes;

    *out = (struct block){.piece = load->next_piece, .row = load->next_row};
    if (fit > 0) {
        out->row_count = left < fit ? left : fit;
        out->width = piece->row_bytes;
        load->next_row += out->row_count;
    } else {
        const uint64_t rest = piece->row_bytes - load->next_column;
        out->row_count = 1;
        out->column = load->next_column;
        out->width = rest < load->part_bytes ? rest : load->part_bytes;
        load->next_column += out->width;
        if (load->next_column == piece->row_bytes) {
            load->next_column = 0;
            load->next_row++;
        }
    }
    if (load->next_row == piece->row_count) {
        load->next_piece++;
        load->next_row = 0;
    }
    return true;
}

/* Where a block's first byte belongs, in bytes of the file's type. */
static uint64_t place_of(const struct rmk_load_piece *piece, const struct block *block)
{
    return block->row * piece->row_bytes + block->column;
}

/* -- readers
 * ----------------------------------------------------------------------------------------- */

static enum rmk_err read_bytes(const struct piece *piece, uint64_t offset, uint8_t *target,
                               uint64_t bytes, struct rmk_why *why)
{
    while (bytes > 0) {
        ssize_t got = pread(piece->fd, target, bytes, (off_t)offset);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return rmk_fail(why, RMK_EIO, "%.300s: tensor %s: %s", piece->as.path, piece->as.tensor,
                            strerror(errno));
        }
        if (got == 0) {
            return rmk_fail(why, RMK_ECORRUPT, "%.300s: tensor %s: the file ends at byte %" PRIu64,
                            piece->as.path, piece->as.tensor, offset);
        }
        offset += (uint64_t)got;
        target += got;
        bytes -= (uint64_t)got;
    }
    return RMK_OK;
}

static void read_block(const struct rmk_load *load, struct job *job)
{
    const struct piece *piece = &load->pieces[job->block.piece];
    const struct block *block = &job->block;

    job->err = RMK_OK;
    for (uint64_t row = 0; row < block->row_count && job->err == RMK_OK; row++) {
        const uint64_t offset =
            piece->as.offset + (block->row + row) * piece->as.pitch + block->column;
        job->err =
            read_bytes(piece, offset, job->host + row * block->width, block->width, &job->why);
    }
}

static void *read_blocks(void *context)
{
    struct rmk_load *load = context;

    (void)pthread_mutex_lock(&load->mutex);
    for (;;) {
        while (load->claimed == load->given && !load->over) {
            (void)pthread_cond_wait(&load->work, &load->mutex);
        }
        if (load->over) {
            break;
        }
        struct job *job = &load->jobs[load->claimed++ % RMK_LOAD_PARTS];
        (void)pthread_mutex_unlock(&load->mutex);
        read_block(load, job);
        (void)pthread_mutex_lock(&load->mutex);
        job->state = job->err == RMK_OK ? JOB_READ : JOB_FAILED;
        (void)pthread_cond_signal(&load->done);
    }
    (void)pthread_mutex_unlock(&load->mutex);
    return NULL;
}

/* -- the caller's side
 * ------------------------------------------------------------------------------- */

/* Give out the next block, when there is one. */
static enum rmk_err give(struct rmk_load *load, bool *out_given, struct rmk_why *why)
{
    const uint32_t part = (uint32_t)(load->given % RMK_LOAD_PARTS);
    struct job *job = &load->jobs[part];
    struct rmk_device *device = load->device;
    void *host = NULL;
    struct block block;
    enum rmk_err err = RMK_OK;

    *out_given = cut(load, &block);
    if (!*out_given) {
        goto out;
    }
    const struct rmk_load_piece *piece = &load->pieces[block.piece].as;
    if (load->begun) {
        err = device->ops->load_room(device, part, &host);
        if (err != RMK_OK) {
            err = rmk_fail(why, err, "tensor %s: the device did not take what was read before",
                           piece->tensor);
            goto out;
        }
    } else {
        host = (uint8_t *)piece->target + place_of(piece, &block);
    }
    *job = (struct job){.block = block, .host = host};
    (void)pthread_mutex_lock(&load->mutex);
    load->given++;
    (void)pthread_cond_signal(&load->work);
    (void)pthread_mutex_unlock(&load->mutex);
out:
    return err;
}

static void wait_for(struct rmk_load *load, const struct job *job)
{
    struct timespec until;

    (void)pthread_mutex_lock(&load->mutex);
    while (job->state == JOB_WAITS) {
        (void)clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += WAIT_US * 1000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        (void)pthread_cond_timedwait(&load->done, &load->mutex, &until);
        advance(load->progress, 0); /* a slow disk is reported, too */
    }
    (void)pthread_mutex_unlock(&load->mutex);
}

static enum rmk_err send(struct rmk_load *load, uint64_t index, struct rmk_why *why)
{
    const uint32_t part = (uint32_t)(index % RMK_LOAD_PARTS);
    struct job *job = &load->jobs[part];
    struct rmk_device *device = load->device;
    enum rmk_err err = RMK_OK;

    wait_for(load, job);
    if (job->state == JOB_FAILED) {
        err = rmk_fail(why, job->err, "%s", job->why.text);
        goto out;
    }
    const struct rmk_load_piece *piece = &load->pieces[job->block.piece].as;
    const uint64_t bytes = job->block.row_count * job->block.width;
    if (load->begun) {
        const size_t element = rmk_dtype_bytes(piece->dtype);
        uint8_t *target = (uint8_t *)piece->target + place_of(piece, &job->block) / element *
                                                         rmk_dtype_bytes(piece->target_dtype);
        err = device->ops->load_send(device, part, bytes / element, piece->dtype, target,
                                     piece->target_dtype);
        if (err != RMK_OK) {
            err = rmk_fail(why, err, "tensor %s: the device failed", piece->tensor);
            goto out;
        }
    }
    advance(load->progress, bytes);
out:
    return err;
}

/* Keep parts with the readers, but for those that may still be on their way to the device. */
static enum rmk_err run(struct rmk_load *load, struct rmk_why *why)
{
    uint64_t sent = 0;
    bool more = true;
    enum rmk_err err = RMK_OK;

    while (more || sent < load->given) {
        while (more && load->given - sent < RMK_LOAD_PARTS - RMK_LOAD_FLYING) {
            RMK_TRY(give(load, &more, why));
        }
        if (sent < load->given) {
            RMK_TRY(send(load, sent, why));
            sent++;
        }
    }
out:
    return err;
}

static uint32_t readers_for(const struct rmk_load *load)
{
    uint64_t blocks = 0;
    uint32_t readers = 2 * rmk_process_cores(); /* they wait for a disk, or copy */

    for (uint32_t i = 0; i < load->piece_count && blocks < RMK_LOAD_READERS; i++) {
        const struct rmk_load_piece *piece = &load->pieces[i].as;
        blocks += piece->row_bytes * piece->row_count / load->part_bytes + 1;
    }
    readers = readers < RMK_LOAD_READERS ? readers : RMK_LOAD_READERS;
    return blocks < readers ? (uint32_t)blocks : readers;
}

enum rmk_err rmk_load_run(struct rmk_load *load, struct rmk_why *why)
{
    struct rmk_device *device = load->device;
    pthread_t readers[RMK_LOAD_READERS];
    uint32_t reader_count = 0;
    enum rmk_err err = RMK_OK;

    if (load->piece_count == 0) {
        goto out;
    }
    /* A block is whole elements: a part is a multiple of the widest. */
    rmk_assert(load->part_bytes % 8 == 0);
    if (device->ops->load_begin != NULL && !load->begun) {
        RMK_TRY(device->ops->load_begin(device, RMK_LOAD_PARTS, load->part_bytes, why));
        load->begun = true;
    }
    load->over = false;
    load->given = load->claimed = 0;
    load->next_piece = 0;
    load->next_row = load->next_column = 0;
    const uint32_t wanted = readers_for(load);
    while (reader_count < wanted &&
           pthread_create(&readers[reader_count], NULL, read_blocks, load) == 0) {
        reader_count++;
    }
    if (reader_count > 0) {
        err = run(load, why);
    } else {
        err = rmk_fail(why, RMK_ELIMIT, "no thread can be made to read weights");
    }
    (void)pthread_mutex_lock(&load->mutex);
    load->over = true;
    (void)pthread_cond_broadcast(&load->work);
    (void)pthread_mutex_unlock(&load->mutex);
    for (uint32_t i = 0; i < reader_count; i++) {
        (void)pthread_join(readers[i], NULL);
    }
out:
    load->piece_count = 0;
    return err;
}
