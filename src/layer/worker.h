/* The confined workers (docs/ARCHITECTURE.md, section 9.1): how one gives up everything before it looks at a stranger's bytes,
 * and how it answers. */
#pragma once

#include "base/cancel.h"

/* What a worker's fds are; the decoder has its streams on 0 and 1. */
enum worker_fd {
    WORKER_FD_TAR = 3,
    WORKER_FD_INDEX = 4,
    WORKER_FD_REPORT = 5,
    WORKER_FD_FACTS = 6,
};

struct confine_limits {
    guint64 max_memory; /* of writable memory; 0: no bound */
    guint64 max_file;   /* bytes of the file it may write; 0: none but pipes */
    bool file_access;   /* positioned reads and writes on the fds it has */
    bool gives_pages;   /* may put pages of its own memory into pipes; who reads them has a copy */
};

/* For a single-threaded process, after its libraries are loaded: the fds that are open stay, nothing else can be opened.
 * Afterwards it has no capabilities and no user, an empty root directory, no way to make a process, a socket or executable
 * memory; any other system call ends it. An error is fatal to the worker. */
bool confine_worker(const struct confine_limits *limits, GError **error);

/* What a worker says when it is done: one fixed frame on a pipe. The engine takes nothing else from it, for a worker that was
 * taken over may say anything: the numbers are only shown or checked again, the message is bounded and made printable. */
#define WORKER_REPORT_VALUES 4

/* In the worker: success and its values, or the failure. */
bool worker_report_send(int fd, const guint64 values[WORKER_REPORT_VALUES], const GError *failure);

/* In the engine: waits for the frame, at most timeout_ms (-1: no bound). A missing or broken frame, or one that reports a
 * failure, is an error; who is "decoder" or "indexer". */
bool worker_report_receive(int fd, const char *who, struct cancel *cancel, int timeout_ms,
                           guint64 ret_values[WORKER_REPORT_VALUES], GError **error);
