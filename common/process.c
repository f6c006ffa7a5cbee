#include "common/process.h"

#include <malloc.h>
#include <signal.h>

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
