/* Starting helper programs from a threaded process: posix_spawn only, no code between fork and exec, a clean environment, no
 * inherited fds but those named. */
#pragma once

#include "base/error.h"

#include <sys/types.h>

struct spawn_fd {
    int from; /* ours */
    int to;   /* its number in the child */
};

struct spawn_options {
    const char *const *argv;    /* NULL-terminated; argv[0] is the path to execute (searched in PATH only when search_path) */
    const char *program;        /* what to execute, where that is not argv[0] (a path such as /proc/PID/fd/N); or NULL */
    const char *const *envp;    /* NULL-terminated; NULL means PATH and LANG=C.UTF-8 alone */
    const struct spawn_fd *fds; /* the child has these and no other; 0, 1, 2 that are not named are /dev/null */
    size_t n_fds;
    bool new_session; /* setsid, so that signals to our terminal do not reach it */
    bool search_path;
};

/* Returns the pid (its owner must wait for it) or -1 and error. All signals are unblocked and at their defaults in the child. */
pid_t spawn_program(const struct spawn_options *options, GError **error);

/* waitpid through EINTR: exit code 0–255, 128+n for a signal; -1 when there is no such child. */
int spawn_wait(pid_t pid);

/* The directory of the running program ("/proc/self/exe"), where helper programs are looked for first, then LIBEXECDIR; full path
 * or NULL and NOT_FOUND. g_free. */
char *spawn_find_helper(const char *name, GError **error);
