#include "common/process.h"

#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

void rmk_process_init(void)
{
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

uint32_t rmk_process_cores(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) != 0) {
        return 1;
    }
    return (uint32_t)CPU_COUNT(&set);
}
