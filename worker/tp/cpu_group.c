#include "worker/tp/cpu_group.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "worker/tp/kind.h"

enum {
    MAGIC = 0x524d4b31,
    NAME_BYTES = 16,
    SECRET_BYTES = 32,
    PENDING_MAX = 16,     /* connections that have not said hello */
    CONNECT_RETRY_MS = 5, /* rank 0 may not listen yet */
    /* The others wait this much longer than rank 0, so that they hear from it who did not come. */
    GRACE_US = 500000,
};

/* id->bytes after the kind's name */
struct cpu_id {
    uint8_t name[NAME_BYTES];
    uint8_t secret[SECRET_BYTES];
};
_Static_assert(RMK_COMM_KIND_BYTES + sizeof(struct cpu_id) <= sizeof(struct rmk_comm_id),
               "an id holds it");

struct hello {
    uint32_t magic;
    uint32_t rank;
    uint32_t size;
    uint32_t reserved;
    uint64_t epoch;
    uint64_t memory_bytes;
    uint8_t secret[SECRET_BYTES];
};

struct welcome {
    uint32_t magic;
    uint32_t err; /* enum rmk_err: not RMK_OK turns the rank away */
    uint32_t pidfd_count;
    uint8_t pidfd_ranks[RMK_TP_RANKS_MAX];
    char text[200];
};

static struct cpu_id id_of(const struct rmk_comm_id *id)
{
    struct cpu_id cpu;

    memcpy(&cpu, id->bytes + RMK_COMM_KIND_BYTES, sizeof(cpu));
    return cpu;
}

enum rmk_err rmk_cpu_group_id_make(struct rmk_comm_id *id, struct rmk_why *why)
{
    struct cpu_id cpu;

    if (getrandom(&cpu, sizeof(cpu), 0) != (ssize_t)sizeof(cpu)) {
        return rmk_fail(why, RMK_EIO, "no random numbers from the system: %s", strerror(errno));
    }
    memcpy(id->bytes + RMK_COMM_KIND_BYTES, &cpu, sizeof(cpu));
    return RMK_OK;
}

static socklen_t address_of(const struct cpu_id *id, struct sockaddr_un *out)
{
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    /* A first byte of NUL makes it abstract. */
    int length = snprintf(out->sun_path + 1, sizeof(out->sun_path) - 1, "remask-tp-");
    for (unsigned i = 0; i < NAME_BYTES; i++) {
        length += snprintf(out->sun_path + 1 + length, sizeof(out->sun_path) - 1 - (size_t)length,
                           "%02x", id->name[i]);
    }
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

static int milliseconds_until(uint64_t deadline_us)
{
    uint64_t now = rmk_comm_now_us();

    return now >= deadline_us ? 0 : (int)((deadline_us - now) / 1000 + 1);
}

/* The peer at the other end: its pid in our namespace (0: not visible), or -1 for another user. */
static pid_t peer_pid(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.uid != geteuid()) {
        return -1;
    }
    return peer.pid;
}

static void watch_add(struct rmk_cpu_watch *watch, int fd, uint32_t rank)
{
    rmk_assert(watch->count < 2 * RMK_TP_RANKS_MAX);
    watch->fds[watch->count] = (struct pollfd){.fd = fd, .events = POLLIN};
    watch->ranks[watch->count] = (uint8_t)rank;
    watch->count++;
}

static enum rmk_err map_memory(int fd, size_t bytes, struct rmk_cpu_group *group,
                               struct rmk_why *why)
{
    struct stat status;

    if (fstat(fd, &status) != 0 || (size_t)status.st_size != bytes) {
        return rmk_fail(why, RMK_EUNAVAILABLE,
                        "rank 0's shared memory has another size than %zu bytes", bytes);
    }
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
        return rmk_fail(why, RMK_ELIMIT, "%zu bytes of shared memory cannot be mapped: %s", bytes,
                        strerror(errno));
    }
    group->memory = memory;
    group->memory_bytes = bytes;
    return RMK_OK;
}

/* -- rank 0
 * ---------------------------------------------------------------------------------------- */

struct gathering {
    const struct rmk_comm_options *options;
    struct cpu_id id;
    size_t memory_bytes;
    int listener;
    int memory;
    int connections[RMK_TP_RANKS_MAX]; /* by rank, -1 until it is there */
    pid_t pids[RMK_TP_RANKS_MAX];
    uint32_t joined;
    int pending[PENDING_MAX];
    pid_t pending_pids[PENDING_MAX];
    uint32_t pending_count;
};

static void send_refusal(int fd, enum rmk_err err, const char *text)
{
    struct welcome refusal = {.magic = MAGIC, .err = (uint32_t)err};

    (void)snprintf(refusal.text, sizeof(refusal.text), "%.*s", (int)sizeof(refusal.text) - 1, text);
    (void)send(fd, &refusal, sizeof(refusal), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void turn_away(int fd, enum rmk_err err, const char *text)
{
    send_refusal(fd, err, text);
    (void)close(fd);
}

static enum rmk_err listen_on(struct gathering *gathering, struct rmk_why *why)
{
    struct sockaddr_un address;
    socklen_t length = address_of(&gathering->id, &address);

    gathering->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (gathering->listener < 0 ||
        bind(gathering->listener, (struct sockaddr *)&address, length) != 0 ||
        listen(gathering->listener, RMK_TP_RANKS_MAX) != 0) {
        return rmk_fail(why, RMK_EIO, "rank 0 cannot listen for the others: %s", strerror(errno));
    }
    return RMK_OK;
}

static void accept_one(struct gathering *gathering)
{
    int fd = accept4(gathering->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0) {
        return;
    }
    pid_t pid = peer_pid(fd);
    if (pid < 0 || gathering->pending_count == PENDING_MAX) {
        (void)close(fd);
        return;
    }
    gathering->pending[gathering->pending_count] = fd;
    gathering->pending_pids[gathering->pending_count] = pid;
    gathering->pending_count++;
}

/* Read the hello of a pending connection; afterwards it is a rank's, or closed. */
static void greet(struct gathering *gathering, uint32_t index)
{
    const struct rmk_comm_options *options = gathering->options;
    int fd = gathering->pending[index];
    pid_t pid = gathering->pending_pids[index];
    struct hello hello;

    gathering->pending_count--;
    gathering->pending[index] = gathering->pending[gathering->pending_count];
    gathering->pending_pids[index] = gathering->pending_pids[gathering->pending_count];

    if (recv(fd, &hello, sizeof(hello), 0) != (ssize_t)sizeof(hello) || hello.magic != MAGIC ||
        memcmp(hello.secret, gathering->id.secret, SECRET_BYTES) != 0) {
        (void)close(fd); /* a stranger learns nothing */
    } else if (hello.epoch != options->epoch) {
        turn_away(fd, RMK_EINVAL, "rank 0 forms another epoch");
    } else if (hello.size != options->size || hello.rank == 0 || hello.rank >= options->size) {
        turn_away(fd, RMK_EINVAL, "rank or size do not fit the group of rank 0");
    } else if (hello.memory_bytes != gathering->memory_bytes) {
        turn_away(fd, RMK_EINVAL, "message_bytes_max is not the one of rank 0");
    } else if (gathering->connections[hello.rank] >= 0) {
        turn_away(fd, RMK_EEXISTS, "the rank is there already");
    } else {
        gathering->connections[hello.rank] = fd;
        gathering->pids[hello.rank] = pid;
        gathering->joined++;
    }
}

static enum rmk_err gather(struct gathering *gathering, uint64_t deadline_us, struct rmk_why *why)
{
    const struct rmk_comm_options *options = gathering->options;

    while (gathering->joined < options->size - 1) {
        struct pollfd fds[1 + PENDING_MAX + RMK_TP_RANKS_MAX];
        uint32_t ranks[1 + PENDING_MAX + RMK_TP_RANKS_MAX];
        uint32_t count = 0;
        int timeout = milliseconds_until(deadline_us);

        if (timeout == 0) {
            char missing[160] = "";
            size_t used = 0;
            for (uint32_t rank = 1; rank < options->size; rank++) {
                if (gathering->connections[rank] < 0 && used < sizeof(missing)) {
                    used += (size_t)snprintf(missing + used, sizeof(missing) - used, " %u", rank);
                }
            }
            return rmk_fail(why, RMK_EDEADLINE, "rank%s did not come within %u ms", missing,
                            options->form_timeout_ms);
        }
        fds[count++] = (struct pollfd){.fd = gathering->listener, .events = POLLIN};
        for (uint32_t i = 0; i < gathering->pending_count; i++) {
            fds[count++] = (struct pollfd){.fd = gathering->pending[i], .events = POLLIN};
        }
        uint32_t pending_count = gathering->pending_count;
        for (uint32_t rank = 1; rank < options->size; rank++) {
            if (gathering->connections[rank] >= 0) {
                ranks[count] = rank;
                fds[count++] =
                    (struct pollfd){.fd = gathering->connections[rank], .events = POLLIN};
            }
        }
        if (poll(fds, count, timeout) < 0 && errno != EINTR) {
            return rmk_fail(why, RMK_EIO, "waiting for the other ranks: %s", strerror(errno));
        }
        for (uint32_t i = 1 + pending_count; i < count; i++) {
            if (fds[i].revents != 0) {
                return rmk_fail(why, RMK_EUNAVAILABLE, "rank %u went away while the group formed",
                                ranks[i]);
            }
        }
        /* From the end: greeting moves the last one into the gap. */
        for (uint32_t i = pending_count; i > 0; i--) {
            if (fds[i].revents != 0) {
                greet(gathering, i - 1);
            }
        }
        if (fds[0].revents != 0) {
            accept_one(gathering);
        }
    }
    return RMK_OK;
}

/* Sealed, so that no peer can cut the memory under our feet. */
static enum rmk_err make_memory(struct gathering *gathering, struct rmk_why *why)
{
    gathering->memory = memfd_create("remask-tp", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (gathering->memory < 0 ||
        ftruncate(gathering->memory, (off_t)gathering->memory_bytes) != 0 ||
        fcntl(gathering->memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        return rmk_fail(why, RMK_ELIMIT, "%zu bytes of shared memory cannot be had: %s",
                        gathering->memory_bytes, strerror(errno));
    }
    return RMK_OK;
}

static enum rmk_err send_welcome(int fd, const struct welcome *welcome, const int *fds,
                                 uint32_t fd_count)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int) * (RMK_TP_RANKS_MAX + 1))];
    } control = {0};
    struct iovec part = {.iov_base = (void *)welcome, .iov_len = sizeof(*welcome)};
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = CMSG_SPACE(sizeof(int) * fd_count),
    };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
    memcpy(CMSG_DATA(header), fds, sizeof(int) * fd_count);
    return sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t)sizeof(*welcome) ? RMK_OK
                                                                            : RMK_EUNAVAILABLE;
}

/* Open the pidfds here and pass them on: pids mean nothing to a rank in another pid namespace. A
 * pid that is not visible leaves its rank to the connection alone. */
static enum rmk_err welcome_all(struct gathering *gathering, struct rmk_cpu_watch *watch,
                                struct rmk_why *why)
{
    uint32_t size = gathering->options->size;
    struct welcome welcome = {.magic = MAGIC};
    int fds[RMK_TP_RANKS_MAX + 1] = {gathering->memory};
    enum rmk_err err = RMK_OK;

    for (uint32_t rank = 0; rank < size; rank++) {
        pid_t pid = gathering->pids[rank];
        int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
        if (fd >= 0) {
            welcome.pidfd_ranks[welcome.pidfd_count++] = (uint8_t)rank;
            fds[welcome.pidfd_count] = fd;
        }
    }
    for (uint32_t rank = 1; rank < size; rank++) {
        if (send_welcome(gathering->connections[rank], &welcome, fds, 1 + welcome.pidfd_count) !=
            RMK_OK) {
            err = rmk_fail(why, RMK_EUNAVAILABLE, "rank %u went away while the group formed", rank);
            break;
        }
    }
    for (uint32_t i = 0; i < welcome.pidfd_count; i++) {
        if (welcome.pidfd_ranks[i] != 0) {
            watch_add(watch, fds[1 + i], welcome.pidfd_ranks[i]);
        } else {
            (void)close(fds[1 + i]); /* our own */
        }
    }
    return err;
}

static enum rmk_err lead(const struct rmk_comm_options *options, const struct cpu_id *id,
                         size_t memory_bytes, struct rmk_cpu_group *group, struct rmk_why *why)
{
    struct gathering *gathering = calloc(1, sizeof(*gathering));
    struct rmk_why own = {0};
    enum rmk_err err;

    if (gathering == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory to form a group");
    }
    *gathering = (struct gathering){
        .options = options, .id = *id, .memory_bytes = memory_bytes, .listener = -1, .memory = -1};
    memset(gathering->connections, 0xff, sizeof(gathering->connections));
    gathering->pids[0] = getpid();

    RMK_TRY(listen_on(gathering, &own));
    RMK_TRY(make_memory(gathering, &own));
    RMK_TRY(gather(gathering, rmk_comm_now_us() + options->form_timeout_ms * UINT64_C(1000), &own));
    RMK_TRY(map_memory(gathering->memory, memory_bytes, group, &own));
    RMK_TRY(welcome_all(gathering, &group->watch, &own));
    for (uint32_t rank = 1; rank < options->size; rank++) {
        watch_add(&group->watch, gathering->connections[rank], rank);
        gathering->connections[rank] = -1;
    }
out:
    for (uint32_t rank = 1; rank < options->size; rank++) {
        if (gathering->connections[rank] >= 0) {
            turn_away(gathering->connections[rank], err, own.text);
        }
    }
    for (uint32_t i = 0; i < gathering->pending_count; i++) {
        (void)close(gathering->pending[i]);
    }
    if (gathering->memory >= 0) {
        (void)close(gathering->memory);
    }
    if (gathering->listener >= 0) {
        (void)close(gathering->listener);
    }
    free(gathering);
    if (err != RMK_OK && why != NULL) {
        *why = own;
    }
    return err;
}

/* -- the others
 * ------------------------------------------------------------------------------------ */

static enum rmk_err connect_to(const struct cpu_id *id, uint64_t deadline_us, uint32_t timeout_ms,
                               int *out_fd, struct rmk_why *why)
{
    struct sockaddr_un address;
    socklen_t length = address_of(id, &address);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return rmk_fail(why, RMK_EIO, "no socket: %s", strerror(errno));
    }
    while (connect(fd, (struct sockaddr *)&address, length) != 0) {
        if (errno != ECONNREFUSED && errno != EAGAIN && errno != EINTR) {
            int error = errno;
            (void)close(fd);
            return rmk_fail(why, RMK_EIO, "rank 0 cannot be reached: %s", strerror(error));
        }
        if (milliseconds_until(deadline_us) == 0) {
            (void)close(fd);
            return rmk_fail(why, RMK_EDEADLINE, "rank 0 did not come within %u ms", timeout_ms);
        }
        (void)poll(NULL, 0, CONNECT_RETRY_MS);
    }
    if (peer_pid(fd) < 0) {
        (void)close(fd);
        return rmk_fail(why, RMK_EUNAVAILABLE, "another user answers in the place of rank 0");
    }
    *out_fd = fd;
    return RMK_OK;
}

/* The welcome with its descriptors: [0] is the memory, the rest pidfds. `out_count` may be 0. */
static enum rmk_err receive_welcome(int fd, uint64_t deadline_us, struct welcome *welcome,
                                    int *out_fds, uint32_t *out_count, struct rmk_why *why)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int) * (RMK_TP_RANKS_MAX + 1))];
    } control = {0};
    struct iovec part = {.iov_base = welcome, .iov_len = sizeof(*welcome)};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    int ready;

    do {
        ready = poll(&wait, 1, milliseconds_until(deadline_us));
    } while (ready < 0 && errno == EINTR);
    if (ready == 0) {
        return rmk_fail(why, RMK_EDEADLINE, "rank 0 gave no answer while the group formed");
    }
    ssize_t got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    struct cmsghdr *header = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
        *out_count = (uint32_t)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(out_fds, CMSG_DATA(header), *out_count * sizeof(int));
    }
    if (got != (ssize_t)sizeof(*welcome) || welcome->magic != MAGIC) {
        return rmk_fail(why, RMK_EUNAVAILABLE, "rank 0 went away while the group formed");
    }
    if (welcome->err != RMK_OK) {
        welcome->text[sizeof(welcome->text) - 1] = '\0';
        return rmk_fail(why, (enum rmk_err)welcome->err, "%s", welcome->text);
    }
    if (*out_count == 0 || *out_count != 1 + welcome->pidfd_count) {
        return rmk_fail(why, RMK_EUNAVAILABLE, "rank 0's descriptors did not arrive");
    }
    return RMK_OK;
}

static enum rmk_err follow(const struct rmk_comm_options *options, const struct cpu_id *id,
                           size_t memory_bytes, struct rmk_cpu_group *group, struct rmk_why *why)
{
    uint64_t deadline_us = rmk_comm_now_us() + options->form_timeout_ms * UINT64_C(1000);
    struct hello hello = {.magic = MAGIC,
                          .rank = options->rank,
                          .size = options->size,
                          .epoch = options->epoch,
                          .memory_bytes = memory_bytes};
    struct welcome welcome = {0};
    int fds[RMK_TP_RANKS_MAX + 1] = {0};
    uint32_t fd_count = 0;
    int connection = -1;
    enum rmk_err err;

    memcpy(hello.secret, id->secret, SECRET_BYTES);
    RMK_TRY(connect_to(id, deadline_us, options->form_timeout_ms, &connection, why));
    if (send(connection, &hello, sizeof(hello), MSG_NOSIGNAL) != (ssize_t)sizeof(hello)) {
        err = rmk_fail(why, RMK_EUNAVAILABLE, "rank 0 went away while the group formed");
        goto out;
    }
    RMK_TRY(receive_welcome(connection, deadline_us + GRACE_US, &welcome, fds, &fd_count, why));
    RMK_TRY(map_memory(fds[0], memory_bytes, group, why));
    for (uint32_t i = 0; i < welcome.pidfd_count; i++) {
        if (welcome.pidfd_ranks[i] != options->rank) {
            watch_add(&group->watch, fds[1 + i], welcome.pidfd_ranks[i]);
            fds[1 + i] = -1;
        }
    }
    watch_add(&group->watch, connection, 0);
    connection = -1;
out:
    for (uint32_t i = 0; i < fd_count; i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
        }
    }
    if (connection >= 0) {
        (void)close(connection);
    }
    return err;
}

/* -- the door -------------------------------------------------------------------------------------
 */

enum rmk_err rmk_cpu_group_join(const struct rmk_comm_options *options,
                                const struct rmk_comm_id *id, size_t memory_bytes,
                                struct rmk_cpu_group *out_group, struct rmk_why *why)
{
    struct cpu_id cpu = id_of(id);
    struct rmk_cpu_group *group = calloc(1, sizeof(*group));
    enum rmk_err err;

    if (group == NULL) {
        return rmk_fail(why, RMK_ELIMIT, "no memory for a group");
    }
    if (options->rank == 0) {
        RMK_TRY(lead(options, &cpu, memory_bytes, group, why));
    } else {
        RMK_TRY(follow(options, &cpu, memory_bytes, group, why));
    }
    *out_group = *group;
    *group = (struct rmk_cpu_group){0};
out:
    rmk_cpu_group_leave(group);
    free(group);
    return err;
}

void rmk_cpu_group_leave(struct rmk_cpu_group *group)
{
    if (group->memory != NULL) {
        (void)munmap(group->memory, group->memory_bytes);
    }
    for (uint32_t i = 0; i < group->watch.count; i++) {
        (void)close(group->watch.fds[i].fd);
    }
    *group = (struct rmk_cpu_group){0};
}
