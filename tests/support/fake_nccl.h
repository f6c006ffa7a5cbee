/* A libnccl.so.2 for tests: the calls that worker/tp/nccl.h makes, between threads of one process,
 * on memory that is the host's. As on a GPU, a collective is only enqueued; whoever waits for the
 * stream (fake_nccl_wait) waits until every rank has enqueued its part, or the communicator is
 * aborted. */
#ifndef RMK_TESTS_SUPPORT_FAKE_NCCL_H
#define RMK_TESTS_SUPPORT_FAKE_NCCL_H

/* Until nothing is under way on `stream`. */
typedef void fake_nccl_wait_fn(void *stream);
/* Make the communicator on `stream` report `result` from now on; waits for its first collective. */
typedef void fake_nccl_break_fn(void *stream, int result);
/* What ncclGetVersion says. */
typedef void fake_nccl_set_version_fn(int version);

#endif
