#include "common/process.h"

#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* A standard stream that the parent has closed would become the first file or socket that we open,
 * and our output would go there. What stands in its place fails when it is used, as a closed one
 * does. */
static void fill_standard_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0) {
            (void)!open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
        }
    }
}

/* As many as the administrator allows: every client and worker is a socket. */
static void raise_open_files(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

void rmk_process_init(void)
{
    fill_standard_streams();
    raise_open_files();
    (void)signal(SIGPIPE, SIG_IGN);

    /* By default glibc maps every allocation above 128 KiB on its own and gives it back on free, so
     * each 30 MB message pays for thousands of page faults. Keeping the heap top costs at most the
     * peak. */
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 30);
    (void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
    (void)mallopt(M_TOP_PAD, 64 << 20);
}

static const char *mapped = "a mapped file";

/* Only what is safe in a signal handler. */
static void on_bus_error(int number)
{
    static const char sentence[] = " shrank or could not be read while it was in use\n";

    (void)number;
    (void)!write(STDERR_FILENO, mapped, strlen(mapped));
    (void)!write(STDERR_FILENO, sentence, sizeof(sentence) - 1);
    _exit(RMK_EXIT_CONFIG);
}

void rmk_process_explain_truncation(const char *what)
{
    struct sigaction action = {.sa_handler = on_bus_error};

    mapped = what;
    (void)sigaction(SIGBUS, &action, NULL);
}

enum rmk_err rmk_process_check_open_files(uint32_t needed, struct rmk_why *why)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < needed) {
        return rmk_fail(why, RMK_ELIMIT,
                        "only %llu files may be open at once (ulimit -n), at least %u are needed",
                        (unsigned long long)limit.rlim_cur, needed);
    }
    return RMK_OK;
}

uint32_t rmk_process_cores(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) != 0) {
        return 1;
    }
    return (uint32_t)CPU_COUNT(&set);
}
