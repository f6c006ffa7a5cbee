/* What every server process does first in main(), before threads and before gRPC. */
#ifndef RMK_COMMON_PROCESS_H
#define RMK_COMMON_PROCESS_H

/* Ignores SIGPIPE (a peer that has gone is an error of a write, not our end) and keeps large
 * buffers in the heap instead of mapping and unmapping each: messages of many megabytes arrive two
 * to three times faster that way. */
void rmk_process_init(void);

#endif
