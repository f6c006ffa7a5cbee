/* What every server process does first in main(), before threads and before gRPC. */
#ifndef RMK_COMMON_PROCESS_H
#define RMK_COMMON_PROCESS_H

#include <stdint.h>

#include "common/err.h"

/* Puts something in the place of standard streams that are closed, raises the number of open files
 * to what is allowed, ignores SIGPIPE (a peer that has gone is an error of a write, not our end)
 * and keeps large buffers in the heap instead of mapping and unmapping each: messages of many
 * megabytes arrive two to three times faster that way. */
void rmk_process_init(void);

/* Exit status of a process whose files or configuration are wrong: starting it again does not help
 * (EX_CONFIG). */
#define RMK_EXIT_CONFIG 78

/* A mapped file that shrinks while it is read (a checkpoint being copied over) raises SIGBUS. From
 * here on that ends the process with one sentence on stderr and RMK_EXIT_CONFIG instead of a crash.
 * `what`: what is mapped, kept, not copied. */
void rmk_process_explain_truncation(const char *what);

/* RMK_ELIMIT where fewer than `needed` files may be open: gRPC aborts when it has none left. */
enum rmk_err rmk_process_check_open_files(uint32_t needed, struct rmk_why *why);

/* Processors this process may run on (its affinity mask, as containers set it); at least 1. */
uint32_t rmk_process_cores(void);

#endif
